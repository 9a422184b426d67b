// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// Table is what a device has for each prefix, of one family: by the simulation,
// or in truth.
type Table map[netip.Prefix]*Entry

// Entry is the RIB and the FIB of a device for a prefix.
type Entry struct {
	// Paths are those that were accepted, and "own" if the device originates it.
	Paths []string
	// Via are the members of the ECMP group, as "device on segment".
	Via []string
	// Delivered: packets go to an endpoint of the device.
	Delivered bool
}

func (t Table) at(p netip.Prefix) *Entry {
	if t[p] == nil {
		t[p] = &Entry{}
	}
	return t[p]
}

const own = "own"

// path is how a path is written, in both tables.
func path(from, nextHop string, asPath []uint32, usable bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "from %s", from)
	if nextHop != from {
		fmt.Fprintf(&b, " with next hop %s", nextHop)
	}
	if !usable {
		b.WriteString(", unusable")
	}
	fmt.Fprintf(&b, " %v", asPath)
	return b.String()
}

func via(device, segment string) string { return device + " on " + segment }

// expected is what the simulation says of a device.
func (l *Lab) expected(s *simulation, d *fabric.Device) (Table, error) {
	routes, err := s.RoutesByPeer(d.Name, s.down)
	if err != nil {
		return nil, err
	}
	t := Table{}
	for _, r := range routes {
		var e Entry
		if r.Local {
			e.Paths = append(e.Paths, own)
		}
		for _, p := range r.Paths {
			if p.Refused == "" || p.Unusable { // else it is in no RIB
				e.Paths = append(e.Paths, path(p.From, l.deviceAt(p.NextHop, p.From), p.ASPath, !p.Unusable))
			}
		}
		for _, n := range r.Via {
			if d.Role == fabric.RoleReflector {
				break // it forwards nothing, and keeps routes out of its kernel
			}
			e.Via = append(e.Via, via(n.Device, n.Segment))
		}
		slices.Sort(e.Paths)
		slices.Sort(e.Via)
		if len(e.Paths)+len(e.Via) == 0 {
			continue
		}
		for n := range r.Count {
			t[sim.Nth(r.Prefix, n)] = &e
		}
	}
	// Whatever a server announces, it has a route to each of its endpoints.
	for _, p := range endpointsOf(d) {
		for _, a := range p.Addrs {
			if a.Is4() == (s.family == fabric.IPv4) {
				prefix := netip.PrefixFrom(a, a.BitLen())
				e := Entry{}
				if t[prefix] != nil {
					e = *t[prefix]
				}
				e.Delivered = true
				t[prefix] = &e
			}
		}
	}
	return t, nil
}

// deviceAt is the device that has an address on a port. One that no port has is
// made up, for a port without addresses, and is that of the peer.
func (l *Lab) deviceAt(a netip.Addr, peer string) string {
	for i := range l.Design.Devices {
		d := &l.Design.Devices[i]
		for j := range d.Interfaces {
			for _, p := range d.Interfaces[j].Addresses {
				if p.Addr() == a {
					return d.Name
				}
			}
		}
	}
	return peer
}

// peerAt is the device behind a port of another: at an address, or the one that is there.
func (l *Lab) peerAt(d *fabric.Device, link string, a netip.Addr) (device, segment string) {
	for i := range d.Interfaces {
		if d.Interfaces[i].Name != link {
			continue
		}
		segment = d.Interfaces[i].Segment
		on := l.x.On(segment)
		for _, o := range on {
			if o.Device != d && (len(on) == 2 || l.linkLocal(o) == a.WithZone("") || slices.ContainsFunc(o.Interface.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })) {
				return o.Device.Name, segment
			}
		}
	}
	return a.String() + "%" + link, segment
}

// linkLocal is the address that an interface has by itself: FRR takes it for the
// next hop of IPv6 routes where a peer tells it (RFC 2545 section 3). A device that is down has none.
func (l *Lab) linkLocal(a fabric.Attached) netip.Addr {
	at := Plug{a.Device.Name, a.Interface.Name}
	l.mu.Lock()
	known := l.locals[at]
	l.mu.Unlock()
	if known.IsValid() {
		return known
	}
	n, err := l.space(a.Device.Name)
	if err != nil {
		return netip.Addr{}
	}
	list, err := n.Addrs(a.Interface.Name)
	if err != nil {
		return netip.Addr{}
	}
	i := slices.IndexFunc(list, func(p netip.Prefix) bool { return p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() })
	if i < 0 {
		return netip.Addr{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.locals[at] = list[i].Addr().WithZone("")
	return l.locals[at]
}

// actual is what a device has in truth.
func (l *Lab) actual(ctx context.Context, d *fabric.Device, family fabric.Family) (t Table, err error) {
	t = Table{}
	switch d.Software {
	case fabric.Muslin:
		err = l.muslinPaths(ctx, d, family, t)
	default:
		err = l.frrPaths(ctx, d, family, t)
	}
	if err == nil {
		err = l.kernelRoutes(d, family, t)
	}
	for _, e := range t {
		slices.Sort(e.Paths)
		slices.Sort(e.Via)
	}
	return t, err
}
