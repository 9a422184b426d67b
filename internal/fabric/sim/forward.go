// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/fabric"
)

// Where packets go: every branch of every ECMP group, not a sample of flows. A kernel
// hashes a flow the same way at each hop, so that a flow which can loop does so for
// ever; what share of the flows that is, and what share is dropped, follows from groups being
// shared out evenly.

// way is one member of an ECMP group.
type way struct {
	hop
	many int // next hops like this one
}

// ways is the FIB entry of a node for the class: none if it has no route.
func (w *spread) ways(n int) (list []way) {
	st := &w.state[n]
	if st.best < 0 || st.paths[st.best].Peer == bgp.Own {
		return nil
	}
	for i, c := range st.paths {
		if !st.equal[i] {
			continue
		}
		on := st.in[c.Peer][c.ID].on
		e := &w.nodes[n].edges[c.Peer]
		many := 1
		if on.node == e.to {
			many = e.many
		}
		if at := slices.IndexFunc(list, func(x way) bool { return x.hop == on }); at >= 0 {
			list[at].many = max(list[at].many, many)
			continue
		}
		list = append(list, way{on, many})
	}
	if limit := w.of(n).Multipath; limit > 1 {
		for i := range list {
			list[i].many = min(list[i].many, limit)
			limit -= list[i].many
		}
		list = slices.DeleteFunc(list, func(x way) bool { return x.many <= 0 })
	}
	return list
}

// local tells whether the node itself is where the class leads.
func (w *spread) local(n int) bool {
	st := &w.state[n]
	return st.best >= 0 && st.paths[st.best].Peer == bgp.Own
}

// walk is the forwarding of packets to one prefix over a scene.
type walk struct {
	*scene
	to    netip.Prefix
	class int       // of the prefix
	over  []*spread // what can lead there, longest prefix first
	fates []*fate   // by node, as far as known
	onWay []bool
}

// fate is what becomes of packets that a node has to forward: shares of all flows.
type fate struct {
	lost    float64 // dropped or looping
	looping float64
	at      int    // a node where some are lost, -1 if none is
	why     string // in words
}

// What becomes of packets, in words.
const (
	delivered = "delivered"
	outside   = "left the fabric" // by the default route of a border: nothing is amiss if they are for nobody in it
	discarded = "discard route"
	unrouted  = "no route"
	unused    = "no such endpoint" // in a block of the device's own
	looped    = "loop"
	cutOff    = "the next hop is down"
)

// meantToLeave tells whether the address is of no endpoint, and none of the pools that endpoints have addresses of.
func (k *walk) meantToLeave() bool {
	return k.class < 0 && !slices.ContainsFunc(k.design.Pools, func(p fabric.EndpointPool) bool { return p.CIDR.Contains(k.to.Addr()) })
}

// choose returns which class a node forwards by, and its ways; nil and why if it drops.
func (k *walk) choose(n int) (by *spread, ways []way, end string) {
	for _, w := range k.over {
		if w.local(n) {
			switch {
			case w.class == k.class:
				return w, nil, delivered
			case w.classes[w.class].prefix.Bits() == 0 && w.state[n].own:
				return w, nil, outside
			case w.classes[w.class].kind == fabric.OriginEndpoints, w.classes[w.class].kind == fabric.OriginStatic:
				return w, nil, delivered // a prefix of an appliance, which has all of it
			}
			return w, nil, unused
		}
		if ways := w.ways(n); len(ways) > 0 {
			if k.discards(n, w.classes[w.class].prefix.Bits()) {
				return nil, nil, discarded
			}
			return w, ways, ""
		}
	}
	if k.discards(n, -1) {
		return nil, nil, discarded
	}
	return nil, nil, unrouted
}

// discards tells whether the node has a discard route that is longer than so many bits.
func (k *walk) discards(n, bits int) bool {
	return slices.ContainsFunc(k.of(n).Discard, func(p netip.Prefix) bool {
		return p.Bits() > bits && p.Contains(k.to.Addr())
	})
}

// from is the fate of what a node sends.
func (k *walk) from(n int) fate {
	if k.onWay[n] {
		return fate{lost: 1, looping: 1, at: n, why: looped}
	}
	if k.fates[n] != nil {
		return *k.fates[n]
	}
	_, ways, end := k.choose(n)
	var f fate
	switch {
	case end == delivered, end == outside && k.meantToLeave():
		f = fate{at: -1}
	case end != "":
		f = fate{lost: 1, at: n, why: end}
	default:
		k.onWay[n] = true
		f.at = -1
		total := 0
		for _, x := range ways {
			total += x.many
		}
		for _, x := range ways {
			g := k.behind(n, x)
			share := float64(x.many) / float64(total)
			f.lost += share * g.lost
			f.looping += share * g.looping
			if g.at >= 0 && f.at < 0 {
				f.at, f.why = g.at, g.why
			}
		}
		k.onWay[n] = false
		if f.looping > 0 {
			return f // what is on the way was cut off there: it is not the fate of every visitor
		}
	}
	k.fates[n] = &f
	return f
}

// behind is the fate behind one next hop: it may be gone, although the port towards it is up.
func (k *walk) behind(n int, x way) fate {
	if !k.fail.reaches(k.graph, k.nodes[x.node].device, x.seg) {
		return fate{lost: 1, at: n, why: cutOff}
	}
	return k.from(x.node)
}

// connected are the nodes that a node can reach over what is up, through whatever forwards.
func (s *scene) connected(from int) []bool {
	seen := make([]bool, len(s.nodes))
	if !s.fail.up(s.graph, s.nodes[from].device) {
		return seen
	}
	onSeg := map[int][]int{}
	for n := range s.nodes {
		d := s.nodes[n].device
		for _, p := range s.devices[s.devices[d].host].ports {
			if s.fail.reaches(s.graph, d, p.seg) && s.fail.up(s.graph, d) && s.fail.segUp(s.graph, p.seg) {
				onSeg[p.seg] = append(onSeg[p.seg], n)
			}
		}
	}
	seen[from] = true
	queue := []int{from}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		x := s.of(n)
		if n != from && x.Role != fabric.RoleToR && x.Role != fabric.RoleSpine && x.Role != fabric.RoleBorder {
			continue
		}
		for _, p := range s.devices[x.host].ports {
			if !s.fail.reaches(s.graph, s.nodes[n].device, p.seg) {
				continue
			}
			for _, m := range onSeg[p.seg] {
				if !seen[m] {
					seen[m] = true
					queue = append(queue, m)
				}
			}
		}
	}
	return seen
}

// hostIn is the first address of a prefix.
func hostIn(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr(), p.Addr().BitLen()) }
