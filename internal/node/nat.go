// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
)

// outgoing is what leaves the pools under another address: packets from a pool with
// natOutgoing to where no pool is, and, if hosts are spared, no server.
func outgoing(pools map[string]*v3.IPPool, nodes map[string]*v3.Node, spareHosts bool) (n acl.NAT) {
	for _, p := range pools {
		cidr, err := v3.ParseNetwork(p.Spec.CIDR)
		if err != nil || len(p.Spec.AllowedUses) > 0 && !slices.ContainsFunc(p.Spec.AllowedUses, func(u string) bool { return u != "LoadBalancer" }) {
			continue
		}
		n.Spared = append(n.Spared, cidr)
		if p.Spec.NATOutgoing {
			n.Outgoing = append(n.Outgoing, cidr)
		}
	}
	if len(n.Outgoing) == 0 {
		return acl.NAT{}
	}
	if spareHosts {
		for _, node := range nodes {
			v4, v6 := node.Addrs()
			for _, a := range []netip.Prefix{v4, v6} {
				if a.IsValid() {
					n.Spared = append(n.Spared, netip.PrefixFrom(a.Addr(), a.Addr().BitLen()))
				}
			}
		}
	}
	slices.SortFunc(n.Outgoing, netip.Prefix.Compare)
	slices.SortFunc(n.Spared, netip.Prefix.Compare)
	return n
}

// applyNAT tells the packet filter what is translated, if that is news.
func (l *loop) applyNAT() error {
	now, was := outgoing(l.model.pools, l.model.nodes, l.settings.spareHosts), l.nat
	if slices.Equal(now.Outgoing, was.Outgoing) && slices.Equal(now.Spared, was.Spared) {
		return nil
	}
	l.nat = now
	if err := l.setACLOptions(); err != nil {
		l.nat = was
		return err
	}
	return nil
}
