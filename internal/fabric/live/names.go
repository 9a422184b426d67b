// SPDX-License-Identifier: Apache-2.0

package live

import (
	"net/netip"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Names finds devices by what others call them: addresses, and ports towards them.
type Names struct {
	x  *fabric.Index
	at map[netip.Addr]fabric.Attached
}

// NewNames reads the addresses of a design.
func NewNames(x *fabric.Index) *Names {
	n := &Names{x, map[netip.Addr]fabric.Attached{}}
	for i := range x.Devices {
		d := &x.Devices[i]
		for j := range d.Interfaces {
			for _, p := range d.Interfaces[j].Addresses {
				n.at[p.Addr()] = fabric.Attached{Device: d, Interface: &d.Interfaces[j]}
			}
		}
	}
	return n
}

// Device is who has an address on a port, or otherwise if nobody has: addresses of ports without any
// are made up, and belong to the peer.
func (n *Names) Device(a netip.Addr, otherwise string) string {
	if p, ok := n.at[a.WithZone("")]; ok {
		return p.Device.Name
	}
	return otherwise
}

// behind is who is at the other end of a port, and the segment, if there is one other.
func (n *Names) behind(d *fabric.Device, port string) (device, segment string) {
	for i := range d.Interfaces {
		if d.Interfaces[i].Name != port {
			continue
		}
		segment = d.Interfaces[i].Segment
		if on := n.x.On(segment); len(on) == 2 {
			for _, o := range on {
				if o.Device != d {
					return o.Device.Name, segment
				}
			}
		}
	}
	return "", segment
}

// hop is a next hop in a FIB, as who it is and on which segment.
func (n *Names) hop(d *fabric.Device, a netip.Addr) string {
	if a.Zone() != "" {
		if device, segment := n.behind(d, a.Zone()); device != "" {
			return Via(device, segment)
		}
	}
	if p, ok := n.at[a.WithZone("")]; ok {
		return Via(p.Device.Name, p.Interface.Segment)
	}
	return a.String()
}

// onLink tells whether a next hop is in a subnet of the device. A vRouter keeps paths whose next hop is not,
// and does not say so in its list; that it does not use them, its kernel shows.
func onLink(d *fabric.Device, a netip.Addr) bool {
	if !a.IsValid() || a.IsLinkLocalUnicast() {
		return true
	}
	for i := range d.Interfaces {
		for _, p := range d.Interfaces[i].Addresses {
			if p.Contains(a) {
				return true
			}
		}
	}
	return false
}
