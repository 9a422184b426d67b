// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// The label index of the endpoints of this node, and the policies that select
// them.
type (
	localIndex = labelIndex[*endpoint, localVal, bag[*rec]]
	localClass = class[*endpoint, localVal, bag[*rec]]
	localQuery = query[*endpoint, localVal, bag[*rec]]
)

// localVal is kept with a class of local endpoints.
type localVal struct {
	sum   token // of the policies that select it
	host  bool  // host endpoints
	group *group
}

// token identifies a set of policies: it is the sum of random numbers, one for
// each of them, so that it follows changes of the set without looking at it.
type token [2]uint64

func (t token) plus(u token) token  { return token{t[0] + u[0], t[1] + u[1]} }
func (t token) minus(u token) token { return token{t[0] - u[0], t[1] - u[1]} }

// rec is a policy or a profile. It lasts while it is stored or in use.
type rec struct {
	key     Key
	sortKey string
	token   token
	present bool // in the datastore, in a good version
	*compiled
	tier      *tier       // of policies that are placed
	query     *localQuery // of policies that workload endpoints can have
	hostQuery *localQuery // of policies, while there is a host endpoint here
	groups    bag[*group] // those it is part of; in use if there are any
	held      []*ipset    // its sets, while in use
	published *Policy
}

// tier is one that is stored or that policies name.
type tier struct {
	name        string
	present     bool
	order       float64 // never NaN
	hasOrder    bool
	defaultPass bool
	recs        bag[*rec]
}

// group is all classes of local endpoints that the same policies and profiles
// apply to. effs are its effective policies: one, or of host endpoints one for
// each stage that is in use.
type group struct {
	key      groupKey
	classes  bag[*localClass]
	policies []*rec
	profiles []*rec
	effs     []*Effective
}

type groupKey struct {
	host     bool
	sum      token
	profiles string // joined by newlines, which names cannot hold
}

// applied is the part of the Index that says what applies to local endpoints.
type applied struct {
	local  *localIndex
	hosts  *hosts
	recs   map[Key]*rec
	tiers  map[string]*tier
	groups map[groupKey]*group
	byID   map[string]*Effective
	locals map[EndpointID]*Endpoint // as published

	// What the next Flush has to look at.
	dirtyClasses   map[*localClass]struct{}
	dirtyGroups    map[*group]struct{}
	dirtyRecs      map[*rec]struct{}
	dirtyEndpoints map[EndpointID]struct{}
}

func newApplied() *applied {
	x := &applied{
		recs:           map[Key]*rec{},
		tiers:          map[string]*tier{},
		groups:         map[groupKey]*group{},
		byID:           map[string]*Effective{},
		hosts:          newHosts(),
		locals:         map[EndpointID]*Endpoint{},
		dirtyClasses:   map[*localClass]struct{}{},
		dirtyGroups:    map[*group]struct{}{},
		dirtyRecs:      map[*rec]struct{}{},
		dirtyEndpoints: map[EndpointID]struct{}{},
	}
	x.local = x.newLocalIndex()
	r := x.rec(Key{Kind: kindProfile, Name: defaultAllow})
	r.compiled, r.present = openProfile(), true
	return x
}

func (x *applied) newLocalIndex() *localIndex {
	return newLabelIndex(
		func(c *localClass, q *localQuery) {
			for r := range q.val.each {
				x.selects(r, c)
			}
		},
		func(c *localClass, q *localQuery) {
			for r := range q.val.each {
				x.deselects(r, c)
			}
		},
	)
}

func (x *applied) selects(r *rec, c *localClass) {
	c.val.sum = c.val.sum.plus(r.token)
	x.dirtyClasses[c] = struct{}{}
}

func (x *applied) deselects(r *rec, c *localClass) {
	c.val.sum = c.val.sum.minus(r.token)
	x.dirtyClasses[c] = struct{}{}
}

// rec returns the record of a policy or profile, made if there is none.
func (x *applied) rec(k Key) *rec {
	r := x.recs[k]
	if r == nil {
		r = &rec{
			key:     k,
			sortKey: k.Name + "/" + k.Namespace + "/" + k.Kind,
			token:   token{rand.Uint64(), rand.Uint64()},
		}
		x.recs[k] = r
	}
	return r
}

func (x *applied) touchRec(r *rec) {
	x.dirtyRecs[r] = struct{}{}
	for g := range r.groups.each {
		x.dirtyGroups[g] = struct{}{}
	}
}

// setPolicy puts a version of a policy in force; nil removes it.
func (x *applied) setPolicy(k Key, c *compiled) {
	if c == nil && x.recs[k] == nil {
		return
	}
	r := x.rec(k)
	if c != nil && r.compiled != nil && r.present && reflect.DeepEqual(c.policy, r.policy) &&
		c.order == r.order && c.types == r.types && equalSelectors(c, r.compiled) {
		return // only what we do not read differs
	}
	x.touchRec(r)
	r.present = c != nil
	var t *tier
	if c != nil {
		t = x.tier(c.policy.Tier)
	}
	r.query = x.ask(x.local, r, r.query, c, c != nil && c.policy.Stage == StageWorkload)
	r.hostQuery = x.ask(x.hosts.index, r, r.hostQuery, c, c != nil && x.hosts.index != nil)
	if r.tier != t {
		if t != nil {
			t.recs.add(r)
		}
		if r.tier != nil {
			r.tier.recs.remove(r)
			x.dropTier(r.tier)
		}
	}
	r.compiled, r.tier = c, t
}

// ask files a policy in an index of endpoints under its selector, if it is to be
// there, in place of old.
func (x *applied) ask(index *localIndex, r *rec, old *localQuery, c *compiled, there bool) *localQuery {
	var q *localQuery
	if there {
		q = index.acquire(c.sel)
	}
	if q != old && old != nil {
		old.val.remove(r)
		for cl := range old.classes.each {
			x.deselects(r, cl)
		}
	}
	if q != old && q != nil {
		q.val.add(r)
		for cl := range q.classes.each {
			x.selects(r, cl)
		}
	}
	if old != nil {
		index.release(old)
	}
	return q
}

func equalSelectors(a, b *compiled) bool {
	if a.sel == nil || b.sel == nil {
		return a.sel == b.sel
	}
	return a.sel.String() == b.sel.String()
}

// setProfileRules puts the rules of a profile in force; nil removes them.
func (x *applied) setProfileRules(k Key, c *compiled) {
	r := x.recs[k]
	if c == nil && r == nil {
		return
	}
	r = x.rec(k)
	if c == nil {
		r.present, c = false, closedProfile(k.Name)
	} else {
		r.present = true
	}
	if r.compiled != nil && reflect.DeepEqual(c.policy, r.policy) {
		x.dirtyRecs[r] = struct{}{} // it may have to go
		return
	}
	r.compiled = c
	x.touchRec(r)
}

// setProfile puts a version of a profile in force; nil removes it.
func (x *Index) setProfile(k Key, c *compiled, labels labelSet) []error {
	if k.Name == defaultAllow {
		if c != nil {
			return []error{fieldErrf("metadata.name", "ignored: the profile is built in; store it under another name")}
		}
		return nil
	}
	x.setProfileRules(k, c)
	x.sets.index.setParent(k.Name, labels)
	x.local.setParent(k.Name, labels)
	x.hosts.setParent(k.Name, labels)
	return nil
}

// tier returns the state of a tier, made if there is none.
func (x *applied) tier(name string) *tier {
	t := x.tiers[name]
	if t == nil {
		t = &tier{name: name}
		x.tiers[name] = t
	}
	return t
}

func (x *applied) dropTier(t *tier) {
	if !t.present && t.recs.len() == 0 {
		delete(x.tiers, t.name)
	}
}

// setTier says how a tier is stored; nil says that it is not.
func (x *applied) setTier(name string, spec *v3.TierSpec) {
	next := tier{name: name}
	if spec != nil {
		next.present = true
		next.defaultPass = spec.DefaultAction == "Pass"
		if spec.Order != nil && !math.IsNaN(*spec.Order) {
			next.order, next.hasOrder = *spec.Order, true
		}
	}
	t := x.tier(name)
	if t.present != next.present || t.defaultPass != next.defaultPass || t.order != next.order || t.hasOrder != next.hasOrder {
		t.present, t.defaultPass, t.order, t.hasOrder = next.present, next.defaultPass, next.order, next.hasOrder
		for r := range t.recs.each {
			for g := range r.groups.each {
				x.dirtyGroups[g] = struct{}{}
			}
		}
	}
	x.dropTier(t)
}

// compareRecs is the order in which policies are evaluated: tiers that exist
// first, by order (none is last), by name; within a tier by order, by name in
// the datastore, namespace and kind.
func compareRecs(a, b *rec) int {
	if c := compareTiers(a.tier, b.tier); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.sortKey, b.sortKey))
}

func compareTiers(a, b *tier) int {
	switch {
	case a == b:
		return 0
	case a.present != b.present:
		return first(a.present)
	case a.hasOrder != b.hasOrder:
		return first(a.hasOrder)
	}
	return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.name, b.name))
}

func first(yes bool) int {
	if yes {
		return -1
	}
	return 1
}

// activate lets an endpoint be subject to policy and be in the View. It has
// labels of its own class and no other endpoint has its interface.
func (x *applied) activate(e *endpoint) {
	if e.local.class != nil {
		return
	}
	e.local.class = x.local.join(e, e.local.labels, e.local.parents)
	x.dirtyClasses[e.local.class] = struct{}{}
	x.dirtyEndpoints[e.id] = struct{}{}
}

func (x *applied) deactivate(e *endpoint) {
	c := e.local.class
	if c == nil {
		return
	}
	e.local.class = nil
	x.local.leave(e, c)
	x.dirtyClasses[c] = struct{}{}
	x.dirtyEndpoints[e.id] = struct{}{}
}

// regroup moves classes to the group of the policies that now select them.
func (x *applied) regroup() {
	var left []*group
	for c := range x.dirtyClasses {
		var g *group
		if c.items.len() > 0 {
			g = x.groupOf(c)
		}
		if g == c.val.group {
			continue
		}
		if old := c.val.group; old != nil {
			old.classes.remove(c)
			left = append(left, old)
		}
		c.val.group = g
		if g != nil {
			g.classes.add(c)
		}
		x.dirtyItems(c)
	}
	clear(x.dirtyClasses)
	for _, g := range left {
		if g.classes.len() > 0 || x.groups[g.key] != g {
			continue
		}
		delete(x.groups, g.key)
		x.dirtyGroups[g] = struct{}{}
		for _, r := range slices.Concat(g.policies, g.profiles) {
			r.groups.remove(g)
			x.dirtyRecs[r] = struct{}{}
		}
	}
}

// dirtyItems notes that the endpoints of a class are to be made anew.
func (x *applied) dirtyItems(c *localClass) {
	x.hosts.dirty = x.hosts.dirty || c.val.host
	if !c.val.host {
		for e := range c.items.each {
			x.dirtyEndpoints[e.id] = struct{}{}
		}
	}
}

func (x *applied) groupOf(c *localClass) *group {
	names := make([]string, len(c.parents))
	for i, p := range c.parents {
		names[i] = p.name.Value()
	}
	key := groupKey{c.val.host, c.val.sum, strings.Join(names, "\n")}
	if g := x.groups[key]; g != nil {
		return g
	}
	g := &group{key: key}
	x.groups[key] = g
	x.dirtyGroups[g] = struct{}{}
	for q := range c.queries.each {
		for r := range q.val.each {
			g.policies = append(g.policies, r)
		}
	}
	for _, name := range names {
		r := x.rec(Key{Kind: kindProfile, Name: name})
		if r.compiled == nil {
			r.compiled = closedProfile(name)
		}
		g.profiles = append(g.profiles, r)
	}
	for _, r := range slices.Concat(g.policies, g.profiles) {
		r.groups.add(g)
		x.dirtyRecs[r] = struct{}{}
	}
	return g
}
