// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

func designOf(t testing.TB, spec string) *fabric.Design {
	t.Helper()
	for _, field := range []string{"racks: {count: 3}", "servers: {perRack: 2}", "endpoints: {perServer: 2}"} {
		if name, _, _ := strings.Cut(field, ":"); !strings.Contains(spec, name+": {") {
			spec += ", " + field
		}
	}
	doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: t}\nspec: {" + spec + ", families: [ipv4, ipv6]}"))
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	return doc.Fabric.Design()
}

// perfect is what the vRouters of a design see if all is as the simulation says, in the
// words of their API; with what is down, sessions beside.
func perfect(t testing.TB, g *fabric.Design, down ...string) *Document {
	t.Helper()
	x, doc := g.Index(), &Document{}
	for i := range g.Devices {
		d := &g.Devices[i]
		if d.Software != fabric.Muslin {
			continue
		}
		s := Seen{Peers: Peers{Node: d.Name, ASN: d.AS}}
		called := map[string]map[fabric.Family]string{} // the name of a session by its peer
		add := func(p Peer, of string, families ...fabric.Family) {
			p.State = established
			s.Peers.Peers = append(s.Peers.Peers, p)
			if called[of] == nil {
				called[of] = map[fabric.Family]string{}
			}
			for _, f := range families {
				called[of][f] = p.Name
			}
		}
		ports := map[string]string{}
		for _, n := range x.Neighbours(d) {
			ports[n.Name] = n.Port.Segment
			for _, a := range n.Address {
				add(Peer{Name: "to-" + a.String(), Addr: netip.AddrPortFrom(a, 179), ASN: n.AS}, n.Name, fabric.FamilyOf(a))
			}
			if len(n.Address) == 0 {
				add(Peer{Name: "over-" + n.Port.Name, Interface: n.Port.Name, ASN: n.AS, Addr: netip.AddrPortFrom(netip.MustParseAddr("fe80::1").WithZone(n.Port.Name), 179)}, n.Name, fabric.IPv4, fabric.IPv6)
			}
		}
		node := Node{Name: d.Name, AS: d.AS}
		for _, family := range g.Families {
			run, err := sim.New(g, family)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range routesOf(t, run, d.Name, down) {
				for n := range r.Count {
					p := fabric.Nth(r.Prefix, n)
					if r.Local {
						s.Paths.Routes = append(s.Paths.Routes, BGPRoute{Prefix: p})
					}
					for _, x := range r.Paths {
						if p := d.Interface(ports[x.From]); p != nil && len(p.Addresses) == 0 {
							x.NextHop = netip.MustParseAddr("fe80::1")
						}
						path := BGPRoute{Prefix: p, NextHop: x.NextHop, Peer: called[x.From][family], ASPath: x.ASPath}
						if x.Refused != "" && !x.Unusable {
							path.Reason = x.Refused
							s.Refused.Routes = append(s.Refused.Routes, path)
							continue
						}
						s.Paths.Routes = append(s.Paths.Routes, path)
					}
					k := Route{Prefix: p, Kind: "bgp", State: "installed"}
					for _, v := range r.Via {
						k.NextHops = append(k.NextHops, linkLocalOf(x, d, v))
					}
					if attached(d, p) {
						k.State, k.Text = "conflict", "a foreign route to it (protocol 2) wins"
					}
					if len(k.NextHops) > 0 && d.Role != fabric.RoleReflector {
						s.Routes = append(s.Routes, k)
					}
				}
			}
			for _, p := range endpointsOf(d, family) {
				s.Routes = append(s.Routes, Route{Prefix: p, Kind: "endpoint", State: "installed"})
				node.Endpoints = append(node.Endpoints, p.Addr())
			}
		}
		doc.VRouters, doc.Nodes = append(doc.VRouters, s), append(doc.Nodes, node)
	}
	return doc
}

func routesOf(t testing.TB, run *sim.Sim, device string, down []string) []sim.Route {
	t.Helper()
	f, err := run.Failure(down...)
	if err != nil {
		t.Fatal(err)
	}
	routes, err := run.RoutesByPeer(device, f)
	if err != nil {
		t.Fatal(err)
	}
	return routes
}

// linkLocalOf is a next hop as the kernel has it: on a port without addresses, a link-local one.
func linkLocalOf(x *fabric.Index, d *fabric.Device, h sim.NextHop) netip.Addr {
	if p := d.Interface(h.Segment); p != nil && len(p.Addresses) == 0 {
		return netip.MustParseAddr("fe80::1").WithZone(p.Name)
	}
	return h.Addr
}

var variants = []string{
	"model: as-per-rack",
	"model: as-per-rack, spine: {kind: l2}",
	"model: as-per-rack, spine: {as: unique}",
	"model: as-per-rack, racks: {count: 3, tors: 2}",
	"model: as-per-rack, inRack: {sessions: mesh}",
	"model: as-per-rack, inRack: {reflector: server}",
	"model: as-per-rack, endpoints: {perServer: 3, announce: server-block}",
	"model: as-per-rack, endpoints: {perServer: 2, announce: rack-block}",
	"model: as-per-server",
	"model: as-per-server, servers: {perRack: 2, uplinks: unnumbered}",
	"model: as-per-server, spine: {kind: l2}, tors: {as: shared}",
	"model: downward-default",
	"model: downward-default, racks: {count: 3, tors: 2}, downwardDefault: {fallback: dual-tor}",
	"model: ethernet",
	"model: ethernet, routeReflectors: {placement: none}",
	"model: ethernet, routeReflectors: {placement: all-planes, addPath: true}",
}

// TestPerfect: nothing differs where all is as designed, with the datastore and without.
func TestPerfect(t *testing.T) {
	for _, v := range variants {
		g := designOf(t, v)
		doc := perfect(t, g)
		for _, nodes := range [][]Node{doc.Nodes, nil} {
			a, err := Check(g, &Document{VRouters: doc.VRouters, Nodes: nodes})
			if err != nil {
				t.Fatalf("%s: %v", v, err)
			}
			for i, f := range a.Findings {
				if i < 5 {
					t.Errorf("%s: %+v", v, f)
				}
			}
			if a.Sessions < 6 || a.Paths < 12 || a.Routes < 12 {
				t.Errorf("%s: compared %+v", v, a)
			}
		}
	}
}

// TestPortDown: a vRouter lists paths whose next hop lies behind a port that is down like others, and nothing differs:
// that it does not use them is compared by its kernel.
func TestPortDown(t *testing.T) {
	g := designOf(t, "model: ethernet, routeReflectors: {placement: all-planes, addPath: true}")
	x := g.Index()
	names := NewNames(x)
	for _, down := range []string{"r0-s0-plane0", "rr0-plane0"} {
		behind := 0 // paths
		for _, seen := range perfect(t, g, down).VRouters {
			d := x.Device(seen.Peers.Node)
			for _, family := range g.Families {
				run, err := sim.New(g, family)
				if err != nil {
					t.Fatal(err)
				}
				routes := routesOf(t, run, d.Name, []string{down})
				for _, r := range routes {
					for _, p := range r.Paths {
						if p.Unusable && onLink(d, p.NextHop) {
							behind++
						}
					}
				}
				got := Table{}
				seen.AddPaths(got, names, d, family)
				seen.addRoutes(got, names, d, family)
				for i, f := range Compare(d.Name, Expect(routes, names, d, family), got).Differences {
					if i < 3 {
						t.Errorf("%s down: %s", down, f)
					}
				}
			}
		}
		if behind < 10 {
			t.Errorf("%s down: only %d paths have their next hop behind it", down, behind)
		}
	}
}

// edit changes what one vRouter sees.
func edit(doc *Document, device string, do func(*Seen)) {
	for i := range doc.VRouters {
		if doc.VRouters[i].Peers.Node == device {
			do(&doc.VRouters[i])
		}
	}
}

// TestEachDifference: whatever is not as designed is found, and named with what probably made it so.
func TestEachDifference(t *testing.T) {
	far := netip.MustParsePrefix("10.64.16.0/32") // of r1-s0
	at := func(s *Seen, p netip.Prefix) *BGPRoute {
		return &s.Paths.Routes[slices.IndexFunc(s.Paths.Routes, func(r BGPRoute) bool { return r.Prefix == p && r.Peer != "" })]
	}
	drop := func(s *Seen, p netip.Prefix) {
		s.Paths.Routes = slices.DeleteFunc(s.Paths.Routes, func(r BGPRoute) bool { return r.Prefix == p })
	}
	for _, c := range []struct {
		what  string
		spec  string
		spoil func(*Document)
		want  string // kind, device, expected, seen, cause: parts of
		also  int    // other findings that do not follow
	}{
		{"AS of a server", "", func(doc *Document) { edit(doc, "r0-s0", func(s *Seen) { s.Peers.ASN = 65000 }) }, "as r0-s0 | AS 4200001000 | AS 65000 | asNumber", 0},
		{"AS in the datastore", "", func(doc *Document) { doc.Nodes[3].AS = 65000 }, "as r1-s1 | AS 4200001001 | AS 65000 | r1-s1/vrouter.yaml", 0},
		{"AS of a peer", "", func(doc *Document) { edit(doc, "r0-s0", func(s *Seen) { s.Peers.Peers[0].ASN = 65001 }) }, "as r0-s0 | AS 4200001000 at 172.20.0.1 | AS 65001 | BGPPeer to-172.20.0.1", 0},
		{"a session that nobody made", "", func(doc *Document) {
			edit(doc, "r0-s0", func(s *Seen) {
				s.Peers.Peers = s.Peers.Peers[1:]
				s.Paths.Routes = slices.DeleteFunc(s.Paths.Routes, func(r BGPRoute) bool { return r.Peer == "to-172.20.0.1" })
			})
		}, "session r0-s0 | AS 4200001000 at 172.20.0.1 | none | apply", 0},
		{"a session that is down", "", func(doc *Document) {
			edit(doc, "r0-s0", func(s *Seen) { s.Peers.Peers[0].State, s.Peers.Peers[0].LastError = "Active", "connection refused" })
		}, "session r0-s0 | up | Active: connection refused | no BGP daemon listens at r0-t0", 0},
		{"a session that is down, whose routes others lack", "model: as-per-rack, racks: {count: 3, tors: 2}", func(doc *Document) {
			lost := netip.MustParsePrefix("10.64.0.0/32") // of r0-s0
			edit(doc, "r0-s0", func(s *Seen) {
				s.Peers.Peers[0].State, s.Peers.Peers[0].LastError = "Active", "network is unreachable"
			})
			edit(doc, "r0-s1", func(s *Seen) {
				s.Paths.Routes = slices.DeleteFunc(s.Paths.Routes, func(r BGPRoute) bool { return r.Prefix == lost && r.Peer == s.Peers.Peers[0].Name })
			})
		}, "session r0-s0 | up | unreachable | a port at either end", 0},
		{"a session too many", "", func(doc *Document) {
			edit(doc, "r0-s0", func(s *Seen) {
				s.Peers.Peers = append(s.Peers.Peers, Peer{Name: "x", Addr: netip.MustParseAddrPort("192.0.2.1:179"), ASN: 65000, State: established})
			})
		}, "session r0-s0 | none | AS 65000 at 192.0.2.1 | nobody in the design", 0},
		{"the mesh of all nodes", "", func(doc *Document) {
			edit(doc, "r0-s0", func(s *Seen) {
				s.Peers.Peers = append(s.Peers.Peers, Peer{Name: "x", Addr: netip.MustParseAddrPort("172.20.0.12:179"), ASN: 65000, State: established})
			})
		}, "session r0-s0 | none | 172.20.0.12 | mesh", 0},
		{"a path that is missing", "", func(doc *Document) { edit(doc, "r0-s0", func(s *Seen) { drop(s, far) }) }, "prefix r0-s0 | received with path [4200000000 4200001001] | not received | explain FILE 10.64.16.0 --at r0-t0", 0},
		{"a path that is refused", "", func(doc *Document) {
			edit(doc, "r0-s0", func(s *Seen) {
				r := *at(s, far)
				r.Reason = "import filter x"
				drop(s, far)
				s.Refused.Routes = append(s.Refused.Routes, r)
			})
		}, "prefix r0-s0 | received | refused: import filter x | filter", 0},
		{"a path too many", "", func(doc *Document) {
			edit(doc, "r0-s0", func(s *Seen) {
				r := *at(s, far)
				r.Prefix = netip.MustParsePrefix("203.0.113.0/24")
				s.Paths.Routes = append(s.Paths.Routes, r)
			})
		}, "prefix r0-s0 | not received | received with path | nobody announces it", 0},
		{"a next hop on no segment", "", func(doc *Document) {
			edit(doc, "r0-s0", func(s *Seen) { at(s, far).NextHop = netip.MustParseAddr("172.21.0.1") })
		}, "next hop r0-s0 | r0-t0 | on no segment | next-hop-self is missing on its session with r0-s0", 0},
		{"next-hop-self for all", "", func(doc *Document) {
			edit(doc, "r0-s0", func(s *Seen) {
				at(s, netip.MustParsePrefix("10.64.0.64/32")).NextHop = netip.MustParseAddr("172.20.0.1")
			})
		}, "next hop r0-s0 | r0-s1 | r0-t0 | eBGP only", 0},
		{"an AS path", "", func(doc *Document) {
			edit(doc, "r0-s0", func(s *Seen) { at(s, far).ASPath = []uint32{65099, 4200001001} })
		}, "path r0-s0 | [4200000000 4200001001] | [65099 4200001001] | AS 65099 where the design has 4200000000 (spine0, spine1)", 0},
		{"what a server does not announce", "", func(doc *Document) { edit(doc, "r1-s0", func(s *Seen) { drop(s, far) }) }, "prefix r1-s0 | announced | not announced | interface", 0},
		{"what a server announces too much", "", func(doc *Document) {
			edit(doc, "r1-s0", func(s *Seen) {
				s.Paths.Routes = append(s.Paths.Routes, BGPRoute{Prefix: netip.MustParsePrefix("172.20.2.0/25")})
			})
		}, "prefix r1-s0 | not announced | announced | it is r1-t0's", 0},
		{"a block", "", func(doc *Document) {
			edit(doc, "r1-s0", func(s *Seen) {
				s.Paths.Routes = append(s.Paths.Routes, BGPRoute{Prefix: netip.MustParsePrefix("10.64.16.0/26")})
			})
		}, "prefix r1-s0 | not announced | announced | routeSource", 0},
		{"a route of the kernel", "", func(doc *Document) {
			edit(doc, "r0-s0", func(s *Seen) {
				i := slices.IndexFunc(s.Routes, func(r Route) bool { return r.Prefix == far })
				s.Routes[i].State, s.Routes[i].Text = "conflict", "static route"
			})
		}, "route r0-s0 | r0-t0 on | none | conflict: static route", 0},
		{"a server that the file does not know", "", func(doc *Document) {
			doc.Nodes = append(doc.Nodes, Node{Name: "r9-s9", AS: 1, Addresses: []netip.Addr{netip.MustParseAddr("172.20.0.99")}})
		}, "device r9-s9 | no such server | a Node", 0},
		{"a server that is called as a switch", "", func(doc *Document) {
			doc.Nodes = append(doc.Nodes, Node{Name: "r0-t0", AS: 4200001000, Addresses: []netip.Addr{netip.MustParseAddr("172.20.0.99")}})
		}, "device r0-t0 | no such server | a Node", 0},
		{"a server that never came up", "", func(doc *Document) {
			for i := range doc.VRouters[:5] {
				for _, a := range doc.Nodes[5].Endpoints {
					drop(&doc.VRouters[i], netip.PrefixFrom(a, a.BitLen()))
					doc.VRouters[i].Routes = slices.DeleteFunc(doc.VRouters[i].Routes, func(r Route) bool { return r.Prefix.Addr() == a })
				}
			}
			doc.Nodes, doc.VRouters = doc.Nodes[:5], doc.VRouters[:5]
		}, "device r2-s1 | server | no Node", 0},
		{"an address twice", "", func(doc *Document) { doc.Nodes[1].Endpoints = append(doc.Nodes[1].Endpoints, far.Addr()) }, "prefix r1-s0 | not here | an endpoint | anycast", -1},
		{"one path of several", "model: downward-default, racks: {count: 2, tors: 2}", func(doc *Document) {
			edit(doc, "r0-s0", func(s *Seen) {
				i := slices.IndexFunc(s.Paths.Routes, func(r BGPRoute) bool { return r.Prefix == netip.MustParsePrefix("0.0.0.0/0") })
				s.Paths.Routes = slices.Delete(s.Paths.Routes, i, i+1)
			})
		}, "prefix r0-s0 | received | not received | r0-t0 does not send it", 0},
	} {
		g := designOf(t, cmp.Or(c.spec, "model: as-per-rack"))
		doc := perfect(t, g)
		c.spoil(doc)
		a, err := Check(g, doc)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		parts := strings.Split(c.want, " | ")
		found, others := false, 0
		for _, f := range a.Findings {
			if fmt.Sprintf("%s %s", f.Kind, f.Device) == parts[0] && strings.Contains(f.Expected, parts[1]) && strings.Contains(f.Seen, parts[2]) &&
				(len(parts) < 4 || strings.Contains(f.Cause, parts[3])) && !f.Follows {
				found = true
			} else if !f.Follows {
				others++
			}
		}
		if !found || c.also >= 0 && others != c.also {
			t.Errorf("%s: want %q and %d more that do not follow from it, got:", c.what, c.want, c.also)
			for _, f := range a.Findings {
				t.Logf("  %+v", f)
			}
		}
	}
}

// TestEndpointsThatThereAre: endpoints other than those that the file has room for are expected where they are.
func TestEndpointsThatThereAre(t *testing.T) {
	g := designOf(t, "model: as-per-rack")
	moved := netip.MustParseAddr("10.64.200.9")
	nodes := perfect(t, g).Nodes
	nodes[0].Endpoints = []netip.Addr{moved, moved.Next()}
	placed, again := place(g, nodes)
	if again != nil {
		t.Errorf("twice: %v", again)
	}
	doc := perfect(t, placed)
	for i, v := range [][]Node{nodes, doc.Nodes} {
		a, err := Check(g, &Document{VRouters: doc.VRouters, Nodes: v})
		if err != nil || len(a.Findings) > 0 {
			t.Errorf("%d: %v, %+v", i, err, a.Findings)
		}
	}
	if a, err := Check(g, &Document{VRouters: doc.VRouters, Nodes: nil}); err != nil || len(a.Findings) == 0 {
		t.Errorf("without the datastore those of the file are expected: %v, %+v", err, a)
	}
}

// TestNotComparable: what is no vRouter of the design is an error that says what to do.
func TestNotComparable(t *testing.T) {
	g := designOf(t, "model: as-per-rack")
	for want, doc := range map[string]*Document{
		"no vRouter was asked": {},
		"--node":               {VRouters: []Seen{{Peers: Peers{Node: "elsewhere"}}}},
		"peers.node is empty":  {VRouters: []Seen{{}}},
		"runs frr":             {VRouters: []Seen{{Peers: Peers{Node: "spine0"}}}},
		"answered twice":       {VRouters: []Seen{{Peers: Peers{Node: "r0-s0"}}, {Peers: Peers{Node: "r0-s0"}}}},
	} {
		if _, err := Check(g, doc); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// FuzzSeen: whatever a file says that was seen, it is compared or refused, and nothing panics.
func FuzzSeen(f *testing.F) {
	var designs []*fabric.Design
	for _, v := range []string{"model: as-per-rack", "model: as-per-server, servers: {perRack: 2, uplinks: unnumbered}", "model: as-per-rack, endpoints: {perServer: 2, announce: server-block}"} {
		g := designOf(f, v+", racks: {count: 1}, spine: {count: 1}")
		designs = append(designs, g)
		text, err := json.Marshal(perfect(f, g))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"vrouters": [{"peers": {"node": "r0-s0", "peers": [{"name": ""}]}, "paths": {"routes": [{"prefix": ""}]}, "routes": [{"prefix": "", "kind": "bgp", "state": "installed", "nextHops": ["", "::ffff:1.2.3.4"]}]}],
		"nodes": [{"name": "r0-s0", "addresses": [""], "endpoints": ["", "255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::ffff:10.0.0.1", "0.0.0.0"]}]}`))
	f.Fuzz(func(t *testing.T, input []byte) {
		var doc Document
		if len(input) > 1<<16 || json.Unmarshal(input, &doc) != nil {
			return
		}
		for _, g := range designs {
			if a, err := Check(g, &doc); err == nil && a.Findings == nil {
				t.Error("neither findings nor an error")
			}
		}
	})
}
