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

// Compare holds what every device has against the simulation.
func (l *Lab) Compare(ctx context.Context) (*live.Comparison, error) {
	c := &live.Comparison{Differences: []live.Difference{}}
	for _, family := range l.Design.Families {
		s, err := l.simulate(family)
		if err != nil {
			return nil, err
		}
		parts := make([]live.Comparison, len(l.Design.Devices))
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(parallel)
		for i := range l.Design.Devices {
			d := &l.Design.Devices[i]
			if !l.runs(d) {
				continue
			}
			g.Go(func() error {
				want, err := live.Expect(s.Sim, l.names, &l.now.Devices[i], family, s.down)
				if err != nil {
					return err
				}
				l.leave(want, d)
				got, err := l.actual(ctx, d, family)
				if err != nil {
					return err
				}
				parts[i] = live.Compare(d.Name, want, got)
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

// Settle compares until nothing differs, or the time is over.
func (l *Lab) Settle(ctx context.Context, limit time.Duration) (c *live.Comparison, err error) {
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
