// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab"
)

// Cable is a veth pair from the port of a device to a bridge. What lies between the two ends
// of a link is a bridge, too: when its ports are down, both ends of the link have no carrier and
// are up, as when a cable is pulled; when they are off it, both have carrier, and nothing passes.
type Cable struct {
	Segment string
	Port    Plug // of a device
	Bridge  Plug
	Link    string // the port of the bridge, in the bridge's namespace
}

// ends tells whether one end of the cable is at a device: that at a ToR to its rack is a port of the bridge there.
func (c Cable) ends(device string) bool { return c.Port.Space == device || c.Bridge.Space == device }

// Plug is a link in a namespace: of a device, of the switch of a plane, or of the cables.
type Plug struct{ Space, Link string }

// cablesSpace is the namespace of the bridges that links go through.
const cablesSpace = "cables"

// cables are all of a design, in the order of its segments.
func cables(x *fabric.Index) (list []Cable) {
	for i := range x.Segments {
		s := &x.Segments[i]
		carrier, bridge := cmp.Or(s.Switch, s.Name), bridgeName
		if s.Kind == fabric.Link {
			carrier, bridge = cablesSpace, fmt.Sprintf("c%d", i)
		}
		if d := x.Device(carrier); d != nil { // the ToR's own port is the bridge itself
			if own := d.Interface(s.Name); own != nil {
				bridge = own.Name
			}
		}
		for n, a := range x.On(s.Name) {
			if a.Device.Name != carrier {
				port := fmt.Sprintf("%.10s.%d", bridge, n)
				if bridge == bridgeName { // one switch may carry two planes, which is a fault that a lab can have
					port = fmt.Sprintf("p%d.%d", i, n)
				}
				list = append(list, Cable{s.Name, Plug{a.Device.Name, a.Interface.Name}, Plug{carrier, bridge}, port})
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
	}
	bridges := map[Plug]bool{}
	for _, c := range cables(l.x) {
		b := l.spaces[c.Bridge.Space]
		if b == nil { // of the cables, or the switch of a plane: it speaks no IP
			var err error
			if b, err = l.newSpace(c.Bridge.Space); err != nil {
				return err
			}
			if err := b.SetSysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil {
				return err
			}
		}
		if !bridges[c.Bridge] {
			bridges[c.Bridge] = true
			if err := b.AddBridge(c.Bridge.Link); err != nil {
				return err
			}
		}
		if err := lab.Veth(lab.End{NS: l.spaces[c.Port.Space], Name: c.Port.Link}, lab.End{NS: b, Name: c.Link}); err != nil {
			return err
		}
		if err := b.Enslave(c.Link, c.Bridge.Link); err != nil {
			return err
		}
	}
	for i := range l.Design.Devices {
		d := &l.Design.Devices[i]
		for j := range d.Interfaces {
			p := &d.Interfaces[j]
			if err := addresses(l.spaces[d.Name], p.Name, p.Addresses); err != nil {
				return err
			}
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
