// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/node/api"
)

func (a *app) bgpPeerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "peer NAME",
		Short: "Show everything about one BGP session",
		Long: `Shows everything about the sessions with one neighbour, by name, address or interface:
state, both ends' capabilities, timers, messages, routes by family, what waits to be sent,
graceful restart, and how the last connection ended, with the NOTIFICATION sent or received
and the message that the other end's operator left in it.`,
		Example: `  muslin bgp peer host2
  muslin bgp peer 10.0.0.254 -o json`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	cmd.ValidArgsFunction = a.completePeers
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		ctx, cancel := ask(cmd)
		defer cancel()
		var all api.Peers
		if err := a.daemon().Get(ctx, "/v1/bgp/peers", nil, &all); err != nil {
			return err
		}
		var found []api.Peer
		var names []string
		for _, p := range all.Peers {
			if p.Answers(words[0]) {
				found = append(found, p)
			}
			names = append(names, p.Name)
		}
		if len(found) == 0 {
			return fmt.Errorf("there is no session with %s, and no attempt at one; this server has %s. What keeps a BGPPeer from having one is in `muslin status`", words[0], cmp.Or(strings.Join(names, ", "), "none"))
		}
		return a.show(*form, found, func() error {
			for i, p := range found {
				if i > 0 {
					fmt.Fprintln(a.Out)
				}
				if err := a.showPeer(p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

func (a *app) showPeer(p api.Peer) error {
	var lines [][]string
	line := func(name, format string, v ...any) { lines = append(lines, []string{name, fmt.Sprintf(format, v...)}) }
	kind := "iBGP"
	if p.EBGP {
		kind = "eBGP"
	}
	if p.Addr.IsValid() {
		line("Peer", "%s, %s, AS %s (%s), we are AS %d", p.Name, p.Addr, peerAS(p), kind, p.LocalASN)
	} else {
		line("Peer", "%s, not found yet on %s, AS %s, we are AS %d", p.Name, p.Interface, peerAS(p), p.LocalASN)
	}
	if p.Role != "" {
		line("Role", "we are the %s (RFC 9234)", p.Role)
	}
	state := p.State
	if !p.Since.IsZero() {
		state += " for " + span(time.Since(p.Since))
	}
	line("State", "%s, was Established %d times", state, p.Established)
	if p.Local != "" {
		line("Connection", "%s to %s", p.Local, p.Remote)
	}
	if p.RouterID != "" {
		line("Router ID", "%s", p.RouterID)
	}
	if p.BFD != nil {
		line("BFD", "%s", p.BFD.State)
	}
	if p.LastError != "" {
		line("Last error", "%s", p.LastError)
	}
	if f := p.Failure; f != nil && f.Text != p.LastError {
		line("Last failure", "%s ago: %s", span(time.Since(f.Time)), f.Text)
	}
	for _, n := range []struct {
		name   string
		notice *bgp.Notice
	}{{"Sent", p.Sent}, {"Received", p.Got}} {
		if n.notice != nil {
			line(n.name, "NOTIFICATION %s ago: %s", span(time.Since(n.notice.Time)), n.notice.Text)
		}
	}
	seconds := func(s float64) string { return (time.Duration(s*10) * time.Second / 10).String() }
	if p.State == bgp.Established.String() {
		line("Timers", "hold %s, %s left; keepalive %s", seconds(p.HoldTime), seconds(p.HoldLeft), seconds(p.KeepaliveTime))
	} else if p.RetryLeft > 0 {
		line("Timers", "next attempt to connect in %s", seconds(p.RetryLeft))
	}
	if r := p.Restart; r != nil {
		text := "the peer offers none"
		if len(r.Families) > 0 {
			text = fmt.Sprintf("routes are kept for %s when it restarts: %s", seconds(r.PeerTime), strings.Join(r.Families, ", "))
		}
		if len(r.Retained) > 0 {
			text = fmt.Sprintf("stale routes of %s for another %s", strings.Join(r.Retained, ", "), seconds(r.StaleLeft))
		}
		line("Restart", "%s", text)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Family)) {
		if f := p.Family[name]; f.Repeating {
			line("Refresh", "the peer repeats its routes of %s, %d are still due", name, f.Due)
		}
	}
	for _, c := range p.Capabilities.Sent {
		line("We offer", "%s", c)
	}
	for _, c := range p.Capabilities.Received {
		line("It offers", "%s", c)
	}
	if e := p.Errors; e != (bgp.Errors{}) {
		text := fmt.Sprintf("%d UPDATEs treated as withdrawal, %d attributes discarded", e.Withdrawn, e.Discarded)
		if e.Last != nil {
			text += fmt.Sprintf("; %s ago: %s", span(time.Since(e.Last.Time)), e.Last.Text)
		}
		line("Malformed", "%s", text)
	}
	if len(p.OverLimit) > 0 {
		line("Limit", "beyond its limit of prefixes: %s; %d turned away so far", strings.Join(p.OverLimit, ", "), p.Discarded)
	}
	if q := p.Queue; q.Octets+q.Messages+q.Prefixes > 0 {
		line("Queue", "%d octets, %d messages of the table, %d prefixes", q.Octets, q.Messages, q.Prefixes)
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(a.Out, "%-13s %s\n", l[0], oneLine(l[1])); err != nil {
			return err
		}
	}
	fmt.Fprintln(a.Out)
	yes := map[bool]string{true: "yes", false: "no"}
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(p.Family)) {
		f := p.Family[name]
		rows = append(rows, []string{name, fmt.Sprint(f.Received), fmt.Sprint(f.Accepted), fmt.Sprint(f.Rejected), fmt.Sprint(f.Advertised), fmt.Sprint(f.Stale), yes[f.EndOfRIBReceived], yes[f.EndOfRIBSent]})
	}
	if err := writeTable(a.Out, []string{"FAMILY", "RECEIVED", "ACCEPTED", "REJECTED", "ADVERTISED", "STALE", "END IN", "END OUT"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(a.Out)
	rows = nil
	for _, name := range slices.Sorted(maps.Keys(p.Messages.Received)) {
		rows = append(rows, []string{name, fmt.Sprint(p.Messages.Received[name]), fmt.Sprint(p.Messages.Sent[name])})
	}
	return writeTable(a.Out, []string{"MESSAGES", "RECEIVED", "SENT"}, rows)
}
