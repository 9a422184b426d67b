// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/bgp"
)

// Listen ranges: what BGPPeers say of them, that one without filters carries
// nothing, also within our own AS, and what is wrong with one.
func TestPeeringRanges(t *testing.T) {
	const racks = threeNodes + `---
kind: BGPPeer
metadata: {name: racks, annotations: {muslin/listen-range: "10.1.0.0/16, 2001:db8::/32", muslin/listen-as: "65000-65099,64999", muslin/listen-limit: "7"}}
spec: {filters: [some]}
---
kind: BGPPeer
metadata: {name: inside, annotations: {muslin/listen-range: 10.2.0.0/24}}
spec: {asNumber: 64512, nodeSelector: rack == "one"}
---
kind: BGPFilter
metadata: {name: some}
spec:
  importV4: [{action: Accept, cidr: 198.51.100.0/24, matchOperator: In}]
`
	cfg, _, problems := peering(input(t, "a", racks))
	if len(problems) > 0 || len(cfg.Ranges) != 2 {
		t.Fatal(problems, cfg.Ranges)
	}
	for i, want := range []string{"inside [10.2.0.0/24] [[64512 64512]] 0", "racks [10.1.0.0/16 2001:db8::/32] [[65000 65099] [64999 64999]] 7"} {
		r := cfg.Ranges[i]
		if got := fmt.Sprint(r.Peer.Name, " ", r.Prefixes, " ", r.ASNs, " ", r.Limit); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		of     int
		prefix string
		in     bgp.Refusal
	}{
		{0, "198.51.100.0/24", bgp.RefusedNoPolicy},
		{0, "2001:db8:9::/48", bgp.RefusedNoPolicy},
		{1, "198.51.100.0/24", bgp.Accepted},
		{1, "2001:db8:9::/48", bgp.RefusedNoPolicy},
	} {
		p := cfg.Ranges[c.of].Peer
		route := bgp.Route{Prefix: netip.MustParsePrefix(c.prefix), NextHop: netip.MustParseAddr("10.1.0.1"), ASPath: []uint32{65000}}
		if v := p.Import(&route); v.Refused != c.in {
			t.Errorf("%s takes %s: %+v", p.Name, c.prefix, v)
		}
		if v := p.Export(&route); v.Refused != bgp.RefusedNoPolicy {
			t.Errorf("%s is sent %s: %+v", p.Name, c.prefix, v)
		}
	}
	if cfg, _, _ := peering(input(t, "b", racks)); len(cfg.Ranges) != 1 {
		t.Errorf("a node that is not selected has %v", cfg.Ranges)
	}
	for rest, want := range map[string]string{
		"muslin/listen-as: \"64000-65000\"}}\nspec: {}":                                          "has our own AS 64512 beside others",
		"muslin/bfd: Enabled}}\nspec: {asNumber: 64999}":                                         "there is none with neighbours of a listen range",
		"muslin/listen-as: \"64999,0\"}}\nspec: {}":                                              "want AS numbers and rows of them",
		"other: z}}\nspec: {}":                                                                   "is missing",
		"other: z}}\nspec: {asNumber: 64999, password: {secretKeyRef: {name: none, key: none}}}": "until then nobody is accepted",
	} {
		_, _, problems := peering(input(t, "a", threeNodes+"---\nkind: BGPPeer\nmetadata: {name: r, annotations: {muslin/listen-range: 10.1.0.0/16, "+rest+"\n"))
		if len(problems) != 1 || !strings.Contains(problems[0].text, want) {
			t.Errorf("%s: %v, want %q", rest, problems, want)
		}
	}
	// With a mistake in it there is no range, also of what stands before the mistake.
	cfg, _, problems = peering(input(t, "a", threeNodes+"---\nkind: BGPPeer\nmetadata: {name: r, annotations: {muslin/listen-range: \"10.1.0.0/16, rack\"}}\nspec: {asNumber: 64999}\n"))
	if len(cfg.Ranges) != 0 || len(problems) != 1 || problems[0].field != `metadata.annotations["muslin/listen-range"]` {
		t.Errorf("ranges %v, problems %v", cfg.Ranges, problems)
	}
}
