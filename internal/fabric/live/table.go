// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// Table is what a device has for each prefix, of one family: by the simulation,
// or in truth.
type Table map[netip.Prefix]*Entry

// Entry is the RIB and the FIB of a device for a prefix.
type Entry struct {
	// Own: the device originates it.
	Own bool
	// Paths are those that were accepted.
	Paths []Path
	// Via are the members of the ECMP group, as Via writes them.
	Via []string
	// Delivered: packets go to an endpoint of the device.
	Delivered bool
}

// At is the entry for a prefix, made if there is none.
func (t Table) At(p netip.Prefix) *Entry {
	if t[p] == nil {
		t[p] = &Entry{}
	}
	return t[p]
}

// Path is a path in terms of the design.
type Path struct {
	From    string // who sent it
	NextHop string // who is at its next hop
	ASPath  []uint32
	// Unusable: the next hop is on no segment of the device; with FRR also if its port there is down.
	Unusable bool
}

func (p Path) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "from %s", p.From)
	if p.NextHop != p.From {
		fmt.Fprintf(&b, " with next hop %s", p.NextHop)
	}
	if p.Unusable {
		b.WriteString(", unusable")
	}
	fmt.Fprintf(&b, " %v", p.ASPath)
	return b.String()
}

// Via writes a next hop of a FIB.
func Via(device, segment string) string { return device + " on " + segment }

// rib is what the entry has of BGP, in words and in order.
func (e *Entry) rib() (list []string) {
	for _, p := range e.Paths {
		list = append(list, p.String())
	}
	slices.Sort(list)
	if e.Own {
		list = append([]string{"own"}, list...)
	}
	return list
}

// FIB is where the entry sends packets, in words and in order.
func (e *Entry) FIB() []string {
	list := slices.Compact(slices.Sorted(slices.Values(e.Via)))
	if e.Delivered {
		list = append([]string{"its endpoint"}, list...)
	}
	return list
}

// Expect is what a device has by the routes that the simulation says, with each peer by itself.
func Expect(routes []sim.Route, n *Names, d *fabric.Device, family fabric.Family) Table {
	t := Table{}
	for _, r := range routes {
		// FRR and BIRD tell their peers of a default route without using it.
		e := Entry{Own: r.Local && (r.Prefix.Bits() > 0 || d.Software == fabric.Muslin)}
		for _, p := range r.Paths {
			if p.Refused == "" || p.Unusable && d.Software != fabric.BIRD { // else it is in no RIB
				e.Paths = append(e.Paths, Path{p.From, n.Device(p.NextHop, p.From), p.ASPath, p.Unusable && says(d, p.NextHop)})
			}
		}
		for _, v := range r.Via {
			// A reflector forwards nothing, and keeps routes out of its kernel. A learned route to a subnet that a device is on
			// is written by vRouters alone.
			if d.Role != fabric.RoleReflector && (d.Software == fabric.Muslin || !attached(d, r.Prefix)) {
				e.Via = append(e.Via, Via(v.Device, v.Segment))
			}
		}
		if !e.Own && len(e.Paths)+len(e.Via) == 0 {
			continue
		}
		for p := range fabric.Consecutive(r.Prefix, r.Count) {
			t[p] = &e
		}
	}
	// Whatever a server announces, it has a route to each of its endpoints.
	for _, p := range endpointsOf(d, family) {
		e := Entry{}
		if t[p] != nil {
			e = *t[p]
		}
		e.Delivered = true
		t[p] = &e
	}
	return t
}

// says tells whether what a device lists shows that a path with a next hop it cannot use is unusable. A vRouter's list does
// not, and is judged by subnets: that a port is down shows in its kernel alone.
func says(d *fabric.Device, nextHop netip.Addr) bool {
	return d.Software != fabric.Muslin || !onLink(d, nextHop)
}

// endpointsOf are those of a device, each by itself.
func endpointsOf(d *fabric.Device, family fabric.Family) (list []netip.Prefix) {
	if d.Role == fabric.RoleMachine {
		return nil // they are addresses of the machine itself
	}
	for _, o := range d.Originate {
		a, count := o.Prefix.Addr(), 0
		switch {
		case fabric.FamilyOf(a) != family:
		case o.Kind == fabric.OriginEndpoints, o.Kind == fabric.OriginAnycast, o.Kind == fabric.OriginMoved:
			count = o.Count
		case o.Kind == fabric.OriginBlock:
			count = o.Endpoints
		}
		list = slices.AppendSeq(list, fabric.Consecutive(netip.PrefixFrom(a, a.BitLen()), count))
	}
	return list
}

// Difference is where a device and the simulation disagree.
type Difference struct {
	Device    string       `json:"device"`
	Prefix    netip.Prefix `json:"prefix"`
	Table     string       `json:"table"` // RIB or FIB
	Simulated []string     `json:"simulated"`
	Real      []string     `json:"real"`
}

func (d Difference) String() string {
	return fmt.Sprintf("%s %s %s: simulated: %s; real: %s", d.Device, d.Prefix, d.Table, words(d.Simulated, "nothing"), words(d.Real, "nothing"))
}

// Comparison is how devices and the simulation agree.
type Comparison struct {
	Devices int `json:"devices"`
	// Paths and Routes are how many were compared: those that either has.
	Paths       int          `json:"paths"`
	Routes      int          `json:"routes"`
	Differences []Difference `json:"differences"`
}

// Summary is the comparison in a line.
func (c *Comparison) Summary() string {
	return fmt.Sprintf("%d devices, %d paths and %d routes compared with the simulation, %d differences", c.Devices, c.Paths, c.Routes, len(c.Differences))
}

// Compare holds two tables of a device against each other.
func Compare(device string, want, got Table) (c Comparison) {
	for _, p := range prefixes(want, got) {
		w, g := entries(want, got, p)
		if wr, gr := w.rib(), g.rib(); len(wr)+len(gr) > 0 {
			c.Paths += max(len(wr), len(gr))
			if !slices.Equal(wr, gr) {
				c.Differences = append(c.Differences, Difference{device, p, "RIB", wr, gr})
			}
		}
		if wf, gf := w.FIB(), g.FIB(); len(wf)+len(gf) > 0 {
			c.Routes++
			if !slices.Equal(wf, gf) {
				c.Differences = append(c.Differences, Difference{device, p, "FIB", wf, gf})
			}
		}
	}
	return c
}

// prefixes are those of two tables, in order.
func prefixes(a, b Table) (list []netip.Prefix) {
	for p := range a {
		list = append(list, p)
	}
	for p := range b {
		if a[p] == nil {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return list
}

// entries are those of a prefix, empty where there is none.
func entries(a, b Table, p netip.Prefix) (*Entry, *Entry) {
	none := &Entry{}
	return cmp.Or(a[p], none), cmp.Or(b[p], none)
}
