// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Reach is how servers reach each other's endpoints. Pairs are ordered, and of servers that
// are up and still have a way to each other through switches.
type Reach struct {
	Failure string `json:"failure"`
	// Cases is for how many failures that are in the same place this one stands.
	Cases   int     `json:"cases"`
	Kind    string  `json:"kind"` // of what fails
	Pairs   int     `json:"pairs"`
	Cut     int     `json:"cut"`               // pairs of which no flow arrives
	Partly  int     `json:"partly"`            // pairs of which some do not
	Looping int     `json:"looping,omitempty"` // pairs with flows that loop
	Apart   int     `json:"apart,omitempty"`   // pairs without a way: not counted above
	Worst   float64 `json:"worst"`             // share of flows lost of the worst pair
	From    string  `json:"from,omitempty"`    // that pair
	To      string  `json:"to,omitempty"`
	At      string  `json:"at,omitempty"` // where its flows are lost
	Why     string  `json:"why,omitempty"`
	// Notice is after how long the last neighbour knows; 0 is at once, by the carrier.
	Notice time.Duration `json:"notice"`
	// Restless are routes without a stable state.
	Restless []string `json:"restless,omitempty"`

	down Failure
}

// Noticed says how the neighbours of what failed learn of it.
func (r *Reach) Noticed() string {
	if r.Notice == 0 {
		return "by carrier"
	}
	return "after " + r.Notice.String()
}

// Whole tells whether nothing is lost.
func (r *Reach) Whole() bool { return r.Cut+r.Partly == 0 && r.Restless == nil }

// Reach simulates all pairs.
func (s *Sim) Reach(f Failure) (out *Reach, err error) {
	err = s.g.run(func(pins []int) error {
		out, err = s.g.reach(f, pins)
		return err
	})
	return out, err
}

func (g *graph) reach(f Failure, pins []int) (*Reach, error) {
	r := &Reach{Failure: g.failureName(f), Cases: 1, down: f}
	base := g.scene(f, pins)
	orbits, of := base.places()
	for _, o := range orbits {
		p := of[o]
		class := g.served(p.device)
		if class < 0 || !f.up(g, p.device) {
			continue
		}
		s := base.with(p.device)
		k, err := s.walk(hostIn(g.classes[class].prefix), class)
		if rest, ok := err.(*Restless); ok {
			r.Restless = append(r.Restless, rest.Error())
			continue
		}
		if err != nil {
			return nil, err
		}
		linked := s.connected(int(s.at[p.device]))
		for n := range s.nodes {
			src := &s.nodes[n]
			if src.device == p.device || g.served(src.device) < 0 || !f.up(g, src.device) {
				continue
			}
			pairs := p.size * src.weight()
			if !linked[n] {
				r.Apart += pairs
				continue
			}
			r.Pairs += pairs
			r.add(s, k.from(n), pairs, n, p.device)
		}
	}
	return r, nil
}

// add counts pairs with the same fate.
func (r *Reach) add(s *scene, f fate, pairs, from, to int) {
	const nothing = 1e-9
	if f.lost < nothing {
		return
	}
	if f.lost > 1-nothing {
		r.Cut += pairs
	} else {
		r.Partly += pairs
	}
	if f.looping > 0 {
		r.Looping += pairs
	}
	if f.lost > r.Worst+nothing {
		r.Worst, r.From, r.To = f.lost, s.of(from).Name, s.devices[to].Name
		r.At, r.Why = s.of(f.at).Name, f.why
	}
}

// served is a class of endpoints of a device alone; -1 if it has none.
func (g *graph) served(d int) int {
	for _, c := range g.classesOf[d] {
		switch x := &g.classes[c]; {
		case len(x.origins) > 1:
		case x.kind == fabric.OriginEndpoints || x.isBlock():
			return c
		}
	}
	return -1
}

// walk is the forwarding of packets to an address, which belongs to a class or to none (-1).
func (s *scene) walk(to netip.Prefix, class int) (*walk, error) {
	k := &walk{scene: s, to: to, class: class, fates: make([]*fate, len(s.nodes)), onWay: make([]bool, len(s.nodes))}
	for _, i := range s.graph.over(to) {
		w, err := s.settle(i)
		if err != nil {
			return nil, err
		}
		k.over = append(k.over, w)
	}
	return k, nil
}

// WhatIf is the simulation of every failure of one thing, or of every two.
type WhatIf struct {
	Healthy Reach     `json:"healthy"`
	Cases   []Reach   `json:"cases"` // those of one thing, and of two those with loss
	Sums    []CaseSum `json:"sums"`
}

// Alike puts failures that come to the same into one.
func Alike(cases []Reach) (rows []Reach) {
	for _, c := range cases {
		i := slices.IndexFunc(rows, func(r Reach) bool {
			return r.Kind == c.Kind && r.Cut == c.Cut && r.Partly == c.Partly && r.Looping == c.Looping && r.Apart == c.Apart && r.Worst == c.Worst &&
				r.Why == c.Why && r.Notice == c.Notice && slices.Equal(r.Restless, c.Restless)
		})
		if i < 0 {
			rows = append(rows, c)
		} else {
			rows[i].Cases += c.Cases
		}
	}
	return rows
}

// CaseSum counts failures of one kind.
type CaseSum struct {
	Kind   string  `json:"kind"`
	Cases  int     `json:"cases"`
	Lossy  int     `json:"lossy"`
	MaxCut int     `json:"maxCut"`
	Worst  float64 `json:"worst"`
	Of     string  `json:"of,omitempty"` // the worst of them
}

// WhatIf simulates every failure of so many things at once, 1 or 2. Failures that are in the same place are
// simulated once, and counted.
func (s *Sim) WhatIf(things int) (*WhatIf, error) {
	if things < 1 || things > maxFailures {
		return nil, fmt.Errorf("%d failures at once: 1 or %d are simulated", things, maxFailures)
	}
	healthy, err := s.Reach(Failure{})
	if err != nil {
		return nil, err
	}
	out := &WhatIf{Healthy: *healthy}
	base := s.g.scene(Failure{}, nil)
	first := base.elements(nil)
	for i, e := range first {
		if err := out.add(s, Failure{}.with(e.element), e.kind, 2*e.many, true); err != nil {
			return nil, err
		}
		if things == 1 {
			continue
		}
		f := Failure{}.with(e.element)
		for _, e2 := range s.g.scene(f, nil).elements(base) {
			j := slices.IndexFunc(first, func(x failing) bool { return x.at == e2.at })
			if e2.element == e.element || j < i {
				continue
			}
			many := 2 * e.many * e2.many
			if j == i {
				many /= 2 // each pair comes twice
			}
			kind := e.kind + " + " + e2.kind
			if e.kind > e2.kind {
				kind = e2.kind + " + " + e.kind
			}
			if err := out.add(s, f.with(e2.element), kind, many, false); err != nil {
				return nil, err
			}
		}
	}
	for i := range out.Sums {
		out.Sums[i].Cases /= 2
		out.Sums[i].Lossy /= 2
	}
	return out, nil
}

// add simulates a failure, which stands for so many halves of a case.
func (w *WhatIf) add(s *Sim, f Failure, kind string, halves int, always bool) error {
	r, err := s.Reach(f)
	if err != nil {
		return err
	}
	r.Cases, r.Kind, r.Notice = (halves+1)/2, kind, s.g.notice(f)
	i := slices.IndexFunc(w.Sums, func(c CaseSum) bool { return c.Kind == kind })
	if i < 0 {
		i = len(w.Sums)
		w.Sums = append(w.Sums, CaseSum{Kind: kind})
	}
	c := &w.Sums[i]
	c.Cases += halves
	if !r.Whole() {
		c.Lossy += halves
		if r.Cut > c.MaxCut || r.Worst > c.Worst {
			c.Of = r.Failure
		}
		c.MaxCut, c.Worst = max(c.MaxCut, r.Cut), max(c.Worst, r.Worst)
	}
	if always || !r.Whole() {
		w.Cases = append(w.Cases, *r)
	}
	return nil
}

// failing is an element that stands for many that are in the same place.
type failing struct {
	element
	many int
	kind string // link or device
	at   failingAt
}

// failingAt is the place of an element.
type failingAt struct {
	orbit
	nth int // of the ports of the device; -1 for the device itself
	seg int // of a segment that fails as a whole, else -1
}

// elements are what can fail: cables, ports, switches and routers other than servers. Places are
// those of base, or of the scene itself.
func (s *scene) elements(base *scene) (list []failing) {
	if base == nil {
		base = s
	}
	index := map[failingAt]int{}
	add := func(e element, many int, kind string, here, at failingAt) {
		if i, ok := index[here]; ok {
			list[i].many += many
			return
		}
		index[here] = len(list)
		list = append(list, failing{e, many, kind, at})
	}
	for i := range s.nodes {
		n := &s.nodes[i]
		x := &s.devices[n.device]
		here, o := s.orbitOf(n.device), base.orbitOf(n.device)
		if x.Role != fabric.RoleServer && x.Role != fabric.RoleMachine {
			add(element{n.device, -1}, n.weight(), "device", failingAt{here, -1, -1}, failingAt{o, -1, -1})
		}
		if x.host != n.device {
			continue
		}
		for j, p := range x.ports {
			seg := &s.segs[p.seg]
			switch {
			case seg.isCable() && s.below(n.device, seg):
				add(element{-1, p.seg}, n.weight(), "link", failingAt{here, j, -1}, failingAt{o, j, -1})
			case !seg.isCable() && seg.carrier != n.device:
				add(element{n.device, p.seg}, n.weight(), "link", failingAt{here, j, -1}, failingAt{o, j, -1})
			}
		}
	}
	for i := range s.segs {
		if seg := &s.segs[i]; !seg.isCable() && seg.carrier < 0 && seg.rack < 0 && len(seg.members) > 0 {
			at := failingAt{nth: -1, seg: i}
			add(element{-1, i}, 1, "device", at, at)
		}
	}
	return list
}

// below tells whether a device is the end of a cable by which it is counted: the
// one nearer to the servers.
func (s *scene) below(d int, seg *segment) bool {
	other := seg.members[0]
	if other == d {
		other = seg.members[1]
	}
	height := func(d int) int {
		switch x := &s.devices[d]; {
		case x.leaf:
			return 0
		case x.rack >= 0:
			return 1
		}
		return 2
	}
	if a, b := height(d), height(other); a != b {
		return a < b
	}
	return d < other
}

// notice is after how long the last neighbour of what failed knows: at once where the carrier goes, after three
// lost packets of BFD, or when the hold time is over.
func (g *graph) notice(f Failure) (worst time.Duration) {
	for _, e := range f.list() {
		ends := []int{e.device}
		if e.device < 0 {
			ends = g.segs[e.seg].members
		}
		for _, d := range ends {
			for _, h := range g.devices[d].halfs {
				if h.seg < 0 || e.seg >= 0 && h.seg != e.seg || g.segs[h.seg].isCable() {
					continue
				}
				worst = max(worst, g.profs[h.peerProf].notice())
				if e.seg >= 0 {
					worst = max(worst, g.profs[h.prof].notice())
				}
			}
			for _, m := range g.devices[d].mesh {
				if e.seg < 0 || g.meshes[m].seg == e.seg {
					worst = max(worst, g.profs[g.meshes[m].prof].notice())
				}
			}
		}
	}
	return worst
}

// notice is after how long a session ends whose peer is silent.
func (p *profile) notice() time.Duration {
	const packets = 3
	if p.BFD.On() {
		return packets * time.Duration(p.BFD)
	}
	if p.Hold.On() {
		return time.Duration(p.Hold)
	}
	return 90 * time.Second // RFC 4271 section 10
}
