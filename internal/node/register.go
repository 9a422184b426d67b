// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/route"
)

// autodetect finds this host's addresses, with their subnets' lengths: that of
// the default route's interface, else the first global one on an interface
// that is up and is neither lo nor a workload's. A family without one is
// invalid in the answer, which is no error.
func autodetect(prefixes []string) (v4, v6 netip.Prefix, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return v4, v6, err
	}
	slices.SortFunc(links, func(a, b netlink.Link) int { return a.Attrs().Index - b.Attrs().Index })
	usable := map[int]bool{}
	for _, l := range links {
		a := l.Attrs()
		up := a.Flags&net.FlagUp != 0 && a.Flags&net.FlagLoopback == 0
		workload := slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(a.Name, p) })
		usable[a.Index] = up && !workload
	}
	find := func(family int) (netip.Prefix, error) {
		order := defaultRouteLinks(family)
		for _, l := range links {
			order = append(order, l.Attrs().Index)
		}
		addrs, err := netlink.AddrList(nil, family)
		if err != nil {
			return netip.Prefix{}, err
		}
		for _, index := range order {
			if !usable[index] {
				continue
			}
			for _, a := range addrs {
				if a.LinkIndex != index || a.Scope != unix.RT_SCOPE_UNIVERSE || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DEPRECATED|unix.IFA_F_DADFAILED) != 0 {
					continue
				}
				ip, ok := netip.AddrFromSlice(a.IP)
				bits, _ := a.Mask.Size()
				if ip = ip.Unmap(); ok && ip.IsGlobalUnicast() && !ip.IsLinkLocalUnicast() {
					return netip.PrefixFrom(ip, bits), nil
				}
			}
		}
		return netip.Prefix{}, nil
	}
	if v4, err = find(unix.AF_INET); err != nil {
		return v4, v6, err
	}
	v6, err = find(unix.AF_INET6)
	return v4, v6, err
}

func defaultRouteLinks(family int) (links []int) {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Dst: nil, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil
	}
	slices.SortStableFunc(routes, func(a, b netlink.Route) int { return a.Priority - b.Priority })
	for _, r := range routes {
		if r.Dst != nil && !(r.Dst.IP.IsUnspecified() && isZeroMask(r.Dst.Mask)) {
			continue
		}
		if r.LinkIndex > 0 {
			links = append(links, r.LinkIndex)
		}
		for _, h := range r.MultiPath {
			links = append(links, h.LinkIndex)
		}
	}
	return links
}

func isZeroMask(m net.IPMask) bool {
	ones, _ := m.Size()
	return ones == 0
}

// mergeNode sets on n what this daemon owns, in the order: explicit flag, the
// stored value, autodetection. Everything else is kept. It tells whether
// anything changed.
func mergeNode(n *v3.Node, explicit4, explicit6, auto4, auto6 netip.Prefix) bool {
	if n.Spec.BGP == nil {
		n.Spec.BGP = &v3.NodeBGP{}
	}
	changed := false
	set := func(field *string, explicit, auto netip.Prefix) {
		want := *field
		switch {
		case explicit.IsValid():
			want = explicit.String()
		case *field == "" && auto.IsValid():
			want = auto.String()
		}
		if want != *field {
			*field, changed = want, true
		}
	}
	set(&n.Spec.BGP.IPv4Address, explicit4, auto4)
	set(&n.Spec.BGP.IPv6Address, explicit6, auto6)
	if *n.Spec.BGP == (v3.NodeBGP{}) {
		n.Spec.BGP = nil // an empty object is not valid
	}
	for _, a := range nodeIPs(n) {
		if !slices.ContainsFunc(n.Spec.Addresses, func(x v3.NodeAddress) bool { return x.Address == a }) {
			n.Spec.Addresses = append(n.Spec.Addresses, v3.NodeAddress{Address: a, Type: "CalicoNodeIP"})
			changed = true
		}
	}
	// Addresses that were ours and are not any more.
	before := len(n.Spec.Addresses)
	n.Spec.Addresses = slices.DeleteFunc(n.Spec.Addresses, func(x v3.NodeAddress) bool {
		return x.Type == "CalicoNodeIP" && !slices.Contains(nodeIPs(n), x.Address)
	})
	return changed || before != len(n.Spec.Addresses)
}

func nodeIPs(n *v3.Node) (ips []string) {
	if n.Spec.BGP == nil {
		return nil
	}
	for _, a := range []string{n.Spec.BGP.IPv4Address, n.Spec.BGP.IPv6Address} {
		if a != "" {
			ips = append(ips, a)
		}
	}
	return ips
}

// hostPrefixes returns the subnets that this host is in.
func hostPrefixes() (list []netip.Prefix) {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		if ok && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			list = append(list, netip.PrefixFrom(ip.Unmap(), bits).Masked())
		}
	}
	return list
}

// ownRoutes tells whether the kernel still forwards by routes of an earlier
// daemon: this start is then a restart in the sense of RFC 4724.
func ownRoutes() (found bool) {
	filter := &netlink.Route{Protocol: route.Protocol, Table: unix.RT_TABLE_MAIN}
	_ = netlink.RouteListFilteredIter(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE, func(netlink.Route) bool {
		found = true
		return false
	})
	return found
}
