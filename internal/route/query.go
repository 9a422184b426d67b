// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

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
	if q.In != "" {
		if w, is, err := askOnLink(q, *opts); is {
			return w, err
		}
	}
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

// askOnLink is Ask of what comes in for a group, or for all on a link. It tells whether that
// is what it is.
func askOnLink(q Query, opts netlink.RouteGetOptions) (w Way, is bool, err error) {
	if q.Dst.Is6() {
		if !q.Dst.IsMulticast() {
			return w, false, nil
		}
		member, err := joined(q.In, q.Dst)
		return onLink(q, member), true, err
	}
	list, err := netlink.RouteGetWithOptions(q.Dst.AsSlice(), &opts)
	switch {
	case err == nil && len(list) > 0 && list[0].Flags&rtcfLocal != 0:
		is = list[0].Type == unix.RTN_BROADCAST || list[0].Type == unix.RTN_MULTICAST
		return onLink(q, true), is, nil
	case errors.Is(err, unix.EINVAL) && q.Dst.IsMulticast():
		return onLink(q, false), true, nil
	}
	return w, false, nil
}

// rtcfLocal says that it is delivered here (linux/in_route.h).
const rtcfLocal = 0x80000000

// joined tells whether somebody here is of a group of IPv6 on an interface. The route
// says that of IPv4 alone.
func joined(device string, group netip.Addr) (bool, error) {
	text, err := os.ReadFile("/proc/thread-self/net/igmp6")
	if err != nil {
		return false, fmt.Errorf("groups of %s: %w", device, err)
	}
	for line := range strings.Lines(string(text)) { // number, interface, group, …
		f := strings.Fields(line)
		if len(f) > 2 && f[1] == device && f[2] == hex.EncodeToString(group.AsSlice()) {
			return scopeOf(group) >= scopeLink, nil
		}
	}
	return false, nil
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
