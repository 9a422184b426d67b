// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"cmp"
	"fmt"
	"slices"
)

// The decision process: RFC 4271 section 9.1.2.2 with the tie-breaks of RFC
// 4456 section 9. What has no usable next hop takes no part (nexthop.go). Two
// rules come before the others. What the node originates itself always wins:
// otherwise an anycast address served here is sent elsewhere, and an echo of
// our own route oscillates. A stale path (RFC 4724) loses against any fresh one.

// step is one comparison: negative when a is preferred over b, 0 when equal.
// value shows what is compared, for those who ask why.
type step struct {
	name  string
	cmp   func(r *rib, a, b *path) int
	value func(r *rib, p *path) string
}

// lost is told of each path that leaves the election, of the one that beat it,
// and of the step. It is how Why learns its reasons: from the code that decides.
type lost func(p, to *path, by *step)

// stepsToTie lead to the set of equal paths; stepsOfOne pick one of it. MED
// stands between the parts of the first list, because it compares only
// within one neighbouring AS and is therefore an elimination, not an order.
var (
	stepOwn = step{"originated here", nil, func(r *rib, p *path) string {
		if p.peer == 0 {
			return "yes"
		}
		return "no"
	}}
	stepNextHop = step{"next hop", nil, func(_ *rib, p *path) string {
		if why := p.out.unusable(); why != "" {
			return why
		}
		return "usable"
	}}
	stepsBeforeMED = []step{
		{"stale", func(_ *rib, a, b *path) int { return int(a.flags&pathStale) - int(b.flags&pathStale) },
			func(_ *rib, p *path) string {
				if p.flags&pathStale != 0 {
					return "stale"
				}
				return "fresh"
			}},
		{"local preference", func(_ *rib, a, b *path) int { return cmp.Compare(b.out.lp(), a.out.lp()) },
			func(_ *rib, p *path) string { return fmt.Sprint(p.out.lp()) }},
		{"AS path length", func(_ *rib, a, b *path) int { return a.out.pathLen() - b.out.pathLen() },
			func(_ *rib, p *path) string { return fmt.Sprint(p.out.pathLen()) }},
		{"origin", func(_ *rib, a, b *path) int { return int(a.out.origin) - int(b.out.origin) },
			func(_ *rib, p *path) string { return originName(p.out.origin) }},
	}
	stepMED = step{"MED", nil, func(_ *rib, p *path) string {
		return fmt.Sprintf("%d of AS %d", p.out.med, p.out.firstAS())
	}}
	stepsAfterMED = []step{
		{"eBGP over iBGP", func(r *rib, a, b *path) int {
			switch ea, eb := r.sources[a.peer].ebgp, r.sources[b.peer].ebgp; {
			case ea && !eb:
				return -1
			case eb && !ea:
				return 1
			}
			return 0
		}, func(r *rib, p *path) string {
			if r.sources[p.peer].ebgp {
				return "eBGP"
			}
			return "iBGP"
		}},
		{"interior cost", func(_ *rib, a, b *path) int { return cmp.Compare(a.out.cost(), b.out.cost()) },
			func(_ *rib, p *path) string { return fmt.Sprint(p.out.cost()) }},
	}
	stepsOfOne = []step{
		{"router ID", func(r *rib, a, b *path) int { return cmp.Compare(r.originID(a), r.originID(b)) },
			func(r *rib, p *path) string { return addr4(r.originID(p)).String() }},
		{"cluster list length", func(_ *rib, a, b *path) int { return len(a.out.clusters) - len(b.out.clusters) },
			func(_ *rib, p *path) string { return fmt.Sprint(len(p.out.clusters)) }},
		{"peer address", func(r *rib, a, b *path) int {
			return r.sources[a.peer].addr.Compare(r.sources[b.peer].addr)
		}, func(r *rib, p *path) string { return r.sources[p.peer].addr.String() }},
		{"peer number", func(_ *rib, a, b *path) int { return int(a.peer) - int(b.peer) }, // two sessions to one address
			func(_ *rib, p *path) string { return fmt.Sprint(p.peer) }},
		{"path identifier", func(_ *rib, a, b *path) int { return cmp.Compare(a.id, b.id) }, // two paths of one session
			func(_ *rib, p *path) string { return fmt.Sprint(p.id) }},
	}
)

// originName is an ORIGIN for people.
func originName(o uint8) string { return [...]string{"igp", "egp", "incomplete"}[min(o, 2)] }

// originID is ORIGINATOR_ID where present, else the identifier of the peer.
func (r *rib) originID(p *path) uint32 {
	if p.out.hasOriginator {
		return p.out.originator
	}
	return r.sources[p.peer].id
}

// decide sets the best and multi flags of a list.
func (r *rib) decide(head *path) { r.elect(head, nil) }

// elect decides, and tells lost, if there is one, who was beaten by whom and
// how. Deciding again what was decided changes nothing, so that asking is free
// of effects.
func (r *rib) elect(head *path, lost lost) {
	c := r.cand[:0]
	for p := head; p != nil; p = p.next {
		p.flags &^= pathBest | pathMulti
		if p.out == nil || !p.out.usable() {
			continue
		}
		if p.peer == 0 {
			p.flags |= pathBest | pathMulti // what comes later in the list was never selected beside it
			if lost != nil {
				for q := head; q != nil; q = q.next {
					if q != p && q.out != nil {
						lost(q, p, &stepOwn)
					}
				}
			}
			return
		}
		c = append(c, p)
	}
	r.cand = c
	if len(c) == 0 {
		return
	}
	if len(c) > 1 {
		c = r.keepBest(c, stepsBeforeMED, lost)
		c = eliminateMED(c, lost)
		c = r.keepBest(c, stepsAfterMED, lost)
	}
	for _, p := range c {
		p.flags |= pathMulti
	}
	if len(c) > 1 {
		c = r.keepBest(c, stepsOfOne, lost)
	}
	c[0].flags |= pathBest
	if lost != nil {
		for p := head; p != nil; p = p.next {
			if p.out != nil && !p.out.usable() {
				lost(p, c[0], &stepNextHop)
			}
		}
	}
}

// keepBest keeps, step after step, only the paths that no other beats. It
// reuses the slice.
func (r *rib) keepBest(c []*path, steps []step, lost lost) []*path {
	for i := range steps {
		s := &steps[i]
		if len(c) == 1 {
			break
		}
		top := c[0]
		for _, p := range c[1:] {
			if s.cmp(r, p, top) < 0 {
				top = p
			}
		}
		n := 0
		for _, p := range c {
			if s.cmp(r, p, top) == 0 {
				c[n] = p
				n++
			} else if lost != nil {
				lost(p, top, s)
			}
		}
		c = c[:n]
	}
	return c
}

// eliminateMED drops every path that has a higher MULTI_EXIT_DISC than
// another of the same neighbouring AS; a missing one counts as 0 (section
// 9.1.2.2 c).
func eliminateMED(c []*path, lost lost) []*path {
	if len(c) == 1 {
		return c
	}
	beater := func(p *path) int {
		return slices.IndexFunc(c, func(q *path) bool {
			return q.out.firstAS() == p.out.firstAS() && q.out.med < p.out.med
		})
	}
	var drop uint64 // bit per candidate; more than 64 equal paths are not compared further
	for i, p := range c[:min(len(c), 64)] {
		if by := beater(p); by >= 0 {
			drop |= 1 << i
			if lost != nil {
				lost(p, c[by], &stepMED)
			}
		}
	}
	if drop == 0 {
		return c
	}
	n := 0
	for i, p := range c {
		if i >= 64 || drop&(1<<i) == 0 {
			c[n] = p
			n++
		}
	}
	return c[:n]
}

// preferred appends the paths that can be selected, of which a peer with
// ADD-PATH is sent so many, with the best in front if there are more than that.
// Which ones are sent is open (RFC 7911 section 3). MED is no order between
// neighbouring ASes, so beyond the selection it is compared as a number.
func (r *rib) preferred(dst []*path, head *path, limit int) []*path {
	for p := head; p != nil; p = p.next {
		if p.out != nil && p.out.usable() {
			dst = append(dst, p)
		}
	}
	if len(dst) <= limit {
		return dst // all of them: no order is needed
	}
	slices.SortFunc(dst, func(a, b *path) int {
		rank := func(p *path) int {
			return int(p.flags&pathBest) + int(p.flags&pathMulti)
		}
		if c := rank(b) - rank(a); c != 0 {
			return c
		}
		for _, steps := range [...][]step{stepsBeforeMED, {{cmp: cmpMED}}, stepsAfterMED, stepsOfOne} {
			for _, s := range steps {
				if c := s.cmp(r, a, b); c != 0 {
					return c
				}
			}
		}
		return 0
	})
	return dst
}

// cmpMED compares across ASes; eliminateMED within one.
func cmpMED(_ *rib, a, b *path) int { return cmp.Compare(a.out.med, b.out.med) }
