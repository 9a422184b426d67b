// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"bytes"
	"iter"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// foreignRoute is a route of the main table that does not carry our protocol.
type foreignRoute struct {
	metric uint32
	object uint32 // the next-hop object it uses
	hops   []hop
	proto  uint8
	tos    uint8
	drops  bool // instead of forwarding
}

func (r *foreignRoute) through(index uint32) bool {
	return slices.ContainsFunc(r.hops, func(h hop) bool { return h.oif == index })
}

// is tells whether a notification is about this route, as far as what
// identifies one in the kernel goes: there is one of a metric and TOS, as a rule.
func (r *foreignRoute) is(k *kernelRoute) bool { return r.metric == k.metric && r.tos == k.tos }

// foreignLimit bounds what is remembered of foreign routes: beyond it only
// subnets that are on-link, and what stands in the way of ours.
const foreignLimit = 100_000

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
	fr := foreignRoute{metric: r.metric, object: r.object, proto: r.proto, tos: r.tos, drops: r.drops()}
	if f.nForeign >= foreignLimit && !(len(r.hops) == 1 && !r.hops[0].gw.IsValid()) && f.entry(k).want < firstAction {
		return
	}
	fr.hops = slices.Clone(r.hops)
	f.topo.foreign.Modify(k.prefix(), func(rs []foreignRoute, _ bool) ([]foreignRoute, bool) { return append(rs, fr), false })
	f.nForeign++
	f.topo.count(fr.object, 1)
	f.topo.follow(k.prefix())
}

// dropForeign forgets the foreign routes at p for which gone is true, and tells
// whether there were any.
func (f *fib[K]) dropForeign(p netip.Prefix, gone func(*foreignRoute) bool) (any bool) {
	rs, ok := f.topo.foreign.Get(p)
	if !ok {
		return false
	}
	n := len(rs)
	rs = slices.DeleteFunc(rs, func(r foreignRoute) bool {
		g := gone(&r)
		if g {
			f.topo.count(r.object, -1)
		}
		return g
	})
	if len(rs) == n {
		return false
	}
	f.nForeign -= n - len(rs)
	if len(rs) == 0 {
		f.topo.foreign.Delete(p)
	} else {
		f.topo.foreign.Insert(p, rs)
	}
	f.topo.follow(p)
	return true
}

// foreignOf returns the foreign routes to a prefix.
func (f *fib[K]) foreignOf(k K) []foreignRoute {
	rs, _ := f.topo.foreign.Get(k.prefix())
	return rs
}

// allForeign walks over the foreign routes of the family. The table must not
// change meanwhile.
func (f *fib[K]) allForeign() iter.Seq2[netip.Prefix, []foreignRoute] {
	if f.family == unix.AF_INET {
		return f.topo.foreign.All4()
	}
	return f.topo.foreign.All6()
}

// dropAllForeign forgets every foreign route for which gone is true, and has
// what it stood in the way of looked at.
func (f *fib[K]) dropAllForeign(gone func(*foreignRoute) bool) {
	var at []netip.Prefix
	for p, rs := range f.allForeign() {
		if slices.ContainsFunc(rs, func(r foreignRoute) bool { return gone(&r) }) {
			at = append(at, p)
		}
	}
	for _, p := range at {
		f.dropForeign(p, gone)
		f.touch(f.make(p))
	}
}

// blocked tells whether a foreign route holds the place of one of ours.
func (f *fib[K]) blocked(k K, metric uint32) bool {
	for _, r := range f.foreignOf(k) {
		if r.metric == metric && r.tos == 0 {
			return true
		}
	}
	return false
}

// beginDump forgets what the last one met: of all routes, or of those with one
// protocol.
func (f *fib[K]) beginDump(proto uint8) {
	if proto == 0 || proto == f.proto {
		for k, e := range f.table.all() {
			if e.have&seen != 0 {
				e.have &^= seen
				f.table.set(k, e)
			}
		}
		f.extras = nil
	}
	if proto != f.proto {
		f.dropAllForeign(func(r *foreignRoute) bool { return proto == 0 || r.proto == proto })
	}
}

// met takes in one route of a dump. raw is its payload, valid during the call.
func (f *fib[K]) met(r *kernelRoute, raw []byte) {
	k := f.make(r.prefix())
	if r.proto != f.proto {
		f.addForeign(k, r)
		return
	}
	e := f.entry(k)
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
			f.table.set(k, e)
		}
	case mine && e.have&^seen == n:
		// A walk that started again because the table changed meets routes twice.
	default:
		f.extras = append(f.extras, extra[K]{k, quote(r, raw)})
		f.dropUnused(n)
	}
}

// quote copies the payload of a route for its deletion. Where it has a next-hop
// object, what the kernel tells of that must not be quoted.
func quote(r *kernelRoute, raw []byte) []byte {
	if r.object == 0 {
		return bytes.Clone(raw)
	}
	out := bytes.Clone(raw[:rtmHeader])
	for b := raw[rtmHeader:]; ; {
		typ, data, rest, ok := nextAttr(b)
		if !ok {
			return out
		}
		b = rest
		switch typ {
		case unix.RTA_OIF, unix.RTA_GATEWAY, unix.RTA_VIA, unix.RTA_MULTIPATH:
		default:
			out = appendAttr(out, typ, data)
		}
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
	for k, e := range f.table.all() {
		if e.have != 0 && e.have&seen == 0 {
			if want := f.outcome(e); want != 0 && e.have == want {
				f.suspect[k] = struct{}{}
			}
			f.dropped(k)
			e = f.entry(k)
		}
		have := e.have &^ seen
		if have != e.have {
			e.have = have
			f.table.set(k, e)
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
	for k, e := range f.table.all() {
		if e.want == wantNone {
			f.touch(k)
		}
	}
}

// reread says what has to be read after a notification that does not tell all.
type reread uint8

const (
	rereadNothing reread = iota
	rereadForeign        // the routes of the protocol that it was about
	rereadOurs
	rereadAll
)

// observe takes in a notification about a change that somebody else made. A
// notification that is older than our own last write does no harm: what it
// leads to is an exclusive addition, which the kernel refuses if the route is
// there.
func (f *fib[K]) observe(r *kernelRoute, deleted bool, flags uint16, now time.Time) reread {
	k := f.make(r.prefix())
	e := f.entry(k)
	var have content
	if e.have != 0 {
		have = f.contents[e.have]
	}
	samePlace := e.have != 0 && r.tos == 0 && have.metric == r.metric
	replaced := !deleted && flags&unix.NLM_F_REPLACE != 0
	if r.proto == f.proto {
		if f.observeOwn(k, e, have, r, deleted, replaced, samePlace) {
			return rereadOurs
		}
		return rereadNothing
	}
	return f.observeForeign(k, r, deleted, replaced, samePlace, now)
}

func (f *fib[K]) observeForeign(k K, r *kernelRoute, deleted, replaced, samePlace bool, now time.Time) reread {
	p := k.prefix()
	exact := func(o *foreignRoute) bool { return o.is(r) && o.proto == r.proto && slices.Equal(o.hops, r.hops) }
	// IPv6 has a route of one prefix and metric for each link.
	sibling := func(o *foreignRoute) bool {
		return r.family == unix.AF_INET6 && len(r.hops) == 1 && len(o.hops) == 1 && !r.hops[0].gw.IsValid() &&
			!o.hops[0].gw.IsValid() && o.hops[0].oif != r.hops[0].oif
	}
	unclear := func(o foreignRoute) bool { return o.is(r) && !sibling(&o) && !exact(&o) }
	if deleted {
		f.touch(k) // it may have been in our way
		if !f.dropForeign(p, exact) && slices.ContainsFunc(f.foreignOf(k), unclear) {
			return rereadForeign // one next hop of several
		}
		return rereadNothing
	}
	if replaced {
		dropped := f.dropForeign(p, func(o *foreignRoute) bool { return o.is(r) })
		if samePlace {
			if dropped {
				return rereadAll // which of the two went is not said
			}
			if (len(r.hops) < 2 || r.object != 0) && f.mayReclaim(k, now) {
				// Ours was changed into this one. Taken for ours, it is changed back.
				var scratch [16]byte
				hops := r.hops[:min(len(r.hops), 1)]
				f.setHave(k, f.contentFor(appendCode(scratch[:0], oddKind, r.metric, hops, 0), 0, r.metric, hops, 0), 0)
				f.suspect[k] = struct{}{}
				f.touch(k)
				return rereadNothing
			}
			f.dropped(k)
		}
	} else if slices.ContainsFunc(f.foreignOf(k), unclear) {
		return rereadForeign // one more next hop, or a second route
	}
	if !slices.ContainsFunc(f.foreignOf(k), func(o foreignRoute) bool { return exact(&o) }) {
		f.addForeign(k, r)
	}
	if len(r.hops) == 1 && !r.hops[0].gw.IsValid() {
		f.retry() // a subnet: next hops in it, and a device that takes routes now
	}
	return rereadNothing
}

func (f *fib[K]) observeOwn(k K, e entry, have content, r *kernelRoute, deleted, replaced, samePlace bool) (reread bool) {
	switch {
	case deleted && !samePlace:
		return len(f.extras) > 0
	case deleted && string(r.code) != have.code:
		return true // one next hop of several, or one of two routes
	case deleted:
		f.dropped(k)
	case samePlace && string(r.code) == have.code:
		return false
	case samePlace && !replaced:
		return true // a second route, or one more next hop
	case samePlace, e.have == 0 && r.tos == 0:
		if replaced {
			f.dropForeign(k.prefix(), func(o *foreignRoute) bool { return o.is(r) })
		}
		f.setHave(k, f.contentOf(r), 0)
	default:
		return true // ours by protocol, at a metric that is not ours
	}
	if f.entry(k).want >= firstAction {
		f.suspect[k] = struct{}{}
	}
	f.touch(k)
	return false
}

// linkLost takes in that an interface went down or away: the kernel drops its
// routes, for IPv4 without a word. It returns true when only a dump can tell
// what is left.
func (f *fib[K]) linkLost(index uint32) (reread bool) {
	f.dropAllForeign(func(r *foreignRoute) bool {
		// One of several next hops may stay, and does not count (topology.usable).
		return r.through(index) &&
			!slices.ContainsFunc(r.hops, func(h hop) bool { return h.oif != index && f.topo.running[h.oif] })
	})
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
	for k, e := range f.table.all() {
		if lost[e.have] {
			f.dropped(k)
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
	for p, rs := range f.allForeign() {
		if p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			continue // each link has one: no next hop is found by it, and the kernel tells of its end
		}
		if slices.ContainsFunc(rs, func(r foreignRoute) bool { return r.through(index) }) {
			return true
		}
	}
	return false
}
