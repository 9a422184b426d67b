// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/live"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// simulation is the design's, with what has failed.
type simulation struct {
	*sim.Sim
	family fabric.Family
	down   sim.Failure
}

func (l *Lab) simulate(family fabric.Family) (*simulation, error) {
	s, err := sim.New(l.now, family)
	if err != nil {
		return nil, err
	}
	down, err := s.Failure(l.downNames()...)
	return &simulation{s, family, down}, err
}

// expectation is what each device has by the simulation, in each family of the design.
type expectation []map[string]live.Table

// expect asks the simulation, which costs more than reading a device, and changes only with what has failed or moved.
func (l *Lab) expect() (want expectation, err error) {
	for _, family := range l.Design.Families {
		s, err := l.simulate(family)
		if err != nil {
			return nil, err
		}
		routes, err := s.RoutesOfAll(s.down)
		if err != nil {
			return nil, err
		}
		tables := map[string]live.Table{}
		for i := range l.now.Devices {
			d := &l.now.Devices[i]
			t := live.Expect(routes[d.Name], l.names, d, family)
			l.leave(t, &l.Design.Devices[i])
			tables[d.Name] = t
		}
		want = append(want, tables)
	}
	return want, nil
}

// Compare holds what every device has against the simulation.
func (l *Lab) Compare(ctx context.Context) (*live.Comparison, error) {
	want, err := l.expect()
	if err != nil {
		return nil, err
	}
	return l.compare(ctx, want, nil)
}

// compare looks at every device, or at those that are named.
func (l *Lab) compare(ctx context.Context, want expectation, only map[string]bool) (*live.Comparison, error) {
	c := &live.Comparison{Differences: []live.Difference{}}
	for n, family := range l.Design.Families {
		parts := make([]live.Comparison, len(l.Design.Devices))
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(parallel)
		for i := range l.Design.Devices {
			d := &l.Design.Devices[i]
			if !l.runs(d) || only != nil && !only[d.Name] {
				continue
			}
			g.Go(func() error {
				got, err := l.actual(ctx, d, family)
				if err != nil {
					return err
				}
				parts[i] = live.Compare(d.Name, want[n][d.Name], got)
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

// Settle compares until nothing differs, or the time is over. Devices that differed are asked again by themselves,
// and all of them when none does: to ask a hundred takes away what they need to get on.
func (l *Lab) Settle(ctx context.Context, limit time.Duration) (*live.Comparison, error) {
	end := time.Now().Add(limit)
	want, err := l.expect()
	if err != nil {
		return nil, err
	}
	var only map[string]bool // nil: all
	for {
		c, err := l.compare(ctx, want, only)
		over := time.Now().After(end) || ctx.Err() != nil
		same := err == nil && len(c.Differences) == 0
		if only == nil && (same || over) {
			return c, err
		}
		if same || over || err != nil {
			only = nil
		} else {
			only = map[string]bool{}
			for _, d := range c.Differences {
				only[d.Device] = true
			}
		}
		if same {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}
