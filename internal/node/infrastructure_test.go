// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestInfrastructureInBlocks: what is in a block keeps it from being announced or dropped, and its endpoints are
// announced each on its own; what is beside it does not.
func TestInfrastructureInBlocks(t *testing.T) {
	subnets := []netip.Prefix{netip.MustParsePrefix("10.0.1.5/28"), netip.MustParsePrefix("10.0.9.9/32"), netip.MustParsePrefix("fd00:1::5/124")}
	gateways := []netip.Addr{netip.MustParseAddr("10.0.2.9"), netip.MustParseAddr("fd00:2::9")}
	etcd := []string{"https://10.0.3.9:2379", "https://[fd00:3::9]:2379", "https://etcd.example:2379", "unix:///run/etcd", "10.0.9.8:2379"}
	what := ofThisHost(subnets, gateways, etcd)
	what[netip.MustParsePrefix("10.0.4.9/32")], what[netip.MustParsePrefix("fd00:4::9/128")] = "the address of Node n2", "the address of Node n2"
	peer := func(ip string) *v3.BGPPeer { return &v3.BGPPeer{Spec: v3.BGPPeerSpec{PeerIP: ip}} }
	addPeers(what, map[string]*v3.BGPPeer{"tor": peer("10.0.8.77:1790"), "tor6": peer("fd00:8::4d"), "workload": peer("10.0.9.65"), "unnumbered": peer("")},
		append(prefixes("10.0.8.5/24", "10.0.9.65/32", "fd00:8::5/64"), subnets...))
	x := newInfrastructure(what)
	pools := map[string]*v3.IPPool{"p4": {Spec: v3.IPPoolSpec{CIDR: "10.0.0.0/16"}}, "p6": {Spec: v3.IPPoolSpec{CIDR: "fd00::/16"}}}
	for _, c := range []struct{ block, says string }{
		{"10.0.1.0/26", "10.0.1.0/28, a subnet of this server"}, {"10.0.1.4/31", "10.0.1.5, an address of this server"}, {"10.0.1.8/29", ""},
		{"10.0.2.0/26", "10.0.2.9, the default gateway"}, {"10.0.3.0/26", "10.0.3.9, an endpoint of etcd"}, {"10.0.4.0/26", "10.0.4.9, the address of Node n2"},
		{"10.0.4.64/26", ""}, {"10.0.9.0/26", ""}, {"10.0.8.64/26", "10.0.8.77, the address of BGPPeer tor"}, {"10.0.8.128/26", ""}, {"10.0.9.64/26", ""},
		{"fd00:1::/122", "fd00:1::/124, a subnet of this server"}, {"fd00:2::/122", "fd00:2::9, the default gateway"}, {"fd00:3::/122", "fd00:3::9, an endpoint of etcd"},
		{"fd00:8::40/122", "fd00:8::4d, the address of BGPPeer tor6"}, {"fd00:4::/122", "fd00:4::9, the address of Node n2"}, {"fd00:4::40/122", ""},
	} {
		b := netip.MustParsePrefix(c.block)
		got := originate(originInput{infrastructure: x, blocks: []netip.Prefix{b}, pools: pools, addrs: []localAddr{{addr: b.Addr(), iface: "cali1"}}})
		single := netip.PrefixFrom(b.Addr(), b.Addr().BitLen())
		switch {
		case c.says == "" && (len(got.announce) != 1 || got.announce[0].Prefix != b || !slices.Equal(got.blackholes, []netip.Prefix{b}) || got.problems != nil):
			t.Errorf("%s: announces %v, drops %v, says %v", b, got.announce, got.blackholes, got.problems)
		case c.says == "":
		case len(got.announce) != 1 || got.announce[0].Prefix != single || len(got.blackholes) > 0:
			t.Errorf("%s, which has %s in it: announces %v, drops %v", b, c.says, got.announce, got.blackholes)
		case len(got.problems) != 1 || !strings.HasPrefix(got.problems[0].object, "IPPool p") || got.problems[0].field != "spec.cidr" ||
			!strings.Contains(got.problems[0].text, b.String()) || !strings.Contains(got.problems[0].text, c.says):
			t.Errorf("%s: says %v, want %s", b, got.problems, c.says)
		}
	}
	if got := originate(originInput{infrastructure: x, blocks: prefixes("10.0.4.0/26")}); len(got.problems) != 1 || got.problems[0].object != "IPAMAffinity 10.0.4.0/26" {
		t.Errorf("without a pool: %v", got.problems)
	}
}

// TestTouchAround: the blocks around a prefix are looked at again, and no others.
func TestTouchAround(t *testing.T) {
	m := newModel("n1", policy.NewIndex("n1"))
	for _, b := range prefixes("10.0.0.0/26", "10.0.0.64/26", "fd00::/122", "fd00::40/122") {
		m.claim(b, "n2", true)
	}
	clear(m.touchedBlocks)
	m.touchAround(netip.MustParsePrefix("10.0.0.1/32"))
	m.touchAround(netip.MustParsePrefix("fd00::40/124"))
	if len(m.touchedBlocks) != 2 {
		t.Errorf("touched: %v, want 10.0.0.0/26 and fd00::40/122", m.touchedBlocks)
	}
	for _, b := range prefixes("10.0.0.0/26", "fd00::40/122") {
		if _, is := m.touchedBlocks[b]; !is {
			t.Errorf("%s is not touched", b)
		}
	}
}
