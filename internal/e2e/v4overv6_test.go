// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"testing"

	"github.com/muslin-net/muslin/internal/lab"
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
