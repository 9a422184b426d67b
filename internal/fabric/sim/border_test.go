// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// TestBorderOfMesh: a border beside a full mesh has each endpoint by the server that has it, once on each plane, and
// sends packets there, not by way of others; in the servers' tables the default route leads to the border.
func TestBorderOfMesh(t *testing.T) {
	d := designed(t, "model: ethernet, routeReflectors: {placement: none}, border: [{name: b1, as: 64999, default: true}]", 3, 2)
	for _, family := range families {
		_, tables := healthy(t, d, family)
		servers := 0
		for i := range d.Devices {
			x := &d.Devices[i]
			if x.Role != fabric.RoleServer {
				continue
			}
			servers++
			for _, o := range x.Originate {
				if fabric.FamilyOf(o.Prefix.Addr()) == family {
					straight(t, tables["b1"], "b1", x.Name, o)
				}
			}
			straight(t, tables[x.Name], x.Name, "b1", fabric.Origin{Kind: fabric.OriginDefault, Prefix: family.Default()})
		}
		if servers != 6 {
			t.Errorf("%d servers", servers)
		}
	}
}

// straight fails the test unless routes have what another device originates on two planes, each time at the address of that.
func straight(t *testing.T, routes []Route, device, other string, o fabric.Origin) {
	t.Helper()
	for _, r := range routes {
		if r.Prefix != o.Prefix {
			continue
		}
		planes := map[string]bool{}
		for _, v := range r.Via {
			planes[v.Segment] = true
			if v.Device != other || v.Many != 1 {
				t.Errorf("%s: %s via %+v, want %s", device, r.Prefix, v, other)
			}
		}
		if len(planes) != 2 || len(r.Via) != 2 {
			t.Errorf("%s: %s via %+v", device, r.Prefix, r.Via)
		}
		for _, p := range r.Paths {
			if o.Kind != fabric.OriginDefault && p.From != other {
				t.Errorf("%s: %s is told of %s", device, p.From, r.Prefix)
			}
		}
		return
	}
	t.Errorf("%s has no route to %s", device, o.Prefix)
}

// TestWaysOut: with any one thing down but the border, servers that are in touch with more than their rack lose nothing of what they
// send out of the fabric; and where a spine without its link to the border drops half of that, it is found.
func TestWaysOut(t *testing.T) {
	const one = ", border: [{name: b1, as: 64999, default: true}]"
	for spec, want := range map[string]string{
		"model: as-per-rack" + one: "", "model: as-per-server, spine: {as: unique}" + one: "", "model: as-per-rack, spine: {kind: l2}" + one: "", "model: ethernet" + one: "",
		"model: downward-default" + one: "", "model: downward-default, spine: {count: 3, as: unique}" + one: "",
		"model: downward-default, endpoints: {perServer: 2, announce: server-block}, downwardDefault: {exceptions: 3}" + one: "",
		"model: downward-default, downwardDefault: {fallback: border}" + one:                                                 "spine0-b1: 9 of 9 lose 0.5",
		"model: downward-default": "",
	} {
		d := designed(t, spec, 3, 3)
		for _, family := range families {
			s, err := New(d, family)
			if err != nil {
				t.Fatal(err)
			}
			w, err := s.WhatIf(1)
			if err != nil {
				t.Fatal(err)
			}
			list, err := s.Exits(w)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range list {
				got = append(got, fmt.Sprintf("%s: %d of %d lose %g", r.Failure, r.Cut+r.Partly, r.Pairs, r.Worst))
			}
			if text := strings.Join(got, ", "); want == "" && text != "" || want != "" && !strings.Contains(text, want) {
				t.Errorf("%s, %s: %q, want %q", spec, family, text, want)
			}
		}
	}
}

// TestBorderOfReflectors: reflectors forward nothing, and a border and servers send straight to each other,
// also where a reflector tells on one plane of a next hop on another.
func TestBorderOfReflectors(t *testing.T) {
	for _, placement := range []string{"per-plane", "all-planes, addPath: true"} {
		d := designed(t, "model: ethernet, routeReflectors: {placement: "+placement+"}, border: [{name: b1, as: 64999, default: true}]", 3, 2)
		for _, family := range families {
			_, tables := healthy(t, d, family)
			n := 0
			for name, routes := range tables {
				if strings.Contains(name, "-rr") || strings.HasPrefix(name, "rr") {
					continue
				}
				for _, r := range routes {
					for _, v := range r.Via {
						n++
						if strings.Contains(v.Device, "rr") {
							t.Errorf("%s, %s: %s sends %s by way of %s", placement, family, name, r.Prefix, v.Device)
						}
					}
				}
			}
			if n < 50 {
				t.Errorf("%s, %s: %d next hops", placement, family, n)
			}
		}
	}
}

// TestLinkLocalNextHops: a ToR tells a border on its plane of the routes of the others, too, with their own next hops. A
// border with FRR takes for IPv6 the link-local address beside that, which is the ToR's that told of it.
func TestLinkLocalNextHops(t *testing.T) {
	pools := []netip.Prefix{netip.MustParsePrefix("10.64.0.0/12"), netip.MustParsePrefix("fd00:64::/48")}
	for _, c := range []struct {
		border fabric.Software
		family fabric.Family
		want   int // next hops of an endpoint of a rack with two ToRs, of three racks on two planes
	}{
		{fabric.FRR, fabric.IPv4, 8}, // on one plane the two, on the other all
		{fabric.FRR, fabric.IPv6, 12},
		{fabric.BIRD, fabric.IPv6, 8},
	} {
		d := designed(t, "model: downward-default, spine: {kind: l2}, racks: {count: 3, tors: 2}, downwardDefault: {origin: border}, "+
			"border: [{name: b1, as: 64999, default: true}]", 3, 2)
		d.Devices[slices.IndexFunc(d.Devices, func(x fabric.Device) bool { return x.Name == "b1" })].Software = c.border
		_, tables := healthy(t, d, c.family)
		seen := 0
		for _, r := range tables["b1"] {
			if !pools[0].Contains(r.Prefix.Addr()) && !pools[1].Contains(r.Prefix.Addr()) {
				continue
			}
			seen++
			if len(r.Via) != c.want || len(r.Paths) != 12 {
				t.Errorf("%s, %s: %s has %d next hops, want %d, of %d paths", c.border, c.family, r.Prefix, len(r.Via), c.want, len(r.Paths))
			}
			of := map[netip.Addr]int{} // paths that have it for a next hop
			for _, p := range r.Paths {
				of[p.NextHop]++
			}
			if len(of) != 8 {
				t.Errorf("%s, %s: %s is told with %d next hops, want 8", c.border, c.family, r.Prefix, len(of))
			}
		}
		if seen != 6 { // each stands for two
			t.Errorf("%s, %s: %d endpoints", c.border, c.family, seen)
		}
	}
}

// TestStaticRoutesGoWithTheirPort: what a ToR announces for a machine without BGP is there while the port to it is.
func TestStaticRoutesGoWithTheirPort(t *testing.T) {
	for _, spec := range []string{"model: downward-default", "model: as-per-rack", "model: as-per-rack, spine: {kind: l2}", "model: as-per-server"} {
		d := designed(t, spec+", machines: [{name: fw, rack: r1, routing: static, attach: port}]", 3, 2)
		for _, family := range families {
			s, err := New(d, family)
			if err != nil {
				t.Fatal(err)
			}
			static := 0
			for _, down := range [][]string{nil, {"r1-t0--fw"}, {"r1-t0-r1-t0--fw"}} {
				f, err := s.Failure(down...)
				if err != nil {
					t.Fatal(err)
				}
				all, err := s.RoutesOfAll(f)
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for _, r := range slices.Concat(slices.Collect(maps.Values(all))...) {
					if r.Prefix == d.Index().Device("r1-t0").Static[0].Prefix || r.Prefix == d.Index().Device("r1-t0").Static[1].Prefix {
						n++
					}
				}
				if down == nil {
					static = n
				}
				if down == nil && n == 0 || down != nil && n > 0 {
					t.Errorf("%s, %s: with %v down %d routes to the machine, %d before", spec, family, down, n, static)
				}
			}
		}
	}
}

// TestReflectorsForRoutersStaySo: a server with an anycast address takes the other's path from no reflector for routers,
// whether the router is there or not.
func TestReflectorsForRoutersStaySo(t *testing.T) {
	d := designed(t, "model: ethernet, border: [{name: b1, as: 64999, default: true}], anycast: [{ip: 10.199.0.1, servers: [r0/s0, r2/s0]}]", 3, 2)
	s, err := New(d, fabric.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	for _, down := range [][]string{nil, {"b1"}, {"b1-plane0"}} {
		f, err := s.Failure(down...)
		if err != nil {
			t.Fatal(err)
		}
		routes, err := s.Routes("r2-s0", f)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(routes, func(r Route) bool { return r.Prefix.String() == "10.199.0.1/32" })
		if i < 0 || !routes[i].Local || slices.ContainsFunc(routes[i].Paths, func(p RoutePath) bool { return p.Refused == "" }) {
			t.Errorf("with %v down: %+v", down, routes[max(i, 0)])
		}
	}
}
