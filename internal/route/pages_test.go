// SPDX-License-Identifier: Apache-2.0

package route

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// pages against a plain map: on random sequences, with walks during which what
// is walked changes.
func TestPagesAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var p pages[key4]
	twin := map[key4]entry{}
	draw := func() key4 {
		return makeKey4(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rng.IntN(3)), byte(rng.IntN(40)), byte(rng.IntN(200))}), 24+rng.IntN(9)))
	}
	check := func() {
		t.Helper()
		var keys []key4
		for k, e := range p.all() {
			if twin[k] != e {
				t.Fatalf("%v: %v, want %v", k.prefix(), e, twin[k])
			}
			keys = append(keys, k)
		}
		want := slices.SortedFunc(maps.Keys(twin), key4.compare)
		if !slices.Equal(keys, want) || p.n != len(twin) {
			t.Fatalf("%d keys of %d, want %d", len(keys), p.n, len(want))
		}
		tally := map[entry]int{}
		for _, e := range twin {
			tally[e]++
		}
		if !maps.Equal(p.tally, tally) {
			t.Fatalf("tally %v, want %v", p.tally, tally)
		}
		for i, g := range p.list {
			if len(g.keys) == 0 || len(g.keys) > pageMax || len(g.keys) != len(g.vals) {
				t.Fatalf("page %d has %d keys", i, len(g.keys))
			}
		}
	}
	for round := range 60 {
		grow := round%20 < 12
		for range 3000 {
			k := draw()
			if got, ok := p.get(k); ok != (twin[k] != entry{}) || got != twin[k] {
				t.Fatalf("%v: %v %v, want %v", k.prefix(), got, ok, twin[k])
			}
			if grow && rng.IntN(5) > 0 {
				e := entry{want: 1 + rng.Uint32N(9), have: rng.Uint32N(9)}
				p.set(k, e)
				twin[k] = e
			} else {
				p.remove(k)
				delete(twin, k)
			}
		}
		check()
		// Each is met once; some are removed as they are met, or those behind.
		met := map[key4]bool{}
		for k := range p.all() {
			if met[k] {
				t.Fatalf("%v was met twice", k.prefix())
			}
			met[k] = true
			switch rng.IntN(6) {
			case 0:
				p.remove(k)
				delete(twin, k)
			case 1:
				o := draw()
				p.remove(o)
				delete(twin, o)
			}
		}
		for k := range twin {
			if !met[k] {
				t.Fatalf("%v was not met", k.prefix())
			}
		}
		check()
	}
	for k := range maps.Clone(twin) {
		p.remove(k)
		delete(twin, k)
	}
	if check(); p.list != nil {
		t.Errorf("%d pages left", len(p.list))
	}
}
