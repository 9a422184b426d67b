// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"net/netip"
	"slices"
)

// fib is one family's table: for each prefix what is wanted and what the
// kernel has, as numbers into two short lists, so that an entry costs about
// as much as its prefix. It is owned by Table and not safe for concurrent use.
type fib[K key[K]] struct {
	family uint8
	proto  uint8
	make   func(netip.Prefix) K
	topo   *topology
	objs   *objects

	table  pages[K]
	losers map[K][]uint32 // claims of lower rank on the same prefix: action numbers
	byLen  [129]int       // wanted prefixes by length

	actions    []action[K]
	actionNum  map[actionKey]uint32
	actionFree []uint32
	lastAction uint32 // that actionFor found; its key is empty when it is gone

	contents    []content
	contentNum  map[string]uint32
	contentFree []uint32

	dirty    []K  // prefixes to look at
	dirtyAll bool // … or all of them

	extras   []extra[K] // ours in the kernel, and beside the one in table
	nForeign int
	suspect  map[K]struct{}
	reclaims map[K]bucket
	problems map[K]string
	doubts   []K
	lost     []K // dropped since sayLost; the first of them
	nLost    int // … and how many
	write    batch[K]
}

// entry returns what is known of a prefix.
func (f *fib[K]) entry(k K) entry {
	e, _ := f.table.get(k)
	return e
}

// entry is what is known of a prefix.
type entry struct {
	want uint32 // action number, or wantNone, wantGone
	have uint32 // content number, 0 for nothing; see seen
}

const (
	// wantNone: found in the kernel, and nobody has said anything about it. It
	// is deleted when every source is complete.
	wantNone = iota
	// wantGone: a source took it back. It is deleted at once.
	wantGone
	firstAction

	// seen marks, in entry.have, what the running dump has met.
	seen = 1 << 31
)

// action is what one source wants done with packets, for any number of prefixes.
type action[K key[K]] struct {
	key   actionKey
	refs  int        // claims
	fwd   uint32     // the content that does it, 0 while it cannot be resolved
	why   string     // … and the reason
	last  string     // code of the content that did it last
	keys  []K        // of a Link: its prefixes, perhaps some that left it again
	via   []*nextHop // of a Via
	group *group     // … if its next hops are in an object
}

type actionKey struct {
	source uint8 // rank: lower wins
	kind   Kind
	metric uint32
	device string
	hops   Hops
}

// extra is a route of ours that has to go, quoted in full so that the deletion
// can hit no other.
type extra[K key[K]] struct {
	k   K
	raw []byte // payload of its RTM_NEWROUTE
}

func newFIB[K key[K]](family, proto uint8, mk func(netip.Prefix) K, topo *topology, objs *objects) *fib[K] {
	f := &fib[K]{
		family: family, proto: proto, make: mk, topo: topo, objs: objs,
		losers:  map[K][]uint32{},
		actions: make([]action[K], firstAction), actionNum: map[actionKey]uint32{},
		contents: make([]content, 1), contentNum: map[string]uint32{},
		suspect: map[K]struct{}{}, reclaims: map[K]bucket{},
		problems: map[K]string{},
	}
	return f
}

// touch puts a prefix on the list for the next write.
func (f *fib[K]) touch(k K) {
	if f.dirtyAll {
		return
	}
	if len(f.dirty) > 1024 && len(f.dirty) > f.table.n/4 {
		f.dirtyAll, f.dirty = true, nil
		return
	}
	f.dirty = append(f.dirty, k)
}

// claim records that a source wants r, whose source is in the action's key.
func (f *fib[K]) claim(source uint8, r Route) K {
	k := f.make(r.Prefix)
	metric := r.Metric
	if metric == 0 {
		metric = defaultMetric
	}
	n := f.actionFor(actionKey{source, r.Kind, metric, r.Device, r.Hops})
	e := f.entry(k)
	if e.want < firstAction {
		f.setWant(k, e, n)
		return k
	}
	if e.want == n {
		return k
	}
	switch cur := f.actions[e.want].key.source; {
	case cur == source:
		f.unrefAction(e.want)
		f.setWant(k, e, n)
	case source < cur: // outranks the winner; it cannot be among the losers
		f.losers[k] = append(f.losers[k], e.want)
		f.setWant(k, e, n)
	default:
		ls := f.losers[k]
		i := slices.IndexFunc(ls, func(l uint32) bool { return f.actions[l].key.source == source })
		if i >= 0 && ls[i] == n {
			return k
		}
		f.actions[n].refs++
		if i >= 0 {
			f.unrefAction(ls[i])
			ls[i] = n
		} else {
			f.losers[k] = append(ls, n)
		}
	}
	return k
}

// disclaim records that a source no longer wants the prefix.
func (f *fib[K]) disclaim(source uint8, k K) {
	e := f.entry(k)
	if e.want < firstAction {
		return
	}
	ls := f.losers[k]
	if f.actions[e.want].key.source != source {
		for i, l := range ls {
			if f.actions[l].key.source == source {
				f.setLosers(k, slices.Delete(ls, i, i+1))
				f.unrefAction(l)
				return
			}
		}
		return
	}
	f.unrefAction(e.want)
	if len(ls) == 0 {
		f.setWant(k, e, wantGone)
		return
	}
	best := 0
	for i := range ls {
		if f.actions[ls[i]].key.source < f.actions[ls[best]].key.source {
			best = i
		}
	}
	n := ls[best]
	f.setLosers(k, slices.Delete(ls, best, best+1))
	f.setWant(k, e, n)
	f.unrefAction(n) // the loser's reference became the winner's
}

func (f *fib[K]) setLosers(k K, ls []uint32) {
	if len(ls) == 0 {
		delete(f.losers, k)
	} else {
		f.losers[k] = ls
	}
}

// setWant changes what is wanted; references to the former are the caller's.
func (f *fib[K]) setWant(k K, e entry, n uint32) {
	if was, is := e.want >= firstAction, n >= firstAction; was != is {
		if is {
			f.byLen[k.bits()]++
		} else {
			f.byLen[k.bits()]--
		}
	}
	if n >= firstAction {
		a := &f.actions[n]
		a.refs++
		if a.key.kind == Link {
			f.remember(a, n, k)
		}
	}
	e.want = n
	f.table.set(k, e)
	f.touch(k)
}

// remember keeps the prefixes of an endpoint with its action, so that a change
// of its device does not cost a walk through the table.
func (f *fib[K]) remember(a *action[K], n uint32, k K) {
	if len(a.keys) > 2*a.refs+8 {
		a.keys = slices.DeleteFunc(a.keys, func(o K) bool { return f.entry(o).want != n })
	}
	a.keys = append(a.keys, k)
}

// replaceAll makes routes the whole of what a source wants.
func (f *fib[K]) replaceAll(source uint8, routes []Route) {
	named := make(map[K]struct{}, len(routes))
	for _, r := range routes {
		named[f.claim(source, r)] = struct{}{}
	}
	for k, e := range f.table.all() {
		if e.want < firstAction {
			continue
		}
		if _, ok := named[k]; !ok {
			f.disclaim(source, k)
		}
	}
}

// actionFor returns the number of an action, new ones resolved, none counted.
func (f *fib[K]) actionFor(key actionKey) uint32 {
	if n := f.lastAction; n != 0 && f.actions[n].key == key { // routes come in runs
		return n
	}
	if n, ok := f.actionNum[key]; ok {
		f.lastAction = n
		return n
	}
	var n uint32
	if l := len(f.actionFree); l > 0 {
		n, f.actionFree = f.actionFree[l-1], f.actionFree[:l-1]
	} else {
		n = uint32(len(f.actions))
		f.actions = append(f.actions, action[K]{})
	}
	f.actions[n] = action[K]{key: key}
	f.actionNum[key] = n
	f.resolve(n)
	return n
}

func (f *fib[K]) unrefAction(n uint32) {
	a := &f.actions[n]
	if a.refs--; a.refs > 0 {
		return
	}
	delete(f.actionNum, a.key)
	f.unrefContent(a.fwd)
	for _, h := range a.via {
		f.topo.give(h)
	}
	if a.group != nil {
		f.objs.give(f.family, a.key.hops)
	}
	*a = action[K]{}
	f.actionFree = append(f.actionFree, n)
}

// resolve computes which content does what the action wants, and tells whether
// that changed.
func (f *fib[K]) resolve(n uint32) bool {
	a := &f.actions[n]
	var hops []hop
	var object uint32
	a.why = ""
	switch a.key.kind {
	case Link:
		if oif := f.topo.byName[a.key.device]; oif != 0 {
			hops = append(hops, hop{oif: oif})
		} else {
			a.why = whyNoDevice(a.key.device)
		}
	case Via:
		if a.via == nil {
			for _, gw := range a.key.hops.Addrs() {
				a.via = append(a.via, f.topo.take(gw))
			}
		}
		for _, h := range a.via {
			hops = append(hops, h.out...)
			if len(h.out) == 0 {
				a.why = h.why
			}
		}
		sortHops(hops)
		hops = slices.Compact(hops)
		object = f.object(a, hops)
	}
	var fwd uint32
	if a.key.kind == Blackhole || len(hops) > 0 {
		var scratch [256]byte
		fwd = f.contentFor(appendCode(scratch[:0], uint8(a.key.kind), a.key.metric, hops, object), a.key.kind, a.key.metric, hops, object)
		f.contents[fwd].refs++
	}
	was := a.fwd
	if fwd != 0 {
		a.last = f.contents[fwd].code
	}
	f.unrefContent(was)
	a.fwd = fwd
	return was != fwd
}

// object decides whether an action forwards through a next-hop object, and
// returns its number, or 0. What an object forwards through may change; that
// the action has one does not, while it is resolved.
func (f *fib[K]) object(a *action[K], hops []hop) uint32 {
	single := len(a.via) == 1 && a.via[0].onLink
	switch {
	case len(hops) == 0 && a.group != nil:
		return a.group.id
	case len(hops) == 0 || f.objs.mode == inline || single:
		if a.group != nil {
			f.objs.give(f.family, a.key.hops)
			a.group = nil
		}
		return 0
	case a.group == nil:
		a.group = f.objs.take(f.family, a.key.hops)
	}
	f.objs.set(a.group, hops)
	return a.group.id
}

// resolveMoved follows next hops that are reached in another way: of each action
// that has one the object changes, or, where there is none, its routes.
func (f *fib[K]) resolveMoved() {
	f.resolveWhere(func(a *action[K]) bool {
		return slices.ContainsFunc(a.via, func(h *nextHop) bool { return h.changed })
	})
}

// resolveAll follows a change of the interfaces, and of what kind of objects
// the kernel has.
func (f *fib[K]) resolveAll() {
	f.resolveWhere(func(a *action[K]) bool { return a.key.kind != Blackhole })
	f.retry()
}

// retry has looked at again what the kernel refused: it may be acceptable now.
func (f *fib[K]) retry() {
	for k := range f.problems {
		f.touch(k)
	}
}

func (f *fib[K]) resolveWhere(concerned func(*action[K]) bool) {
	var walk map[uint32]bool
	for n := firstAction; n < len(f.actions); n++ {
		a := &f.actions[n]
		if a.refs == 0 || !concerned(a) || !f.resolve(uint32(n)) {
			continue
		}
		if a.key.kind == Link {
			for _, k := range a.keys {
				f.touch(k)
			}
			continue
		}
		if walk == nil {
			walk = map[uint32]bool{}
		}
		walk[uint32(n)] = true
	}
	if walk != nil {
		for k, e := range f.table.all() {
			if walk[e.want] {
				f.touch(k)
			}
		}
	}
}

// contentFor returns the number of a content, uncounted. hops is copied.
func (f *fib[K]) contentFor(code []byte, kind Kind, metric uint32, hops []hop, object uint32) uint32 {
	if n, ok := f.contentNum[string(code)]; ok {
		return n
	}
	var n uint32
	if l := len(f.contentFree); l > 0 {
		n, f.contentFree = f.contentFree[l-1], f.contentFree[:l-1]
	} else {
		n = uint32(len(f.contents))
		f.contents = append(f.contents, content{})
	}
	c := content{code: string(code), odd: code[0] == oddKind, kind: kind, metric: metric}
	switch {
	case c.odd:
		c.multi = object == 0 && len(hops) > 1
	case code[0] == objectKind:
		c.object = object
	case kind != Blackhole:
		c.hops = slices.Clone(hops)
	}
	f.contents[n] = c
	f.contentNum[c.code] = n
	return n
}

// lose takes in that next-hop objects are gone: the kernel drops their routes,
// for IPv4 without a word.
func (f *fib[K]) lose(ids map[uint32]bool) {
	lost := map[uint32]bool{}
	for n := range f.contents {
		if c := &f.contents[n]; c.refs > 0 && c.object != 0 && ids[c.object] {
			lost[uint32(n)] = true
		}
	}
	f.forget(lost)
}

// objectsUsed adds the next-hop objects that routes of ours have or want.
func (f *fib[K]) objectsUsed(used map[uint32]bool) {
	for n := range f.contents {
		if c := &f.contents[n]; c.refs > 0 && c.object != 0 {
			used[c.object] = true
		}
	}
}

// forget takes in that the kernel no longer has any route with these contents.
func (f *fib[K]) forget(lost map[uint32]bool) {
	if len(lost) == 0 {
		return
	}
	for k, e := range f.table.all() {
		if lost[e.have] {
			if e.have == f.outcome(e) {
				f.suspect[k] = struct{}{}
			}
			f.dropped(k)
			f.touch(k)
		}
	}
}

// contentOf returns the number of what the kernel describes, uncounted.
func (f *fib[K]) contentOf(r *kernelRoute) uint32 {
	return f.contentFor(r.code, r.kind, r.metric, r.hops, r.object)
}

func (f *fib[K]) unrefContent(n uint32) {
	if n == 0 {
		return
	}
	c := &f.contents[n]
	if c.refs--; c.refs > 0 {
		return
	}
	delete(f.contentNum, c.code)
	*c = content{}
	f.contentFree = append(f.contentFree, n)
}

// dropped takes in that the kernel has lost a route, by itself or to somebody else.
func (f *fib[K]) dropped(k K) {
	if f.nLost++; len(f.lost) < logLimit {
		f.lost = append(f.lost, k)
	}
	f.setHave(k, 0, 0)
}

// setHave records what the kernel has for the prefix; mark is seen or 0.
func (f *fib[K]) setHave(k K, n, mark uint32) {
	e := f.entry(k)
	if n != 0 {
		f.contents[n].refs++
	}
	f.unrefContent(e.have &^ seen)
	if n == 0 && e.want < firstAction {
		f.table.remove(k)
		delete(f.problems, k)
		return
	}
	e.have = n | mark
	f.table.set(k, e)
}

// metricOf returns the metric at which a prefix is wanted, if it is.
func (f *fib[K]) metricOf(e entry) (metric uint32, wanted bool) {
	if e.want < firstAction {
		return 0, false
	}
	return f.actions[e.want].key.metric, true
}

// outcome returns the content that should be in the kernel, 0 for none.
func (f *fib[K]) outcome(e entry) uint32 {
	if e.want < firstAction {
		return 0
	}
	return f.actions[e.want].fwd
}
