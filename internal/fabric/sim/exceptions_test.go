// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// TestExceptions: under Downward Default with a block for each server, an endpoint that moved to another rack is
// reached from everywhere, in health and with any one thing down that leaves a way, and nobody has a route to it but
// spines, the rack in which it is and the rack in which its block is. Without exceptions its old rack cannot reach it.
func TestExceptions(t *testing.T) {
	for _, family := range families {
		for _, budget := range []string{"", ", downwardDefault: {exceptions: 4}"} {
			d := designed(t, "model: downward-default, endpoints: {perServer: 3, announce: server-block}"+budget, 3, 2)
			var moved netip.Prefix
			for i := range d.Devices {
				for _, o := range d.Devices[i].Originate {
					if d.Devices[i].Name == "r0-s0" && o.Kind == fabric.OriginBlock && is(o.Prefix.Addr(), family) {
						moved = netip.PrefixFrom(o.Prefix.Addr().Next(), o.Prefix.Addr().BitLen())
					}
				}
			}
			for i := range d.Devices {
				if x := &d.Devices[i]; x.Name == "r2-s1" {
					x.Originate = append(x.Originate, fabric.Origin{Kind: fabric.OriginMoved, Prefix: moved, Count: 1})
				}
			}
			s, all := healthy(t, d, family)
			var knows []string
			for name, routes := range all {
				if slices.ContainsFunc(routes, func(r Route) bool { return r.Prefix == moved && len(r.Via) > 0 }) {
					knows = append(knows, name)
				}
			}
			slices.Sort(knows)
			// In its own rack only the ToR needs it, and tells the others.
			want := []string{"r0-s0", "r0-s1", "r0-t0", "r2-s0", "r2-t0", "spine0", "spine1"}
			if budget == "" {
				want = []string{"r2-t0", "spine0", "spine1"}
			}
			if !slices.Equal(knows, want) {
				t.Errorf("%s%s: %v know where it is, want %v", family, budget, knows, want)
			}
			failures := []string{"", "spine0-r0-t0", "spine1-r2-t0", "spine0", "spine0-spine1"}
			for _, name := range failures {
				var f Failure
				if name != "" {
					var err error
					if f, err = s.Failure(name); err != nil {
						t.Fatal(err)
					}
				}
				for _, from := range []string{"r0-s0", "r0-s1", "r1-s0", "r2-s0"} {
					p, err := s.Path(from, moved.Addr(), f)
					if err != nil {
						t.Fatal(err)
					}
					if lost := p.Lost > 0; lost != (budget == "" && (from == "r0-s0" || from == "r0-s1")) {
						t.Errorf("%s%s, %q down: from %s %v is lost: %+v", family, budget, name, from, p.Lost, p.Branches)
					}
				}
			}
		}
	}
}
