// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/fabric"
)

// How one class spreads over a scene: whoever has something new decides again and
// tells its peers, one after another, until nobody has.

// spread is the end of it.
type spread struct {
	*scene
	class int
	state []state // by node
	// restless names the devices that never come to rest, and what they alternate between.
	restless []string
}

// state is what a node knows of the class.
type state struct {
	own    bool
	in     [][]arrival // by edge
	best   int         // in paths; -1 for none
	equal  []bool      // by path
	uneven bool        // some would be equal, if AS numbers did not count
	paths  []bgp.Candidate
	told   [][]string // by edge: what the peer has been told, as keys
	queued bool
	turns  int
}

// arrival is a path that a peer sent, and what became of it.
type arrival struct {
	received, accepted bgp.Attributes
	id                 uint32
	refused            bgp.Refusal
	why                string
	// on is where its next hop is; node is -1 if it is not on a segment of the node.
	on hop
}

// restlessAfter is how often a node may change its mind.
const restlessAfter = 64

// spread lets a class spread. many is a device that won an election although it is
// one of many: then the scene must be made with it looked at by itself.
func (s *scene) spread(class int) (out *spread, many int) {
	c := &s.classes[class]
	w := &spread{scene: s, class: class, state: make([]state, len(s.nodes))}
	var queue []int
	wake := func(n int) {
		if st := &w.state[n]; !st.queued {
			st.queued = true
			queue = append(queue, n)
		}
	}
	for n := range s.nodes {
		st := &w.state[n]
		st.best = -1
		st.in = make([][]arrival, len(s.nodes[n].edges))
		st.told = make([][]string, len(s.nodes[n].edges))
		if slices.Contains(c.origins, s.nodes[n].device) && s.fail.up(s.graph, s.nodes[n].device) && s.makes(n, c) {
			st.own = true
			wake(n)
		}
		if c.given && slices.ContainsFunc(s.nodes[n].edges, func(e edge) bool { return s.gives(e) }) {
			wake(n)
		}
	}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		w.state[n].queued = false
		if w.state[n].turns++; w.state[n].turns > restlessAfter {
			w.restless = w.watch(append(queue, n))
			return w, -1
		}
		for _, to := range w.turn(n) {
			wake(to)
		}
	}
	for n := range s.nodes {
		if st := &w.state[n]; st.best >= 0 && st.paths[st.best].Peer != bgp.Own {
			if e := s.nodes[n].edges[st.paths[st.best].Peer]; e.many > 1 {
				return nil, s.nodes[e.to].device
			}
		}
	}
	return w, -1
}

// gives tells whether the end of a session makes a default route for the peer.
func (s *scene) gives(e edge) bool { return s.profs[e.prof].Default == fabric.AlwaysDefault }

// makes tells whether an origin has what it announces: the prefix of a rack stands for
// those of its servers, and is there as long as one of them is; a static route goes with the port that it leads to.
func (s *scene) makes(n int, c *class) bool {
	switch c.kind {
	case fabric.OriginRack:
		rack := s.of(n).rack
		return slices.ContainsFunc(s.nodes[n].edges, func(e edge) bool {
			y := s.of(e.to)
			return y.rack == rack && (y.Role == fabric.RoleServer || y.Role == fabric.RoleMachine)
		})
	case fabric.OriginStatic:
		return s.leads(s.nodes[n].device, c.prefix)
	}
	return true
}

// leads tells whether a static route of a device to a prefix is by a port that works, or it has none.
func (s *scene) leads(d int, p netip.Prefix) bool {
	x, none := &s.devices[d], true
	for _, r := range x.Static {
		if r.Prefix.Bits() != p.Bits() || p.Addr().Less(r.Prefix.Addr()) || fabric.Nth(r.Prefix, r.Count-1).Addr().Less(p.Addr()) {
			continue
		}
		none = false
		if slices.ContainsFunc(x.ports, func(i port) bool { return i.subnet.Contains(r.Via) && s.fail.reaches(s.graph, d, i.seg) }) {
			return true
		}
	}
	return none
}

// turn has a node decide and tell its peers; it returns the nodes that are told something new.
func (w *spread) turn(n int) (news []int) {
	node, st := &w.nodes[n], &w.state[n]
	w.decide(n)
	for k := range node.edges {
		e := &node.edges[k]
		sent := w.tell(n, k)
		keys := make([]string, len(sent))
		for i, a := range sent {
			keys[i] = a.received.Key()
		}
		if slices.Equal(keys, st.told[k]) {
			continue
		}
		st.told[k] = keys
		w.hear(e.to, e.back, sent)
		news = append(news, e.to)
	}
	return news
}

// decide gathers what can be used, and selects.
func (w *spread) decide(n int) {
	node, st := &w.nodes[n], &w.state[n]
	st.paths = st.paths[:0]
	for k := range st.in {
		for i, a := range st.in[k] {
			if a.accepted.Valid() && a.on.node >= 0 {
				st.paths = append(st.paths, bgp.Candidate{Peer: k, ID: uint32(i), Attributes: a.accepted})
			}
		}
	}
	if st.own && (len(st.paths) == 0 || !w.devices[node.device].ownLoses(w.classes[w.class].kind)) {
		st.paths = append(st.paths, bgp.Candidate{Peer: bgp.Own, Attributes: bgp.Originate(0)})
	}
	st.best, st.equal = node.rules.Select(st.paths, st.equal)
	w.narrow(n)
}

// narrow takes out of the equal paths what the device does not use together.
func (w *spread) narrow(n int) {
	st, x := &w.state[n], w.of(n)
	st.uneven = false
	if st.best < 0 {
		return
	}
	for i := range st.equal {
		switch {
		case i == st.best:
		case x.Multipath <= 1:
			st.equal[i] = false
		case st.equal[i] && !x.MultipathRelax && !slices.Equal(st.paths[i].Path(), st.paths[st.best].Path()):
			st.equal[i], st.uneven = false, true
		}
	}
}

// tell is what a peer is told.
func (w *spread) tell(n, k int) (sent []arrival) {
	node, st := &w.nodes[n], &w.state[n]
	prefix := w.classes[w.class].prefix
	if w.gives(node.edges[k]) && prefix.Bits() == 0 {
		return []arrival{{received: node.rules.Default(k, prefix)}}
	}
	if st.best < 0 || w.summed(n, w.nodes[node.edges[k].to].device, prefix) {
		return nil
	}
	one := func(c bgp.Candidate, id uint32) {
		if a, _ := w.offer(n, k, c); a.Valid() {
			sent = append(sent, arrival{received: a, id: id})
		}
	}
	if !node.edges[k].addPath {
		one(st.paths[st.best], 0)
		return sent
	}
	for _, c := range st.paths {
		one(c, uint32(c.Peer+1)<<8|c.ID)
	}
	return sent
}

// offer is a path as a peer is told of it, or why it is not.
func (w *spread) offer(n, k int, c bgp.Candidate) (bgp.Attributes, string) {
	node := &w.nodes[n]
	does := w.devices[node.device].does
	switch {
	case c.Peer == k && !does.echoes:
		return bgp.Attributes{}, "it has it from there"
	case node.rules.Loops(k, c) && !does.sendsLoops:
		return bgp.Attributes{}, "the AS of the peer is in the path (RFC 4271 section 9.1.2)"
	}
	return node.rules.Export(k, w.classes[w.class].prefix, c)
}

// summed tells whether a device keeps a prefix from a peer in another rack or in none, because it
// announces a shorter one instead.
func (s *scene) summed(n, peer int, prefix netip.Prefix) bool {
	x := s.of(n)
	return x.rack != s.devices[peer].rack && slices.ContainsFunc(x.stands, func(p netip.Prefix) bool {
		return p.Bits() < prefix.Bits() && p.Contains(prefix.Addr())
	})
}

// hear puts what a peer sent in the place of what it sent before.
func (w *spread) hear(n, k int, sent []arrival) {
	node, prefix := &w.nodes[n], w.classes[w.class].prefix
	e := &node.edges[k]
	in := w.state[n].in[k][:0]
	for _, a := range sent {
		var v bgp.Verdict
		a.accepted, v = node.rules.Import(k, prefix, a.received)
		a.refused, a.why = v.Refused, v.Detail
		switch {
		case a.refused != bgp.Accepted:
		case w.guarded(n, k, a.received.NextHop()):
			a.accepted, a.refused, a.why = bgp.Attributes{}, bgp.RefusedFilter, "served here: the origin guard"
		case w.elsewhere(n, k):
			a.accepted, a.refused, a.why = bgp.Attributes{}, bgp.RefusedFilter, "not of that server: the origin guard"
		}
		if a.on = w.resolve(n, a.received.NextHop()); a.on.node >= 0 && w.byLinkLocal(n, k) {
			p, _ := w.portOn(w.nodes[e.to].device, e.seg)
			a.on = w.resolve(n, p.addr)
		}
		in = append(in, a)
	}
	w.state[n].in[k] = in
}

// byLinkLocal tells whether packets go to the peer that told of a route, whoever has its next hop: to the link-local address
// that came with that. Whether a route is used depends on the other one still.
func (w *spread) byLinkLocal(n, k int) bool {
	e := &w.nodes[n].edges[k]
	x, y := w.of(n), w.of(e.to)
	return w.family == fabric.IPv6 && e.seg >= 0 && x.AS != y.AS && x.does.linkLocal && y.does.linkLocal
}

// guarded tells whether a node refuses what a peer tells it of the class, since it serves that itself. Of an anycast
// address it takes what another server that has it says for itself, and nothing by way of a router, or of a reflector for
// routers, whom it believes whatever else they pass on.
func (w *spread) guarded(n, k int, nextHop netip.Addr) bool {
	c := &w.classes[w.class]
	if !w.state[n].own || !w.devices[w.nodes[n].device].does.guards {
		return false
	}
	switch c.kind {
	case fabric.OriginEndpoints, fabric.OriginMoved:
		return true
	case fabric.OriginAnycast:
		h, ok := w.hops[nextHop]
		return !ok || !slices.Contains(c.origins, w.nodes[h.node].device) || w.of(w.nodes[n].edges[k].to).reflectsRouters
	}
	return false
}

// elsewhere tells whether a node refuses the class from a peer, a server that does not have it and reflects nothing.
func (w *spread) elsewhere(n, k int) bool {
	peer := &w.nodes[w.nodes[n].edges[k].to]
	y := &w.devices[peer.device]
	if !w.of(n).does.guards || y.Software != fabric.Muslin || y.Role != fabric.RoleServer || slices.Contains(w.classes[w.class].origins, peer.device) {
		return false
	}
	return !slices.ContainsFunc(peer.edges, func(e edge) bool { return w.profs[e.prof].ReflectorClient })
}

// resolve finds a next hop on a segment of the node.
func (s *scene) resolve(n int, a netip.Addr) hop {
	if h, ok := s.hops[a]; ok && h.node != n {
		if _, on := s.portOn(s.nodes[n].device, h.seg); on && s.fail.reaches(s.graph, s.nodes[n].device, h.seg) {
			return h
		}
	}
	return hop{node: -1}
}

// watch goes on with one turn of each node in each round, until a state comes back, and says who
// changed meanwhile, and between what.
func (w *spread) watch(queue []int) []string {
	seen := map[string]int{}
	var rounds [][]string
	for range 4 * restlessAfter {
		var all []string
		for n := range w.nodes {
			all = append(all, w.mind(n))
		}
		text := strings.Join(all, "\n")
		if first, again := seen[text]; again {
			return w.alternating(rounds[first:])
		}
		seen[text] = len(rounds)
		rounds = append(rounds, all)
		slices.Sort(queue)
		var next []int
		for _, n := range slices.Compact(queue) {
			next = append(next, w.turn(n)...)
		}
		queue = next
	}
	return w.alternating(rounds)
}

// mind is what a node has selected, in words.
func (w *spread) mind(n int) string {
	st := &w.state[n]
	switch {
	case st.best < 0:
		return "nothing"
	case st.paths[st.best].Peer == bgp.Own:
		return "itself"
	}
	b := st.paths[st.best]
	return fmt.Sprintf("%s %v", w.of(w.nodes[n].edges[b.Peer].to).Name, b.Path())
}

func (w *spread) alternating(rounds [][]string) (list []string) {
	for n := range w.nodes {
		var minds []string
		for _, r := range rounds {
			if !slices.Contains(minds, r[n]) {
				minds = append(minds, r[n])
			}
		}
		if len(minds) > 1 {
			list = append(list, w.of(n).Name+": "+strings.Join(minds, " ⇄ "))
		}
	}
	return list
}
