// SPDX-License-Identifier: Apache-2.0

package route

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Found sees a route of either family in the main table, by its protocol and
// nothing else, and answers as quickly when there are many.
func TestFound(t *testing.T) {
	h := newHost(t)
	found := func(protocol uint8) (found bool) {
		h.must(h.ns.Do(func() error {
			found = Found(protocol)
			return nil
		}))
		return found
	}
	if found(Protocol) {
		t.Error("found in a table without a route of ours")
	}
	for _, r := range []Route{linkRoute("10.65.0.2/32", "w1"), linkRoute("fd65::2/128", "w1"), blackhole("10.65.0.0/26"),
		blackhole("fd65::/122"), via("10.66.0.0/26", "10.0.0.2", "10.0.1.2"), via("fd66::/122", "fd00::2", "fd00:1::2")} {
		h.replace("bgp", r)
		h.apply()
		if !found(Protocol) || found(Protocol+1) {
			t.Errorf("%v: found %v, another protocol %v", r, found(Protocol), found(Protocol+1))
		}
		h.replace("bgp")
		h.apply()
		if found(Protocol) {
			t.Errorf("%v: found after it went", r)
		}
	}
	other := &netlink.Route{Dst: ipnet(pfx("10.69.0.0/26")), Type: unix.RTN_BLACKHOLE, Table: 100, Protocol: Protocol}
	h.must(h.nl.RouteAdd(other))
	if found(Protocol) {
		t.Error("found in another table")
	}

	h.replace("bgp", bulk(20000, "")...)
	h.apply()
	whole := testing.AllocsPerRun(1, func() { found(Protocol + 1) }) // reads to the end
	first := testing.AllocsPerRun(1, func() { found(Protocol) })
	t.Logf("%.0f allocations for the whole of 20000 routes, %.0f to the first of ours", whole, first)
	if first > whole/2 {
		t.Error("goes on reading after the first")
	}
}
