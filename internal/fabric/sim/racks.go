// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Racks that look the same to all that is outside of them can change places, and
// so can servers in a rack. What looks the same is said by a signature: it
// names what is outside of all racks (spines, reflectors, borders, planes), and
// what is inside of the rack by its place there. An AS number that is in one rack
// only is known by its place, too. Equal signatures are an automorphism of the
// design; all that then tells such devices apart is the order of their
// identifiers and addresses, which decides between equal paths. So the first two
// of each kind are always looked at on their own (scene.go).

// rack is a rack. The heads are looked at one by one; of the leaves, those
// of one kind can change places.
type rack struct {
	name   string
	heads  []int
	leaves []int // in the order of identifiers
	kind   int   // in graph.kinds
	fixed  bool  // something ties it to another rack: it is a kind of its own
	leaf   []leafPlace
}

// leafPlace is the kind of a leaf, and how many of that kind come before it.
type leafPlace struct{ kind, rank int }

// rackKind is racks that can change places, in the order of identifiers.
type rackKind struct {
	racks []int
	// first holds those that have the lowest or second lowest identifier in some place.
	first map[int]bool
}

// kinds is found by findRacks.
type kinds struct {
	of       []rackKind
	leafKind map[string]int
}

// findRacks groups devices into racks and racks into kinds.
func (g *graph) findRacks() {
	byName := map[string]int{}
	for i := range g.devices {
		x := &g.devices[i]
		if x.Rack == "" {
			continue
		}
		r, ok := byName[x.Rack]
		if !ok {
			r = len(g.racks)
			byName[x.Rack] = r
			g.racks = append(g.racks, rack{name: x.Rack})
		}
		x.rack = r
	}
	g.findHeads()
	for i := range g.segs {
		g.segs[i].rack = g.rackOf(g.segs[i].members)
	}
	for i := range g.meshes {
		g.meshes[i].rack = g.rackOf(g.meshes[i].members)
	}
	g.findKinds()
}

// rackOf is the rack in which all devices are; -1 if there is no such.
func (g *graph) rackOf(list []int) int {
	if len(list) == 0 {
		return -1
	}
	r := g.devices[list[0]].rack
	for _, d := range list {
		if g.devices[d].rack != r {
			return -1
		}
	}
	return r
}

// findHeads tells heads from leaves. A server that has a session with another server of its
// rack is a head, as is one that something else runs on.
func (g *graph) findHeads() {
	head := make([]bool, len(g.devices))
	ids := map[netip.Addr]int{}
	for i := range g.devices {
		x := &g.devices[i]
		head[i] = x.Role != fabric.RoleServer && x.Role != fabric.RoleMachine
		if x.on != i {
			head[i], head[x.on] = true, true
		}
		for _, h := range x.halfs {
			head[i] = head[i] || g.profs[h.prof].ReflectorClient && g.devices[h.peer].rack == x.rack
		}
		if other, twice := ids[x.RouterID]; twice { // loop checks then hit the wrong one
			for _, d := range []int{i, other} {
				if head[d] = true; g.devices[d].rack >= 0 {
					g.racks[g.devices[d].rack].fixed = true
				}
			}
		}
		ids[x.RouterID] = i
	}
	for i := range g.devices {
		x := &g.devices[i]
		for _, h := range x.halfs {
			y := &g.devices[h.peer]
			switch {
			case x.rack < 0 || y.rack < 0:
			case x.rack != y.rack:
				head[i], g.racks[x.rack].fixed = true, true
			case !head[i] && !head[h.peer]:
				head[i] = true // and its peers are leaves of it
			}
		}
	}
	for i := range g.devices {
		x := &g.devices[i]
		if x.rack < 0 {
			continue
		}
		r := &g.racks[x.rack]
		if head[i] {
			x.slot, r.heads = len(r.heads), append(r.heads, i)
		} else {
			x.leaf, r.leaves = true, append(r.leaves, i)
		}
	}
	for i := range g.racks {
		r := &g.racks[i]
		slices.SortFunc(r.leaves, g.byID)
		for slot, d := range r.leaves {
			g.devices[d].slot = slot
		}
	}
}

func (g *graph) byID(a, b int) int {
	return cmp.Or(g.devices[a].RouterID.Compare(g.devices[b].RouterID), cmp.Compare(a, b))
}

// findKinds compares signatures.
func (g *graph) findKinds() {
	g.kinds = kinds{leafKind: map[string]int{}}
	kindOf := map[string]int{}
	sig := newSigner(g)
	order := make([]int, len(g.racks))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return g.byID(g.firstOf(a), g.firstOf(b)) })
	for _, i := range order {
		r := &g.racks[i]
		text, leaves := sig.rack(i)
		r.leaf = make([]leafPlace, len(r.leaves))
		ranks := map[int]int{}
		for slot, s := range leaves {
			k, ok := g.kinds.leafKind[s]
			if !ok {
				k = len(g.kinds.leafKind)
				g.kinds.leafKind[s] = k
			}
			r.leaf[slot] = leafPlace{k, ranks[k]}
			ranks[k]++
		}
		k, ok := kindOf[text]
		if !ok || r.fixed {
			k = len(g.kinds.of)
			kindOf[text] = k
			g.kinds.of = append(g.kinds.of, rackKind{first: map[int]bool{}})
		}
		r.kind = k
		g.kinds.of[k].racks = append(g.kinds.of[k].racks, i)
	}
	for i := range g.kinds.of {
		g.findFirst(&g.kinds.of[i])
	}
}

// firstOf is a device that stands for the rack when racks are ordered.
func (g *graph) firstOf(r int) int {
	if x := &g.racks[r]; len(x.heads) > 0 {
		return x.heads[0]
	}
	return g.racks[r].leaves[0]
}

// findFirst finds the two racks with the lowest identifiers in each place.
func (g *graph) findFirst(k *rackKind) {
	lowest := func(of func(r *rack) int) {
		best := slices.Clone(k.racks)
		slices.SortStableFunc(best, func(a, b int) int { return g.byID(of(&g.racks[a]), of(&g.racks[b])) })
		for _, r := range best[:min(2, len(best))] {
			k.first[r] = true
		}
	}
	some := &g.racks[k.racks[0]]
	for slot := range some.heads {
		lowest(func(r *rack) int { return r.heads[slot] })
	}
	for _, p := range some.leaf {
		if p.rank == 0 {
			lowest(func(r *rack) int { return r.leaves[slices.Index(r.leaf, p)] })
		}
	}
}

// signer writes signatures.
type signer struct {
	*graph
	devicesOfAS map[uint32][]int
	clusters    map[netip.Addr][]int
	b           strings.Builder
	local       map[string]int // names of what is inside the rack at hand, by place
	endpoints   []placed       // in order
}

func newSigner(g *graph) *signer {
	s := &signer{graph: g, devicesOfAS: map[uint32][]int{}, clusters: map[netip.Addr][]int{}}
	for i := range g.devices {
		x := &g.devices[i]
		s.devicesOfAS[x.AS] = append(s.devicesOfAS[x.AS], i)
		c := x.Cluster()
		s.clusters[c] = append(s.clusters[c], i)
		for _, o := range x.Originate {
			if o.Kind == fabric.OriginEndpoints || o.Kind == fabric.OriginBlock {
				s.endpoints = append(s.endpoints, placed{o.Prefix.Addr(), x.rack, i})
			}
		}
	}
	slices.SortFunc(s.endpoints, func(a, b placed) int { return a.addr.Compare(b.addr) })
	return s
}

// rack is the signature of a rack, and those of its leaves.
func (s *signer) rack(i int) (text string, leaves []string) {
	r := &s.racks[i]
	s.local = map[string]int{}
	var heads []string
	for _, d := range r.heads {
		heads = append(heads, s.device(d))
	}
	for _, d := range r.leaves {
		leaves = append(leaves, s.device(d))
	}
	sorted := slices.Clone(leaves)
	slices.Sort(sorted)
	return strings.Join(heads, "\n") + "\n\n" + strings.Join(sorted, "\n"), leaves
}

// place numbers a thing inside the rack.
func (s *signer) place(kind string, n any) string {
	name := fmt.Sprint(kind, n)
	i, ok := s.local[name]
	if !ok {
		i = len(s.local)
		s.local[name] = i
	}
	return fmt.Sprint(kind, "#", i)
}

// shared names what several devices may have in common.
func (s *signer) shared(kind string, value any, have []int) string {
	switch {
	case len(have) == 1:
		return "own"
	case s.rackOf(have) >= 0:
		return s.place(kind, value)
	}
	return fmt.Sprint(kind, value)
}

// device is the signature of a device in a rack.
func (s *signer) device(d int) string {
	x := &s.devices[d]
	s.b.Reset()
	fmt.Fprintf(&s.b, "%s %s %s %s %s %d %t %t %t", x.Role, x.Software, x.Platform, s.shared("AS", x.AS, s.devicesOfAS[x.AS]),
		s.shared("cluster", x.Cluster(), s.clusters[x.Cluster()]), x.Multipath, x.MultipathRelax, x.Traditional, x.ownLoses(fabric.OriginEndpoints))
	if x.on != d {
		fmt.Fprint(&s.b, " on ", s.peer(x, x.on))
	}
	var lines []string
	for _, p := range x.ports {
		lines = append(lines, "port "+s.segment(x, d, p.seg))
	}
	for _, h := range x.halfs {
		if s.devices[h.peer].leaf {
			continue // it says so itself
		}
		seg := "loopback"
		if h.seg >= 0 {
			seg = s.segment(x, d, h.seg)
		}
		lines = append(lines, fmt.Sprint("session ", s.peer(x, h.peer), seg, h.prof, h.peerProf))
	}
	for _, m := range x.mesh {
		if s.meshes[m].rack >= 0 {
			lines = append(lines, fmt.Sprint(s.place("mesh", m), s.meshes[m].prof))
		} else {
			lines = append(lines, fmt.Sprint("mesh", m))
		}
	}
	for _, p := range x.Discard {
		lines = append(lines, "discard "+s.prefix(x, d, p))
	}
	slices.Sort(lines)
	for _, l := range lines {
		s.b.WriteString("|" + l)
	}
	for _, o := range x.Originate {
		if fabric.FamilyOf(o.Prefix.Addr()) == s.family {
			fmt.Fprintf(&s.b, "|%s %d %d %d ", o.Kind, o.Count, o.Endpoints, o.Prefix.Bits())
			for i := range s.design.Filters {
				fmt.Fprint(&s.b, s.design.Filters[i].Permits(o.Prefix))
			}
			if o.Kind == fabric.OriginAnycast {
				s.b.WriteString(o.Prefix.String())
			}
		}
	}
	return s.b.String()
}

// peer names another device as x sees it.
func (s *signer) peer(x *device, y int) string {
	if other := &s.devices[y]; other.rack == x.rack && x.rack >= 0 {
		return fmt.Sprint("head", other.slot)
	}
	return fmt.Sprint("device", y)
}

// segment names a segment as x sees it.
func (s *signer) segment(x *device, d, seg int) string {
	g := &s.segs[seg]
	if g.Kind == fabric.Link {
		for _, m := range g.members {
			if m != d && !s.devices[m].leaf {
				return "link " + s.peer(x, m)
			}
		}
		return "link"
	}
	if g.rack >= 0 {
		return s.place("segment", seg)
	}
	return fmt.Sprint("segment", seg)
}

// prefix names a prefix that has endpoints of this device only, or of its rack, by its length, any other as it is.
func (s *signer) prefix(x *device, d int, p netip.Prefix) string {
	i, _ := slices.BinarySearchFunc(s.endpoints, p.Addr(), func(e placed, a netip.Addr) int { return e.addr.Compare(a) })
	n, whose := i, "mine/"
	for ; n < len(s.endpoints) && p.Contains(s.endpoints[n].addr); n++ {
		if s.endpoints[n].rack != x.rack {
			return p.String()
		}
		if s.endpoints[n].device != d {
			whose = "ours/"
		}
	}
	if n == i {
		return p.String()
	}
	return fmt.Sprint(whose, p.Bits())
}

// placed is the first of a server's endpoints.
type placed struct {
	addr   netip.Addr
	rack   int
	device int
}
