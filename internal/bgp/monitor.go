// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"
	"time"
)

// The loop's side of watching (watch.go).

// Monitor is somebody who watches. Its methods are for one goroutine.
type Monitor struct {
	s *Speaker
	w Watch

	// Below: owned by the loop.
	first    []noted             // the sessions that were up
	walk     cursor              // through what was there at the beginning
	notes    notes               // what happened since
	sessions []Event             // SessionUp and SessionDown that notes refer to, in order
	told     map[uint16]*Session // who is up, as far as this one knows
	table    *Session            // Encode: that of Loc-RIB
	asking   chan<- monitorPage
	err      error
}

// monitorPage is what the loop hands over: entries in the order in which they
// happened.
type monitorPage struct {
	entries []noted
	err     error
}

// noted is a route as it was looked up, or another event. Interned attributes
// do not change, so that they can be encoded outside of the loop.
type noted struct {
	Event
	ref pathRef
	a   *attrs // Encode: what is announced; nil withdraws
}

// maxPage is how many routes are looked up at a time.
const maxPage = 1024

// Watch begins to watch.
func (s *Speaker) Watch(w Watch) *Monitor {
	m := &Monitor{s: s, w: w, told: make(map[uint16]*Session)}
	m.w.Within = w.Within.Masked()
	m.walk = cursor{within: m.w.Within, done: !w.Table}
	s.post(func() {
		for _, p := range s.peers {
			if p.est != nil && m.wantsPeer(p.cfg.Addr.Addr()) {
				m.told[p.slot] = p.est.session
				if w.Table {
					m.first = append(m.first, noted{Event: Event{Kind: SessionUp, Time: p.est.since, Session: p.est.session}})
				}
			}
		}
		if m.table = s.tableSession(m.w); m.table != nil {
			m.first = append(m.first, noted{Event: Event{Kind: SessionUp, Time: m.table.Up, Session: m.table}})
		}
		s.monitors = append(s.monitors, m)
		s.observe()
	})
	return m
}

// Close ends watching.
func (m *Monitor) Close() { m.s.post(func() { m.s.dismiss(m) }) }

// dismiss forgets a monitor.
func (s *Speaker) dismiss(m *Monitor) {
	s.monitors = slices.DeleteFunc(s.monitors, func(o *Monitor) bool { return o == m })
	m.notes, m.sessions = notes{}, nil
	s.observe()
}

// observe has the table tell of received routes if somebody wants to know.
func (s *Speaker) observe() {
	s.rib.observe = nil
	if slices.ContainsFunc(s.monitors, func(m *Monitor) bool { return m.w.Received }) {
		s.rib.observe = s.noteReceived
	}
}

// noteReceived is told of every change of an Adj-RIB-In.
func (s *Speaker) noteReceived(ref pathRef, peer uint16) {
	if p := s.rib.sources[peer].p; p == nil || p.est == nil {
		return // ours, or on the way out with its session
	}
	for _, m := range s.monitors {
		if m.w.Received && m.wants(ref.prefix) && m.wantsPeer(s.rib.sources[peer].addr) {
			m.note(note{kind: noteReceived, peer: peer, ref: ref})
		}
	}
}

// noteSelected is told of every change of Loc-RIB.
func (s *Speaker) noteSelected(prefix netip.Prefix) {
	for _, m := range s.monitors {
		if m.w.Selected && m.wants(prefix) {
			m.note(note{kind: noteSelected, ref: pathRef{prefix: prefix}})
		}
	}
}

// noteSession is told of sessions that come up and go down.
func (s *Speaker) noteSession(slot uint16, e Event) {
	for _, m := range s.monitors {
		if m.wantsPeer(e.Session.Addr.Addr()) {
			m.sessions = append(m.sessions, e)
			m.note(note{kind: noteSession, peer: slot})
		}
	}
}

func (m *Monitor) wants(prefix netip.Prefix) bool {
	w := m.w.Within
	return !w.IsValid() || w.Bits() <= prefix.Bits() && w.Contains(prefix.Addr())
}

func (m *Monitor) wantsPeer(a netip.Addr) bool { return !m.w.Peer.IsValid() || m.w.Peer == a }

// note remembers a name, or gives the monitor up.
func (m *Monitor) note(n note) {
	if m.err == nil && !m.notes.push(n) {
		m.err = ErrBehind
		m.notes, m.sessions = notes{}, nil
	}
}

// serveMonitors answers those who ask and for whom there is something. The
// loop calls it after each batch of input; one page each bounds what it costs.
func (s *Speaker) serveMonitors() {
	for _, m := range slices.Clone(s.monitors) {
		if m.asking == nil || m.err == nil && len(m.first) == 0 && m.walk.done && m.notes.empty() {
			continue
		}
		if m.err != nil {
			m.asking <- monitorPage{err: m.err}
			s.dismiss(m)
		} else {
			m.asking <- monitorPage{entries: m.page()}
		}
		m.asking = nil
	}
}

// page looks up what is next: the sessions that are up, then the table, then
// what happened since Watch.
func (m *Monitor) page() (out []noted) {
	s := m.s
	if len(m.first) > 0 {
		out, m.first = m.first, nil
		return out
	}
	now := time.Now()
	if !m.walk.done {
		page[*path](&s.rib.table, &m.walk, maxPage, func(prefix netip.Prefix, head *path) {
			for q := head; q != nil; q = q.next {
				if m.w.Received && q.peer != 0 {
					out = m.received(out, now, q.peer, pathRef{prefix, q.id}, q, true)
				}
			}
			if m.w.Selected && best(head) != nil {
				out = m.selected(out, now, prefix, head)
			}
		})
		if m.walk.done {
			out = append(out, noted{Event: Event{Kind: TableComplete, Time: now}})
		}
		return out
	}
	for n := 0; n < maxPage && !m.notes.empty(); {
		e := m.notes.pop()
		switch e.kind {
		case noteSession:
			event := m.sessions[0]
			m.sessions = m.sessions[1:]
			if event.Kind == SessionUp {
				m.told[e.peer] = event.Session
			} else {
				delete(m.told, e.peer)
			}
			out = append(out, noted{Event: event})
		case noteReceived:
			head, _ := s.rib.table.Get(e.ref.prefix)
			out = m.received(out, now, e.peer, e.ref, find(head, e.peer, e.ref.id), false)
		case noteSelected:
			head, _ := s.rib.table.Get(e.ref.prefix)
			out = m.selected(out, now, e.ref.prefix, head)
		}
		if n++; n%pageStep == 0 && time.Since(now) > pageTime {
			break
		}
	}
	return out
}

// received appends what a peer's path has become; nil is gone. Whose session
// is not the one that was told of is passed over: its end takes all of its
// routes along, and what a new session brings is noted behind its beginning.
func (m *Monitor) received(out []noted, now time.Time, peer uint16, ref pathRef, q *path, first bool) []noted {
	session := m.told[peer]
	p := m.s.rib.sources[peer].p
	if session == nil || p == nil || p.est == nil || p.est.session != session {
		return out
	}
	n := noted{Event: Event{Kind: RouteChanged, Time: now, Session: session, View: ViewReceived}, ref: ref}
	if !m.w.Encode {
		if q == nil {
			n.Kind, n.Route = RouteGone, RouteInfo{Route: Route{Prefix: ref.prefix}, PeerName: session.Name, PathID: ref.id}
		} else {
			n.Route = m.s.info(ref.prefix, q, ViewReceived)
		}
		return append(out, n)
	}
	post := n
	post.View = ViewAccepted
	if q != nil {
		n.a, post.a = q.in, q.out
	}
	out = append(out, n)
	if first && post.a == nil {
		return out // never announced
	}
	return append(out, post)
}

// selected appends what the best path of a prefix has become.
func (m *Monitor) selected(out []noted, now time.Time, prefix netip.Prefix, head *path) []noted {
	b := best(head)
	n := noted{Event: Event{Kind: RouteChanged, Time: now, Session: m.table, View: ViewBest}, ref: pathRef{prefix: prefix}}
	switch {
	case b == nil:
		n.Kind, n.Route = RouteGone, RouteInfo{Route: Route{Prefix: prefix}}
	case m.w.Encode:
		n.a = b.out
	default:
		n.Route = m.s.info(prefix, b, ViewBest)
	}
	return append(out, n)
}

// tableSession is that of Loc-RIB; nil for who does not want it.
func (s *Speaker) tableSession(w Watch) *Session {
	if !w.Encode || !w.Selected {
		return nil
	}
	open, err := openParams{asn: s.cfg.ASN, id: s.cfg.RouterID, families: s.families()}.marshal()
	if err != nil {
		return nil // nothing is configured yet
	}
	return &Session{LocRIB: true, ASN: s.cfg.ASN, RouterID: s.cfg.RouterID, Up: time.Now(), Sent: open, Received: open, families: s.families()}
}

// renamed ends what was told in the name of another speaker.
func (s *Speaker) renamed() {
	for _, m := range s.monitors {
		if m.w.Encode && m.err == nil {
			m.err, m.notes, m.sessions = ErrChanged, notes{}, nil
		}
	}
}

// sessionOf describes a connection that has become the session of its peer.
func (c *conn) sessionOf() *Session {
	s := &Session{
		Name: c.p.cfg.Name, Addr: c.p.cfg.Addr,
		Local: addrPortOf(c.nc.LocalAddr()), Remote: addrPortOf(c.nc.RemoteAddr()),
		ASN: c.open.asn, RouterID: c.open.id, EBGP: c.p.ebgp, Up: c.since,
		Sent: c.sentOpen, Received: c.gotOpen, families: c.families,
	}
	if c.takePaths {
		s.addPath = c.open.addPathSend
	}
	return s
}
