// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// variants are the ways to build a fabric, each as what it adds to a spec.
var variants = map[string]string{
	"as-per-rack l3":                 "model: as-per-rack",
	"as-per-rack l3 unique":          "model: as-per-rack, spine: {as: unique}",
	"as-per-rack l3 mesh":            "model: as-per-rack, inRack: {sessions: mesh}",
	"as-per-rack l3 on server":       "model: as-per-rack, inRack: {reflector: server}",
	"as-per-rack l3 standalone":      "model: as-per-rack, inRack: {reflector: standalone}",
	"as-per-rack l3 border":          "model: as-per-rack, border: [{name: b1, as: 64999, default: true}]",
	"as-per-rack l3 server blocks":   "model: as-per-rack, XENDPOINTS: server-block",
	"as-per-rack l3 rack blocks":     "model: as-per-rack, XENDPOINTS: rack-block",
	"as-per-rack l3 two-octet":       "model: as-per-rack, pools: {as: {style: 2byte}}",
	"as-per-rack l3 dual":            "model: as-per-rack, XTORS: 2",
	"as-per-rack l3 dual isl":        "model: as-per-rack, XTORS: 2, tors: {isl: true}",
	"as-per-rack l2":                 "model: as-per-rack, spine: {kind: l2}",
	"as-per-rack l2 roles":           "model: as-per-rack, spine: {kind: l2}, bgp: {roles: on}",
	"as-per-rack l2 border":          "model: as-per-rack, spine: {kind: l2}, border: [{name: b1, as: 64999}]",
	"as-per-server l3":               "model: as-per-server",
	"as-per-server l3 unique":        "model: as-per-server, spine: {as: unique}",
	"as-per-server l3 segment":       "model: as-per-server, servers: {uplinks: segment, perRack: 2}",
	"as-per-server l3 unnumbered":    "model: as-per-server, servers: {uplinks: unnumbered, perRack: 2}",
	"as-per-server l3 two-octet":     "model: as-per-server, pools: {as: {style: 2byte}}",
	"as-per-server l2":               "model: as-per-server, spine: {kind: l2}",
	"as-per-server l2 transit":       "model: as-per-server, spine: {kind: l2}, tors: {as: shared}",
	"downward-default l3":            "model: downward-default",
	"downward-default l3 none":       "model: downward-default, downwardDefault: {fallback: none}",
	"downward-default l3 border":     "model: downward-default, downwardDefault: {fallback: border}, border: [{name: b1, as: 64999, default: true}]",
	"downward-default l3 dual":       "model: downward-default, downwardDefault: {fallback: dual-tor}, XTORS: 2",
	"downward-default l3 override":   "model: downward-default, downwardDefault: {asOverride: true}, bgp: {advanced: [{name: as-override, reason: anycast}]}",
	"downward-default l2":            "model: downward-default, spine: {kind: l2}",
	"downward-default l2 border":     "model: downward-default, spine: {kind: l2}, border: [{name: b1, as: 64999, default: true}]",
	"ethernet":                       "model: ethernet",
	"ethernet mesh":                  "model: ethernet, routeReflectors: {placement: none}",
	"ethernet all planes":            "model: ethernet, routeReflectors: {placement: all-planes}",
	"ethernet all planes add-path":   "model: ethernet, routeReflectors: {placement: all-planes, addPath: true}",
	"ethernet reflectors on hosts":   "model: ethernet, routeReflectors: {hosts: servers}",
	"ethernet border":                "model: ethernet, border: [{name: b1, as: 64999}]",
	"as-per-rack l3 with an anycast": "model: as-per-rack, anycast: [{ip: 10.200.0.1, servers: [r0/s0, r1/s1]}]",
}

// fabricOf reads a variant of a size.
func fabricOf(t testing.TB, variant string, racks, servers, endpoints int) *Fabric {
	t.Helper()
	tors, announce := 1, "one-by-one"
	var rest []string
	for _, part := range strings.Split(variant, ", ") {
		switch {
		case strings.HasPrefix(part, "XTORS"):
			tors = 2
		case strings.HasPrefix(part, "XENDPOINTS"):
			announce = strings.TrimPrefix(part, "XENDPOINTS: ")
		case strings.HasPrefix(part, "servers: {"):
			rest = append(rest, part+fmt.Sprintf(", perRack: %d}", servers))
		case part == "perRack: 2}":
		default:
			rest = append(rest, part)
		}
	}
	if !strings.Contains(variant, "servers: {") {
		rest = append(rest, fmt.Sprintf("servers: {perRack: %d}", servers))
	}
	text := fmt.Sprintf("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {%s, racks: {count: %d, tors: %d}, endpoints: {perServer: %d, announce: %s}",
		strings.Join(rest, ", "), racks, tors, endpoints, announce)
	if !strings.Contains(variant, "families:") {
		text += ", families: [ipv4, ipv6]"
	}
	doc, err := Parse([]byte(text + "}"))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return doc.Fabric
}

// TestDesignHolds: what must be so in any design, whatever its model.
func TestDesignHolds(t *testing.T) {
	for name, spec := range variants {
		t.Run(name, func(t *testing.T) {
			g := fabricOf(t, spec, 3, 3, 4).Design()
			readable(t, g)
			devices := map[string]*Device{}
			owner := map[netip.Addr]string{}
			ids := map[netip.Addr]string{}
			for i := range g.Devices {
				d := &g.Devices[i]
				devices[d.Name] = d
				if was, ok := ids[d.RouterID]; ok || !d.RouterID.Is4() {
					t.Errorf("%s has the router ID %s of %s", d.Name, d.RouterID, was)
				}
				ids[d.RouterID] = d.Name
				for _, x := range d.Interfaces {
					for _, a := range x.Addresses {
						if was, ok := owner[a.Addr()]; ok {
							t.Errorf("%s and %s have %s", d.Name, was, a.Addr())
						}
						owner[a.Addr()] = d.Name
					}
				}
			}
			subnets := disjoint(t, g)
			for _, d := range devices {
				names := map[string]bool{}
				for _, x := range d.Interfaces {
					if names[x.Name] || len(x.Name) > 15 {
						t.Errorf("%s: interface %q twice, or too long for Linux", d.Name, x.Name)
					}
					names[x.Name] = true
					for i, a := range x.Addresses {
						if x.Segment != "" && a.Masked() != subnets[x.Segment][i] {
							t.Errorf("%s %s: %s is not in %v", d.Name, x.Name, a, subnets[x.Segment])
						}
					}
				}
				for _, s := range d.Sessions {
					twoEnded(t, d, s, devices[s.Peer])
				}
			}
		})
	}
}

// readable: a design is written and read as itself.
func readable(t *testing.T, g *Design) {
	t.Helper()
	text, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	doc.Design.lines = nil
	again, _ := json.Marshal(doc.Design)
	if string(again) != string(text) {
		t.Errorf("reads as something else:\n%s\n%s", text, again)
	}
}

// disjoint: no two segments share an address. It returns the subnets.
func disjoint(t *testing.T, g *Design) map[string][]netip.Prefix {
	t.Helper()
	out := map[string][]netip.Prefix{}
	var all []netip.Prefix
	for _, s := range g.Segments {
		if _, twice := out[s.Name]; twice {
			t.Errorf("segment %s is there twice", s.Name)
		}
		out[s.Name] = s.Subnets
		all = append(all, s.Subnets...)
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	for i := range len(all) - 1 {
		if all[i].Overlaps(all[i+1]) {
			t.Errorf("%s overlaps %s", all[i], all[i+1])
		}
	}
	return out
}

// twoEnded: the peer has the other end, and both expect what the other is.
func twoEnded(t *testing.T, d *Device, s Session, peer *Device) {
	t.Helper()
	if peer == nil || peer.AS != s.PeerAS {
		t.Errorf("%s expects AS %d of %s", d.Name, s.PeerAS, s.Peer)
		return
	}
	ends := 0
	for _, other := range peer.Sessions {
		if other.Peer == d.Name && other.Segment == s.Segment {
			ends++
		}
	}
	if ends != 1 {
		t.Errorf("%s has %d sessions with %s on %s", peer.Name, ends, d.Name, s.Segment)
	}
	var here []netip.Addr
	for _, x := range peer.Interfaces {
		if x.Segment == s.Segment {
			for _, a := range x.Addresses {
				here = append(here, a.Addr())
			}
		}
	}
	if !slices.Equal(here, s.Address) {
		t.Errorf("%s looks for %s at %v, which is at %v", d.Name, s.Peer, s.Address, here)
	}
}

// TestDesignIsStable: the same file gives the same design, and a fabric that
// grows keeps every name, address and AS number.
func TestDesignIsStable(t *testing.T) {
	for name, spec := range variants {
		t.Run(name, func(t *testing.T) {
			text := func(g *Design) string { b, _ := json.Marshal(g); return string(b) }
			small := fabricOf(t, spec, 4, 3, 4).Design()
			if again := fabricOf(t, spec, 4, 3, 4).Design(); text(small) != text(again) {
				t.Error("two designs of one file differ")
			}
			racks := fabricOf(t, spec, 7, 3, 4).Design()
			kept(t, small, racks)
			if !strings.Contains(name, "as-per-server l3 two-octet") { // see asPlan
				kept(t, small, fabricOf(t, spec, 4, 9, 40).Design())
			}
		})
	}
}

// kept: each device of before is in after, with the same numbers.
func kept(t *testing.T, before, after *Design) {
	t.Helper()
	numbers := func(g *Design) map[string]string {
		out := map[string]string{}
		for _, d := range g.Devices {
			out[d.Name] = fmt.Sprint(d.AS, d.RouterID, d.Host)
			for _, x := range d.Interfaces {
				out[d.Name+" "+x.Name] = fmt.Sprint(x.Segment, x.Addresses)
			}
			for i, o := range d.Originate {
				if o.Kind != OriginRack {
					out[fmt.Sprint(d.Name, " route ", i)] = o.Prefix.String()
				}
			}
		}
		return out
	}
	n := numbers(after)
	for k, v := range numbers(before) {
		if n[k] != v {
			t.Errorf("%s was %s and became %s", k, v, n[k])
		}
	}
}

// TestSessions holds the number of sessions of each device against the closed
// formulas for each model.
func TestSessions(t *testing.T) {
	const racks, servers, spines = 4, 3, 2
	for variant, want := range map[string]map[Role]int{
		"as-per-rack l3":      {RoleServer: 1, RoleToR: servers + spines, RoleSpine: racks},
		"as-per-rack l3 dual": {RoleServer: 2, RoleToR: servers + spines, RoleSpine: racks * 2},
		"as-per-rack l2":      {RoleServer: 1, RoleToR: servers + (racks-1)*spines},
		"as-per-rack l3 mesh": {RoleServer: 1 + servers - 1, RoleToR: servers + spines, RoleSpine: racks},
		"as-per-server l3":    {RoleServer: 1, RoleToR: servers + spines, RoleSpine: racks},
		"as-per-server l2":    {RoleServer: 1, RoleToR: servers + (racks-1)*spines},
		"downward-default l3": {RoleServer: 1, RoleToR: servers + spines, RoleSpine: racks + spines - 1},
		"downward-default l2": {RoleServer: 1, RoleToR: servers + (racks-1)*spines},
		"ethernet":            {RoleServer: spines * 2, RoleReflector: racks*servers + 1},
		"ethernet mesh":       {RoleServer: (racks*servers - 1) * spines},
		"ethernet all planes": {RoleServer: spines * 2, RoleReflector: (racks*servers + 1) * spines},
	} {
		g := fabricOf(t, variants[variant], racks, servers, 2).Design().Index()
		for _, d := range g.Devices {
			if got := g.Peers(&d); got != want[d.Role] {
				t.Errorf("%s: %s has %d sessions, want %d", variant, d.Name, got, want[d.Role])
			}
		}
	}
}

// TestModelsDiffer: a variant that changes nothing would be a setting without
// effect.
func TestModelsDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(variants)) {
		b, _ := json.Marshal(fabricOf(t, variants[name], 3, 3, 4).Design())
		if was, ok := seen[string(b)]; ok {
			t.Errorf("%s is the design of %s", name, was)
		}
		seen[string(b)] = name
	}
}

// TestDesignLarge: ten thousand servers with two million endpoints are
// designed without a list of endpoints or of mesh sessions.
func TestDesignLarge(t *testing.T) {
	for _, name := range []string{"as-per-rack l3", "as-per-rack l2", "as-per-server l3", "downward-default l3", "ethernet", "ethernet mesh"} {
		start := time.Now()
		g := fabricOf(t, variants[name], 250, 40, 200).Design()
		n := 0
		for _, d := range g.Devices {
			for _, o := range d.Originate {
				if o.Kind == OriginEndpoints && o.Prefix.Addr().Is4() {
					n += o.Count
				}
			}
		}
		if n != 2_000_000 {
			t.Errorf("%s has %d endpoints", name, n)
		}
		t.Logf("%s: %d devices in %v", name, len(g.Devices), time.Since(start))
	}
}

func BenchmarkDesign(b *testing.B) {
	f := fabricOf(b, variants["as-per-rack l3"], 250, 40, 200)
	for b.Loop() {
		f.Design()
	}
}

func TestParseRackList(t *testing.T) {
	doc, err := Parse([]byte(strings.Replace(podA, "racks: {count: 32, tors: 1}", "racks: [{name: r0}, {name: r1, servers: 8, tors: 2}, {name: r7, servers: 41}]", 1)))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, d := range doc.Fabric.Design().Devices {
		count[d.Rack+" "+string(d.Role)]++
	}
	want := map[string]int{" spine": 4, " border": 1, "r0 tor": 1, "r0 server": 40, "r1 tor": 2, "r1 server": 8, "r7 tor": 1, "r7 server": 41}
	if !reflect.DeepEqual(count, want) {
		t.Errorf("%v, want %v", count, want)
	}
}

// TestParseRackSwitch: ToRs of a rack are what the catalogue has by the name that the rack says; the others are what
// spec.switches.tor says, and so is what has no entry there. An Ethernet fabric has no use for it.
func TestParseRackSwitch(t *testing.T) {
	const other = "trident2/junos-l3-profile"
	text := strings.Replace(podA, "racks: {count: 32, tors: 1}", "racks: [{name: r0}, {name: r1, tors: 2, tor: "+other+"}, {name: r7, tor: "+other+"}]", 1)
	doc, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	x := doc.Fabric.Design().Index()
	for device, want := range map[string]Platform{
		"r0-t0": {HostTable: 16 << 10, RAM: 4 << 30}, "r1-t0": {HostTable: 208 << 10, HostRoutesIn: HostTable, RAM: 4 << 30}, "r1-t1": {HostTable: 208 << 10, HostRoutesIn: HostTable, RAM: 4 << 30},
		"r7-t0": {HostTable: 208 << 10, HostRoutesIn: HostTable, RAM: 4 << 30},
	} {
		if p := x.Platform(x.Device(device).Platform); p.HostTable != want.HostTable || p.HostRoutesIn != want.HostRoutesIn || p.RAM != want.RAM {
			t.Errorf("%s is %+v, want %+v", device, p, want)
		}
	}
	if len(x.Platforms) != 3 {
		t.Errorf("%+v", x.Platforms)
	}
	list, _, _ := x.Entries()
	for _, e := range list {
		if e.Role == RoleToR && (e.Devices == 4 || e.Platform == other && e.Holds != 208<<10) {
			t.Errorf("%+v", e)
		}
	}
	v, err := doc.Fabric.Variant(func(s *Spec) { s.Become(Ethernet, L2) })
	if err != nil || v.Spec.Racks.List[1].ToR != "" || doc.Fabric.Spec.Racks.List[1].ToR != other {
		t.Errorf("as an Ethernet fabric: %v, %+v", err, v.Spec.Racks)
	}
}

// TestNothingTwice: with as many spines, borders and servers as there can be, every address, subnet, router ID and endpoint
// is there once, and every AS number of a server.
func TestNothingTwice(t *testing.T) {
	borders := make([]string, 16)
	for i := range borders {
		borders[i] = fmt.Sprintf("{name: b%d, as: %d, default: true}", i, 64900+i)
	}
	edge := ", border: [" + strings.Join(borders, ", ") + "]"
	for _, spec := range []string{
		"model: as-per-rack, spine: {count: 62}, racks: {count: 3, tors: 2}, tors: {isl: true}" + edge,
		"model: as-per-rack, spine: {count: 63}, racks: {count: 3, tors: 2}" + edge,
		"model: as-per-server, spine: {count: 63}, racks: {count: 3, tors: 2}, servers: {perRack: 64}" + edge,
		"model: downward-default, spine: {count: 63}, racks: {count: 3, tors: 2}" + edge,
		"model: as-per-rack, spine: {kind: l2, count: 16}, racks: {count: 3, tors: 2}" + edge,
		"model: ethernet, spine: {count: 16}, racks: {count: 3}, routeReflectors: {perPlane: 8}" + edge,
		"model: as-per-server, spine: {kind: l2}, racks: {count: 3, tors: 2}, tors: {as: shared}, pools: {as: {style: 2byte}}",
		"model: as-per-server, spine: {count: 4, as: unique}, racks: [{name: a, tors: 2}, {name: b, servers: 7}, {name: c}], pools: {as: {style: 2byte}}",
		"model: as-per-rack, spine: {count: 40}, racks: {count: 3, tors: 2}, machines: [{name: m0, rack: r0, attach: port}, {name: m1, rack: r0, attach: port}, {name: m2, rack: r1}]",
	} {
		if !strings.Contains(spec, "perRack") {
			spec += ", servers: {perRack: 40}"
		}
		doc, err := Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {families: [ipv4, ipv6], endpoints: {perServer: 3}, " + spec + "}"))
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		g, seen := doc.Fabric.Design(), map[string]string{}
		once := func(what any, where string) {
			if first, twice := seen[fmt.Sprint(what)]; twice {
				t.Errorf("%s: %v is at %s and at %s", spec, what, first, where)
			}
			seen[fmt.Sprint(what)] = where
		}
		var nets []netip.Prefix
		for _, s := range g.Segments {
			for _, p := range s.Subnets {
				for _, other := range nets {
					if p.Overlaps(other) {
						t.Errorf("%s: %s of %s overlaps %s", spec, p, s.Name, other)
					}
				}
				nets = append(nets, p)
			}
		}
		switches := map[uint32]bool{}
		for _, d := range g.Devices {
			switches[d.AS] = switches[d.AS] || d.Role != RoleServer
		}
		for _, d := range g.Devices {
			once(fmt.Sprint("router ID ", d.RouterID), d.Name)
			if g.Model == ASPerServer && d.Role == RoleServer && switches[d.AS] {
				t.Errorf("%s: AS %d of %s is that of a switch", spec, d.AS, d.Name)
			}
			if g.Model == ASPerServer && d.Role == RoleServer {
				once(fmt.Sprint("AS ", d.AS), d.Name)
			}
			for _, x := range d.Interfaces {
				for _, a := range x.Addresses {
					once(a.Addr(), d.Name+" "+x.Name)
				}
			}
			for _, o := range d.Originate {
				for p := range o.Each() {
					if o.Kind == OriginEndpoints {
						once(fmt.Sprint("endpoint ", p), d.Name)
					}
				}
			}
		}
	}
}

// TestEndpointsFilter: a ToR takes from servers what they announce, and no shorter prefix, which would attract the traffic of others.
func TestEndpointsFilter(t *testing.T) {
	for announce, want := range map[string]int{"one-by-one": 32, "server-block": 26} {
		doc, err := Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {model: as-per-rack, racks: {count: 3}, servers: {perRack: 2}, endpoints: {perServer: 2, announce: " + announce + "}}"))
		if err != nil {
			t.Fatal(err)
		}
		f := doc.Fabric.Design().Index().Filter(onlyEndpoints)
		for bits := 10; bits <= 32; bits++ {
			if p := netip.PrefixFrom(netip.MustParseAddr("10.64.0.0"), bits); f.Permits(p) != (bits >= want) {
				t.Errorf("%s: %s passes: %v", announce, p, f.Permits(p))
			}
		}
	}
}
