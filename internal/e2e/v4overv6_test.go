// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"testing"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// TestRFC8950_ServersWithoutIPv4 has servers whose uplinks have no IPv4 address
// at all, and one that has: their workloads talk in both families. The routes
// of IPv4 go through IPv6 next hops.
func TestRFC8950_ServersWithoutIPv4(t *testing.T) {
	t.Parallel()
	list := servers(3)
	list[0].V4, list[1].V4 = netip.Prefix{}, netip.Prefix{}
	c := newCluster(t, list)
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, c, allowAll)
	var all []*machine
	for _, n := range c.Nodes {
		m := machineOf(attach(t, n, "on-"+n.Name))
		serve(t, m, 80)
		all = append(all, m)
	}
	live(t, c)
	for _, m := range all {
		for _, n := range c.Nodes {
			if n != m.node {
				routed(t, n, m.addr[false], m.addr[true])
			}
		}
	}
	for _, from := range all {
		for _, to := range all {
			if from != to {
				judge(t, from.asks("next hops of IPv6", to, lab.TCP, 80, true))
			}
		}
	}
}

// TestRFC8950_RouterWithoutIPv4: a server and FRR on a segment without IPv4. The
// workload and the network behind the router talk in both families.
func TestRFC8950_RouterWithoutIPv4(t *testing.T) {
	t.Parallel()
	labtest.Require(t)
	labtest.Programs(t, "frr", "/usr/lib/frr/bgpd", "/usr/bin/vtysh")
	list := servers(1)
	list[0].V4 = netip.Prefix{}
	c := newCluster(t, list)
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := c.Nodes[0]
	h, err := c.Lab.Host(c.Fabric, "tor", netip.MustParsePrefix("fd00::11/64"))
	if err != nil {
		t.Fatal(err)
	}
	tor := &machine{Namespace: h.Namespace, addr: map[bool]netip.Addr{
		false: netip.MustParsePrefix(farNet4).Addr().Next(), true: netip.MustParsePrefix(farNet6).Addr().Next(),
	}}
	for _, a := range tor.addr {
		if err := h.AddAddr("lo", netip.PrefixFrom(a, a.BitLen())); err != nil {
			t.Fatal(err)
		}
	}
	startFRR(t, h.Namespace, map[string]string{"bgpd": `router bgp 65010
 bgp router-id 192.0.2.11
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor fd00::1 remote-as 64512
 neighbor fd00::1 timers connect 1
 neighbor fd00::1 capability extended-nexthop
 address-family ipv4 unicast
  network ` + farNet4 + `
  neighbor fd00::1 activate
 exit-address-family
 address-family ipv6 unicast
  network ` + farNet6 + `
  neighbor fd00::1 activate
 exit-address-family
`})
	apply(t, c, allowAll+`---
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: "fd00::11", asNumber: 65010}
`)
	w := machineOf(attach(t, n, "w"))
	serve(t, w, 80)
	serve(t, tor, 80)
	live(t, c)
	routed(t, n, tor.addr[false], tor.addr[true])
	judge(t, w.asks("a next hop of IPv6 towards FRR", tor, lab.TCP, 80, true))
	judge(t, tor.asks("a next hop of IPv6 from FRR", w, lab.TCP, 80, true))
}
