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
	form := answerForm(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		ctx, cancel := ask(cmd)
		defer cancel()
		var p api.Peers
		if err := a.daemon().Get(ctx, "/v1/bgp/peers", nil, &p); err != nil {
			return err
		}
		return a.show(*form, p, func() error {
			var rows [][]string
			for _, s := range p.Peers {
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
				rows = append(rows, []string{name, s.Addr.Addr().String(), strconv.FormatUint(uint64(s.ASN), 10), s.State, since,
					strconv.Itoa(s.Received) + stale, strconv.Itoa(s.Accepted), strconv.Itoa(s.Advertised), pathState(s.BFD), dash(s.LastError)})
			}
			return writeTable(a.Out, []string{"PEER", "ADDRESS", "AS", "STATE", "FOR", "RECEIVED", "ACCEPTED", "ADVERTISED", "BFD", "LAST ERROR"}, rows)
		})
	}
	return cmd
}

func (a *app) bgpRoutesCommand() *cobra.Command {
	var received, advertised, rejected, count bool
	cmd := &cobra.Command{
		Use:   "routes",
		Short: "Show the BGP routes of this server",
		Long: `Shows the best routes: those that this server originates (no peer) and those it learned.
With --received or --advertised, the routes exchanged with a peer instead; with --rejected,
those that peers sent and that are not used, with the reason.`,
		Example: `  muslin bgp routes
  muslin bgp routes --count
  muslin bgp routes --advertised --peer 10.0.0.2
  muslin bgp routes --rejected
  muslin bgp routes --prefix 10.65.0.0/16`,
		Args: args(cobra.NoArgs),
	}
	form := answerForm(cmd)
	query := a.routeQuery(cmd)
	f := cmd.Flags()
	f.BoolVar(&received, "received", false, "what peers sent, before selection")
	f.BoolVar(&advertised, "advertised", false, "what is sent to peers")
	f.BoolVar(&rejected, "rejected", false, "what peers sent and is not used, and why")
	f.BoolVar(&count, "count", false, "only the number of routes")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkForm(*form, answerForms); err != nil {
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
		q, err := query(view)
		if err != nil {
			return err
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
				return a.showRejected(r.Routes)
			}
			return a.showBGPRoutes(r.Routes)
		})
	}
	return cmd
}

// routeQuery gives a command the flags that say which routes are meant, and
// returns what makes a query of them.
func (a *app) routeQuery(cmd *cobra.Command) func(view string) (url.Values, error) {
	var peer, prefix string
	f := cmd.Flags()
	f.StringVar(&peer, "peer", "", "only this peer, by `address` or name")
	f.StringVar(&prefix, "prefix", "", "only this `prefix` and what is within it")
	_ = cmd.RegisterFlagCompletionFunc("peer", a.completePeers)
	_ = cmd.RegisterFlagCompletionFunc("prefix", cobra.NoFileCompletions)
	return func(view string) (url.Values, error) {
		q := url.Values{"view": {view}}
		if peer != "" {
			q.Set("peer", peer)
		}
		if prefix != "" {
			if _, err := netip.ParsePrefix(prefix); err != nil {
				return nil, usagef("--prefix %s: want ADDRESS/LENGTH", prefix)
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

func (a *app) showRejected(routes []api.BGPRoute) error {
	var rows [][]string
	for _, r := range routes {
		rows = append(rows, []string{r.Prefix, dash(r.NextHop), r.Peer, dash(asPath(r.ASPath)), r.Refused, r.Reason})
	}
	return writeTable(a.Out, []string{"PREFIX", "NEXTHOP", "PEER", "ASPATH", "REFUSED", "REASON"}, rows)
}

func asPath(path []uint32) string {
	var out []string
	for _, as := range path {
		out = append(out, strconv.FormatUint(uint64(as), 10))
	}
	return strings.Join(out, " ")
}

func (a *app) showBGPRoutes(routes []api.BGPRoute) error {
	var rows [][]string
	for _, r := range routes {
		flags := ""
		if r.Best {
			flags = "best"
		}
		if r.Stale {
			flags = strings.TrimLeft(flags+",stale", ",")
		}
		peer := r.Peer
		if peer == "" {
			peer = "(here)"
		}
		pref := absent
		if r.LocalPref > 0 {
			pref = strconv.FormatUint(uint64(r.LocalPref), 10)
		}
		rows = append(rows, []string{r.Prefix, dash(r.NextHop), peer, pref, dash(asPath(r.ASPath)), dash(r.Origin), dash(flags)})
	}
	return writeTable(a.Out, []string{"PREFIX", "NEXTHOP", "PEER", "LOCALPREF", "ASPATH", "ORIGIN", "FLAGS"}, rows)
}
