// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"net/netip"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// programClusterRoutes of the BGPConfiguration says of which pools the routing
// daemon programs the routes to other nodes, and the FelixConfiguration of which the
// agent does. Here both are one program, so a pool's routes are programmed if
// either says so. The defaults cover all: pools without encapsulation
// there, those with IP-in-IP here. VXLAN is never the routing daemon's.

// outOfKernel are the pools whose learned routes neither is to program, in order.
func outOfKernel(pools map[string]*v3.IPPool, global *v3.BGPConfiguration, agent string) (list []netip.Prefix) {
	daemon := "EnabledNoEncapOnly"
	if global != nil {
		daemon = cmp.Or(global.Spec.ProgramClusterRoutes, daemon)
	}
	for _, p := range pools {
		n, err := v3.ParseNetwork(p.Spec.CIDR)
		if err != nil {
			continue // reported with the sessions
		}
		which := "EnabledNoEncapOnly"
		switch {
		case p.Spec.VXLANMode != "" && p.Spec.VXLANMode != "Never":
			continue
		case p.Spec.IPIPMode != "" && p.Spec.IPIPMode != "Never":
			which = "EnabledIPIPOnly"
		}
		if in := []string{daemon, agent}; !slices.Contains(in, "Enabled") && !slices.Contains(in, which) {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, comparePrefix)
	return list
}

// liesIn tells whether a prefix lies in one of a few others.
func liesIn(list []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(list, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
}
