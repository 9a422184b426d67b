// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/muslin-net/muslin/internal/prefixmap"
)

// nearPrefix draws a prefix near others, so that tables are dense enough to
// have supernets, halves and neighbours.
func nearPrefix(rng *rand.Rand) netip.Prefix {
	var p netip.Prefix
	if rng.IntN(2) == 0 {
		p = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rng.IntN(3)), byte(rng.IntN(256)), byte(rng.IntN(256))}), rng.IntN(33))
	} else {
		p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 1: byte(rng.IntN(2)), 7: byte(rng.IntN(256)), 15: byte(rng.IntN(256))}), rng.IntN(129))
	}
	return p.Masked()
}

// A walk in pages sees what one pass over the sorted table sees, in its order,
// whatever the size of the pages and wherever it is confined to.
func TestWalkInPages(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		var table prefixmap.Map[int]
		for i := range rng.IntN(200) {
			table.Put(nearPrefix(rng), i)
		}
		c := cursor{}
		if rng.IntN(2) == 0 {
			c.within = nearPrefix(rng)
		}
		var want []netip.Prefix
		for p := range table.All() {
			if !c.within.IsValid() || c.within.Bits() <= p.Bits() && c.within.Contains(p.Addr()) {
				want = append(want, p)
			}
		}
		var got []netip.Prefix
		for limit := 1 + rng.IntN(5); !c.done; {
			before := len(got)
			page[int](&table, &c, limit, func(p netip.Prefix, v int) {
				if w, _ := table.Get(p); w != v {
					t.Fatalf("%s has %d, want %d", p, v, w)
				}
				got = append(got, p)
			})
			if len(got)-before > limit {
				t.Fatalf("a page of %d, want at most %d", len(got)-before, limit)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("round %d within %v:\n got %v\nwant %v", round, c.within, got, want)
		}
	}
}

// What changes during a walk may be seen or not; what stays is seen once, and
// nothing is seen twice.
func TestWalkWhileTheTableChanges(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var table prefixmap.Map[bool]
		stay := map[netip.Prefix]bool{}
		for range 100 {
			p := nearPrefix(rng)
			stay[p] = true
			table.Put(p, true)
		}
		seen := map[netip.Prefix]int{}
		for c := (cursor{}); !c.done; {
			page[bool](&table, &c, 3, func(p netip.Prefix, _ bool) { seen[p]++ })
			for range 5 {
				if p := nearPrefix(rng); !stay[p] {
					if rng.IntN(2) == 0 {
						table.Put(p, false)
					} else {
						table.Delete(p)
					}
				}
			}
		}
		for p, n := range seen {
			if n > 1 {
				t.Fatalf("%s was seen %d times", p, n)
			}
		}
		for p := range stay {
			if seen[p] != 1 {
				t.Fatalf("%s stayed and was seen %d times", p, seen[p])
			}
		}
	}
}
