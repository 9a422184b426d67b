// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// TestPoolInOwnSubnet: a pool that other tools wrote covers the subnet of the servers, and a server has the blocks
// that their addresses, the default gateway's and a BGP peer's are in. Nobody is cut off, and its endpoints are reached.
func TestPoolInOwnSubnet(t *testing.T) {
	t.Parallel()
	d := newDatastore(t)
	c := newClusterOn(t, d.url, servers(2))
	gateway, err := c.Lab.Host(c.Fabric, "gateway", netip.MustParsePrefix("10.0.0.100/24"), netip.MustParsePrefix("fd00::64/64"))
	if err != nil {
		t.Fatal(err)
	}
	tor, err := c.Lab.Host(c.Fabric, "tor", netip.MustParsePrefix("10.0.0.150/24"), netip.MustParsePrefix("fd00::96/64"))
	if err != nil {
		t.Fatal(err)
	}
	n1, n2 := c.Nodes[0], c.Nodes[1]
	for _, way := range [][2]string{{"0.0.0.0/0", "10.0.0.100"}, {"::/0", "fd00::64"}} {
		for _, n := range c.Nodes {
			if err := n.AddRoute(netip.MustParsePrefix(way[0]), netip.MustParseAddr(way[1]), ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	servers := []*machine{hostOf(n1), hostOf(n2), {Namespace: gateway.Namespace, addr: map[bool]netip.Addr{false: netip.MustParseAddr("10.0.0.100"), true: netip.MustParseAddr("fd00::64")}},
		{Namespace: tor.Namespace, addr: map[bool]netip.Addr{false: netip.MustParseAddr("10.0.0.150"), true: netip.MustParseAddr("fd00::96")}}}
	for _, m := range servers {
		serve(t, m, 7777)
	}
	d.object("IPPool", "", "lan", "", `"cidr":"10.0.0.0/24","blockSize":27`)
	d.object("IPPool", "", "lan6", "", `"cidr":"fd00::/120","blockSize":123`)
	d.object("BGPPeer", "", "tor", "", `"peerIP":"10.0.0.150","asNumber":65000`)
	d.object("BGPPeer", "", "tor6", "", `"peerIP":"fd00::96","asNumber":65000`)
	blocks := []string{"10.0.0.0/27", "10.0.0.96/27", "10.0.0.128/27", "fd00::/123", "fd00::60/123", "fd00::80/123"}
	for _, b := range blocks {
		p := netip.MustParsePrefix(b)
		d.put(fmt.Sprintf("/calico/ipam/v2/host/n1/ipv%d/block/%s-%d", map[bool]int{false: 4, true: 6}[p.Addr().Is6()], p.Addr(), p.Bits()), `{"state":"confirmed"}`)
	}
	if err := c.StartAll(context.Background()); err != nil {
		t.Fatal(err)
	}
	apply(t, c, allowAll)
	a, b := machineOf(attach(t, n1, "a")), machineOf(attach(t, n2, "b"))
	serve(t, a, 80)
	routed(t, n2, a.addr[false], a.addr[true])
	live(t, c)
	var all [][]question
	for _, from := range servers {
		for _, to := range servers {
			if from != to {
				all = append(all, from.asks("between servers", to, lab.TCP, 7777, true))
			}
		}
	}
	judge(t, append(all, b.asks("between workloads", a, lab.TCP, 80, true))...)
	for _, block := range blocks {
		wantBlackhole(t, n1.Namespace, block, false)
		wantVia(t, n2.Namespace, block, "")
		for _, addr := range a.addr {
			if netip.MustParsePrefix(block).Contains(addr) {
				t.Errorf("attach took %s of block %s, which servers are in", addr, block)
			}
		}
	}
	problem(t, n1, "IPPool lan", "spec.cidr", "10.0.0.0/27", "Node n")
	problem(t, n1, "IPPool lan", "spec.cidr", "10.0.0.96/27", "10.0.0.100", "gateway")
	problem(t, n1, "IPPool lan6", "spec.cidr", "fd00::/123", "Node n")
	problem(t, n1, "IPPool lan6", "spec.cidr", "fd00::60/123", "fd00::64", "gateway")
	problem(t, n1, "IPPool lan", "spec.cidr", "10.0.0.128/27", "10.0.0.150", "BGPPeer tor")
	problem(t, n1, "IPPool lan6", "spec.cidr", "fd00::80/123", "fd00::96", "BGPPeer tor6")
}

// hostOf is a server itself, as one who asks and answers.
func hostOf(n *cluster.Node) *machine {
	return &machine{Namespace: n.Namespace, node: n, addr: map[bool]netip.Addr{false: n.V4.Addr(), true: n.V6.Addr()}}
}

// TestAffinityToEverything: affinities that are no blocks, and one that is not written as blocks are, are named and
// count for nothing; the way out of the servers stays.
func TestAffinityToEverything(t *testing.T) {
	t.Parallel()
	d := newDatastore(t)
	c := newClusterOn(t, d.url, servers(2))
	n1, n2 := c.Nodes[0], c.Nodes[1]
	gateway, err := c.Lab.Host(c.Fabric, "gateway", netip.MustParsePrefix("10.0.0.100/24"), netip.MustParsePrefix("fd00::64/64"))
	if err != nil {
		t.Fatal(err)
	}
	outside := &machine{Namespace: gateway.Namespace, addr: map[bool]netip.Addr{false: netip.MustParseAddr("198.51.100.1"), true: netip.MustParseAddr("2001:db8::1")}}
	for six, a := range outside.addr {
		if err := gateway.AddAddr("lo", netip.PrefixFrom(a, a.BitLen())); err != nil {
			t.Fatal(err)
		}
		via := map[bool]string{false: "10.0.0.100", true: "fd00::64"}[six]
		for _, n := range c.Nodes {
			if err := n.AddRoute(netip.PrefixFrom(a, 0).Masked(), netip.MustParseAddr(via), ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	serve(t, outside, 7777)
	wrong := []string{"ipv4/block/0.0.0.0-0", "ipv4/block/192.0.0.0-2", "ipv4/block/198.51.96.0-19", "ipv4/block/198.51.100.9-26", "ipv6/block/::-0", "ipv6/block/2000::-3", "ipv6/block/2001:db8::-115", "ipv6/block/2001:db8:0::-122"}
	for _, w := range wrong {
		d.put("/calico/ipam/v2/host/n1/"+w, `{"state":"confirmed"}`)
	}
	good := []string{"10.65.0.0/20", "fd65::/116"}
	d.put("/calico/ipam/v2/host/n1/ipv4/block/10.65.0.0-20", `{"state":"confirmed"}`)
	d.put("/calico/ipam/v2/host/n1/ipv6/block/fd65::-116", `{"state":"confirmed"}`)
	if err := c.StartAll(context.Background()); err != nil {
		t.Fatal(err)
	}
	for i, block := range good {
		wantBlackhole(t, n1.Namespace, block, true)
		wantVia(t, n2.Namespace, block, [...]string{"10.0.0.1", "fd00::1"}[i])
	}
	judge(t, hostOf(n1).asks("out of n1", outside, lab.TCP, 7777, true), hostOf(n2).asks("out of n2", outside, lab.TCP, 7777, true))
	for _, w := range wrong {
		problem(t, n1, "IPAMAffinity", strings.Replace(w[len("ipv4/block/"):], "-", "/", 1))
	}
	for _, block := range []string{"192.0.0.0/2", "198.51.96.0/19", "2000::/3", "2001:db8::/115"} {
		wantBlackhole(t, n1.Namespace, block, false)
		wantVia(t, n2.Namespace, block, "")
	}
	for _, w := range wrong { // it is gone when it is
		if err := d.Delete(t.Context(), "/calico/ipam/v2/host/n1/"+w, 0); err != nil {
			t.Fatal(err)
		}
	}
	noProblems(t, n1)
}
