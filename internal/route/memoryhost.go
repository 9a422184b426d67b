// SPDX-License-Identifier: Apache-2.0

package route

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
)

// Host is what a Memory works on, as the kernel is what a Table works on: the
// interfaces of a host, and one routing table with the routes of all. It looks them up
// as Linux does. It is there before a Memory is opened, and stays when that is
// closed. The zero value has nothing; it is safe for concurrent use.
type Host struct {
	mu       sync.Mutex
	links    map[string]Interface
	routes   map[netip.Prefix][]FIBRoute // by metric, but those of Addrs
	watchers map[*func()]struct{}
}

// Interface is one of the host's. Routes through it go when it goes down. Each of
// its addresses is this host, and leads to its subnet.
type Interface struct {
	Up    bool // and with a carrier
	Addrs []netip.Prefix
}

// FIBRoute is a route of the table, whoever wrote it.
type FIBRoute struct {
	Prefix   netip.Prefix
	Protocol uint8
	Metric   uint32
	Refuses  string // blackhole, unreachable or prohibit; empty if it leads somewhere
	Hops     []Exit
}

// Exit is one way out: an interface, and the router behind it, if any.
type Exit struct {
	Device string
	Via    netip.Addr // without zone
}

func (e Exit) compare(o Exit) int {
	return cmp.Or(e.Via.Compare(o.Via), cmp.Compare(e.Device, o.Device))
}

// SetInterface makes or changes an interface.
func (h *Host) SetInterface(name string, i Interface) {
	h.change(func() {
		if h.links == nil {
			h.links = map[string]Interface{}
		}
		h.links[name] = i
		h.dropDead()
	})
}

// Interface returns one, which is down if it is not there.
func (h *Host) Interface(name string) Interface {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.links[name]
}

// dropDead takes out the routes to which no interface is left.
func (h *Host) dropDead() {
	for p, rs := range h.routes {
		h.set(p, slices.DeleteFunc(slices.Clone(rs), func(r FIBRoute) bool { return !h.alive(r) }))
	}
}

// Put writes a route as another daemon does, over the one to its prefix with its
// metric.
func (h *Host) Put(r FIBRoute) { h.change(func() { h.put(r) }) }

// Remove deletes a route as another daemon does.
func (h *Host) Remove(p netip.Prefix, metric uint32) { h.change(func() { h.remove(p, metric) }) }

// Routes returns the table in order, the routes to subnets of interfaces included.
func (h *Host) Routes() (all []FIBRoute) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, rs := range h.table() {
		all = append(all, rs...)
	}
	slices.SortFunc(all, func(a, b FIBRoute) int {
		return cmp.Or(comparePrefix(a.Prefix, b.Prefix), cmp.Compare(a.Metric, b.Metric))
	})
	return all
}

// change runs what somebody else than a Memory does, and tells the Memories.
func (h *Host) change(f func()) {
	h.mu.Lock()
	f()
	told := slices.Collect(maps.Keys(h.watchers))
	h.mu.Unlock()
	for _, notify := range told {
		(*notify)()
	}
}

func (h *Host) put(r FIBRoute) {
	r.Hops = slices.Clone(r.Hops)
	slices.SortFunc(r.Hops, Exit.compare)
	rs := slices.DeleteFunc(slices.Clone(h.routes[r.Prefix]), func(o FIBRoute) bool { return o.Metric == r.Metric })
	rs = append(rs, r)
	slices.SortStableFunc(rs, func(a, b FIBRoute) int { return cmp.Compare(a.Metric, b.Metric) })
	h.set(r.Prefix, rs)
}

func (h *Host) remove(p netip.Prefix, metric uint32) {
	h.set(p, slices.DeleteFunc(slices.Clone(h.routes[p]), func(o FIBRoute) bool { return o.Metric == metric }))
}

func (h *Host) set(p netip.Prefix, rs []FIBRoute) {
	if len(rs) == 0 {
		delete(h.routes, p)
		return
	}
	if h.routes == nil {
		h.routes = map[netip.Prefix][]FIBRoute{}
	}
	h.routes[p] = rs
}

func (h *Host) alive(r FIBRoute) bool {
	return r.Refuses != "" || slices.ContainsFunc(r.Hops, func(e Exit) bool { return h.links[e.Device].Up })
}

// metricConnected is that of the routes that addresses bring, by whether it is
// for IPv4.
var metricConnected = map[bool]uint32{true: 0, false: 256}

// table is all routes by prefix, each list by metric.
func (h *Host) table() map[netip.Prefix][]FIBRoute {
	all := maps.Clone(h.routes)
	if all == nil {
		all = map[netip.Prefix][]FIBRoute{}
	}
	for name, link := range h.links {
		for _, a := range link.Addrs {
			p := a.Masked()
			if !link.Up || p.Addr().Is4() && p.IsSingleIP() { // this one is the host itself, and no more
				continue
			}
			r := FIBRoute{Prefix: p, Protocol: protoKernel, Metric: metricConnected[p.Addr().Is4()], Hops: []Exit{{Device: name}}}
			rs := append(slices.Clone(all[p]), r)
			slices.SortStableFunc(rs, func(a, b FIBRoute) int {
				return cmp.Or(cmp.Compare(a.Metric, b.Metric), slices.CompareFunc(a.Hops, b.Hops, Exit.compare))
			})
			all[p] = rs
		}
	}
	return all
}

// Ask says which way a packet goes: of a route to several next hops all ways, of which
// a flow takes one. Where it comes from does not matter, as without rules of
// routing policy.
func (h *Host) Ask(q Query) []Way {
	h.mu.Lock()
	defer h.mu.Unlock()
	single := netip.PrefixFrom(q.Dst, q.Dst.BitLen())
	if q.In != "" && (q.Dst.IsMulticast() || h.broadcast(q.Dst)) {
		return []Way{onLink(q, h.member(q))}
	}
	if q.Dst.IsLoopback() || h.owns(q.Dst) {
		return []Way{{Prefix: single, Protocol: protoKernel, Local: true, Device: "lo"}}
	}
	table := h.table()
	for bits := q.Dst.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(q.Dst, bits).Masked()
		for _, r := range table[p] {
			if !h.alive(r) {
				continue // the kernel looks further, too
			}
			w := Way{Prefix: p, Protocol: r.Protocol, Refused: r.Refuses}
			if r.Refuses != "" {
				return []Way{w}
			}
			var ways []Way
			for _, e := range r.Hops {
				if h.links[e.Device].Up {
					w.Via, w.Device = e.Via, e.Device
					ways = append(ways, w)
				}
			}
			return ways
		}
	}
	return []Way{{Refused: "no route"}}
}

// broadcast tells whether an address means all on the link of an interface.
func (h *Host) broadcast(a netip.Addr) bool {
	if a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return true
	}
	for _, link := range h.links {
		if link.Up && slices.ContainsFunc(link.Addrs, func(p netip.Prefix) bool {
			return a.Is4() && p.Bits() < 31 && p.Contains(a) && !p.Contains(a.Next())
		}) {
			return true
		}
	}
	return false
}

// groups are those that every router is of (RFC 1112, RFC 4291 section 2.7.1). Nobody here
// joins others, but for neighbour discovery.
var groups = []netip.Addr{netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("ff02::1"), netip.MustParseAddr("ff02::2"), netip.MustParseAddr("ff05::2")}

// member tells whether this host takes what comes in for a group or for all on a link.
func (h *Host) member(q Query) bool {
	solicits := func(p netip.Prefix) bool { // RFC 4291 section 2.7.1
		a, g := p.Addr().As16(), netip.MustParseAddr("ff02::1:ff00:0").As16()
		copy(g[13:], a[13:])
		return p.Addr().Is6() && netip.AddrFrom16(g) == q.Dst
	}
	return !q.Dst.IsMulticast() || slices.Contains(groups, q.Dst) || slices.ContainsFunc(h.links[q.In].Addrs, solicits)
}

// owns tells whether an address is this host's.
func (h *Host) owns(a netip.Addr) bool {
	for _, link := range h.links {
		if link.Up && slices.ContainsFunc(link.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return true
		}
	}
	return false
}

// watch calls notify at each change of others, until stop.
func (h *Host) watch(notify func()) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		h.watchers = map[*func()]struct{}{}
	}
	h.watchers[&notify] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, &notify)
	}
}
