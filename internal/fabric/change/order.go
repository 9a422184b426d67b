// SPDX-License-Identifier: Apache-2.0

package change

import (
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// Change is the way from one design to another.
type Change struct {
	From string `json:"from"` // in one line
	To   string `json:"to"`
	// Servers is how many are in both, between which what is lost is counted.
	Servers int `json:"servers"`
	// Ends are families that the first routes alone: what they carry ends on the way, and is not counted.
	Ends   []fabric.Family `json:"ends,omitempty"`
	Before State           `json:"before"`
	Steps  []Step          `json:"steps"`
	After  State           `json:"after"` // with what is new in use
}

// Step is one group, whose devices follow one another.
type Step struct {
	*Group
	// Worst of the states while they do: behind the first, half of them, and all.
	Worst State `json:"worst"`
}

// State is what traffic does at one moment, between the servers that are in both designs.
type State struct {
	Done   int           `json:"done"`             // of the devices of the step
	Family fabric.Family `json:"family,omitempty"` // the worse one
	sim.Reach
}

// loss orders states. Pairs between which there is no cable at the moment have lost
// everything, too.
func (s *State) loss() int {
	n := 2*(s.Cut+s.Apart) + s.Partly
	if s.Restless != nil {
		n++
	}
	return n
}

// Plan finds the order.
func Plan(a, b *fabric.Design) (*Change, error) {
	m, err := newMix(a.Index(), b.Index())
	if err != nil {
		return nil, err
	}
	c := &Change{From: a.Summary(), To: b.Summary(), Servers: m.servers(), Steps: []Step{}}
	for _, f := range a.Families {
		if !slices.Contains(b.Families, f) {
			c.Ends = append(c.Ends, f)
		}
	}
	if c.Before, err = judge(a); err != nil {
		return nil, err
	}
	if c.After, err = judge(b); err != nil {
		return nil, err
	}
	left, done := compare(m.a, m.b), map[string]bool{}
	for len(left) > 0 {
		var best State
		at := -1
		for i, g := range left {
			worst, err := m.try(g, done)
			if err != nil {
				return nil, err
			}
			if at < 0 || worst.loss() < best.loss() {
				at, best = i, worst
			}
			if best.loss() == 0 {
				break
			}
		}
		g := left[at]
		for _, d := range g.Devices {
			done[d] = true
		}
		c.Steps = append(c.Steps, Step{g, best})
		left = slices.Delete(left, at, at+1)
	}
	return c, nil
}

// Counted tells whether there is anything between which losses are counted: else nobody knows what is lost.
func (c *Change) Counted() bool { return c.Servers > 0 || len(c.Steps) == 0 }

// Lossless tells whether nothing is lost on the way.
func (c *Change) Lossless() bool {
	return c.Counted() && c.After.loss() == 0 && !slices.ContainsFunc(c.Steps, func(s Step) bool { return s.Worst.loss() > 0 })
}

// try is the worst state while the devices of a group follow one another.
func (m *mix) try(g *Group, done map[string]bool) (worst State, err error) {
	n := len(g.Devices)
	for i, many := range slices.Compact([]int{1, (n + 1) / 2, n}) {
		now := map[string]bool{}
		for d := range done {
			now[d] = true
		}
		for _, d := range g.Devices[:many] {
			now[d] = true
		}
		s, err := judge(m.at(now))
		if err != nil {
			return worst, err
		}
		s.Done = many
		if i == 0 || s.loss() > worst.loss() {
			worst = s
		}
	}
	return worst, nil
}

// judge simulates a design in each of its families.
func judge(g *fabric.Design) (worst State, err error) {
	for i, family := range g.Families {
		s, err := sim.New(g, family)
		if err != nil {
			return worst, err
		}
		r, err := s.Reach(sim.Failure{})
		if err != nil {
			return worst, err
		}
		if now := (State{Family: family, Reach: *r}); i == 0 || now.loss() > worst.loss() {
			worst = now
		}
	}
	return worst, nil
}
