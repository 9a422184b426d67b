// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// opKind is what one message does.
type opKind uint8

const (
	opAdd     opKind = iota // exclusive: never over a route that is there
	opReplace               // in place
	opDelete                // by prefix, metric and protocol
	opPurge                 // by everything, from extras
)

// op is one message of a batch.
type op[K key[K]] struct {
	k       K
	kind    opKind
	content uint32 // opAdd, opReplace
	old     uint32 // opAdd: metric of the route to delete afterwards
	hasOld  bool
}

// batch collects messages for one system call.
type batch[K key[K]] struct {
	buf    []byte
	last   int // where the last message starts
	first  uint32
	ops    []op[K]
	later  []deletion[K] // after all additions
	errs   []refusal
	result Result
	final  bool // a refusal is final, not a reason to look again
}

type deletion[K key[K]] struct {
	k      K
	metric uint32
	raw    []byte // opPurge
	stale  bool   // a second route of the prefix; the first one stays
}

type refusal struct {
	i   int
	err *kernelError
}

// writeAll brings the kernel to what is wanted for every prefix on the list:
// additions and changes first, deletions after them, so that no packet finds
// the old route gone before the new one is there.
func (f *fib[K]) writeAll(c *conn, prune, final bool, log *slog.Logger) (Result, error) {
	w := &f.write
	*w = batch[K]{buf: w.buf[:0], ops: w.ops[:0], later: w.later[:0], errs: w.errs[:0], final: final}
	defer func() {
		if cap(w.ops) > 1<<14 || cap(w.later) > 1<<14 { // a bulk load leaves no weight behind
			*w = batch[K]{}
		}
	}()
	f.doubts = f.doubts[:0]
	if f.dirtyAll {
		f.dirtyAll = false
		for k, e := range f.table.all() {
			if err := f.plan(c, k, e, prune, log); err != nil {
				return w.result, f.giveUp(err)
			}
		}
	} else {
		// A prefix planned twice would be added twice.
		slices.SortFunc(f.dirty, K.compare)
		for _, k := range slices.Compact(f.dirty) {
			e, ok := f.table.get(k)
			if !ok {
				continue
			}
			if err := f.plan(c, k, e, prune, log); err != nil {
				return w.result, f.giveUp(err)
			}
		}
		f.dirty = nil
	}
	if err := f.flush(c, log); err != nil {
		return w.result, f.giveUp(err)
	}
	if prune {
		for _, x := range f.extras {
			w.later = append(w.later, deletion[K]{k: x.k, raw: x.raw, stale: true})
		}
		f.extras = nil
	}
	for _, d := range w.later {
		if err := f.queueDelete(c, d, log); err != nil {
			return w.result, f.giveUp(err)
		}
	}
	if err := f.flush(c, log); err != nil {
		return w.result, f.giveUp(err)
	}
	if len(f.suspect) > 0 {
		clear(f.suspect)
	}
	return w.result, nil
}

// giveUp keeps everything on the list: after a lost answer nothing is certain.
func (f *fib[K]) giveUp(err error) error {
	f.dirtyAll, f.dirty = true, nil
	return err
}

// plan queues what one prefix needs.
func (f *fib[K]) plan(c *conn, k K, e entry, prune bool, log *slog.Logger) error {
	w := &f.write
	want := f.outcome(e)
	if want == e.have {
		if e.have == 0 && e.want < firstAction {
			f.table.remove(k)
		}
		delete(f.problems, k)
		return nil
	}
	if want == 0 {
		if e.want == wantNone && !prune || f.keeps(e) {
			return nil
		}
		w.later = append(w.later, deletion[K]{k: k, metric: f.contents[e.have].metric})
		return nil
	}
	to := &f.contents[want]
	if f.blocked(k, to.metric) {
		return nil // reported by Problems, not fought
	}
	if e.have == 0 {
		return f.queue(c, op[K]{k: k, kind: opAdd, content: want}, log)
	}
	from := &f.contents[e.have]
	if from.metric != to.metric {
		return f.queue(c, op[K]{k: k, kind: opAdd, content: want, old: from.metric, hasOld: true}, log)
	}
	if f.family == unix.AF_INET6 && (len(from.hops) > 1 || from.multi) && (to.kind != Via || to.object != 0) {
		// The kernel replaces only one next hop of an IPv6 route by a route
		// without gateway or with an object, and leaves the others behind.
		if err := f.queueDelete(c, deletion[K]{k: k, metric: from.metric}, log); err != nil {
			return err
		}
		return f.queue(c, op[K]{k: k, kind: opAdd, content: want}, log)
	}
	return f.queue(c, op[K]{k: k, kind: opReplace, content: want}, log)
}

// keeps tells whether a route stays although its next hops cannot be resolved:
// while an uplink changes its address, the kernel goes on forwarding.
func (f *fib[K]) keeps(e entry) bool {
	if e.want < firstAction || f.actions[e.want].key.kind != Via {
		return false
	}
	c := &f.contents[e.have]
	if c.odd || c.kind != Via || c.metric != f.actions[e.want].key.metric {
		return false
	}
	if c.code == f.actions[e.want].last {
		return true
	}
	if c.object != 0 {
		g := f.actions[e.want].group
		return g != nil && g.id == c.object
	}
	gws := f.actions[e.want].key.hops.Addrs()
	for _, h := range c.hops {
		if !slices.ContainsFunc(gws, func(g netip.Addr) bool { return g.WithZone("") == h.gw }) {
			return false
		}
	}
	return true
}

// start makes room for a message of at most n bytes and numbers it.
func (f *fib[K]) start(c *conn, n int, log *slog.Logger) error {
	w := &f.write
	if len(w.buf) > 0 && len(w.buf)+n > sendLimit {
		if err := f.flush(c, log); err != nil {
			return err
		}
	}
	c.seq++
	if len(w.ops) == 0 {
		w.first = c.seq
	}
	w.last = len(w.buf)
	return nil
}

func (f *fib[K]) queue(c *conn, o op[K], log *slog.Logger) error {
	w := &f.write
	msg := f.contents[o.content].template(f.family, f.proto)
	if err := f.start(c, len(msg), log); err != nil {
		return err
	}
	w.buf = append(w.buf, msg...)
	m := w.buf[w.last:]
	flags := uint16(unix.NLM_F_REQUEST | unix.NLM_F_CREATE | unix.NLM_F_EXCL)
	if o.kind == opReplace {
		flags = unix.NLM_F_REQUEST | unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	}
	putHeader(m, unix.RTM_NEWROUTE, flags, c.seq)
	m[atBits] = byte(o.k.bits())
	o.k.put(m[atDst:])
	w.ops = append(w.ops, o)
	return nil
}

func (f *fib[K]) queueDelete(c *conn, d deletion[K], log *slog.Logger) error {
	w := &f.write
	if err := f.start(c, nlHeader+max(len(d.raw), 64), log); err != nil {
		return err
	}
	o := op[K]{k: d.k, kind: opDelete}
	if d.raw != nil {
		o.kind = opPurge
		w.buf = append(w.buf, make([]byte, nlHeader)...)
		w.buf = append(w.buf, d.raw...)
		for len(w.buf)%4 != 0 {
			w.buf = append(w.buf, 0)
		}
		// What the kernel thinks of the link is no part of the route.
		ne.PutUint32(w.buf[w.last+nlHeader+8:], ne.Uint32(d.raw[8:])&hopFlags)
	} else {
		// The protocol makes sure that no foreign route is hit.
		w.buf = appendBase(w.buf, f.family, f.proto, d.metric)
		m := w.buf[w.last:]
		m[atScope] = unix.RT_SCOPE_NOWHERE // any
		m[atBits] = byte(d.k.bits())
		d.k.put(m[atDst:])
		o.hasOld = d.stale
	}
	putHeader(w.buf[w.last:], unix.RTM_DELROUTE, unix.NLM_F_REQUEST, c.seq)
	w.ops = append(w.ops, o)
	return nil
}

// flush sends what is queued and takes the answers in.
func (f *fib[K]) flush(c *conn, log *slog.Logger) error {
	w := &f.write
	if len(w.ops) == 0 {
		return nil
	}
	last := w.buf[w.last:]
	ne.PutUint16(last[6:], ne.Uint16(last[6:])|unix.NLM_F_ACK)
	w.errs = w.errs[:0]
	err := c.exec(w.buf, w.first, len(w.ops), func(i int, e *kernelError) { w.errs = append(w.errs, refusal{i, e}) })
	if err == nil {
		at := 0
		for i, o := range w.ops {
			var refused *kernelError
			if at < len(w.errs) && w.errs[at].i == i {
				refused = w.errs[at].err
				at++
			}
			f.done(o, refused, log)
		}
	}
	w.buf, w.ops, w.last = w.buf[:0], w.ops[:0], 0
	return err
}

// done takes in the outcome of one message.
func (f *fib[K]) done(o op[K], refused *kernelError, log *slog.Logger) {
	w := &f.write
	if refused != nil && (o.kind == opDelete || o.kind == opPurge) && errors.Is(refused, unix.ESRCH) {
		refused = nil // gone already
	}
	if refused != nil {
		f.refuse(o, refused)
		return
	}
	_, repair := f.suspect[o.k]
	if repair {
		w.result.Repaired++
	}
	switch o.kind {
	case opAdd, opReplace:
		f.setHave(o.k, o.content, 0)
		delete(f.problems, o.k)
		if o.hasOld {
			w.later = append(w.later, deletion[K]{k: o.k, metric: o.old, stale: true})
		}
		if o.kind == opAdd {
			w.result.Added++
		} else {
			w.result.Changed++
		}
	case opPurge:
		w.result.Deleted++
	case opDelete:
		w.result.Deleted++
		if !o.hasOld {
			f.setHave(o.k, 0, 0)
		}
	}
	if log == nil {
		return
	}
	if w.result.Writes() <= logLimit {
		f.explain(o, repair, log)
	}
}

// logLimit is how many routes of one Apply are named in the log; the total is
// there in any case.
const logLimit = 20

func (f *fib[K]) explain(o op[K], repair bool, log *slog.Logger) {
	what := [...]string{"route added", "route changed", "route deleted", "stray route deleted"}[o.kind]
	if repair {
		what = "route repaired"
	}
	args := []any{"prefix", o.k.prefix()}
	if o.kind <= opReplace {
		args = f.describe(o.k)
	}
	log.Info(what, args...)
}

// describe names a route for the log, and what it is to be if it is wanted.
func (f *fib[K]) describe(k K) []any {
	args := []any{"prefix", k.prefix()}
	if e := f.entry(k); e.want >= firstAction {
		a := &f.actions[e.want].key
		args = append(args, "kind", a.kind, "metric", a.metric)
		if a.kind == Link {
			args = append(args, "device", a.device)
		}
		if a.kind == Via {
			args = append(args, "via", a.hops)
		}
	}
	return args
}

// sayLost logs which routes the kernel has dropped and has not got again: with a
// workload's namespace its interface goes, and with that the routes.
func (f *fib[K]) sayLost(log *slog.Logger) {
	if log != nil {
		for _, k := range f.lost {
			if f.entry(k).have == 0 {
				log.Info("route gone from the kernel", f.describe(k)...)
			}
		}
		if more := f.nLost - len(f.lost); more > 0 {
			log.Info("more routes were gone from the kernel", "routes", more)
		}
	}
	f.lost, f.nLost = nil, 0
}

// refuse takes in that the kernel said no.
func (f *fib[K]) refuse(o op[K], e *kernelError) {
	w := &f.write
	if o.kind == opAdd && errors.Is(e, unix.EEXIST) && !w.final {
		// Something is there that we do not know of. Only a dump can tell
		// whether it is ours.
		f.doubts = append(f.doubts, o.k)
		return
	}
	w.result.Failed++
	verb := [...]string{"add", "change", "delete", "delete"}[o.kind]
	f.problems[o.k] = fmt.Sprintf("%s route: %v", verb, e)
}
