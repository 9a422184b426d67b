// SPDX-License-Identifier: Apache-2.0

package route

import (
	"fmt"
	"net/netip"
	"slices"
)

// Why a route is not in force as wanted, in words that every routing table uses.

func whyNoDevice(name string) string { return "device " + name + " is missing or down" }

func whyNoInterface(name string) string { return "interface " + name + " is missing or down" }

func whyNowhere(a netip.Addr) string {
	return "next hop " + a.String() + " is in no connected subnet and no other daemon has a route to it"
}

func whyNoZone(a netip.Addr) string {
	return "next hop " + a.String() + " is link-local, and on which interface is not said"
}

func whyDefaultOnly(a netip.Addr) string {
	return "next hop " + a.String() + " is reached through a default route only"
}

func whyDropped(a netip.Addr, p netip.Prefix) string {
	return "next hop " + a.String() + " is in " + p.String() + ", to which another daemon drops everything"
}

func whyWorkload(a netip.Addr) string {
	return "next hop " + a.String() + " is behind a workload's interface"
}

func whyLoses(p netip.Prefix, proto uint8, metric, ours uint32) string {
	return fmt.Sprintf("a foreign route to %s (protocol %d, metric %d) wins over ours (metric %d); delete one of them", p, proto, metric, ours)
}

func whyInPart(p netip.Prefix, proto uint8) string {
	return fmt.Sprintf("a foreign route to %s (protocol %d) takes part of it", p, proto)
}

// onLink is the way of what comes in by an interface for a group, or for all on a link.
// It goes no further than this host, which takes it if it is one of them.
func onLink(q Query, member bool) Way {
	w := Way{Prefix: netip.PrefixFrom(q.Dst, q.Dst.BitLen()), Protocol: protoKernel, Local: member, OnLink: member}
	if !member {
		w.Refused = "multicast is not forwarded, and nobody on this server listens to it on " + q.In
	}
	return w
}

// scopeLink is the narrowest scope of IPv6 multicast that comes in by a link (RFC 4291
// section 2.7).
const scopeLink = 2

func scopeOf(a netip.Addr) byte { return a.As16()[1] & 0xf }

// protoKernel marks routes that the kernel makes for addresses: inside a
// learned aggregate they are no accident.
const protoKernel = 2

// intoItself tells whether a route of the kernel has the place of one that leads to the same links: to a subnet that
// all next hops of that are in. A router that announces its subnet tells those on it, too.
func intoItself(p netip.Prefix, proto uint8, hops Hops) bool {
	addrs := hops.Addrs()
	return proto == protoKernel && len(addrs) > 0 && !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !p.Contains(a.WithZone("")) })
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
