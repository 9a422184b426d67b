// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// twinPath is a path in the slow and obvious twin of the table.
type twinPath struct {
	peer    uint32
	a       attrs
	ebgp    bool
	id      uint32
	addr    netip.Addr
	stale   bool
	refused bool
}

// twinHop is what the twin knows of a next hop.
type twinHop struct {
	usable bool
	cost   uint32
}

// twinSelect is the decision process in words: candidates are struck out rule
// after rule.
func twinSelect(paths []twinPath, hops map[netip.Addr]twinHop) (multi []uint32, top uint32, ok bool) {
	var c []twinPath
	for _, p := range paths {
		if p.refused {
			continue
		}
		if p.peer == 0 {
			return []uint32{0}, 0, true
		}
		if !hops[p.a.nextHop].usable {
			continue
		}
		c = append(c, p)
	}
	keep := func(worse func(p, q twinPath) bool) {
		old := slices.Clone(c)
		c = slices.DeleteFunc(c, func(p twinPath) bool {
			return slices.ContainsFunc(old, func(q twinPath) bool { return worse(p, q) })
		})
	}
	keep(func(p, q twinPath) bool { return p.stale && !q.stale })
	keep(func(p, q twinPath) bool { return p.a.localPref < q.a.localPref })
	keep(func(p, q twinPath) bool { return len(p.a.path[0].as) > len(q.a.path[0].as) })
	keep(func(p, q twinPath) bool { return p.a.origin > q.a.origin })
	keep(func(p, q twinPath) bool { return p.a.path[0].as[0] == q.a.path[0].as[0] && p.a.med > q.a.med })
	keep(func(p, q twinPath) bool { return !p.ebgp && q.ebgp })
	keep(func(p, q twinPath) bool { return hops[p.a.nextHop].cost > hops[q.a.nextHop].cost })
	for _, p := range c {
		multi = append(multi, p.peer)
	}
	slices.Sort(multi)
	keep(func(p, q twinPath) bool { return p.id > q.id })
	keep(func(p, q twinPath) bool { return len(p.a.clusters) > len(q.a.clusters) })
	keep(func(p, q twinPath) bool { return q.addr.Less(p.addr) })
	if len(c) == 0 {
		return nil, 0, false
	}
	return multi, c[0].peer, true
}

// RFC 4271 section 9.1.2.2 and RFC 4456 section 9: the table against the twin
// on random sequences, also that changes are reported exactly when the
// selection differs, and that counters and references come out even.
func TestRFC4271_9_1_2_2_AgainstTwin(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(4271, 9))
	const peers = 6
	s := New(Options{TrackNextHops: true})
	r := &s.rib
	for i := 1; i <= peers; i++ {
		r.sources = append(r.sources, &source{used: true, ebgp: i%2 == 0, id: uint32(1 + i/3),
			addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(9 - i)})})
	}
	tables := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("10.0.0.1/32")}
	twin := map[netip.Prefix]map[uint32]twinPath{}
	last := map[netip.Prefix]string{}
	hops := map[netip.Addr]twinHop{}
	pick := func(n int) uint32 { return uint32(rng.IntN(n)) }
	for i := range 200_000 {
		prefix := tables[rng.IntN(len(tables))]
		peer := pick(peers + 1)
		if twin[prefix] == nil {
			twin[prefix] = map[uint32]twinPath{}
		}
		var changed bool
		switch rng.IntN(5) {
		case 0:
			changed = r.remove(prefix, peer)
			delete(twin[prefix], peer)
		case 4:
			// What is said of a next hop concerns every prefix; only those whose
			// selection differs may be touched.
			h := NextHop{Addr: netip.AddrFrom4([4]byte{10, 1, 1, byte(pick(3))}), Usable: pick(4) > 0, Cost: pick(2)}
			if r.hops.hops[h.Addr] == nil {
				continue // nobody has it: the answer would be lost
			}
			s.changed = s.changed[:0]
			s.setNextHops([]NextHop{h})
			hops[h.Addr] = twinHop{h.Usable, h.Cost}
			for _, p := range tables {
				head, _ := r.table.Get(p)
				now := selectionText(head)
				if slices.Contains(s.changed, p) != (now != last[p]) {
					t.Fatalf("step %d: %v touched %v, but the selection of %s went from %q to %q", i, h, s.changed, p, last[p], now)
				}
				last[p] = now
			}
		case 1:
			changed = r.edit(prefix, peer, func(p *path) bool { p.flags |= pathStale; return true })
			if tp, ok := twin[prefix][peer]; ok {
				tp.stale = true
				twin[prefix][peer] = tp
			}
		default:
			a := attrs{origin: uint8(pick(2)), hasMED: true, med: pick(2), hasLocalPref: true, localPref: 100 + pick(2),
				nextHop: netip.AddrFrom4([4]byte{10, 1, 1, byte(pick(3))}),
				path:    []segment{{segSequence, []uint32{7 + pick(2), 9}[:1+pick(2)]}}}
			if peer == 0 {
				a.nextHop = netip.Addr{} // the node itself
			}
			if pick(4) == 0 {
				a.clusters = []uint32{1}
			}
			in := a
			tp := twinPath{peer: peer, a: a, ebgp: r.sources[peer].ebgp, id: r.sources[peer].id, addr: r.sources[peer].addr}
			ref := r.attrs.intern(&in)
			out := ref
			if tp.refused = peer != 0 && pick(8) == 0; tp.refused {
				out = nil
			} else {
				ref.refs++
			}
			changed = r.set(prefix, peer, ref, out)
			twin[prefix][peer] = tp
		}
		for a := range hops {
			if r.hops.hops[a] == nil {
				delete(hops, a) // whoever takes it into use again has to ask again
			}
		}
		var paths []twinPath
		for p := range uint32(peers + 1) {
			if tp, ok := twin[prefix][p]; ok {
				paths = append(paths, tp)
			}
		}
		multi, top, ok := twinSelect(paths, hops)
		head, _ := r.table.Get(prefix)
		var gotMulti []uint32
		for p := head; p != nil; p = p.next {
			if p.flags&pathMulti != 0 {
				gotMulti = append(gotMulti, p.peer)
			}
		}
		slices.Sort(gotMulti)
		now := selectionText(head)
		b := best(head)
		if !slices.Equal(multi, gotMulti) || ok != (b != nil) || ok && b.peer != top {
			t.Fatalf("step %d: selected %v best %+v, want %v best %d", i, gotMulti, b, multi, top)
		}
		checkLost(t, r, head)
		if changed != (now != last[prefix]) {
			t.Fatalf("step %d: changed %v, but selection went from %q to %q", i, changed, last[prefix], now)
		}
		last[prefix] = now
	}
	for _, prefix := range tables {
		for p := range uint32(peers + 1) {
			r.remove(prefix, p)
		}
	}
	if r.table.Size() != 0 || len(r.attrs.sets) != 0 || len(r.hops.hops) != 0 || r.hops.unknown != 0 {
		t.Errorf("left over: %d prefixes, %d attribute sets, %d next hops", r.table.Size(), len(r.attrs.sets), len(r.hops.hops))
	}
	for i, s := range s.rib.sources {
		if s.received != [numFamilies]int{} || s.accepted != [numFamilies]int{} || s.stale != [numFamilies]int{} {
			t.Errorf("source %d: counters %+v", i, s)
		}
	}
}

// checkLost decides again with a witness: every accepted path but the best is
// named as a loser exactly once, loses to one that is preferred at that step,
// and the selection stays as it was.
func checkLost(t *testing.T, r *rib, head *path) {
	t.Helper()
	before := selection(nil, head)
	losers := map[*path]int{}
	r.elect(head, func(p, to *path, by *step) {
		losers[p]++
		switch {
		case p == to || p.out == nil || to.out == nil:
			t.Fatalf("%+v lost to %+v by %s", p, to, by.name)
		case by.cmp != nil && by.cmp(r, p, to) <= 0:
			t.Fatalf("%+v lost to %+v by %s, where it is not worse", p, to, by.name)
		case by.value(r, p) == by.value(r, to):
			t.Fatalf("%+v lost to %+v by %s, and both show %q", p, to, by.name, by.value(r, p))
		}
	})
	for p := head; p != nil; p = p.next {
		want := 1
		if p.out == nil || p.flags&pathBest != 0 || best(head) == nil {
			want = 0
		}
		if losers[p] != want {
			t.Fatalf("%+v lost %d times, want %d", p, losers[p], want)
		}
	}
	if after := selection(nil, head); !slices.Equal(before, after) {
		t.Fatalf("asking changed the selection from %v to %v", before, after)
	}
}

// selectionText renders the selected paths, in the order of their peers.
func selectionText(head *path) string {
	var ps []*path
	for p := head; p != nil; p = p.next {
		if p.flags&pathMulti != 0 {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, func(a, b *path) int { return int(a.peer) - int(b.peer) })
	text := ""
	for _, p := range ps {
		text += fmt.Sprintf("%d %x %v;", p.peer, p.out.key, p.flags&pathBest != 0)
	}
	return text
}
