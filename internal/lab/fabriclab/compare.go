// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// Difference is where a device and the simulation disagree.
type Difference struct {
	Device    string       `json:"device"`
	Prefix    netip.Prefix `json:"prefix"`
	Table     string       `json:"table"` // RIB or FIB
	Simulated []string     `json:"simulated"`
	Real      []string     `json:"real"`
}

func (d Difference) String() string {
	list := func(s []string) string {
		if len(s) == 0 {
			return "nothing"
		}
		return strings.Join(s, "; ")
	}
	return fmt.Sprintf("%s %s %s: simulated: %s; real: %s", d.Device, d.Prefix, d.Table, list(d.Simulated), list(d.Real))
}

// Comparison is how all devices and the simulation agree.
type Comparison struct {
	Devices int `json:"devices"`
	// Paths and Routes are how many were compared: those that either has.
	Paths       int          `json:"paths"`
	Routes      int          `json:"routes"`
	Differences []Difference `json:"differences"`
}

// simulation is the design's, with what has failed.
type simulation struct {
	*sim.Sim
	family fabric.Family
	down   sim.Failure
}

func (l *Lab) simulate(family fabric.Family) (*simulation, error) {
	s, err := sim.New(l.Design, family)
	if err != nil {
		return nil, err
	}
	down, err := s.Failure(l.downNames()...)
	return &simulation{s, family, down}, err
}

// Compare holds what every device has against the simulation.
func (l *Lab) Compare(ctx context.Context) (*Comparison, error) {
	c := &Comparison{Differences: []Difference{}}
	for _, family := range l.Design.Families {
		s, err := l.simulate(family)
		if err != nil {
			return nil, err
		}
		parts := make([]Comparison, len(l.Design.Devices))
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(parallel)
		for i := range l.Design.Devices {
			d := &l.Design.Devices[i]
			if !l.runs(d) {
				continue
			}
			g.Go(func() error {
				want, err := l.expected(s, d)
				if err != nil {
					return err
				}
				got, err := l.actual(ctx, d, family)
				if err != nil {
					return err
				}
				parts[i] = compare(d.Name, want, got)
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		for i := range parts {
			c.Paths, c.Routes = c.Paths+parts[i].Paths, c.Routes+parts[i].Routes
			c.Differences = append(c.Differences, parts[i].Differences...)
		}
	}
	for i := range l.Design.Devices {
		if l.runs(&l.Design.Devices[i]) {
			c.Devices++
		}
	}
	return c, nil
}

// runs tells whether a device was not made to fail.
func (l *Lab) runs(d *fabric.Device) bool {
	return !slices.ContainsFunc(l.Failed, func(f Failed) bool { return f.What == d.Name || d.Host != "" && f.What == d.Host })
}

// compare holds two tables of a device against each other.
func compare(device string, want, got Table) (c Comparison) {
	prefixes := map[netip.Prefix]bool{}
	for p := range want {
		prefixes[p] = true
	}
	for p := range got {
		prefixes[p] = true
	}
	none := &Entry{}
	for p := range prefixes {
		w, g := cmp.Or(want[p], none), cmp.Or(got[p], none)
		if len(w.Paths)+len(g.Paths) > 0 {
			c.Paths += max(len(w.Paths), len(g.Paths))
			if !slices.Equal(w.Paths, g.Paths) {
				c.Differences = append(c.Differences, Difference{device, p, "RIB", w.Paths, g.Paths})
			}
		}
		wf, gf := w.forwards(), g.forwards()
		if len(wf)+len(gf) > 0 {
			c.Routes++
			if !slices.Equal(wf, gf) {
				c.Differences = append(c.Differences, Difference{device, p, "FIB", wf, gf})
			}
		}
	}
	slices.SortFunc(c.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Prefix.Addr().BitLen(), b.Prefix.Addr().BitLen()), a.Prefix.Addr().Compare(b.Prefix.Addr()),
			cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), cmp.Compare(a.Table, b.Table))
	})
	return c
}

func (e *Entry) forwards() []string {
	if e.Delivered {
		return append([]string{"its endpoint"}, e.Via...)
	}
	return e.Via
}

// Summary is the comparison in a line.
func (c *Comparison) Summary() string {
	return fmt.Sprintf("%d devices, %d paths and %d routes compared with the simulation, %d differences", c.Devices, c.Paths, c.Routes, len(c.Differences))
}

// Settle compares until nothing differs, or the time is over.
func (l *Lab) Settle(ctx context.Context, limit time.Duration) (c *Comparison, err error) {
	for end := time.Now().Add(limit); ; {
		c, err = l.Compare(ctx)
		if err == nil && len(c.Differences) == 0 || time.Now().After(end) || ctx.Err() != nil {
			return c, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}
