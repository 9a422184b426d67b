// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// clusterLists are the CLUSTER_LISTs of a node's paths to a prefix, sorted, as
// they came.
func (n *node) clusterLists(prefix string) (lists []string) {
	n.ask(func() {
		head, _ := n.rib.table.Get(netip.MustParsePrefix(prefix))
		for p := head; p != nil; p = p.next {
			if p.in != nil {
				lists = append(lists, fmt.Sprintf("%x", p.in.clusters))
			}
		}
	})
	slices.Sort(lists)
	return lists
}

// RFC 4456 section 6: reflectors of reflectors. Two at the top are one cluster
// and know each other; two below have a cluster each, and both at the top; each of
// these has a client. The clients reach each other over three clusters, over either at the
// top, and next hops stay. What comes back to a cluster is refused there, so nothing
// goes round. It holds whether those below take the top for clients of theirs,
// as a cluster of Nodes has it, or not.
func TestRFC4456_Hierarchy(t *testing.T) {
	for _, mutual := range []bool{false, true} {
		t.Run(fmt.Sprint("clients of each other: ", mutual), func(t *testing.T) {
			var addr [6]netip.Addr
			for i := range addr {
				addr[i] = freeAddr(t)
			}
			top1, top2, mid1, mid2, leaf1, leaf2 := addr[0], addr[1], addr[2], addr[3], addr[4], addr[5]
			cluster := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{n, n, n, n}) }
			with := func(client bool, list ...netip.Addr) (peers []PeerConfig) {
				for _, a := range list {
					p := peerTo(a, 64512)
					p.Client = client
					peers = append(peers, p)
				}
				return peers
			}
			start := func(self, id netip.Addr, peers ...PeerConfig) *node {
				cfg := nodeConfig(64512, self, peers...)
				cfg.ClusterID = id
				n := startNode(t, cfg, Options{})
				n.OriginationsComplete()
				return n
			}
			t1 := start(top1, cluster(1), append(with(false, top2), with(true, mid1, mid2)...)...)
			start(top2, cluster(1), append(with(false, top1), with(true, mid1, mid2)...)...)
			start(mid1, cluster(2), append(with(mutual, top1, top2), with(true, leaf1)...)...)
			start(mid2, cluster(3), append(with(mutual, top1, top2), with(true, leaf2)...)...)
			l1 := start(leaf1, netip.Addr{}, with(false, mid1)...)
			l2 := start(leaf2, netip.Addr{}, with(false, mid2)...)

			l1.originate("10.41.0.0/26", "fd41::/122")
			l2.originate("10.42.0.0/26", "fd42::/122")
			reach := func() {
				t.Helper()
				l2.waitHops("10.41.0.0/26", leaf1.String())
				l2.waitHops("fd41::/122", l1.cfg.NextHop6.String())
				l1.waitHops("10.42.0.0/26", leaf2.String())
				l1.waitHops("fd42::/122", l2.cfg.NextHop6.String())
			}
			reach()
			for _, p := range []string{"10.41.0.0/26", "fd41::/122"} {
				if got, want := fmt.Sprint(l2.clusterLists(p)), "[[3030303 1010101 2020202]]"; got != want {
					t.Errorf("%s came over the clusters %s, want %s", p, got, want)
				}
			}
			// What comes back to its cluster or its originator is not accepted.
			for _, n := range []*node{t1, l1, l2} {
				for _, r := range n.Routes(RouteFilter{View: ViewReceived}) {
					back := r.Originator == n.cfg.RouterID || n == t1 && r.Peer == top2
					if back && r.Accepted {
						t.Errorf("%s: %s from %s is accepted", n.cfg.RouterID, r.Prefix, r.Peer)
					}
				}
			}
			// One at the top is not needed. It says goodbye, so nobody keeps what it
			// said as stale (RFC 4724 section 4.2).
			alone := t1.cfg
			alone.Peers = nil
			if err := t1.SetConfig(alone); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the top is one", func() bool { return len(t1.Peers()) == 0 })
			reach()
			l1.withdraw("10.41.0.0/26", "fd41::/122")
			l2.waitHops("10.41.0.0/26", "")
			l2.waitHops("fd41::/122", "")
			l1.originate("10.41.0.0/26", "fd41::/122")
			reach()
		})
	}
}
