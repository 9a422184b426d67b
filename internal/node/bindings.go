// SPDX-License-Identifier: Apache-2.0

package node

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/filter"
	"github.com/muslin-net/muslin/internal/guard"
	"github.com/muslin-net/muslin/internal/route"
)

// grants is what Nodes and the BGPConfiguration say of prefixes, beside the
// affinities of blocks and the endpoints.
type grants struct {
	prefixes map[netip.Prefix]guard.Binding
	addrs    map[netip.Addr][]string // ends of tunnels and what Nodes announce, which are addresses of their nodes
}

func granted(nodes map[string]*v3.Node, global *v3.BGPConfiguration) grants {
	g := grants{prefixes: map[netip.Prefix]guard.Binding{}, addrs: map[netip.Addr][]string{}}
	if global != nil {
		for _, p := range filter.Services(global) {
			g.prefixes[p] = guard.Binding{Anybody: true}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[name]
		set, _ := n.Settings() // errors are problems of the sessions
		for _, p := range set.MayAnnounce {
			b := g.prefixes[p]
			b.Permitted = append(b.Permitted, name)
			g.prefixes[p] = b
		}
		for _, a := range set.Announce {
			if !slices.Contains(g.addrs[a], name) {
				g.addrs[a] = append(g.addrs[a], name)
			}
		}
		ends := []string{n.Spec.IPv4VXLANTunnelAddr, n.Spec.IPv6VXLANTunnelAddr}
		if n.Spec.BGP != nil {
			ends = append(ends, n.Spec.BGP.IPv4IPIPTunnelAddr)
		}
		if w := n.Spec.Wireguard; w != nil {
			ends = append(ends, w.InterfaceIPv4Address, w.InterfaceIPv6Address)
		}
		for _, text := range ends {
			if a, err := v3.ParseAddr(text); err == nil && !slices.Contains(g.addrs[a], name) {
				g.addrs[a] = append(g.addrs[a], name)
			}
		}
	}
	return g
}

// changed lists the keys whose values differ.
func changed[K comparable, V any](old, now map[K]V) (keys []K) {
	for k, v := range now {
		if was, ok := old[k]; !ok || !reflect.DeepEqual(was, v) {
			keys = append(keys, k)
		}
	}
	for k := range old {
		if _, ok := now[k]; !ok {
			keys = append(keys, k)
		}
	}
	return keys
}

// bind tells the guard what the model binds to whom, as far as that changed, and
// has the routes concerned judged again. The guard belongs to the speaker.
func (l *loop) bind() {
	m := l.model
	prefixes, addrs := m.touchedBlocks, m.index.Rebound()
	m.touchedBlocks = map[netip.Prefix]struct{}{}
	var nodes []guard.Node
	if m.touchedPeering {
		now := granted(m.nodes, m.bgp["default"])
		for _, p := range changed(l.grants.prefixes, now.prefixes) {
			prefixes[p] = struct{}{}
		}
		addrs = append(addrs, changed(l.grants.addrs, now.addrs)...)
		l.grants = now
		nodes = l.peeringInput().guarded()
	}
	if len(prefixes)+len(addrs) == 0 && !m.touchedPeering {
		return
	}
	bindings := map[netip.Prefix]guard.Binding{}
	for p := range prefixes {
		b := l.grants.prefixes[p]
		if l.infrastructure.in(p) == "" {
			b.Nodes = slices.Clone(m.affinities[p])
		}
		bindings[p] = b
		// Whether an endpoint needs a binding of its own depends on the block.
		m.index.ClaimedIn(p, func(a netip.Addr) { addrs = append(addrs, a) })
		for a := range l.grants.addrs {
			if p.Contains(a) {
				addrs = append(addrs, a)
			}
		}
	}
	hosts := make(map[netip.Addr][]string, len(addrs))
	for _, a := range addrs {
		if _, done := hosts[a]; done {
			continue // an endpoint that moved, in a block that did
		}
		who := append(m.index.NodesOf(a), l.grants.addrs[a]...)
		slices.Sort(who)
		hosts[a] = slices.Compact(who)
	}
	replace := m.touchedPeering
	l.d.speaker.Rejudge(func() (within []netip.Prefix, from []netip.Addr) {
		if replace {
			from = l.guard.SetNodes(nodes)
			for _, a := range from {
				within = append(within, netip.PrefixFrom(a, a.BitLen()))
			}
		}
		for p, b := range bindings {
			within = append(within, l.guard.Bind(p, b)...)
		}
		for a, who := range hosts {
			within = append(within, l.guard.BindHost(a, who)...)
		}
		return within, from
	})
}

// guarded are the nodes as the guard knows them by their routes.
func (in *peeringInput) guarded() (list []guard.Node) {
	for _, name := range slices.Sorted(maps.Keys(in.nodes)) {
		n := guard.Node{Name: name}
		v4, v6 := in.nodes[name].Addrs()
		for _, p := range []netip.Prefix{v4, v6} {
			if p.IsValid() {
				n.Addrs = append(n.Addrs, p.Addr())
			}
		}
		if a, err := in.node(name); err == nil {
			n.ID = routerID(a, name)
		}
		list = append(list, n)
	}
	return list
}

// reachable are the routes to neighbours behind a gateway that their BGPPeers
// name (reachableBy), as far as this node has sessions with them.
func (in *peeringInput) reachable() (list []route.Route) {
	self, err := in.node(in.self)
	if err != nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(in.peers)) {
		s := &in.peers[name].Spec
		local, err := in.selects(s.Node, s.NodeSelector, in.self, self.labels)
		if err != nil || !local || s.ReachableBy == "" {
			continue
		}
		peer, _, err1 := v3.ParsePeerIP(s.PeerIP)
		via, err2 := v3.ParseAddr(s.ReachableBy)
		if err1 != nil || err2 != nil || peer.Is4() != via.Is4() || peer == via {
			continue
		}
		list = append(list, route.Route{Prefix: netip.PrefixFrom(peer, peer.BitLen()), Kind: route.Via, Hops: route.HopsOf(via)})
	}
	return list
}
