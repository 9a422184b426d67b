// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// Failure is what is down: the zero value is a healthy fabric. Failures can be compared.
type Failure struct {
	elements [2]element
	count    int
}

// element is one thing that can fail: a device, with the segments that it carries; a
// segment, which is a cable or the switch of a plane; or the port of a device on a segment of many.
type element struct {
	device, seg int // -1 for none
}

// maxFailures is how many things can be down at once.
const maxFailures = len(Failure{}.elements)

func (f Failure) with(e element) Failure {
	f.elements[f.count] = e
	f.count++
	return f
}

func (f *Failure) list() []element { return f.elements[:f.count] }

// up tells whether a device works.
func (f *Failure) up(g *graph, d int) bool {
	for _, e := range f.list() {
		if e.seg < 0 && (e.device == d || e.device == g.devices[d].on) {
			return false
		}
	}
	return true
}

// segUp tells whether a segment works.
func (f *Failure) segUp(g *graph, seg int) bool {
	for _, e := range f.list() {
		if e.device < 0 && e.seg == seg || e.seg < 0 && e.device == g.segs[seg].carrier {
			return false
		}
	}
	return true
}

// reaches tells whether a device has a working port on a working segment.
func (f *Failure) reaches(g *graph, d, seg int) bool {
	if f.count == 0 {
		return true
	}
	host := g.devices[d].host
	return f.up(g, d) && f.segUp(g, seg) && !slices.Contains(f.list(), element{host, seg})
}

// touched are the devices that a failure tells apart from others of their kind.
func (f *Failure) touched(g *graph) (list []int) {
	for _, e := range f.list() {
		if e.device >= 0 {
			list = append(list, e.device)
		}
		if e.seg >= 0 && e.device < 0 && len(g.segs[e.seg].members) == 2 {
			list = append(list, g.segs[e.seg].members...)
		}
	}
	return list
}

// elementName is what a person calls it.
func (g *graph) elementName(e element) string {
	switch {
	case e.seg < 0:
		return g.devices[e.device].Name
	case e.device >= 0:
		s := &g.segs[e.seg]
		if s.carrier >= 0 {
			return g.devices[s.carrier].Name + "-" + g.devices[e.device].Name
		}
		return g.devices[e.device].Name + "-" + s.Name
	}
	if s := &g.segs[e.seg]; s.isCable() {
		name := g.devices[s.members[0]].Name + "-" + g.devices[s.members[1]].Name
		if _, taken := g.deviceOf[name]; !taken { // spine0-a and t0, or spine0 and a-t0
			return name
		}
	}
	return g.segs[e.seg].Name
}

func (s *segment) isCable() bool { return s.carrier < 0 && s.Switch == "" && len(s.members) == 2 }

// Healthy is the name of no failure.
const Healthy = "healthy"

func (g *graph) failureName(f Failure) string {
	var names []string
	for _, e := range f.list() {
		names = append(names, g.elementName(e))
	}
	if len(names) == 0 {
		return Healthy
	}
	return strings.Join(names, " + ")
}

// parseElement reads what a person wrote: a device, a segment, its switch, or two of these
// with a dash between them.
func (g *graph) parseElement(name string) (element, error) {
	if name == "" { // as a link's switch is called
		return element{}, fmt.Errorf("what fails has no name: name a device, a segment, or two that are connected with a dash between them")
	}
	if d, ok := g.deviceOf[name]; ok {
		return element{d, -1}, nil
	}
	for i := range g.segs {
		if s := &g.segs[i]; s.Name == name || s.Switch == name && s.carrier < 0 {
			return element{-1, i}, nil
		}
	}
	for i := range name {
		if name[i] != '-' {
			continue
		}
		for _, pair := range [][2]string{{name[:i], name[i+1:]}, {name[i+1:], name[:i]}} {
			if e, ok := g.between(pair[0], pair[1]); ok {
				return e, nil
			}
		}
	}
	if best := v3.Nearest(name, g.elementNames()); best != "" {
		return element{}, fmt.Errorf("nothing is called %q: did you mean %q?", name, best)
	}
	return element{}, fmt.Errorf("nothing is called %q: name a device, a segment, or two that are connected with a dash between them", name)
}

// elementNames are those of devices, segments and switches.
func (g *graph) elementNames() (names []string) {
	for d := range g.devices {
		names = append(names, g.devices[d].Name)
	}
	for i := range g.segs {
		names = append(names, g.elementName(element{-1, i}))
		if s := &g.segs[i]; s.Switch != "" {
			names = append(names, s.Switch)
		}
	}
	return names
}

// between is the cable of two devices, or the port of a device on a segment or towards its switch.
func (g *graph) between(a, b string) (element, bool) {
	d, ok := g.deviceOf[a]
	if !ok {
		return element{}, false
	}
	for _, p := range g.devices[d].ports {
		s := &g.segs[p.seg]
		other, isDevice := g.deviceOf[b]
		switch {
		case s.isCable() && isDevice && slices.Contains(s.members, other) && other != d:
			return element{-1, p.seg}, true
		case !s.isCable() && (s.Name == b || s.Switch == b && b != "" && s.carrier != d):
			return element{d, p.seg}, true
		}
	}
	return element{}, false
}
