// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"testing"
)

// RFC 8326: of two ways that are used together one is taken out of service. It is
// used no more before its session ends, so that its end, however it comes, takes away nothing; and
// there is a way at every moment. Inside the AS by LOCAL_PREF, from outside by the community.
func TestB22_RFC8326_Drain(t *testing.T) {
	t.Parallel()
	for _, as := range []uint32{64512, 65001} {
		for _, end := range []string{"shutdown", "restart that does not come back"} {
			t.Run(fmt.Sprintf("AS %d, %s", as, end), func(t *testing.T) {
				t.Parallel()
				z, x, y := freeAddr(t), freeAddr(t), freeAddr(t)
				cz := nodeConfig(64512, z, peerTo(x, as), peerTo(y, as))
				nz := startNode(t, cz, Options{})
				way := func(n *node, prefix string) string {
					if prefix == prefix4 {
						return n.cfg.NextHop4.String()
					}
					return n.cfg.NextHop6.String()
				}
				nx, ny := startNode(t, nodeConfig(as, x, peerTo(z, 64512)), Options{}), startNode(t, nodeConfig(as, y, peerTo(z, 64512)), Options{})
				for _, n := range []*node{nx, ny} {
					n.originate(prefix4, prefix6)
					n.OriginationsComplete()
				}
				var kept []func() bool
				for _, p := range []string{prefix4, prefix6} {
					nz.waitHops(p, way(nx, p)+" "+way(ny, p))
					kept = append(kept, always(nz, p))
				}
				nx.cfg.Peers[0].Rewrite.GracefulShutdown = true
				if err := nx.SetConfig(nx.cfg); err != nil {
					t.Fatal(err)
				}
				for _, p := range []string{prefix4, prefix6} {
					nz.waitHops(p, way(ny, p))
				}
				before := nz.seen()
				if end == "shutdown" {
					nx.cfg.Peers[0].Shutdown, nx.cfg.Peers[0].ShutdownText = true, "drained"
					if err := nx.SetConfig(nx.cfg); err != nil {
						t.Fatal(err)
					}
				} else {
					nx.stop()
				}
				eventually(t, "its session has ended", func() bool { return nz.peer(x).State != "Established" })
				if end == "shutdown" {
					eventually(t, "nothing is left of it", func() bool { return nz.peer(x).Received == 0 })
				}
				for i, p := range []string{prefix4, prefix6} {
					if got := nz.hops(p); got != way(ny, p) || !kept[i]() {
						t.Errorf("%s via %q in the end, or without a way in between", p, got)
					}
				}
				if after := nz.seen(); after != before {
					t.Errorf("the end of the session changed %d routes", after-before)
				}
			})
		}
	}
}

const prefix4, prefix6 = "10.70.0.0/24", "fd70::/64"

// seen is how many changes of routes the daemon was told of.
func (n *node) seen() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.events
}
