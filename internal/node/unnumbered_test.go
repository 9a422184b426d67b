// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/neighbour"
)

const onLinks = threeNodes + `---
kind: BGPPeer
metadata: {name: tor, annotations: {muslin/interface: "eth1,eth2,eth3,eth4", muslin/remote-as: External}}
spec: {}
---
kind: BGPPeer
metadata: {name: within, annotations: {muslin/interface: "eth1,eth5", muslin/remote-as: Internal}}
spec: {nodeSelector: rack == "one"}
---
kind: BGPPeer
metadata: {name: numbered, annotations: {muslin/interface: "eth6,cali7", muslin/extended-next-hop: Disabled}}
spec: {node: a, asNumber: 65006, localASNumber: 65007}
`

// foundLink is an interface on which ours is fe80::1, and the neighbour what is given.
func foundLink(name, neighbourAddr, down string) linkFound {
	f := linkFound{Found: neighbour.Found{Link: neighbour.Link{Name: name, Index: 7, Addr: netip.MustParseAddr("fe80::1"), Down: down}}}
	if neighbourAddr != "" {
		f.Neighbour = netip.MustParseAddr(neighbourAddr).WithZone(name)
	}
	return f
}

// Sessions on interfaces (muslin/interface): which there are, with what, by remote-as or
// a number; why there is none; and that those who are looked for still are waited for.
func TestPeeringOnInterfaces(t *testing.T) {
	in := input(t, "a", onLinks)
	in.prefixes = []string{"cali"}
	in.found = map[string]linkFound{
		"eth1": foundLink("eth1", "fe80::2", ""), "eth2": foundLink("eth2", "fe80::2", ""), "eth3": foundLink("eth3", "", ""),
		"eth4": foundLink("eth4", "", "interface eth4 has no carrier"), "eth5": foundLink("eth5", "fe80::5", ""), "eth6": foundLink("eth6", "fe80::6", ""),
	}
	second := in.found["eth5"]
	second.Second = netip.MustParseAddr("fe80::7%eth5")
	in.found["eth5"] = second
	cfg, _, problems := peering(in)
	var links []bgp.PeerConfig
	for _, p := range cfg.Peers {
		if p.Addr.Addr().Zone() != "" {
			links = append(links, p)
		}
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
	}
	var got []string
	for _, p := range links {
		got = append(got, fmt.Sprint(p.Name, " ", p.Addr, " from ", p.LocalAddr, " as ", p.ASN, p.ASNs, " ", p.ExtendedNextHop))
	}
	slices.Sort(got)
	others := "1 [[1 64511] [64513 4294967294]] true"
	want := []string{
		"numbered/eth6 [fe80::6%eth6]:179 from fe80::1%eth6 as 65006 [] false",
		"tor/eth1 [fe80::2%eth1]:179 from fe80::1%eth1 as " + others,
		"tor/eth2 [fe80::2%eth2]:179 from fe80::1%eth2 as " + others,
		"within/eth5 [fe80::5%eth5]:179 from fe80::1%eth5 as 64512 [] true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("sessions\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, at := range []string{"[fe80::1%eth1]:179", "[fe80::1%eth2]:179", "[fe80::1%eth5]:179", "[fe80::1%eth6]:179"} {
		if !slices.Contains(cfg.Listen, netip.MustParseAddrPort(at)) {
			t.Errorf("nobody listens on %s: %v", at, cfg.Listen)
		}
	}
	if !cfg.PeersUnknown {
		t.Error("the neighbour on eth3 is not waited for")
	}
	var texts []string
	for _, p := range problems {
		texts = append(texts, fmt.Sprint(p.object, " ", p.field, ": ", p.text))
	}
	slices.Sort(texts)
	wantTexts := []string{
		"BGPPeer numbered " + fieldInterface + ": cali7 is a workload's by its name",
		"BGPPeer within " + fieldInterface + ": eth1 is that of BGPPeer tor already",
		"BGPPeer within " + fieldInterface + ": there are several routers on eth5: the session is with fe80::5%eth5, which was heard first, and fe80::7%eth5",
	}
	if len(texts) != len(wantTexts) {
		t.Fatalf("problems\n%s", strings.Join(texts, "\n"))
	}
	for i, text := range texts {
		if !strings.HasPrefix(text, wantTexts[i]) {
			t.Errorf("problem %q, want %q", text, wantTexts[i])
		}
	}
	var waiting []string
	for _, p := range in.waiting() {
		waiting = append(waiting, fmt.Sprint(p.Name, " ", p.Interface, " ", p.State, ": ", p.LastError))
	}
	if got := strings.Join(waiting, "\n"); got != "tor/eth3 eth3 Idle: no router advertisement was heard on eth3: the other end must send them (RFC 4861)\n"+
		"tor/eth4 eth4 Idle: interface eth4 has no carrier" {
		t.Errorf("waiting\n%s", got)
	}

	// All found, or beyond finding: nobody is waited for.
	in.found["eth3"] = foundLink("eth3", "", "there is no interface eth3")
	missing := in.found["eth3"]
	missing.Missing = true
	in.found["eth3"] = missing
	cfg, _, problems = peering(in)
	if cfg.PeersUnknown || len(problems) != 4 || !slices.ContainsFunc(problems, func(p problem) bool {
		return strings.HasPrefix(p.text, "there is no interface eth3 on this node: ") && p.field == fieldInterface
	}) {
		t.Errorf("%v %v", cfg.PeersUnknown, problems)
	}
	// Of another node nothing but what is for all.
	in.self, in.found = "b", map[string]linkFound{"eth1": foundLink("eth1", "fe80::2", "")}
	if cfg, _, _ = peering(in); !cfg.PeersUnknown || len(in.waiting()) != 3 {
		t.Errorf("on b: %v, waiting %v", cfg.PeersUnknown, in.waiting())
	}
	// With a mistake in the list there is no session, also not on what stands before it.
	in = input(t, "a", threeNodes+"---\nkind: BGPPeer\nmetadata: {name: x, annotations: {muslin/interface: \"eth1,lo\", muslin/remote-as: External}}\nspec: {}\n")
	in.found = map[string]linkFound{"eth1": foundLink("eth1", "fe80::2", "")}
	cfg, _, problems = peering(in)
	if slices.ContainsFunc(cfg.Peers, func(p bgp.PeerConfig) bool { return p.Addr.Addr().Zone() != "" }) || len(problems) != 1 || problems[0].field != fieldInterface {
		t.Errorf("peers %v, problems %v", cfg.Peers, problems)
	}
	// Where every address is listened on, there is no second socket for a link.
	in = input(t, "a", onLinks+"---\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {bindMode: None}\n")
	in.found = map[string]linkFound{"eth1": foundLink("eth1", "fe80::2", "")}
	if cfg, _, _ = peering(in); fmt.Sprint(cfg.Listen) != "[0.0.0.0:179 [::]:179]" {
		t.Errorf("listens on %v", cfg.Listen)
	}
}

// What External means next to the ends of the range.
func TestExternal(t *testing.T) {
	for own, want := range map[uint32]string{1: "[[2 4294967294]]", 64512: "[[1 64511] [64513 4294967294]]", 4294967294: "[[1 4294967293]]"} {
		if got := fmt.Sprint(external(own)); got != want {
			t.Errorf("%d: %s, want %s", own, got, want)
		}
	}
}
