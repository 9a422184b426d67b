// SPDX-License-Identifier: Apache-2.0

package sim

import (
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
