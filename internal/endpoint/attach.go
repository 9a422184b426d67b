// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Attach makes the pair and configures the workload's side: addresses, a
// default route per family, loopback. The host side gets its MAC and settings,
// and is up when Attach returns; its gateway addresses and routes come with
// the endpoint (Links). It is idempotent: a second call with the same arguments
// completes and returns what is there. When it fails, what it made is gone;
// what was there before stays. ErrNamespace means that NetNS was refused.
func Attach(ctx context.Context, a Attachment) (Attached, error) {
	out, err := attach(ctx, a)
	if err != nil {
		return Attached{}, fmt.Errorf("attach %s to %s: %w", a.Host, a.NetNS, err)
	}
	return out, nil
}

func attach(ctx context.Context, a Attachment) (out Attached, err error) {
	if err := a.check(); err != nil {
		return out, err
	}
	ns, err := openNamespace(a.NetNS)
	if err != nil {
		return out, err
	}
	defer ns.Close()
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return out, fmt.Errorf("open netlink: %w", err)
	}
	defer host.Close()
	var in *netlink.Handle
	err = inside(ns, func() (err error) {
		in, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return out, fmt.Errorf("open netlink in the namespace: %w", err)
	}
	defer in.Close()

	outer, made, err := pair(host, in, ns, a)
	if err != nil {
		return out, err
	}
	if made {
		defer func() {
			if err != nil {
				if e := host.LinkDel(outer); e != nil && !gone(e) {
					err = errors.Join(err, fmt.Errorf("remove %s: %w", a.Host, e))
				}
			}
		}()
	}
	// Neither side of a new pair is up yet: no packet of the workload can come
	// in before the host has stopped believing it.
	if _, err := apply(hostSettings, a.Host, nil); err != nil {
		return out, err
	}
	if err := inside(ns, func() error { return a.innerSettings() }); err != nil {
		return out, err
	}
	if err := ctx.Err(); err != nil {
		return out, err
	}
	if a.Alias != "" && outer.Attrs().Alias != a.Alias {
		if err := host.LinkSetAlias(outer, a.Alias); err != nil {
			return out, fmt.Errorf("alias of %s: %w", a.Host, err)
		}
	}
	if a.MTU != 0 && outer.Attrs().MTU != a.MTU {
		if err := host.LinkSetMTU(outer, a.MTU); err != nil {
			return out, fmt.Errorf("MTU of %s: %w", a.Host, err)
		}
	}
	if err := host.LinkSetUp(outer); err != nil {
		return out, fmt.Errorf("set %s up: %w", a.Host, err)
	}
	inner, err := a.configureInner(in, outer.Attrs().HardwareAddr)
	if err != nil {
		return out, fmt.Errorf("in the namespace: %w", err)
	}
	if a.has(netip.Addr.Is6) {
		listens(ctx, in, inner.Attrs().Index)
	}
	if err := ctx.Err(); err != nil {
		return out, err
	}
	return Attached{HostIndex: outer.Attrs().Index, MAC: inner.Attrs().HardwareAddr}, nil
}

// listenTime is how long listens waits at most: the kernel looks at links of which it is in no hurry once a second.
const listenTime = 1200 * time.Millisecond

// listens returns when the kernel has seen that an interface carries. Only then the interface has a route for groups, and
// a question for an IPv6 address on it reaches the address instead of leaving by the default route;
// who asks sooner asks again a second later, which a packet to the workload would wait for.
func listens(ctx context.Context, in *netlink.Handle, index int) {
	for start := time.Now(); time.Since(start) < listenTime && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		if link, err := in.LinkByIndex(index); err != nil || link.Attrs().OperState == netlink.OperUp {
			return
		}
	}
}

// pair finds the pair or makes it, both ends down and the inner one in the
// namespace from the start, so that nothing has to be moved or renamed.
func pair(host, in *netlink.Handle, ns *os.File, a Attachment) (outer netlink.Link, made bool, err error) {
	outer, err = host.LinkByName(a.Host)
	if err == nil {
		return outer, false, isPair(host, in, ns, outer, a.Inner)
	}
	if !gone(err) {
		return nil, false, err
	}
	if _, err := in.LinkByName(a.Inner); err == nil {
		return nil, false, fmt.Errorf("the namespace already has an interface %s; choose another name (--interface)", a.Inner)
	}
	at := netlink.NewLinkAttrs()
	at.Name, at.HardwareAddr, at.MTU = a.Host, HostMAC(), a.MTU
	veth := &netlink.Veth{LinkAttrs: at, PeerName: a.Inner, PeerHardwareAddr: a.MAC, PeerNamespace: netlink.NsFd(ns.Fd())}
	if err := host.LinkAdd(veth); err != nil {
		return nil, false, fmt.Errorf("make the interface pair %s–%s: %w", a.Host, a.Inner, err)
	}
	outer, err = host.LinkByName(a.Host)
	if err != nil {
		return nil, false, errors.Join(fmt.Errorf("find %s again: %w", a.Host, err), host.LinkDel(veth))
	}
	return outer, true, nil
}

// isPair verifies that an interface that is there already is what Attach would
// make: the two ends must name each other.
func isPair(host, in *netlink.Handle, ns *os.File, outer netlink.Link, name string) error {
	o := outer.Attrs()
	inner, err := in.LinkByName(name)
	if err == nil && outer.Type() == "veth" && inner.Type() == "veth" {
		i := inner.Attrs()
		id, err := host.GetNetNsIdByFd(int(ns.Fd()))
		if o.ParentIndex == i.Index && i.ParentIndex == o.Index && err == nil && id == o.NetNsID {
			return nil
		}
	}
	return fmt.Errorf("interface %s exists and does not lead to %s in this namespace; detach it first", o.Name, name)
}

// innerSettings runs inside the namespace. A namespace may have IPv6 off by
// default; that is only changed for a workload with an IPv6 address.
func (a *Attachment) innerSettings() error {
	if !a.has(netip.Addr.Is6) {
		return nil
	}
	if !hasIPv6() {
		return errors.New("addresses: this kernel has no IPv6")
	}
	_, err := apply(containerSettings, a.Inner, nil)
	return err
}

// configureInner does everything inside the namespace that netlink can.
func (a *Attachment) configureInner(in *netlink.Handle, gateway net.HardwareAddr) (netlink.Link, error) {
	lo, err := in.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	if err := in.LinkSetUp(lo); err != nil {
		return nil, fmt.Errorf("set lo up: %w", err)
	}
	inner, err := in.LinkByName(a.Inner)
	if err != nil {
		return nil, err
	}
	at := inner.Attrs()
	if len(a.MAC) != 0 && at.HardwareAddr.String() != a.MAC.String() {
		if err := in.LinkSetHardwareAddr(inner, a.MAC); err != nil {
			return nil, fmt.Errorf("MAC of %s: %w", a.Inner, err)
		}
		at.HardwareAddr = a.MAC
	}
	if a.MTU != 0 && at.MTU != a.MTU {
		if err := in.LinkSetMTU(inner, a.MTU); err != nil {
			return nil, fmt.Errorf("MTU of %s: %w", a.Inner, err)
		}
	}
	for _, x := range a.Addrs {
		p := netip.PrefixFrom(x, x.BitLen())
		addr := &netlink.Addr{IPNet: ipNet(p)}
		if x.Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := in.AddrAdd(inner, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("add address %s to %s: %w", p, a.Inner, err)
		}
	}
	// The interface must be up before a gateway can be reached through it.
	if err := in.LinkSetUp(inner); err != nil {
		return nil, fmt.Errorf("set %s up: %w", a.Inner, err)
	}
	return inner, errors.Join(a.gateways(in, at.Index, gateway), a.routes(in, at.Index))
}

// gateways adds fixed neighbour entries for the gateways. The answer to a
// question would be the same, but the kernel begins to listen for questions
// about a new IPv6 address some time after it was added, and one that comes
// too early is only repeated after a second.
func (a *Attachment) gateways(in *netlink.Handle, index int, mac net.HardwareAddr) error {
	var errs []error
	for _, gw := range []netip.Addr{Gateway4(), Gateway6()} {
		if gw.Is4() && !a.has(netip.Addr.Is4) || gw.Is6() && !a.has(netip.Addr.Is6) {
			continue
		}
		err := in.NeighSet(&netlink.Neigh{LinkIndex: index, Family: familyOf(gw), IP: gw.AsSlice(), HardwareAddr: mac, State: unix.NUD_PERMANENT})
		if err != nil {
			errs = append(errs, fmt.Errorf("set neighbour %s: %w", gw, err))
		}
	}
	return errors.Join(errs...)
}

// routes adds the way to the gateway and through it. The IPv6 gateway is link
// local and needs no route of its own.
func (a *Attachment) routes(in *netlink.Handle, index int) error {
	if a.has(netip.Addr.Is4) {
		err := addRoute(in, &netlink.Route{LinkIndex: index, Dst: ipNet(gateway4), Scope: netlink.SCOPE_LINK})
		if err != nil {
			return err
		}
		err = addRoute(in, &netlink.Route{LinkIndex: index, Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: gateway4.Addr().AsSlice()})
		if err != nil {
			return err
		}
	}
	if a.has(netip.Addr.Is6) {
		return addRoute(in, &netlink.Route{LinkIndex: index, Dst: ipNet(netip.MustParsePrefix("::/0")), Gw: gateway6.Addr().AsSlice()})
	}
	return nil
}

// addRoute adds a route, or finds it. Another route at the same place is not
// replaced: the workload may have a network beside ours, and whose default
// route should win is not for us to say.
func addRoute(in *netlink.Handle, r *netlink.Route) error {
	err := in.RouteAdd(r)
	if !errors.Is(err, unix.EEXIST) {
		if err != nil {
			return fmt.Errorf("add route %s: %w", routeText(r), err)
		}
		return nil
	}
	family := netlink.FAMILY_V4
	if len(r.Dst.IP) == net.IPv6len {
		family = netlink.FAMILY_V6
	}
	have, err := in.RouteListFiltered(family, &netlink.Route{LinkIndex: r.LinkIndex, Dst: r.Dst}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_DST)
	if err != nil {
		return fmt.Errorf("look for route %s: %w", routeText(r), err)
	}
	for _, h := range have {
		if h.Gw.Equal(r.Gw) {
			return nil
		}
	}
	return fmt.Errorf("add route %s: the namespace already has another route to %s; remove that one, or give another namespace if an endpoint has it", routeText(r), r.Dst)
}

func routeText(r *netlink.Route) string {
	var s strings.Builder
	s.WriteString(r.Dst.String())
	if r.Gw != nil {
		fmt.Fprintf(&s, " via %s", r.Gw)
	}
	return s.String()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
