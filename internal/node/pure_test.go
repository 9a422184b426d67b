// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/secret"
)

func decode(t *testing.T, docs string) []v3.Resource {
	t.Helper()
	list, err := v3.Decode([]byte(docs))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// input builds a peeringInput of documents, without their apiVersion lines.
func input(t *testing.T, self, docs string) peeringInput {
	t.Helper()
	in := peeringInput{secret: func(ref *v3.SecretKeyRef) (secret.Text, error) {
		if ref.Name != "bgp" {
			return secret.Text{}, errors.New("is not there")
		}
		return secret.New(ref.Key), nil
	}, self: self, nodes: map[string]*v3.Node{}, peers: map[string]*v3.BGPPeer{}, filters: map[string]*v3.BGPFilter{}, pools: map[string]*v3.IPPool{}, configs: map[string]*v3.BGPConfiguration{}}
	for _, r := range decode(t, strings.ReplaceAll(docs, "kind:", "apiVersion: projectcalico.org/v3\nkind:")) {
		switch r := r.(type) {
		case *v3.Node:
			in.nodes[r.Metadata.Name] = r
		case *v3.BGPPeer:
			in.peers[r.Metadata.Name] = r
		case *v3.BGPFilter:
			in.filters[r.Metadata.Name] = r
		case *v3.IPPool:
			in.pools[r.Metadata.Name] = r
		case *v3.BGPConfiguration:
			in.configs[r.Metadata.Name] = r
			in.global = in.configs["default"]
		}
	}
	return in
}

func sessions(cfg bgp.Config) (list []string) {
	for _, p := range cfg.Peers {
		s := fmt.Sprintf("%s %s from %s as %d", p.Name, p.Addr, p.LocalAddr, p.ASN)
		if p.Passive {
			s += " passive"
		}
		list = append(list, s)
	}
	return list
}

const threeNodes = `
kind: Node
metadata: {name: a, labels: {rack: one}}
spec: {bgp: {ipv4Address: 10.0.0.9/24, ipv6Address: "fd00::9/64"}}
---
kind: Node
metadata: {name: b}
spec: {bgp: {ipv4Address: 10.0.0.10/24, ipv6Address: "fd00::10/64"}}
---
kind: Node
metadata: {name: c}
spec: {bgp: {ipv6Address: "fd00::c/64"}}
`

// ownPorts is threeNodes with a port for all and another one for b.
const ownPorts = threeNodes + `---
kind: BGPConfiguration
metadata: {name: default}
spec: {listenPort: 1790}
---
kind: BGPConfiguration
metadata: {name: node.b}
spec: {listenPort: 1791}
`

func TestPeering(t *testing.T) {
	for _, c := range []struct {
		name, self, docs string
		want             []string
		problems         int
	}{
		{
			// The passive end is decided by text: "10.0.0.9" > "10.0.0.10".
			name: "mesh without any BGP object", self: "a", docs: threeNodes,
			want: []string{"b 10.0.0.10:179 from 10.0.0.9 as 64512", "c [fd00::c]:179 from fd00::9 as 64512 passive"},
		},
		{
			name: "the other end", self: "b", docs: threeNodes,
			want: []string{"a 10.0.0.9:179 from 10.0.0.10 as 64512 passive", "c [fd00::c]:179 from fd00::10 as 64512 passive"},
		},
		{
			name: "mesh off", self: "a", docs: threeNodes + "---\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {nodeToNodeMeshEnabled: false}\n",
		},
		{
			name: "AS number and port of the cluster", self: "a",
			docs: threeNodes + "---\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {asNumber: 65001, listenPort: 1790}\n",
			want: []string{"b 10.0.0.10:1790 from 10.0.0.9 as 65001", "c [fd00::c]:1790 from fd00::9 as 65001 passive"},
		},
		{
			name: "ports of single nodes, seen by another", self: "a", docs: ownPorts,
			want: []string{"b 10.0.0.10:1791 from 10.0.0.9 as 64512", "c [fd00::c]:1790 from fd00::9 as 64512 passive"},
		},
		{
			name: "and by the one that listens there", self: "b", docs: ownPorts,
			want: []string{"a 10.0.0.9:1790 from 10.0.0.10 as 64512 passive", "c [fd00::c]:1790 from fd00::10 as 64512 passive"},
		},
		{
			name: "a node by its address has its port, another speaker there has not", self: "a", docs: ownPorts + `---
kind: BGPPeer
metadata: {name: itself}
spec: {node: a, peerIP: 10.0.0.10, asNumber: 64512}
---
kind: BGPPeer
metadata: {name: another}
spec: {node: a, peerIP: "fd00::10", asNumber: 65000}
`,
			want: []string{"itself 10.0.0.10:1791 from 10.0.0.9 as 64512", "c [fd00::c]:1790 from fd00::9 as 64512 passive", "another [fd00::10]:179 from fd00::9 as 65000"},
		},
		{
			name: "global peer and peer of another node", self: "a",
			docs: threeNodes + `---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
---
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 10.0.0.254, asNumber: 64999}
---
kind: BGPPeer
metadata: {name: other}
spec: {node: b, peerIP: 10.0.0.253, asNumber: 64999}
---
kind: BGPPeer
metadata: {name: rack-one}
spec: {nodeSelector: rack == 'one', peerIP: "[fd00::fe]:1179", asNumber: 64999}
`,
			want: []string{"tor 10.0.0.254:179 from 10.0.0.9 as 64999", "rack-one [fd00::fe]:1179 from fd00::9 as 64999"},
		},
		{
			name: "a peer that is not of our family leaves the mesh alone", self: "c",
			docs: threeNodes + "---\nkind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 10.0.0.254, asNumber: 64999}\n",
			want: []string{"a [fd00::9]:179 from fd00::c as 64512", "b [fd00::10]:179 from fd00::c as 64512"}, problems: 1,
		},
		{
			name: "reflector: excluded from the mesh, peered with in both directions", self: "b",
			docs: threeNodes + `---
kind: Node
metadata: {name: rr, labels: {rr: "yes"}}
spec: {bgp: {ipv4Address: 10.0.0.1/24, routeReflectorClusterID: 1.0.0.1}}
---
kind: BGPPeer
metadata: {name: to-rr}
spec: {node: b, peerSelector: has(rr)}
`,
			want: []string{"rr 10.0.0.1:179 from 10.0.0.10 as 64512", "a 10.0.0.9:179 from 10.0.0.10 as 64512 passive", "c [fd00::c]:179 from fd00::10 as 64512 passive"},
		},
		{
			name: "reflector: who has no BGPPeer has no session with it", self: "a",
			docs: threeNodes + `---
kind: Node
metadata: {name: rr}
spec: {bgp: {ipv4Address: 10.0.0.1/24, routeReflectorClusterID: 1.0.0.1}}
`,
			want: []string{"b 10.0.0.10:179 from 10.0.0.9 as 64512", "c [fd00::c]:179 from fd00::9 as 64512 passive"},
		},
		{
			name: "the reflector's side of it", self: "rr",
			docs: threeNodes + `---
kind: Node
metadata: {name: rr, labels: {rr: "yes"}}
spec: {bgp: {ipv4Address: 10.0.0.1/24, routeReflectorClusterID: 1.0.0.1}}
---
kind: BGPPeer
metadata: {name: to-rr}
spec: {node: b, peerSelector: has(rr)}
`,
			want: []string{"b 10.0.0.10:179 from 10.0.0.1 as 64512"},
		},
		{
			name: "what would protect a session and cannot be honoured leaves it out", self: "c",
			docs: threeNodes + `---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: true, nodeMeshPassword: {secretKeyRef: {name: s, key: k}}}
---
kind: BGPPeer
metadata: {name: secret}
spec: {peerIP: "fd00::fe", asNumber: 64999, password: {secretKeyRef: {name: s, key: k}}}
---
kind: BGPPeer
metadata: {name: filtered}
spec: {peerIP: "fd00::fd", asNumber: 64999, filters: [f]}
---
kind: BGPPeer
metadata: {name: far}
spec: {peerIP: "fd00::fc", asNumber: 64999, ttlSecurity: 1}
`,
			// A filter that is not there lets nothing pass, but the session comes up.
			want: []string{"far [fd00::fc]:179 from fd00::c as 64999", "filtered [fd00::fd]:179 from fd00::c as 64999"}, problems: 3,
		},
		{
			name: "who is to peer with it does not peer with itself", self: "a",
			docs: threeNodes + `---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
---
kind: BGPPeer
metadata: {name: to-a}
spec: {peerIP: 10.0.0.9, asNumber: 64999}
`,
		},
		{
			name: "an address of the neighbour's family is needed, unless the kernel chooses", self: "c",
			docs: threeNodes + `---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
---
kind: BGPPeer
metadata: {name: far}
spec: {peerIP: 192.0.2.1, asNumber: 64999, sourceAddress: None}
---
kind: BGPPeer
metadata: {name: far-too}
spec: {peerIP: 192.0.2.2, asNumber: 64999}
`,
			want: []string{"far 192.0.2.1:179 from invalid IP as 64999"}, problems: 1,
		},
		{name: "no node of ours", self: "x", docs: threeNodes, problems: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, _, problems := peering(input(t, c.self, c.docs))
			if diff := cmp.Diff(c.want, sessions(cfg)); diff != "" {
				t.Errorf("sessions (-want +got):\n%s", diff)
			}
			if len(problems) != c.problems {
				t.Errorf("problems %v, want %d", problems, c.problems)
			}
		})
	}
}

func TestPeeringOptions(t *testing.T) {
	cfg, _, problems := peering(input(t, "a", threeNodes+`---
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 10.0.0.254, asNumber: 64999, localASNumber: 65010, keepaliveTime: 10s, maxRestartTime: 30s, nextHopMode: Self, ttlSecurity: 2}
---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeMeshMaxRestartTime: 20s}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	i := slices.IndexFunc(cfg.Peers, func(p bgp.PeerConfig) bool { return p.Name == "tor" })
	if i < 0 {
		t.Fatal("no session to tor")
	}
	p := cfg.Peers[i]
	if p.LocalASN != 65010 || p.Keepalive != 10*time.Second || p.HoldTime != 30*time.Second || p.RestartTime != 30*time.Second || p.NextHopMode != bgp.NextHopSelf || p.TTLSecurity != 2 {
		t.Errorf("options are not as written: %+v", p)
	}
	if b := peerNamed(t, cfg, "b"); cfg.RestartTime != 20*time.Second || b.RestartTime != 0 {
		t.Errorf("restart time of the mesh: %v, %v", cfg.RestartTime, b.RestartTime)
	}
	if d := longestRestart(cfg); d != 30*time.Second {
		t.Errorf("neighbours keep our routes for %v at most, want 30 s", d)
	}
	if d := longestRestart(bgp.Config{}); d != defaultRestartTime {
		t.Errorf("without a setting for %v", d)
	}
	if d := longestRestart(bgp.Config{RestartTime: bgp.TimerOff}); d != 0 {
		t.Errorf("switched off for %v", d)
	}
}

// No time switches graceful restart off, for all or for one.
func TestPeeringRestartOff(t *testing.T) {
	cfg, _, problems := peering(input(t, "a", threeNodes+`---
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 10.0.0.254, asNumber: 64999, maxRestartTime: 0s}
---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeMeshMaxRestartTime: 0s}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if p := peerNamed(t, cfg, "tor"); cfg.RestartTime != bgp.TimerOff || p.RestartTime != bgp.TimerOff {
		t.Errorf("restart times of %v, and %v of a peer", cfg.RestartTime, p.RestartTime)
	}
}

// RFC 4271 section 4.2, RFC 9687: the timers of the mesh and of a BGPPeer, each
// from where it is said; 0 is package bgp's default.
func TestPeeringTimers(t *testing.T) {
	cfg, _, problems := peering(input(t, "a", threeNodes+`---
kind: BGPConfiguration
metadata: {name: default, annotations: {muslin/keepalive-time: 5s, muslin/send-hold-time: 1m}}
---
kind: BGPPeer
metadata: {name: plain}
spec: {peerIP: 10.0.0.251, asNumber: 64999}
---
kind: BGPPeer
metadata: {name: border, annotations: {muslin/hold-time: 90s, muslin/send-hold-time: 8m}}
spec: {peerIP: 10.0.0.252, asNumber: 64999, keepaliveTime: 10s}
---
kind: BGPPeer
metadata: {name: none, annotations: {muslin/hold-time: 0s, muslin/send-hold-time: 0s}}
spec: {peerIP: 10.0.0.253, asNumber: 64999}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	got := map[string]string{}
	for _, p := range cfg.Peers {
		got[p.Name] = fmt.Sprintf("%v %v %v", p.HoldTime, p.Keepalive, p.SendHold)
	}
	for name, want := range map[string]string{"b": "15s 5s 1m0s", "c": "15s 5s 1m0s", "plain": "0s 0s 0s", "border": "1m30s 10s 8m0s", "none": "-1ns 0s -1ns"} {
		if got[name] != want {
			t.Errorf("%s: %s, want %s", name, got[name], want)
		}
	}
}

// bindMode: where connections are accepted.
func TestPeeringBindMode(t *testing.T) {
	for mode, want := range map[string]string{
		"": "10.0.0.9:1790 [fd00::9]:1790", "NodeIP": "10.0.0.9:1790 [fd00::9]:1790", "None": "0.0.0.0:1790 [::]:1790",
	} {
		cfg, _, problems := peering(input(t, "a", threeNodes+"---\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {listenPort: 1790, bindMode: \""+mode+"\"}\n"))
		if got := fmt.Sprint(cfg.Listen); got != "["+want+"]" || len(problems) > 0 {
			t.Errorf("bindMode %q: listens on %s, want %s; %v", mode, got, want, problems)
		}
	}
	cfg, _, _ := peering(input(t, "b", ownPorts))
	if got := fmt.Sprint(cfg.Listen); got != "[10.0.0.10:1791 [fd00::10]:1791]" {
		t.Errorf("with a port of its own it listens on %s", got)
	}
	// Who has one family listens on one.
	cfg, _, _ = peering(input(t, "c", threeNodes+"---\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {bindMode: None}\n"))
	if got := fmt.Sprint(cfg.Listen); got != "[[::]:179]" {
		t.Errorf("with IPv6 alone it listens on %s", got)
	}
}

// RFC 6286: the router ID is the IPv4 address; where there is none, nodes have different ones all the same, and not 0.
func TestRouterID(t *testing.T) {
	six := nodeAddr{v6: netip.MustParsePrefix("fd00::1/64")}
	if id := routerID(nodeAddr{v4: netip.MustParsePrefix("10.0.0.9/24")}, "a"); id != netip.MustParseAddr("10.0.0.9") {
		t.Errorf("with an IPv4 address it is %s", id)
	}
	seen := map[netip.Addr]string{}
	for i := range 1000 {
		name := fmt.Sprintf("server-%d", i)
		id := routerID(six, name)
		if other := seen[id]; other != "" || !id.Is4() || id.IsUnspecified() || id != routerID(six, name) {
			t.Errorf("%s has %s, as %q", name, id, other)
		}
		seen[id] = name
	}
}

// sourceAddress: None leaves the choice to the kernel, for neighbours by address,
// by selector and in reverse.
func TestPeeringSourceAddress(t *testing.T) {
	docs := threeNodes + `---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
---
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 10.0.0.254, asNumber: 64999, sourceAddress: SOURCE}
---
kind: BGPPeer
metadata: {name: selected}
spec: {node: a, peerSelector: "!has(rack)", sourceAddress: SOURCE}
`
	for source, want := range map[string][3]string{
		"UseNodeIP": {"10.0.0.9", "10.0.0.9", "10.0.0.10"}, "None": {"invalid IP", "invalid IP", "invalid IP"},
	} {
		text := strings.ReplaceAll(docs, "SOURCE", source)
		a, _, problems := peering(input(t, "a", text))
		b, _, more := peering(input(t, "b", text))
		got := [3]string{peerNamed(t, a, "tor").LocalAddr.String(), peerNamed(t, a, "b").LocalAddr.String(), peerNamed(t, b, "a").LocalAddr.String()}
		if p := peerNamed(t, a, "tor"); p.SessionNextHop != (source == "None") {
			t.Errorf("sourceAddress %s: the next hop is the end of the session: %v", source, p.SessionNextHop)
		}
		if got != want || len(problems)+len(more) > 0 {
			t.Errorf("sourceAddress %s: from %v, want %v; %v %v", source, got, want, problems, more)
		}
	}
}

// asNumber of a Node wins over that of the BGPConfiguration, at both ends.
func TestPeeringNodeASNumber(t *testing.T) {
	docs := `
kind: Node
metadata: {name: a}
spec: {bgp: {ipv4Address: 10.0.0.9/24, asNumber: 65009}}
---
kind: Node
metadata: {name: b}
spec: {bgp: {ipv6Address: "fd00::a/64", ipv4Address: 10.0.0.10/24, asNumber: "1.10"}}
---
kind: BGPConfiguration
metadata: {name: default}
spec: {asNumber: 65001}
`
	for self, want := range map[string]string{
		"a": "65009 [b 10.0.0.10:179 from 10.0.0.9 as 65546]", "b": "65546 [a 10.0.0.9:179 from 10.0.0.10 as 65009 passive]",
	} {
		cfg, _, problems := peering(input(t, self, docs))
		if got := fmt.Sprint(cfg.ASN, " ", sessions(cfg)); got != want || len(problems) > 0 {
			t.Errorf("%s: %s, want %s; %v", self, got, want, problems)
		}
	}
}

func TestPeeringRestraint(t *testing.T) {
	cfg, _, problems := peering(input(t, "c", threeNodes+`---
kind: BGPPeer
metadata: {name: tor, annotations: {muslin/max-prefixes: "100", muslin/max-prefixes-action: Restart, muslin/shutdown: new fibre, muslin/extended-next-hop: Disabled}}
spec: {peerIP: "fd00::fe", asNumber: 64999}
`))
	for _, p := range cfg.Peers {
		got := fmt.Sprintf("%v %v %v %v %s", p.MaxPrefixes, p.OverLimit == bgp.LimitRestart, p.ExtendedNextHop, p.Shutdown, p.ShutdownText)
		want := "[1000000 1000000] false true false" // c has no IPv4 address
		if p.Name == "tor" {
			want = "[100 100] true false true new fibre"
		}
		if strings.TrimSpace(got) != want {
			t.Errorf("%s: %s, want %s", p.Name, got, want)
		}
	}
	if len(cfg.Peers) != 3 || len(problems) > 0 {
		t.Errorf("sessions %v, problems %v", sessions(cfg), problems)
	}
}

// RFC 2385: which session has which password; one whose password cannot be read is not
// there, in no other way either.
func TestPeeringPasswords(t *testing.T) {
	docs := threeNodes + `---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeMeshPassword: {secretKeyRef: {name: %s, key: mesh}}}
---
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 10.0.0.254, asNumber: 64999, password: {secretKeyRef: {name: %s, key: tor}}}
---
kind: BGPPeer
metadata: {name: b-itself}
spec: {node: a, peerIP: 10.0.0.10, asNumber: 64512, password: {secretKeyRef: {name: %s, key: b}}}
`
	for _, c := range []struct{ mesh, tor, b, want, problems string }{
		{"bgp", "bgp", "bgp", "b-itself:b tor:tor c:mesh", ""},
		{"bgp", "none", "bgp", "b-itself:b c:mesh", "spec.password"},
		{"bgp", "bgp", "none", "tor:tor c:mesh", "spec.password"},
		{"none", "bgp", "bgp", "b-itself:b tor:tor", "spec.nodeMeshPassword"},
	} {
		cfg, _, problems := peering(input(t, "a", fmt.Sprintf(docs, c.mesh, c.tor, c.b)))
		var got []string
		for _, p := range cfg.Peers {
			got = append(got, p.Name+":"+p.Password.Reveal())
		}
		fields := ""
		for _, p := range problems {
			fields += p.field
		}
		if strings.Join(got, " ") != c.want || fields != c.problems {
			t.Errorf("%+v: sessions %v, problems %v", c, got, problems)
		}
	}
}

// RFC 4456: who is a client of whom, from routeReflectorClusterID and BGPPeers.
func TestPeeringReflection(t *testing.T) {
	docs := `
kind: Node
metadata: {name: rr1, labels: {reflector: "yes"}}
spec: {bgp: {ipv4Address: 10.0.0.1/24, routeReflectorClusterID: 1.1.1.1}}
---
kind: Node
metadata: {name: rr2, labels: {reflector: "yes"}}
spec: {bgp: {ipv4Address: 10.0.0.2/24, routeReflectorClusterID: 1.1.1.1}}
---
kind: Node
metadata: {name: rr3, labels: {reflector: "yes"}}
spec: {bgp: {ipv4Address: 10.0.0.3/24, routeReflectorClusterID: 3.3.3.3}}
---
kind: Node
metadata: {name: a}
spec: {bgp: {ipv4Address: 10.0.0.11/24}}
---
kind: Node
metadata: {name: bad}
spec: {bgp: {ipv4Address: 10.0.0.12/24, routeReflectorClusterID: "1"}}
---
kind: BGPPeer
metadata: {name: to-reflectors}
spec: {peerSelector: has(reflector)}
---
kind: BGPPeer
metadata: {name: outside}
spec: {nodeSelector: has(reflector), peerIP: 10.0.0.254, asNumber: 64999}
---
kind: BGPPeer
metadata: {name: inside, annotations: {muslin/add-path: "0"}}
spec: {nodeSelector: has(reflector), peerIP: 10.0.0.99, asNumber: 64512}
---
kind: BGPPeer
metadata: {name: inside-of-another-as}
spec: {nodeSelector: has(reflector), peerIP: 10.0.1.1, asNumber: 65001, localASNumber: 65001}
---
kind: BGPPeer
metadata: {name: outside-of-another-as}
spec: {nodeSelector: has(reflector), peerIP: 10.0.1.2, asNumber: 64512, localASNumber: 65001}
`
	for self, want := range map[string]struct {
		cluster  string
		clients  string
		problems int
	}{
		"rr1": {"1.1.1.1", "rr3+8 a+8 bad+8 inside+0 inside-of-another-as+8", 0},
		"rr3": {"3.3.3.3", "rr1+8 rr2+8 a+8 bad+8 inside+0 inside-of-another-as+8", 0},
		"a":   {"invalid IP", "", 0},
		"bad": {"invalid IP", "", 1},
	} {
		cfg, _, problems := peering(input(t, self, docs))
		if cfg.ClusterID.String() != want.cluster || len(problems) != want.problems {
			t.Errorf("%s: cluster %s, problems %v", self, cfg.ClusterID, problems)
		}
		var clients []string
		for _, p := range cfg.Peers {
			if !p.AddPathReceive {
				t.Errorf("%s: %s may send one path only", self, p.Name)
			}
			if p.Client {
				clients = append(clients, fmt.Sprintf("%s+%d", p.Name, p.AddPathSend))
			}
		}
		if got := strings.Join(clients, " "); got != want.clients {
			t.Errorf("%s: clients %q, want %q", self, got, want.clients)
		}
	}
}

// A BGPPeer whose peerIP is a node, with its AS number, makes a session at both ends, unless
// reversePeering is Manual.
func TestPeeringReverseOfAddress(t *testing.T) {
	for manual, want := range map[string]string{
		"64512, reversePeering: Auto":   "[a [fd00::9]:179 from fd00::10 as 64512]",
		"64512, reversePeering: Manual": "[]",
		"65000, reversePeering: Auto":   "[]",
	} {
		cfg, _, problems := peering(input(t, "b", threeNodes+`---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
---
kind: BGPPeer
metadata: {name: to-b}
spec: {nodeSelector: has(rack), peerIP: "fd00::10", asNumber: `+manual+`}
`))
		if got := fmt.Sprint(sessions(cfg)); got != want || len(problems) > 0 {
			t.Errorf("%s: %s, want %s; problems %v", manual, got, want, problems)
		}
	}
}

func TestExportKeepsClosedPoolsAtHome(t *testing.T) {
	cfg, _, _ := peering(input(t, "a", threeNodes+"---\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.99.0.0/16, disableBGPExport: true}\n"))
	for prefix, want := range map[string]bool{"10.99.1.0/26": false, "10.99.0.0/16": false, "10.98.0.0/15": true, "10.100.0.0/26": true, "fd00:1::/64": true} {
		v := cfg.Peers[0].Export(&bgp.Route{Prefix: netip.MustParsePrefix(prefix), Local: true})
		if got := v.Refused == bgp.Accepted; got != want {
			t.Errorf("export of %s is %v, want %v", prefix, got, want)
		}
	}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestOriginate(t *testing.T) {
	var addrs []localAddr
	for _, a := range []string{"10.65.0.5", "172.30.0.1", "10.99.0.5", "fd65::5", "fd99::1"} {
		addrs = append(addrs, localAddr{addr: netip.MustParseAddr(a), iface: "cali1"})
	}
	for _, a := range []string{"172.30.0.2", "fd99::2"} {
		addrs = append(addrs, localAddr{addr: netip.MustParseAddr(a), iface: "tap1"})
	}
	pools := map[string]*v3.IPPool{
		"open":   {Spec: v3.IPPoolSpec{CIDR: "10.65.0.0/16"}},
		"closed": {Spec: v3.IPPoolSpec{CIDR: "10.99.0.0/16", DisableBGPExport: true}},
	}
	blocks := prefixes("fd65::/122", "10.65.0.0/26", "10.99.0.0/26", "10.65.1.1/32")
	for _, c := range []struct {
		workloadIPs bool
		want        string
	}{
		{false, "10.65.0.0/26 172.30.0.1/32 172.31.0.8/32 fd31::8/128 fd65::/122 fd99::1/128"},
		{true, "10.65.0.5/32 172.30.0.1/32 172.31.0.8/32 fd31::8/128 fd65::5/128 fd99::1/128"},
	} {
		own := []netip.Addr{netip.MustParseAddr("172.31.0.8"), netip.MustParseAddr("fd31::8"), netip.MustParseAddr("10.99.0.9")} // muslin/announce
		got := originate(originInput{infrastructure: newInfrastructure(nil), blocks: blocks, addrs: addrs, own: own, ignored: []string{"eth0", "tap*"}, pools: pools, workloadIPs: c.workloadIPs, metric4: 1024, metric6: 512})
		var text []string
		for _, o := range got.announce {
			text = append(text, o.Prefix.String())
			if o.Prefix.IsSingleIP() && !slices.Contains(own, o.Prefix.Addr()) != (o.Interface == "cali1") {
				t.Errorf("%s is behind %q", o.Prefix, o.Interface)
			}
			want := uint32(2147482623) // 2147483647 − 1024
			if o.Prefix.Addr().Is6() {
				want = 2147483135
			}
			if o.LocalPref != want {
				t.Errorf("LOCAL_PREF of %s is %d, want %d", o.Prefix, o.LocalPref, want)
			}
		}
		if s := strings.Join(text, " "); s != c.want {
			t.Errorf("workloadIPs %v: announces %s, want %s", c.workloadIPs, s, c.want)
		}
		if diff := cmp.Diff("[10.65.0.0/26 10.99.0.0/26 fd65::/122]", fmt.Sprint(got.blackholes)); diff != "" {
			t.Errorf("blackholes (-want +got):\n%s", diff)
		}
		// Who is on another server, too, is announced there on its own, and so it is here.
		// A moment longer it is for neighbours alone, if the block leads here.
		for _, s := range []sharing{together, aloneAgain} {
			both := originate(originInput{infrastructure: newInfrastructure(nil), blocks: blocks, addrs: []localAddr{{addr: addrs[0].addr, shared: s}}, workloadIPs: c.workloadIPs})
			i := slices.IndexFunc(both.announce, func(o bgp.Origination) bool { return o.Prefix.Addr() == addrs[0].addr && o.Prefix.IsSingleIP() })
			if i < 0 || both.announce[i].NoExport != (s == aloneAgain && !c.workloadIPs) {
				t.Errorf("workloadIPs %v, %d: announces %v of an address that is elsewhere, too, or was", c.workloadIPs, s, both.announce)
			}
		}
		// A block that is announced keeps off what is sent here, and one that is not lets packets follow who left it.
		left := originate(originInput{infrastructure: newInfrastructure(nil), blocks: blocks, left: map[netip.Prefix]bool{blocks[1]: true}, workloadIPs: c.workloadIPs})
		if has := slices.Contains(left.blackholes, blocks[1]); has == c.workloadIPs || len(left.blackholes) < 2 {
			t.Errorf("workloadIPs %v: blackholes of what somebody left: %v", c.workloadIPs, left.blackholes)
		}
	}
}

func TestDifference(t *testing.T) {
	list := func(text string) (out []bgp.Origination) {
		for f := range strings.FieldsSeq(text) {
			out = append(out, bgp.Origination{Prefix: netip.MustParsePrefix(f), LocalPref: 1})
		}
		return out
	}
	a, b := list("10.0.0.0/26 10.0.1.0/26 fd00::/122"), list("10.0.1.0/26 10.0.2.0/26 fd00::/122")
	b[2].LocalPref = 2
	add, remove := difference(a, b)
	if !slices.Equal(add, b[1:]) || fmt.Sprint(remove) != "[10.0.0.0/26]" {
		t.Errorf("add %v, remove %v", add, remove)
	}
	if add, remove = difference(b, b); len(add)+len(remove) != 0 {
		t.Errorf("no difference, but add %v, remove %v", add, remove)
	}
}

func TestSettingsPrecedence(t *testing.T) {
	felix := func(name, extra string) *v3.FelixConfiguration {
		return decode(t, "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: "+name+"}\nspec: {"+extra+"}\n")[0].(*v3.FelixConfiguration)
	}
	full := felixSources{
		node: "a", labels: map[string]string{"rack": "one"},
		environ: []string{"FELIX_INTERFACEPREFIX=env"},
		file:    map[string]string{"interfaceprefix": "file"},
		configs: map[string]*v3.FelixConfiguration{
			"default": felix("default", "interfacePrefix: glob, routeSource: WorkloadIPs"),
			"rack":    felix("rack", `interfacePrefix: rack, nodeSelector: "rack == 'one'"`),
			"node.a":  felix("node.a", "interfacePrefix: node"),
			"node.b":  felix("node.b", "interfacePrefix: wrong"),
		},
	}
	explicit := map[string]string{"interfacePrefix": "flag"}
	for _, want := range []string{"flag", "env", "file", "node", "rack", "glob", "cali"} {
		s, problems := resolve(explicit, full)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if s.prefixes[0] != want {
			t.Errorf("prefix is %q, want %q", s.prefixes[0], want)
		}
		switch want { // take the source away
		case "flag":
			explicit = nil
		case "env":
			full.environ = nil
		case "file":
			full.file = nil
		case "node":
			delete(full.configs, "node.a")
		case "rack":
			delete(full.configs, "rack")
		case "glob":
			if !s.workloadIPs {
				t.Error("routeSource WorkloadIPs is not seen")
			}
			delete(full.configs, "default")
		case "cali":
			if s.hostAction != "Drop" || s.routeProtocol != 177 || s.workloadIPs || s.metric4 != 1024 || !s.forwarding {
				t.Errorf("built-in settings are %+v", s)
			}
		}
	}
}

func TestBadSettingIsReportedAndTheNextSourceAsked(t *testing.T) {
	s, problems := resolve(nil, felixSources{
		environ: []string{"FELIX_DEFAULTENDPOINTTOHOSTACTION=Sometimes", "FELIX_INTERFACEPREFIX=l"},
		file:    map[string]string{"defaultendpointtohostaction": "RETURN"},
	})
	if s.hostAction != "Return" || s.prefixes[0] != "cali" {
		t.Errorf("settings are %+v", s)
	}
	if len(problems) != 2 || !strings.Contains(fmt.Sprint(problems), "Sometimes") || !strings.Contains(fmt.Sprint(problems), "loopback") {
		t.Errorf("problems are %v", problems)
	}
}

func TestEncapsulationSettings(t *testing.T) {
	yes, port := true, 8472
	s, problems := resolve(nil, felixSources{
		environ: []string{"FELIX_ALLOWIPIPPACKETSFROMWORKLOADS=perhaps"},
		configs: map[string]*v3.FelixConfiguration{"default": {Spec: v3.FelixConfigurationSpec{AllowVXLANPacketsFromWorkloads: &yes, VXLANPort: &port}}},
	})
	if !s.allowVXLAN || s.allowIPIP || s.vxlanPort != port || len(problems) != 1 {
		t.Errorf("settings are %+v, problems %v", s, problems)
	}
	if s, _ = resolve(nil, felixSources{}); s.allowVXLAN || s.allowIPIP || s.vxlanPort != 4789 {
		t.Errorf("built-in settings are %+v", s)
	}
}

func TestFelixFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "felix.cfg")
	text := "# comment\n[global]\nInterfacePrefix = tap\nRouteSource=WorkloadIPs\n[other]\nInterfacePrefix = no\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readFelixFile(path)
	if err != nil || got["interfaceprefix"] != "tap" || got["routesource"] != "WorkloadIPs" || len(got) != 2 {
		t.Errorf("read %v, %v", got, err)
	}
	if got, err := readFelixFile(path + ".absent"); err != nil || got != nil {
		t.Errorf("a file that is not there: %v, %v", got, err)
	}
}

func TestMergeNode(t *testing.T) {
	p := netip.MustParsePrefix
	n := &v3.Node{}
	n.Spec.OrchRefs = []v3.OrchRef{{NodeName: "x", Orchestrator: "k8s"}}
	n.Spec.Addresses = []v3.NodeAddress{{Address: "203.0.113.1", Type: "ExternalIP"}}
	if !mergeNode(n, netip.Prefix{}, netip.Prefix{}, p("10.0.0.2/24"), netip.Prefix{}) {
		t.Error("autodetected address is no change")
	}
	if n.Spec.BGP.IPv4Address != "10.0.0.2/24" || n.Spec.BGP.IPv6Address != "" {
		t.Errorf("after autodetection: %+v", n.Spec.BGP)
	}
	if mergeNode(n, netip.Prefix{}, netip.Prefix{}, p("10.0.0.7/24"), netip.Prefix{}) {
		t.Error("a stored address was replaced by an autodetected one")
	}
	if !mergeNode(n, p("10.0.0.3/24"), p("fd00::3/64"), p("10.0.0.7/24"), netip.Prefix{}) || n.Spec.BGP.IPv4Address != "10.0.0.3/24" || n.Spec.BGP.IPv6Address != "fd00::3/64" {
		t.Errorf("the explicit address does not win: %+v", n.Spec.BGP)
	}
	want := []v3.NodeAddress{{Address: "203.0.113.1", Type: "ExternalIP"}, {Address: "10.0.0.3/24", Type: "CalicoNodeIP"}, {Address: "fd00::3/64", Type: "CalicoNodeIP"}}
	if diff := cmp.Diff(want, n.Spec.Addresses); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	if len(n.Spec.OrchRefs) != 1 {
		t.Error("a field that is not ours was changed")
	}
	empty := &v3.Node{}
	if mergeNode(empty, netip.Prefix{}, netip.Prefix{}, netip.Prefix{}, netip.Prefix{}) || empty.Spec.BGP != nil {
		t.Errorf("a host without addresses got spec.bgp %+v", empty.Spec.BGP)
	}
}

func TestLearnedMetric(t *testing.T) {
	for pref, want := range map[uint32]uint32{2147482623: 1024, 2147483135: 512, 100: 2147483547, 4294967295: 1} {
		if got := learnedMetric(pref); got != want {
			t.Errorf("LOCAL_PREF %d gives metric %d, want %d", pref, got, want)
		}
	}
}

func TestProtocolAndPort(t *testing.T) {
	for _, c := range []struct{ proto, port, err string }{
		{"tcp", "80", ""}, {"TCP", "", "give one"}, {"udp", "65536", "65535"}, {"icmp", "", ""}, {"58", "", ""}, {"gre", "", "want tcp"}, {"0", "1", "want tcp"},
	} {
		_, _, err := protocolAndPort(c.proto, c.port)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s %s: %v, want %q", c.proto, c.port, err, c.err)
		}
	}
}

func TestFreeRange(t *testing.T) {
	if got := freeRange(prefixes("192.168.1.0/24", "10.0.0.0/8")); got != netip.MustParsePrefix("172.20.0.0/16") {
		t.Errorf("free range is %s", got)
	}
}

func TestCheckAddress(t *testing.T) {
	on := prefixes("10.0.0.0/24", "fd00::/64", "203.0.113.7/32")
	for ip, want := range map[string]bool{
		"10.65.0.1": true, "fd65::1": true, "203.0.113.8": true, "203.0.113.7": false,
		"10.0.0.1": false, "10.0.0.255": false, "fd00::2": false, "255.255.255.255": false,
		"0.0.0.0": false, "127.0.0.1": false, "224.0.0.1": false, "169.254.1.1": false, "fe80::1": false, "240.0.0.1": false,
	} {
		if err := checkAddress(netip.MustParseAddr(ip), on); (err == nil) != want {
			t.Errorf("%s: %v, want accepted %v", ip, err, want)
		}
	}
}

func TestSpareUplinks(t *testing.T) {
	kept, err := spareUplinks([]string{"cali", "e", "tap"}, []string{"eth0", "bond0"})
	if !slices.Equal(kept, []string{"cali", "tap"}) || err == nil || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("kept %v, %v", kept, err)
	}
}

func TestUnreachableFamily(t *testing.T) {
	announce := []bgp.Origination{{Prefix: netip.MustParsePrefix("10.65.0.0/26")}, {Prefix: netip.MustParsePrefix("fd65::/122")}}
	four := bgp.Config{NextHop4: netip.MustParseAddr("10.0.0.1")}
	if p := unreachable("a", announce, four); len(p) != 1 || !strings.Contains(p[0].text, "--ip6") {
		t.Errorf("IPv4 only: %v", p)
	}
	if p := unreachable("a", announce[:1], four); len(p) != 0 {
		t.Errorf("nothing to reach: %v", p)
	}
}

func TestSameAddrs(t *testing.T) {
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.0.0.2")
	for _, tc := range []struct {
		one, other []netip.Addr
		same       bool
	}{
		{[]netip.Addr{a, b}, []netip.Addr{b, a}, true}, {[]netip.Addr{a, b, a}, []netip.Addr{b, a}, true}, {[]netip.Addr{b, a}, []netip.Addr{a, b, b, a}, true},
		{[]netip.Addr{a, b}, []netip.Addr{a}, false}, {[]netip.Addr{a, b}, []netip.Addr{b, c}, false}, {nil, []netip.Addr{a}, false},
	} {
		kept := slices.Clone(tc.one)
		if sameAddrs(tc.one, tc.other) != tc.same || !slices.Equal(kept, tc.one) {
			t.Errorf("%v and %v: want the same: %v", kept, tc.other, tc.same)
		}
	}
}

func TestOffers(t *testing.T) {
	for _, c := range []struct {
		spec v3.IPPoolSpec
		want bool
	}{
		{v3.IPPoolSpec{}, true},
		{v3.IPPoolSpec{Disabled: true}, false},
		{v3.IPPoolSpec{AssignmentMode: "Manual"}, false},
		{v3.IPPoolSpec{AllowedUses: []string{"Tunnel"}}, false},
		{v3.IPPoolSpec{NodeSelector: "rack == 'one'"}, true},
		{v3.IPPoolSpec{NodeSelector: "rack == 'two'"}, false},
	} {
		if got := offers(&v3.IPPool{Spec: c.spec}, map[string]string{"rack": "one"}); got != c.want {
			t.Errorf("%+v: %v", c.spec, got)
		}
	}
}
