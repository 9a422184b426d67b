// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// TestTraditional: with FRR's traditional profile eBGP carries nothing without a policy (RFC 8212), as a lab with FRR
// 8.4 does: racks are cut from each other, and whole inside; with a filter in both directions all is well.
func TestTraditional(t *testing.T) {
	for _, filtered := range []bool{false, true} {
		d := designed(t, "model: as-per-rack", 3, 2)
		for i := range d.Devices {
			d.Devices[i].Traditional = d.Devices[i].Role == fabric.RoleToR
		}
		for i := range d.Profiles {
			if p := &d.Profiles[i]; p.Name == "tor-spine" && filtered {
				p.Import, p.Export = "endpoints", "endpoints"
			}
		}
		for _, family := range families {
			s, err := New(d, family)
			if err != nil {
				t.Fatal(err)
			}
			for to, cut := range map[string]bool{"r0-s1": false, "r2-s0": !filtered} {
				a, _ := s.Endpoint(to)
				p, err := s.Path("r0-s0", a, Failure{})
				if err != nil || (p.Lost > 0) != cut {
					t.Errorf("filtered %t, %s: %s loses %v, %v", filtered, family, to, p.Lost, err)
				}
			}
		}
	}
}
