// SPDX-License-Identifier: Apache-2.0

package bgp

// ingest brings a decoded UPDATE into the table: RFC 4271 section 9.
// Withdrawals come first: a prefix in both lists is announced.
func (s *Speaker) ingest(c *conn, u *update) {
	p := c.p
	if u.treated || u.dropped > 0 {
		p.note(u)
	}
	for _, ref := range u.withdrawn {
		s.touch(ref.prefix, s.rib.remove(ref, p.slot))
	}
	if len(u.withdrawn) > 0 {
		s.thinned(p)
		if !s.hasConv { // nobody waits for a next hop that has no path any more
			s.rib.attrs.release(c.lastInterned)
			c.lastDecoded, c.lastInterned = nil, nil
			s.checkConverged()
		}
	}
	s.announce(c, u.reach, u.attrs)
	s.announce(c, u.mpReach, u.mpAttrs)
	if c.dead {
		return // a limit
	}
	if p.over != (familySet{}) {
		s.refill(c)
	}
	for f := range numFamilies {
		if u.endOfRIB[f] && c.families[f] {
			s.endOfRIB(p, f)
		}
	}
}

// announce stores prefixes with one set of attributes.
func (s *Speaker) announce(c *conn, routes []pathRef, a *attrs) {
	p := c.p
	if len(routes) == 0 || c.dead {
		return
	}
	if !c.families[familyOf(routes[0].prefix.Addr())] {
		return // not negotiated: RFC 4760 section 6 lets us ignore them
	}
	if a != c.lastDecoded || c.lastInterned == nil {
		s.rib.attrs.release(c.lastInterned)
		c.lastDecoded, c.lastInterned = a, s.rib.attrs.intern(a)
	}
	in := c.lastInterned
	r, set := s.received(p, in), s.judgeSet(p, in)
	for _, ref := range routes {
		if s.overLimit(c, ref) || s.crowded(p, ref) {
			if c.dead {
				return
			}
			continue
		}
		in.refs++
		r.Prefix = ref.prefix
		out, v := s.importRoute(p, r, in, &set)
		s.touch(ref.prefix, s.rib.set(ref, p.slot, in, out, v.Refused))
	}
}

// rejudge filters everything a peer sent again, after its import policy or
// our own addresses changed.
func (s *Speaker) rejudge(p *peer) {
	for _, ref := range s.rib.of(p.slot) {
		head, _ := s.rib.table.Get(ref.prefix)
		s.reimport(p, ref, find(head, p.slot, ref.id))
	}
}

// reimport judges and filters one path again. The list of paths stays as it
// is: a caller may be walking it.
func (s *Speaker) reimport(p *peer, ref pathRef, q *path) {
	const kept = pathStale | pathGen
	in, said := q.in, q.flags&kept
	in.refs++
	r, set := s.received(p, in), s.judgeSet(p, in)
	r.Prefix = ref.prefix
	out, v := s.importRoute(p, r, in, &set)
	s.touch(ref.prefix, s.rib.set(ref, p.slot, in, out, v.Refused))
	if said != s.rib.sources[p.slot].gen[familyOf(ref.prefix.Addr())] { // the peer has said nothing
		s.touch(ref.prefix, s.rib.edit(ref, p.slot, func(q *path) bool { q.flags = q.flags&^kept | said; return true }))
	}
}

// push queues encoded changes to a member of a group, or only remembers the
// prefixes when the peer is behind: what changes twice meanwhile is sent
// once.
func (s *Speaker) push(p *peer, chunks []chunk, delta []pathRef) {
	if len(p.backlog) == 0 && p.dirty.len() == 0 && !p.est.backlogged() {
		p.est.send(chunks...)
		return
	}
	for _, ref := range delta {
		p.dirty.add(ref)
	}
	s.pump(p)
}

// dirtyBatch is the number of remembered prefixes encoded at a time.
const dirtyBatch = 8192

// pump moves what a peer is owed into its queue, as far as that has room: the
// table dump, then what changed since, then End-of-RIB, then a requested
// refresh.
func (s *Speaker) pump(p *peer) {
	c := p.est
	if c == nil {
		return
	}
	for len(p.backlog) > 0 {
		if c.backlogged() {
			return
		}
		c.send(p.backlog[0])
		p.backlog = p.backlog[1:]
	}
	p.backlog = nil
	for p.dirty.len() > 0 {
		if c.backlogged() {
			return
		}
		pack := p.group.packer()
		for _, ref := range p.dirty.take(dirtyBatch) {
			pack.add(ref, p.group.out.get(ref))
		}
		c.send(pack.finish()...)
	}
	if p.oweEOR != (familySet{}) && s.mayEndRIB(p) {
		for f := range numFamilies {
			if p.oweEOR[f] {
				c.send(chunk{endOfRIBMessage(f), 1})
			}
		}
		p.oweEOR = familySet{}
	}
	if p.refresh != (familySet{}) {
		s.answerRefresh(p)
		s.pump(p)
	}
}
