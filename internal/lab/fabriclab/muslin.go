// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/node/api"
)

// muslinPaths asks a vRouter what it has accepted, and what it originates.
func (l *Lab) muslinPaths(ctx context.Context, d *fabric.Device, family fabric.Family, t Table) error {
	var got api.BGPRoutes
	var peers api.Peers
	client := api.NewClient(l.dir(d.Name))
	err := errors.Join(client.Get(ctx, "/v1/bgp/routes", url.Values{"view": {"accepted"}}, &got), client.Get(ctx, "/v1/bgp/peers", nil, &peers))
	if err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	// Paths name their peer as the BGPPeer, and on an interface with that behind it.
	named := map[string]string{}
	for _, p := range peers.Peers {
		if p.Interface != "" {
			named[p.Name], _ = l.peerAt(d, p.Interface, netip.Addr{})
		} else {
			named[p.Name] = l.deviceAt(p.Addr.Addr(), p.Name)
		}
	}
	for _, r := range got.Routes {
		prefix, err := netip.ParsePrefix(r.Prefix)
		if err != nil {
			return fmt.Errorf("%s: %w", d.Name, err)
		}
		if prefix.Addr().Is4() != (family == fabric.IPv4) {
			continue
		}
		if r.Peer == "" {
			t.at(prefix).Paths = append(t.at(prefix).Paths, own)
			continue
		}
		from := cmp.Or(named[r.Peer], r.Peer)
		nextHop := from
		if a, err := netip.ParseAddr(r.NextHop); err == nil && !a.IsLinkLocalUnicast() {
			nextHop = l.deviceAt(a, from)
		}
		t.at(prefix).Paths = append(t.at(prefix).Paths, path(from, nextHop, r.ASPath, onLink(d, r.NextHop)))
	}
	return nil
}

// onLink tells whether a next hop is in a subnet of the device. A vRouter keeps paths whose next hop is not,
// and does not say so in its list; that it does not use them, its kernel shows.
func onLink(d *fabric.Device, nextHop string) bool {
	a, err := netip.ParseAddr(nextHop)
	if err != nil || a.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(d.Interfaces, func(i fabric.Interface) bool {
		return slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}
