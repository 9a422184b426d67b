// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/fabric"
)

// scene is as much of a design as is needed to see what happens to all of it:
// the devices of no rack, and of each kind of racks, and in them of each kind of
// servers,
//
//   - those that somebody points at (the origin of a class, what fails), each by itself;
//   - the two with the lowest identifiers: between equal paths the lowest one decides, and for
//     that one itself the second lowest;
//   - of the rest, which are all in the same place, one and another one: the
//     other one stands for all that are left, and the first is what these see of
//     each other.
//
// Every node of a scene stands for so many devices, and each of its sessions for so many
// sessions. That is exact as long as no election is won by one of many; if it is, that one is
// pointed at, too, and the scene is made anew (spread.go).
type scene struct {
	*graph
	fail  Failure
	pins  []int
	nodes []node
	at    []int32 // device → node, -1 for none
	hops  map[netip.Addr]hop
	rests map[int]*spread // classes that have spread over it
	// pinned are the devices that are looked at by themselves, and pinnedRack their racks.
	pinned, pinnedRack map[int]bool
}

// node is a device of a scene.
type node struct {
	device int
	// racks and leaves: it stands for so many racks, and in each for so many leaves.
	racks, leaves int
	// sample: it is what those see of each other that the rest stands for, in its kind of
	// racks and in its kind of leaves.
	sampleRack, sampleLeaf bool
	edges                  []edge
	rules                  *bgp.Rules
}

// edge is one end of a session.
type edge struct {
	to   int // node
	back int // the other end, in edges of to
	// many is how many peers like to the node has.
	many           int
	seg            int
	prof, peerProf int
	addPath        bool // several paths are sent
}

// hop is where packets are sent.
type hop struct{ node, seg int }

// weight is how many devices the node stands for.
func (n *node) weight() int { return n.racks * n.leaves }

// of is the device of a node.
func (s *scene) of(n int) *device { return &s.devices[s.nodes[n].device] }

// scene makes one with these devices looked at by themselves.
func (g *graph) scene(fail Failure, pins []int) *scene {
	s := &scene{graph: g, fail: fail, pins: pins, at: make([]int32, len(g.devices)), hops: map[netip.Addr]hop{}, rests: map[int]*spread{}}
	for i := range s.at {
		s.at[i] = -1
	}
	s.pinned, s.pinnedRack = map[int]bool{}, map[int]bool{}
	for _, d := range slices.Concat(pins, fail.touched(g)) {
		s.pinned[d] = true
		if g.devices[d].rack >= 0 {
			s.pinnedRack[g.devices[d].rack] = true
		}
	}
	for i := range g.devices {
		if g.devices[i].rack < 0 {
			s.nodes = append(s.nodes, node{device: i, racks: 1, leaves: 1})
		}
	}
	for k := range g.kinds.of {
		kind := &g.kinds.of[k]
		var rest []int
		for _, r := range kind.racks {
			if kind.first[r] || s.pinnedRack[r] {
				s.addRack(r, 1, false)
			} else {
				rest = append(rest, r)
			}
		}
		if len(rest) > 0 {
			s.addRack(rest[0], 1, len(rest) > 2)
		}
		if len(rest) > 1 {
			s.addRack(rest[1], len(rest)-1, false)
		}
	}
	slices.SortFunc(s.nodes, func(a, b node) int { return a.device - b.device })
	for i := range s.nodes {
		d := s.nodes[i].device
		s.at[d] = int32(i)
		if g.devices[d].host == d { // what runs on another device has no address that is its own
			for _, p := range g.devices[d].ports {
				s.hops[p.addr] = hop{i, p.seg}
			}
		}
	}
	s.connect()
	return s
}

// with is the scene with more devices looked at by themselves: mostly it is this one.
func (s *scene) with(devices ...int) *scene {
	alone := func(d int) bool {
		at := s.at[d]
		return at >= 0 && s.nodes[at].weight() == 1 && !s.nodes[at].sampleRack && !s.nodes[at].sampleLeaf
	}
	if !slices.ContainsFunc(devices, func(d int) bool { return !alone(d) }) {
		return s
	}
	return s.graph.scene(s.fail, slices.Concat(s.pins, devices))
}

// addRack adds a rack that stands for so many.
func (s *scene) addRack(r, many int, sample bool) {
	x := &s.racks[r]
	for _, d := range x.heads {
		s.nodes = append(s.nodes, node{device: d, racks: many, leaves: 1, sampleRack: sample})
	}
	rest := map[int][]int{}
	for slot, d := range x.leaves {
		if p := x.leaf[slot]; p.rank < 2 || s.pinned[d] {
			s.nodes = append(s.nodes, node{device: d, racks: many, leaves: 1, sampleRack: sample})
		} else {
			rest[p.kind] = append(rest[p.kind], d)
		}
	}
	for _, list := range rest {
		s.nodes = append(s.nodes, node{device: list[0], racks: many, leaves: 1, sampleRack: sample, sampleLeaf: len(list) > 2})
		if len(list) > 1 {
			s.nodes = append(s.nodes, node{device: list[1], racks: many, leaves: len(list) - 1, sampleRack: sample})
		}
	}
}

// many is how many devices like q the node n sees.
func (s *scene) many(n, q *node) int {
	x, y := &s.devices[n.device], &s.devices[q.device]
	switch {
	case y.rack < 0:
		return 1
	case x.rack == y.rack:
		if n.leaves > 1 && q.sampleLeaf && s.sameLeaves(x, y) {
			return n.leaves // the sample, and the others that n stands for
		}
		return q.leaves
	}
	racks := q.racks
	if n.racks > 1 && q.sampleRack && s.racks[x.rack].kind == s.racks[y.rack].kind {
		racks = n.racks
	}
	return racks * q.leaves
}

func (s *scene) sameLeaves(x, y *device) bool {
	return x.leaf && y.leaf && s.leafKindOf(x) == s.leafKindOf(y)
}

func (g *graph) leafKindOf(x *device) int { return g.racks[x.rack].leaf[x.slot].kind }

// connect makes the sessions that are up, and the rules of each node.
func (s *scene) connect() {
	type key struct{ from, to, seg int }
	index := map[key]int{}
	add := func(from, to, seg, prof, peerProf int) {
		n, q := &s.nodes[from], &s.nodes[to]
		index[key{from, to, seg}] = len(n.edges)
		n.edges = append(n.edges, edge{to: to, many: s.many(n, q), seg: seg, prof: prof, peerProf: peerProf,
			addPath: s.profs[prof].AddPath.Sends() && s.profs[peerProf].AddPath.Receives()})
	}
	inMesh := map[int][]int{}
	for i := range s.nodes {
		d := s.nodes[i].device
		if !s.fail.up(s.graph, d) {
			continue
		}
		for _, m := range s.devices[d].mesh {
			if s.fail.reaches(s.graph, d, s.meshes[m].seg) {
				inMesh[m] = append(inMesh[m], i)
			}
		}
		for _, h := range s.devices[d].halfs {
			to := s.at[h.peer]
			if to < 0 || !s.fail.up(s.graph, h.peer) {
				continue
			}
			if h.seg < 0 || s.fail.reaches(s.graph, d, h.seg) && s.fail.reaches(s.graph, h.peer, h.seg) {
				add(i, int(to), h.seg, h.prof, h.peerProf)
			}
		}
	}
	for m := range s.meshes { // in order, so that the same scene is always made
		prof := s.meshes[m].prof
		for _, a := range inMesh[m] {
			for _, b := range inMesh[m] {
				if x, y := s.nodes[a].device, s.nodes[b].device; a != b && s.meshes[m].Joins(s.devices[x].Device, s.devices[y].Device) {
					add(a, b, s.meshes[m].seg, prof, prof)
				}
			}
		}
	}
	for i := range s.nodes {
		for j := range s.nodes[i].edges {
			e := &s.nodes[i].edges[j]
			e.back = index[key{e.to, i, e.seg}]
		}
	}
	for i := range s.nodes {
		s.nodes[i].rules = s.rulesOf(i)
	}
}

// rulesOf is the speaker of a node, with the sessions that it has.
func (s *scene) rulesOf(i int) *bgp.Rules {
	n := &s.nodes[i]
	x := &s.devices[n.device]
	c := bgp.Config{ASN: x.AS, RouterID: x.RouterID}
	ids := make([]netip.Addr, 0, len(n.edges))
	for _, e := range n.edges {
		y, p := s.of(e.to), &s.profs[e.prof]
		own, ours := s.portOn(n.device, e.seg)
		far, theirs := s.portOn(s.nodes[e.to].device, e.seg)
		if !ours { // between loopbacks
			own.addr = unnumbered(s.family, n.device, 255)
		}
		if !theirs {
			far.addr = unnumbered(s.family, s.nodes[e.to].device, 255)
		}
		pc := bgp.PeerConfig{
			Addr: netip.AddrPortFrom(far.addr, bgp.DefaultPort), LocalAddr: own.addr, ASN: y.AS,
			Client: p.ReflectorClient, Role: roles[p.Role], AllowLocalAS: uint8(p.AllowOwnAS),
			Rewrite: bgp.Rewrite{ASOverride: p.ASOverride, RemovePrivateAS: p.RemovePrivateAS, DefaultRoute: p.Default == fabric.AlwaysDefault},
			Import:  p.imports, Export: p.exports,
		}
		if x.Traditional && x.Software == fabric.FRR && x.AS != y.AS {
			pc.Import, pc.Export = orRefused(p.Import, pc.Import), orRefused(p.Export, pc.Export)
		}
		pc.NextHopMode = nextHopMode(x.AS != y.AS, p.NextHopSelf)
		if x.Role == fabric.RoleReflector && x.Software == fabric.Muslin && x.AS != y.AS {
			pc.NextHopMode = bgp.NextHopKeep // it forwards nothing: emit says so
		}
		if s.family == fabric.IPv4 {
			pc.Rewrite.Shared4 = own.subnet
		} else {
			pc.Rewrite.Shared6 = own.subnet
		}
		if p.ReflectorClient {
			c.ClusterID = x.Cluster()
		}
		c.Peers = append(c.Peers, pc)
		ids = append(ids, y.RouterID)
	}
	return bgp.NewRules(c, ids)
}

var roles = map[fabric.PeerRole]bgp.Role{fabric.Provider: bgp.RoleProvider, fabric.Customer: bgp.RoleCustomer, fabric.PeerPeer: bgp.RolePeer}

// nextHopMode is what switches do: RFC 4271 section 5.1.3, with the third-party
// next hop that this product's speaker has to be asked for.
func nextHopMode(ebgp bool, self fabric.NextHopSelf) bgp.NextHopMode {
	switch {
	case ebgp && self == fabric.NextHopSelfAll:
		return bgp.NextHopSelf
	case ebgp:
		return bgp.NextHopThirdParty
	case self == fabric.NextHopSelfAll:
		return bgp.NextHopSelf
	case self == fabric.NextHopSelfEBGP:
		return bgp.NextHopAuto
	}
	return bgp.NextHopKeep
}
