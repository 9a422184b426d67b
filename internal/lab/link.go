// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// End is one end of a veth pair. A nil MAC is the kernel's choice, an MTU of 0
// its default.
type End struct {
	NS   *Namespace
	Name string
	MAC  net.HardwareAddr
	MTU  int
}

// Veth makes a cable between two namespaces, which may be the same one, and
// brings both ends up.
func Veth(a, b End) error {
	h, err := a.NS.Handle()
	if err != nil {
		return err
	}
	b.NS.mu.Lock()
	file := b.NS.file
	b.NS.mu.Unlock()
	if file == nil {
		return fmt.Errorf("veth %s: network namespace %s is deleted", b.Name, b.NS.name)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = a.Name, a.MAC, a.MTU
	err = h.LinkAdd(&netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         b.Name,
		PeerHardwareAddr: b.MAC,
		PeerMTU:          uint32(b.MTU),
		PeerNamespace:    netlink.NsFd(int(file.Fd())),
	})
	if err != nil {
		return fmt.Errorf("veth %s in %s to %s in %s: %w", a.Name, a.NS.name, b.Name, b.NS.name, err)
	}
	return errors.Join(a.NS.LinkUp(a.Name), b.NS.LinkUp(b.Name))
}

// onLink finds a link and does something with it.
func (n *Namespace) onLink(what, name string, f func(*netlink.Handle, netlink.Link) error) error {
	h, err := n.Handle()
	if err != nil {
		return err
	}
	l, err := h.LinkByName(name)
	if err == nil {
		err = f(h, l)
	}
	if err != nil {
		return fmt.Errorf("%s: %s %s: %w", n.name, what, name, err)
	}
	return nil
}

// LinkUp sets a link administratively up.
func (n *Namespace) LinkUp(name string) error {
	return n.onLink("link up", name, (*netlink.Handle).LinkSetUp)
}

// LinkDown sets a link administratively down.
func (n *Namespace) LinkDown(name string) error {
	return n.onLink("link down", name, (*netlink.Handle).LinkSetDown)
}

// AddBridge makes a switch that floods neighbour discovery like a plain one.
func (n *Namespace) AddBridge(name string) error {
	h, err := n.Handle()
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	snooping := false
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return fmt.Errorf("%s: bridge %s: %w", n.name, name, err)
	}
	return n.LinkUp(name)
}

// Enslave makes a link a port of a bridge.
func (n *Namespace) Enslave(port, bridge string) error {
	return n.onLink("add to bridge "+bridge, port, func(h *netlink.Handle, l netlink.Link) error {
		br, err := h.LinkByName(bridge)
		if err != nil {
			return err
		}
		return h.LinkSetMaster(l, br)
	})
}

// Release takes a port off its bridge.
func (n *Namespace) Release(port string) error {
	return n.onLink("take off the bridge", port, (*netlink.Handle).LinkSetNoMaster)
}

// DeleteLink deletes a link; the other end of a veth goes with it.
func (n *Namespace) DeleteLink(name string) error {
	return n.onLink("delete link", name, (*netlink.Handle).LinkDel)
}

// RenameLink renames a link, which may be up on kernels from 6.2 on.
func (n *Namespace) RenameLink(from, to string) error {
	return n.onLink("rename link", from, func(h *netlink.Handle, l netlink.Link) error {
		return h.LinkSetName(l, to)
	})
}

// LinkIndex returns the kernel's number for a link.
func (n *Namespace) LinkIndex(name string) (int, error) {
	var i int
	err := n.onLink("find link", name, func(_ *netlink.Handle, l netlink.Link) error {
		i = l.Attrs().Index
		return nil
	})
	return i, err
}

// MAC returns the hardware address of a link.
func (n *Namespace) MAC(name string) (net.HardwareAddr, error) {
	var m net.HardwareAddr
	err := n.onLink("find link", name, func(_ *netlink.Handle, l netlink.Link) error {
		m = l.Attrs().HardwareAddr
		return nil
	})
	return m, err
}

// Links returns the names of all links.
func (n *Namespace) Links() ([]string, error) {
	h, err := n.Handle()
	if err != nil {
		return nil, err
	}
	links, err := h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("%s: list links: %w", n.name, err)
	}
	names := make([]string, len(links))
	for i, l := range links {
		names[i] = l.Attrs().Name
	}
	return names, nil
}

// ipNet turns an address with its mask length into the library's form.
func ipNet(p netip.Prefix) *net.IPNet {
	a := p.Addr().Unmap()
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(p.Bits(), a.BitLen())}
}

// AddAddr adds an address. IPv6 duplicate address detection is left out, so
// that the address is usable at once.
func (n *Namespace) AddAddr(link string, p netip.Prefix) error {
	return n.onLink("add address "+p.String()+" to", link, func(h *netlink.Handle, l netlink.Link) error {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		return h.AddrAdd(l, a)
	})
}

// AddLocal adds an address to lo, and returns when what is sent to it is delivered: of
// IPv6 the kernel answers before that.
func (n *Namespace) AddLocal(a netip.Addr) error {
	if err := n.AddAddr("lo", netip.PrefixFrom(a, a.BitLen())); err != nil {
		return err
	}
	h, err := n.Handle()
	if err != nil {
		return err
	}
	for range 5000 {
		if ways, err := h.RouteGet(a.AsSlice()); err == nil && ways[0].Type == unix.RTN_LOCAL {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("%s does not become an address of namespace %s", a, n.Name())
}

// DelAddr removes an address.
func (n *Namespace) DelAddr(link string, p netip.Prefix) error {
	return n.onLink("delete address "+p.String()+" from", link, func(h *netlink.Handle, l netlink.Link) error {
		return h.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)})
	})
}

// Addrs returns the addresses of a link with their mask lengths.
func (n *Namespace) Addrs(link string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	err := n.onLink("addresses of", link, func(h *netlink.Handle, l netlink.Link) error {
		addrs, err := h.AddrList(l, unix.AF_UNSPEC)
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			ones, _ := a.Mask.Size()
			if ok {
				out = append(out, netip.PrefixFrom(ip.Unmap(), ones))
			}
		}
		return err
	})
	return out, err
}

// AddNeighbour says which hardware address an IP address has, so that nobody is
// asked for it. With one that no machine has, packets to it vanish.
func (n *Namespace) AddNeighbour(link string, a netip.Addr, mac net.HardwareAddr) error {
	return n.onLink("add neighbour "+a.String()+" on", link, func(h *netlink.Handle, l netlink.Link) error {
		return h.NeighAdd(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac})
	})
}

// AddRoute adds a route to the main table. An invalid via makes it a link
// route; an empty link leaves the device to the kernel. A via outside every
// connected subnet needs the link, and is then marked on-link.
func (n *Namespace) AddRoute(dst netip.Prefix, via netip.Addr, link string) error {
	r := &netlink.Route{Dst: ipNet(dst.Masked()), Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC}
	if via.IsValid() {
		r.Gw = via.Unmap().AsSlice()
		if link != "" {
			r.Flags = unix.RTNH_F_ONLINK
		}
	} else {
		r.Scope = unix.RT_SCOPE_LINK
	}
	return n.route("add route", link, dst, r, (*netlink.Handle).RouteAdd)
}

// DelRoute deletes a route of the main table by its prefix and, unless empty,
// its link.
func (n *Namespace) DelRoute(dst netip.Prefix, link string) error {
	r := &netlink.Route{Dst: ipNet(dst.Masked()), Table: unix.RT_TABLE_MAIN, Scope: unix.RT_SCOPE_NOWHERE}
	return n.route("delete route", link, dst, r, (*netlink.Handle).RouteDel)
}

func (n *Namespace) route(what, link string, dst netip.Prefix, r *netlink.Route, f func(*netlink.Handle, *netlink.Route) error) error {
	h, err := n.Handle()
	if err != nil {
		return err
	}
	if link != "" {
		if r.LinkIndex, err = n.LinkIndex(link); err != nil {
			return err
		}
	}
	if err := f(h, r); err != nil {
		return fmt.Errorf("%s: %s %s: %w", n.name, what, dst, err)
	}
	return nil
}
