// SPDX-License-Identifier: Apache-2.0

package advise

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

func read(t *testing.T, spec string) *fabric.Fabric {
	t.Helper()
	doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {racks: {count: 2}, servers: {perRack: 5}, endpoints: {perServer: 31}, " + spec + "}"))
	if err != nil {
		t.Fatal(err)
	}
	return doc.Fabric
}

// TestFirstLimit: the first limit is the one that trying every number of racks finds,
// whichever it is; and there is none where there is none.
func TestFirstLimit(t *testing.T) {
	for spec, want := range map[string]string{
		"model: as-per-rack, switches: {tor: {lpmTable: 1k}}":                                                  "r0-t0: 1,101 of 1,024 entries",
		"model: as-per-rack, families: [ipv4, ipv6], switches: {spine: {lpmTable: 4k}}":                        "spine0: ",
		"model: as-per-server, switches: {spine: {peers: 9}}":                                                  "spine0: 10 of 9 peers",
		"model: as-per-server, pools: {as: {style: 2byte, start: 65500}}":                                      "FAB-AS-003",
		"model: as-per-rack, pools: {endpoints: [{cidr: 10.64.0.0/17}]}":                                       "FAB-ADR-003",
		"model: as-per-rack, spine: {as: unique, count: 4}, bgp: {roles: off}, switches: {spine: {ram: 20MB}}": "paths, 0.0 of 0.0 GB",
		"model: downward-default, switches: {tor: {hostTable: 1k, hostRoutesIn: host}}":                        "",
		"model: ethernet": "",
		// A machine and an address of a rack that is not there yet are no limit.
		"model: as-per-rack, machines: [{name: db, rack: r1}], anycast: [{ip: 192.168.99.1, servers: [r1/s0]}], switches: {tor: {lpmTable: 64}}": "r0-t0: ",
	} {
		f := read(t, spec)
		g := Cost(f, []int{1, 2, 4, 8, 16, 20})
		first := 0
		for n := 1; n <= 20 && first == 0; n++ {
			if row, _ := at(f, n); row.Limits != nil {
				first = n
			}
		}
		if g.First != first || (want == "") != (first == 0) || !strings.Contains(strings.Join(g.Limits, "\n"), want) {
			t.Errorf("%s: at %d racks %q, want at %d %q", spec, g.First, g.Limits, first, want)
		}
		for _, r := range g.Rows {
			if (r.Limits != nil) != (first > 0 && r.Racks >= first) {
				t.Errorf("%s: %d racks: %q, and the first limit is at %d", spec, r.Racks, r.Limits, first)
			}
		}
	}
}

// TestCostRows: a row is what the design of that size has.
func TestCostRows(t *testing.T) {
	for _, spec := range []string{"model: as-per-rack", "model: ethernet", "model: downward-default, families: [ipv4, ipv6]"} {
		for _, r := range Cost(read(t, spec), []int{2, 3}).Rows {
			v, err := read(t, spec).Variant(func(s *fabric.Spec) { s.Racks.Count = r.Racks })
			if err != nil {
				t.Fatal(err)
			}
			list, updates, _ := v.Design().Index().Entries()
			if r.Endpoints != r.Racks*5*31 || r.Updates != updates {
				t.Errorf("%s: %+v", spec, r)
			}
			for _, e := range list {
				if most := r.Of(e.Role); most == nil || e.Used > most.Used || e.Role == fabric.RoleServer && most.Routes == 0 && e.Routes > 0 {
					t.Errorf("%s: of %s %+v is fuller than %+v", spec, e.Role, e, most)
				}
			}
		}
	}
}

// TestVariant: a file with another model is as if it had been written so, whatever it says
// of what only its own model has.
func TestVariant(t *testing.T) {
	for _, from := range []string{"model: as-per-rack, inRack: {sessions: mesh}, spine: {as: unique, count: 20}", "model: as-per-server, servers: {perRack: 5, uplinks: segment}, pools: {as: {style: 2byte}}",
		"model: downward-default, downwardDefault: {asOverride: true}", "model: ethernet, routeReflectors: {perPlane: 3}",
		"model: as-per-rack, machines: [{name: db, rack: r0}, {name: fw, rack: r1, attach: port}]", "model: as-per-server, machines: [{name: db, rack: r0}]", "model: ethernet, machines: [{name: db, rack: r0}]"} {
		from := "racks: {count: 2}, endpoints: {perServer: 31}, " + from
		if !strings.Contains(from, "perRack") {
			from += ", servers: {perRack: 5}"
		}
		doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {" + from + "}"))
		if err != nil {
			t.Fatal(err)
		}
		before := fmt.Sprintf("%+v", doc.Fabric.Spec)
		for _, m := range fabric.Models {
			for _, spine := range []fabric.SpineKind{fabric.L2, fabric.L3} {
				if m == fabric.Ethernet && spine == fabric.L3 {
					continue
				}
				v, err := doc.Fabric.Variant(func(s *fabric.Spec) { s.Become(m, spine) })
				if err != nil {
					t.Errorf("%s to %s %s: %v", from, m, spine, err)
					continue
				}
				if v.Spec.Model != m || v.Spec.Spine.Kind != spine || len(v.Design().Devices) < 10 {
					t.Errorf("%s to %s %s: %+v", from, m, spine, v.Spec)
				}
			}
		}
		if after := fmt.Sprintf("%+v", doc.Fabric.Spec); after != before {
			t.Errorf("a variant changed the fabric itself:\n%s\n%s", before, after)
		}
	}
}

// TestOrder: what cannot be designed stands behind what does not fit.
func TestOrder(t *testing.T) {
	a := Models(read(t, "model: as-per-rack, machines: [{name: db, rack: r0, routing: static}], switches: {tor: {lpmTable: 200}}"), false)
	var order []int
	for _, o := range a.Options {
		order = append(order, bad(o))
	}
	if a.Pick != a.Options[0] || a.Pick.Model != fabric.DownwardDefault || !slices.IsSorted(order) || !slices.Contains(order, 1) || !slices.Contains(order, 2) {
		t.Errorf("%s, %v", a.Pick.Model, order)
		for _, o := range a.Options {
			t.Logf("%s %s %s", o.Model, o.Spine, o.Reason)
		}
	}
}
