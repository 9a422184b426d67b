// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"math/rand/v2"
	"testing"
)

// What is owed is given once, against a plain set, in whatever portions.
func TestOwedAgainstTwin(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		var o owed
		twin := map[pathRef]bool{}
		for range 50 {
			for range rng.IntN(20) {
				ref := pathRef{nearPrefix(rng), uint32(max(rng.IntN(4)-1, 0))}
				o.add(ref)
				twin[ref] = true
			}
			if o.len() != len(twin) {
				t.Fatalf("%d owed, want %d", o.len(), len(twin))
			}
			n := rng.IntN(15)
			got := o.take(n)
			if len(got) != min(n, len(twin)) {
				t.Fatalf("took %d of %d, want %d", len(got), len(twin), n)
			}
			for _, ref := range got {
				if !twin[ref] {
					t.Fatalf("%v was not owed", ref)
				}
				delete(twin, ref)
			}
		}
	}
}
