// SPDX-License-Identifier: Apache-2.0

package route

import (
	"net/netip"
	"slices"
)

// ours are the routes to a prefix that carry our protocol number, others the rest.
func (m *Memory) ours(p netip.Prefix) []FIBRoute { return m.some(p, true) }

func (m *Memory) others(p netip.Prefix) []FIBRoute { return m.some(p, false) }

func (m *Memory) some(p netip.Prefix, ours bool) (rs []FIBRoute) {
	for _, r := range m.host.table()[p] {
		if (r.Protocol == m.opts.Protocol) == ours {
			rs = append(rs, r)
		}
	}
	return rs
}

// List returns every route, in the order of prefixes, IPv4 first.
func (m *Memory) List() (all []Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	wishes := m.wishes()
	for p, w := range wishes {
		s := Status{Route: w.Route, Source: w.source}
		s.State, s.Detail = m.state(p, w, wishes)
		all = append(all, s)
	}
	for p := range m.host.routes {
		if _, wanted := wishes[p]; wanted {
			continue
		}
		for _, r := range m.ours(p) {
			s := Status{Route: Route{Prefix: p, Kind: Link, Metric: r.Metric}, State: Kept}
			if m.gone[p] {
				s.State = Waiting
			}
			var gws []netip.Addr
			for _, e := range r.Hops {
				gws = append(gws, e.Via)
			}
			switch s.Hops = HopsOf(gws...); {
			case r.Refuses != "":
				s.Kind = Blackhole
			case s.Hops != Hops{}:
				s.Kind = Via
			}
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b Status) int { return comparePrefix(a.Prefix, b.Prefix) })
	return all
}

func (m *Memory) state(p netip.Prefix, w wish, wishes map[netip.Prefix]wish) (State, string) {
	if why := m.conflict(p, w, wishes); why != "" {
		return Conflicted, why
	}
	if w.why != "" {
		return Pending, w.why
	}
	if slices.ContainsFunc(m.ours(p), func(r FIBRoute) bool { return r.Metric == w.Metric && same(r, w.is) }) {
		return Installed, ""
	}
	return Waiting, ""
}

// conflict says which route of others has the place of ours, wins over it by metric,
// or takes some of its addresses by being more specific.
func (m *Memory) conflict(p netip.Prefix, w wish, wishes map[netip.Prefix]wish) (why string) {
	for _, r := range m.others(p) {
		if r.Metric <= w.Metric && !intoItself(p, r.Protocol, w.Hops) {
			why = whyLoses(p, r.Protocol, r.Metric, w.Metric)
		}
	}
	if why != "" || p.Bits() == 0 {
		return why
	}
	var parts []FIBRoute
	for q, rs := range m.host.table() {
		if _, wanted := wishes[q]; wanted || q.Bits() <= p.Bits() || !p.Contains(q.Addr()) {
			continue
		}
		for _, r := range rs {
			if r.Protocol != m.opts.Protocol && r.Protocol != protoKernel {
				parts = append(parts, r)
			}
		}
	}
	if len(parts) == 0 {
		return ""
	}
	first := slices.MinFunc(parts, func(a, b FIBRoute) int { return comparePrefix(a.Prefix, b.Prefix) })
	return whyInPart(first.Prefix, first.Protocol)
}

// Problems returns the routes that are not in force as wanted, or that another
// daemon's hides, in the order of prefixes, IPv4 first.
func (m *Memory) Problems() (all []Problem) {
	for _, s := range m.List() {
		if s.State == Pending || s.State == Conflicted {
			all = append(all, Problem{s.Prefix, s.State, s.Detail})
		}
	}
	return all
}

// Count counts prefixes of both families.
func (m *Memory) Count() (c Count) {
	list := m.List()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	for _, s := range list {
		w, wanted := Route{}, s.Source != ""
		if wanted {
			c.Wanted++
			w, _, wanted = m.winner(s.Prefix)
		}
		switch is := m.resolve(w, s.Source); {
		case s.State == Kept:
			c.Kept++
		case wanted && is.why != "":
			c.Pending++
		case wanted && slices.ContainsFunc(m.ours(s.Prefix), func(r FIBRoute) bool { return r.Metric == is.Metric && same(r, is.is) }):
			c.Installed++
		default:
			c.Other++
		}
	}
	return c
}
