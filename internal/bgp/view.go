// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Peers returns what is known of every session, sorted by name and address. It
// is empty when the engine does not run.
func (s *Speaker) Peers() []PeerStatus {
	var out []PeerStatus
	s.ask(func() {
		for _, p := range s.peers {
			out = append(out, p.status())
		}
	})
	for i := range out {
		out[i].decode()
	}
	slices.SortFunc(out, func(a, b PeerStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Addr.Compare(b.Addr))
	})
	return out
}

// trouble is why there is no session. What was wrong with an OPEN is so until somebody mends
// it, and says more than how the attempts after it end. To one who waits the kernel does not say that it
// dropped a SYN for its signature (RFC 2385): he is told what silence may mean.
func (p *peer) trouble() string {
	if p.lastErr == "" && p.cfg.Passive && p.state == Active && time.Since(p.since) > p.s.opt.OpenTimeout {
		return "no connection from the peer, and this end waits for one; a wrong or missing password at either end looks like this, too"
	}
	if n := p.history.refused(); n != nil && p.est == nil && p.lastErr != "" && p.lastErr != n.Text {
		return n.Text + "; then: " + p.lastErr
	}
	return p.lastErr
}

func (p *peer) status() PeerStatus {
	src := p.s.rib.sources[p.slot]
	st := PeerStatus{
		Name: p.cfg.Name, Addr: p.cfg.Addr, ASN: p.saidASN(), LocalASN: p.localAS,
		State: p.state.String(), Since: p.since, LastError: p.trouble(),
		Received:  src.received[v4] + src.received[v6],
		Accepted:  src.accepted[v4] + src.accepted[v6],
		Stale:     src.stale[v4] + src.stale[v6],
		OverLimit: p.over.names(), Discarded: p.discarded,
		EndOfRIB: p.gotEOR.names(), Established: p.transitions,
		PeerDetail: p.detail(),
	}
	for _, n := range st.Messages.Received {
		st.MessagesIn += n
	}
	for _, n := range st.Messages.Sent {
		st.MessagesOut += n
	}
	for r, n := range src.refused {
		if r != int(Accepted) && n > 0 {
			if st.Rejected == nil {
				st.Rejected = map[string]int{}
			}
			st.Rejected[Refusal(r).String()] = n
		}
	}
	if c := p.est; c != nil {
		st.Uptime = time.Since(c.since).Seconds()
		st.RouterID = c.open.id.String()
		st.Families = c.families.names()
		st.HoldTime = c.hold.Seconds()
		st.GracefulRestart = c.open.gr
		st.PeerRestarting = c.open.grRestarting && p.gotEOR != c.families
		st.Advertised = p.group.out.size()
	}
	return st
}

// RouteView selects one of the views on the tables.
type RouteView uint8

// The views: Adj-RIB-In before and after policy, Loc-RIB, Adj-RIB-Out.
const (
	ViewReceived RouteView = iota
	ViewAccepted
	ViewBest
	ViewAdvertised
	ViewRejected // of Adj-RIB-In, what is refused
)

// RouteFilter selects routes. The zero value selects all that was received or
// is originated.
type RouteFilter struct {
	View RouteView
	// Peer restricts to one neighbour: for ViewAdvertised to what it is
	// sent. Invalid means all; an advertised view of all names each peer.
	Peer netip.Addr
	// Prefix restricts to that prefix and, unless Exact, what is inside it; invalid
	// means all.
	Prefix netip.Prefix
	Exact  bool
	// Limit is the greatest number returned; 0 means no limit.
	Limit int
}

// RouteInfo is a route with its standing.
type RouteInfo struct {
	Route
	PeerName  string // empty for what is originated here
	Accepted  bool
	Refused   Refusal
	Reason    string // why not accepted, or why no candidate although accepted
	Best      bool
	Multipath bool       // best, or equal to it
	SentTo    netip.Addr // ViewAdvertised: the peer
	PathID    uint32     // path identifier (RFC 7911), received or sent; 0 without ADD-PATH
}

// Routes returns the routes that match, in order of the prefixes; those that are
// advertised, peer by peer. The engine goes on meanwhile (walk.go).
func (s *Speaker) Routes(f RouteFilter) (out []RouteInfo) {
	more := func() bool { return f.Limit == 0 || len(out) < f.Limit }
	if f.View != ViewAdvertised {
		s.eachReceived(f, more, func(prefix netip.Prefix, q *path) {
			if more() {
				out = append(out, s.info(prefix, q, f.View))
			}
		})
		return out
	}
	s.eachAdvertised(f, more, func(p *peer, ref pathRef) {
		if r, ok := s.advertised(p, ref); ok && more() {
			out = append(out, r)
		}
	})
	return out
}

// Count returns how many routes of each family match; Limit is ignored.
func (s *Speaker) Count(f RouteFilter) (ipv4, ipv6 int) {
	count := func(prefix netip.Prefix) {
		if prefix.Addr().Is4() {
			ipv4++
		} else {
			ipv6++
		}
	}
	always := func() bool { return true }
	if f.View == ViewAdvertised {
		s.eachAdvertised(f, always, func(_ *peer, ref pathRef) { count(ref.prefix) })
	} else {
		s.eachReceived(f, always, func(prefix netip.Prefix, _ *path) { count(prefix) })
	}
	return ipv4, ipv6
}

// viewPage is how many prefixes are looked at in one turn of the loop, if time
// allows.
const viewPage = 8192

// eachReceived calls each, in the loop, with the paths that match, as long as
// there are to be more.
func (s *Speaker) eachReceived(f RouteFilter, more func() bool, each func(netip.Prefix, *path)) {
	c := f.start()
	for !c.done && more() {
		ok := s.ask(func() {
			viewed(f, &s.rib.table, &c, func(prefix netip.Prefix, head *path) {
				for q := head; q != nil; q = q.next {
					if f.selects(q, s.rib.sources[q.peer]) {
						each(prefix, q)
					}
				}
			})
		})
		if !ok {
			return
		}
	}
}

func (f *RouteFilter) start() cursor {
	if f.Prefix.IsValid() {
		return cursor{within: f.Prefix.Masked()}
	}
	return cursor{}
}

// viewed is the next page of a table, of the prefixes that a filter has.
func viewed[V any](f RouteFilter, t ordered[V], c *cursor, visit func(netip.Prefix, V)) {
	if !f.Exact || !f.Prefix.IsValid() {
		page(t, c, viewPage, visit)
		return
	}
	page(t, c, 1, func(prefix netip.Prefix, v V) { // it comes before what is inside it
		if prefix == c.within {
			visit(prefix, v)
		}
	})
	c.done = true
}

// selects tells whether a path is in a view that is not of what is advertised.
func (f *RouteFilter) selects(q *path, src *source) bool {
	return (!f.Peer.IsValid() || f.Peer == src.addr) &&
		(f.View != ViewAccepted || q.out != nil) &&
		(f.View != ViewRejected || q.out == nil && q.peer != 0) &&
		(f.View != ViewBest || q.flags&pathMulti != 0)
}

// eachAdvertised calls each, in the loop, with what each peer was told. A peer
// whose session ends meanwhile was told nothing.
func (s *Speaker) eachAdvertised(f RouteFilter, more func() bool, each func(*peer, pathRef)) {
	var peers []netip.AddrPort
	s.ask(func() {
		for addr, p := range s.peers {
			if p.group != nil && (!f.Peer.IsValid() || addr.Addr() == f.Peer) {
				peers = append(peers, addr)
			}
		}
	})
	slices.SortFunc(peers, netip.AddrPort.Compare)
	for _, addr := range peers {
		one, many := f.start(), f.start()
		for !(one.done && many.done) && more() {
			ok := s.ask(func() {
				p := s.peers[addr]
				if p == nil || p.group == nil {
					one.done, many.done = true, true
					return
				}
				if !one.done {
					viewed(f, &p.group.out.one, &one, func(prefix netip.Prefix, _ *attrs) { each(p, pathRef{prefix: prefix}) })
					return
				}
				viewed(f, &p.group.out.many, &many, func(prefix netip.Prefix, list []sentPath) {
					for _, sent := range list {
						each(p, pathRef{prefix, sent.id})
					}
				})
			})
			if !ok {
				return
			}
		}
	}
}

// info is a path as outsiders see it: with the attributes that it came with in
// the view of what was received, else with those it was accepted with.
func (s *Speaker) info(prefix netip.Prefix, q *path, view RouteView) RouteInfo {
	src := s.rib.sources[q.peer]
	a := q.out
	if a == nil || view == ViewReceived && q.in != nil {
		a = q.in
	}
	r := RouteInfo{
		Route: s.routeOf(prefix, q, a), PathID: q.id,
		Accepted: q.out != nil, Best: q.flags&pathBest != 0, Multipath: q.flags&pathMulti != 0,
	}
	if src.p == nil {
		return r
	}
	r.PeerName = src.p.cfg.Name
	if q.out != nil {
		r.Reason = q.out.unusable()
	} else {
		r.Refused, r.Reason = s.whyRefused(src.p, prefix, q)
	}
	return r
}

// whyRefused is the refusal of a path, in words that only who asks needs.
func (s *Speaker) whyRefused(p *peer, prefix netip.Prefix, q *path) (Refusal, string) {
	r, set := s.received(p, q.in), s.judgeSet(p, q.in)
	r.Prefix = prefix
	out, v := s.importRoute(p, r, q.in, &set)
	s.rib.attrs.release(out)
	return v.Refused, v.Detail
}

// advertised is what a peer was told of a prefix, as outsiders see it.
func (s *Speaker) advertised(p *peer, ref pathRef) (RouteInfo, bool) {
	head, _ := s.rib.table.Get(ref.prefix)
	b := best(head)
	if ref.prefix.Bits() == 0 && p.cfg.Rewrite.DefaultRoute {
		b = defaultPath
	}
	for q := head; q != nil && ref.id != 0; q = q.next {
		if s.rib.ids.of(q) == ref.id {
			b = q
		}
	}
	a := p.group.out.get(ref)
	if b == nil || a == nil {
		return RouteInfo{}, false
	}
	return RouteInfo{
		Route:    s.routeOf(ref.prefix, b, a),
		PeerName: p.cfg.Name, Accepted: true,
		Best: b.flags&pathBest != 0, Multipath: b.flags&pathMulti != 0,
		SentTo: p.cfg.Addr.Addr(), PathID: ref.id,
	}, true
}
