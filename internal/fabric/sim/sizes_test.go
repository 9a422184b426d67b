// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// The closed formulas for what devices hold say what the simulation counts.
func TestSizesBySimulation(t *testing.T) {
	counted := []fabric.OriginKind{fabric.OriginEndpoints, fabric.OriginBlock, fabric.OriginRack, fabric.OriginAnycast, fabric.OriginDefault, fabric.OriginStatic}
	for i, c := range designs {
		if strings.Contains(c.spec, "rack-block") || strings.Contains(c.spec, "anycast:") || strings.Contains(c.spec, "border:") {
			continue // they count what they are made for in another way
		}
		t.Run(c.spec, func(t *testing.T) {
			t.Parallel()
			for _, family := range turn(i) {
				d := designed(t, c.spec, 5, 5)
				x := d.Index()
				sizes, ok := x.Sizes(family)
				if !ok {
					t.Fatal("no formula")
				}
				for j := range d.Devices {
					y := &d.Devices[j]
					y.Originate = slices.DeleteFunc(slices.Clone(y.Originate), func(o fabric.Origin) bool { return !slices.Contains(counted, o.Kind) })
				}
				s, err := New(d, family)
				if err != nil {
					t.Fatal(err)
				}
				tables, err := s.Tables(Failure{})
				if err != nil {
					t.Fatal(err)
				}
				// What reflectors tell each other and pass on in a rack, and what machines are told, is not counted.
				if tables.Updates != sizes.Updates && !regexp.MustCompile(`model: ethernet|machines:|reflector:|isl:`).MatchString(c.spec) {
					t.Errorf("%s: %d UPDATEs, by the formulas %d", family, tables.Updates, sizes.Updates)
				}
				for j := range d.Devices {
					name := d.Devices[j].Name
					got, ok := tables.Of(name)
					at := slices.IndexFunc(sizes.Devices, func(z fabric.Size) bool { return z.Device == name })
					if at < 0 { // as another one of its role
						at = slices.IndexFunc(sizes.Devices, func(z fabric.Size) bool { return z.Role == d.Devices[j].Role && z.Devices > 1 && z.Peers == got.Peers })
					}
					if !ok || at < 0 {
						t.Fatalf("no %s", name)
					}
					want := sizes.Devices[at]
					// A default route is a path to endpoints, and none of the routes to them. A reflector
					// forwards nothing.
					routes := got.FIB
					if strings.Contains(c.spec, "downward") && (want.Role == fabric.RoleServer || want.Role == fabric.RoleMachine || want.Role == fabric.RoleToR && !strings.Contains(c.spec, "l2")) {
						routes--
					}
					for _, r := range x.Device(want.Device).Static { // the hardware has them, and BGP need not look for them
						if r.Prefix.Addr().Is4() == (family == fabric.IPv4) {
							routes += r.Count
						}
					}
					paths := got.Paths == want.Paths || want.UpTo && got.Paths <= want.Paths
					if got.Peers != want.Peers || !paths || routes != want.Routes && want.Role != fabric.RoleReflector {
						t.Errorf("%s: %s: peers %d paths %d routes %d, by the formulas %d %d (up to: %t) %d", family, name,
							got.Peers, got.Paths, got.FIB, want.Peers, want.Paths, want.UpTo, want.Routes)
					}
				}
			}
		})
	}
}

// TestUpdatesThatAreRefused: what a filter of the peer refuses is a message all the same.
func TestUpdatesThatAreRefused(t *testing.T) {
	for _, family := range families {
		d := designed(t, "model: as-per-server", 3, 4)
		updates := func() int {
			s, err := New(d, family)
			if err != nil {
				t.Fatal(err)
			}
			tables, err := s.Tables(Failure{})
			if err != nil {
				t.Fatal(err)
			}
			return tables.Updates
		}
		before := updates()
		d.Filters = append(d.Filters, fabric.Filter{Name: "nothing"})
		for i := range d.Profiles {
			if d.Profiles[i].Name == "server-tor" {
				d.Profiles[i].Import = "nothing"
			}
		}
		if after := updates(); after != before || before == 0 {
			t.Errorf("%s: %d messages, and %d where servers refuse them", family, before, after)
		}
	}
}

// TestServersAreNoWay: of two ToRs in a rack neither hears from servers what these have from the other, unless roles
// are off.
func TestServersAreNoWay(t *testing.T) {
	for spec, none := range map[string]bool{"": true, ", bgp: {roles: on}": true, ", bgp: {roles: off}": false, ", spine: {as: unique}": true} {
		s, err := New(designed(t, "model: as-per-server, racks: TWO"+spec, 3, 3), fabric.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		to, _ := s.Endpoint("r1-s0")
		heard := 0
		for _, tor := range []string{"r0-t0", "r0-t1"} {
			e, err := s.Explain(tor, to, Failure{})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range e.Routes[0].Paths {
				if strings.Contains(p.From, "-s") {
					heard++
				}
			}
		}
		if (heard == 0) != none {
			t.Errorf("%s: %d paths by way of servers", spec, heard)
		}
	}
}

// TestEntriesOfNoModel: of a design that says no model devices have, by the simulation, what the formulas say of the same
// design after its model, but for routes to routers: the formulas count those that filters hold back, and under Downward
// Default not the ToR's own loopback.
func TestEntriesOfNoModel(t *testing.T) {
	for _, c := range designs {
		if strings.Contains(c.spec, "rack-block") || strings.Contains(c.spec, "anycast:") || strings.Contains(c.spec, "border:") || strings.Contains(c.spec, "machines:") {
			continue
		}
		d := designed(t, c.spec, 3, 3)
		formulas, byModel, _, err := Entries(d.Index())
		if err != nil {
			t.Fatal(err)
		}
		d.Model = ""
		simulated, alike, updates, err := Entries(d.Index())
		if err != nil || updates == 0 {
			t.Fatalf("%s: %d UPDATEs, %v", c.spec, updates, err)
		}
		row := func(list []fabric.Entries, alike map[string]string, name string) fabric.Entries {
			return list[slices.IndexFunc(list, func(e fabric.Entries) bool { return e.Device == alike[name] })]
		}
		all := 0
		for _, e := range simulated {
			all += e.Devices
		}
		if all != len(d.Devices) {
			t.Errorf("%s: %d of %d devices", c.spec, all, len(d.Devices))
		}
		for i := range d.Devices {
			name, role := d.Devices[i].Name, d.Devices[i].Role
			if role == fabric.RoleReflector {
				continue // forwards nothing
			}
			got, want := row(simulated, alike, name), row(formulas, byModel, name)
			if got.Peers != want.Peers || got.Neighbours != want.Neighbours || got.Routes != want.Routes || got.Hosts != want.Hosts || got.Other > want.Other+2 || got.Used > want.Used+3 || got.Used < got.Routes {
				t.Errorf("%s, %s: %+v, by the formulas %+v", c.spec, name, got, want)
			}
		}
	}
}

// TestRoutesByPeer: with the peers of a device by themselves, it has what it has when every device is.
func TestRoutesByPeer(t *testing.T) {
	for i, c := range designs {
		t.Run(c.spec, func(t *testing.T) {
			t.Parallel()
			d := designed(t, c.spec, 4, 4)
			s, all := healthy(t, d, families[i%2])
			seen := map[fabric.Role]bool{}
			for n := range d.Devices {
				x := &d.Devices[n]
				if seen[x.Role] && x.Role != fabric.RoleMachine {
					continue
				}
				seen[x.Role] = true
				want := all[x.Name]
				got, err := s.RoutesByPeer(x.Name, Failure{})
				if err != nil || len(got) != len(want) {
					t.Fatalf("%s: %v, %d routes of %d", x.Name, err, len(got), len(want))
				}
				for k := range want {
					if a, b := sortedRoute(got[k]), sortedRoute(want[k]); a != b {
						t.Errorf("%s:\n got %s\nwant %s", x.Name, a, b)
					}
				}
			}
		})
	}
}

// sortedRoute is a route whatever the order of its paths and next hops.
func sortedRoute(r Route) string {
	var paths, via []string
	for _, p := range r.Paths {
		paths = append(paths, fmt.Sprintf("%+v", p))
	}
	for _, v := range r.Via {
		via = append(via, fmt.Sprintf("%+v", v))
	}
	slices.Sort(paths)
	slices.Sort(via)
	return fmt.Sprint(r.Prefix, r.Count, r.Local, paths, via)
}
