// SPDX-License-Identifier: Apache-2.0

package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Memory keeps the routing table of a Host equal to what is wanted, as Table does
// that of the kernel, and answers alike: it is Table without a kernel, and its slow
// twin, that computes everything anew from plain maps. Its methods are safe for
// concurrent use.
type Memory struct {
	host *Host
	opts Options

	mu       sync.Mutex
	wanted   map[string]map[netip.Prefix]Route // by source
	gone     map[netip.Prefix]bool             // a source took it back, and nobody wants it
	complete map[string]bool
	last     map[netip.Prefix]wish // what was installed last, and for what
	tracked  map[netip.Addr]*Reach // as told; nil if not
	behind   map[netip.Addr]string // see Near
	byDeflt  bool                  // see ThroughDefault
	applied  bool
	closed   bool
}

// wish is a route that is wanted, and what does it.
type wish struct {
	Route
	source string
	is     FIBRoute
	why    string // there is nothing that does it
}

// OpenMemory opens the table of a host. Nothing is changed before the first Apply.
func OpenMemory(o Options, host *Host) *Memory {
	o.setDefaults()
	return &Memory{host: host, opts: o, wanted: map[string]map[netip.Prefix]Route{}, gone: map[netip.Prefix]bool{},
		complete: map[string]bool{}, last: map[netip.Prefix]wish{}, tracked: map[netip.Addr]*Reach{}}
}

// Close leaves the table of the host as it is.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

func (m *Memory) of(source string) (map[netip.Prefix]Route, error) {
	if !slices.Contains(m.opts.Sources, source) {
		return nil, unknownSource(source, m.opts.Sources)
	}
	if m.wanted[source] == nil {
		m.wanted[source] = map[netip.Prefix]Route{}
	}
	return m.wanted[source], nil
}

// Replace is that of Table.
func (m *Memory) Replace(source string, routes []Route) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	was, err := m.of(source)
	if err != nil {
		return err
	}
	m.wanted[source] = nil
	errs := m.add(source, routes)
	for p := range was {
		m.takenBack(p)
	}
	return errs
}

// Update is that of Table.
func (m *Memory) Update(source string, add []Route, remove []netip.Prefix) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	wanted, err := m.of(source)
	if err != nil {
		return err
	}
	for _, p := range remove {
		if _, had := wanted[p.Masked()]; had {
			delete(wanted, p.Masked())
			m.takenBack(p.Masked())
		}
	}
	return m.add(source, add)
}

func (m *Memory) add(source string, routes []Route) error {
	wanted, err := m.of(source)
	errs := []error{err}
	for _, r := range routes {
		if err := r.check(); err != nil {
			errs = append(errs, err)
			continue
		}
		r.Metric = cmp.Or(r.Metric, defaultMetric)
		wanted[r.Prefix] = r
		delete(m.gone, r.Prefix)
	}
	return errors.Join(errs...)
}

func (m *Memory) takenBack(p netip.Prefix) {
	if _, _, wanted := m.winner(p); !wanted {
		m.gone[p] = true
	}
}

// winner is what the source of highest rank wants of those that want a prefix.
func (m *Memory) winner(p netip.Prefix) (r Route, source string, wanted bool) {
	for _, s := range m.opts.Sources {
		if r, wanted = m.wanted[s][p]; wanted {
			return r, s, true
		}
	}
	return r, "", false
}

// SetComplete is that of Table.
func (m *Memory) SetComplete(source string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.of(source); err != nil {
		return err
	}
	m.complete[source] = true
	return nil
}

func (m *Memory) prunes() bool { return len(m.complete) == len(m.opts.Sources) }

// Apply makes the table of the host what is wanted.
func (m *Memory) Apply() (done Result, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return done, fmt.Errorf("apply routes: %w", errClosed)
	}
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	m.applied = true
	wishes := m.wishes()
	for p, w := range wishes {
		m.bring(p, w, &done)
	}
	for p := range m.host.routes {
		if _, wanted := wishes[p]; wanted || !m.prunes() && !m.gone[p] {
			continue
		}
		for _, r := range m.ours(p) {
			m.host.remove(p, r.Metric)
			done.Deleted++
		}
	}
	clear(m.gone)
	return done, nil
}

// Resync is Apply, which always looks at everything.
func (m *Memory) Resync() (Result, error) { return m.Apply() }

// bring makes one prefix what is wanted of it.
func (m *Memory) bring(p netip.Prefix, w wish, done *Result) {
	have := m.ours(p)
	if w.why != "" {
		for _, r := range have {
			if !m.keeps(r, w) {
				m.host.remove(p, r.Metric)
				done.Deleted++
			}
		}
		return
	}
	if slices.ContainsFunc(m.others(p), func(r FIBRoute) bool { return r.Metric == w.Metric }) {
		return // reported by Problems, not fought
	}
	m.last[p] = w
	at := slices.IndexFunc(have, func(r FIBRoute) bool { return r.Metric == w.Metric })
	switch {
	case at < 0:
		m.host.put(w.is)
		done.Added++
	case !same(have[at], w.is):
		m.host.put(w.is)
		done.Changed++
	}
	for _, r := range have {
		if r.Metric != w.Metric && (m.prunes() || len(have) == 1) {
			m.host.remove(p, r.Metric)
			done.Deleted++
		}
	}
}

// keeps tells whether a route stays although its next hops cannot be resolved: while
// an uplink changes its address, packets go on.
func (m *Memory) keeps(r FIBRoute, w wish) bool {
	if w.Kind != Via || r.Refuses != "" || r.Metric != w.Metric {
		return false
	}
	if l, ok := m.last[r.Prefix]; ok && l.Route == w.Route && same(l.is, r) {
		return true
	}
	return !slices.ContainsFunc(r.Hops, func(e Exit) bool {
		return !slices.ContainsFunc(w.Hops.Addrs(), func(a netip.Addr) bool { return a.WithZone("") == e.Via })
	})
}

func same(a, b FIBRoute) bool { return a.Refuses == b.Refuses && slices.Equal(a.Hops, b.Hops) }

// wishes are what is wanted of each prefix, and what does it.
func (m *Memory) wishes() map[netip.Prefix]wish {
	all := map[netip.Prefix]wish{}
	for _, source := range m.wanted {
		for p := range source {
			r, s, _ := m.winner(p)
			all[p] = m.resolve(r, s)
		}
	}
	return all
}

func (m *Memory) resolve(r Route, source string) wish {
	w := wish{Route: r, source: source, is: FIBRoute{Prefix: r.Prefix, Protocol: m.opts.Protocol, Metric: r.Metric}}
	switch r.Kind {
	case Blackhole:
		w.is.Refuses = "blackhole"
	case Link:
		if w.is.Hops = []Exit{{Device: r.Device}}; !m.host.links[r.Device].Up {
			w.why = whyNoDevice(r.Device)
		}
	case Via:
		for _, a := range r.Hops.Addrs() {
			out, _, why := m.way(a)
			w.is.Hops = append(w.is.Hops, out...)
			w.why = cmp.Or(why, w.why)
		}
		if len(w.is.Hops) > 0 {
			w.why = ""
		}
		slices.SortFunc(w.is.Hops, Exit.compare)
		w.is.Hops = slices.Compact(w.is.Hops)
	}
	return w
}

// way says how a next hop is reached: by the longest route of others that covers it.
func (m *Memory) way(a netip.Addr) (out []Exit, cost uint32, why string) {
	device, near := m.behind[a]
	if z := a.Zone(); z != "" {
		device, near = z, true
	}
	switch {
	case near && !m.host.links[device].Up:
		return nil, 0, whyNoInterface(device)
	case near:
		return []Exit{{device, a.WithZone("")}}, 0, ""
	case a.Is6() && a.IsLinkLocalUnicast():
		return nil, 0, whyNoZone(a)
	}
	table := m.host.table()
	for bits := a.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(a, bits).Masked()
		i := slices.IndexFunc(table[p], func(r FIBRoute) bool { return r.Protocol != m.opts.Protocol && m.host.alive(r) })
		switch {
		case i < 0:
			continue
		case bits == 0 && !m.byDeflt:
			return nil, 0, whyDefaultOnly(a)
		case table[p][i].Refuses != "":
			return nil, 0, whyDropped(a, p)
		}
		for _, e := range table[p][i].Hops {
			switch {
			case !m.host.links[e.Device].Up:
				continue
			case m.opts.Workload != nil && m.opts.Workload(e.Device):
				return nil, 0, whyWorkload(a)
			case !e.Via.IsValid():
				e.Via = a
			default:
				cost = max(table[p][i].Metric, 1)
			}
			out = append(out, e)
		}
		slices.SortFunc(out, Exit.compare)
		return slices.Compact(out), cost, ""
	}
	return nil, 0, whyNowhere(a)
}

// Watch calls notify when somebody else has changed the host, until ctx ends.
func (m *Memory) Watch(ctx context.Context, notify func()) error {
	stop := m.host.watch(notify)
	defer stop()
	<-ctx.Done()
	return nil
}

// Track is that of Table.
func (m *Memory) Track(add, remove []netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range remove {
		delete(m.tracked, a)
	}
	for _, a := range add {
		m.tracked[a] = nil
	}
}

// ThroughDefault is that of Table.
func (m *Memory) ThroughDefault(may bool) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed, m.byDeflt = m.byDeflt != may, may
	return changed
}

// Near is that of Table.
func (m *Memory) Near(behind map[netip.Addr]string) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed, m.behind = !maps.Equal(m.behind, behind), maps.Clone(behind)
	return changed
}

// Link is that of Table.
func (m *Memory) Link(a netip.Addr, before string) (device string, carries bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	out, _, _ := m.way(a)
	for _, e := range out {
		if e.Via == a {
			return e.Device, true
		}
	}
	if before != "" && m.host.links[before].Up {
		return "", false
	}
	return before, false
}

// Reached is that of Table, but a loss is said at once: nothing flaps here.
func (m *Memory) Reached() (changes []Reach, again time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.applied {
		return nil, 0
	}
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	for a, told := range m.tracked {
		out, cost, why := m.way(a)
		is := Reach{Addr: a, Usable: len(out) > 0, Cost: cost, Why: why}
		if is.Usable {
			is.Device = out[0].Device
		}
		if told == nil || *told != is {
			m.tracked[a] = &is
			changes = append(changes, is)
		}
	}
	slices.SortFunc(changes, func(a, b Reach) int { return a.Addr.Compare(b.Addr) })
	return changes, 0
}
