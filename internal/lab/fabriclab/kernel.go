// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/live"
)

// kernelRoutes reads the routes that packets of a device follow: those with a
// next hop, and those to endpoints. Subnets of links are the design's own.
func (l *Lab) kernelRoutes(d *fabric.Device, family fabric.Family, t live.Table) error {
	n, err := l.space(d.Name)
	if err != nil {
		return err
	}
	h, err := n.Handle()
	if err != nil {
		return err
	}
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("%s: links: %w", d.Name, err)
	}
	names := map[int]string{}
	for _, k := range links {
		names[k.Attrs().Index] = k.Attrs().Name
	}
	number := unix.AF_INET
	if family == fabric.IPv6 {
		number = unix.AF_INET6
	}
	routes, err := h.RouteListFiltered(number, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("%s: routes: %w", d.Name, err)
	}
	for _, r := range routes {
		if r.Type != unix.RTN_UNICAST {
			continue
		}
		prefix := prefixOf(r.Dst, family)
		add := func(link int, to netlink.Destination, gw net.IP) {
			a, ok := netip.AddrFromSlice(gw)
			if v, isVia := to.(*netlink.Via); isVia {
				a, ok = netip.AddrFromSlice(v.Addr)
			}
			name := names[link]
			switch {
			case name == outside: // the world is no part of the design
			case slices.ContainsFunc(d.Static, func(s fabric.StaticRoute) bool { return ok && s.Via == a.Unmap() }): // nor are machines that speak no BGP
			case ok && !a.IsUnspecified():
				t.At(prefix).Via = append(t.At(prefix).Via, live.Via(l.peerAt(d, name, a.Unmap())))
			case strings.HasPrefix(name, "cali") && prefix.IsSingleIP():
				t.At(prefix).Delivered = true
			}
		}
		if len(r.MultiPath) == 0 {
			add(r.LinkIndex, r.Via, r.Gw)
		}
		for _, p := range r.MultiPath {
			add(p.LinkIndex, p.Via, p.Gw)
		}
	}
	return nil
}

func prefixOf(n *net.IPNet, family fabric.Family) netip.Prefix {
	if n == nil {
		return family.Default()
	}
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}
