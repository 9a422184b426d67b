// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestScale: what is left of a fabric that is made smaller has the AS number, the router ID, the ports and the addresses that it had,
// and announces the first of its endpoints.
func TestScale(t *testing.T) {
	const edges = ", border: [{name: b1, as: 64999, default: true}], anycast: [{ip: 192.168.99.1, servers: [r0/s0, r3/s2]}, {ip: 192.168.99.2, servers: [r3/s2]}]" +
		", machines: [{name: db, rack: r0, addresses: 2}, {name: fw, rack: r1}, {name: lb, rack: r3}]"
	for _, spec := range []string{
		"model: as-per-rack, racks: {count: 4}" + edges,
		"model: as-per-rack, racks: {count: 4}, spine: {kind: l2}" + edges,
		"model: as-per-rack, racks: {count: 4}, inRack: {reflector: server}" + edges,
		"model: as-per-rack, racks: {count: 4}, inRack: {reflector: standalone}" + edges,
		"model: as-per-rack, racks: {count: 4}, inRack: {sessions: mesh}, pools: {as: {start: 64512}}" + edges,
		"model: as-per-rack, racks: [{name: r0, servers: 3, tors: 2}, {name: r1}, {name: r2, servers: 1}, {name: r3}]" + edges,
		"model: as-per-server, racks: {count: 4, tors: 2}" + edges,
		"model: as-per-server, racks: {count: 4}, servers: {perRack: 3, uplinks: segment}" + edges,
		"model: as-per-server, racks: {count: 4}, servers: {perRack: 3, uplinks: unnumbered}" + edges,
		"model: as-per-server, racks: {count: 4}, pools: {as: {start: 64512}}",
		"model: as-per-server, racks: {count: 4}, spine: {kind: l2}, tors: {as: shared}, pools: {as: {start: 64512}}",
		"model: as-per-server, racks: [{name: r0, servers: 3, tors: 2}, {name: r1}, {name: r2, servers: 1}, {name: r3}], pools: {as: {start: 64512}}",
		"model: downward-default, racks: {count: 4}, endpoints: {perServer: 4, announce: rack-block}" + edges,
		"model: downward-default, racks: {count: 4, tors: 2}, endpoints: {perServer: 4, announce: server-block}" + edges,
		"model: ethernet, racks: {count: 4}" + edges,
		"model: ethernet, racks: {count: 4}, routeReflectors: {hosts: servers}" + edges,
	} {
		for field, value := range map[string]string{"servers": "{perRack: 3}", "endpoints": "{perServer: 4}"} {
			if !strings.Contains(spec, " "+field+": {") {
				spec += ", " + field + ": " + value
			}
		}
		doc, err := Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {" + spec + "}"))
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		f := doc.Fabric
		full := f.Design().Index()
		for _, n := range [][3]int{{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 1, 1}, {3, 2, 3}, {2, 1, 9}, {99, 99, 99}} {
			name := fmt.Sprintf("%s: %v", spec, n)
			small := f.Scale(n[0], n[1], n[2])
			g := small.Design()
			servers := 0
			for i := range g.Devices {
				d := &g.Devices[i]
				was := full.Device(d.Name)
				if was == nil {
					t.Errorf("%s: %s is new", name, d.Name)
					continue
				}
				if d.AS != was.AS || d.RouterID != was.RouterID || d.Software != was.Software {
					t.Errorf("%s: %s has AS %d and ID %s, had %d and %s", name, d.Name, d.AS, d.RouterID, was.AS, was.RouterID)
				}
				for _, p := range d.Interfaces {
					if !slices.ContainsFunc(was.Interfaces, func(q Interface) bool {
						return p.Name == q.Name && p.Segment == q.Segment && slices.Equal(p.Addresses, q.Addresses)
					}) {
						t.Errorf("%s: %s has %+v, and had not", name, d.Name, p)
					}
				}
				for _, o := range d.Originate {
					if !slices.ContainsFunc(was.Originate, func(q Origin) bool { return o.Kind == q.Kind && o.Prefix == q.Prefix && o.Count <= q.Count }) {
						t.Errorf("%s: %s announces %+v, and did not", name, d.Name, o)
					}
				}
				for _, s := range d.Sessions {
					if !slices.ContainsFunc(was.Sessions, func(q Session) bool {
						return s.Peer == q.Peer && s.Segment == q.Segment && s.PeerAS == q.PeerAS && slices.Equal(s.Address, q.Address)
					}) && f.Spec.InRack.Reflector != OnServer {
						t.Errorf("%s: %s has a session %+v, and had not", name, d.Name, s)
					}
				}
				if d.Role == RoleServer {
					servers++
				}
			}
			racks, in := f.Spec.Racks.Count, f.Spec.Servers.PerRack
			if n[0] > 0 {
				racks = min(racks, n[0])
			}
			if n[1] > 0 {
				in = min(in, n[1])
			}
			if f.Spec.Racks.List == nil && servers != racks*in {
				t.Errorf("%s: %d servers, want %d", name, servers, racks*in)
			}
			// It is a fabric that could be in a file.
			e := &faults{lines: lines{}}
			small.check(e)
			if err := e.err(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
