// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"net/netip"
	"slices"
)

// Count counts prefixes of both families.
func (t *Table) Count() Count {
	t.mu.Lock()
	defer t.mu.Unlock()
	var c Count
	t.v4.count(&c)
	t.v6.count(&c)
	return c
}

func (f *fib[K]) count(c *Count) {
	for e, n := range f.table.tally {
		switch want := f.outcome(e); {
		case e.want == wantNone:
			c.Kept += n
			continue
		case e.want == wantGone:
			c.Other += n
			continue
		case want == 0:
			c.Pending += n
		case want == e.have&^seen:
			c.Installed += n
		default:
			c.Other += n
		}
		c.Wanted += n
	}
}

// Reads is how often Apply had to read the whole table, which may hold a million
// routes: the first time, when notifications were lost, and when the kernel drops
// routes without a word.
func (t *Table) Reads() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.done.unasked
}

// List returns every route, in the order of prefixes, IPv4 first.
func (t *Table) List() []Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(list(t.v4, t.sources), list(t.v6, t.sources)...)
}

func list[K key[K]](f *fib[K], sources []string) []Status {
	conflicts := f.conflicts()
	out := make([]Status, 0, f.table.n)
	for k, e := range f.table.all() {
		s := Status{Route: Route{Prefix: k.prefix()}}
		if e.want < firstAction {
			c := &f.contents[e.have]
			s.Kind, s.Metric, s.State = c.kind, c.metric, Kept
			if e.want == wantGone {
				s.State = Waiting
			}
			var hops []netip.Addr
			for _, h := range c.hops {
				hops = append(hops, h.gw)
			}
			s.Hops = HopsOf(hops...)
		} else {
			a := &f.actions[e.want]
			s.Kind, s.Metric, s.Device, s.Hops = a.key.kind, a.key.metric, a.key.device, a.key.hops
			s.Source = sources[a.key.source]
			s.State, s.Detail = f.state(k, e, conflicts)
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Status) int { return comparePrefix(a.Prefix, b.Prefix) })
	return out
}

func (f *fib[K]) state(k K, e entry, conflicts map[K]string) (State, string) {
	if c := conflicts[k]; c != "" {
		return Conflicted, c
	}
	if p := f.problems[k]; p != "" {
		return Failed, p
	}
	a := &f.actions[e.want]
	switch {
	case a.fwd == 0:
		return Pending, a.why
	case a.fwd == e.have:
		return Installed, ""
	}
	return Waiting, ""
}

// Problems returns the routes that are not in force as wanted, or that a
// foreign route hides, in the order of prefixes, IPv4 first.
func (t *Table) Problems() []Problem {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(problems(t.v4), problems(t.v6)...)
}

func problems[K key[K]](f *fib[K]) []Problem {
	conflicts := f.conflicts()
	var out []Problem
	look := func(k K, e entry) {
		if e.want < firstAction {
			if p := f.problems[k]; p != "" {
				out = append(out, Problem{k.prefix(), Failed, p})
			}
		} else if s, why := f.state(k, e, conflicts); s != Installed && s != Waiting {
			out = append(out, Problem{k.prefix(), s, why})
		}
	}
	if f.anyPending() {
		for k, e := range f.table.all() {
			look(k, e)
		}
	} else { // those who ask do so often, and the table may be long
		for k := range conflicts {
			look(k, f.entry(k))
		}
		for k := range f.problems {
			if e, ok := f.table.get(k); ok && conflicts[k] == "" {
				look(k, e)
			}
		}
	}
	slices.SortFunc(out, func(a, b Problem) int { return comparePrefix(a.Prefix, b.Prefix) })
	return out
}

// anyPending tells whether a wanted prefix has no way.
func (f *fib[K]) anyPending() bool {
	for e := range f.table.tally {
		if e.want >= firstAction && f.outcome(e) == 0 {
			return true
		}
	}
	return false
}

// conflicts says for each wanted prefix which foreign route has its place, wins
// over it by metric, or takes some of its addresses by being more specific.
// A default route is hidden by everything and has no conflicts of the last kind.
func (f *fib[K]) conflicts() map[K]string {
	out := map[K]string{}
	for p, rs := range f.allForeign() {
		k := f.make(p)
		if e := f.entry(k); e.want >= firstAction {
			a := &f.actions[e.want].key
			metric := a.metric
			for _, r := range rs {
				if r.metric <= metric && !intoItself(p, r.proto, a.hops) {
					out[k] = whyLoses(p, r.proto, r.metric, metric)
				}
			}
			continue
		}
		for bits := p.Bits() - 1; bits > 0; bits-- {
			if f.byLen[bits] == 0 {
				continue
			}
			wide := f.make(netip.PrefixFrom(p.Addr(), bits).Masked())
			if f.entry(wide).want < firstAction || out[wide] != "" {
				continue
			}
			for _, r := range rs {
				if r.proto != protoKernel {
					out[wide] = whyInPart(p, r.proto)
				}
			}
		}
	}
	return out
}
