// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/guard"
	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/store"
)

// peerNamed is the session of a name.
func peerNamed(t *testing.T, cfg bgp.Config, name string) bgp.PeerConfig {
	t.Helper()
	for _, p := range cfg.Peers {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no session %s in %v", name, sessions(cfg))
	return bgp.PeerConfig{}
}

// Every member and annotation that is about routes, and what it becomes.
func TestPoliceOptions(t *testing.T) {
	for _, c := range []struct {
		spec, annotations string
		want              func(bgp.PeerConfig) bool
	}{
		{"nextHopMode: Self", "", func(p bgp.PeerConfig) bool { return p.NextHopMode == bgp.NextHopSelf }},
		{"nextHopMode: Keep", "", func(p bgp.PeerConfig) bool { return p.NextHopMode == bgp.NextHopKeep }},
		{"nextHopMode: Auto", "", func(p bgp.PeerConfig) bool { return p.NextHopMode == bgp.NextHopAuto }},
		{"keepOriginalNextHop: true", "", func(p bgp.PeerConfig) bool { return p.NextHopMode == bgp.NextHopKeep }},
		// It concerns eBGP only, which this session is not with such a local AS.
		{"keepOriginalNextHop: true, localASNumber: 64999", "", func(p bgp.PeerConfig) bool { return p.NextHopMode == bgp.NextHopAuto }},
		{"numAllowedLocalASNumbers: 3", "", func(p bgp.PeerConfig) bool { return p.AllowLocalAS == 3 }},
		{"", "", func(p bgp.PeerConfig) bool { return p.Rewrite == bgp.Rewrite{} && p.AllowLocalAS == 0 }},
		{"", "as-override: Enabled", func(p bgp.PeerConfig) bool { return p.Rewrite == bgp.Rewrite{ASOverride: true} }},
		{"", "remove-private-as: Enabled", func(p bgp.PeerConfig) bool { return p.Rewrite == bgp.Rewrite{RemovePrivateAS: true} }},
		{"", "prepend: '2'", func(p bgp.PeerConfig) bool { return p.Rewrite == bgp.Rewrite{Prepend: 2} }},
		{"", "default-originate: Enabled", func(p bgp.PeerConfig) bool { return p.Rewrite == bgp.Rewrite{DefaultRoute: true} }},
		{"", "graceful-shutdown: Enabled", func(p bgp.PeerConfig) bool { return p.Rewrite == bgp.Rewrite{GracefulShutdown: true} }},
		{"", "next-hop: ThirdParty", func(p bgp.PeerConfig) bool {
			return p.NextHopMode == bgp.NextHopThirdParty && p.Rewrite.Shared4.String() == "10.0.0.0/24" && p.Rewrite.Shared6.String() == "fd00::/64"
		}},
		{"", "communities: '64512:9, 1:2:3, rt:64512:1'", func(p bgp.PeerConfig) bool {
			v := p.Export(&bgp.Route{Prefix: netip.MustParsePrefix("10.1.0.0/24"), Local: true})
			return v.Edit != nil && fmt.Sprint(v.Edit.Communities, v.Edit.Large, len(v.Edit.Extended)) == "[4227858441] [[1 2 3]] 1"
		}},
	} {
		doc := threeNodes + "---\nkind: BGPPeer\nmetadata:\n  name: tor\n"
		if c.annotations != "" {
			doc += "  annotations: {muslin/" + c.annotations + "}\n"
		}
		doc += "spec: {peerIP: 10.0.0.254, asNumber: 64999, " + c.spec + "}\n"
		cfg, _, problems := peering(input(t, "a", doc))
		if p := peerNamed(t, cfg, "tor"); len(problems) > 0 || !c.want(p) {
			t.Errorf("%s %s: %+v %v", c.spec, c.annotations, p, problems)
		}
	}
}

// A node that is drained says so on every session; a wrong annotation is a
// problem that names it.
func TestPoliceNode(t *testing.T) {
	doc := strings.Replace(threeNodes, "metadata: {name: a, labels: {rack: one}}", "metadata: {name: a, labels: {rack: one}, annotations: {muslin/graceful-shutdown: Enabled, muslin/nothing: x}}", 1)
	cfg, _, problems := peering(input(t, "a", doc))
	for _, p := range cfg.Peers {
		if !p.Rewrite.GracefulShutdown {
			t.Errorf("%s is not told", p.Name)
		}
	}
	if len(cfg.Peers) != 2 || len(problems) != 1 || problems[0].object != "Node a" || problems[0].field != `metadata.annotations["muslin/nothing"]` {
		t.Errorf("%d sessions, problems %v", len(cfg.Peers), problems)
	}
}

// Filters, RFC 8212 and the guard, in the order in which they are asked.
func TestPoliceImport(t *testing.T) {
	const filtered = `---
kind: BGPFilter
metadata: {name: f}
spec: {importV4: [{cidr: 203.0.113.0/24, matchOperator: In, action: Reject}, {cidr: 10.0.0.10/32, matchOperator: Equal, action: Accept}]}
---
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 10.0.0.254, asNumber: 64999, filters: [f]}
`
	const plain = "---\nkind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 10.0.0.254, asNumber: 64999}\n"
	const keeping = "---\nkind: BGPPeer\nmetadata: {name: tor2, annotations: {muslin/origin-guard: Enabled}}\nspec: {peerIP: 10.0.0.253, asNumber: 64999}\n"
	strict := "---\nkind: BGPConfiguration\nmetadata: {name: default, annotations: {muslin/ebgp-requires-policy: Enabled}}\n"
	trusting := "---\nkind: BGPConfiguration\nmetadata: {name: default, annotations: {muslin/origin-guard: Disabled}}\n"
	ownNode := func(annotation string) string {
		return "---\nkind: BGPConfiguration\nmetadata: {name: node.a, annotations: {" + annotation + "}}\n"
	}
	for _, c := range []struct {
		name, docs, peer, prefix string
		want                     bgp.Refusal
	}{
		{"no filter, as Calico", plain, "tor", "203.0.113.0/24", bgp.Accepted},
		{"no filter, strict", plain + strict, "tor", "203.0.113.0/24", bgp.RefusedNoPolicy},
		{"strict, in the mesh", plain + strict, "b", "10.65.1.0/26", bgp.Accepted},
		{"filter refuses", filtered, "tor", "203.0.113.0/25", bgp.RefusedFilter},
		{"filter has nothing to say", filtered, "tor", "198.51.100.0/24", bgp.Accepted},
		{"filter with rules, strict", filtered + strict, "tor", "198.51.100.0/24", bgp.Accepted},
		{"filter that is not there", strings.ReplaceAll(filtered, "filters: [f]", "filters: [f, g]"), "tor", "198.51.100.0/24", bgp.RefusedFilter},
		{"a filter does not open what the guard refuses", filtered, "tor", "10.0.0.10/32", bgp.RefusedServer},
		{"a node's own block", plain, "b", "10.65.1.0/26", bgp.Accepted},
		{"another node's block", plain, "b", "10.65.2.0/26", bgp.RefusedUnbound},
		{"another node's block, guard off", plain + trusting, "b", "10.65.2.0/26", bgp.Accepted},
		{"our own block, guard off", plain + trusting, "b", "10.65.0.0/26", bgp.RefusedLocal},
		{"our own block, from a router", plain, "tor", "10.65.0.0/26", bgp.RefusedLocal},
		{"guard off for all, on for this node", plain + trusting + ownNode("muslin/origin-guard: Enabled"), "b", "10.65.2.0/26", bgp.RefusedUnbound},
		{"guard off for all, on for this neighbour", keeping + trusting, "tor2", "10.0.0.10/32", bgp.RefusedServer},
		{"guard off for all, on for another neighbour", keeping + plain + trusting, "tor", "10.0.0.10/32", bgp.Accepted},
		{"guard off for this node", plain + ownNode("muslin/origin-guard: Disabled"), "b", "10.65.2.0/26", bgp.Accepted},
		{"strict, and not for this node", plain + strict + ownNode("muslin/ebgp-requires-policy: Disabled"), "tor", "203.0.113.0/24", bgp.Accepted},
		{"strict, and a mistake for this node", plain + strict + ownNode("muslin/ebgp-requires-policy: Never"), "tor", "203.0.113.0/24", bgp.RefusedNoPolicy},
	} {
		in := input(t, "a", threeNodes+c.docs)
		in.guard = guard.New("a")
		in.guard.SetNodes(in.guarded())
		for i, n := range []string{"a", "b", "c"} {
			in.guard.Bind(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 65, byte(i), 0}), 26), guard.Binding{Nodes: []string{n}})
		}
		cfg, _, _ := peering(in)
		p := peerNamed(t, cfg, c.peer)
		v := p.Import(&bgp.Route{Prefix: netip.MustParsePrefix(c.prefix), NextHop: p.Addr.Addr(), EBGP: c.peer == "tor"})
		if v.Refused != c.want {
			t.Errorf("%s: %v %s, want %v", c.name, v.Refused, v.Detail, c.want)
		}
	}
}

// Two Nodes with one address, as after a server was renamed: both may announce what is
// theirs from there, whichever comes first by name, and the same is said each time.
func TestPoliceSharedAddress(t *testing.T) {
	for _, name := range []string{"aa", "zz"} {
		docs := threeNodes + "---\nkind: Node\nmetadata: {name: " + name + "}\nspec: {bgp: {ipv4Address: 10.0.0.10/24}}\n"
		identity := ""
		for range 20 {
			in := input(t, "a", docs)
			in.guard = guard.New("a")
			in.guard.SetNodes(in.guarded())
			for i, n := range []string{"b", name, "c"} {
				in.guard.Bind(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 65, byte(i), 0}), 26), guard.Binding{Nodes: []string{n}})
			}
			first, second := min("b", name), max("b", name)
			cfg, _, problems := peering(in)
			if len(problems) != 1 || problems[0].object != "Node "+second || problems[0].field != "spec.bgp.ipv4Address" || !strings.Contains(problems[0].text, "Node "+first) {
				t.Fatalf("problems %v", problems)
			}
			p := peerNamed(t, cfg, first)
			if identity == "" {
				identity = p.ImportID
			}
			if p.ImportID != identity {
				t.Fatalf("the policy was %s, and is %s", identity, p.ImportID)
			}
			for i, want := range []bgp.Refusal{bgp.Accepted, bgp.Accepted, bgp.RefusedUnbound} {
				r := bgp.Route{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 65, byte(i), 0}), 26), NextHop: p.Addr.Addr()}
				if v := p.Import(&r); v.Refused != want {
					t.Errorf("beside %s, %s: %v %s, want %v", name, r.Prefix, v.Refused, v.Detail, want)
				}
			}
		}
	}
}

// Annotations of the node's own configuration go before those for all, one by one.
func TestStations(t *testing.T) {
	const all, own = "kind: BGPConfiguration\nmetadata: {name: default, annotations: {muslin/bmp: '10.0.0.9:1'}}\n", "---\nkind: BGPConfiguration\nmetadata: {name: node.a, annotations: {%s}}\n"
	for _, c := range []struct{ docs, want string }{
		{threeNodes, "[]"},
		{all, "[10.0.0.9:1]"},
		{all + fmt.Sprintf(own, "muslin/bmp: '[fd00::9]:2, 10.0.0.8:2'"), "[[fd00::9]:2 10.0.0.8:2]"},
		{all + fmt.Sprintf(own, "muslin/origin-guard: Enabled"), "[10.0.0.9:1]"},
		{all + fmt.Sprintf(own, "muslin/bmp: '10.0.0.8:2, nobody'"), "[10.0.0.9:1]"},
		{fmt.Sprintf(own, "muslin/bmp: '10.0.0.8:2'")[4:], "[10.0.0.8:2]"},
	} {
		in := input(t, "a", c.docs)
		if got := fmt.Sprint(stations(in.global, in.perNode(in.self))); got != c.want {
			t.Errorf("%s\nstations %s, want %s", c.docs, got, c.want)
		}
	}
}

// ORIGINATOR_ID says who announces a route where a reflector of the cluster put itself in the way as the
// next hop, and nowhere else: anybody can write it.
func TestPoliceReflected(t *testing.T) {
	for cluster, want := range map[string]bgp.Refusal{"": bgp.RefusedUnbound, ", routeReflectorClusterID: 1.1.1.1": bgp.Accepted} {
		in := input(t, "a", strings.Replace(threeNodes, `"fd00::10/64"`, `"fd00::10/64"`+cluster, 1)+"---\nkind: BGPPeer\nmetadata: {name: up}\nspec: {node: a, peerIP: 10.0.0.10, asNumber: 64512}\n")
		in.guard = guard.New("a")
		in.guard.SetNodes(in.guarded())
		block := netip.MustParsePrefix("10.65.2.0/26")
		in.guard.Bind(block, guard.Binding{Nodes: []string{"c"}})
		cfg, _, _ := peering(in)
		of := routerID(nodeAddr{}, "c")
		v := peerNamed(t, cfg, "up").Import(&bgp.Route{Prefix: block, NextHop: netip.MustParseAddr("10.0.0.10"), Originator: of})
		if v.Refused != want {
			t.Errorf("cluster %q: %v %s, want %v", cluster, v.Refused, v.Detail, want)
		}
	}
}

// Sessions of the mesh share their export policy; one that differs does not.
func TestPoliceIdentity(t *testing.T) {
	cfg, _, _ := peering(input(t, "a", threeNodes+"---\nkind: BGPPeer\nmetadata: {name: tor, annotations: {muslin/communities: '1:1'}}\nspec: {peerIP: 10.0.0.254, asNumber: 64999}\n"))
	b, c, tor := peerNamed(t, cfg, "b"), peerNamed(t, cfg, "c"), peerNamed(t, cfg, "tor")
	if b.ExportID != c.ExportID || b.ExportID == tor.ExportID || b.ExportID == "" {
		t.Errorf("export: b %s, c %s, tor %s", b.ExportID, c.ExportID, tor.ExportID)
	}
	if b.ImportID == c.ImportID {
		t.Error("what b and c may announce is told by one policy")
	}
}

// What Nodes and services bind, beside blocks and endpoints.
func TestGranted(t *testing.T) {
	in := input(t, "a", `
kind: Node
metadata: {name: a, annotations: {muslin/may-announce: "0.0.0.0/0, 2001:db8::/32"}}
spec: {bgp: {ipv4Address: 10.0.0.1/24, ipv4IPIPTunnelAddr: 10.65.0.1}, ipv6VXLANTunnelAddr: "fd65::1"}
---
kind: Node
metadata: {name: b, annotations: {muslin/may-announce: 0.0.0.0/0, muslin/announce: "10.0.0.2, fd31::2"}}
spec: {bgp: {ipv4Address: 10.0.0.2/24}, ipv4VXLANTunnelAddr: 10.65.1.1, wireguard: {interfaceIPv4Address: 10.65.1.2, interfaceIPv6Address: "fd65::2"}}
---
kind: BGPConfiguration
metadata: {name: default}
spec: {serviceClusterIPs: [{cidr: 10.96.0.0/12}], serviceExternalIPs: [{cidr: 192.0.2.0/24}], serviceLoadBalancerIPs: [{cidr: "fd96::/112"}]}
`)
	g := granted(in.nodes, in.global)
	if got, want := fmt.Sprint(g.addrs), "map[10.0.0.2:[b] 10.65.0.1:[a] 10.65.1.1:[b] 10.65.1.2:[b] fd31::2:[b] fd65::1:[a] fd65::2:[b]]"; got != want {
		t.Errorf("addresses %s, want %s", got, want)
	}
	var got []string
	for _, p := range []string{"0.0.0.0/0", "2001:db8::/32", "10.96.0.0/12", "192.0.2.0/24", "fd96::/112"} {
		got = append(got, fmt.Sprint(g.prefixes[netip.MustParsePrefix(p)]))
	}
	if s, want := strings.Join(got, " "), "{[] [a b] false} {[] [a] false} {[] [] true} {[] [] true} {[] [] true}"; s != want || len(g.prefixes) != 5 {
		t.Errorf("%s of %d, want %s", s, len(g.prefixes), want)
	}
	in.nodes["b"].Metadata.Annotations = nil
	if c := changed(g.prefixes, granted(in.nodes, in.global).prefixes); fmt.Sprint(c) != "[0.0.0.0/0]" {
		t.Errorf("changed: %v", c)
	}
}

// reachableBy: a route to the neighbour's address, on the nodes with the session.
func TestReachable(t *testing.T) {
	docs := threeNodes + `---
kind: BGPPeer
metadata: {name: far4}
spec: {node: a, peerIP: 192.0.2.1, asNumber: 64999, reachableBy: 10.0.0.254}
---
kind: BGPPeer
metadata: {name: far6}
spec: {nodeSelector: rack == 'one', peerIP: "2001:db8::1", asNumber: 64999, reachableBy: "fd00::fe"}
`
	mixed := `---
kind: BGPPeer
metadata: {name: mixed}
spec: {node: a, peerIP: 192.0.2.9, asNumber: 64999, reachableBy: 10.0.0.254}
`
	in := input(t, "a", threeNodes+mixed)
	in.peers["mixed"].Spec.ReachableBy = "fd00::fe" // as something else than our commands may store it
	if got := in.reachable(); len(got) != 0 {
		t.Errorf("a gateway of the other family: %v", got)
	}
	for self, want := range map[string]string{"a": "192.0.2.1/32 10.0.0.254 2001:db8::1/128 fd00::fe", "b": ""} {
		var got []string
		in := input(t, self, docs)
		for _, r := range in.reachable() {
			got = append(got, r.Prefix.String(), r.Hops.String())
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %s, want %s", self, s, want)
		}
	}
}

// Priorities: the BGPConfiguration's, else the data plane's.
func TestPriorities(t *testing.T) {
	for docs, want := range map[string]string{
		"": "700 1024",
		"---\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {ipv4NormalRoutePriority: 512, ipv6NormalRoutePriority: 300}\n": "512 300",
	} {
		in := input(t, "a", threeNodes+docs)
		in.metric4 = 700
		a, b := in.priorities()
		if got := fmt.Sprint(a, " ", b); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// The model keeps whose every block is; one that is pending is nobody's.
func TestAffinities(t *testing.T) {
	m := newModel("a", nil)
	block := netip.MustParsePrefix("10.65.0.0/26")
	for _, c := range []struct {
		node, value string
		gone        bool
		want        string
		own         bool
	}{
		{"b", `{"state":"confirmed"}`, false, "[b]", false},
		{"a", `{"state":"pending"}`, false, "[b]", false},
		{"b", `{"state":"pendingDeletion"}`, false, "[]", false},
		{"a", `{"state":"confirmed"}`, false, "[a]", true},
		{"b", `{"state":"confirmed"}`, false, "[a b]", true},
		{"b", `not JSON`, false, "[a b]", true}, // the last good version stays
		{"b", "", true, "[a]", true},
		{"a", "", true, "[]", false},
	} {
		m.apply(affinityChange(c.node, block, c.value, c.gone))
		if got := fmt.Sprint(m.affinities[block]); got != c.want || m.blocks[block] != c.own {
			t.Errorf("after %s %q: %s, own %v; want %s, %v", c.node, c.value, got, m.blocks[block], c.want, c.own)
		}
	}
	if _, touched := m.touchedBlocks[block]; !touched || len(m.bad) != 0 {
		t.Errorf("touched %v, bad %v", m.touchedBlocks, m.bad)
	}
}

func affinityChange(node string, block netip.Prefix, value string, gone bool) change {
	key, err := ipam.AffinityKey(ipam.HostOwner(node), block)
	if err != nil {
		panic(err)
	}
	return change{Change: store.Change{Key: key, Kind: store.KindBlockAffinity, Namespace: node, Name: block.String(), Raw: []byte(value), Deleted: gone}}
}

// Attributes of unknown type are passed on where a BGPPeer says so, or the
// BGPConfiguration for those who say nothing.
func TestPolicePassUnknown(t *testing.T) {
	on := func(kind, name, spec, value string) string {
		return "---\nkind: " + kind + "\nmetadata: {name: " + name + ", annotations: {muslin/pass-unknown-attributes: " + value + "}}\n" + spec
	}
	tor := func(value string) string {
		return on("BGPPeer", "tor", "spec: {peerIP: 10.0.0.254, asNumber: 64999}\n", value)
	}
	plain := "---\nkind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 10.0.0.254, asNumber: 64999}\n"
	for _, c := range []struct {
		docs     string
		tor, bee bool
	}{
		{plain, false, false},
		{tor("Enabled"), true, false},
		{plain + on("BGPConfiguration", "default", "", "Enabled"), true, true},
		{plain + on("BGPConfiguration", "node.a", "", "Enabled"), true, true},
		{tor("Disabled") + on("BGPConfiguration", "default", "", "Enabled"), false, true},
	} {
		cfg, _, problems := peering(input(t, "a", threeNodes+c.docs))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if tor, bee := peerNamed(t, cfg, "tor").PassUnknown, peerNamed(t, cfg, "b").PassUnknown; tor != c.tor || bee != c.bee {
			t.Errorf("%s: router %v, mesh %v, want %v, %v", c.docs, tor, bee, c.tor, c.bee)
		}
	}
}
