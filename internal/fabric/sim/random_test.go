// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// spoil changes a design in a few random places, as people who write one by hand do.
func spoil(rng *rand.Rand, d *fabric.Design) (what string) {
	pick := func() *fabric.Device { return &d.Devices[rng.IntN(len(d.Devices))] }
	for range 1 + rng.IntN(3) {
		x := pick()
		k := rng.IntN(8)
		what += fmt.Sprintf(" %d:%s", k, x.Name)
		switch {
		case k == 0 && len(x.Sessions) > 0: // one end is missing
			i := rng.IntN(len(x.Sessions))
			x.Sessions = append(x.Sessions[:i:i], x.Sessions[i+1:]...)
		case k == 1 && len(x.Sessions) > 0: // a wrong AS number
			x.Sessions[rng.IntN(len(x.Sessions))].PeerAS++
		case k == 2 && len(x.Sessions) > 0: // another profile
			x.Sessions[rng.IntN(len(x.Sessions))].Profile = d.Profiles[rng.IntN(len(d.Profiles))].Name
		case k == 3 && len(x.Interfaces) > 0: // a cable is missing
			i := rng.IntN(len(x.Interfaces))
			x.Interfaces = append(x.Interfaces[:i:i], x.Interfaces[i+1:]...)
		case k == 4: // identifiers in another order
			y := pick()
			x.RouterID, y.RouterID = y.RouterID, x.RouterID
		case k == 5:
			x.Multipath = 1
		case k == 6 && len(x.Originate) > 0: // fewer endpoints, in one family
			x.Originate = x.Originate[1:]
		case k == 7:
			x.MultipathRelax = !x.MultipathRelax
		}
	}
	return what
}

// A design in which racks and servers differ in anything that matters is not taken for one in which they do not: spoiled
// designs of all variants against the twin. What has more than one stable state, or none, is left out: which of
// them is reached depends on who speaks first.
func TestSpoiledAgainstTwin(t *testing.T) {
	seeds := 2
	if *full {
		seeds = 40
	}
	for i, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			for seed := range seeds {
				rng := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
				d := v.size(6, 5, 1, 2).design()
				onlyEndpoints(d)
				what := spoil(rng, d)
				family := families[(i+seed)%2]
				slow := newTwin(d, family)
				s, err := New(d, family)
				if err != nil {
					t.Fatal(what, err)
				}
				rests := true
				for c := range s.g.classes {
					_, ok := slow.run(s.g.classes[c].prefix)
					rests = rests && ok
				}
				if !rests {
					t.Logf("seed %d:%s: does not come to rest", seed, what)
					continue
				}
				compare(t, d, family, nil)
				if t.Failed() {
					t.Fatalf("seed %d:%s", seed, what)
				}
			}
		})
	}
}
