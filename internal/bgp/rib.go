// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// path is one route to a prefix from one peer: the entry of Adj-RIB-In and,
// when out is set, a candidate of the decision process. There is exactly one
// per (prefix, peer); those of a prefix form a list in order of arrival.
// 32 octets on a 64-bit machine.
type path struct {
	next  *path
	in    *attrs // as received; what the node originates has none
	out   *attrs // as accepted by import policy; nil: rejected
	peer  uint32 // index in rib.sources; 0 is the node itself
	flags uint8
}

const (
	pathStale uint8 = 1 << iota // kept over a restart of the peer (RFC 4724)
	pathBest                    // the best path
	pathMulti                   // the best path or equal to it
)

// source is what the decision process must know of a peer, and the counters
// of its Adj-RIB-In. Source 0 is the node itself.
type source struct {
	used     bool
	ebgp     bool
	id       uint32 // BGP identifier
	addr     netip.Addr
	received [numFamilies]int
	accepted [numFamilies]int
	stale    [numFamilies]int
}

// count adds d for each counter that p belongs to.
func (s *source) count(p *path, f family, d int) {
	s.received[f] += d
	if p.out != nil {
		s.accepted[f] += d
	}
	if p.flags&pathStale != 0 {
		s.stale[f] += d
	}
}

// rib holds Adj-RIB-In of all peers and Loc-RIB in one table. It belongs to
// the loop.
type rib struct {
	table   bart.Table[*path]
	attrs   attrTable
	hops    hopTable
	sources []*source

	before, after []selected // scratch
	cand          []*path    // scratch of decide
}

// selected is one member of the selection, for comparing before and after.
type selected struct {
	peer uint32
	out  *attrs
	best bool
}

func selection(dst []selected, head *path) []selected {
	for p := head; p != nil; p = p.next {
		if p.flags&pathMulti != 0 {
			dst = append(dst, selected{p.peer, p.out, p.flags&pathBest != 0})
		}
	}
	return dst
}

// set stores the path of peer to prefix, replacing the one there. It takes
// over the caller's references to in and out. It reports whether the
// selection changed.
func (r *rib) set(prefix netip.Prefix, peer uint32, in, out *attrs) (changed bool) {
	f := familyOf(prefix.Addr())
	src := r.sources[peer]
	r.hops.take(out)
	out.await(prefix)
	r.table.Modify(prefix, func(head *path, _ bool) (*path, bool) {
		if head == nil { // by far the most frequent case
			p := &path{in: in, out: out, peer: peer}
			if out != nil && out.usable() {
				p.flags = pathBest | pathMulti
				changed = true
			}
			src.count(p, f, 1)
			return p, false
		}
		p, last := head, head
		for ; p != nil && p.peer != peer; p = p.next {
			last = p
		}
		r.before = selection(r.before[:0], head)
		var oldIn, oldOut *attrs
		if p == nil {
			p = &path{peer: peer}
			last.next = p
		} else {
			src.count(p, f, -1)
			oldIn, oldOut = p.in, p.out
			p.flags &^= pathStale
		}
		p.in, p.out = in, out
		src.count(p, f, 1)
		r.decide(head)
		changed = r.differs(head)
		r.attrs.release(oldIn)
		r.attrs.release(oldOut)
		return head, false
	})
	return changed
}

// remove deletes the path of peer to prefix and reports whether the selection
// changed.
func (r *rib) remove(prefix netip.Prefix, peer uint32) (changed bool) {
	return r.edit(prefix, peer, func(*path) bool { return false })
}

// edit calls fn with the path of peer to prefix, if there is one, and removes
// it when fn returns false. fn may change the stale flag only. It reports
// whether the selection changed.
func (r *rib) edit(prefix netip.Prefix, peer uint32, fn func(*path) (keep bool)) (changed bool) {
	f := familyOf(prefix.Addr())
	r.table.Modify(prefix, func(head *path, ok bool) (*path, bool) {
		if !ok {
			return nil, true
		}
		link := &head
		for *link != nil && (*link).peer != peer {
			link = &(*link).next
		}
		p := *link
		if p == nil {
			return head, false
		}
		r.before = selection(r.before[:0], head)
		r.sources[peer].count(p, f, -1)
		keep := fn(p)
		if keep {
			r.sources[peer].count(p, f, 1)
		} else {
			*link = p.next
		}
		r.decide(head)
		changed = r.differs(head)
		if !keep {
			r.attrs.release(p.in)
			r.attrs.release(p.out)
		}
		return head, head == nil
	})
	return changed
}

// differs compares the selection of head with r.before.
func (r *rib) differs(head *path) bool {
	r.after = selection(r.after[:0], head)
	return !slices.Equal(r.before, r.after)
}

// of collects the prefixes for which peer has a path that want accepts; a nil want accepts all. The
// caller changes the table afterwards: it must not change while walked.
func (r *rib) of(peer uint32, want func(netip.Prefix, *path) bool) []netip.Prefix {
	var out []netip.Prefix
	for prefix, head := range r.table.All() {
		for p := head; p != nil; p = p.next {
			if p.peer == peer {
				if want == nil || want(prefix, p) {
					out = append(out, prefix)
				}
				break
			}
		}
	}
	return out
}

// best returns the best path of a list, nil if there is none.
func best(head *path) *path {
	for p := head; p != nil; p = p.next {
		if p.flags&pathBest != 0 {
			return p
		}
	}
	return nil
}

// outcome is what the daemon is told of a prefix.
func outcome(prefix netip.Prefix, head *path) Best {
	b := Best{Prefix: prefix}
	top := best(head)
	if top == nil || top.peer == 0 {
		return b
	}
	b.LocalPref = top.out.lp()
	for p := head; p != nil; p = p.next {
		if p.flags&pathMulti != 0 {
			b.NextHops = append(b.NextHops, p.out.nextHop)
		}
	}
	slices.SortFunc(b.NextHops, netip.Addr.Compare)
	b.NextHops = slices.Compact(b.NextHops)
	return b
}
