// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func machinesOf(t *testing.T, more, list string) (*Design, error) {
	t.Helper()
	doc, err := Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec:\n  racks: {count: 2, tors: 1}\n  servers: {perRack: 4}\n  endpoints: {perServer: 2}\n  families: [ipv4, ipv6]\n  " +
		more + "\n  machines:\n" + list))
	if err != nil {
		return nil, err
	}
	return doc.Fabric.Design(), nil
}

// TestMachineFaults: what has no place is refused with line, field and fix.
func TestMachineFaults(t *testing.T) {
	for _, c := range []struct{ more, machine, want string }{
		{"model: as-per-rack", "{name: db, rack: r7}", `line 11: spec.machines[0].rack: "r7": want the name of a rack, such as r0`},
		{"model: as-per-rack", "{name: DB, rack: r0}", `line 11: spec.machines[0].name: "DB": want small letters`},
		{"model: as-per-rack", "{name: db, rack: r0, routng: static}", `line 11: spec.machines[0].routng: unknown field: did you mean "routing"?`},
		{"model: as-per-rack", "{name: db, rack: r0, routing: ospf}", `line 11: spec.machines[0].routing: "ospf": `},
		{"model: as-per-rack", "{name: db, rack: r0, addresses: 65}", `line 11: spec.machines[0].addresses: 65: want 0 to 64 addresses`},
		{"model: as-per-rack", "{name: db, rack: r0, routing: static, as: 65100}", `line 11: spec.machines[0].as: 65100: leave it out: only BGP has AS numbers`},
		{"model: as-per-rack", "{name: db, rack: r0, software: muslin}", `line 11: spec.machines[0].software: muslin: want frr or bird`},
		{"model: as-per-rack", "{name: db, rack: r0, prefixes: [10.64.9.0/24]}", `line 11: spec.machines[0].prefixes[0]: 10.64.9.0/24 overlaps a pool: addresses of pools come by their number`},
		{"model: as-per-rack", "{name: db, rack: r0, prefixes: [203.0.113.1/24]}", `line 11: spec.machines[0].prefixes[0]: 203.0.113.1/24: want a prefix of a family that is routed`},
		{"model: as-per-rack, pools: {as: {start: 64600}}", "{name: db, rack: r0, attach: port}", `line 11: spec.machines[0].as: missing: want an AS number of its own`},
		{"model: downward-default", "{name: db, rack: r0, attach: segment}", `line 11: spec.machines[0].attach: the racks have no segment: want port, or spec.servers.uplinks: segment`},
		{"model: ethernet", "{name: db, rack: r0, routing: static}", `line 11: spec.machines[0].routing: static: want bgp: switches announce nothing for it`},
		{"model: ethernet", "{name: db, rack: r0, attach: port}", `line 11: spec.machines[0].attach: port: leave it out: it has a port on each plane`},
		{"model: as-per-rack\n  plan: {serversPerRack: 16}", strings.Repeat("{name: a, rack: r0}\n  - ", 13) + "{name: z, rack: r0}", `line 10: spec.plan.serversPerRack: 16: want 18 to 4096 servers, those of the fullest rack`},
	} {
		more := strings.Replace(c.more, ", pools", "\n  pools", 1)
		_, err := machinesOf(t, more, "  - "+c.machine)
		if strings.Contains(c.more, "\n") || strings.Contains(c.more, ", pools") {
			c.want = strings.Replace(c.want, "line 11", "line 12", 1)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s:\n got %v\nwant %s", c.more, c.machine, err, c.want)
		}
	}
}

// TestMachinesStay: a fabric to which servers, spines and machines are added keeps every number
// that its machines had, and no address is there twice.
func TestMachinesStay(t *testing.T) {
	for _, model := range []string{"model: as-per-rack", "model: as-per-server", "model: as-per-server\n  endpoints: {perServer: 2, announce: server-block}", "model: downward-default", "model: ethernet"} {
		list := "  - {name: db, rack: r0, addresses: 2}\n  - {name: lb, rack: r1, as: 65100, prefixes: [203.0.113.0/28]}"
		if model == "model: as-per-rack" {
			list += "\n  - {name: fw, rack: r1, attach: port}"
		}
		read := func(text, more string) *Design {
			doc, err := Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec:\n" + text + "  families: [ipv4, ipv6]\n  " + model + "\n  machines:\n" + list + more))
			if err != nil {
				t.Fatalf("%s: %v", model, err)
			}
			return doc.Fabric.Design()
		}
		endpoints := "  endpoints: {perServer: 2}\n"
		if strings.Contains(model, "endpoints") {
			endpoints = ""
		}
		small := read("  racks: {count: 2, tors: 1}\n  servers: {perRack: 4}\n"+endpoints, "")
		large := read("  racks: {count: 5, tors: 1}\n  servers: {perRack: 40}\n  spine: {count: 5}\n"+endpoints, "\n  - {name: zz, rack: r1, routing: "+map[bool]string{true: "bgp", false: "static"}[strings.Contains(model, "ethernet")]+"}")
		of := func(g *Design, name string) string {
			d := g.Index().Device(name)
			if d == nil || len(d.Sessions) == 0 || len(d.Originate) == 0 {
				t.Fatalf("%s: %s: %+v", model, name, d)
			}
			n := 0
			for i, p := range d.Interfaces {
				if p.Segment == "plane2" { // of the spines that were added
					n = i
					break
				}
			}
			if n > 0 {
				d.Interfaces = d.Interfaces[:n]
			}
			return fmt.Sprint(d.AS, d.RouterID, d.Interfaces, d.Originate, d.Discard)
		}
		names := []string{"db", "lb"}
		if model == "model: as-per-rack" {
			names = append(names, "fw")
		}
		for _, name := range names {
			if a, b := of(small, name), of(large, name); a != b {
				t.Errorf("%s: %s:\n was %s\n and is %s", model, name, a, b)
			}
		}
		seen := map[string]string{}
		for i := range large.Devices {
			for _, p := range large.Devices[i].Interfaces {
				for _, a := range p.Addresses {
					if other := seen[a.Addr().String()]; other != "" {
						t.Errorf("%s: %s is of %s and %s", model, a, other, large.Devices[i].Name)
					}
					seen[a.Addr().String()] = large.Devices[i].Name
				}
			}
			for _, r := range large.Devices[i].Static {
				if other := seen[r.Via.String()]; other != "" {
					t.Errorf("%s: %s is of %s and of %s", model, r.Via, other, r.Machine)
				}
			}
		}
	}
}

// TestStatic: a machine without BGP is a route of its ToR, by its address, that the ToR announces.
func TestStatic(t *testing.T) {
	g, err := machinesOf(t, "model: as-per-rack", "  - {name: fw, rack: r1, routing: static, addresses: 2, prefixes: [203.0.113.0/28]}\n  - {name: st, rack: r1, routing: static, attach: port}")
	if err != nil {
		t.Fatal(err)
	}
	x := g.Index()
	tor := x.Device("r1-t0")
	if x.Device("fw") != nil || len(tor.Static) != 5 {
		t.Errorf("%+v", tor.Static)
	}
	for _, r := range tor.Static {
		if !slices.ContainsFunc(tor.Originate, func(o Origin) bool { return o.Kind == OriginStatic && o.Prefix == r.Prefix && o.Count == r.Count }) {
			t.Errorf("%s is not announced: %+v", r.Prefix, tor.Originate)
		}
		if !slices.ContainsFunc(tor.Interfaces, func(i Interface) bool {
			return slices.ContainsFunc(g.Segments, func(s Segment) bool {
				return s.Name == i.Segment && slices.ContainsFunc(s.Subnets, func(n netip.Prefix) bool { return n.Contains(r.Via) })
			})
		}) {
			t.Errorf("%s is on no segment of the ToR", r.Via)
		}
	}
	if !strings.Contains(g.Summary(), ", 2 machines, ") {
		t.Error(g.Summary())
	}
}

// TestEach: consecutive prefixes, over the borders of octets.
func TestEach(t *testing.T) {
	for first, want := range map[string]string{
		"10.0.0.254/32": "[10.0.0.254/32 10.0.0.255/32 10.0.1.0/32]",
		"10.0.254.0/23": "[10.0.254.0/23 10.1.0.0/23 10.1.2.0/23]",
		"fd00::ff/128":  "[fd00::ff/128 fd00::100/128 fd00::101/128]",
		"fd00:0:1::/48": "[fd00:0:1::/48 fd00:0:2::/48 fd00:0:3::/48]",
	} {
		if got := fmt.Sprint(slices.Collect(Origin{Prefix: netip.MustParsePrefix(first), Count: 3}.Each())); got != want {
			t.Errorf("%s: %s, want %s", first, got, want)
		}
	}
}

// TestDesignJSON: a design that was written as JSON is read as the same by encoding/json, which labs do, and by Parse.
func TestDesignJSON(t *testing.T) {
	g, err := machinesOf(t, "model: as-per-rack\n  switches: {tor: {catalog: trident2/junos-lpm-profile, ram: 4GiB}, spine: {catalog: jericho2/flexroute}}\n  bgp: {bfd: {segment: 50ms, links: off}}",
		"  - {name: fw, rack: r1, routing: static}\n  - {name: lb, rack: r0, as: 65100}")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	again := &Design{}
	if err := json.Unmarshal(text, again); err != nil {
		t.Fatal(err)
	}
	doc, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*Design{again, doc.Design} {
		if second, err := json.Marshal(d); err != nil || string(second) != string(text) {
			t.Errorf("%v\n%s\nbecame\n%s", err, text, second)
		}
	}
}

// TestMachineAS: a machine that has an AS number by its place has that of a server there: with a port of its own under AS per
// rack what it would have under AS per server.
func TestMachineAS(t *testing.T) {
	const list = "  - {name: db, rack: r1, attach: port}\n  - {name: lb, rack: r1, attach: port}"
	rack, err := machinesOf(t, "model: as-per-rack", list)
	if err != nil {
		t.Fatal(err)
	}
	server, err := machinesOf(t, "model: as-per-server", list)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"db", "lb"} {
		if a, b := rack.Index().Device(name).AS, server.Index().Device(name).AS; a != b || a <= 4200100000 {
			t.Errorf("%s: AS %d, want %d", name, a, b)
		}
	}
}
