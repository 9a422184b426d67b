// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// bird has servers run BIRD, whose routes from the kernel lose against those from BGP unless it is told
// otherwise.
func bird(d *fabric.Design, preferLocal bool) {
	for i := range d.Devices {
		if x := &d.Devices[i]; x.Role == fabric.RoleServer {
			x.Software, x.VRouter = fabric.BIRD, &fabric.VRouter{PreferLocal: preferLocal}
		}
	}
}

// With AS override at both tiers a server is told of its own endpoint. If it prefers that, it withdraws its own, is
// told of nothing, announces its own again, and so on for ever.
func TestRestless(t *testing.T) {
	p := variant{"", func(p *plan) { p.model, p.sharedSpine, p.override = "down", true, true }}.size(3, 2, 2, 2)
	for _, family := range families {
		for _, preferLocal := range []bool{false, true} {
			d := p.design()
			bird(d, preferLocal)
			s, err := New(d, family)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Tables(Failure{})
			var rest *Restless
			if errors.As(err, &rest) == preferLocal {
				t.Fatalf("%s: prefers its own: %t: %v", family, preferLocal, err)
			}
			if preferLocal {
				continue
			}
			own := slices.ContainsFunc(rest.Devices, func(x string) bool {
				return strings.HasPrefix(x, "s0.0: ") && strings.Contains(x, "itself") && strings.Contains(x, "t0.0 [65000")
			})
			if !own {
				t.Errorf("%s: %v does not say that s0.0 alternates between itself and what t0.0 tells it", family, rest)
			}
			r, err := s.Reach(Failure{})
			if err != nil || r.Whole() || len(r.Restless) == 0 {
				t.Errorf("%s: %v, %+v", family, err, r)
			}
		}
	}
}

// An address of two servers in a rack: the ToR spreads packets over both, unless one of the servers has given up its own
// for the sake of the other's.
func TestAnycastInARack(t *testing.T) {
	p := variant{"", func(p *plan) { p.model, p.segment, p.sharedSpine = "rack", true, true }}.size(3, 3, 2, 2)
	for _, preferLocal := range []bool{false, true} {
		d := p.design()
		bird(d, preferLocal)
		anycast := netip.MustParsePrefix("10.99.0.1/32")
		for i := range d.Devices {
			if x := &d.Devices[i]; x.Name == "s1.0" || x.Name == "s1.1" {
				x.Originate = append(x.Originate, fabric.Origin{Kind: fabric.OriginAnycast, Prefix: anycast, Count: 1})
			}
		}
		s, err := New(d, fabric.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		routes, err := s.Routes("t1.0", Failure{})
		if err != nil {
			t.Fatal(err)
		}
		want := 1
		if preferLocal {
			want = 2
		}
		for _, r := range routes {
			if r.Prefix == anycast && len(r.Via) != want {
				t.Errorf("prefers its own: %t: t1.0 has it via %+v", preferLocal, r.Via)
			}
		}
		// Whoever answers, packets from everywhere arrive.
		for _, from := range []string{"s0.0", "s1.2", "s1.1"} {
			way, err := s.Path(from, anycast.Addr(), Failure{})
			if err != nil || way.Lost > 0 {
				t.Errorf("prefers its own: %t: from %s: %v, %+v", preferLocal, from, err, way)
			}
		}
	}
}

// TestWidth: a device uses as many equal paths as it is told to, and one if it is told nothing.
func TestWidth(t *testing.T) {
	for multipath, want := range map[int]int{0: 1, 1: 1, 2: 2, 3: 3, 4: 4, 64: 4} {
		d := designed(t, "model: as-per-rack, spine: {count: 4}", 3, 2)
		for i := range d.Devices {
			if d.Devices[i].Role == fabric.RoleToR {
				d.Devices[i].Multipath = multipath
			}
		}
		for _, family := range families {
			s, err := New(d, family)
			if err != nil {
				t.Fatal(err)
			}
			tables, err := s.Tables(Failure{})
			if err != nil {
				t.Fatal(err)
			}
			if tor, _ := tables.Of("r1-t0"); tor.Width != want {
				t.Errorf("%s: with %d paths at once the widest group has %d next hops, want %d", family, multipath, tor.Width, want)
			}
		}
	}
}
