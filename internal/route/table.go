// SPDX-License-Identifier: Apache-2.0

package route

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options configure a Table.
type Options struct {
	// Log is told what was written; nil is silence.
	Log *slog.Logger
	// Sources names who may want routes, most important first: of two that
	// want one prefix the first named gets it. Nil is "local", "bgp".
	Sources []string
	// Protocol is what marks our routes in the kernel; 0 is Protocol.
	Protocol uint8
	// Inside, if set, runs its argument on a thread that is in the network
	// namespace to manage; nil is the namespace of the caller.
	Inside func(func() error) error
}

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
	v4       *fib[key4]
	v6       *fib[key6]
	complete []bool
	stale    bool // read the whole table before writing
	relink   bool // read the interfaces before writing
	closed   bool
	broken   bool // connect anew before anything else
	done     tally

	events queue // has its own lock, so that a long Apply does not stop Watch
}

// tally is what was done since Open.
type tally struct {
	Result
	resyncs    int // whole tables read
	reconnects int
}

// Open makes the sockets and subscribes to changes. Nothing is read or written
// before the first Apply. Close it.
func Open(o Options) (*Table, error) {
	if o.Sources == nil {
		o.Sources = []string{"local", "bgp"}
	}
	if o.Protocol == 0 {
		o.Protocol = Protocol
	}
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
	t.v4 = newFIB(unix.AF_INET, o.Protocol, makeKey4, &t.topo)
	t.v6 = newFIB(unix.AF_INET6, o.Protocol, makeKey6, &t.topo)
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

// errClosed is what Apply returns after Close.
var errClosed = errors.New("route table is closed")

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
		return 0, fmt.Errorf("unknown route source %q: want one of %q", source, t.sources)
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
// only what differs. Use it on a timer: notifications do the work between.
func (t *Table) Resync() (Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stale = true
	return t.apply()
}

const (
	dumpTries    = 10 // a table that changes all the time is read again so often
	connectTries = 3
	// doubtTries is how often an unknown route in our place leads to reading
	// the table before it counts as refused.
	doubtTries = 2
)

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
			t.broken, t.stale = false, true
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
		if t.stale || t.relink {
			if err := t.readTopology(); err != nil {
				return total, err
			}
		}
		r4, err4 := t.v4.writeAll(t.conn, t.prunes(), try == doubtTries, t.log)
		r6, err6 := t.v6.writeAll(t.conn, t.prunes(), try == doubtTries, t.log)
		total.add(r4)
		total.add(r6)
		if err := errors.Join(err4, err6); err != nil {
			return total, err
		}
		if len(t.v4.doubts)+len(t.v6.doubts) == 0 {
			return total, nil
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

// readTopology reads the interfaces and, if the table is stale, all routes. The
// order matters: the kernel tells of an address that goes before it drops the
// routes, and lists routes without waiting for that. Listing interfaces takes
// the lock (rtnl) that it holds meanwhile.
func (t *Table) readTopology() error {
	byName, up, err := readLinks(t.conn)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	t.topo.byName, t.topo.up = byName, up
	if t.stale {
		err := errors.Join(readRoutes(t.conn, t.v4), readRoutes(t.conn, t.v6))
		if err != nil {
			return err
		}
	}
	t.topo.setConnected(append(t.v4.connected(), t.v6.connected()...))
	t.v4.resolveAll()
	t.v6.resolveAll()
	if t.stale {
		t.done.resyncs++
		t.v4.endDump(t.prunes())
		t.v6.endDump(t.prunes())
	}
	t.stale, t.relink = false, false
	return nil
}

// readRoutes dumps one family's main table. Foreign routes are part of it: the
// on-link ones resolve next hops, the others may be in our way. The filter
// leaves the other tables out in the kernel; where it does not, here.
func readRoutes[K key](c *conn, f *fib[K]) error {
	body := make([]byte, rtmHeader)
	body[0], body[4] = f.family, unix.RT_TABLE_MAIN
	var r kernelRoute
	var err error
	for range dumpTries {
		f.beginDump()
		err = c.dump(unix.RTM_GETROUTE, body, func(m message) {
			const cloned = unix.RTM_F_CLONED
			if m.typ == unix.RTM_NEWROUTE && r.parse(m.data) && r.family == f.family &&
				r.table == unix.RT_TABLE_MAIN && ne.Uint32(m.data[8:])&cloned == 0 {
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
