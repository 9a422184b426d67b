// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestPrefixQueue holds the queue against a slice.
func TestPrefixQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q prefixQueue
		var twin []netip.Prefix
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				for i := range rapid.IntRange(1, 3*queuePage).Draw(t, "add") {
					n := byte(rapid.IntRange(0, 255).Draw(t, "seed")) + byte(i%7)
					p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, n, byte(i >> 8), byte(i)}), 32)
					if n%3 == 0 {
						p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 15: n}), 128)
					}
					if n%5 == 0 {
						p = netip.PrefixFrom(p.Addr(), 8).Masked()
					}
					q.add(p)
					twin = append(twin, p)
					if i > 100 && i%500 > 20 { // drawing is slow
						q.add(p)
						twin = append(twin, p)
					}
				}
			case 1:
				for range rapid.IntRange(1, 2*queuePage).Draw(t, "take") {
					if len(twin) == 0 {
						break
					}
					if p := q.take(); p != twin[0] {
						t.Fatalf("took %v, want %v", p, twin[0])
					}
					twin = twin[1:]
				}
			case 2:
				q.thin()
				var once []netip.Prefix
				seen := map[netip.Prefix]bool{}
				for _, p := range twin {
					if !seen[p] {
						once = append(once, p)
					}
					seen[p] = true
				}
				twin = once
			}
			if q.len() != len(twin) {
				t.Fatalf("%d in the queue, want %d", q.len(), len(twin))
			}
		}
		var rest []netip.Prefix
		for q.len() > 0 {
			rest = append(rest, q.take())
		}
		if !slices.Equal(rest, twin) {
			t.Fatal("the rest differs")
		}
	})
}
