// SPDX-License-Identifier: Apache-2.0

package route

import (
	"bytes"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// foreignRoute is a route of the main table that does not carry our protocol.
type foreignRoute struct {
	metric uint32
	oif    uint32 // of a route without gateway, else 0: its subnet is on-link
	dev    uint32 // the interface of a route with or without gateway, 0 if it has several
	proto  uint8
	tos    uint8
}

// foreignLimit bounds what is remembered of foreign routes: beyond it only
// subnets that are on-link, and what stands in the way of ours.
const foreignLimit = 10_000

// A route that is replaced in place is taken back reclaimBurst times, and
// then once every reclaimEvery: long enough for any hand, short of a war with
// another daemon that wants the same prefix at the same metric.
const (
	reclaimBurst = 200
	reclaimEvery = time.Second
)

type bucket struct {
	left int
	at   time.Time
}

func (f *fib[K]) mayReclaim(k K, now time.Time) bool {
	if len(f.reclaims) > 1000 {
		clear(f.reclaims)
	}
	b, ok := f.reclaims[k]
	if !ok {
		b = bucket{reclaimBurst, now}
	}
	if n := int(now.Sub(b.at) / reclaimEvery); n > 0 {
		b.left, b.at = min(b.left+n, reclaimBurst), now
	}
	if b.left > 0 {
		b.left--
		f.reclaims[k] = b
		return true
	}
	f.reclaims[k] = b
	return false
}

func (f *fib[K]) addForeign(k K, r *kernelRoute) {
	fr := foreignRoute{metric: r.metric, oif: r.device(), proto: r.proto, tos: r.tos}
	if len(r.hops) == 1 {
		fr.dev = r.hops[0].oif
	}
	if f.nForeign >= foreignLimit && fr.oif == 0 && f.table[k].want < firstAction {
		return
	}
	f.foreign[k] = append(f.foreign[k], fr)
	f.nForeign++
}

// dropForeign forgets the foreign routes at k for which gone is true.
func (f *fib[K]) dropForeign(k K, gone func(foreignRoute) bool) {
	rs, ok := f.foreign[k]
	if !ok {
		return
	}
	n := len(rs)
	rs = slices.DeleteFunc(rs, gone)
	f.nForeign -= n - len(rs)
	if len(rs) == 0 {
		delete(f.foreign, k)
	} else {
		f.foreign[k] = rs
	}
}

// blocked tells whether a foreign route holds the place of one of ours.
func (f *fib[K]) blocked(k K, metric uint32) (foreignRoute, bool) {
	for _, r := range f.foreign[k] {
		if r.metric == metric && r.tos == 0 {
			return r, true
		}
	}
	return foreignRoute{}, false
}

func (f *fib[K]) connected() []connected {
	var out []connected
	for k, rs := range f.foreign {
		p := k.prefix()
		if p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			continue // every interface has it; a zone tells them apart
		}
		for _, r := range rs {
			if r.oif != 0 {
				out = append(out, connected{p, r.metric, r.oif})
			}
		}
	}
	return out
}

// beginDump forgets what the last one met.
func (f *fib[K]) beginDump() {
	for k, e := range f.table {
		if e.have&seen != 0 {
			e.have &^= seen
			f.table[k] = e
		}
	}
	f.extras = nil
	f.foreign, f.nForeign = map[K][]foreignRoute{}, 0
}

// met takes in one route of a dump. raw is its payload, valid during the call.
func (f *fib[K]) met(r *kernelRoute, raw []byte) {
	k := f.make(r.prefix())
	if r.proto != f.proto {
		f.addForeign(k, r)
		return
	}
	e := f.table[k]
	want := f.outcome(e)
	n := f.contentOf(r)
	metric, wanted := f.metricOf(e)
	mine := r.tos == 0 && (!wanted || metric == r.metric)
	switch {
	case mine && e.have&seen == 0:
		if want == 0 || e.have != n {
			if want != 0 && e.have == want {
				f.suspect[k] = struct{}{} // it was right once
			}
			f.setHave(k, n, seen)
		} else {
			e.have |= seen
			f.table[k] = e
		}
	case mine && e.have&^seen == n:
		// A walk that started again because the table changed meets routes twice.
	default:
		f.extras = append(f.extras, extra[K]{k, bytes.Clone(raw)})
		f.dropUnused(n)
	}
}

// dropUnused frees a content that was looked up and not used.
func (f *fib[K]) dropUnused(n uint32) {
	if n != 0 && f.contents[n].refs == 0 {
		f.contents[n].refs = 1
		f.unrefContent(n)
	}
}

// endDump compares what was met with what is wanted. prune tells whether what
// nobody wants may go.
func (f *fib[K]) endDump(prune bool) {
	for k, e := range f.table {
		if e.have != 0 && e.have&seen == 0 {
			if want := f.outcome(e); want != 0 && e.have == want {
				f.suspect[k] = struct{}{}
			}
			f.setHave(k, 0, 0)
			e = f.table[k]
		}
		have := e.have &^ seen
		if have != e.have {
			e.have = have
			f.table[k] = e
		}
		if e.want == wantNone && !prune {
			continue
		}
		if have != f.outcome(e) {
			f.touch(k)
		}
	}
}

// touchUnwanted puts on the list what was found and is wanted by nobody.
func (f *fib[K]) touchUnwanted() {
	for k, e := range f.table {
		if e.want == wantNone {
			f.touch(k)
		}
	}
}

// observe takes in a notification about a change that somebody else made. It
// returns reread when only the whole table can tell what is there now, and
// topology when the change may matter for resolving next hops. A notification
// that is older than our own last write does no harm: what it leads to is an
// exclusive addition, which the kernel refuses if the route is there.
func (f *fib[K]) observe(r *kernelRoute, deleted bool, flags uint16, now time.Time) (reread, topology bool) {
	k := f.make(r.prefix())
	e := f.table[k]
	var have content
	if e.have != 0 {
		have = f.contents[e.have]
	}
	samePlace := e.have != 0 && r.tos == 0 && have.metric == r.metric
	replaced := !deleted && flags&unix.NLM_F_REPLACE != 0
	if r.proto == f.proto {
		return f.observeOwn(k, e, have, r, deleted, replaced, samePlace), false
	}
	topology = r.device() != 0
	if deleted {
		f.dropForeign(k, func(o foreignRoute) bool {
			return o.metric == r.metric && o.tos == r.tos && o.proto == r.proto && o.oif == r.device()
		})
		f.touch(k) // it may have been in our way
		return false, topology
	}
	if replaced {
		before := len(f.foreign[k])
		f.dropForeign(k, func(o foreignRoute) bool { return o.metric == r.metric && o.tos == r.tos })
		if samePlace {
			if before != len(f.foreign[k]) {
				return true, topology // which of the two went is not said
			}
			if len(r.hops) < 2 && f.mayReclaim(k, now) {
				// Ours was changed into this one. Taken for ours, it is changed back.
				var scratch [8]byte
				f.setHave(k, f.contentFor(appendCode(scratch[:0], oddKind, r.metric, r.hops), 0, r.metric, r.hops), 0)
				f.suspect[k] = struct{}{}
				f.touch(k)
				return false, topology
			}
			f.setHave(k, 0, 0)
		}
	}
	f.addForeign(k, r)
	return false, topology
}

func (f *fib[K]) observeOwn(k K, e entry, have content, r *kernelRoute, deleted, replaced, samePlace bool) (reread bool) {
	switch {
	case deleted && !samePlace:
		return len(f.extras) > 0
	case deleted && string(r.code) != have.code:
		return true // one next hop of several, or one of two routes
	case deleted:
		f.setHave(k, 0, 0)
	case samePlace && string(r.code) == have.code:
		return false
	case samePlace && !replaced:
		return true // a second route, or one more next hop
	case samePlace, e.have == 0 && r.tos == 0:
		if replaced {
			f.dropForeign(k, func(o foreignRoute) bool { return o.metric == r.metric && o.tos == r.tos })
		}
		f.setHave(k, f.contentOf(r), 0)
	default:
		return true // ours by protocol, at a metric that is not ours
	}
	if f.table[k].want >= firstAction {
		f.suspect[k] = struct{}{}
	}
	f.touch(k)
	return false
}

// linkLost takes in that an interface went down or away: the kernel drops its
// routes, for IPv4 without a word. It returns true when only a dump can tell
// what is left.
func (f *fib[K]) linkLost(index uint32) (reread bool) {
	for k, rs := range f.foreign {
		if slices.ContainsFunc(rs, func(r foreignRoute) bool { return r.dev == index }) {
			f.dropForeign(k, func(r foreignRoute) bool { return r.dev == index })
			f.touch(k) // it may have been in our way
		}
	}
	lost := map[uint32]bool{}
	for n := range f.contents {
		c := &f.contents[n]
		for _, h := range c.hops {
			if c.refs == 0 || h.oif != index {
				continue
			}
			if len(c.hops) > 1 {
				return true
			}
			lost[uint32(n)] = true
		}
	}
	if len(lost) == 0 {
		return false
	}
	for k, e := range f.table {
		if lost[e.have] {
			f.setHave(k, 0, 0)
			f.touch(k)
		}
	}
	return false
}

// uses tells whether a route that we know of goes through an interface, or may.
// With an address of it such a route may have gone, too: whether the address
// was the last one, only a dump can tell.
func (f *fib[K]) uses(index uint32) bool {
	for n := range f.contents {
		c := &f.contents[n]
		if c.refs > 0 && (c.odd || slices.ContainsFunc(c.hops, func(h hop) bool { return h.oif == index })) {
			return true
		}
	}
	for _, rs := range f.foreign {
		if slices.ContainsFunc(rs, func(r foreignRoute) bool { return r.dev == index }) {
			return true
		}
	}
	return false
}
