// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/node/api"
)

// getBGPWhy answers why a prefix, or the longest one around an address, is
// routed as it is: the speaker's reasons, the object that an announcement of
// ours comes from, and what the kernel made of it.
func (d *Daemon) getBGPWhy(r *http.Request) (any, error) {
	text := r.URL.Query().Get("prefix")
	asked, err := netip.ParsePrefix(text)
	if a, aerr := netip.ParseAddr(text); aerr == nil {
		asked, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil || asked.Addr().Zone() != "" {
		return nil, fmt.Errorf("prefix %q: want an address, or ADDRESS/LENGTH", text)
	}
	out := api.BGPWhy{Asked: text, Answers: []api.BGPWhyPrefix{}}
	for _, w := range d.speaker.Why(asked) {
		a := api.BGPWhyPrefix{Prefix: w.Prefix.String(), Peers: w.Peers, Paths: []api.BGPWhyPath{}}
		for _, p := range w.Paths {
			path := api.BGPWhyPath{BGPRoute: bgpRoute(p.RouteInfo), Lost: p.Lost}
			if p.Lost == nil && !p.Best {
				path.NoCandidate = p.Reason
			}
			a.Paths = append(a.Paths, path)
		}
		d.loop.call(r.Context(), func() {
			a.Origin = d.loop.whyOrigin(w.Prefix)
			a.Kernel = d.loop.whyKernel(w)
		})
		out.Answers = append(out.Answers, a)
	}
	return out, nil
}

// whyOrigin names the object from which this node announces a prefix, or says
// why one that is here is not announced. Empty: it is nothing of ours.
func (l *loop) whyOrigin(p netip.Prefix) string {
	from, kept := "", ""
	if l.model.blocks[p] {
		from = "block " + p.String() + " of this node"
	}
	if p.IsSingleIP() && l.links != nil {
		for e := range l.model.index.Endpoints() {
			if slices.Contains(e.Addrs, p.Addr()) {
				from = "endpoint " + e.ID.String() + " on " + linkName(e)
				if l.linkStatus(e).State != endpoint.Ready {
					kept = "its interface does not exist or is down"
				}
			}
		}
	}
	if from == "" {
		return ""
	}
	if slices.ContainsFunc(l.announced, func(o bgp.Origination) bool { return o.Prefix == p }) {
		return from
	}
	if kept == "" && p.IsSingleIP() {
		for b := range l.model.blocks {
			if b.Contains(p.Addr()) && !b.IsSingleIP() {
				kept = "block " + b.String() + " stands for it"
			}
		}
	}
	if kept == "" {
		kept = "its pool or the settings keep it here (disableBGPExport, routeSource)"
	}
	return from + ", not announced: " + kept
}

// whyKernel says what the kernel made of the selection.
func (l *loop) whyKernel(w bgp.Why) string {
	i := slices.IndexFunc(w.Paths, func(p bgp.WhyPath) bool { return p.Best })
	switch {
	case i < 0:
		return "no route: there is no best path"
	case l.routes == nil:
		return "no route: the routing table is not open yet"
	case w.Paths[i].Peer.IsValid() && l.controlPlaneOnly:
		return "no route: program-routes is Disabled on this Node"
	case w.Paths[i].Peer.IsValid() && liesIn(l.outOfKernel, w.Prefix):
		return "no route: programClusterRoutes keeps those of its pool out"
	}
	for _, p := range l.routes.Problems() {
		if p.Prefix == w.Prefix {
			return strings.TrimSuffix(fmt.Sprintf("%s: %s", p.State, p.Detail), ": ")
		}
	}
	return "installed"
}

// postBGPReset resets the sessions with a neighbour.
func (d *Daemon) postBGPReset(r *http.Request) (any, error) {
	var ask api.BGPReset
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	how, known := map[string]bgp.Reset{"": bgp.ResetHard, "in": bgp.ResetIn, "out": bgp.ResetOut}[ask.Soft]
	if !known {
		return nil, fmt.Errorf("soft %q: want in, out, or nothing", ask.Soft)
	}
	if n := len(ask.Message); n > bgp.MaxShutdownText {
		return nil, fmt.Errorf("message: %d octets: want at most %d (RFC 9003)", n, bgp.MaxShutdownText)
	}
	addr, err := d.peerAddr(r.Context(), ask.Peer)
	if err != nil {
		return nil, err
	}
	n := d.speaker.Reset(addr, how, ask.Message)
	if n == 0 {
		return nil, fmt.Errorf("there is no session with %s now", ask.Peer)
	}
	return api.BGPResetDone{Sessions: n}, nil
}

// watchBGP streams what changes, a JSON object a line, until the caller goes.
func (d *Daemon) watchBGP(w http.ResponseWriter, r *http.Request) {
	fail := func(err error) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(&api.Error{Message: err.Error()})
	}
	q := r.URL.Query()
	watch := bgp.Watch{Selected: q.Get("view") != "received", Received: q.Get("view") == "received"}
	var err error
	if s := q.Get("peer"); s != "" {
		if watch.Peer, err = d.peerAddr(r.Context(), s); err != nil {
			fail(err)
			return
		}
	}
	if s := q.Get("prefix"); s != "" {
		if watch.Within, err = v3.ParseNetwork(s); err != nil {
			fail(fmt.Errorf("prefix: %w", err))
			return
		}
	}
	m := d.speaker.Watch(watch)
	defer m.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	_ = flush.Flush()
	for {
		events, err := m.Next(r.Context())
		if err != nil {
			if r.Context().Err() == nil {
				_ = out.Encode(api.BGPEvent{Time: time.Now(), Event: "end", Text: err.Error()})
			}
			return
		}
		_ = flush.SetWriteDeadline(time.Now().Add(time.Minute)) // who does not read is sent away
		for _, e := range events {
			if err := out.Encode(bgpEvent(e)); err != nil {
				return
			}
		}
		if flush.Flush() != nil {
			return
		}
	}
}

func bgpEvent(e bgp.Event) api.BGPEvent {
	out := api.BGPEvent{Time: e.Time}
	if e.Session != nil {
		out.Peer, out.Address = e.Session.Name, e.Session.Addr.Addr().String()
	}
	switch e.Kind {
	case bgp.SessionUp:
		out.Event, out.Text = "up", fmt.Sprintf("AS %d, router ID %s", e.Session.ASN, e.Session.RouterID)
	case bgp.SessionDown:
		out.Event, out.Text = "down", e.Down.Error
	case bgp.RouteGone:
		out.Event, out.Prefix = "gone", e.Route.Prefix.String()
	default:
		route := bgpRoute(e.Route)
		out.Event, out.Prefix, out.Route = "route", route.Prefix, &route
		if !e.Route.Accepted {
			out.Text = e.Route.Reason
		}
		if out.Peer == "" {
			out.Peer = route.Peer
		}
	}
	return out
}
