// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/fabric"
)

// Route is what a device has of some prefixes.
type Route struct {
	Prefix netip.Prefix `json:"prefix"` // the first of
	Count  int          `json:"count"`
	Local  bool         `json:"local,omitempty"`
	// Via is the FIB entry: the members of the ECMP group.
	Via   []NextHop   `json:"via,omitempty"`
	Paths []RoutePath `json:"paths,omitempty"`
}

// NextHop is a member of an ECMP group.
type NextHop struct {
	Device  string     `json:"device"`
	Segment string     `json:"segment"`
	Addr    netip.Addr `json:"address"`
	Many    int        `json:"many,omitempty"` // that many like it, if not one
}

// RoutePath is a path that a peer sent.
type RoutePath struct {
	From      string     `json:"from"`
	Many      int        `json:"many,omitempty"` // peers like it that sent such a path, if not one
	NextHop   netip.Addr `json:"nextHop"`
	ASPath    []uint32   `json:"asPath"`
	LocalPref uint32     `json:"localPref"`
	Best      bool       `json:"best,omitempty"`
	Used      bool       `json:"used,omitempty"` // in the ECMP group
	Refused   string     `json:"refused,omitempty"`
	// Unusable: it was accepted, and its next hop is on no segment of the device, or its port there is down.
	Unusable bool `json:"unusable,omitempty"`
}

// Routes are all routes of a device, in the order of prefixes. Those that devices in one
// place originate are each there. Peers like one another are one path with a number.
func (s *Sim) Routes(device string, f Failure) ([]Route, error) { return s.routes(device, f, nil) }

// RoutesByPeer is Routes with each peer by itself.
func (s *Sim) RoutesByPeer(device string, f Failure) ([]Route, error) {
	var peers []int
	if d, ok := s.g.deviceOf[device]; ok {
		x := &s.g.devices[d]
		for _, h := range x.halfs {
			peers = append(peers, h.peer)
		}
		for _, m := range x.mesh {
			peers = append(peers, s.g.meshes[m].members...)
		}
	}
	return s.routes(device, f, peers)
}

func (s *Sim) routes(device string, f Failure, apart []int) (list []Route, err error) {
	d, ok := s.g.deviceOf[device]
	if !ok {
		return nil, fmt.Errorf("there is no device %q", device)
	}
	err = s.g.run(func(pins []int) error {
		list = list[:0]
		base := s.g.scene(f, slices.Concat(pins, apart, []int{d}))
		for c := range s.g.classes {
			sc := base.with(s.g.classes[c].origins...)
			w, err := sc.settle(c)
			if err != nil {
				return err
			}
			if r := w.route(int(sc.at[d])); r.Local || len(r.Paths) > 0 {
				list = append(list, r)
			}
		}
		return nil
	})
	return list, err
}

// RoutesOfAll is RoutesByPeer of every device at once, each looked at by itself: for designs of some hundreds of
// devices, whose every table is wanted.
func (s *Sim) RoutesOfAll(f Failure) (map[string][]Route, error) {
	all := make([]int, len(s.g.devices))
	for d := range all {
		all[d] = d
	}
	out := map[string][]Route{}
	sc := s.g.scene(f, all)
	for c := range s.g.classes {
		w, err := sc.settle(c)
		if err != nil {
			return nil, err
		}
		for d := range all {
			if r := w.route(int(sc.at[d])); r.Local || len(r.Paths) > 0 {
				name := s.g.devices[d].Name
				out[name] = append(out[name], r)
			}
		}
	}
	return out, nil
}

// route is what a node has of the class.
func (w *spread) route(n int) Route {
	c, st, node := &w.classes[w.class], &w.state[n], &w.nodes[n]
	r := Route{Prefix: c.prefix, Count: c.count, Local: st.own}
	for _, x := range w.ways(n) {
		p, _ := w.portOn(w.nodes[x.node].device, x.seg)
		r.Via = append(r.Via, NextHop{w.of(x.node).Name, w.segs[x.seg].Name, p.addr, x.many})
	}
	for k := range st.in {
		for i, a := range st.in[k] {
			p := RoutePath{From: w.of(node.edges[k].to).Name, Many: node.edges[k].many,
				NextHop: a.received.NextHop(), ASPath: a.received.Path(), LocalPref: a.received.LocalPref()}
			switch {
			case a.refused != bgp.Accepted:
				p.Refused = a.why
			case a.on.node < 0:
				p.Refused, p.Unusable = fmt.Sprintf("next hop %s is not on a segment of the device", p.NextHop), true
			default:
				p.LocalPref = a.accepted.LocalPref()
			}
			at := slices.IndexFunc(st.paths, func(x bgp.Candidate) bool { return x.Peer == k && int(x.ID) == i })
			if at >= 0 {
				p.Best, p.Used = at == st.best, st.equal[at]
			}
			r.Paths = append(r.Paths, p)
		}
	}
	return r
}

// Path is every way that packets take, branch by branch.
type Path struct {
	From     string     `json:"from"`
	To       netip.Addr `json:"to"`
	Failure  string     `json:"failure"`
	Branches []Branch   `json:"branches"`
	Lost     float64    `json:"lost"` // share of the flows
	// Left out are branches beyond those that are listed.
	LeftOut int `json:"leftOut,omitempty"`
}

// Branch is one way through all ECMP groups.
type Branch struct {
	Share float64 `json:"share"` // of the flows
	Many  int     `json:"many,omitempty"`
	Hops  []Hop   `json:"hops"`
	End   string  `json:"end"` // delivered, or why not
}

// Hop is a device on the way, and the route by which it forwards.
type Hop struct {
	Device  string       `json:"device"`
	Segment string       `json:"segment,omitempty"` // by which packets come
	Prefix  netip.Prefix `json:"prefix,omitzero"`
	ASPath  []uint32     `json:"asPath,omitempty"`
}

// maxBranches bounds what Path lists.
const maxBranches = 256

// Path follows packets from a device to an address.
func (s *Sim) Path(from string, to netip.Addr, f Failure) (out *Path, err error) {
	err = s.follow(from, to, f, func(sc *scene, k *walk, n int) {
		out = &Path{From: from, To: to, Failure: s.g.failureName(f), Lost: k.from(n).lost}
		k.branches(out, n, -1, 1, 1, nil)
	})
	return out, err
}

// follow walks to an address in a failure, with a device as a node of its own, and
// those that announce the address as far as they are few.
func (s *Sim) follow(device string, to netip.Addr, f Failure, found func(sc *scene, k *walk, node int)) error {
	d, ok := s.g.deviceOf[device]
	if !ok {
		return fmt.Errorf("there is no device %q", device)
	}
	if fabric.FamilyOf(to) != s.g.family {
		return fmt.Errorf("%s is not of the family that is simulated, %s", to, s.g.family)
	}
	host, pins := netip.PrefixFrom(to, to.BitLen()), []int{d}
	class := -1
	for _, c := range s.g.over(host) {
		if class < 0 && s.g.classes[c].isEndpoint(host) {
			class = c
		}
		if n := len(s.g.classes[c].origins); n <= 64 {
			pins = append(pins, s.g.classes[c].origins...)
		}
	}
	return s.g.run(func(more []int) error {
		sc := s.g.scene(f, slices.Concat(pins, more))
		k, err := sc.walk(host, class)
		if err == nil {
			found(sc, k, int(sc.at[d]))
		}
		return err
	})
}

// isEndpoint tells whether packets to a host are delivered where the class comes from.
func (c *class) isEndpoint(host netip.Prefix) bool {
	return c.prefix.Bits() == host.Bits() || c.isBlock()
}

// branches lists the ways from a node.
func (k *walk) branches(out *Path, n, seg int, share float64, many int, hops []Hop) {
	h := Hop{Device: k.of(n).Name}
	if seg >= 0 {
		h.Segment = k.segs[seg].Name
	}
	end := func(share float64, many int, why string, hops []Hop) {
		if len(out.Branches) == maxBranches {
			out.LeftOut++
			return
		}
		out.Branches = append(out.Branches, Branch{share, many, slices.Clone(hops), why})
	}
	if slices.ContainsFunc(hops, func(x Hop) bool { return x.Device == h.Device }) {
		end(share, many, looped, append(hops, h))
		return
	}
	by, ways, why := k.choose(n)
	if by != nil {
		h.Prefix = by.classes[by.class].prefix
		if st := &by.state[n]; st.best >= 0 && st.paths[st.best].Peer != bgp.Own {
			h.ASPath = st.paths[st.best].Path()
		}
	}
	if hops = append(hops, h); why != "" {
		end(share, many, why, hops)
		return
	}
	total := 0
	for _, x := range ways {
		total += x.many
	}
	for _, x := range ways {
		part := share * float64(x.many) / float64(total)
		if !k.fail.reaches(k.graph, k.nodes[x.node].device, x.seg) {
			end(part, many*x.many, cutOff, append(hops, Hop{Device: k.of(x.node).Name, Segment: k.segs[x.seg].Name}))
			continue
		}
		k.branches(out, x.node, x.seg, part, many*x.many, hops)
	}
}
