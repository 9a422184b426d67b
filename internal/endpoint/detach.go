// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Detach removes an interface pair by the name of its host side, and then the
// connection-tracking entries of the workload's addresses, so that whoever
// gets an address next gets none of its flows. It is no error if the pair is
// gone, as it is when the namespace has ended.
func Detach(host string, addrs []netip.Addr) error {
	return errors.Join(removePair(host), ForgetFlows(addrs))
}

// ForgetFlows deletes the connection-tracking entries of addresses: the second half of Detach.
func ForgetFlows(addrs []netip.Addr) error {
	_, err := forgetFlows(addrs)
	return err
}

func removePair(host string) error {
	if err := ValidName(host); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("detach %s: open netlink: %w", host, err)
	}
	defer h.Close()
	link, err := h.LinkByName(host)
	if gone(err) {
		return nil
	}
	if err == nil && link.Type() != "veth" {
		return fmt.Errorf("detach %s: it is a %s, not an interface pair; remove it by the means that made it", host, link.Type())
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil && !gone(err) {
		return fmt.Errorf("detach %s: %w", host, err)
	}
	return nil
}

// forgetFlows deletes the connection-tracking entries in which one of the
// addresses is an end, in either direction and on either side of a
// translation, and returns how many there were. It acts on the network
// namespace of the caller. A kernel without connection tracking has none.
func forgetFlows(addrs []netip.Addr) (deleted int, err error) {
	byFamily := map[netlink.InetFamily]flowsOf{}
	for _, a := range addrs {
		family := netlink.InetFamily(familyOf(a))
		if byFamily[family] == nil {
			byFamily[family] = flowsOf{}
		}
		byFamily[family][a] = true
	}
	if len(byFamily) == 0 {
		return 0, nil
	}
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("forget flows: open netlink: %w", err)
	}
	defer h.Close()
	var errs []error
	for family, f := range byFamily {
		n, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, family, f)
		deleted += int(n)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
			errs = append(errs, fmt.Errorf("forget flows: %w", err))
		}
	}
	return deleted, errors.Join(errs...)
}

// flowsOf selects the flows of a set of addresses.
type flowsOf map[netip.Addr]bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f flowsOf) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	for _, ip := range [...]net.IP{flow.Forward.SrcIP, flow.Forward.DstIP, flow.Reverse.SrcIP, flow.Reverse.DstIP} {
		if a, ok := netip.AddrFromSlice(ip); ok && f[a.Unmap()] {
			return true
		}
	}
	return false
}
