// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"slices"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/fabric"
)

// Table is what a device holds, exactly. Devices that hold the same share a Table.
type Table struct {
	Device  string      `json:"device"` // one of them
	Devices int         `json:"devices"`
	Role    fabric.Role `json:"role"`
	Rack    string      `json:"rack,omitempty"`
	Peers   int         `json:"peers"`
	// Paths are those that can be used, those of the device itself among them.
	Paths int `json:"paths"`
	// Unusable are accepted paths whose next hop is not on a segment of the device.
	Unusable int `json:"unusable,omitempty"`
	// Refused are paths that were sent and refused, by reason.
	Refused map[string]int `json:"refused,omitempty"`
	FIB     int            `json:"fib"` // prefixes that are routed elsewhere
	// Endpoints are those of FIB that lead to endpoints, and Hosts those of them that are single addresses.
	Endpoints int `json:"endpoints"`
	Hosts     int `json:"hosts"`
	Local     int `json:"local"` // prefixes of the device itself
	Width     int `json:"width"` // of the widest ECMP group
	// Looped are prefixes of endpoints that it has no route to, since it finds its own AS number in each path that it is sent
	// (RFC 4271 section 9.1.2).
	Looped int `json:"looped,omitempty"`
	// Uneven are prefixes with paths that are not used together only since their AS numbers differ.
	Uneven int `json:"uneven,omitempty"`
}

// Tables are what all devices hold, and what one change costs.
type Tables struct {
	Family  fabric.Family `json:"family"`
	Devices []Table       `json:"devices"`
	// Updates are the UPDATE messages, in the whole fabric, for one endpoint or block that comes or goes: the
	// most that any causes. What a peer must refuse as a loop is not
	// counted.
	Updates int `json:"updates"`
	// Simulated are the classes that were looked at, of Classes that there are.
	Simulated int `json:"simulated"`
	Classes   int `json:"classes"`

	of func(device string) (representative string)
}

// Of is the table of a device.
func (t *Tables) Of(device string) (Table, bool) {
	name := t.of(device)
	for _, x := range t.Devices {
		if x.Device == name && name != "" {
			x.Device, x.Devices = device, 1
			return x, true
		}
	}
	return Table{}, false
}

// Like is the device that stands for another, in the same place; empty if it is not there.
func (t *Tables) Like(device string) string { return t.of(device) }

// Tables simulates every class. It fails if one does not come to rest.
func (s *Sim) Tables(f Failure) (out *Tables, err error) {
	err = s.g.run(func(pins []int) error {
		out, err = s.g.tables(f, pins)
		return err
	})
	return out, err
}

func (g *graph) tables(f Failure, pins []int) (*Tables, error) {
	base := g.scene(f, pins)
	orbits, of := base.places()
	sum := map[orbit]*Table{}
	for _, o := range orbits {
		x := &g.devices[of[o].device]
		sum[o] = &Table{Device: x.Name, Devices: of[o].size, Role: x.Role, Rack: x.Rack, Refused: map[string]int{}}
	}
	for i := range base.nodes {
		t := sum[base.orbitOf(base.nodes[i].device)]
		for _, e := range base.nodes[i].edges {
			t.Peers += base.nodes[i].weight() * e.many
		}
	}
	out := &Tables{Family: g.family, Classes: len(g.classes), of: func(name string) string {
		if d, ok := g.deviceOf[name]; ok {
			return g.devices[of[base.orbitOf(d)].device].Name
		}
		return ""
	}}
	for _, sub := range base.subjects() {
		c := &g.classes[sub.class]
		s := base.with(c.origins...)
		w, err := s.settle(sub.class)
		if err != nil {
			return nil, err
		}
		out.Simulated++
		updates := 0
		for n := range s.nodes {
			w.count(n, sub.many*c.count*s.nodes[n].weight(), c, sum[base.orbitOf(s.nodes[n].device)])
			updates += s.nodes[n].weight() * w.updates(n)
		}
		if c.kind == fabric.OriginEndpoints || c.kind == fabric.OriginBlock {
			out.Updates = max(out.Updates, updates)
		}
	}
	for _, o := range orbits {
		t := sum[o]
		for _, v := range []*int{&t.Peers, &t.Paths, &t.Unusable, &t.FIB, &t.Endpoints, &t.Hosts, &t.Local, &t.Looped, &t.Uneven} {
			*v /= t.Devices // all of them have the same
		}
		for why := range t.Refused {
			t.Refused[why] /= t.Devices
		}
		out.Devices = append(out.Devices, *t)
	}
	slices.SortFunc(out.Devices, func(a, b Table) int { return cmp.Compare(g.deviceOf[a.Device], g.deviceOf[b.Device]) })
	return out, nil
}

// count adds so many times what a node holds of the class.
func (w *spread) count(n, times int, c *class, t *Table) {
	st := &w.state[n]
	for k := range st.in {
		many := times * w.nodes[n].edges[k].many
		for _, a := range st.in[k] {
			switch {
			case a.refused != bgp.Accepted:
				t.Refused[a.refused.String()] += many
			case a.on.node < 0:
				t.Unusable += many
			default:
				t.Paths += many
			}
		}
	}
	if st.own {
		t.Paths += times
		t.Local += times
	}
	if toEndpoints(c.kind) && w.looped(n) {
		t.Looped += times
	}
	if st.uneven {
		t.Uneven += times
	}
	width := 0
	for _, x := range w.ways(n) {
		width += x.many
	}
	if width > 0 {
		t.FIB += times
		if toEndpoints(c.kind) {
			t.Endpoints += times
			if c.prefix.IsSingleIP() {
				t.Hosts += times
			}
		}
		t.Width = max(t.Width, width)
	}
}

// looped tells whether a node has no route since its own AS number is in the paths that it is sent.
func (w *spread) looped(n int) bool {
	own := w.devices[w.nodes[n].device].AS
	return w.state[n].best < 0 && slices.ContainsFunc(w.state[n].in, func(list []arrival) bool {
		return slices.ContainsFunc(list, func(a arrival) bool {
			return a.refused == bgp.RefusedLoop && slices.Contains(a.received.Path(), own)
		})
	})
}

func toEndpoints(k fabric.OriginKind) bool {
	switch k {
	case fabric.OriginEndpoints, fabric.OriginBlock, fabric.OriginRack, fabric.OriginAnycast, fabric.OriginMoved, fabric.OriginStatic:
		return true
	}
	return false
}

// updates are the messages that a node sends.
func (w *spread) updates(n int) (sum int) {
	for k, told := range w.state[n].told {
		e := w.nodes[n].edges[k]
		if len(told) == 0 {
			continue
		}
		heard := w.state[e.to].in[e.back]
		if !slices.ContainsFunc(heard, func(a arrival) bool { return a.refused == bgp.Accepted || a.refused == bgp.RefusedFilter }) {
			continue
		}
		sum += e.many
	}
	return sum
}
