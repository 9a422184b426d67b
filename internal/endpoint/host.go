// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// HostAddrs finds this host's addresses, with their subnets' lengths: that of
// the default route's interface, else the first global one on an interface
// that is up, is not lo, and whose name may be used. A family without one is
// invalid in the answer, which is no error.
func HostAddrs(mayUse func(device string) bool) (v4, v6 netip.Prefix, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return v4, v6, err
	}
	slices.SortFunc(links, func(a, b netlink.Link) int { return a.Attrs().Index - b.Attrs().Index })
	usable := map[int]bool{}
	for _, l := range links {
		a := l.Attrs()
		up := a.Flags&net.FlagUp != 0 && a.Flags&net.FlagLoopback == 0
		usable[a.Index] = up && mayUse(a.Name)
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

// HostSubnets returns this host's addresses, each with the length of its subnet.
func HostSubnets() (list []netip.Prefix) {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		if ok && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			list = append(list, netip.PrefixFrom(ip.Unmap(), bits))
		}
	}
	return list
}

// Uplinks returns the names of the interfaces by which others reach this host:
// those of default routes, and those that have one of its own addresses.
func Uplinks(own []netip.Addr) (names []string, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	is := map[int]bool{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		for _, index := range defaultRouteLinks(family) {
			is[index] = true
		}
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && slices.Contains(own, ip.Unmap()) {
			is[a.LinkIndex] = true
		}
	}
	for _, l := range links {
		if a := l.Attrs(); is[a.Index] && a.Flags&net.FlagLoopback == 0 {
			names = append(names, a.Name)
		}
	}
	return names, nil
}

// HasAddr tells whether an address is one of this host's own.
func HasAddr(ip netip.Addr) bool {
	addrs, err := AllAddrs()
	return err != nil || addrs[ip]
}

// AllAddrs returns the addresses of this host's interfaces.
func AllAddrs() (map[netip.Addr]bool, error) {
	r := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	r.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	msgs, err := r.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) { // what changed meanwhile is notified
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	out := make(map[netip.Addr]bool, len(msgs))
	for _, b := range msgs {
		if a, ok := parseAddr(b); ok {
			out[a.prefix.Addr()] = true
		}
	}
	return out, nil
}

// InterfaceAddrs returns the addresses of each interface of this host, sorted.
func InterfaceAddrs() (map[string][]netip.Addr, error) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	out := map[string][]netip.Addr{}
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && names[a.LinkIndex] != "" {
			out[names[a.LinkIndex]] = append(out[names[a.LinkIndex]], ip.Unmap())
		}
	}
	for _, addrs := range out {
		slices.SortFunc(addrs, netip.Addr.Compare)
	}
	return out, nil
}

// OnLink tells whether an address is a neighbour's on a link of this host: a
// link-local one, or one in the subnet of an interface.
func OnLink(ip netip.Addr) bool {
	if ip.IsLinkLocalUnicast() {
		return true
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	return err == nil && slices.ContainsFunc(addrs, func(a netlink.Addr) bool {
		n := a.IPNet
		if a.Peer != nil { // point to point
			n = a.Peer
		}
		return n != nil && n.Contains(ip.AsSlice())
	})
}

// Exists tells whether this host has an interface of that name.
func Exists(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}

// Workloads lists the interfaces whose names begin with one of the prefixes.
func Workloads(prefixes []string) (list []Workload, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if a := l.Attrs(); hasPrefix(a.Name, prefixes) {
			list = append(list, Workload{a.Name, a.Alias})
		}
	}
	return list, nil
}
