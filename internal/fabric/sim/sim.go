// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Sim is a design prepared for simulation, for one address family. It may be
// used by several goroutines.
type Sim struct{ g *graph }

// New prepares a design. An error names what in it does not fit together.
func New(d *fabric.Design, family fabric.Family) (*Sim, error) {
	g, err := newGraph(d, family)
	if err != nil {
		return nil, fmt.Errorf("design %q: %w", d.Metadata.Name, err)
	}
	return &Sim{g}, nil
}

// Problems are the sessions of the design that never come up.
func (s *Sim) Problems() []string { return s.g.problems }

// Failure reads what is down: names of devices, segments and switches, or A-B for the link or port between two; two at most.
func (s *Sim) Failure(names ...string) (f Failure, err error) {
	for _, name := range names {
		e, err := s.g.parseElement(name)
		if err != nil {
			return f, err
		}
		if f.count == maxFailures {
			return f, fmt.Errorf("%d things fail at once at most", maxFailures)
		}
		if !slices.Contains(f.list(), e) {
			f = f.with(e)
		}
	}
	return f, nil
}

// Name is what a person calls a failure.
func (s *Sim) Name(f Failure) string { return s.g.failureName(f) }

// Notice is after how long the last neighbour of what is down knows; 0 is at once.
func (s *Sim) Notice(f Failure) time.Duration { return s.g.notice(f) }

// Endpoint is the first endpoint that a device alone has.
func (s *Sim) Endpoint(device string) (netip.Addr, bool) {
	if d, ok := s.g.deviceOf[device]; ok {
		if c := s.g.served(d); c >= 0 {
			return s.g.classes[c].prefix.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// errMany is that a device won an election although it is one of many.
type errMany struct{ device int }

func (errMany) Error() string { return "a device is to be looked at by itself" }

// Restless is the error that some routes never come to rest.
type Restless struct {
	Prefix  netip.Prefix
	Devices []string // each with what it alternates between
}

func (r *Restless) Error() string {
	return fmt.Sprintf("no stable state for %s: %v", r.Prefix, r.Devices)
}

// run does something that looks at scenes, with ever more devices looked at by
// themselves, until no election depends on one of many.
func (g *graph) run(do func(pins []int) error) error {
	var pins []int
	for {
		err := do(pins)
		var many errMany
		if !errors.As(err, &many) {
			return err
		}
		if slices.Contains(pins, many.device) {
			return fmt.Errorf("%s wins elections, although it is looked at by itself", g.devices[many.device].Name)
		}
		pins = append(pins, many.device)
	}
}

// settle lets a class spread over a scene until it rests.
func (s *scene) settle(class int) (*spread, error) {
	w := s.rests[class]
	if w == nil {
		var many int
		if w, many = s.spread(class); many >= 0 {
			return nil, errMany{many}
		}
		s.rests[class] = w
	}
	if w.restless != nil {
		return nil, &Restless{s.classes[class].prefix, w.restless}
	}
	return w, nil
}

// orbit is devices that are in the same place, under the same failure.
type orbit struct {
	rack, kind int // the rack, or the kind of racks and -1
	head       int // slot, or -1 for a leaf
	leaf, rank int // kind of leaves, and which of them: 2 is any of the rest
	device     int // one that is looked at by itself; else -1
}

// orbitOf says in which place a device is; the scene is one that nothing but the failure
// and what wins elections is pointed at in.
func (s *scene) orbitOf(d int) orbit {
	x := &s.devices[d]
	if x.rack < 0 || s.pinned[d] {
		return orbit{device: d}
	}
	r := &s.racks[x.rack]
	o := orbit{rack: x.rack, head: -1, device: -1}
	if !s.kinds.of[r.kind].first[x.rack] && !s.pinnedRack[x.rack] {
		o.rack, o.kind = -1, r.kind
	}
	if !x.leaf {
		o.head = x.slot
		return o
	}
	p := r.leaf[x.slot]
	o.leaf, o.rank = p.kind, min(p.rank, 2)
	return o
}

// place is an orbit with one device of it.
type place struct {
	device int
	size   int
}

// places are the orbits of a scene.
func (s *scene) places() (list []orbit, of map[orbit]*place) {
	of = map[orbit]*place{}
	for i := range s.nodes {
		n := &s.nodes[i]
		o := s.orbitOf(n.device)
		if of[o] == nil {
			of[o] = &place{device: n.device}
			list = append(list, o)
		}
		of[o].size += n.weight()
	}
	return list, of
}

// subject is a class that stands for many that have the same fate.
type subject struct {
	class int
	many  int
}

// subjects are the classes of a scene, each standing for those that the other
// devices of an orbit originate.
func (s *scene) subjects() (list []subject) {
	orbits, of := s.places()
	seen := map[int]bool{}
	for _, o := range orbits {
		p := of[o]
		for _, c := range s.classesOf[p.device] {
			switch {
			case len(s.classes[c].origins) == 1:
				list = append(list, subject{c, p.size})
			case !seen[c]:
				seen[c] = true
			}
		}
	}
	for c := range s.classes {
		if seen[c] || len(s.classes[c].origins) == 0 {
			list = append(list, subject{c, 1})
		}
	}
	return list
}
