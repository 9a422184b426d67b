// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
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
		Long: `Shows everything about the sessions with one neighbour, by name or address: state, both
ends' capabilities, timers, messages, routes by family, what waits to be sent, graceful
restart, and how the last connection ended, with the NOTIFICATION sent or received and
the message that the other end's operator left in it.`,
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
			if p.Name == words[0] || p.Addr.Addr().String() == words[0] {
				found = append(found, p)
			}
			names = append(names, p.Name)
		}
		if len(found) == 0 {
			return fmt.Errorf("there is no session with %s, and no attempt at one; there are: %s. What keeps a BGPPeer from having one is in `muslin status`", words[0], dash(strings.Join(names, ", ")))
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
	line("Peer", "%s, %s, AS %d (%s), we are AS %d", p.Name, p.Addr, p.ASN, kind, p.LocalASN)
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
	for _, c := range p.Capabilities.Sent {
		line("We offer", "%s", c)
	}
	for _, c := range p.Capabilities.Received {
		line("It offers", "%s", c)
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

// oneLine keeps what another end sent from doing anything to the terminal.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
}

func (a *app) bgpWhyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "why PREFIX|ADDRESS",
		Short: "Explain why a prefix is routed as it is",
		Long: `Explains a prefix, or the longest one around an address: which path won; on which step of
the decision process (RFC 4271 section 9.1) each other one lost, with both values; why a
path is no candidate: refused by what, or its next hop is dead; who has not sent it; who is
told of it, and why others are not; from which object this server announces it; and what
the kernel made of it. The reasons come from the code that decides.

When the longest prefix has no way, shorter ones follow until one has.`,
		Example: `  muslin bgp why 10.65.0.0/26
  muslin bgp why 10.65.0.7
  muslin bgp why fd65::7 -o json`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		if _, err := netip.ParsePrefix(words[0]); err != nil {
			if _, err := netip.ParseAddr(words[0]); err != nil {
				return usagef("%s: want an address, or ADDRESS/LENGTH", words[0])
			}
		}
		ctx, cancel := ask(cmd)
		defer cancel()
		var w api.BGPWhy
		if err := a.daemon().Get(ctx, "/v1/bgp/why", url.Values{"prefix": {words[0]}}, &w); err != nil {
			return err
		}
		return a.show(*form, w, func() error {
			for i, p := range w.Answers {
				if i > 0 {
					fmt.Fprintln(a.Out)
				}
				if err := a.showWhy(p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

func (a *app) showWhy(w api.BGPWhyPrefix) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", w.Prefix)
	if w.Origin != "" {
		fmt.Fprintf(&b, "  from here: %s\n", w.Origin)
	}
	for _, p := range w.Paths {
		from := "this server"
		if p.Peer != "" {
			from = p.Peer
		}
		fmt.Fprintf(&b, "  path from %s", from)
		if p.NextHop != "" {
			fmt.Fprintf(&b, " via %s", p.NextHop)
		}
		switch {
		case p.Best:
			b.WriteString(": the best")
		case p.Lost != nil:
			to := "this server's own"
			if p.Lost.Peer != "" {
				to = "that from " + p.Lost.Peer
			}
			fmt.Fprintf(&b, ": lost to %s by %s: %s against %s", to, p.Lost.Step, p.Lost.Value, p.Lost.To)
			if p.Equal {
				b.WriteString("; used beside it")
			}
		default:
			fmt.Fprintf(&b, ": no candidate: %s", p.NoCandidate)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "  kernel: %s\n", w.Kernel)
	for _, p := range w.Peers {
		said := "has sent it"
		switch {
		case p.Sent:
		case p.State != bgp.Established.String():
			said = strings.TrimSuffix("has no session ("+p.State+"): "+p.Error, ": ")
		case p.Complete:
			said = "has not sent it"
		default:
			said = "has not sent it yet: no End-of-RIB from it"
		}
		fmt.Fprintf(&b, "  peer %s: %s", p.Name, said)
		switch {
		case p.Told:
			b.WriteString("; is told of it")
		case p.State == bgp.Established.String():
			fmt.Fprintf(&b, "; is not told: %s", p.NotTold)
		}
		b.WriteByte('\n')
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(a.Out, oneLine(strings.TrimRight(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) bgpWatchCommand() *cobra.Command {
	var peer, prefix string
	var received bool
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show BGP sessions and routes as they change",
		Long: `Shows sessions that come up and go down, and best routes as they change, until it is
interrupted. With --received, what peers send instead, with why it is not used. What changes
twice in a moment may be shown once. -o json gives an object a line.`,
		Example: `  muslin bgp watch
  muslin bgp watch --prefix 10.65.0.0/16
  muslin bgp watch --received --peer host2 -o json`,
		Args: args(cobra.NoArgs),
	}
	form := cmd.Flags().StringP("output", "o", formTable, "`form`: table, json")
	forms := []string{formTable, formJSON}
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	f := cmd.Flags()
	f.StringVar(&peer, "peer", "", "only this peer, by `address` or name")
	f.StringVar(&prefix, "prefix", "", "only this `prefix` and what is within it")
	f.BoolVar(&received, "received", false, "what peers send, before selection")
	_ = cmd.RegisterFlagCompletionFunc("peer", a.completePeers)
	_ = cmd.RegisterFlagCompletionFunc("prefix", cobra.NoFileCompletions)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkForm(*form, forms); err != nil {
			return err
		}
		q := url.Values{"view": {"best"}}
		if received {
			q.Set("view", "received")
		}
		if peer != "" {
			q.Set("peer", peer)
		}
		if prefix != "" {
			if _, err := netip.ParsePrefix(prefix); err != nil {
				return usagef("--prefix %s: want ADDRESS/LENGTH", prefix)
			}
			q.Set("prefix", prefix)
		}
		return a.daemon().Stream(cmd.Context(), "/v1/bgp/watch", q, func(line json.RawMessage) error {
			if *form == formJSON {
				_, err := fmt.Fprintf(a.Out, "%s\n", line)
				return err
			}
			var e api.BGPEvent
			if err := json.Unmarshal(line, &e); err != nil {
				return err
			}
			_, err := fmt.Fprintln(a.Out, oneLine(eventText(e)))
			return err
		})
	}
	return cmd
}

// eventText is an event as one line.
func eventText(e api.BGPEvent) string {
	words := []string{e.Time.Format("15:04:05.000"), e.Event}
	if e.Prefix != "" {
		words = append(words, e.Prefix)
	}
	if e.Route != nil && e.Route.NextHop != "" {
		words = append(words, "via", e.Route.NextHop)
	}
	if e.Peer != "" {
		words = append(words, "from", e.Peer)
	}
	if e.Text != "" {
		words = append(words, "("+e.Text+")")
	}
	return strings.Join(words, " ")
}
