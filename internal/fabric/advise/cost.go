// SPDX-License-Identifier: Apache-2.0

package advise

import (
	"fmt"
	"sort"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Row is a fabric at one size.
type Row struct {
	Racks     int `json:"racks"`
	Servers   int `json:"servers"`
	Endpoints int `json:"endpoints"`
	Sessions  int `json:"sessions"`
	Updates   int `json:"updates"` // messages in all of the fabric for one endpoint
	// Fullest is the device of each role that has most in its table.
	Fullest []fabric.Entries `json:"fullest,omitempty"`
	// Limits are what is exceeded.
	Limits []string `json:"limits,omitempty"`
}

// Of is the fullest device of a role; nil if there is none.
func (r *Row) Of(role fabric.Role) *fabric.Entries {
	for i := range r.Fullest {
		if r.Fullest[i].Role == role {
			return &r.Fullest[i]
		}
	}
	return nil
}

// Growth is a fabric at several sizes, and where it stops.
type Growth struct {
	Rows []Row `json:"rows"`
	// First is the smallest number of racks at which something is exceeded, up to the largest that was
	// asked for; 0 if nothing is.
	First  int      `json:"first,omitempty"`
	Limits []string `json:"limits,omitempty"` // there
	// Known tells whether anything is known of what devices hold.
	Known bool `json:"known"`
}

// Cost is the fabric with these numbers of racks, in ascending order.
func Cost(f *fabric.Fabric, racks []int) *Growth {
	g := &Growth{}
	for _, n := range racks {
		row, known := at(f, n)
		g.Rows, g.Known = append(g.Rows, row), g.Known || known
	}
	last := len(g.Rows) - 1
	if g.Rows[last].Limits == nil {
		return g
	}
	// What a device holds only grows with racks: the first row with a limit bounds the search.
	high := sort.Search(last, func(i int) bool { return g.Rows[i].Limits != nil })
	low := 1
	if high > 0 {
		low = g.Rows[high-1].Racks + 1
	}
	g.First = low + sort.Search(g.Rows[high].Racks-low, func(n int) bool {
		row, _ := at(f, low+n)
		return row.Limits != nil
	})
	row, _ := at(f, g.First)
	g.Limits = row.Limits
	return g
}

// at is the fabric with so many racks; known tells whether anything is known of what its
// devices hold.
func at(f *fabric.Fabric, racks int) (row Row, known bool) {
	row.Racks = racks
	v, err := f.Variant(func(s *fabric.Spec) { s.Resize(racks) })
	if err != nil {
		row.Limits = []string{err.Error()}
		return row, true
	}
	x := v.Design().Index()
	row.Servers, row.Endpoints, row.Sessions = racks*v.Spec.Servers.PerRack, racks*v.Spec.Servers.PerRack*v.Spec.Endpoints.PerServer, x.Sessions()
	list, updates, _ := x.Entries()
	row.Updates = updates
	for _, e := range list {
		known = known || e.Holds > 0 || e.RAM > 0
		if over := exceeded(x, &e); over != nil {
			known = true
			row.Limits = append(row.Limits, over...)
		}
		if most := row.Of(e.Role); most == nil {
			row.Fullest = append(row.Fullest, e)
		} else if e.Used > most.Used || e.Used == most.Used && e.Paths > most.Paths {
			*most = e
		}
	}
	return row, known
}

// exceeded are the limits of a device that it is beyond.
func exceeded(x *fabric.Index, e *fabric.Entries) (list []string) {
	say := func(format string, v ...any) { list = append(list, e.Device+": "+fmt.Sprintf(format, v...)) }
	switch holds := int(e.Holds); {
	case holds == 0:
	case e.Used > holds:
		say("%s of %s entries", fabric.Number(e.Used), fabric.Number(holds))
	case e.Grown > holds:
		say("%s of %s entries with growth", fabric.Number(e.Grown), fabric.Number(holds))
	}
	if e.RAM > 0 && e.Memory > e.RAM {
		say("%s paths, %.1f of %.1f GB", fabric.Number(e.Paths), float64(e.Memory)/1e9, float64(e.RAM)/1e9)
	}
	if p := x.Platform(e.Platform); p != nil && p.Peers > 0 && e.Peers > int(p.Peers) {
		say("%s of %s peers", fabric.Number(e.Peers), fabric.Number(int(p.Peers)))
	}
	return list
}
