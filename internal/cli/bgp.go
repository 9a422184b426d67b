// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/node/api"
)

func (a *app) bgpCommand() *cobra.Command {
	return groupCommand("bgp", "Show BGP sessions and routes, reset sessions", a.bgpPeersCommand(), a.bgpPeerCommand(), a.bgpRoutesCommand(), a.bgpWhyCommand(), a.bgpWatchCommand(), a.bgpResetCommand())
}

func (a *app) bgpPeersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "Show the BGP sessions of this server",
		Args:  args(cobra.NoArgs),
	}
	form := formFlag(cmd, wideForms)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkForm(*form, wideForms); err != nil {
			return err
		}
		ctx, cancel := ask(cmd)
		defer cancel()
		var p api.Peers
		if err := a.daemon().Get(ctx, "/v1/bgp/peers", nil, &p); err != nil {
			return err
		}
		return a.show(*form, p, func() error { return a.showPeers(p.Peers, *form == formWide) })
	}
	return cmd
}

func (a *app) showPeers(peers []api.Peer, wide bool) error {
	heads := []string{"PEER", "ADDRESS", "AS", "STATE", "FOR", "RECEIVED", "ACCEPTED", "ADVERTISED", "BFD"}
	if wide {
		heads = append(heads, "TYPE", "LOCAL AS", "ROUTER ID", "FAMILIES", "HOLD", "MESSAGES IN", "MESSAGES OUT", "TIMES UP")
	}
	var rows [][]string
	for _, s := range peers {
		since := absent
		if !s.Since.IsZero() {
			since = span(time.Since(s.Since))
		}
		stale := ""
		if s.Stale > 0 {
			stale = fmt.Sprintf(" (%d stale)", s.Stale)
		}
		name := s.Name
		if s.Dynamic {
			name += " (dynamic)"
		}
		row := []string{name, peerAddress(s), peerAS(s), s.State, since,
			strconv.Itoa(s.Received) + stale, strconv.Itoa(s.Accepted), strconv.Itoa(s.Advertised), pathState(s.BFD)}
		if wide {
			kind, hold := "iBGP", absent
			if s.EBGP {
				kind = "eBGP"
			}
			if s.State == bgp.Established.String() {
				hold = (time.Duration(s.HoldTime) * time.Second).String()
			}
			row = append(row, kind, fmt.Sprint(s.LocalASN), dash(s.RouterID), dash(strings.Join(s.Families, ",")), hold,
				fmt.Sprint(s.MessagesIn), fmt.Sprint(s.MessagesOut), fmt.Sprint(s.Established))
		}
		rows = append(rows, append(row, dash(s.LastError)))
	}
	return writeTable(a.Out, append(heads, "LAST ERROR"), rows)
}

// peerAddress is the address of a peer, or the interface on which there is none yet.
func peerAddress(p api.Peer) string {
	if !p.Addr.IsValid() {
		return p.Interface
	}
	return p.Addr.Addr().String()
}

// peerAS is the AS number of a peer, if it is known before it has said it.
func peerAS(p api.Peer) string {
	if p.ASN == 0 {
		return absent
	}
	return strconv.FormatUint(uint64(p.ASN), 10)
}

func (a *app) bgpRoutesCommand() *cobra.Command {
	var received, advertised, rejected, count, longer bool
	cmd := &cobra.Command{
		Use:   "routes [PREFIX]",
		Short: "Show the BGP routes of this server",
		Long: `Shows the best routes: those that this server originates (no peer) and those it learned.
With --received or --advertised, the routes exchanged with a peer instead; with --rejected,
those that peers sent and that are not used, with the reason.

With PREFIX only the routes to it, with --longer also those to what is within it. Which
prefix an address is routed by is for muslin bgp why.`,
		Example: `  muslin bgp routes
  muslin bgp routes --count
  muslin bgp routes --advertised --peer 10.0.0.2
  muslin bgp routes --rejected
  muslin bgp routes 10.65.0.0/26 -o wide
  muslin bgp routes 10.65.0.0/16 --longer`,
		Args:              args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: a.completePrefixes,
	}
	form := formFlag(cmd, wideForms)
	query := a.routeQuery(cmd)
	f := cmd.Flags()
	f.BoolVar(&received, "received", false, "what peers sent, before selection")
	f.BoolVar(&advertised, "advertised", false, "what is sent to peers")
	f.BoolVar(&rejected, "rejected", false, "what peers sent and is not used, and why")
	f.BoolVar(&count, "count", false, "only the number of routes")
	f.BoolVar(&longer, "longer", false, "also what is within PREFIX")
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		if err := checkForm(*form, wideForms); err != nil {
			return err
		}
		view := "best"
		switch {
		case received && advertised || received && rejected || advertised && rejected:
			return usagef("give one of --received, --advertised and --rejected")
		case received:
			view = "received"
		case advertised:
			view = "advertised"
		case rejected:
			view = "rejected"
		}
		prefix := ""
		if len(words) > 0 {
			prefix = words[0]
		}
		q, err := query(view, prefix)
		if err != nil {
			return err
		}
		switch {
		case longer && prefix == "":
			return usagef("--longer wants a PREFIX")
		case prefix != "" && !longer:
			q.Set("exact", "1")
		}
		if count {
			q.Set("count", "1")
		}
		ctx, cancel := ask(cmd)
		defer cancel()
		var r api.BGPRoutes
		if err := a.daemon().Get(ctx, "/v1/bgp/routes", q, &r); err != nil {
			return err
		}
		return a.show(*form, r, func() error {
			if count {
				return a.showCounts(r)
			}
			if rejected {
				return a.showRejected(r.Routes, *form == formWide)
			}
			return a.showBGPRoutes(r.Routes, *form == formWide)
		})
	}
	return cmd
}

// routeQuery gives a command the flag that says whose routes are meant, and
// returns what makes a query of it, of a view and of a prefix.
func (a *app) routeQuery(cmd *cobra.Command) func(view, prefix string) (url.Values, error) {
	var peer string
	cmd.Flags().StringVar(&peer, "peer", "", "only this peer, by `address` or name")
	_ = cmd.RegisterFlagCompletionFunc("peer", a.completePeers)
	return func(view, prefix string) (url.Values, error) {
		q := url.Values{"view": {view}}
		if peer != "" {
			q.Set("peer", peer)
		}
		if prefix != "" {
			if _, err := netip.ParseAddr(prefix); err == nil {
				return nil, usagef("%s: want ADDRESS/LENGTH; muslin bgp why %[1]s finds the prefix around an address", prefix)
			}
			if _, err := netip.ParsePrefix(prefix); err != nil {
				return nil, usagef("%s: want ADDRESS/LENGTH", prefix)
			}
			q.Set("prefix", prefix)
		}
		return q, nil
	}
}

func (a *app) showCounts(r api.BGPRoutes) error {
	var rows [][]string
	for _, family := range slices.Sorted(maps.Keys(r.Counts)) {
		rows = append(rows, []string{family, strconv.Itoa(r.Counts[family])})
	}
	rows = append(rows, []string{"total", strconv.Itoa(r.Count)})
	return writeTable(a.Out, []string{"FAMILY", "ROUTES"}, rows)
}

func (a *app) showRejected(routes []api.BGPRoute, wide bool) error {
	heads := []string{"PREFIX", "NEXTHOP", "PEER", "ASPATH"}
	if wide {
		heads = append(heads, wideHeads...)
	}
	var rows [][]string
	for _, r := range routes {
		row := []string{r.Prefix, dash(r.NextHop), r.Peer, dash(asPath(r.ASPath))}
		if wide {
			row = append(row, wideCells(r)...)
		}
		rows = append(rows, append(row, r.Refused, r.Reason))
	}
	return writeTable(a.Out, append(heads, "REFUSED", "REASON"), rows)
}

// wideHeads and wideCells are what -o wide adds to a route.
var wideHeads = []string{"MED", "COMMUNITIES", "ONLY TO CUSTOMER"}

func wideCells(r api.BGPRoute) []string {
	med, otc := absent, absent
	if r.MED > 0 {
		med = fmt.Sprint(r.MED)
	}
	if r.OTC != nil {
		otc = fmt.Sprint(*r.OTC)
	}
	return []string{med, dash(strings.Join(r.Communities, " ")), otc}
}

func asPath(path []uint32) string {
	var out []string
	for _, as := range path {
		out = append(out, strconv.FormatUint(uint64(as), 10))
	}
	return strings.Join(out, " ")
}

func (a *app) showBGPRoutes(routes []api.BGPRoute, wide bool) error {
	heads := []string{"PREFIX", "NEXTHOP", "PEER", "LOCALPREF", "ASPATH", "ORIGIN"}
	if wide {
		heads = append(heads, wideHeads...)
	}
	var rows [][]string
	for _, r := range routes {
		var flags []string
		for _, f := range []struct {
			name string
			set  bool
		}{{"best", r.Best}, {"equal", r.Equal}, {"stale", r.Stale}} {
			if f.set {
				flags = append(flags, f.name)
			}
		}
		peer := r.Peer
		if peer == "" {
			peer = "(here)"
		}
		pref := absent
		if r.LocalPref > 0 {
			pref = strconv.FormatUint(uint64(r.LocalPref), 10)
		}
		row := []string{r.Prefix, dash(r.NextHop), peer, pref, dash(asPath(r.ASPath)), dash(r.Origin)}
		if wide {
			row = append(row, wideCells(r)...)
		}
		rows = append(rows, append(row, dash(strings.Join(flags, ","))))
	}
	return writeTable(a.Out, append(heads, "FLAGS"), rows)
}
