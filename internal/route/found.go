// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Found tells whether the kernel has a route with that protocol number in its
// main table. A daemon that finds one of its own goes on forwarding for an
// earlier one: its start is a restart in the sense of RFC 4724.
func Found(protocol uint8) (found bool) {
	filter := &netlink.Route{Protocol: netlink.RouteProtocol(protocol), Table: unix.RT_TABLE_MAIN}
	_ = netlink.RouteListFilteredIter(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE, func(netlink.Route) bool {
		found = true
		return false
	})
	return found
}
