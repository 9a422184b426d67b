// SPDX-License-Identifier: Apache-2.0

package fabric_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/advise"
	"github.com/muslin-net/muslin/internal/fabric/check"
	"github.com/muslin-net/muslin/internal/fabric/emit"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// world is a fabric of three racks with two servers and two endpoints each, for
// both families.
type world struct {
	*fabric.Index
	sims map[fabric.Family]*sim.Sim
}

func worldOf(t *testing.T, spec string) *world {
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
	w := &world{doc.Fabric.Design().Index(), map[fabric.Family]*sim.Sim{}}
	for _, family := range w.Families {
		if w.sims[family], err = sim.New(w.Design, family); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// each visits both families.
func (w *world) each(visit func(family fabric.Family, s *sim.Sim)) {
	for _, family := range w.Families {
		visit(family, w.sims[family])
	}
}

// endpoint is the first of a server.
func (w *world) endpoint(server string, family fabric.Family) netip.Addr {
	for _, o := range w.Device(server).Originate {
		if o.Kind == fabric.OriginEndpoints && o.Prefix.Addr().Is4() == (family == fabric.IPv4) {
			return o.Prefix.Addr()
		}
	}
	return netip.Addr{}
}

// ways are the ways of packets, each as the devices on it and the end.
func ways(t *testing.T, s *sim.Sim, from string, to netip.Addr) (list []string) {
	t.Helper()
	p, err := s.Path(from, to, sim.Failure{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range p.Branches {
		var hops []string
		for _, h := range b.Hops {
			hops = append(hops, h.Device)
		}
		list = append(list, strings.Join(hops, " ")+": "+b.End)
	}
	slices.Sort(list)
	return list
}

// route is what a device has of a prefix.
func route(t *testing.T, s *sim.Sim, device string, to netip.Addr) *sim.Route {
	t.Helper()
	list, err := s.Routes(device, sim.Failure{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		if list[i].Prefix.Addr() == to && list[i].Prefix.IsSingleIP() {
			return &list[i]
		}
	}
	return nil
}

func (w *world) table(t *testing.T, s *sim.Sim, role fabric.Role) sim.Table {
	t.Helper()
	tables, err := s.Tables(sim.Failure{})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range tables.Devices {
		if row.Role == role {
			return row
		}
	}
	t.Fatalf("no %s", role)
	return sim.Table{}
}

// comments and addresses are those in what is written for a device.
var (
	comments  = regexp.MustCompile(`(?m)^#.*\n`)
	addresses = regexp.MustCompile(`'?(\d+\.\d+\.\d+\.\d+|fd00:[0-9a-f:]+)'?`)
)

// all are the models, each with both kinds of spine.
var all = map[string]string{
	"rack l3": "model: as-per-rack", "rack l2": "model: as-per-rack, spine: {kind: l2}",
	"server l3": "model: as-per-server", "server l2": "model: as-per-server, spine: {kind: l2}",
	"default l3": "model: downward-default", "default l2": "model: downward-default, spine: {kind: l2}",
	"ethernet": "model: ethernet",
}

// statements are what the models are held to, by what is designed and what is
// simulated. Each is named by its number.
var statements = map[string]func(t *testing.T){
	"FAB-S-03": func(t *testing.T) { // an Ethernet fabric takes the fewest considerations
		considered := map[string]int{}
		for name, spec := range all {
			for _, f := range check.Design(worldOf(t, spec).Design) {
				if f.Severity == check.Error || f.Severity == check.Advanced {
					t.Error(name, f.ID, f.Message)
				}
				if f.Severity != check.Info {
					considered[name]++
				}
			}
		}
		for name, n := range considered {
			if n < considered["ethernet"] {
				t.Errorf("%s has %d findings, ethernet %d", name, n, considered["ethernet"])
			}
		}
	},
	"FAB-S-04": func(t *testing.T) { // each server is a vRouter, and speaks BGP with nothing beside it
		w := worldOf(t, all["rack l3"])
		e, err := emit.New(w.Design)
		if err != nil {
			t.Fatal(err)
		}
		for i := range w.Devices {
			if d := &w.Devices[i]; (d.Role == fabric.RoleServer) != (e.Target(d) == emit.VRouter) {
				t.Errorf("%s is configured as %s", d.Name, e.Target(d))
			}
		}
	},
	"FAB-S-05": func(t *testing.T) { // the first and the last hop are the servers
		everyPair(t, func(name string, w *world, s *sim.Sim, from, to string, list []string) {
			for _, way := range list {
				if !strings.HasPrefix(way, from+" ") || !strings.HasSuffix(way, " "+to+": delivered") {
					t.Errorf("%s: %s to %s goes %s", name, from, to, way)
				}
			}
		})
	},
	"FAB-S-06": func(t *testing.T) { // everybody reaches everybody
		for name, spec := range all {
			worldOf(t, spec).each(func(family fabric.Family, s *sim.Sim) {
				r, err := s.Reach(sim.Failure{})
				if err != nil || !r.Whole() || r.Pairs != 30 || r.Apart != 0 {
					t.Errorf("%s %s: %+v, %v", name, family, r, err)
				}
			})
		}
	},
	"FAB-S-07": func(t *testing.T) { // policy is no matter of the fabric
		for name, spec := range all {
			eachConfig(t, worldOf(t, spec), func(device, text string) {
				for _, word := range []string{"access-list", "access-group", "access-class"} {
					if strings.Contains(text, word) {
						t.Errorf("%s: %s has %q", name, device, word)
					}
				}
			})
		}
	},
	"FAB-S-10": func(t *testing.T) { // every next hop is on a segment of the router that has it, in every failure of one thing
		for name, spec := range all {
			worldOf(t, spec).each(func(family fabric.Family, s *sim.Sim) {
				what, err := s.WhatIf(1)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range what.Cases {
					f := sim.Failure{}
					if c.Failure != "healthy" {
						if f, err = s.Failure(c.Failure); err != nil {
							t.Fatal(err)
						}
					}
					tables, err := s.Tables(f)
					if err != nil {
						t.Fatal(err)
					}
					for _, row := range tables.Devices {
						if row.Unusable > 0 {
							t.Errorf("%s %s, %s down: %s has %d paths that it cannot use", name, family, c.Failure, row.Device, row.Unusable)
						}
					}
				}
			})
		}
	},
	"FAB-S-11": func(t *testing.T) { // there are four models, Ethernet among them; the reading with Downward Default was built
		seen := map[fabric.Model]bool{}
		for _, spec := range all {
			seen[worldOf(t, spec).Model] = true
		}
		if len(seen) != 4 {
			t.Error(seen)
		}
	},
	"FAB-S-12": func(t *testing.T) { // planes are isolated, and every ToR is on every plane
		w := worldOf(t, all["rack l2"])
		if w.Segment("plane0").Switch == w.Segment("plane1").Switch || w.Segment("plane0").Subnets[0].Overlaps(w.Segment("plane1").Subnets[0]) {
			t.Error("the planes are one")
		}
		for _, tor := range []string{"r0-t0", "r1-t0", "r2-t0"} {
			if w.Device(tor).Interface("plane0") == nil || w.Device(tor).Interface("plane1") == nil {
				t.Error(tor, "is not on both")
			}
		}
	},
	"FAB-S-13": func(t *testing.T) { // spines have an AS each, if wished, and every ToR peers with every spine
		w := worldOf(t, "model: as-per-rack, spine: {as: unique}")
		if w.Device("spine0").AS == w.Device("spine1").AS || len(w.Device("spine0").Sessions) != 3 || len(w.Device("spine1").Sessions) != 3 {
			t.Error(w.Device("spine0"), w.Device("spine1"))
		}
	},
	"FAB-S-14": func(t *testing.T) { // ToRs use all spines
		for _, spec := range []string{all["rack l3"], "model: as-per-rack, spine: {as: unique}", all["server l3"], all["rack l2"]} {
			w := worldOf(t, spec)
			w.each(func(family fabric.Family, s *sim.Sim) {
				if r := route(t, s, "r0-t0", w.endpoint("r1-s0", family)); r == nil || len(r.Via) != 2 {
					t.Errorf("%s %s: %+v", spec, family, r)
				}
			})
		}
	},
	"FAB-S-15": func(t *testing.T) { // a vRouter's BGP takes 60 lines at most, for up to four sessions
		for _, spec := range []string{all["rack l3"] + ", racks: {count: 3, tors: 2}", all["ethernet"], all["server l3"] + ", servers: {perRack: 2, uplinks: unnumbered}"} {
			w := worldOf(t, spec)
			e, _ := emit.New(w.Design)
			text, err := e.Device(w.Device("r0-s0"), emit.VRouter)
			if n := strings.Count(text, "\n"); err != nil || n > 60 || len(w.Device("r0-s0").Sessions) > 4 {
				t.Error(spec, n, err)
			}
		}
	},
	"FAB-S-16": func(t *testing.T) { // no policy but prefixes, next hops, reflection and roles
		for name, spec := range all {
			for _, p := range worldOf(t, spec).Profiles {
				if p.AllowOwnAS > 0 || p.ASOverride || p.RemovePrivateAS {
					t.Errorf("%s: %s", name, p.Name)
				}
			}
		}
	},
	"FAB-S-25": func(t *testing.T) { // the next hop is not set by itself on iBGP from ToR to server: it is said, for what came by eBGP
		w := worldOf(t, all["rack l3"])
		if w.Profile("tor-server").NextHopSelf != fabric.NextHopSelfEBGP {
			t.Error(w.Profile("tor-server"))
		}
	},
	"FAB-S-27": func(t *testing.T) { // on an Ethernet fabric it needs no setting
		for _, p := range worldOf(t, all["ethernet"]).Profiles {
			if p.NextHopSelf != "" {
				t.Error(p.Name)
			}
		}
	},
	"FAB-S-31": func(t *testing.T) { // a reflector is on the ToR, on a server or alone
		for place, name := range map[string]string{"tor": "r0-t0", "server": "r0-s0", "standalone": "r0-rr0"} {
			w := worldOf(t, "model: as-per-rack, inRack: {reflector: "+place+"}")
			reflects := slices.ContainsFunc(w.Device(name).Sessions, func(s fabric.Session) bool { return w.Profile(s.Profile).ReflectorClient })
			if !reflects {
				t.Errorf("%s: %s reflects nothing", place, name)
			}
		}
	},
	"FAB-S-35": func(t *testing.T) { // on an Ethernet fabric switches know servers only
		w := worldOf(t, all["ethernet"])
		w.ofRole(fabric.RoleToR, func(d *fabric.Device) { t.Error(d.Name, "routes") })
		w.ofRole(fabric.RoleSpine, func(d *fabric.Device) { t.Error(d.Name, "routes") })
	},
	"FAB-S-36": func(t *testing.T) { // ToRs and spines know every endpoint, the read within a rack: no reflection above
		w := worldOf(t, all["rack l3"])
		w.each(func(family fabric.Family, s *sim.Sim) {
			for _, d := range []string{"r0-t0", "spine0"} {
				if route(t, s, d, w.endpoint("r2-s1", family)) == nil {
					t.Errorf("%s %s does not know r2-s1", family, d)
				}
			}
		})
	},
	"FAB-S-40": func(t *testing.T) { // a rack is an AS, and no two are one
		w := worldOf(t, all["rack l3"])
		seen := map[uint32]string{}
		w.ofRole(fabric.RoleToR, func(d *fabric.Device) {
			if seen[d.AS] != "" {
				t.Error(d.Name, seen[d.AS])
			}
			seen[d.AS] = d.Rack
		})
		w.ofRole(fabric.RoleServer, func(d *fabric.Device) {
			if seen[d.AS] != d.Rack {
				t.Error(d.Name, d.AS)
			}
		})
	},
	"FAB-S-41": func(t *testing.T) { // north of the ToR everything is eBGP, and nothing is reflected
		for _, spec := range []string{all["rack l3"], all["rack l2"]} {
			w := worldOf(t, spec)
			w.ofRole(fabric.RoleToR, func(d *fabric.Device) {
				for _, s := range d.Sessions {
					if w.Device(s.Peer).Role != fabric.RoleServer && (s.PeerAS == d.AS || w.Profile(s.Profile).ReflectorClient) {
						t.Error(d.Name, s)
					}
				}
			})
			for _, m := range w.Meshes {
				if m.Kind != fabric.MeshEBGP {
					t.Error(m.Name)
				}
			}
		}
	},
	"FAB-S-42": func(t *testing.T) { // on planes a ToR peers with every other, once for each plane
		w := worldOf(t, all["rack l2"])
		if n := w.Peers(w.Device("r0-t0")); n != 2+2*2 {
			t.Error(n)
		}
	},
	"FAB-S-43": func(t *testing.T) { // below spines a ToR peers with its servers and every spine, a spine with all ToRs
		for _, tors := range []int{1, 2} {
			w := worldOf(t, fmt.Sprintf("%s, spine: {count: 3}, racks: {count: 4, tors: %d}", all["rack l3"], tors))
			if n, m := w.Peers(w.Device("r0-t0")), w.Peers(w.Device("spine2")); n != 2+3 || m != 4*tors {
				t.Error(tors, n, m)
			}
		}
	},
	"FAB-S-44": func(t *testing.T) { // the inside of a rack does not depend on the spine
		inside := func(spec string) string {
			w := worldOf(t, spec)
			var out []any
			for _, name := range []string{"r0-s0", "r0-s1"} {
				out = append(out, w.Device(name))
			}
			for _, s := range w.Device("r0-t0").Sessions {
				if w.Device(s.Peer).Role == fabric.RoleServer {
					out = append(out, s, w.Profile(s.Profile))
				}
			}
			e, err := emit.New(w.Design)
			if err != nil {
				t.Fatal(err)
			}
			text, err := e.Device(w.Device("r0-s0"), emit.VRouter)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := json.Marshal(append(out, comments.ReplaceAllString(text, "")))
			return string(b)
		}
		if a, b := inside(all["rack l3"]), inside(all["rack l2"]); a != b {
			t.Errorf("%s\n%s", a, b)
		}
	},
	"FAB-S-45": func(t *testing.T) { // a rack is one Ethernet, and the ToR's router has one port there
		w := worldOf(t, all["rack l3"])
		if s := w.Segment("r0-t0--rack"); s.Kind != fabric.RackSegment || len(w.On(s.Name)) != 3 {
			t.Error(s, w.On(s.Name))
		}
	},
	"FAB-S-46": func(t *testing.T) { // servers of a rack send to each other directly
		w := worldOf(t, all["rack l3"])
		w.each(func(family fabric.Family, s *sim.Sim) {
			if list := ways(t, s, "r0-s0", w.endpoint("r0-s1", family)); !slices.Equal(list, []string{"r0-s0 r0-s1: delivered"}) {
				t.Error(family, list)
			}
		})
	},
	"FAB-S-48": func(t *testing.T) { // a ToR tells its servers of other racks, and other ToRs of its rack
		w := worldOf(t, all["rack l3"])
		w.each(func(family fabric.Family, s *sim.Sim) {
			if r := route(t, s, "r0-s0", w.endpoint("r1-s0", family)); r == nil || len(r.Paths) != 1 || r.Paths[0].From != "r0-t0" || len(r.Paths[0].ASPath) != 2 {
				t.Errorf("%s: %+v", family, r)
			}
		})
	},
	"FAB-S-49": func(t *testing.T) { // to other racks by the ToR, inside the rack by the server: the slip in the text is read as internal
		w := worldOf(t, all["rack l3"])
		w.each(func(family fabric.Family, s *sim.Sim) {
			far, near := route(t, s, "r0-s0", w.endpoint("r1-s0", family)), route(t, s, "r0-s0", w.endpoint("r0-s1", family))
			if far.Via[0].Device != "r0-t0" || near.Via[0].Device != "r0-s1" {
				t.Errorf("%s: %+v %+v", family, far.Via, near.Via)
			}
		})
	},
	"FAB-S-50": func(t *testing.T) { // a server is an AS
		w := worldOf(t, all["server l3"])
		seen := map[uint32]bool{}
		for i := range w.Devices {
			if d := &w.Devices[i]; d.Role != fabric.RoleSpine {
				if seen[d.AS] {
					t.Error(d.Name, d.AS)
				}
				seen[d.AS] = true
			}
		}
	},
	"FAB-S-51": func(t *testing.T) { // a ToR has an AS of its own, or on planes all have one: both readings were built
		if w := worldOf(t, all["server l2"]); w.Device("r0-t0").AS == w.Device("r1-t0").AS {
			t.Error("one AS")
		}
		w := worldOf(t, all["server l2"]+", tors: {as: shared}")
		if w.Device("r0-t0").AS != w.Device("r1-t0").AS || w.Meshes[0].Kind != fabric.MeshIBGP {
			t.Error("no transit AS")
		}
		w.each(func(family fabric.Family, s *sim.Sim) {
			if r, err := s.Reach(sim.Failure{}); err != nil || !r.Whole() {
				t.Errorf("%s %+v %v", family, r, err)
			}
		})
	},
	"FAB-S-52": func(t *testing.T) { // numbers of four octets, as there are not enough of two
		if as := worldOf(t, all["server l3"]).Device("r2-s1").AS; as < 4200000000 {
			t.Error(as)
		}
	},
	"FAB-S-55": func(t *testing.T) { // no reflectors, a session for each ToR of a server
		w := worldOf(t, all["server l3"]+", racks: {count: 3, tors: 2}")
		if n, m := w.Peers(w.Device("r0-s0")), w.Peers(w.Device("r0-t0")); n != 2 || m != 2+2 {
			t.Error(n, m)
		}
	},
	"FAB-S-56": func(t *testing.T) { // servers of a rack reach each other by the ToR on ports, and past it on a segment: the text means ports
		for uplinks, want := range map[string]string{"routed": "r0-s0 r0-t0 r0-s1: delivered", "unnumbered": "r0-s0 r0-t0 r0-s1: delivered", "segment": "r0-s0 r0-s1: delivered"} {
			w := worldOf(t, "model: as-per-server, servers: {perRack: 2, uplinks: "+uplinks+"}")
			w.each(func(family fabric.Family, s *sim.Sim) {
				if list := ways(t, s, "r0-s0", w.endpoint("r0-s1", family)); !slices.Equal(list, []string{want}) {
					t.Error(uplinks, family, list)
				}
			})
		}
	},
	"FAB-S-57": func(t *testing.T) { // between ToRs it is as with AS per rack
		for _, kind := range []string{"l3", "l2"} {
			a, b := worldOf(t, all["rack "+kind]), worldOf(t, all["server "+kind])
			if n, m := a.Peers(a.Device("r0-t0")), b.Peers(b.Device("r0-t0")); n != m {
				t.Error(kind, n, m)
			}
		}
	},
	"FAB-S-60": func(t *testing.T) { // no specific route travels down: nothing has to be stripped from paths
		w := worldOf(t, all["default l3"])
		w.each(func(family fabric.Family, s *sim.Sim) {
			list, err := s.Routes("r0-s0", sim.Failure{})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range list {
				if !r.Local && r.Prefix.Bits() != 0 {
					t.Errorf("%s: %+v", family, r)
				}
			}
		})
	},
	"FAB-S-61": func(t *testing.T) { // all servers have one number and all ToRs another, and that is no error
		w := worldOf(t, all["default l3"])
		if w.Device("r0-s0").AS != w.Device("r2-s1").AS || w.Device("r0-t0").AS != w.Device("r1-t0").AS || w.Device("r0-s0").AS == w.Device("r0-t0").AS {
			t.Error("numbers")
		}
		for _, f := range check.Design(w.Design) {
			if f.ID == "FAB-AS-001" && f.Severity != check.Info {
				t.Error(f.Message)
			}
		}
	},
	"FAB-S-62": func(t *testing.T) { // servers differ in names and addresses only
		w := worldOf(t, all["default l3"])
		shape := func(name string) string {
			d := *w.Device(name)
			var s []string
			for _, x := range d.Sessions {
				s = append(s, fmt.Sprint(x.PeerAS, x.Profile))
			}
			return fmt.Sprint(d.AS, d.Software, d.Multipath, len(d.Interfaces), s, *d.VRouter)
		}
		if shape("r0-s0") != shape("r2-s1") {
			t.Error(shape("r0-s0"), shape("r2-s1"))
		}
		e, err := emit.New(w.Design)
		if err != nil {
			t.Fatal(err)
		}
		written := func(name, rack string) string {
			text, err := e.Device(w.Device(name), emit.VRouter)
			if err != nil {
				t.Fatal(err)
			}
			text = strings.NewReplacer(name, "SERVER", rack, "RACK").Replace(comments.ReplaceAllString(text, ""))
			return addresses.ReplaceAllString(text, "ADDRESS")
		}
		if a, b := written("r0-s0", "r0-"), written("r2-s1", "r2-"); a != b || !strings.Contains(a, "ADDRESS") {
			t.Errorf("%s\n%s", a, b)
		}
	},
	"FAB-S-63": func(t *testing.T) { // down there is the default route and nothing else
		w := worldOf(t, all["default l3"])
		for _, name := range []string{"tor-server", "spine-tor"} {
			f := w.Filter(w.Profile(name).Export)
			if f == nil || !f.Permits(netip.MustParsePrefix("0.0.0.0/0")) || f.Permits(netip.MustParsePrefix("10.64.0.0/32")) || !f.Permits(netip.MustParsePrefix("::/0")) {
				t.Error(name, f)
			}
		}
	},
	"FAB-S-64": func(t *testing.T) { // a server has its endpoints and the default route, a ToR what is below it and the default route
		w := worldOf(t, all["default l3"])
		w.each(func(family fabric.Family, s *sim.Sim) {
			// 2 endpoints and a loopback on each server; the ToR's own loopback.
			if x := w.table(t, s, fabric.RoleServer); x.FIB != 1 || x.Local != 3 {
				t.Errorf("%s: %+v", family, x)
			}
			if x := w.table(t, s, fabric.RoleToR); x.FIB != 2*3+1 || x.Local != 1 {
				t.Errorf("%s: %+v", family, x)
			}
		})
	},
	"FAB-S-66": func(t *testing.T) { // the spine makes the default route, the ToR hands it on
		w := worldOf(t, all["default l3"])
		if w.Profile("spine-tor").Default != fabric.AlwaysDefault || w.Profile("tor-server").Default != fabric.NoDefault {
			t.Error("who makes it")
		}
	},
	"FAB-S-67": func(t *testing.T) { // what no endpoint has travels to the spine before it is dropped, and no further
		w := worldOf(t, all["default l3"])
		for _, way := range ways(t, w.sims[fabric.IPv4], "r0-s0", netip.MustParseAddr("10.100.0.1")) {
			if !strings.HasPrefix(way, "r0-s0 r0-t0 spine") || strings.HasSuffix(way, "delivered") || strings.Count(way, " spine") > 1 {
				t.Error(way)
			}
		}
		w = worldOf(t, all["default l3"]+", downwardDefault: {fallback: border}, border: [{name: b1, as: 64999, default: true}]")
		for _, way := range ways(t, w.sims[fabric.IPv4], "r0-s0", netip.MustParseAddr("10.100.0.1")) {
			if !strings.Contains(way, " b1: ") || strings.HasSuffix(way, "delivered") {
				t.Error(way)
			}
		}
	},
	"FAB-S-68": func(t *testing.T) { // a spine carries every route once, without links between spines
		w := worldOf(t, all["default l3"]+", downwardDefault: {fallback: none}")
		w.each(func(family fabric.Family, s *sim.Sim) {
			// 6 servers with 2 endpoints and a loopback, 3 loopbacks of ToRs, its own.
			if x := w.table(t, s, fabric.RoleSpine); x.Paths != 6*3+3+1 {
				t.Errorf("%s: %+v", family, x)
			}
		})
	},
	"FAB-S-69": func(t *testing.T) { // the memory that routes take is a small part of a server's
		w := worldOf(t, all["rack l3"]+", racks: {count: 8}, servers: {perRack: 80}, endpoints: {perServer: 200}, families: [ipv4]")
		sizes, _ := w.Sizes(fabric.IPv4)
		for _, z := range sizes.Devices {
			if z.Role == fabric.RoleServer && z.Memory > 640<<20 { // a hundredth of 64 GB
				t.Error(z.Memory)
			}
		}
	},
	"FAB-S-71": func(t *testing.T) { // a border peers with spines, with ToRs on planes, or with reflectors
		for name, peer := range map[string]string{"rack l3": "spine1", "rack l2": "r2-t0", "ethernet": "plane1-rr0"} {
			w := worldOf(t, all[name]+", border: [{name: b1, as: 64999, default: true}]")
			if !slices.ContainsFunc(w.Device("b1").Sessions, func(s fabric.Session) bool { return s.Peer == peer && s.PeerAS != 64999 }) {
				t.Errorf("%s: %+v", name, w.Device("b1").Sessions)
			}
			w.each(func(family fabric.Family, s *sim.Sim) {
				if r := route(t, s, "b1", w.endpoint("r2-s1", family)); r == nil || len(r.Via) == 0 {
					t.Errorf("%s %s: the border knows no way to r2-s1", name, family)
				}
			})
		}
	},
	"FAB-S-72": func(t *testing.T) { // a pool says what becomes of it at the edge
		w := worldOf(t, all["rack l3"]+", endpoints: {perServer: 2}, pools: {endpoints: [{cidr: 10.64.0.0/16, external: advertise}, {cidr: 10.65.0.0/16}]}, families: [ipv4], border: [{name: b1, as: 64999}]")
		if w.Pools[0].External != fabric.Advertise || w.Pools[1].External != fabric.NAT {
			t.Error(w.Pools)
		}
		e, err := emit.New(w.Design)
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range []emit.Target{emit.FRR, emit.BIRD, emit.GoBGP, emit.EOS, emit.Junos, emit.NXOS, emit.SONiC} {
			text, err := e.Device(w.Device("b1"), target)
			if err != nil || !strings.Contains(text, " 10.64.0.0/16 is public: ") || !strings.Contains(text, " 10.65.0.0/16 is private: translate ") {
				t.Error(target, err, text)
			}
			if text, err = e.Device(w.Device("spine0"), target); err != nil || strings.Contains(text, "translate") {
				t.Error(target, err, text)
			}
		}
	},
	"FAB-S-70": func(t *testing.T) { // which model is recommended, and when
		advice := func(servers, endpoints, switches, growth string, simple bool) *advise.Advice {
			doc, err := fabric.Parse([]byte(`apiVersion: fabric/v1
kind: Fabric
metadata: {name: note}
spec: {model: as-per-server, racks: {count: 8}, servers: {perRack: ` + servers + `}, spine: {count: 4}, switches: ` + switches + `, endpoints: {perServer: ` + endpoints + growth + `}}`))
			if err != nil {
				t.Fatal(err)
			}
			return advise.Models(doc.Fabric, simple)
		}
		const grows = ", growth: {percentPerYear: 40, years: 2}"
		for _, c := range []struct {
			switches, growth string
			simple           bool
			want             fabric.Model
		}{
			{"{tor: {lpmTable: 256k}, spine: {lpmTable: 256k}}", "", false, fabric.ASPerRack},
			{"{tor: {lpmTable: 256k}, spine: {lpmTable: 256k}}", grows, false, fabric.Ethernet}, // 251,000 of 262,144
			{"{tor: {lpmTable: 512k}, spine: {lpmTable: 512k}}", grows, false, fabric.ASPerRack},
			{"{tor: {hostTable: 16k, hostRoutesIn: host}, spine: {lpmTable: 256k}}", "", false, fabric.DownwardDefault},
			{"{tor: {hostTable: 16k, hostRoutesIn: host}, spine: {lpmTable: 64k}}", "", false, fabric.Ethernet},
			{"{tor: {lpmTable: 256k}, spine: {lpmTable: 256k}}", "", true, fabric.Ethernet},
			{"{}", "", false, fabric.Ethernet}, // 128,000 entries, and not one for a loopback
		} {
			a := advice("8", "2000", c.switches, c.growth, c.simple)
			if a.Pick.Model != c.want || a.Options[0] != a.Pick || a.Because == "" || len(a.Options) != 7 {
				t.Errorf("%s %s: %s since %s", c.switches, c.growth, a.Pick.Model, a.Because)
			}
		}
		a := advice("80", "200", "{tor: {hostTable: 16k, hostRoutesIn: host}, spine: {lpmTable: 256k}}", "", false)
		if d := a.Pick; d.ToR.Used != 16_165 || d.ToR.Holds != 16_384 || !strings.Contains(a.Because, "128,104 of 16,384") {
			t.Errorf("%+v since %s", d.ToR, a.Because)
		}
	},
	"FAB-S-76": func(t *testing.T) { // a route that is missing is explained, in the words of the daemon's own log
		w := worldOf(t, all["rack l3"])
		for i := range w.Profiles {
			w.Profiles[i].NextHopSelf = fabric.NextHopSelfNone
		}
		for i := range w.Devices {
			if w.Devices[i].Role == fabric.RoleServer {
				w.Devices[i].Software = fabric.BIRD
			}
		}
		for _, family := range w.Families {
			s, err := sim.New(w.Design, family)
			if err != nil {
				t.Fatal(err)
			}
			e, err := s.Explain("r0-s0", w.endpoint("r1-s0", family), sim.Failure{})
			if err != nil {
				t.Fatal(err)
			}
			if p := e.Routes[0].Paths; e.Reached || len(p) != 1 || p[0].From != "r0-t0" || !strings.HasPrefix(p[0].Says, "Invalid NEXT_HOP attribute - address ") {
				t.Errorf("%s: %+v", family, e)
			}
		}
	},
}

// everyPair visits two ordered pairs of servers in each model: of one rack and
// of two.
func everyPair(t *testing.T, visit func(name string, w *world, s *sim.Sim, from, to string, ways []string)) {
	for name, spec := range all {
		w := worldOf(t, spec)
		w.each(func(family fabric.Family, s *sim.Sim) {
			for _, to := range []string{"r0-s1", "r1-s0"} {
				visit(name, w, s, "r0-s0", to, ways(t, s, "r0-s0", w.endpoint(to, family)))
			}
		})
	}
}

func (w *world) ofRole(role fabric.Role, visit func(d *fabric.Device)) {
	for i := range w.Devices {
		if w.Devices[i].Role == role {
			visit(&w.Devices[i])
		}
	}
}

// TestStatements holds the models to what is said of them.
func TestStatements(t *testing.T) {
	for _, list := range []map[string]func(t *testing.T){statements, scope, read} {
		for name, holds := range list {
			t.Run(name, func(t *testing.T) {
				if r := readings[name]; r != "" {
					t.Log("read as:", r)
				}
				holds(t)
			})
		}
	}
}
