// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Ask asks the kernel's forwarding tables, rules included.
func Ask(q Query) (Way, error) {
	opts := &netlink.RouteGetOptions{Iif: q.In}
	if q.Src.IsValid() {
		opts.SrcAddr = q.Src.AsSlice()
	}
	var w Way
	// Once for the route, and once for which of its next hops it is.
	for _, match := range []bool{true, false} {
		opts.FIBMatch = match
		list, err := netlink.RouteGetWithOptions(q.Dst.AsSlice(), opts)
		if refused := refusedBy(err); refused != "" {
			w.Refused = refused
			return w, nil
		}
		if err != nil || len(list) == 0 {
			return w, fmt.Errorf("ask the kernel for the route to %s: %w", q.Dst, err)
		}
		r := &list[0]
		if match {
			w.take(r, q.Dst)
			if w.Refused != "" {
				return w, nil
			}
			continue
		}
		w.Local = r.Type == unix.RTN_LOCAL
		if r.Gw != nil {
			w.Via, _ = netip.AddrFromSlice(r.Gw)
			w.Via = w.Via.Unmap()
		} else if v, ok := r.Via.(*netlink.Via); ok {
			w.Via, _ = netip.AddrFromSlice(v.Addr)
		}
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			w.Device = link.Attrs().Name
		}
	}
	return w, nil
}

// take reads the route that the table has.
func (w *Way) take(r *netlink.Route, dst netip.Addr) {
	w.Prefix, w.Protocol = netip.PrefixFrom(dst, dst.BitLen()), uint8(r.Protocol)
	if r.Dst != nil {
		ones, _ := r.Dst.Mask.Size()
		if a, ok := netip.AddrFromSlice(r.Dst.IP); ok {
			w.Prefix = netip.PrefixFrom(a.Unmap(), ones)
		}
	} else {
		w.Prefix = netip.PrefixFrom(dst, 0).Masked()
	}
	switch r.Type {
	case unix.RTN_BLACKHOLE:
		w.Refused = "blackhole"
	case unix.RTN_UNREACHABLE:
		w.Refused = "unreachable"
	case unix.RTN_PROHIBIT:
		w.Refused = "prohibit"
	}
}

// refusedBy says what an error of the lookup means: for a route that refuses, the
// kernel answers with what it would do to the sender.
func refusedBy(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, unix.ENETUNREACH):
		return "no route"
	case errors.Is(err, unix.EHOSTUNREACH):
		return "unreachable"
	case errors.Is(err, unix.EACCES):
		return "prohibit"
	case errors.Is(err, unix.EINVAL):
		return "blackhole, or a source that cannot be"
	}
	return ""
}
