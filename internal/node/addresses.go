// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/endpoint"
)

// This page follows this host's addresses while the daemon runs. What the Node
// has is never replaced: the others know this server by it, and an address that
// is gone may be back in a moment. A family that the Node lacks is filled in.

// addressRest is how long addresses must have rested before they are looked at:
// whoever configures a host gives it an address, another one and a default route.
const addressRest = time.Second

// followAddresses looks again when addresses of this host have come or gone, and
// once this node is registered.
func (d *Daemon) followAddresses(ctx context.Context) error {
	missing := map[netip.Addr]bool{}
	var rested <-chan time.Time
	for {
		select {
		case <-d.loop.addrsChanged:
			rested = time.After(addressRest)
		case <-rested:
			rested = nil
			if again, err := d.lookAtAddresses(ctx, missing); again && ctx.Err() == nil {
				if err != nil {
					d.log.Warn("this host's addresses changed, and the Node could not be brought up to date; trying again", "err", err)
				}
				rested = time.After(retryMax)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// lookAtAddresses says which addresses of the Node this host has lost, which are
// then in missing, or has again, and fills in what the Node lacks. It tells
// whether to try again.
func (d *Daemon) lookAtAddresses(ctx context.Context, missing map[netip.Addr]bool) (again bool, err error) {
	var self *v3.Node
	var prefixes []string
	d.loop.call(ctx, func() {
		l := d.loop
		if self, prefixes = l.model.nodes[d.cfg.Node], l.settings.prefixes; self != nil {
			l.model.touchedPeering = true // that an address is not on this host is a problem
			l.model.touchedOrigin = true  // and it is not announced
			l.converge()
		}
	})
	if self == nil || len(prefixes) == 0 {
		return true, nil // it is not read yet
	}
	v4, v6 := self.Addrs()
	found4, found6, err := d.usableAddrs(prefixes, v4, v6)
	if err != nil {
		return true, err
	}
	d.sayMoved(missing, v4, found4)
	d.sayMoved(missing, v6, found6)
	if (v4.IsValid() || !found4.IsValid()) && (v6.IsValid() || !found6.IsValid()) {
		return false, nil
	}
	filled := false
	n, err := d.mergeNode(ctx, func(n *v3.Node) bool {
		filled = mergeNode(n, netip.Prefix{}, netip.Prefix{}, found4, found6)
		return filled
	})
	if err != nil {
		return true, err
	}
	if filled {
		v4, v6 = n.Addrs()
		d.log.Info("this host has an address of a family in which this node had none: it is the node's from now on", "ipv4", v4, "ipv6", v6)
	}
	return false, nil
}

// hostAddrs are the addresses of this host that are no next hop of what others
// announce, whichever of them a session has; those of the last time if they cannot be read.
func (l *loop) hostAddrs() (list []netip.Addr) {
	all, err := endpoint.AllAddrs()
	if err != nil {
		return l.speakerConfig.Own
	}
	for a := range all {
		if a.IsGlobalUnicast() {
			list = append(list, a)
		}
	}
	return list
}

// usableAddrs finds addresses for a node that has v4 and v6. One that has an address is
// in a fabric already: a second family is taken from the interfaces by which others
// reach it, and not from any that some program made meanwhile.
func (d *Daemon) usableAddrs(prefixes []string, v4, v6 netip.Prefix) (found4, found6 netip.Prefix, err error) {
	usable := func(device string) bool { return !isWorkload(prefixes, device) }
	if v4.IsValid() || v6.IsValid() {
		uplinks, err := endpoint.Uplinks([]netip.Addr{v4.Addr(), v6.Addr()})
		if err != nil {
			return v4, v6, err
		}
		usable = func(device string) bool { return slices.Contains(uplinks, device) && !isWorkload(prefixes, device) }
	}
	return endpoint.HostAddrs(usable)
}

// isWorkload tells whether an interface is a workload's, by its name.
func isWorkload(prefixes []string, device string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(device, p) })
}

// sayMoved logs that an address of the Node has left this host, or come back.
func (d *Daemon) sayMoved(missing map[netip.Addr]bool, stored, found netip.Prefix) {
	if !stored.IsValid() {
		return
	}
	a := stored.Addr()
	switch here := endpoint.HasAddr(a); {
	case here && missing[a]:
		delete(missing, a)
		d.log.Info("this node's address is on this host again", "address", a)
	case !here && !missing[a]:
		missing[a] = true
		args := []any{"address", a}
		if found.IsValid() {
			args = append(args, "found", found)
		}
		d.log.Warn("this node's address is not on this host, and stays in the Node: give the host that address, or the node another one with --ip or --ip6", args...)
	}
}
