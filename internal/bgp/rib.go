// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"
)

// path is one route to a prefix from one peer: the entry of Adj-RIB-In and,
// when out is set, a candidate of the decision process. There is exactly one
// per (prefix, peer), or per (prefix, peer, path identifier) where the peer
// sends ADD-PATH (RFC 7911); those of a prefix form a list in order of arrival.
// 32 octets on a 64-bit machine.
type path struct {
	next  *path
	in    *attrs // as received; what the node originates has none
	out   *attrs // as accepted by import policy; nil: rejected
	id    uint32 // path identifier that the peer gave; 0 without ADD-PATH
	peer  uint16 // index in rib.sources; 0 is the node itself
	flags uint8
	why   Refusal // why out is nil
}

// pathRef names a path of one peer, or one that is sent to peers.
type pathRef struct {
	prefix netip.Prefix
	id     uint32 // path identifier; 0 without ADD-PATH
}

// maxPeers bounds the index of a source.
const maxPeers = 1<<16 - 1

const (
	pathStale uint8 = 1 << iota // kept over a restart of the peer (RFC 4724)
	pathBest                    // the best path
	pathMulti                   // the best path or equal to it

	// pathGen is the source's generation when the path was said.
	pathGen = ^(pathStale | pathBest | pathMulti)
	genStep = pathMulti << 1
)

// source is what the decision process must know of a peer, and the counters
// of its Adj-RIB-In. Source 0 is the node itself.
type source struct {
	used     bool
	ebgp     bool
	client   bool   // of this route reflector (RFC 4456)
	id       uint32 // BGP identifier
	addr     netip.Addr
	p        *peer // nil for the node itself
	received [numFamilies]int
	accepted [numFamilies]int
	stale    [numFamilies]int
	due      [numFamilies]int   // to be said again, since BoRR (RFC 7313): those of another generation than
	gen      [numFamilies]uint8 // this one
	oldest   [numFamilies]uint8 // that one which is due may have
	refused  [numRefusals]int   // by reason; Accepted counts the accepted
}

// count adds d for each counter that p belongs to.
func (s *source) count(p *path, f family, d int) {
	s.received[f] += d
	s.refused[p.why] += d
	if p.out != nil {
		s.accepted[f] += d
	}
	if p.flags&pathStale != 0 {
		s.stale[f] += d
	}
	if s.isDue(p, f) {
		s.due[f] += d
	}
}

// isDue tells whether a path is to be said again.
func (s *source) isDue(p *path, f family) bool { return p.flags&pathGen != s.gen[f] }

// rib holds Adj-RIB-In of all peers and Loc-RIB in one table. It belongs to
// the loop.
type rib struct {
	table   pathTable
	attrs   attrTable
	hops    hopTable
	sources []*source
	ids     pathIDs

	heard   tick                  // when what is being handled came; 0: no message did
	observe func(pathRef, uint16) // is told of every change of an Adj-RIB-In; nil: nobody watches

	before, after []selected // scratch
	cand          []*path    // scratch of decide
	room          path       // scratch of what opens an entry to change it
}

// change is what an operation on the table did to a prefix.
type change uint8

const (
	unchanged        change = iota
	pathsChanged            // a path that could be selected: of interest to peers that are sent several
	selectionInside         // the best path or its equals, which peers like theirs are not told of, neither before nor now
	selectionChanged        // the best path or its equals
)

// selected is one member of the selection, for comparing before and after.
type selected struct {
	peer uint16
	id   uint32
	out  *attrs
	best bool
}

// inside tells whether what a source says is told to no iBGP peer but clients of
// this reflector: it is one itself, and no client (RFC 4271 section 9.2, RFC 4456
// section 6).
func (r *rib) inside(peer uint16) bool {
	src := r.sources[peer]
	return peer != 0 && !src.ebgp && !src.client
}

func selection(dst []selected, head *path) []selected {
	for p := head; p != nil; p = p.next {
		if p.flags&pathMulti != 0 {
			dst = append(dst, selected{p.peer, p.id, p.out, p.flags&pathBest != 0})
		}
	}
	return dst
}

// set stores a path of peer, replacing the one there. It takes over the
// caller's references to in and out; why says why out is nil.
func (r *rib) set(ref pathRef, peer uint16, in, out *attrs, why Refusal) change {
	changed := r.put(ref, peer, in, out, why)
	if r.observe != nil {
		r.observe(ref, peer)
	}
	return changed
}

func (r *rib) put(ref pathRef, peer uint16, in, out *attrs, why Refusal) (changed change) {
	f := familyOf(ref.prefix.Addr())
	src := r.sources[peer]
	r.hops.take(out)
	out.await(ref.prefix, r.heard)
	r.table.sets = &r.attrs
	slot, _ := r.table.entries.Slot(ref.prefix)
	head := r.table.open(*slot, &r.room)
	if head == nil { // by far the most frequent case
		p := path{in: in, out: out, peer: peer, id: ref.id, flags: src.gen[f], why: why}
		r.ids.take(&p)
		if out != nil && out.usable() {
			p.flags |= pathBest | pathMulti
			changed = selectionChanged
			if r.inside(peer) {
				changed = selectionInside
			}
		}
		src.count(&p, f, 1)
		if compact, ok := compacted(&p); ok {
			*slot = compact
			return changed
		}
		r.room = p
		r.table.close(slot, &r.room, &r.room)
		return changed
	}
	p, last := head, head
	for ; p != nil && (p.peer != peer || p.id != ref.id); p = p.next {
		last = p
	}
	r.before = selection(r.before[:0], head)
	var oldIn, oldOut *attrs
	if p == nil {
		p = &path{peer: peer, id: ref.id}
		r.ids.take(p)
		last.next = p
	} else {
		src.count(p, f, -1)
		oldIn, oldOut = p.in, p.out
		if p.flags&pathStale != 0 {
			p.flags &^= pathStale
			changed = pathsChanged
		}
	}
	p.flags = p.flags&^pathGen | src.gen[f]
	p.in, p.out, p.why = in, out, why
	src.count(p, f, 1)
	if out != oldOut {
		changed = pathsChanged
	}
	changed = max(changed, r.reselect(head))
	r.table.close(slot, head, &r.room)
	r.attrs.release(oldIn)
	r.attrs.release(oldOut)
	return changed
}

// remove deletes a path of peer.
func (r *rib) remove(ref pathRef, peer uint16) change {
	return r.edit(ref, peer, func(*path) bool { return false })
}

// edit calls fn with a path of peer, if there is such a one, and removes it
// when fn returns false. fn may change the flags that are marks only.
func (r *rib) edit(ref pathRef, peer uint16, fn func(*path) (keep bool)) (changed change) {
	f := familyOf(ref.prefix.Addr())
	slot := r.table.entries.Ref(ref.prefix)
	if slot == nil {
		return unchanged
	}
	head := r.table.open(*slot, &r.room)
	link := &head
	for *link != nil && ((*link).peer != peer || (*link).id != ref.id) {
		link = &(*link).next
	}
	p := *link
	if p == nil {
		return unchanged
	}
	r.before = selection(r.before[:0], head)
	r.sources[peer].count(p, f, -1)
	keep := fn(p)
	if keep {
		r.sources[peer].count(p, f, 1)
	} else {
		*link = p.next
	}
	if p.out != nil {
		changed = pathsChanged
	}
	changed = max(changed, r.reselect(head))
	in, out := p.in, p.out
	if !keep {
		r.ids.give(p)
	}
	if head != nil {
		r.table.close(slot, head, &r.room)
	} else {
		r.table.remove(ref.prefix, slot)
	}
	if !keep {
		r.attrs.release(in)
		r.attrs.release(out)
	}
	if r.observe != nil {
		r.observe(ref, peer)
	}
	return changed
}

// redecide selects anew after something outside of the paths changed. A
// path may have changed in a way that the selection does not show.
func (r *rib) redecide(prefix netip.Prefix) change {
	slot := r.table.entries.Ref(prefix)
	if slot == nil {
		return unchanged
	}
	head := r.table.open(*slot, &r.room)
	r.before = selection(r.before[:0], head)
	c := max(pathsChanged, r.reselect(head))
	r.table.close(slot, head, &r.room)
	return c
}

// reselect decides anew and compares with r.before.
func (r *rib) reselect(head *path) change {
	r.decide(head)
	r.after = selection(r.after[:0], head)
	if slices.Equal(r.before, r.after) {
		return unchanged
	}
	outside := func(s selected) bool { return !r.inside(s.peer) }
	if slices.ContainsFunc(r.before, outside) || slices.ContainsFunc(r.after, outside) {
		return selectionChanged
	}
	return selectionInside
}

// of collects all paths of peer. The caller changes the table afterwards: it must
// not change while walked.
func (r *rib) of(peer uint16) []pathRef {
	src := r.sources[peer]
	list := make([]pathRef, 0, src.received[v4]+src.received[v6])
	for f := range numFamilies {
		list = r.appendOf(list, peer, f, src.received[f], func(*path) bool { return true })
	}
	return list
}

// appendOf appends the paths of peer in one family that want accepts, and looks no
// further than the last of them: n is how many there are. A peer that has said
// nothing costs nothing, however large the table is.
func (r *rib) appendOf(list []pathRef, peer uint16, f family, n int, want func(*path) bool) []pathRef {
	if n == 0 {
		return list
	}
	var room path
	for prefix, e := range r.table.family(f) {
		if e.shape&entryList == 0 && e.peer != peer {
			continue // so are most
		}
		for p := r.table.open(e, &room); p != nil; p = p.next {
			if p.peer != peer || !want(p) {
				continue
			}
			list = append(list, pathRef{prefix, p.id})
			if n--; n == 0 {
				return list
			}
		}
	}
	return list
}

// markDue makes all paths of peer in one family due, by beginning a new generation.
// That is of no interest to anybody else. It costs no walk but once in 31 times that the
// peer begins, says something, and begins again, without an end: then a
// generation comes round that a path may still have.
func (r *rib) markDue(peer uint16, f family) {
	src := r.sources[peer]
	switch {
	case src.due[f] == src.received[f]:
		return // they are
	case src.due[f] == 0:
		src.oldest[f] = src.gen[f]
	case src.gen[f]+genStep == src.oldest[f]:
		r.agree(peer, f)
		src.oldest[f] = src.gen[f]
	}
	src.gen[f] += genStep
	src.due[f] = src.received[f]
}

// agree gives all paths of peer in one family the generation of the source.
func (r *rib) agree(peer uint16, f family) {
	gen := r.sources[peer].gen[f]
	for prefix, e := range r.table.family(f) {
		if e.shape&entryList == 0 {
			if e.peer == peer {
				at := r.table.entries.Ref(prefix)
				at.flags = at.flags&^pathGen | gen
			}
			continue
		}
		for p := r.table.lists[e.number]; p != nil; p = p.next {
			if p.peer == peer {
				p.flags = p.flags&^pathGen | gen
			}
		}
	}
}

// find returns a path of a list.
func find(head *path, peer uint16, id uint32) *path {
	for p := head; p != nil; p = p.next {
		if p.peer == peer && p.id == id {
			return p
		}
	}
	return nil
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

// outcome is what the daemon is told of a prefix. Its next hops are appended to
// room, which is returned.
func outcome(prefix netip.Prefix, head *path, room []netip.Addr) (Best, []netip.Addr) {
	b := Best{Prefix: prefix}
	top := best(head)
	if top == nil || top.peer == 0 {
		return b, room
	}
	b.LocalPref = top.out.lp()
	first := len(room)
	for p := head; p != nil; p = p.next {
		if p.flags&pathMulti != 0 {
			room = append(room, p.out.nextHop)
		}
	}
	hops := room[first:]
	if len(hops) > 1 {
		slices.SortFunc(hops, netip.Addr.Compare)
		hops = slices.Compact(hops)
	}
	b.NextHops = hops[:len(hops):len(hops)]
	return b, room[:first+len(hops)]
}
