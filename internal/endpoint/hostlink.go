// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// HostLinkOf looks at an interface.
func HostLinkOf(name string) (HostLink, error) {
	h := HostLink{Name: name}
	l, err := netlink.LinkByName(name)
	var none netlink.LinkNotFoundError
	switch {
	case errors.As(err, &none):
		h.Missing, h.Down = true, "there is no interface "+name
		return h, nil
	case err != nil:
		return h, fmt.Errorf("interface %s: %w", name, err)
	}
	a := l.Attrs()
	h.Index = a.Index
	if len(a.HardwareAddr) == len(h.MAC) {
		h.MAC = [6]byte(a.HardwareAddr)
	}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_V6)
	if errors.Is(err, unix.ENODEV) {
		err = nil // it went meanwhile, which is notified
	}
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return h, fmt.Errorf("addresses of interface %s: %w", name, err)
	}
	for _, x := range addrs {
		ip, ok := netip.AddrFromSlice(x.IP)
		if ok && ip.IsLinkLocalUnicast() && x.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DEPRECATED|unix.IFA_F_DADFAILED) == 0 &&
			(!h.LinkLocal.IsValid() || ip.Less(h.LinkLocal)) {
			h.LinkLocal = ip
		}
	}
	switch {
	case a.Flags&net.FlagUp == 0:
		h.Down = "interface " + name + " is down"
	case a.RawFlags&unix.IFF_RUNNING == 0:
		h.Down = "interface " + name + " has no carrier"
	case !h.LinkLocal.IsValid():
		h.Down = "interface " + name + " has no link-local address that can be used: is IPv6 enabled on it?"
	}
	return h, nil
}

// WatchHostLinks calls changed, from this goroutine, when an interface of this host,
// or an IPv6 address of one, may have come, changed or gone. It should only take
// note. It returns nil when ctx ends.
func WatchHostLinks(ctx context.Context, changed func()) error {
	return watchHost(ctx, "interfaces", changed, func([]syscall.NetlinkMessage) bool { return true },
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV6_IFADDR)
}
