// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/muslin-net/muslin/internal/bench/proc"
)

// bench is one invocation.
type bench struct {
	o   options
	say func(format string, args ...any)
	rep *report
}

// work is one row of the benchmark at one size: it measures one daemon in a
// world of its own and notes what it found.
type work struct {
	section
	judged string // the figure that stands for all when it took too long
	peers  int    // addresses that the world needs
	job    job
	run    func(ctx context.Context, m *measurement) error
}

// measurement is one daemon at one work.
type measurement struct {
	*world
	*work
	b *bench
	d daemon

	began       time.Time
	cpu, feeder time.Duration
	before      proc.Memory
}

// measure does a work with every daemon, one after the other, round after round.
func (b *bench) measure(ctx context.Context, k *work, rounds int) error {
	b.rep.Sections = append(b.rep.Sections, &k.section)
	for round := range rounds {
		for _, name := range b.rep.Daemons {
			b.say("%s: %s, round %d of %d", k.Title, name, round+1, rounds)
			err := b.once(ctx, k, name)
			if errors.Is(err, errLate) && ctx.Err() == nil {
				// A result as well, and no reason not to measure the rest.
				b.say("%s: %s: %v", k.Title, name, err)
				k.miss(name, k.judged, "s", fmt.Sprintf("> %v", b.o.limit))
				err = nil
			}
			if err != nil {
				return fmt.Errorf("%s: %s: %w", k.Title, name, err)
			}
		}
	}
	return nil
}

func (b *bench) once(ctx context.Context, k *work, name string) (err error) {
	w, err := newWorld(b.o, k.peers)
	if err != nil {
		return err
	}
	d := newDaemon(name)
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\nend of its log:\n%s", err, d.log())
		}
		d.kill()
		err = errors.Join(err, w.Close())
	}()
	if err := d.configure(ctx, w, k.job); err != nil {
		return err
	}
	if w.etcd != nil {
		b.rep.Etcd = w.etcd.Name
	}
	if err := d.start(false); err != nil {
		return err
	}
	return k.run(ctx, &measurement{world: w, work: k, b: b, d: d})
}

func (m *measurement) note(name, unit string, value float64) {
	m.work.note(m.d.name(), name, unit, value)
}

func (m *measurement) seconds(name string, t time.Duration) { m.note(name, "s", t.Seconds()) }

// start starts the clock.
func (m *measurement) start() (err error) {
	if m.cpu, err = proc.CPU(m.d.pid()); err != nil {
		return err
	}
	if m.feeder, err = proc.CPU(os.Getpid()); err != nil {
		return err
	}
	m.began = time.Now()
	return nil
}

// stop stops it and notes time and CPU; prefix distinguishes parts of one work.
func (m *measurement) stop(prefix string) error {
	took := time.Since(m.began)
	feeder, err := proc.CPU(os.Getpid())
	if err != nil {
		return err
	}
	cpu, err := proc.CPU(m.d.pid())
	if err != nil {
		return err
	}
	m.seconds(prefix+"time", took)
	m.seconds(prefix+"CPU", cpu-m.cpu)
	m.seconds(prefix+"CPU of the feeder", feeder-m.feeder)
	return nil
}

// idle waits until the process has settled and notes what it occupies without
// any route: program, runtime, datastore client.
func (m *measurement) idle() (err error) {
	time.Sleep(m.o.rest)
	m.before, err = proc.ReadMemory(m.d.pid())
	return err
}

// memory notes what it occupies now, some time after the work.
func (m *measurement) memory() error {
	time.Sleep(m.o.rest)
	after, err := proc.ReadMemory(m.d.pid())
	if err != nil {
		return err
	}
	mb := func(n int64) float64 { return float64(n) / 1e6 }
	m.note("memory before (VmRSS)", "MB", mb(m.before.RSS))
	m.note("  of that pages of the program file", "MB", mb(m.before.File))
	m.note("memory after (VmRSS)", "MB", mb(after.RSS))
	m.note("growth of memory", "MB", mb(after.RSS-m.before.RSS))
	m.note("most memory (VmHWM)", "MB", mb(after.Peak))
	return nil
}

// receive waits until the daemon has so many routes.
func (m *measurement) receive(ctx context.Context, want int) error {
	return m.until(ctx, 5*time.Millisecond, fmt.Sprintf("%d routes received", want), func() (bool, error) {
		n, err := m.d.received(ctx)
		return n == want, err
	})
}

// learn is a table in over one session. Nothing is programmed: BIRD has no
// kernel protocol, and our node says muslin/program-routes: Disabled.
func learn(o options, t table) *work {
	t.nextHop = onLink
	name := fmt.Sprintf("%d /32s in over one session, %d attribute sets", t.Routes, t.Sets)
	if t.Spread {
		name += ", spread over blocks of 64"
	}
	k := &work{section: section{Title: name}, judged: "time", peers: 1, job: job{peers: 1}}
	if t.Routes == o.routes && !t.Spread {
		k.budgets = map[string]budget{
			"time": {Ratio: 1}, "growth of memory": {Most: 40}, "memory after (VmRSS)": {Most: 80},
		}
	}
	feed := t.announce()
	k.run = func(ctx context.Context, m *measurement) error {
		list, err := m.dialAll(ctx, 0, 1)
		if err != nil {
			return err
		}
		defer closeAll(list)
		if err := m.idle(); err != nil {
			return err
		}
		if err := m.start(); err != nil {
			return err
		}
		if err := list[0].feed(feed); err != nil {
			return err
		}
		m.seconds("  of that until all was handed to TCP", time.Since(m.began))
		if err := m.receive(ctx, t.Routes); err != nil {
			return errors.Join(err, list[0].problem())
		}
		return errors.Join(m.stop(""), m.memory())
	}
	return k
}

// reflect is a table in from one client and out to all the others, which were
// up before.
func reflect(o options, t table, clients int) *work {
	t.nextHop = onLink
	k := &work{
		section: section{Title: fmt.Sprintf("route reflector: %d /32s in, %d attribute sets, out to %d clients", t.Routes, t.Sets, clients)},
		judged:  "time", peers: 1 + clients, job: job{peers: 1 + clients, reflect: true},
	}
	if clients == o.clients && t.Routes == o.reflected {
		k.budgets = map[string]budget{"CPU": {Ratio: 0.5}, "time": {Ratio: 1}}
	}
	feed := t.announce()
	k.run = func(ctx context.Context, m *measurement) error {
		list, err := m.dialAll(ctx, 0, 1+clients)
		if err != nil {
			return err
		}
		defer closeAll(list)
		if err := m.idle(); err != nil {
			return err
		}
		if err := m.start(); err != nil {
			return err
		}
		if err := list[0].feed(feed); err != nil {
			return err
		}
		err = m.until(ctx, 5*time.Millisecond, "every client has all routes", func() (bool, error) {
			for i, c := range list[1:] {
				if err := c.problem(); err != nil {
					return false, err
				}
				if n := c.got.Load(); n > int64(t.Routes) {
					return false, fmt.Errorf("client %d was sent %d routes", i, n)
				} else if n < int64(t.Routes) {
					return false, nil
				}
			}
			return true, nil
		})
		if err != nil {
			return errors.Join(err, list[0].problem())
		}
		if err := errors.Join(m.stop(""), m.memory()); err != nil {
			return err
		}
		// What came later would be a route too many.
		for i, c := range list[1:] {
			if n := c.got.Load(); n != int64(t.Routes) {
				return fmt.Errorf("client %d ends with %d routes", i, n)
			}
		}
		// RFC 4456 leaves open whether a client is sent its own routes.
		m.note("routes sent back to the feeder", "", float64(list[0].got.Load()))
		return nil
	}
	return k
}

// program is a table into the kernel and out again.
func program(o options, t table) *work {
	t.nextHop = onLink
	k := &work{
		section: section{Title: fmt.Sprintf("%d /32s into the kernel and out again", t.Routes)},
		judged:  "in: time", peers: 1, job: job{peers: 1, program: true},
	}
	if t.Routes == o.routes {
		k.budgets = map[string]budget{"in: time": {Ratio: 1}}
	}
	in, out := t.announce(), t.withdraw()
	k.run = func(ctx context.Context, m *measurement) error {
		list, err := m.dialAll(ctx, 0, 1)
		if err != nil {
			return err
		}
		defer closeAll(list)
		if err := m.idle(); err != nil {
			return err
		}
		none, empty, err := fibStat(m.router.Namespace)
		if err != nil {
			return err
		}
		ours, err := m.d.programmed(ctx)
		if err != nil {
			return err
		}
		for _, part := range []struct {
			name string
			feed [][]byte
			want int
		}{{"in: ", in, t.Routes}, {"out: ", out, 0}} {
			if err := m.start(); err != nil {
				return err
			}
			if err := list[0].feed(part.feed); err != nil {
				return err
			}
			// The daemon is asked first, because to count in the kernel costs
			// more; what the kernel says decides.
			said, have := 0, 0
			err := m.until(ctx, 10*time.Millisecond, fmt.Sprintf("%d routes programmed", part.want), func() (bool, error) {
				if said, err = m.d.programmed(ctx); err != nil || said-ours != part.want {
					return false, err
				}
				have, _, err = fibStat(m.router.Namespace)
				return have-none == part.want, err
			})
			if err != nil {
				return errors.Join(fmt.Errorf("%w: it says %d, the kernel %d", err, said-ours, have-none), list[0].problem())
			}
			if err := m.stop(part.name); err != nil {
				return err
			}
			if part.want == 0 {
				continue
			}
			if err := m.memory(); err != nil {
				return err
			}
			_, full, err := fibStat(m.router.Namespace)
			if err != nil {
				return err
			}
			m.note("kernel memory per route", "B", float64(full-empty)/float64(t.Routes))
		}
		return nil
	}
	return k
}
