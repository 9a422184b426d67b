// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/muslin-net/muslin/internal/bench/proc"
)

// churn is a steady stream of changes on top of a table: every change is one
// route that comes or goes, and the clock runs from the write to the neighbour's
// socket to the kernel's notification.
func churn(o options, base int) *work {
	under := table{layout: layout{First: netip.MustParseAddr("20.0.0.0")}, Routes: base, Sets: 1, nextHop: onLink}
	moving := table{layout: layout{First: netip.MustParseAddr("40.0.0.0")}, Sets: 1, nextHop: onLink}
	n := int(o.churn.Seconds() * float64(o.rate))
	// Change number 2j announces route lead+j, and the next one withdraws route
	// j: it lives for half a second, so that nobody can take the two together.
	lead := o.rate / 4
	moving.Routes = lead
	first := moving.announce()
	k := &work{
		section: section{Title: fmt.Sprintf("%d changes/s for %v on top of %d routes: announced → in the kernel", o.rate, o.churn, base)},
		judged:  "p99.9", peers: 1, job: job{peers: 1, program: true},
	}
	if base == o.base {
		k.budgets = map[string]budget{"p99.9": {Most: 50}}
	}
	moved := func(i int) int {
		if i&1 == 1 {
			return i / 2
		}
		return lead + i/2
	}
	feed := under.announce()
	k.run = func(ctx context.Context, m *measurement) error {
		list, err := m.dialAll(ctx, 0, 1)
		if err != nil {
			return err
		}
		defer closeAll(list)
		if err := list[0].feed(append(slices.Clone(feed), first...)); err != nil {
			return err
		}
		if err := m.receive(ctx, base+lead); err != nil {
			return err
		}
		if err := m.idle(); err != nil {
			return err
		}
		mon, err := startMonitor(m.router.Namespace)
		if err != nil {
			return err
		}
		defer mon.close()
		if err := m.start(); err != nil {
			return err
		}
		sent := make([]time.Time, n)
		for i := range n {
			if wait := time.Until(m.began.Add(time.Duration(i) * time.Second / time.Duration(o.rate))); wait > 0 {
				time.Sleep(wait)
			}
			msg := moving.one(moved(i), i&1 == 1)
			sent[i] = time.Now()
			if err := list[0].feed([][]byte{msg}); err != nil {
				return err
			}
		}
		err = m.until(ctx, 10*time.Millisecond, "every change is in the kernel", func() (bool, error) {
			came, gone, err := mon.counts()
			return came == (n+1)/2 && gone == n/2, err
		})
		if err != nil {
			return err
		}
		cpu, err := proc.CPU(m.d.pid())
		if err != nil {
			return err
		}
		var took proc.Samples
		mon.mu.Lock()
		for i := range n {
			at := mon.came
			if i&1 == 1 {
				at = mon.gone
			}
			took = append(took, at[moving.prefix(moved(i))].Sub(sent[i]))
		}
		mon.mu.Unlock()
		for _, q := range []struct {
			name string
			q    float64
		}{{"p50", .5}, {"p99", .99}, {"p99.9", .999}, {"longest", 1}} {
			m.note(q.name, "ms", float64(took.Quantile(q.q))/1e6)
		}
		m.note("CPU per change", "µs", float64(cpu-m.cpu)/1e3/float64(n))
		return nil
	}
	return k
}
