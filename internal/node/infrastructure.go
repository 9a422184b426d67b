// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"

	"github.com/gaissmai/bart"
	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/route"
)

// infrastructure is what no block may take the place of: addresses of servers, and what this one reaches the
// others by. A block with such a thing in it, dropped here or announced as a whole, would cut servers off. It never
// changes, so that any goroutine may ask it; another one takes its place.
type infrastructure struct {
	what map[netip.Prefix]string // "the address of Node n1"
	tree bart.Table[string]
}

func newInfrastructure(what map[netip.Prefix]string) *infrastructure {
	x := &infrastructure{what: what}
	for p, s := range what {
		x.tree.Insert(p, s)
	}
	return x
}

// in says what of it a prefix has in it; empty if nothing.
func (x *infrastructure) in(p netip.Prefix) string {
	for q, what := range x.tree.Subnets(p) {
		if q.IsSingleIP() {
			return fmt.Sprintf("%s, %s", q.Addr(), what)
		}
		return fmt.Sprintf("%s, %s", q, what)
	}
	return ""
}

// ofThisHost is what the infrastructure has from this host: the subnets that it is in, with its addresses there,
// its default gateways, and the endpoints of etcd that are addresses.
func ofThisHost(subnets []netip.Prefix, gateways []netip.Addr, etcd []string) map[netip.Prefix]string {
	what := map[netip.Prefix]string{}
	for _, p := range subnets {
		if p.IsSingleIP() {
			continue // a process of this server, the end of a tunnel: it may well be a block's
		}
		what[p.Masked()] = "a subnet of this server"
		what[netip.PrefixFrom(p.Addr(), p.Addr().BitLen())] = "an address of this server"
	}
	for _, a := range gateways {
		what[netip.PrefixFrom(a, a.BitLen())] = "the default gateway of this server"
	}
	for _, e := range etcd {
		u, err := url.Parse(e)
		if err != nil {
			continue
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil {
			what[netip.PrefixFrom(a.Unmap().WithZone(""), a.Unmap().BitLen())] = "an endpoint of etcd"
		}
	}
	return what
}

// addPeers adds the routers of BGPPeers that are in a subnet of this server: a block is nearer than that. A peer
// elsewhere may be a workload, whose address is a block's.
func addPeers(what map[netip.Prefix]string, peers map[string]*v3.BGPPeer, subnets []netip.Prefix) {
	for name, p := range peers {
		a, _, err := v3.ParsePeerIP(p.Spec.PeerIP)
		if err != nil {
			continue
		}
		a = a.WithZone("")
		single := netip.PrefixFrom(a, a.BitLen())
		near := slices.ContainsFunc(subnets, func(n netip.Prefix) bool { return !n.IsSingleIP() && n.Contains(a) })
		if text := "the address of BGPPeer " + name; near && (what[single] == "" || text < what[single]) {
			what[single] = text
		}
	}
}

// somewhere are addresses that are nobody's (RFC 5737, RFC 3849): the way there is the default route.
var somewhere = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

// defaultGateways are the routers behind the default routes that are not ours, known by their protocol.
func defaultGateways(ours uint8) (list []netip.Addr) {
	for _, a := range somewhere {
		if w, err := wayOf(route.Query{Dst: a}); err == nil && w.Via.IsValid() && w.Protocol != ours {
			list = append(list, w.Via.WithZone(""))
		}
	}
	return list
}

// reserve tells policy which addresses belong to servers, and looks at what else no block may take the place of.
func (l *loop) reserve() {
	servers := map[netip.Addr]string{}
	subnets := endpoint.HostSubnets()
	what := map[netip.Prefix]string{}
	addPeers(what, l.model.peers, subnets)
	maps.Copy(what, ofThisHost(subnets, defaultGateways(l.protocol), l.d.store.Endpoints()))
	for _, name := range slices.Sorted(maps.Keys(l.model.nodes)) {
		v4, v6 := l.model.nodes[name].Addrs()
		for _, a := range []netip.Prefix{v4, v6} {
			if _, taken := servers[a.Addr()]; a.IsValid() && !taken {
				servers[a.Addr()] = "Node " + name
				what[netip.PrefixFrom(a.Addr(), a.Addr().BitLen())] = "the address of Node " + name
			}
		}
	}
	if !maps.Equal(servers, l.reserved) {
		l.reserved = servers
		l.model.index.Reserve(servers)
	}
	if maps.Equal(what, l.infrastructure.what) {
		return
	}
	for _, p := range changed(l.infrastructure.what, what) {
		l.model.touchAround(p)
	}
	l.infrastructure = newInfrastructure(what)
	l.model.touchedOrigin = true
}
