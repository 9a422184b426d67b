// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
)

// Next-hop tracking: RFC 4271 section 9.1.2.1. The engine does not know the
// routing table. It says which next hops its paths have (NextHops), and is told
// what becomes of packets to them (SetNextHops). Until then a path
// is not a candidate: one that turned out unusable would have taken the
// place of one that forwards.

// NextHop is what the routing table says of a next hop.
type NextHop struct {
	Addr   netip.Addr
	Usable bool   // it can be reached without a route that BGP brought
	Cost   uint32 // the interior cost: 0 on a connected subnet, else lower is nearer
	Why    string // unless Usable
	Device string // the interface towards it, the first of several
}

// hop is a next hop that accepted paths have.
type hop struct {
	NextHop
	refs  int
	known bool // SetNextHops has named it
	moved bool // in this call of SetNextHops
	// turned: and it lies behind another interface, which policies may look at.
	turned bool

	// waiting are the prefixes with a path to it, while it is not known; beyond
	// maxHopWaiting the whole table is looked at.
	waiting []waitingPrefix
}

type waitingPrefix struct {
	prefix netip.Prefix
	since  tick
}

const maxHopWaiting = 1 << 16

// hopTable is the set of next hops in use. It belongs to the loop. Without on
// nobody tracks, and every next hop is usable at no cost.
type hopTable struct {
	on      bool
	hops    map[netip.Addr]*hop
	unknown int
	news    map[netip.Addr]struct{} // came or went since NextHops last returned
	asking  []chan<- hopNews
}

type hopNews struct{ used, unused []netip.Addr }

// take finds the next hop of an accepted set of attributes, once: the set keeps
// it until it is released. What the node originates has none.
func (t *hopTable) take(a *attrs) {
	if !t.on || a == nil || a.hop != nil || !a.nextHop.IsValid() {
		return
	}
	h := t.hops[a.nextHop]
	if h == nil {
		h = &hop{NextHop: NextHop{Addr: a.nextHop, Why: "not known yet"}}
		if t.hops == nil {
			t.hops, t.news = map[netip.Addr]*hop{}, map[netip.Addr]struct{}{}
		}
		t.hops[a.nextHop] = h
		t.news[a.nextHop] = struct{}{}
		t.unknown++
	}
	h.refs++
	a.hop = h
}

// give is called when the set is released.
func (t *hopTable) give(a *attrs) {
	h := a.hop
	if h == nil {
		return
	}
	a.hop = nil
	if h.refs--; h.refs > 0 {
		return
	}
	if !h.known {
		t.unknown--
	}
	delete(t.hops, h.Addr)
	t.news[h.Addr] = struct{}{}
}

// usable tells whether paths with these attributes are candidates.
func (a *attrs) usable() bool { return a.hop == nil || a.hop.Usable }

// cost is the interior cost (RFC 4271 section 9.1.2.2 e).
func (a *attrs) cost() uint32 {
	if a.hop == nil {
		return 0
	}
	return a.hop.Cost
}

// await remembers that a path to prefix waits for what is said of its next hop.
func (a *attrs) await(prefix netip.Prefix, since tick) {
	if a != nil && a.hop != nil && !a.hop.known && len(a.hop.waiting) <= maxHopWaiting {
		a.hop.waiting = append(a.hop.waiting, waitingPrefix{prefix, since})
	}
}

// SetNextHops takes in what the routing table says of next hops; those that no
// path has are ignored. Only prefixes that have paths to what changed
// are decided anew.
func (s *Speaker) SetNextHops(states []NextHop) {
	s.post(func() { s.setNextHops(states) })
}

func (s *Speaker) setNextHops(states []NextHop) {
	t := &s.rib.hops
	var moved []*hop
	all := false
	for _, n := range states {
		h := t.hops[n.Addr]
		if h == nil || h.known && h.Usable == n.Usable && h.Cost == n.Cost && h.Device == n.Device {
			if h != nil {
				h.Why = n.Why
			}
			continue
		}
		if !h.moved {
			all = all || h.known || len(h.waiting) > maxHopWaiting
			moved = append(moved, h)
		}
		if !h.known {
			t.unknown--
		}
		h.turned = h.turned || h.known && h.Device != n.Device
		h.NextHop, h.known, h.moved = n, true, true
	}
	if all {
		for prefix, head := range s.rib.table.All() {
			for p := head; p != nil; p = p.next {
				if p.out != nil && p.out.hop != nil && p.out.hop.moved {
					change := s.rib.redecide(prefix)
					if p.out.hop.turned {
						change = selectionChanged
					}
					s.touch(prefix, change)
					break
				}
			}
		}
	}
	for _, h := range moved {
		if !all {
			for _, w := range h.waiting {
				s.rib.heard = w.since
				s.touch(w.prefix, s.rib.redecide(w.prefix))
			}
			s.rib.heard = 0
		}
		h.moved, h.turned, h.waiting = false, false, nil
	}
	s.checkConverged()
}

// NextHops waits until next hops have come into use or have gone out of it, and
// returns which. It returns ctx's error, or net.ErrClosed when Run has ended.
// Meant for one consumer, who answers with SetNextHops, then and whenever
// anything about one in use changes.
func (s *Speaker) NextHops(ctx context.Context) (used, unused []netip.Addr, err error) {
	ch := make(chan hopNews, 1)
	s.post(func() { s.rib.hops.asking = append(s.rib.hops.asking, ch) })
	select {
	case n := <-ch:
		return n.used, n.unused, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-s.done:
		return nil, nil, net.ErrClosed
	}
}

// answer gives what is new to whoever asked; the loop calls it after each batch
// of input.
func (t *hopTable) answer() {
	if len(t.asking) == 0 || len(t.news) == 0 {
		return
	}
	var n hopNews
	for _, a := range slices.SortedFunc(maps.Keys(t.news), netip.Addr.Compare) {
		if t.hops[a] != nil {
			n.used = append(n.used, a)
		} else {
			n.unused = append(n.unused, a)
		}
	}
	clear(t.news)
	t.asking[0] <- n
	t.asking = t.asking[1:]
}

// unusable says why an accepted path is not a candidate; empty if it is one.
func (a *attrs) unusable() string {
	if a.usable() {
		return ""
	}
	return fmt.Sprintf("next hop %s is not usable: %s", a.nextHop, a.hop.Why)
}
