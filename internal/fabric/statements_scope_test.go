// SPDX-License-Identifier: Apache-2.0

package fabric_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/check"
	"github.com/muslin-net/muslin/internal/fabric/emit"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// scope are statements about terms, the rules of BGP and what is beside the models.
var scope = map[string]func(t *testing.T){
	"FAB-S-01": func(t *testing.T) { // an endpoint is an address: with both families it is two routes
		used := func(families string) int {
			w := worldOf(t, all["rack l3"]+", families: ["+families+"]")
			list, _, _ := w.Entries()
			for _, e := range list {
				if e.Role == fabric.RoleSpine {
					return e.Routes
				}
			}
			return 0
		}
		if one, two := used("ipv4"), used("ipv4, ipv6"); one != 12 || two != 24 {
			t.Errorf("12 endpoints are %d routes, and with both families %d", one, two)
		}
	},
	"FAB-S-02": func(t *testing.T) { // bare metal and appliances are routers of the fabric, by iBGP in a rack or by eBGP on a port
		w := worldOf(t, all["rack l3"]+", border: [{name: b1, as: 64999, default: true}]")
		g := w.Design
		inside := attach(g, "metal0", w.Device("r0-t0").AS, "r0-t0--rack", 100, "10.127.0.1/32", "fd00:64:0:ffff::1/128")
		peer(g, inside, "r0-t0", "r0-t0--rack", "server-tor", "tor-server")
		outside := attach(g, "metal1", 65099, "r1-t0--rack", 100, "10.127.0.2/32", "fd00:64:0:ffff::2/128")
		peer(g, outside, "r1-t0", "r1-t0--rack", "server-tor", "tor-server")
		reached(t, g, "10.127.0.1", "fd00:64:0:ffff::1", "metal0", "r0-s0", "r0-s1", "r2-s1", "b1")
		reached(t, g, "10.127.0.2", "fd00:64:0:ffff::2", "metal1", "r1-s0", "r0-s0", "metal0", "b1")
	},
	"FAB-S-08": func(t *testing.T) { // every hop forwards by a route to the endpoint itself: nothing is encapsulated or translated
		for _, name := range []string{"rack l3", "rack l2", "server l3", "server l2", "ethernet"} {
			w := worldOf(t, all[name])
			w.each(func(family fabric.Family, s *sim.Sim) {
				to := w.endpoint("r1-s1", family)
				p, err := s.Path("r0-s0", to, sim.Failure{})
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range p.Branches {
					for _, h := range b.Hops {
						if h.Prefix != netip.PrefixFrom(to, to.BitLen()) {
							t.Errorf("%s: %s forwards by %s", name, h.Device, h.Prefix)
						}
					}
				}
			})
			eachConfig(t, w, func(device, text string) {
				for _, word := range []string{"vxlan", "tunnel", " nat ", "gre "} {
					if strings.Contains(text, word) {
						t.Errorf("%s: %s has %q", name, device, word)
					}
				}
			})
		}
	},
	"FAB-S-09": func(t *testing.T) { // no IGP is written, and iBGP that would need one is an error
		for name, spec := range all {
			eachConfig(t, worldOf(t, spec), func(device, text string) {
				for _, word := range []string{"router ospf", "router isis", "protocol ospf", "protocol rip"} {
					if strings.Contains(text, word) {
						t.Errorf("%s: %s has %q", name, device, word)
					}
				}
			})
		}
		w := worldOf(t, all["rack l3"])
		if found(w.Design, "FAB-NH-005") != nil {
			t.Error("FAB-NH-005 without a reason")
		}
		x, y := w.Device("spine0"), w.Device("spine1")
		for _, d := range []*fabric.Device{x, y} {
			o := y
			if d == y {
				o = x
			}
			d.Sessions = append(d.Sessions, fabric.Session{Peer: o.Name, PeerAS: o.AS, Address: []netip.Addr{o.Loopback(fabric.IPv4), o.Loopback(fabric.IPv6)}, Profile: "spine-tor"})
		}
		if f := found(w.Design, "FAB-NH-005"); f == nil || !strings.Contains(strings.Join(f.Fix, " "), "IGP") {
			t.Errorf("%+v", f)
		}
	},
	"FAB-S-21": func(t *testing.T) { // two regions with one AS number are one AS: just these two cannot talk
		g := twoRegions(t, fabric.FRR)
		if f := found(g, "FAB-AS-001"); f == nil {
			t.Error("not found")
		}
		for _, family := range g.Families {
			s, err := sim.New(g, family)
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Reach(sim.Failure{})
			if err != nil || r.Cut != 8 || r.Partly != 0 || r.Pairs != 30 {
				t.Errorf("%s: %+v, %v", family, r, err)
			}
			for _, pair := range [][2]string{{"r0-s0", "r2-s0"}, {"r2-s1", "r1-s0"}, {"r0-s0", "r0-s1"}} {
				to, _ := s.Endpoint(pair[1])
				if p, err := s.Path(pair[0], to, sim.Failure{}); err != nil || p.Lost > 0 {
					t.Errorf("%s: %v: %+v, %v", family, pair, p, err)
				}
			}
		}
	},
	"FAB-S-22": func(t *testing.T) { // a route does not get to where its AS path has been; who sees to that depends on the program, both were built
		for software, sent := range map[fabric.Software]bool{fabric.FRR: true, fabric.GoBGP: false} {
			g := twoRegions(t, software)
			for _, family := range g.Families {
				s, err := sim.New(g, family)
				if err != nil {
					t.Fatal(err)
				}
				tables, err := s.Tables(sim.Failure{})
				if err != nil {
					t.Fatal(err)
				}
				tor, _ := tables.Of("r0-t0")
				to, _ := s.Endpoint("r1-s0")
				e, err := s.Explain("r0-t0", to, sim.Failure{})
				if err != nil || e.Reached || (tor.Refused["loop"] > 0) != sent {
					t.Errorf("%s %s: refused are %v; %+v, %v", software, family, tor.Refused, e, err)
				}
			}
		}
	},
	"FAB-S-23": func(t *testing.T) { // what vanishes for that is listed
		f := found(twoRegions(t, fabric.FRR), "FAB-AS-002")
		if f == nil || !strings.Contains(f.Message, "8 of 30 pairs") || len(f.Evidence) == 0 {
			t.Errorf("%+v", f)
		}
		if f := found(worldOf(t, all["rack l3"]).Design, "FAB-AS-002"); f != nil {
			t.Errorf("%+v", f)
		}
	},
	"FAB-S-32": func(t *testing.T) { // RFC 4456: who originated a route and who reflected it refuse it
		refusal := func(g *fabric.Design, at, origin string) (list []string) {
			for _, family := range g.Families {
				s, err := sim.New(g, family)
				if err != nil {
					t.Fatal(err)
				}
				to, _ := s.Endpoint(origin)
				e, err := s.Explain(at, to, sim.Failure{})
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range e.Routes[0].Paths {
					list = append(list, p.From+": "+p.Refused)
				}
			}
			return list
		}
		const cluster, originator = "our own cluster is in CLUSTER_LIST", "ORIGINATOR_ID is this node"
		w := worldOf(t, all["ethernet"])
		if list := strings.Join(refusal(w.Design, "plane0-rr1", "r0-s0"), "\n"); strings.Contains(list, cluster) || !strings.Contains(list, "plane0-rr0: ") {
			t.Error(list)
		}
		w.Device("plane0-rr0").ClusterID, w.Device("plane0-rr1").ClusterID = netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("1.1.1.1")
		if list := strings.Join(refusal(w.Design, "plane0-rr1", "r0-s0"), "\n"); strings.Count(list, "plane0-rr0: "+cluster) != 2 {
			t.Error(list)
		}
		w = worldOf(t, all["ethernet"])
		w.Device("r1-s0").RouterID = w.Device("r0-s0").RouterID
		if list := strings.Join(refusal(w.Design, "r1-s0", "r0-s0"), "\n"); strings.Count(list, originator) != 8 {
			t.Error(list)
		}
	},
	"FAB-S-33": func(t *testing.T) { // every endpoint is a route, unless it stays in its server's or rack's block; tables hold tens to hundreds of thousands
		for announce, want := range map[fabric.Announce]int{fabric.OneByOne: 12, fabric.ServerBlock: 6, fabric.RackBlock: 3} {
			w := worldOf(t, all["rack l3"]+", endpoints: {perServer: 2, announce: "+string(announce)+"}, families: [ipv4]")
			sizes, _ := w.Sizes(fabric.IPv4)
			for _, z := range sizes.Devices {
				if z.Role == fabric.RoleSpine && z.Routes != want {
					t.Errorf("%s: %d routes on a spine, want %d", announce, z.Routes, want)
				}
			}
		}
		for _, p := range fabric.Catalogue {
			if most := max(p.HostTable, p.LPMTable); most != 0 && (most < 10_000 || most > 2_500_000) {
				t.Errorf("%s holds %d", p.Name, most)
			}
		}
	},
	"FAB-S-73": func(t *testing.T) { // a machine with its address on itself, and one that its ToR announces for it
		w := worldOf(t, all["server l3"])
		g := w.Design
		link := fabric.Segment{Name: "r0-t0--metal", Kind: fabric.Link, Subnets: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/31"), netip.MustParsePrefix("fd00:30::/127")}}
		g.Segments = append(g.Segments, link)
		tor := &g.Devices[indexOf(g, "r0-t0")]
		tor.Interfaces = append(tor.Interfaces, fabric.Interface{Name: "metal", Segment: link.Name, Addresses: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/31"), netip.MustParsePrefix("fd00:30::/127")}})
		// The next hop of a static route is no matter of BGP: that the ToR announces it is.
		tor.Originate = append(tor.Originate, fabric.Origin{Kind: fabric.OriginEndpoints, Prefix: netip.MustParsePrefix("10.127.0.9/32"), Count: 1},
			fabric.Origin{Kind: fabric.OriginEndpoints, Prefix: netip.MustParsePrefix("fd00:64:0:ffff::9/128"), Count: 1})
		metal := attach(g, "metal0", 4200200000, link.Name, 1, "10.127.0.8/32", "fd00:64:0:ffff::8/128")
		peer(g, metal, "r0-t0", link.Name, "server-tor", "tor-server")
		reached(t, g, "10.127.0.8", "fd00:64:0:ffff::8", "metal0", "r0-s0", "r2-s1")
		reached(t, g, "10.127.0.9", "fd00:64:0:ffff::9", "r0-t0", "r0-s0", "r2-s1", "metal0")
	},
	"FAB-S-74": func(t *testing.T) { // memory is as it was measured: 131,072 prefixes are 103 MB in FRR's daemon, 500,000 less than a hundredth of a server's
		memory := func(racks string) fabric.Bytes {
			w := worldOf(t, "model: as-per-rack, racks: {count: "+racks+"}, servers: {perRack: 64}, endpoints: {perServer: 256}, families: [ipv4], pools: {endpoints: [{cidr: 10.0.0.0/8}]}")
			sizes, _ := w.Sizes(fabric.IPv4)
			for _, z := range sizes.Devices {
				if z.Role == fabric.RoleServer {
					return z.Memory
				}
			}
			return 0
		}
		if mb := memory("8") / 1e6; mb < 98 || mb > 108 {
			t.Errorf("%d MB", mb)
		}
		if mb := memory("31") / 1e6; mb > 640 { // 507,904 endpoints
			t.Errorf("%d MB", mb)
		}
	},
}

func indexOf(g *fabric.Design, name string) int {
	for i := range g.Devices {
		if g.Devices[i].Name == name {
			return i
		}
	}
	return -1
}

// attach adds a machine to a segment, with the n-th address of each subnet and endpoints of its own.
func attach(g *fabric.Design, name string, as uint32, segment string, n int, endpoints ...string) string {
	d := fabric.Device{Name: name, Role: fabric.RoleMachine, Software: fabric.BIRD, AS: as, RouterID: netip.AddrFrom4([4]byte{192, 0, 2, byte(len(g.Devices))}),
		VRouter: &fabric.VRouter{PreferLocal: true, LocalGateway: true, IgnoreLinkDown: true}}
	for i := range g.Segments {
		if g.Segments[i].Name != segment {
			continue
		}
		port := fabric.Interface{Name: "eth0", Segment: segment}
		for _, net := range g.Segments[i].Subnets {
			a := net.Addr()
			for range n {
				a = a.Next()
			}
			port.Addresses = append(port.Addresses, netip.PrefixFrom(a, net.Bits()))
		}
		d.Interfaces = append(d.Interfaces, port)
	}
	for _, e := range endpoints {
		d.Originate = append(d.Originate, fabric.Origin{Kind: fabric.OriginEndpoints, Prefix: netip.MustParsePrefix(e), Count: 1})
	}
	g.Devices = append(g.Devices, d)
	return name
}

// peer makes a session of two devices on a segment.
func peer(g *fabric.Design, a, b, segment, aProfile, bProfile string) {
	x, y := &g.Devices[indexOf(g, a)], &g.Devices[indexOf(g, b)]
	one := func(x, y *fabric.Device, profile string) {
		s := fabric.Session{Peer: y.Name, Segment: segment, PeerAS: y.AS, Profile: profile}
		for _, p := range y.Interface(segment).Addresses {
			s.Address = append(s.Address, p.Addr())
		}
		x.Sessions = append(x.Sessions, s)
	}
	one(x, y, aProfile)
	one(y, x, bProfile)
}

// reached tells whether all of what some devices send to an address arrives at another device.
func reached(t *testing.T, g *fabric.Design, to4, to6, at string, from ...string) {
	t.Helper()
	for family, to := range map[fabric.Family]string{fabric.IPv4: to4, fabric.IPv6: to6} {
		s, err := sim.New(g, family)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Problems()) > 0 {
			t.Error(s.Problems())
		}
		for _, device := range from {
			for _, way := range ways(t, s, device, netip.MustParseAddr(to)) {
				if !strings.HasSuffix(way, " "+at+": delivered") {
					t.Errorf("%s from %s: %s", to, device, way)
				}
			}
		}
	}
}

// found is the first finding of a rule.
func found(g *fabric.Design, id string) *check.Finding {
	for _, f := range check.Design(g) {
		if f.ID == id {
			return f
		}
	}
	return nil
}

// eachConfig visits what is written for each switch and border.
func eachConfig(t *testing.T, w *world, visit func(device, text string)) {
	t.Helper()
	e, err := emit.New(w.Design)
	if err != nil {
		t.Fatal(err)
	}
	for i := range w.Devices {
		if d := &w.Devices[i]; d.Role != fabric.RoleServer && d.Role != fabric.RoleReflector {
			text, err := e.Device(d, e.Target(d))
			if err != nil {
				t.Fatal(err)
			}
			visit(d.Name, text)
		}
	}
}

// twoRegions is AS per rack in which the second rack has the AS number of the first.
func twoRegions(t *testing.T, spines fabric.Software) *fabric.Design {
	t.Helper()
	g := worldOf(t, all["rack l3"]).Design
	old, as := g.Devices[indexOf(g, "r1-t0")].AS, g.Devices[indexOf(g, "r0-t0")].AS
	for i := range g.Devices {
		d := &g.Devices[i]
		if d.AS == old {
			d.AS = as
		}
		if d.Role == fabric.RoleSpine {
			d.Software = spines
		}
		for j := range d.Sessions {
			if d.Sessions[j].PeerAS == old {
				d.Sessions[j].PeerAS = as
			}
		}
	}
	return g
}
