// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"strings"
	"testing"
)

// TestSizes holds the formulas against worked examples, with four spines or
// planes and one ToR in each rack.
func TestSizes(t *testing.T) {
	type row struct{ paths, routes, peers, mb int }
	for _, size := range []struct {
		racks, servers, endpoints int
		want                      map[string]map[Role]row
		updates                   map[string]int
	}{
		{8, 80, 200, map[string]map[Role]row{
			"as-per-rack l2":          {RoleServer: {128000, 127800, 1, 0}, RoleToR: {3152000, 128000, 108, 1342}},
			"as-per-rack l2 roles":    {RoleServer: {128000, 127800, 1, 0}, RoleToR: {464000, 128000, 108, 240}},
			"as-per-rack l3 no roles": {RoleToR: {464000, 128000, 84, 240}, RoleSpine: {1024000, 128000, 8, 469}},
			"as-per-rack l3 unique":   {RoleToR: {464000, 128000, 84, 240}, RoleSpine: {128000, 128000, 8, 102}},
			"as-per-rack l3":          {RoleServer: {128000, 127800, 1, 0}, RoleToR: {464000, 128000, 84, 240}, RoleSpine: {128000, 128000, 8, 102}},
			"downward-default none":   {RoleServer: {201, 0, 1, 0}, RoleToR: {16004, 16000, 84, 26}, RoleSpine: {128000, 128000, 8, 102}},
			"downward-default l3":     {RoleServer: {201, 0, 1, 0}, RoleToR: {16004, 16000, 84, 26}, RoleSpine: {512000, 128000, 11, 259}},
			"downward-default l2":     {RoleServer: {201, 0, 1, 0}, RoleToR: {464000, 128000, 108, 240}},
			"ethernet":                {RoleServer: {1022600, 127800, 8, 0}, RoleReflector: {256000, 0, 641, 0}},
			"ethernet mesh":           {RoleServer: {511400, 127800, 2556, 0}},
		}, map[string]int{"as-per-rack l2": 836, "as-per-rack l2 roles": 668, "as-per-rack l3 no roles": 693, "as-per-rack l3": 672, "downward-default none": 5,
			"downward-default l3": 17, "downward-default l2": 29, "ethernet": 5120, "ethernet mesh": 2556}},
		{32, 40, 100, map[string]map[Role]row{
			"as-per-rack l2":          {RoleServer: {128000, 127900, 1, 0}, RoleToR: {15380000, 128000, 164, 6355}},
			"as-per-rack l2 roles":    {RoleToR: {500000, 128000, 164, 255}},
			"as-per-rack l3 no roles": {RoleToR: {500000, 128000, 44, 255}, RoleSpine: {4096000, 128000, 32, 1729}},
			"as-per-server l3":        {RoleServer: {128000, 127900, 1, 0}, RoleToR: {500000, 128000, 44, 255}, RoleSpine: {128000, 128000, 32, 102}},
			"downward-default l3":     {RoleServer: {101, 0, 1, 0}, RoleToR: {4004, 4000, 44, 18}, RoleSpine: {512000, 128000, 35, 259}},
			"ethernet":                {RoleServer: {1023300, 127900, 8, 0}, RoleReflector: {256000, 0, 1281, 0}},
		}, map[string]int{"as-per-rack l2": 5124, "as-per-rack l2 roles": 1404, "as-per-rack l3 no roles": 1501, "as-per-server l3": 1408, "ethernet": 10240}},
		{100, 40, 100, map[string]map[Role]row{
			"as-per-rack l2":          {RoleToR: {156820000, 400000, 436, 64419}},
			"as-per-rack l3 no roles": {RoleToR: {1588000, 400000, 44, 774}, RoleSpine: {40000000, 400000, 100, 16523}},
			"downward-default l2":     {RoleToR: {1588000, 400000, 436, 774}},
			"ethernet mesh":           {RoleServer: {1599700, 399900, 15996, 0}},
		}, map[string]int{"as-per-rack l2": 43204, "as-per-rack l3 no roles": 4697, "downward-default l2": 397, "ethernet mesh": 15996}},
	} {
		for name, want := range size.want {
			spec := map[string]string{
				"as-per-rack l2":          "model: as-per-rack, spine: {kind: l2, count: 4}",
				"as-per-rack l2 roles":    "model: as-per-rack, spine: {kind: l2, count: 4}, bgp: {roles: on}",
				"as-per-rack l3 no roles": "model: as-per-rack, spine: {as: unique, count: 4}, bgp: {roles: off}",
				"as-per-rack l3 unique":   "model: as-per-rack, spine: {as: unique, count: 4}",
				"as-per-rack l3":          "model: as-per-rack, spine: {count: 4}",
				"as-per-server l3":        "model: as-per-server, spine: {count: 4}",
				"downward-default none":   "model: downward-default, spine: {count: 4}, downwardDefault: {fallback: none}",
				"downward-default l3":     "model: downward-default, spine: {count: 4}",
				"downward-default l2":     "model: downward-default, spine: {kind: l2, count: 4}",
				"ethernet":                "model: ethernet, spine: {count: 4}",
				"ethernet mesh":           "model: ethernet, spine: {count: 4}, routeReflectors: {placement: none}",
			}[name]
			x := fabricOf(t, spec, size.racks, size.servers, size.endpoints).Design().Index()
			for _, family := range []Family{IPv4, IPv6} {
				s, ok := x.Sizes(family)
				if !ok || s.Updates != size.updates[name] && size.updates[name] != 0 {
					t.Errorf("%s, %d racks: %d UPDATEs, want %d", name, size.racks, s.Updates, size.updates[name])
				}
				roles := map[Role]int{}
				for _, z := range s.Devices {
					roles[z.Role]++
					w, ok := want[z.Role]
					if got := (row{z.Paths, z.Routes, z.Peers, w.mb}); ok && got != w {
						t.Errorf("%s %s, %d racks: %s has %+v, want %+v", name, family, size.racks, z.Device, got, w)
					}
					if got := int(z.Memory+5e5) / 1e6; ok && w.mb != 0 && (got < w.mb-1 || got > w.mb+1) {
						t.Errorf("%s, %d racks: %s takes %d MB, want %d", name, size.racks, z.Device, got, w.mb)
					}
				}
				for role := range want {
					if roles[role] != 1 {
						t.Errorf("%s: %d sizes of a %s", name, roles[role], role)
					}
				}
			}
		}
	}
}

// TestSizesOfNoModel: there is no formula for what somebody wrote by hand.
func TestSizesOfNoModel(t *testing.T) {
	g := fabricOf(t, variants["ethernet"], 2, 2, 2).Design()
	g.Model = ""
	if _, ok := g.Index().Sizes(IPv4); ok {
		t.Error("sized")
	}
}

// TestSizesOfBlocks: a block is one route, whatever it holds.
func TestSizesOfBlocks(t *testing.T) {
	for name, want := range map[string][2]int{"as-per-rack l3 server blocks": {9, 0}, "as-per-rack l3 rack blocks": {5, 0}, "as-per-rack l3": {36, 36}} {
		s, _ := fabricOf(t, variants[name], 3, 3, 4).Design().Index().Sizes(IPv4)
		for _, z := range s.Devices {
			if z.Role == RoleToR && [2]int{z.Routes, z.Hosts} != want {
				t.Errorf("%s: %d routes, %d to single addresses, want %v", name, z.Routes, z.Hosts, want)
			}
		}
	}
}

// TestStrays: endpoints that may be outside of their blocks are entries of every table that they come to, and routes
// to exceptions are in the table of single addresses.
func TestStrays(t *testing.T) {
	const blocks, host = ", endpoints: {perServer: 4, announce: server-block, strays: 10}", ", switches: {tor: {hostTable: 1k, hostRoutesIn: host}, spine: {lpmTable: 1k}}"
	for spec, want := range map[string]map[Role][2]int{ // strays, and how many entries more than without
		"model: as-per-rack" + blocks + host:                                        {RoleServer: {10, 10}, RoleToR: {10, 10}, RoleSpine: {10, 10}},
		"model: downward-default" + blocks + host:                                   {RoleServer: {0, 0}, RoleToR: {4, 4}, RoleSpine: {10, 10}}, // of 3 racks
		"model: downward-default, downwardDefault: {exceptions: 7}" + blocks + host: {RoleServer: {0, 7}, RoleToR: {4, 11}, RoleSpine: {10, 10}},
		"model: downward-default, spine: {kind: l2}" + blocks:                       {RoleServer: {0, 0}, RoleToR: {10, 10}},
		"model: as-per-rack, families: [ipv4, ipv6]" + blocks:                       {RoleServer: {20, 30}, RoleToR: {20, 30}}, // two entries for one of IPv6
	} {
		entries := func(spec string) map[Role]Entries {
			doc, err := Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {racks: {count: 3}, servers: {perRack: 2}, " + spec + "}"))
			if err != nil {
				t.Fatalf("%s: %v", spec, err)
			}
			list, _, _ := doc.Fabric.Design().Index().Entries()
			of := map[Role]Entries{}
			for _, e := range list {
				of[e.Role] = e
			}
			return of
		}
		with, without := entries(spec), entries(strings.NewReplacer(", strays: 10", "", ", downwardDefault: {exceptions: 7}", "").Replace(spec))
		for role, w := range want {
			if got := [2]int{with[role].Strays, with[role].Used - without[role].Used}; got != w {
				t.Errorf("%s: %s has %d strays and %d entries more, want %v", spec, role, got[0], got[1], w)
			}
		}
	}
}

// TestEntriesApart: devices that differ in one family only, or in their platform, are entries of their own, with what
// they hold of both families; and every device is alike one that has an entry.
func TestEntriesApart(t *testing.T) {
	doc, err := Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec:\n  model: as-per-rack\n  racks: {count: 3}\n  servers: {perRack: 2}\n  endpoints: {perServer: 2}\n" +
		"  families: [ipv4, ipv6]\n  switches: {tor: {hostTable: 1k, hostRoutesIn: host}}\n  machines: [{name: lb, rack: r1, prefixes: [203.0.113.1/32]}]"))
	if err != nil {
		t.Fatal(err)
	}
	g := doc.Fabric.Design()
	g.Platforms = append(g.Platforms, Platform{Name: "small", HostTable: 8})
	for i := range g.Devices {
		if g.Devices[i].Name == "r2-t0" {
			g.Devices[i].Platform = "small"
		}
	}
	x := g.Index()
	list, _, ok := x.Entries()
	if !ok {
		t.Fatal("no formulas")
	}
	alike, all := x.Alike(), 0
	for _, e := range list {
		all += e.Devices
		if alike[e.Device] != e.Device {
			t.Errorf("%s is the first of those like %s", e.Device, alike[e.Device])
		}
		var want Entries
		for _, family := range x.Families {
			z := x.counts(family).size(x.Device(e.Device))
			want.Paths, want.Routes = want.Paths+z.Paths, want.Routes+z.Routes
		}
		if e.Paths != want.Paths || e.Routes != want.Routes || e.Paths == 0 {
			t.Errorf("%s: %d paths %d routes, want %d and %d", e.Device, e.Paths, e.Routes, want.Paths, want.Routes)
		}
	}
	if all != len(g.Devices) {
		t.Errorf("%d of %d devices", all, len(g.Devices))
	}
	if alike["r2-t0"] != "r2-t0" || alike["lb"] != "lb" || alike["r2-s1"] == "r2-s1" {
		t.Errorf("%v", alike)
	}
	for _, e := range list {
		if e.Device == "r2-t0" && e.Holds != 8 {
			t.Errorf("%+v", e)
		}
	}
}

// TestIPv6TakesTwo: a route of IPv6 takes two entries of a table.
func TestIPv6TakesTwo(t *testing.T) {
	used := func(families string) int {
		doc, err := Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {model: as-per-rack, racks: {count: 3}, servers: {perRack: 2}, endpoints: {perServer: 2}, families: " + families + "}"))
		if err != nil {
			t.Fatal(err)
		}
		list, _, _ := doc.Fabric.Design().Index().Entries()
		return list[0].Used
	}
	if v4, v6, both := used("[ipv4]"), used("[ipv6]"), used("[ipv4, ipv6]"); v4 == 0 || v6 != 2*v4 || both != v4+v6 {
		t.Errorf("%d of IPv4, %d of IPv6, %d of both", v4, v6, both)
	}
}

// TestNoPort: a server with nothing but its loopback, or not even that, is counted like others.
func TestNoPort(t *testing.T) {
	for n := range 2 {
		g := fabricOf(t, variants["ethernet"], 2, 2, 2).Design()
		for i := range g.Devices {
			if d := &g.Devices[i]; d.Name == "r0-s0" {
				d.Interfaces = d.Interfaces[:n]
			}
		}
		if list, _, _ := g.Index().Entries(); len(list) == 0 {
			t.Errorf("with %d interfaces nothing is counted", n)
		}
	}
}
