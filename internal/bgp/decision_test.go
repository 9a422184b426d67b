// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// twinPath is a path in the slow and obvious twin of the table.
type twinPath struct {
	from    twinSource
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

// twinSource is a peer and the path identifier that it gave.
type twinSource struct {
	peer uint16
	id   uint32
}

func (a twinSource) before(b twinSource) bool {
	return a.peer < b.peer || a.peer == b.peer && a.id < b.id
}

// twinSelect is the decision process in words: candidates are struck out rule
// after rule.
func twinSelect(paths []twinPath, hops map[netip.Addr]twinHop) (multi []twinSource, top twinSource, ok bool) {
	var c []twinPath
	for _, p := range paths {
		if p.refused {
			continue
		}
		if p.from.peer == 0 {
			return []twinSource{{}}, twinSource{}, true
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
		multi = append(multi, p.from)
	}
	keep(func(p, q twinPath) bool { return p.id > q.id })
	keep(func(p, q twinPath) bool { return len(p.a.clusters) > len(q.a.clusters) })
	keep(func(p, q twinPath) bool { return q.addr.Less(p.addr) })
	keep(func(p, q twinPath) bool { return q.from.before(p.from) })
	if len(c) == 0 {
		return nil, twinSource{}, false
	}
	return multi, c[0].from, true
}

// RFC 4271 section 9.1.2.2 and RFC 4456 section 9: the table against the twin
// on random sequences, with several paths per peer (RFC 7911), also that changes are reported exactly when the
// selection differs, and that counters and references come out even.
func TestRFC4271_9_1_2_2_AgainstTwin(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(4271, 9))
	const peers = 6
	s := New(Options{TrackNextHops: true})
	r := &s.rib
	for i := 1; i <= peers; i++ {
		r.sources = append(r.sources, &source{used: true, ebgp: i%2 == 0, client: i == 5, id: uint32(1 + i/3),
			addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(9 - i)})})
	}
	tables := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("10.0.0.1/32")}
	twin := map[netip.Prefix]map[twinSource]twinPath{}
	last, lastPaths := map[netip.Prefix]string{}, map[netip.Prefix]string{}
	// Of a selection with only paths of peers 1 and 3, iBGP and no clients, others like them hear nothing.
	inside := func(text string) bool {
		for sel := range strings.SplitSeq(strings.TrimSuffix(text, ";"), ";") {
			if sel != "" && sel[:2] != "1/" && sel[:2] != "3/" {
				return false
			}
		}
		return true
	}
	var sources []twinSource // in their order
	for peer := range uint16(peers + 1) {
		for id := range uint32(3) {
			if id == 0 || peer > 3 {
				sources = append(sources, twinSource{peer, id})
			}
		}
	}
	hops := map[netip.Addr]twinHop{}
	pick := func(n int) uint32 { return uint32(rng.IntN(n)) }
	for i := range 200_000 {
		prefix := tables[rng.IntN(len(tables))]
		from := sources[rng.IntN(len(sources))]
		peer, ref := from.peer, pathRef{prefix, from.id}
		if twin[prefix] == nil {
			twin[prefix] = map[twinSource]twinPath{}
		}
		var changed change
		switch rng.IntN(5) {
		case 0:
			changed = r.remove(ref, peer)
			delete(twin[prefix], from)
		case 4:
			// What is said of a next hop concerns every prefix; only those whose
			// selection differs may be touched.
			h := NextHop{Addr: netip.AddrFrom4([4]byte{10, 1, 1, byte(pick(3))}), Usable: pick(4) > 0, Cost: pick(2)}
			if r.hops.hops[h.Addr] == nil {
				continue // nobody has it: the answer would be lost
			}
			s.changed, s.inside, s.paths = s.changed[:0], s.inside[:0], s.paths[:0]
			s.setNextHops([]NextHop{h})
			hops[h.Addr] = twinHop{h.Usable, h.Cost}
			for _, p := range tables {
				head, _ := r.table.Get(p)
				now := selectionText(head)
				touched := s.changed
				if inside(now) && inside(last[p]) {
					touched = s.inside
				}
				if slices.Contains(touched, p) != (now != last[p]) {
					t.Fatalf("step %d: %v touched %v, but the selection of %s went from %q to %q", i, h, touched, p, last[p], now)
				}
				nowPaths := candidatesText(head)
				if nowPaths != lastPaths[p] && !slices.Contains(slices.Concat(s.changed, s.inside, s.paths), p) {
					t.Fatalf("step %d: %v touched nothing, but the candidates of %s went from %q to %q", i, h, p, lastPaths[p], nowPaths)
				}
				last[p], lastPaths[p] = now, nowPaths
			}
		case 1:
			changed = r.edit(ref, peer, func(p *path) bool { p.flags |= pathStale; return true })
			if tp, ok := twin[prefix][from]; ok {
				tp.stale = true
				twin[prefix][from] = tp
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
			tp := twinPath{from: from, a: a, ebgp: r.sources[peer].ebgp, id: r.sources[peer].id, addr: r.sources[peer].addr}
			set := r.attrs.intern(&in)
			out, why := set, Accepted
			if tp.refused = peer != 0 && pick(8) == 0; tp.refused {
				out, why = nil, RefusedFilter
			} else {
				set.refs++
			}
			changed = r.set(ref, peer, set, out, why)
			twin[prefix][from] = tp
		}
		for a := range hops {
			if r.hops.hops[a] == nil {
				delete(hops, a) // whoever takes it into use again has to ask again
			}
		}
		var paths []twinPath
		for _, from := range sources {
			if tp, ok := twin[prefix][from]; ok {
				paths = append(paths, tp)
			}
		}
		multi, top, ok := twinSelect(paths, hops)
		head, _ := r.table.Get(prefix)
		var gotMulti []twinSource
		for _, from := range sources {
			if p := find(head, from.peer, from.id); p != nil && p.flags&pathMulti != 0 {
				gotMulti = append(gotMulti, from)
			}
		}
		now, nowPaths := selectionText(head), candidatesText(head)
		b := best(head)
		if !slices.Equal(multi, gotMulti) || ok != (b != nil) || ok && (twinSource{b.peer, b.id}) != top {
			t.Fatalf("step %d: selected %v best %+v, want %v best %v", i, gotMulti, b, multi, top)
		}
		checkLost(t, r, head)
		if (changed >= selectionInside) != (now != last[prefix]) {
			t.Fatalf("step %d: change %v, but selection went from %q to %q", i, changed, last[prefix], now)
		}
		if changed >= selectionInside && (changed == selectionInside) != (inside(now) && inside(last[prefix])) {
			t.Fatalf("step %d: change %v, and selection went from %q to %q", i, changed, last[prefix], now)
		}
		if changed == unchanged && nowPaths != lastPaths[prefix] {
			t.Fatalf("step %d: no change, but paths went from %q to %q", i, lastPaths[prefix], nowPaths)
		}
		last[prefix], lastPaths[prefix] = now, nowPaths
		twinPreferred(t, r, head, 1+rng.IntN(5))
		if i%64 == 0 {
			twinOf(t, r)
		}
	}
	for _, prefix := range tables {
		for _, from := range sources {
			r.remove(pathRef{prefix, from.id}, from.peer)
		}
	}
	if r.table.Size() != 0 || len(r.attrs.sets) != 0 || len(r.ids.drawn) != 0 || len(r.hops.hops) != 0 || r.hops.unknown != 0 {
		t.Errorf("left over: %d prefixes, %d attribute sets, %d path identifiers, %d next hops", r.table.Size(), len(r.attrs.sets), len(r.ids.drawn), len(r.hops.hops))
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

// selectionText renders the selected paths, candidatesText all that could be.
func selectionText(head *path) string {
	return pathsText(head, pathBest, func(p *path) bool { return p.flags&pathMulti != 0 })
}

func candidatesText(head *path) string {
	return pathsText(head, pathStale, func(p *path) bool { return p.out != nil && p.out.usable() })
}

// pathsText renders paths in the order of their sources, with some of their flags.
func pathsText(head *path, shown uint8, want func(*path) bool) string {
	var ps []*path
	for p := head; p != nil; p = p.next {
		if want(p) {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, func(a, b *path) int { return cmp.Or(int(a.peer)-int(b.peer), int(a.id)-int(b.id)) })
	text := ""
	for _, p := range ps {
		text += fmt.Sprintf("%d/%d %x %#x;", p.peer, p.id, p.out.key, p.flags&shown)
	}
	return text
}

// twinOf checks what is found of a peer, which trusts the counters, with a walk that does not.
func twinOf(t *testing.T, r *rib) {
	t.Helper()
	isStale := func(p *path) bool { return p.flags&pathStale != 0 }
	for i, src := range r.sources {
		var all, stale, staleGot []pathRef
		for prefix, head := range r.table.All() {
			for p := head; p != nil; p = p.next {
				if int(p.peer) != i {
					continue
				}
				all = append(all, pathRef{prefix, p.id})
				if isStale(p) {
					stale = append(stale, pathRef{prefix, p.id})
				}
			}
		}
		for f := range numFamilies {
			staleGot = r.appendOf(staleGot, uint16(i), f, src.stale[f], isStale)
		}
		if got := r.of(uint16(i)); !slices.Equal(got, all) || !slices.Equal(staleGot, stale) {
			t.Fatalf("of peer %d: %v, of these stale %v; want %v and %v", i, got, staleGot, all, stale)
		}
	}
}

// twinPreferred checks what peers with ADD-PATH would be sent: the selection first,
// identifiers that differ, and a choice that does not depend on the order of the list.
func twinPreferred(t *testing.T, r *rib, head *path, limit int) {
	t.Helper()
	got := r.preferred(nil, head, limit)
	selected, all := 0, 0
	for p := head; p != nil; p = p.next {
		if p.out != nil && p.out.usable() {
			all++
		}
		if p.flags&pathMulti != 0 {
			selected++
		}
	}
	if len(got) != all {
		t.Fatalf("%d of %d paths", len(got), all)
	}
	ids := map[uint32]bool{}
	inFront := 0
	for i, p := range got {
		ids[r.ids.of(p)] = true
		if i < limit && p.flags&pathMulti != 0 {
			inFront++
		}
	}
	if len(ids) != len(got) {
		t.Fatalf("%d paths, %d identifiers", len(got), len(ids))
	}
	if inFront != min(selected, limit) {
		t.Fatalf("of %d selected paths %d are among the first %d", selected, inFront, limit)
	}
	if all <= limit {
		return
	}
	// Read the list backwards.
	var turned *path
	for p := head; p != nil; p = p.next {
		q := *p
		q.next = turned
		turned = &q
	}
	for i, p := range r.preferred(nil, turned, limit) {
		if p.peer != got[i].peer || p.id != got[i].id {
			t.Fatalf("place %d is peer %d path %d, and with the list turned round peer %d path %d", i, got[i].peer, got[i].id, p.peer, p.id)
		}
	}
}
