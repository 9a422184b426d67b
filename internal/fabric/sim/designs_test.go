// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// designs are fabrics as people describe them: what is added to a spec, with how many links of
// which a single failure loses traffic.
var designs = []struct {
	spec  string
	lossy int
}{
	{"model: as-per-rack", 0},
	{"model: as-per-rack, spine: {as: unique}", 0},
	{"model: as-per-rack, inRack: {sessions: mesh}", 0},
	{"model: as-per-rack, inRack: {reflector: server}", 0},
	{"model: as-per-rack, inRack: {reflector: standalone}", 0},
	{"model: as-per-rack, border: [{name: b1, as: 64999, default: true}]", 0},
	{"model: as-per-rack, endpoints: {perServer: 3, announce: server-block}", 0},
	{"model: as-per-rack, endpoints: {perServer: 3, announce: rack-block}", 0},
	{"model: as-per-rack, racks: TWO", 0},
	{"model: as-per-rack, racks: TWO, tors: {isl: true}", 0},
	{"model: as-per-rack, spine: {kind: l2}", 0},
	{"model: as-per-rack, spine: {kind: l2}, bgp: {roles: on}", 0},
	{"model: as-per-rack, spine: {kind: l2}, racks: TWO", 0},
	{"model: as-per-server", 0},
	{"model: as-per-server, spine: {as: unique}", 0},
	{"model: as-per-server, servers: {perRack: N, uplinks: segment}", 0},
	{"model: as-per-server, servers: {perRack: N, uplinks: unnumbered}", 0},
	{"model: as-per-server, racks: TWO", 0},
	{"model: as-per-server, racks: TWO, bgp: {roles: on}", 0},
	{"model: as-per-server, spine: {kind: l2}", 0},
	{"model: as-per-server, spine: {kind: l2}, racks: TWO", 0},
	{"model: as-per-server, spine: {kind: l2}, racks: TWO, bgp: {roles: on}", 0},
	{"model: as-per-server, spine: {kind: l2}, racks: TWO, tors: {as: shared}", 0},
	{"model: as-per-server, spine: {kind: l2}, tors: {as: shared}", 0},
	{"model: downward-default", 0},
	{"model: downward-default, downwardDefault: {fallback: none}", 1},
	{"model: downward-default, downwardDefault: {fallback: border}, border: [{name: b1, as: 64999, default: true}]", 0},
	{"model: downward-default, downwardDefault: {fallback: dual-tor}, racks: TWO", 0},
	{"model: downward-default, downwardDefault: {asOverride: true}, bgp: {advanced: [{name: as-override, reason: anycast}]}", 0},
	{"model: downward-default, spine: {kind: l2}", 0},
	{"model: downward-default, spine: {kind: l2}, racks: TWO", 0},
	{"model: ethernet", 0},
	{"model: ethernet, routeReflectors: {placement: none}", 0},
	{"model: ethernet, routeReflectors: {placement: none}, border: [{name: b1, as: 64999, default: true}]", 0},
	{"model: ethernet, routeReflectors: {placement: all-planes}", 1},
	{"model: ethernet, routeReflectors: {placement: all-planes, addPath: true}", 0},
	{"model: ethernet, routeReflectors: {placement: all-planes, addPath: true}, border: [{name: b1, as: 64999, default: true}]", 0},
	{"model: ethernet, routeReflectors: {hosts: servers}", 0},
	{"model: as-per-rack, machines: [{name: db, rack: r1}, {name: lb, rack: r1, as: 65100}, {name: fw, rack: r2, attach: port, addresses: 3}]", 0},
	{"model: as-per-rack, inRack: {sessions: mesh}, machines: [{name: db, rack: r1, software: bird}, {name: fw, rack: r1, attach: port}]", 0},
	{"model: as-per-rack, inRack: {reflector: server}, machines: [{name: db, rack: r0}, {name: fw, rack: r0, routing: static}]", 0},
	{"model: as-per-rack, racks: TWO, machines: [{name: db, rack: r1}, {name: fw, rack: r1, routing: static, attach: port}]", 0},
	{"model: as-per-rack, endpoints: {perServer: 3, announce: server-block}, machines: [{name: db, rack: r1}, {name: fw, rack: r1, routing: static}]", 0},
	{"model: as-per-server, machines: [{name: db, rack: r1, addresses: 1, prefixes: [203.0.113.0/28]}, {name: fw, rack: r1, routing: static}]", 0},
	{"model: downward-default, machines: [{name: db, rack: r1}, {name: fw, rack: r0, routing: static, addresses: 2}]", 0},
	{"model: ethernet, machines: [{name: db, rack: r1, addresses: 2}]", 0},
	{"model: ethernet, routeReflectors: {placement: none}, machines: [{name: db, rack: r1}]", 0},
	{"model: as-per-rack, anycast: [{ip: 192.168.99.1, servers: [r0/s0, r1/s1]}]", 0},
	{"model: as-per-rack, anycast: [{ip: 192.168.99.1, servers: [r0/s0, r0/s1]}]", 0},
	{"model: as-per-server, anycast: [{ip: 192.168.99.1, servers: [r0/s0, r1/s1]}, {ip: 'fd00:99::1', servers: [r0/s0, r0/s1]}]", 0},
	{"model: downward-default, downwardDefault: {asOverride: true}, bgp: {advanced: [{name: as-override, reason: anycast}]}, anycast: [{ip: 192.168.99.1, servers: [r0/s0, r1/s1]}, {ip: 'fd00:99::1', servers: [r0/s0, r0/s1]}]", 0},
	{"model: ethernet, anycast: [{ip: 192.168.99.1, servers: [r0/s0, r1/s1]}, {ip: 'fd00:99::1', servers: [r0/s0, r0/s1]}]", 0},
	{"model: ethernet, border: [{name: b1, as: 64999, default: true}], anycast: [{ip: 192.168.99.1, servers: [r0/s0, r1/s1]}, {ip: 'fd00:99::1', servers: [r0/s0, r0/s1]}]", 0},
}

// designed reads a spec at a size.
func designed(t testing.TB, spec string, racks, servers int) *fabric.Design {
	t.Helper()
	spec = strings.ReplaceAll(spec, "TWO", fmt.Sprintf("{count: %d, tors: 2}", racks))
	spec = strings.ReplaceAll(spec, "perRack: N", fmt.Sprintf("perRack: %d", servers))
	for name, text := range map[string]string{"racks": fmt.Sprintf("{count: %d}", racks), "servers": fmt.Sprintf("{perRack: %d}", servers),
		"endpoints": "{perServer: 2}"} {
		if !strings.Contains(spec, ", "+name+": {") {
			spec += fmt.Sprintf(", %s: %s", name, text)
		}
	}
	doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {families: [ipv4, ipv6], " + spec + "}"))
	if err != nil {
		t.Fatal(err)
	}
	return doc.Fabric.Design()
}

// What the designer makes works: everybody reaches everybody, and goes on to with any one link, port,
// switch, router or reflector down, but for the designs that are known to lose some; and all of that is as the
// twin says, in fabrics that are larger than a scene.
func TestDesigns(t *testing.T) {
	for i, c := range designs {
		t.Run(c.spec, func(t *testing.T) {
			t.Parallel()
			for _, family := range turn(i) {
				d := designed(t, c.spec, 5, 5)
				s, err := New(d, family)
				if err != nil {
					t.Fatal(err)
				}
				if p := s.Problems(); len(p) > 0 {
					t.Errorf("sessions that stay down: %q", p)
				}
				w, err := s.WhatIf(1)
				if err != nil {
					t.Fatal(err)
				}
				n := 0 // servers, and machines with BGP
				for j := range d.Devices {
					if r := d.Devices[j].Role; r == fabric.RoleServer || r == fabric.RoleMachine {
						n++
					}
				}
				if !w.Healthy.Whole() || n < 25 || w.Healthy.Pairs != n*(n-1) || w.Healthy.Apart != 0 {
					t.Errorf("healthy: %+v", w.Healthy)
				}
				for _, r := range w.Cases {
					if lossy := !r.Whole(); lossy && c.lossy == 0 {
						t.Errorf("%+v", r)
					}
				}
				lossy := 0
				for _, sum := range w.Sums {
					lossy += sum.Lossy
				}
				if c.lossy > 0 && lossy == 0 {
					t.Error("no failure loses anything")
				}
				if !strings.Contains(c.spec, "unnumbered") { // of which the twin knows nothing
					compare(t, d, family, nil)
				}
			}
		})
	}
}

// healthy returns a simulation of a design, and the routes of all devices in it while nothing has failed.
func healthy(t *testing.T, d *fabric.Design, family fabric.Family) (*Sim, map[string][]Route) {
	t.Helper()
	s, err := New(d, family)
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.RoutesOfAll(Failure{})
	if err != nil {
		t.Fatal(err)
	}
	return s, all
}

// TestBlocksAreAlike: servers and racks that announce blocks change places as those do that announce endpoints one by one: each discards
// what is in its own block, and no more are looked at by themselves.
func TestBlocksAreAlike(t *testing.T) {
	for _, spec := range []string{"model: as-per-rack", "model: as-per-rack, racks: TWO", "model: as-per-server", "model: downward-default"} {
		for _, announce := range []string{"one-by-one", "server-block", "rack-block"} {
			g := designed(t, spec+", endpoints: {perServer: 3, announce: "+announce+"}", 6, 7)
			s, err := New(g, fabric.IPv4)
			if err != nil {
				t.Fatal(err)
			}
			if racks, servers := len(s.g.kinds.of), len(s.g.kinds.leafKind); racks != 1 || servers != 1 {
				t.Errorf("%s, %s: %d kinds of racks and %d of servers", spec, announce, racks, servers)
			}
		}
	}
	// Who discards the block of another one is not like those that discard their own.
	g := designed(t, "model: as-per-rack, endpoints: {perServer: 3, announce: server-block}", 6, 7)
	x := g.Index()
	p, q := x.Device("r2-s3"), x.Device("r2-s4")
	p.Discard, q.Discard = q.Discard, p.Discard
	s, err := New(g, fabric.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	if racks, servers := len(s.g.kinds.of), len(s.g.kinds.leafKind); racks != 2 || servers != 2 {
		t.Errorf("two that discard each other's: %d kinds of racks and %d of servers", racks, servers)
	}
}
