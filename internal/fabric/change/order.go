// SPDX-License-Identifier: Apache-2.0

package change

import (
	"maps"
	"math"
	"math/bits"
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
	// Worst of the states while they do: in a small fabric behind each of them, else behind the first, half of them, and all.
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

// Plan finds the order: in a small fabric with few steps the best, else step by step.
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
	groups := compare(m.a, m.b)
	if c.Steps, err = m.greedy(groups); err != nil || !m.small() {
		return c, err
	}
	if len(groups) <= maxOrdered {
		if c.Steps, err = m.least(groups, c.Steps); err != nil {
			return nil, err
		}
	}
	return c, m.refine(c.Steps)
}

// Where there are few steps in a small fabric, no order of them loses less than the one that is found.
const (
	smallFabric = 128 // devices
	maxOrdered  = 6   // steps
	maxCounted  = 8   // devices of a step, of which each count is judged while an order is looked for
)

// small tells whether there is time to simulate much.
func (m *mix) small() bool { return max(len(m.a.Devices), len(m.b.Devices)) <= smallFabric }

// greedy takes the group next that loses least at once, the first of several.
func (m *mix) greedy(groups []*Group) ([]Step, error) {
	left, done, steps := slices.Clone(groups), map[string]bool{}, []Step{}
	for len(left) > 0 {
		var best State
		at, limit := -1, math.MaxInt
		for i, g := range left {
			worst, err := m.try(g, done, m.counts(g), limit)
			if err != nil {
				return nil, err
			}
			if worst.loss() < limit {
				at, best, limit = i, worst, worst.loss()
			}
			if limit == 0 {
				break
			}
		}
		g := left[at]
		for _, d := range g.Devices {
			done[d] = true
		}
		steps = append(steps, Step{g, best})
		left = slices.Delete(left, at, at+1)
	}
	return steps, nil
}

// total is what the steps lose together.
func total(steps []Step) (n int) {
	for i := range steps {
		n += steps[i].Worst.loss()
	}
	return n
}

// reached is what it takes to have some groups done.
type reached struct {
	lost  int
	last  int // the group that came last; -1 if there is no way yet
	worst State
	final bool
}

// least finds the order that loses least in all, or keeps the given one if none loses less. It is the shortest path
// over the sets of groups that are done (Dijkstra): an order matters only by what was done before each.
func (m *mix) least(groups []*Group, steps []Step) ([]Step, error) {
	all := 1<<len(groups) - 1
	sets := make([]reached, all+1)
	for i := range sets {
		sets[i] = reached{lost: total(steps), last: -1}
	}
	sets[0].lost = 0
	for {
		at := -1
		for i := range sets {
			s := &sets[i]
			if s.final || s.lost >= sets[all].lost && i != all || s.last < 0 && i != 0 {
				continue
			}
			// Of equal ones that with more groups: it is nearer to the end.
			if at < 0 || s.lost < sets[at].lost || s.lost == sets[at].lost && bits.OnesCount(uint(i)) > bits.OnesCount(uint(at)) {
				at = i
			}
		}
		if at < 0 {
			return steps, nil
		}
		if at == all {
			break
		}
		sets[at].final = true
		done := map[string]bool{}
		for i, g := range groups {
			for _, d := range g.Devices {
				if at&(1<<i) != 0 {
					done[d] = true
				}
			}
		}
		for i, g := range groups {
			to := at | 1<<i
			limit := min(sets[to].lost, sets[all].lost) - sets[at].lost
			if to == at || limit <= 0 {
				continue
			}
			worst, err := m.try(g, done, m.counts(g), limit)
			if err != nil {
				return nil, err
			}
			if worst.loss() < limit {
				sets[to] = reached{lost: sets[at].lost + worst.loss(), last: i, worst: worst}
			}
		}
	}
	steps = nil
	for at := all; at != 0; at &^= 1 << sets[at].last {
		steps = append(steps, Step{groups[sets[at].last], sets[at].worst})
	}
	slices.Reverse(steps)
	return steps, nil
}

// refine judges each count of the larger steps.
func (m *mix) refine(steps []Step) error {
	done := map[string]bool{}
	for i := range steps {
		s := &steps[i]
		if n := len(s.Devices); n > maxCounted {
			var err error
			if s.Worst, err = m.try(s.Group, done, each(n), math.MaxInt); err != nil {
				return err
			}
		}
		for _, d := range s.Devices {
			done[d] = true
		}
	}
	return nil
}

// Counted tells whether there is anything between which losses are counted: else nobody knows what is lost.
func (c *Change) Counted() bool { return c.Servers > 0 || len(c.Steps) == 0 }

// Lossless tells whether nothing is lost on the way.
func (c *Change) Lossless() bool {
	return c.Counted() && c.After.loss() == 0 && !slices.ContainsFunc(c.Steps, func(s Step) bool { return s.Worst.loss() > 0 })
}

// each is all counts of n devices.
func each(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i + 1
	}
	return list
}

// counts are how many devices of a group have changed in the states that are judged.
func (m *mix) counts(g *Group) []int {
	n := len(g.Devices)
	if n <= maxCounted && m.small() {
		return each(n)
	}
	return slices.Compact([]int{1, (n + 1) / 2, n})
}

// try is the worst state while the devices of a group follow one another; it ends where as much is lost as the limit.
func (m *mix) try(g *Group, done map[string]bool, counts []int, limit int) (worst State, err error) {
	now := maps.Clone(done)
	for i, many := range counts {
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
		if worst.loss() >= limit {
			break
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
