// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"slices"
	"strings"
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
					if d.Devices[i].Name == "r0-s0" && o.Kind == fabric.OriginBlock && fabric.FamilyOf(o.Prefix.Addr()) == family {
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

// TestMovedTwice: a vRouter refuses what it is told of an endpoint that moved to it, as of any of its own.
func TestMovedTwice(t *testing.T) {
	d := designed(t, "model: ethernet, routeReflectors: {placement: none}", 2, 1)
	moved := netip.MustParsePrefix("10.64.99.1/32")
	for i := range d.Devices {
		if x := &d.Devices[i]; x.Role == fabric.RoleServer {
			x.Originate = append(x.Originate, fabric.Origin{Kind: fabric.OriginMoved, Prefix: moved, Count: 1})
		}
	}
	_, all := healthy(t, d, fabric.IPv4)
	paths := 0
	for _, r := range all["r0-s0"] {
		for _, p := range r.Paths {
			if r.Prefix == moved {
				paths++
				if !strings.Contains(p.Refused, "served here") {
					t.Errorf("%+v is not refused", p)
				}
			}
		}
	}
	if paths != 2 { // one on each plane
		t.Errorf("%d paths", paths)
	}
}

// TestLongestDiscard: a discard route goes before a shorter route, be it by one bit, and the longest of several is named.
func TestLongestDiscard(t *testing.T) {
	to := netip.MustParseAddr("198.51.100.1")
	for _, list := range [][]string{{"128.0.0.0/1"}, {"128.0.0.0/1", "192.0.0.0/2", "0.0.0.0/1"}} {
		d := designed(t, "model: as-per-rack, border: [{name: b1, as: 64999, default: true}]", 2, 1)
		for i := range d.Devices {
			if x := &d.Devices[i]; x.Name == "r0-t0" {
				for _, p := range list {
					x.Discard = append(x.Discard, netip.MustParsePrefix(p))
				}
			}
		}
		s, _ := healthy(t, d, fabric.IPv4)
		e, err := s.Explain("r0-t0", to, Failure{})
		if err != nil {
			t.Fatal(err)
		}
		if want := list[min(1, len(list)-1)]; e.Reached || e.Discard != netip.MustParsePrefix(want) {
			t.Errorf("%v: %+v, want it dropped by %s", list, e, want)
		}
		if e, err := s.Explain("r1-t0", to, Failure{}); err != nil || !e.Reached {
			t.Errorf("elsewhere: %v, %+v", err, e)
		}
	}
}
