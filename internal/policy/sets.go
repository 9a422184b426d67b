// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"iter"
	"net/netip"
	"slices"
	"unique"
)

// The label index of everything that can be a member of a set: the endpoints
// of all nodes and the network sets.
type (
	memberIndex = labelIndex[*member, struct{}, setQuery]
	memberClass = class[*member, struct{}, setQuery]
	memberQuery = query[*member, struct{}, setQuery]
)

// setQuery is what one selector is in use for.
type setQuery struct {
	nets  *ipset
	ports map[word]*ipset
}

// ipset is a set in use, or one that leaves use at the next Flush.
type ipset struct {
	id        SetID
	kind      SetKind
	query     *memberQuery
	port      word // of SetPorts
	refs      int
	announced bool              // by Changes
	nets      netSet            // of network sets; what endpoints have is found by query
	tuples    map[Member]uint32 // of SetPorts: how many endpoints give it
	delta     map[Member]int8   // what differs since the last Flush, if announced
}

// sets is all sets in use.
type sets struct {
	index *memberIndex
	byID  map[SetID]*ipset
	dirty map[*ipset]struct{}
	*claims
}

func newSets(claims *claims) *sets {
	s := &sets{byID: map[SetID]*ipset{}, dirty: map[*ipset]struct{}{}, claims: claims}
	s.index = newLabelIndex(
		func(c *memberClass, q *memberQuery) { s.contributeAll(c, q, 1) },
		func(c *memberClass, q *memberQuery) { s.contributeAll(c, q, -1) },
	)
	return s
}

// replace puts new in the place of old; either may be nil. Adding goes first,
// so that what stays does not leave for a moment. Of an endpoint,
// claims must hold the new version, and the old one no more.
func (s *sets) replace(old *member, new *member, labels labelSet, parents []word) {
	if new != nil {
		new.class = s.index.join(new, labels, parents)
		s.contribute(new, 1, old)
	}
	if old != nil {
		s.contribute(old, -1, new)
		s.index.leave(old, old.class)
	}
}

// contribute adds a member to, or removes it from, all sets that its class is
// selected by. twin is the other version of the same endpoint, if there is one.
func (s *sets) contribute(m *member, n int8, twin *member) {
	for q := range m.class.queries.each {
		s.contributeTo(m, q, n, func(a netip.Addr) bool {
			return twin != nil && q.classes.has(twin.class) && twin.has(a) ||
				s.some(a, func(e *endpoint) bool {
					return e.member != m && e.member.class != nil && q.classes.has(e.member.class) && e.member.has(a)
				})
		})
	}
}

// contributeAll does the same for all members of a class that a query starts,
// or ceases, to select. Of several that have an address, the first counts.
func (s *sets) contributeAll(c *memberClass, q *memberQuery, n int8) {
	for m := range c.items.each {
		s.contributeTo(m, q, n, func(a netip.Addr) bool {
			before := true
			return slices.ContainsFunc(s.rivals[a], func(e *endpoint) bool {
				before = before && e.member != m
				return e.member.class != nil && e.member.has(a) &&
					(e.member.class == c && before || e.member.class != c && q.classes.has(e.member.class))
			})
		})
	}
}

// has tells whether an endpoint contributes an address.
func (m *member) has(a netip.Addr) bool {
	return slices.ContainsFunc(m.nets, func(p netip.Prefix) bool { return p.Addr() == a })
}

// contributeTo adds a member to the sets of a query, or removes it. shared
// tells of an address of an endpoint whether the set of addresses has it from
// another one too.
func (s *sets) contributeTo(m *member, q *memberQuery, n int8, shared func(netip.Addr) bool) {
	switch set := q.val.nets; {
	case set == nil:
	case m.isSet:
		s.giveNets(set, m, n)
	case set.announced: // else it will be told as a whole
		for _, p := range m.nets {
			if !shared(p.Addr()) && !set.nets.holds(p.Addr()) {
				s.changed(set, Member{Net: p}, n)
			}
		}
	}
	for i, p := range m.ports {
		// A name may stand for several ports: they are adjacent.
		if i > 0 && m.ports[i-1].name == p.name {
			continue
		}
		if set := q.val.ports[p.name]; set != nil {
			s.givePorts(set, m, n)
		}
	}
}

// giveNets adds the networks of a network set, or removes them. They hide the
// addresses within them that endpoints contribute.
func (s *sets) giveNets(set *ipset, m *member, n int8) {
	var within []netip.Prefix
	if set.announced {
		for p := range s.addresses(set) {
			if m.covers(p) && set.nets.holds(p.Addr()) == (n < 0) {
				within = append(within, p)
			}
		}
	}
	emit := func(p netip.Prefix, n int8) { s.changed(set, Member{Net: p}, n) }
	for _, p := range m.nets {
		if n > 0 {
			set.nets.add(p, emit)
		} else {
			set.nets.remove(p, emit)
		}
	}
	for _, p := range within {
		if set.nets.holds(p.Addr()) == (n > 0) {
			emit(p, -n)
		}
	}
}

// covers tells whether one of the networks of a network set holds p.
func (m *member) covers(p netip.Prefix) bool {
	i, found := slices.BinarySearchFunc(m.nets, p, compareNets)
	return found || i > 0 && covers(m.nets[i-1], p)
}

// addresses is an iterator over what endpoints contribute to a SetNets, once
// each.
func (s *sets) addresses(set *ipset) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for c := range set.query.classes.each {
			for m := range c.items.each {
				if m.isSet {
					continue
				}
				for _, p := range m.nets {
					if s.counts(set, m, p.Addr()) && !yield(p) {
						return
					}
				}
			}
		}
	}
}

// counts tells whether, of several members that have an address, m is the one
// that counts.
func (s *sets) counts(set *ipset, m *member, a netip.Addr) bool {
	for _, e := range s.rivals[a] {
		if e.member == m {
			return true
		}
		if e.member.class != nil && set.query.classes.has(e.member.class) && e.member.has(a) {
			return false
		}
	}
	return true
}

func (s *sets) givePorts(set *ipset, m *member, n int8) {
	for _, p := range m.ports {
		if p.name != set.port {
			continue
		}
		for _, a := range m.nets {
			t := Member{Net: a, Proto: p.proto, Port: p.port}
			switch count := set.tuples[t]; {
			case n > 0:
				set.tuples[t] = count + 1
				if count == 0 {
					s.changed(set, t, 1)
				}
			case count == 1:
				delete(set.tuples, t)
				s.changed(set, t, -1)
			default:
				set.tuples[t] = count - 1
			}
		}
	}
}

func (s *sets) changed(set *ipset, m Member, n int8) {
	if !set.announced {
		return // it will be told as a whole
	}
	s.dirty[set] = struct{}{}
	if set.delta == nil {
		set.delta = map[Member]int8{}
	}
	if n += set.delta[m]; n == 0 {
		delete(set.delta, m)
	} else {
		set.delta[m] = n
	}
}

// acquire takes a set into use.
func (s *sets) acquire(r setRef) *ipset {
	if set := s.byID[r.id]; set != nil {
		set.refs++
		return set
	}
	set := &ipset{id: r.id, kind: r.kind, refs: 1, query: s.index.acquire(r.sel)}
	s.byID[r.id] = set
	s.dirty[set] = struct{}{}
	val := &set.query.val
	if r.kind == SetNets {
		val.nets = set
	} else {
		set.port, set.tuples = unique.Make(r.port), map[Member]uint32{}
		if val.ports == nil {
			val.ports = map[word]*ipset{}
		}
		val.ports[set.port] = set
	}
	for c := range set.query.classes.each {
		for m := range c.items.each {
			switch {
			case r.kind == SetPorts:
				s.givePorts(set, m, 1)
			case m.isSet:
				s.giveNets(set, m, 1)
			}
		}
	}
	return set
}

// release undoes one acquire. The set goes at the next flush, unless it comes
// into use again.
func (s *sets) release(set *ipset) {
	if set.refs--; set.refs == 0 {
		s.dirty[set] = struct{}{}
	}
}

// flush tells what differs since the last one.
func (s *sets) flush(out map[SetID]*SetChange) {
	for set := range s.dirty {
		switch {
		case set.refs == 0:
			if set.announced {
				ch := &SetChange{Kind: set.kind, Gone: true}
				for m := range s.members(set) {
					if set.delta[m] <= 0 {
						ch.Removed = append(ch.Removed, m)
					}
				}
				for m, n := range set.delta {
					if n < 0 {
						ch.Removed = append(ch.Removed, m)
					}
				}
				out[set.id] = ch
			}
			s.drop(set) // afterwards nobody knows its members
		case !set.announced:
			set.announced = true
			ch := &SetChange{Kind: set.kind, New: true}
			for m := range s.members(set) {
				ch.Added = append(ch.Added, m)
			}
			out[set.id] = ch
		case len(set.delta) > 0:
			ch := &SetChange{Kind: set.kind}
			for m, n := range set.delta {
				if n > 0 {
					ch.Added = append(ch.Added, m)
				} else {
					ch.Removed = append(ch.Removed, m)
				}
			}
			set.delta = nil
			out[set.id] = ch
		}
	}
	clear(s.dirty)
}

func (s *sets) drop(set *ipset) {
	delete(s.byID, set.id)
	if set.kind == SetNets {
		set.query.val.nets = nil
	} else {
		delete(set.query.val.ports, set.port)
	}
	s.index.release(set.query)
}

// members is an iterator over what the set exposes.
func (s *sets) members(set *ipset) iter.Seq[Member] {
	return func(yield func(Member) bool) {
		if set.kind == SetPorts {
			for m := range set.tuples {
				if !yield(m) {
					return
				}
			}
			return
		}
		for p := range set.nets.exposed {
			if !yield(Member{Net: p}) {
				return
			}
		}
		for p := range s.addresses(set) {
			if !set.nets.holds(p.Addr()) && !yield(Member{Net: p}) {
				return
			}
		}
	}
}
