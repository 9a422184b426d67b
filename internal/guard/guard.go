// SPDX-License-Identifier: Apache-2.0

// Package guard judges by whom a prefix may be announced.
//
// The data model binds prefixes to nodes: blocks by their affinities, addresses
// of endpoints by the endpoints. A node may announce what is bound to it, and
// nobody else may. An outside router may announce what its filter lets pass,
// but never what is served here, and never the address of a server. BGP itself
// has no such check: a node that announces another's block, or the default
// route, is believed by every speaker that peers with it.
//
// # Who announces
//
// A route is judged by the node that receives its packets: the one that has the
// next hop. A reflector does not change the next hop (RFC 4456 section 10), so
// what it passes on is judged as its author's. ORIGINATOR_ID alone proves
// nothing, since anybody can write it; it decides only where a reflector of the
// cluster put itself in the way as the next hop.
//
// # What a change costs
//
// Every method that changes the Guard returns which prefixes it may now judge
// otherwise, so that just the routes in them are looked at again. Addresses of
// endpoints in a block of their own node cost nothing: the block speaks for
// them.
//
// The package is pure. A Guard is not safe for concurrent use.
package guard

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// Guard holds what is bound to whom. Make one with New.
type Guard struct {
	self     string
	prefixes bart.Table[*owners]     // blocks, and what else is bound by prefix
	hosts    bart.Table[*owners]     // addresses of endpoints outside the blocks of their nodes
	nodes    map[netip.Addr]string   // addresses of nodes: next hops, and infrastructure
	also     map[netip.Addr][]string // further nodes that claim one of them
	servers  bart.Table[string]      // the same as prefixes: hardly any route is one, and a trie says so at once
	ids      map[netip.Addr]string   // BGP identifiers of nodes
	sets     map[string]*owners      // equal sets are one

	// Routes come in runs with one next hop, and of neighbouring addresses.
	lastHop   netip.Addr
	lastNode  string // whose it is
	lastRun   netip.Prefix
	lastAlike bool    // no address in lastRun is bound in another way, or a server's
	lastBound *owners // how, then
}

// owners is a set of nodes. Equal ones share one value, which never changes.
type owners struct {
	nodes   []string // that may announce what is bound to it
	self    bool     // this node owns it
	anybody bool     // every node may announce it
	owned   []string // those of nodes that own it
	to      string   // "bound to …"
}

// New returns a Guard for a node, to which nothing is bound.
func New(self string) *Guard {
	return &Guard{self: self, nodes: map[netip.Addr]string{}, ids: map[netip.Addr]string{}, sets: map[string]*owners{}}
}

// Binding says to whom a prefix is bound.
type Binding struct {
	// Nodes are those that own it: of a block the one with the affinity, of an
	// address those that have an endpoint with it.
	Nodes []string
	// Permitted are nodes that may announce it without owning it. Others, and
	// outside routers, may announce it as well as if it were not bound.
	Permitted []string
	// Anybody says that every node may announce it.
	Anybody bool
}

func (b Binding) empty() bool { return len(b.Nodes) == 0 && len(b.Permitted) == 0 && !b.Anybody }

// intern returns the one owners for a binding; nil for an empty one.
func (g *Guard) intern(b Binding) *owners {
	if b.empty() {
		return nil
	}
	nodes := slices.Concat(b.Nodes, b.Permitted)
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	owned := slices.Compact(slices.Sorted(slices.Values(b.Nodes)))
	key := strings.Join(nodes, "\x00") + "\x01" + strings.Join(owned, "\x00")
	if b.Anybody {
		key += "\x02"
	}
	if o := g.sets[key]; o != nil {
		return o
	}
	o := &owners{nodes: nodes, anybody: b.Anybody, owned: owned, self: slices.Contains(owned, g.self)}
	who := strings.Join(owned, ", ")
	if who == "" {
		who = strings.Join(nodes, ", ")
	}
	o.to = "bound to " + who
	g.sets[key] = o
	return o
}

// Bind sets to whom a prefix is bound; an empty binding unbinds it. It returns
// what may be judged otherwise now: the prefix, or nothing.
func (g *Guard) Bind(p netip.Prefix, b Binding) []netip.Prefix {
	g.lastRun = netip.Prefix{}
	return set(&g.prefixes, p, g.intern(b))
}

// BindHost says which nodes have an endpoint with an address. It is kept only
// if one of them does not own the block around it already.
func (g *Guard) BindHost(a netip.Addr, nodes []string) []netip.Prefix {
	g.lastRun = netip.Prefix{}
	p := netip.PrefixFrom(a, a.BitLen())
	var o *owners
	if around, ok := g.prefixes.LookupPrefix(p); len(nodes) > 0 && !(ok && containsAll(around.owned, nodes)) {
		o = g.intern(Binding{Nodes: nodes})
	}
	return set(&g.hosts, p, o)
}

func containsAll(all, some []string) bool {
	for _, s := range some {
		if !slices.Contains(all, s) {
			return false
		}
	}
	return true
}

func set(t *bart.Table[*owners], p netip.Prefix, o *owners) []netip.Prefix {
	old, _ := t.Get(p)
	switch {
	case old == o:
		return nil
	case o == nil:
		t.Delete(p)
	default:
		t.Insert(p, o)
	}
	return []netip.Prefix{p}
}

// Node is what makes a node known by its routes.
type Node struct {
	Name  string
	ID    netip.Addr   // BGP identifier
	Addrs []netip.Addr // its own; next hops of its routes
}

// SetNodes replaces all nodes. An address that several claim is the first one's, but all
// of them may announce from it: one of them may be what a renamed server was before, and
// an object with a wrong address must not cost another server its routes. It returns the addresses and identifiers that
// belong to another node than before, or to none any more. Routes with such a
// next hop or ORIGINATOR_ID are to be judged again, and those to such an address.
func (g *Guard) SetNodes(nodes []Node) (moved []netip.Addr) {
	byAddr, byID, also := map[netip.Addr]string{}, map[netip.Addr]string{}, map[netip.Addr][]string{}
	for _, n := range nodes {
		for _, a := range n.Addrs {
			if _, taken := byAddr[a]; taken {
				also[a] = append(also[a], n.Name)
			} else {
				byAddr[a] = n.Name
			}
		}
		if _, taken := byID[n.ID]; n.ID.IsValid() && !taken {
			byID[n.ID] = n.Name
		}
	}
	seen := map[netip.Addr]bool{}
	for _, pair := range [][2]map[netip.Addr]string{{g.nodes, byAddr}, {byAddr, g.nodes}, {g.ids, byID}, {byID, g.ids}} {
		for a, name := range pair[0] {
			if pair[1][a] != name {
				seen[a] = true
			}
		}
	}
	for _, pair := range [][2]map[netip.Addr][]string{{g.also, also}, {also, g.also}} {
		for a, names := range pair[0] {
			if !slices.Equal(names, pair[1][a]) {
				seen[a] = true
			}
		}
	}
	for a := range seen {
		moved = append(moved, a)
	}
	g.nodes, g.also, g.ids, g.servers = byAddr, also, byID, bart.Table[string]{}
	g.lastHop, g.lastNode, g.lastRun = netip.Addr{}, "", netip.Prefix{}
	for a, name := range byAddr {
		g.servers.Insert(netip.PrefixFrom(a, a.BitLen()), name)
	}
	return moved
}

// Peer is who sent a route.
type Peer struct {
	// Node is the node at the other end; empty for a router that is none.
	Node string
	// Reflects says that it passes on what others announced.
	Reflects bool
	// Trusted lifts the binding of prefixes to nodes for what it sends.
	Trusted bool
	// Workload are the addresses of the workload of this node that it is; none
	// for others. A workload is the least of those who speak: what is bound to
	// nodes is never behind it, and its own addresses are the only next hops.
	Workload []netip.Addr
}

// Route is what is judged.
type Route struct {
	Prefix     netip.Prefix
	NextHop    netip.Addr
	Originator netip.Addr // ORIGINATOR_ID; invalid if there is none
}

// Class is a kind of refusal.
type Class uint8

// The kinds of refusal; the zero value is none.
const (
	Accepted       Class = iota
	Infrastructure       // the address of a server
	Local                // served here
	Unbound              // not bound to the node that announces it
	Unknown              // from a node, but nobody knows of which
)

// Judge says whether a route may be used, and if not why.
func (g *Guard) Judge(r *Route, from *Peer) (Class, string) {
	var o *owners
	switch single := r.Prefix.IsSingleIP(); {
	case single && g.alike(r.Prefix.Addr()):
		o = g.lastBound
	case single:
		if name, ok := g.servers.Get(r.Prefix); ok && (name == g.self || !from.Trusted && !g.announces(name, r.Prefix)) {
			return Infrastructure, "it is the address of node " + name
		}
		fallthrough
	default:
		o = g.bound(r.Prefix, single)
	}
	author := g.author(r, from)
	switch {
	case o != nil && o.self && (author == "" || from.Trusted || !contains(o.nodes, author)):
		return Local, "it is served by this node"
	case len(from.Workload) > 0 && !slices.Contains(from.Workload, r.NextHop):
		return Unknown, "the next hop is not an address of the workload that announces it"
	case from.Trusted:
		return Accepted, ""
	case len(from.Workload) > 0 && o != nil && len(o.owned) > 0:
		return Unbound, o.to + ", not to a workload"
	case author == "" && from.Node != "":
		return Unknown, "the next hop is not the address of a node"
	case author == "":
		// An outside router: what is bound to other nodes may well lie behind it.
		return Accepted, ""
	case o == nil:
		return Unbound, "not bound to node " + author
	case o.anybody || contains(o.nodes, author) || slices.ContainsFunc(g.also[r.NextHop], func(n string) bool { return contains(o.nodes, n) }):
		return Accepted, ""
	}
	return Unbound, o.to + ", not to node " + author
}

// announces tells whether the address of a server is bound to it like that of an
// endpoint: then it announces it, as a loopback that is reached through routers.
func (g *Guard) announces(name string, p netip.Prefix) bool {
	o, ok := g.hosts.Get(p)
	return ok && contains(o.nodes, name)
}

// contains is slices.Contains for lists that nearly always have one element.
func contains(nodes []string, name string) bool {
	for _, n := range nodes {
		if n == name {
			return true
		}
	}
	return false
}

// author is the node that announces a route, empty if nobody knows of one.
func (g *Guard) author(r *Route, from *Peer) string {
	if r.NextHop.IsLinkLocalUnicast() {
		return from.Node // the neighbour itself: nobody forwards link-local packets
	}
	if r.NextHop != g.lastHop {
		g.lastHop, g.lastNode = r.NextHop, g.nodes[r.NextHop]
	}
	hop := g.lastNode
	if from.Reflects && r.Originator.IsValid() && (hop == "" || hop == from.Node) {
		if who := g.ids[r.Originator]; who != "" {
			return who
		}
	}
	return hop
}

// alike tells whether an address and its neighbours are all bound alike, as
// lastBound says: nothing is bound inside of their prefix, and no server is there.
func (g *Guard) alike(a netip.Addr) bool {
	if g.lastRun.Contains(a) {
		return g.lastAlike
	}
	const neighbours = 8 // bits
	p, _ := a.Prefix(a.BitLen() - neighbours)
	g.lastRun, g.lastAlike = p, !g.servers.OverlapsPrefix(p) && !inside(&g.hosts, p) && !inside(&g.prefixes, p)
	g.lastBound, _ = g.prefixes.LookupPrefix(p)
	return g.lastAlike
}

// inside tells whether there is anything in a prefix beside itself.
func inside(t *bart.Table[*owners], p netip.Prefix) bool {
	for q := range t.Subnets(p) {
		if q != p {
			return true
		}
	}
	return false
}

// bound is the binding of a prefix: of an address its endpoint's, else that of
// the longest prefix around it.
func (g *Guard) bound(p netip.Prefix, single bool) *owners {
	if single {
		if o, ok := g.hosts.Get(p); ok {
			return o
		}
	}
	o, _ := g.prefixes.LookupPrefix(p)
	return o
}

// Bound tells whether a prefix is some node's own, one that all announce, or one
// that this node may: what there is to be told of by this node.
func (g *Guard) Bound(p netip.Prefix) bool {
	o := g.bound(p, p.IsSingleIP())
	return o != nil && (o.anybody || len(o.owned) > 0 || contains(o.nodes, g.self))
}

// Owned tells whether a prefix lies in what is bound to this node.
func (g *Guard) Owned(p netip.Prefix) bool {
	o, ok := g.prefixes.LookupPrefix(p)
	return ok && o.self
}

// Size is the number of bindings held.
func (g *Guard) Size() int { return g.prefixes.Size() + g.hosts.Size() }
