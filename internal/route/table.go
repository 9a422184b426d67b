// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Table is the desired routing table and its way into the kernel. Its methods
// are safe for concurrent use; Replace, Update and SetComplete change what is
// wanted, and nothing reaches the kernel before Apply.
type Table struct {
	log     *slog.Logger
	sources []string
	proto   uint8
	inside  func(func() error) error
	now     func() time.Time

	mu       sync.Mutex // guards all below
	conn     *conn
	topo     topology
	objs     *objects
	v4       *fib[key4]
	v6       *fib[key6]
	complete []bool
	stale    bool // read the whole table before writing
	staleOwn bool // … our part of it
	staleOf  map[foreignPart]bool
	passes   int  // of Resync
	asked    bool // the next reading is one of Resync's
	relink   bool // read the interfaces before writing
	linked   bool // an interface changed, and is known; what leads through it is not
	closed   bool
	broken   bool // connect anew before anything else
	done     tally

	events queue // has its own lock, so that a long Apply does not stop Watch
}

// foreignPart is what other daemons with one protocol number have.
type foreignPart struct{ family, proto uint8 }

// tally is what was done since Open.
type tally struct {
	Result
	resyncs    int // whole tables read
	unasked    int // of these by Apply
	listings   int // of the interfaces
	reconnects int
}

// Open makes the sockets and subscribes to changes. Nothing is read or written
// before the first Apply. Close it.
func Open(o Options) (*Table, error) {
	o.setDefaults()
	if o.Inside == nil {
		o.Inside = func(f func() error) error { return f() }
	}
	if len(o.Sources) > 255 {
		return nil, fmt.Errorf("open route table: %d sources, want at most 255", len(o.Sources))
	}
	t := &Table{
		log: o.Log, sources: slices.Clone(o.Sources), proto: o.Protocol, inside: o.Inside,
		now: time.Now, complete: make([]bool, len(o.Sources)), stale: true,
	}
	t.topo.workload = o.Workload
	t.objs = newObjects(o.Protocol, resilient)
	if o.Inline {
		t.objs.mode = inline
	}
	t.v4 = newFIB(unix.AF_INET, o.Protocol, makeKey4, &t.topo, t.objs)
	t.v6 = newFIB(unix.AF_INET6, o.Protocol, makeKey6, &t.topo, t.objs)
	if err := t.connect(); err != nil {
		return nil, fmt.Errorf("open route table: %w", err)
	}
	return t, nil
}

// connect opens the request socket, and the subscription unless there is one.
func (t *Table) connect() error {
	return t.inside(func() error {
		c, err := dial()
		if err != nil {
			return err
		}
		if t.conn != nil {
			c.fault = t.conn.fault
			t.conn.close()
		}
		t.conn = c
		return t.events.subscribe(c.port)
	})
}

// Close closes the sockets and leaves the kernel's table as it is. It is
// idempotent.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.conn.close()
	return t.events.close()
}

func (t *Table) rank(source string) (uint8, error) {
	i := slices.Index(t.sources, source)
	if i < 0 {
		return 0, unknownSource(source, t.sources)
	}
	return uint8(i), nil
}

// Replace makes routes the whole of what the source wants. Wrong routes are
// left out and named in the error; the others count.
func (t *Table) Replace(source string, routes []Route) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, err := t.rank(source)
	if err != nil {
		return err
	}
	var v4, v6 []Route
	var errs []error
	for _, r := range routes {
		if err := r.check(); err != nil {
			errs = append(errs, err)
		} else if r.Prefix.Addr().Is4() {
			v4 = append(v4, r)
		} else {
			v6 = append(v6, r)
		}
	}
	t.v4.replaceAll(s, v4)
	t.v6.replaceAll(s, v6)
	return errors.Join(errs...)
}

// Update changes what the source wants: first remove, then add, where adding a
// prefix again changes its route. Removing what is not there is no error. Wrong
// routes are left out and named in the error; the others count.
func (t *Table) Update(source string, add []Route, remove []netip.Prefix) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, err := t.rank(source)
	if err != nil {
		return err
	}
	for _, p := range remove {
		switch {
		case !p.IsValid():
		case p.Addr().Is4():
			t.v4.disclaim(s, makeKey4(p.Masked()))
		default:
			t.v6.disclaim(s, makeKey6(p.Masked()))
		}
	}
	var errs []error
	for i := range add {
		r := &add[i]
		if err := r.check(); err != nil {
			errs = append(errs, err)
		} else if r.Prefix.Addr().Is4() {
			t.v4.claim(s, *r)
		} else {
			t.v6.claim(s, *r)
		}
	}
	return errors.Join(errs...)
}

// SetComplete says that the source has handed in all it has, once, since the
// start. When every source has, what is ours in the kernel and wanted by none
// is deleted by the next Apply.
func (t *Table) SetComplete(source string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, err := t.rank(source)
	if err != nil {
		return err
	}
	if t.prunes() {
		return nil
	}
	t.complete[s] = true
	if t.prunes() {
		t.v4.touchUnwanted()
		t.v6.touchUnwanted()
	}
	return nil
}

func (t *Table) prunes() bool { return !slices.Contains(t.complete, false) }

// Apply writes what differs between what is wanted and what the kernel has.
// The first one reads the kernel's table; later ones follow the notifications
// that Watch has taken in. What the kernel refuses shows in Problems and is
// tried again when links change and by Resync. The error is about the
// connection to the kernel, not about routes; call Apply again later.
func (t *Table) Apply() (Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.apply()
}

// Resync reads the kernel's whole table, compares every attribute, and writes
// only what differs. Use it on a timer: notifications do the work between. Where
// other daemons have very many routes, those are read once in wholeEvery times.
func (t *Table) Resync() (Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.passes++; t.passes%wholeEvery == 0 || t.v4.nForeign+t.v6.nForeign < manyForeign {
		t.stale = true
	}
	t.staleOwn, t.relink, t.asked, t.objs.stale = true, true, true, true
	return t.apply()
}

const (
	wholeEvery  = 10
	manyForeign = 10_000
)

const (
	dumpTries    = 10 // a table that changes all the time is read again so often
	connectTries = 3
	// doubtTries is how often an unknown route in our place leads to reading
	// the table before it counts as refused.
	doubtTries = 2
)

// lossDelay is for how long a next hop must have been lost before that is said:
// an address that is renewed and a routing protocol that computes anew
// lose it for a moment, and what follows from a loss is dear. Its routes
// stay in the kernel meanwhile.
const lossDelay = 500 * time.Millisecond

// Track says of which next hops Reached is to tell, besides those it tells of.
func (t *Table) Track(add, remove []netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range remove {
		if h := t.topo.hops[a]; h != nil && h.watched {
			h.watched, h.known, h.lost = false, false, time.Time{}
			t.topo.give(h)
		}
	}
	for _, a := range add {
		if h := t.topo.hops[a]; h != nil && h.watched {
			h.known = false // whoever asks again wants to be told again
			t.topo.tell(h)
			continue
		}
		h := t.topo.take(a)
		h.watched = true
		t.topo.tell(h)
	}
}

// ThroughDefault says whether next hops may be reached through a default route.
// Unless they may, one that nothing better leads to is unreachable: traffic for
// a dead server would leave the fabric. After a change, which it tells, the next
// Apply does what follows.
func (t *Table) ThroughDefault(may bool) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.topo.allowDefault == may {
		return false
	}
	t.topo.allowDefault = may
	t.topo.followAll()
	return true
}

// Near says which addresses are next hops right behind an interface although no
// route but one of ours says so: workloads that this node speaks BGP with. It
// replaces what was said before, and tells whether that differs; the next Apply does what follows.
func (t *Table) Near(behind map[netip.Addr]string) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if maps.Equal(t.topo.near, behind) {
		return false
	}
	t.topo.near = maps.Clone(behind)
	t.topo.followAll()
	return true
}

// Link says which interface's link an address is on, and whether that carries. One that is set down has no
// subnets any more: the address is on the link that it was on before, if any, until that carries again. Without a link it is empty.
func (t *Table) Link(a netip.Addr, before string) (device string, carries bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.topo.link(a, before)
}

// Reached returns what is new of the next hops that are tracked, and after how
// long to ask again if there is no other reason; 0 is never. It is up to date
// with the last Apply.
func (t *Table) Reached() (changes []Reach, again time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.topo.read {
		return nil, 0
	}
	now := t.now()
	var wait []*nextHop
	for _, h := range t.topo.news {
		h.fresh = false
		if !h.watched {
			continue
		}
		is := Reach{Addr: h.addr, Usable: len(h.out) > 0, Cost: h.cost, Why: h.why, Device: t.topo.device(h)}
		if is.Usable || !h.known || !h.told.Usable {
			h.lost = time.Time{}
		} else {
			if h.lost.IsZero() {
				h.lost = now
			}
			if left := lossDelay - now.Sub(h.lost); left > 0 {
				wait = append(wait, h)
				if again == 0 || left < again {
					again = left
				}
				continue
			}
		}
		if !h.known || is != h.told {
			h.known, h.told = true, is
			changes = append(changes, is)
		}
	}
	t.topo.news = t.topo.news[:0]
	for _, h := range wait {
		t.topo.tell(h)
	}
	return changes, again
}

func (t *Table) apply() (total Result, err error) {
	if t.closed {
		return total, fmt.Errorf("apply routes: %w", errClosed)
	}
	for range connectTries {
		if t.broken {
			t.done.reconnects++
			if err = t.connect(); err != nil {
				break
			}
			t.broken, t.stale, t.objs.stale = false, true, true
		}
		var r Result
		r, err = t.applyOnce()
		total.add(r)
		// What is left of an answer would be taken for the next one's.
		if t.broken = errors.Is(err, errLost); !t.broken {
			break
		}
	}
	t.done.add(total)
	if t.log != nil && total.Writes() > logLimit {
		t.log.Info("routes written", "added", total.Added, "changed", total.Changed,
			"deleted", total.Deleted, "repaired", total.Repaired, "failed", total.Failed)
	}
	if err != nil {
		return total, fmt.Errorf("apply routes: %w", err)
	}
	return total, nil
}

func (t *Table) applyOnce() (total Result, err error) {
	t.takeIn()
	for try := 0; ; try++ {
		if err := t.read(); err != nil {
			return total, err
		}
		if len(t.topo.moved) > 0 {
			t.v4.resolveMoved()
			t.v6.resolveMoved()
			t.topo.settleMoved()
		}
		if total.Objects, err = t.writeObjects(total.Objects); err != nil {
			return total, err
		}
		r4, err4 := t.v4.writeAll(t.conn, t.prunes(), try == doubtTries, t.log)
		r6, err6 := t.v6.writeAll(t.conn, t.prunes(), try == doubtTries, t.log)
		total.add(r4)
		total.add(r6)
		if err := errors.Join(err4, err6); err != nil {
			return total, err
		}
		if len(t.v4.doubts)+len(t.v6.doubts) == 0 {
			t.v4.sayLost(t.log)
			t.v6.sayLost(t.log)
			return total, t.sweepObjects(&total)
		}
		for _, k := range t.v4.doubts {
			t.v4.touch(k)
		}
		for _, k := range t.v6.doubts {
			t.v6.touch(k)
		}
		t.stale = true
	}
}

// writeObjects brings next-hop objects to what routes are about to need, and
// takes in which of them were lost.
func (t *Table) writeObjects(before int) (writes int, err error) {
	n, err := t.objs.write(t.conn)
	if errors.Is(err, errUnsupported) {
		t.downgrade()
		return t.writeObjects(before + n)
	}
	if len(t.objs.lost) > 0 {
		t.v4.lose(t.objs.lost)
		t.v6.lose(t.objs.lost)
		clear(t.objs.lost)
	}
	return before + n, err
}

// downgrade takes in that the kernel has no groups of the kind we prefer.
func (t *Table) downgrade() {
	t.objs.mode++
	if t.log != nil {
		t.log.Info("this kernel lacks a kind of next-hop object", "resilient", false, "groups", t.objs.mode == plain)
	}
	for _, g := range t.objs.groups {
		g.id = 0
	}
	t.objs.stale = false
	t.v4.resolveAll()
	t.v6.resolveAll()
}

// sweepObjects removes next-hop objects that nothing leads to any more.
func (t *Table) sweepObjects(total *Result) error {
	if !t.objs.sweepDue || !t.prunes() {
		return nil
	}
	used := map[uint32]bool{}
	t.v4.objectsUsed(used)
	t.v6.objectsUsed(used)
	for id := range t.topo.objects {
		used[id] = true
	}
	n, err := t.objs.sweep(t.conn, used)
	total.Objects += n
	return err
}

// read reads from the kernel what is known to be out of date. The order
// matters: the kernel tells of an address that goes before it drops the
// routes, and lists routes without waiting for that. Listing interfaces takes
// the lock (rtnl) that it holds meanwhile.
func (t *Table) read() error {
	if t.stale || t.relink {
		byName, running, err := readLinks(t.conn)
		if err != nil {
			return fmt.Errorf("list links: %w", err)
		}
		t.topo.setLinks(byName, running)
		t.done.listings++
	}
	if t.stale || t.objs.stale {
		err := t.objs.readObjects(t.conn)
		if errors.Is(err, errUnsupported) {
			t.objs.mode, t.objs.stale, err = inline, false, nil
		}
		if err != nil {
			return err
		}
	}
	var parts []foreignPart
	own := t.stale || t.staleOwn
	switch {
	case t.stale:
		parts = []foreignPart{{unix.AF_INET, 0}, {unix.AF_INET6, 0}}
	default:
		if t.staleOwn {
			parts = []foreignPart{{unix.AF_INET, t.proto}, {unix.AF_INET6, t.proto}}
		}
		for p := range t.staleOf {
			parts = append(parts, p)
		}
	}
	for _, p := range parts {
		var err error
		if p.family == unix.AF_INET {
			err = readRoutes(t.conn, t.v4, p.proto)
		} else {
			err = readRoutes(t.conn, t.v6, p.proto)
		}
		if err != nil {
			return err
		}
	}
	if t.stale || t.relink || t.linked {
		t.topo.followAll()
		t.v4.resolveAll()
		t.v6.resolveAll()
		t.topo.settleMoved()
	}
	if own {
		t.done.resyncs++
		if !t.asked {
			t.done.unasked++
		}
		t.v4.endDump(t.prunes())
		t.v6.endDump(t.prunes())
	}
	t.stale, t.staleOwn, t.relink, t.linked, t.asked, t.staleOf = false, false, false, false, false, nil
	return nil
}

// readRoutes dumps one family's main table, or what has one protocol number in
// it. Foreign routes are part of it: they resolve next hops, and may be in our
// way. The filter leaves the rest out in the kernel (NETLINK_GET_STRICT_CHK);
// where it does not, here.
func readRoutes[K key[K]](c *conn, f *fib[K], proto uint8) error {
	body := make([]byte, rtmHeader)
	body[0], body[4], body[5] = f.family, unix.RT_TABLE_MAIN, proto
	var r kernelRoute
	var err error
	for range dumpTries {
		f.beginDump(proto)
		err = c.dump(unix.RTM_GETROUTE, body, func(m message) {
			const cloned = unix.RTM_F_CLONED
			if m.typ == unix.RTM_NEWROUTE && r.parse(m.data) && r.family == f.family &&
				r.table == unix.RT_TABLE_MAIN && (proto == 0 || proto == r.proto) && ne.Uint32(m.data[8:])&cloned == 0 {
				f.met(&r, m.data)
			}
		})
		if !errors.Is(err, errInterrupted) {
			break
		}
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		err = nil // a kernel without IPv6 has no such routes
	}
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	return nil
}
