// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/live"
)

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
func (l *Lab) actual(ctx context.Context, d *fabric.Device, family fabric.Family) (t live.Table, err error) {
	t = live.Table{}
	switch d.Software {
	case fabric.Muslin:
		err = l.muslinPaths(ctx, d, family, t)
	case fabric.BIRD:
		err = l.birdPaths(ctx, d, family, t)
	default:
		err = l.frrPaths(ctx, d, family, t)
	}
	if err == nil {
		err = l.kernelRoutes(d, family, t)
	}
	return t, err
}
