// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab"
)

// Cable is a veth pair of a segment. Of a segment that is no cable, one end is a
// device's port, and the other one of the bridge's.
type Cable struct {
	Segment string
	A, B    Plug // B is the bridge's, if there is one
	Bridge  string
}

// Plug is one end of a cable.
type Plug struct {
	Space string // device, or the switch of a plane
	Link  string
}

// cables are all of a design, in the order of its segments.
func cables(x *fabric.Index) (list []Cable) {
	for i := range x.Segments {
		s := &x.Segments[i]
		on := x.On(s.Name)
		plug := func(a fabric.Attached) Plug { return Plug{a.Device.Name, a.Interface.Name} }
		if s.Kind == fabric.Link && len(on) == 2 {
			list = append(list, Cable{Segment: s.Name, A: plug(on[0]), B: plug(on[1])})
			continue
		}
		carrier, bridge := cmp.Or(s.Switch, s.Name), bridgeName
		if d := x.Device(carrier); d != nil { // the ToR's own port is the bridge itself
			if own := d.Interface(s.Name); own != nil {
				bridge = own.Name
			}
		}
		for n, a := range on {
			if a.Device.Name != carrier {
				list = append(list, Cable{s.Name, plug(a), Plug{carrier, fmt.Sprintf("%.11s.%d", bridge, n)}, bridge})
			}
		}
	}
	return list
}

// bridgeName is that of a segment whose switch has no port of its own on it.
const bridgeName = "br0"

// forwards are the settings of a router. A port without carrier is no way, and flows of a
// pair of hosts take several ways.
var forwards = map[string]string{
	"net/ipv4/ip_forward":                               "1",
	"net/ipv6/conf/all/forwarding":                      "1",
	"net/ipv4/conf/all/ignore_routes_with_linkdown":     "1",
	"net/ipv6/conf/all/ignore_routes_with_linkdown":     "1",
	"net/ipv4/conf/default/ignore_routes_with_linkdown": "1",
	"net/ipv6/conf/default/ignore_routes_with_linkdown": "1",
	"net/ipv4/fib_multipath_hash_policy":                "1",
	"net/ipv6/fib_multipath_hash_policy":                "1",
	// Addresses are usable at once, and stay when a cable is pulled.
	"net/ipv6/conf/all/accept_dad":            "0",
	"net/ipv6/conf/default/accept_dad":        "0",
	"net/ipv6/conf/all/keep_addr_on_down":     "1",
	"net/ipv6/conf/default/keep_addr_on_down": "1",
}

// wire makes the namespaces of devices and planes, and the cables between them.
func (l *Lab) wire() error {
	for i := range l.Design.Devices {
		d := &l.Design.Devices[i]
		n, err := l.newSpace(d.Name)
		if err != nil {
			return err
		}
		for key, value := range forwards {
			if err := n.SetSysctl(key, value); err != nil {
				return err
			}
		}
		if lo := loopback(d); lo != nil {
			if err := addresses(n, "lo", lo.Addresses); err != nil {
				return err
			}
		}
	}
	bridges := map[Plug]bool{}
	for _, c := range cables(l.x) {
		b := l.spaces[c.B.Space]
		if b == nil { // the switch of a plane
			var err error
			if b, err = l.newSpace(c.B.Space); err != nil {
				return err
			}
		}
		if err := lab.Veth(lab.End{NS: l.spaces[c.A.Space], Name: c.A.Link}, lab.End{NS: b, Name: c.B.Link}); err != nil {
			return err
		}
		if c.Bridge == "" {
			continue
		}
		if at := (Plug{c.B.Space, c.Bridge}); !bridges[at] {
			bridges[at] = true
			if err := addBridge(b, c.Bridge); err != nil {
				return err
			}
		}
		if err := enslave(b, c.B.Link, c.Bridge); err != nil {
			return err
		}
	}
	for i := range l.Design.Devices {
		d := &l.Design.Devices[i]
		for j := range d.Interfaces {
			if p := &d.Interfaces[j]; p.Segment != "" {
				if err := addresses(l.spaces[d.Name], p.Name, p.Addresses); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func loopback(d *fabric.Device) *fabric.Interface {
	for i := range d.Interfaces {
		if d.Interfaces[i].Segment == "" {
			return &d.Interfaces[i]
		}
	}
	return nil
}

func addresses(n *lab.Namespace, link string, list []netip.Prefix) error {
	for _, a := range list {
		if err := n.AddAddr(link, a); err != nil {
			return err
		}
	}
	return nil
}

// addBridge makes a switch that floods neighbour discovery like any plain one.
func addBridge(n *lab.Namespace, name string) error {
	h, err := n.Handle()
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	snooping := false
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return fmt.Errorf("%s: bridge %s: %w", n.Name(), name, err)
	}
	return n.LinkUp(name)
}

func enslave(n *lab.Namespace, port, bridge string) error {
	h, err := n.Handle()
	if err != nil {
		return err
	}
	br, err := h.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", n.Name(), bridge, err)
	}
	p, err := h.LinkByName(port)
	if err == nil {
		err = h.LinkSetMaster(p, br)
	}
	if err != nil {
		return fmt.Errorf("%s: add %s to %s: %w", n.Name(), port, bridge, err)
	}
	return nil
}
