// SPDX-License-Identifier: Apache-2.0

package change

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

func design(t *testing.T, spec string) *fabric.Design {
	t.Helper()
	for _, field := range []string{"racks: {count: 3}", "servers: {perRack: 2}", "endpoints: {perServer: 2}", "families: [ipv4, ipv6]"} {
		name, _, _ := strings.Cut(field, ":")
		if !strings.Contains(spec, name+": {") && !strings.Contains(spec, name+": [") {
			spec += ", " + field
		}
	}
	doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {" + spec + "}"))
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	return doc.Fabric.Design()
}

// TestPlan: which steps there are, and what is lost in them.
func TestPlan(t *testing.T) {
	const downward = "model: downward-default, downwardDefault: {fallback: "
	for _, c := range []struct {
		from, to string
		steps    int
		lost     string // of the first step that loses; empty: none does
	}{
		{"model: as-per-rack", "model: as-per-rack", 0, ""},
		{"model: as-per-rack", "model: as-per-rack, racks: {count: 4}", 3, ""},
		{"model: as-per-rack, racks: {count: 4}", "model: as-per-rack", 3, ""},
		{"model: as-per-rack", "model: as-per-rack, bgp: {timers: {hold: 30s}}", 3, ""},
		{"model: as-per-rack", "model: as-per-rack, spine: {as: unique}", 3, ""}, // the other spine carries all
		{"model: as-per-rack, spine: {count: 1}", "model: as-per-rack, spine: {count: 2}", 2, ""},
		{"model: as-per-rack, spine: {kind: l2}", "model: as-per-rack, spine: {kind: l2}, bgp: {roles: on}", 1, ""},
		{"model: ethernet", "model: ethernet, racks: {count: 4}", 2, ""},
		{"model: ethernet, routeReflectors: {placement: none}", "model: ethernet, routeReflectors: {placement: none}, racks: {count: 4}", 2, ""},
		// A new spine attracts what it cannot deliver until it has all racks, or a way to those
		// that have them: it comes last, when all ToRs expect it, or the links between spines go first.
		{downward + "none}", downward + "none}, spine: {count: 3}", 2, ""},
		{downward + "inter-spine}", downward + "inter-spine}, spine: {count: 3}", 3, ""},
		{downward + "none}", downward + "inter-spine}", 1, ""},
		// One AS number for both ends of the only session.
		{"model: as-per-server, pools: {as: {start: 4200000000}}", "model: as-per-server, pools: {as: {start: 4200500000}}", 3, "30 cut, 0 partly, r0-s1: no route"},
	} {
		p, err := Plan(design(t, c.from), design(t, c.to))
		if err != nil {
			t.Fatal(err)
		}
		lost := ""
		for _, s := range p.Steps {
			if w := &s.Worst; w.loss() > 0 && lost == "" {
				lost = fmt.Sprintf("%d cut, %d partly, %s: %s", w.Cut, w.Partly, w.At, w.Why)
			}
		}
		if len(p.Steps) != c.steps || lost != c.lost || p.Lossless() != (c.lost == "") {
			var steps []string
			for _, s := range p.Steps {
				steps = append(steps, fmt.Sprintf("%v %v %d", s.Devices, s.What, s.Worst.loss()))
			}
			t.Errorf("%s to %s: %q, want %q in %d steps\n%s", c.from, c.to, lost, c.lost, c.steps, strings.Join(steps, "\n"))
		}
	}
}

// TestOrder: the steps lose no more than in any other order, and what is said of one is the worst of all counts.
func TestOrder(t *testing.T) {
	const rack, server, downward = "model: as-per-rack", "model: as-per-server", "model: downward-default"
	for _, c := range []struct {
		from, to string
		lost     int
	}{
		{downward + ", spine: {as: unique}", downward + ", downwardDefault: {fallback: none}", 0},
		{downward + ", downwardDefault: {fallback: none}", downward + ", downwardDefault: {fallback: none}, spine: {count: 3}", 0},
		{rack, rack + ", inRack: {reflector: standalone}", 100}, // of which 52 at 5 of 6
		{rack, rack + ", spine: {as: unique}", 0},
		{rack, rack + ", pools: {as: {start: 4200500000}}", 116},
		{rack + ", spine: {kind: l2}", rack + ", spine: {count: 3}", 32},
		{server + ", pools: {as: {start: 4200000000}}", server + ", pools: {as: {start: 4200500000}}", 116},
		{server, downward, 120},
		{"model: ethernet", "model: ethernet, routeReflectors: {placement: none}", 36},
		{"model: ethernet, spine: {count: 3}", "model: ethernet, spine: {count: 1}", 0},
	} {
		a, b := design(t, c.from), design(t, c.to)
		p, err := Plan(a, b)
		if err != nil {
			t.Fatal(err)
		}
		m, err := newMix(a.Index(), b.Index())
		if err != nil {
			t.Fatal(err)
		}
		groups := compare(m.a, m.b)
		if len(groups) > maxOrdered {
			t.Fatalf("%s to %s: %d steps", c.from, c.to, len(groups))
		}
		known := map[string]int{}
		lost := func(done map[string]bool) int {
			key := fmt.Sprint(done)
			if _, ok := known[key]; !ok {
				s, err := judge(m.at(done))
				if err != nil {
					t.Fatal(err)
				}
				known[key] = s.loss()
			}
			return known[key]
		}
		// along is what an order loses in each step.
		along := func(order []*Group) (list []int) {
			done := map[string]bool{}
			for _, g := range order {
				worst := 0
				for _, d := range g.Devices {
					done[d] = true
					worst = max(worst, lost(done))
				}
				list = append(list, worst)
			}
			return list
		}
		sum := func(list []int) (n int) {
			for _, v := range list {
				n += v
			}
			return n
		}
		best := math.MaxInt
		permute(groups, 0, func(order []*Group) { best = min(best, sum(along(order))) })
		var order []*Group
		var said []int
		for _, s := range p.Steps {
			order, said = append(order, s.Group), append(said, s.Worst.loss())
		}
		if is := along(order); !slices.Equal(is, said) || sum(is) != best || best != c.lost {
			t.Errorf("%s to %s: said %v, is %v, the best order %d, want %d", c.from, c.to, said, is, best, c.lost)
		}
		again, err := Plan(a, b)
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("%s to %s: another plan the second time: %v", c.from, c.to, err)
		}
	}
}

// permute visits all orders of a list.
func permute(list []*Group, from int, visit func([]*Group)) {
	if from == len(list) {
		visit(list)
	}
	for i := from; i < len(list); i++ {
		list[from], list[i] = list[i], list[from]
		permute(list, from+1, visit)
		list[from], list[i] = list[i], list[from]
	}
}

// TestLargeSteps: of a step with more devices each count is judged, too, in a small fabric, and three in a large one.
func TestLargeSteps(t *testing.T) {
	const spec = "model: as-per-rack, racks: {count: 5}"
	p, err := Plan(design(t, spec), design(t, spec+", inRack: {reflector: standalone}"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMix(design(t, spec).Index(), design(t, spec+", inRack: {reflector: standalone}").Index())
	if err != nil {
		t.Fatal(err)
	}
	done := map[string]bool{}
	for _, s := range p.Steps {
		worst := 0
		for _, d := range s.Devices {
			done[d] = true
			now, err := judge(m.at(done))
			if err != nil {
				t.Fatal(err)
			}
			worst = max(worst, now.loss())
		}
		if worst != s.Worst.loss() {
			t.Errorf("%v: said %d, is %d", s.Devices, s.Worst.loss(), worst)
		}
	}
	large := design(t, "model: as-per-rack, racks: {count: 60}").Index()
	if m, err = newMix(large, large); err != nil || m.small() || !slices.Equal(m.counts(&Group{Devices: make([]string, 6)}), []int{1, 3, 6}) {
		t.Error("each count in a large fabric", err)
	}
}

// TestEnds: with nothing done the mixed design comes to what the first one does, and with
// everything done to what the second does, route by route.
func TestEnds(t *testing.T) {
	for _, c := range [][2]string{
		{"model: as-per-rack", "model: as-per-rack, spine: {as: unique}"},
		{"model: as-per-rack, spine: {kind: l2}", "model: as-per-rack, spine: {kind: l2}, bgp: {roles: on}"},
		{"model: downward-default", "model: as-per-server"},
		{"model: ethernet", "model: ethernet, routeReflectors: {placement: none}"},
	} {
		a, b := design(t, c[0]), design(t, c[1])
		m, err := newMix(a.Index(), b.Index())
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]bool{}
		for _, g := range compare(m.a, m.b) {
			for _, d := range g.Devices {
				all[d] = true
			}
		}
		for i, want := range []*fabric.Design{a, b} {
			got := m.at([]map[string]bool{nil, all}[i])
			for _, family := range want.Families {
				x, err := sim.New(got, family)
				if err != nil {
					t.Fatal(err)
				}
				y, err := sim.New(want, family)
				if err != nil {
					t.Fatal(err)
				}
				for _, device := range []string{"r0-s0", "r2-s1", "spine0", "r1-t0"} {
					if want.Index().Device(device) == nil {
						continue
					}
					p, err := x.Routes(device, sim.Failure{})
					if err != nil {
						t.Fatal(err)
					}
					q, err := y.Routes(device, sim.Failure{})
					if err != nil {
						t.Fatal(err)
					}
					if len(p) != len(q) {
						t.Errorf("%v, end %d: %s has %d routes, want %d", c, i, device, len(p), len(q))
						continue
					}
					for j := range p {
						if p[j].Prefix != q[j].Prefix || len(p[j].Paths) != len(q[j].Paths) || !reflect.DeepEqual(hops(p[j]), hops(q[j])) {
							t.Errorf("%v, end %d: %s has %+v, want %+v", c, i, device, p[j], q[j])
						}
					}
				}
			}
		}
	}
}

// hops are the next hops of a route, whatever their order.
func hops(r sim.Route) map[string]int {
	m := map[string]int{}
	for _, v := range r.Via {
		m[v.Device+" "+v.Addr.String()] += max(1, v.Many)
	}
	return m
}

// TestLargeMesh: what would take too long is refused in words, whichever of the two has the mesh.
func TestLargeMesh(t *testing.T) {
	const spec = "model: ethernet, servers: {perRack: 40}, families: [ipv4], racks: {count: "
	const mesh, reflectors = "}, routeReflectors: {placement: none}", "}, routeReflectors: {placement: per-plane}"
	for _, c := range [][2]string{{"13" + mesh, "14" + mesh}, {"13" + reflectors, "13" + mesh}, {"13" + mesh, "13" + reflectors}} {
		if _, err := newMix(design(t, spec+c[0]).Index(), design(t, spec+c[1]).Index()); err == nil || !strings.Contains(err.Error(), "ask about fewer racks") {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// TestLoss: a pair that is cut weighs more than one that loses a part, whether there is a cable or not, and what does not
// come to rest is a loss.
func TestLoss(t *testing.T) {
	var last State
	for _, r := range []sim.Reach{{Restless: []string{"x"}}, {Cut: 1}, {Partly: 3}, {Cut: 1, Apart: 1}, {Cut: 1, Apart: 1, Partly: 1}, {Apart: 3}} {
		if s := (State{Reach: r}); s.loss() <= last.loss() {
			t.Errorf("%+v is %d, no more than %d", r, s.loss(), last.loss())
		} else {
			last = s
		}
	}
	if c := (Change{After: last}); c.Lossless() {
		t.Error("lossless, and the new one loses")
	}
}

// TestHalfway: in a mesh of which the members change their AS number most is lost when half of them have it.
func TestHalfway(t *testing.T) {
	const mesh = "model: ethernet, routeReflectors: {placement: none}, pools: {as: {start: "
	p, err := Plan(design(t, mesh+"64512}}"), design(t, mesh+"64600}}"))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Steps) != 1 || p.Steps[0].Worst.Done != 3 || p.Steps[0].Worst.Cut != 2*3*3 {
		t.Errorf("%+v", p.Steps)
	}
}

// TestNotOnItsMesh: a member of a mesh without a port on its segment has no session there.
func TestNotOnItsMesh(t *testing.T) {
	const mesh = "model: ethernet, routeReflectors: {placement: none}"
	a, b := design(t, mesh), design(t, mesh)
	for i := range b.Devices {
		if d := &b.Devices[i]; d.Name == "r0-s0" {
			d.Interfaces = slices.DeleteFunc(d.Interfaces, func(i fabric.Interface) bool { return i.Segment == "plane0" })
		}
	}
	p, err := Plan(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if what := p.Steps[0].What; len(p.Steps) != 2 || p.Steps[0].Devices[0] != "r0-s0" || !slices.Contains(what, "−1 port") || !p.Lossless() {
		t.Errorf("%d steps, %q", len(p.Steps), what)
	}
}

// TestWorseFamily: a design is judged by the family that loses more.
func TestWorseFamily(t *testing.T) {
	for _, worse := range []fabric.Family{fabric.IPv4, fabric.IPv6} {
		g := design(t, "model: as-per-server")
		for i := range g.Devices {
			for j := range g.Devices[i].Sessions {
				if s := &g.Devices[i].Sessions[j]; s.Peer == "r0-s0" || g.Devices[i].Name == "r0-s0" {
					s.Address = slices.DeleteFunc(slices.Clone(s.Address), func(a netip.Addr) bool { return fabric.FamilyOf(a) == worse })
				}
			}
		}
		if s, err := judge(g); err != nil || s.Family != worse || s.loss() == 0 {
			t.Errorf("%v, %+v; want %s", err, s, worse)
		}
	}
}

// TestNothingInCommon: a change between which nothing can be compared is none that loses nothing, and a family that ends is named.
func TestNothingInCommon(t *testing.T) {
	const rack = "model: as-per-rack"
	if _, err := Plan(design(t, rack+", families: [ipv4]"), design(t, rack+", families: [ipv6]")); err == nil || !strings.Contains(err.Error(), "both families") {
		t.Errorf("from IPv4 to IPv6: %v", err)
	}
	p, err := Plan(design(t, rack), design(t, rack+", families: [ipv4]"))
	if err != nil || !slices.Equal(p.Ends, []fabric.Family{fabric.IPv6}) || p.Servers != 6 || !p.Lossless() {
		t.Errorf("without IPv6: %+v, %v", p, err)
	}
	p, err = Plan(design(t, rack), design(t, rack+", racks: [{name: x0}, {name: x1}, {name: x2}]"))
	if err != nil || p.Servers != 0 || p.Counted() || p.Lossless() {
		t.Errorf("renamed racks: %+v, %v", p, err)
	}
	if p, err = Plan(design(t, rack), design(t, rack)); err != nil || !p.Counted() || !p.Lossless() || p.Ends != nil {
		t.Errorf("no change: %+v, %v", p, err)
	}
}
