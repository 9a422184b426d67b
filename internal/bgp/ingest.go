// SPDX-License-Identifier: Apache-2.0

package bgp

import "net/netip"

// ingest brings a decoded UPDATE into the table: RFC 4271 section 9.
// Withdrawals come first: a prefix in both lists is announced.
func (s *Speaker) ingest(c *conn, u *update) {
	p := c.p
	if u.problem != "" {
		s.log.Warn("malformed UPDATE treated as withdrawal", "peer", p.cfg.Name, "address", p.cfg.Addr, "problem", u.problem)
	}
	for _, prefix := range u.withdrawn {
		if s.rib.remove(prefix, p.slot) {
			s.touch(prefix)
		}
	}
	s.announce(c, u.reach, u.attrs)
	s.announce(c, u.mpReach, u.mpAttrs)
	for f := range numFamilies {
		if u.endOfRIB[f] && c.families[f] {
			s.endOfRIB(p, f)
		}
	}
}

// announce stores prefixes with one set of attributes.
func (s *Speaker) announce(c *conn, prefixes []netip.Prefix, a *attrs) {
	p := c.p
	if len(prefixes) == 0 {
		return
	}
	if !c.families[familyOf(prefixes[0].Addr())] {
		return // not negotiated: RFC 4760 section 6 lets us ignore them
	}
	if a != c.lastDecoded || c.lastInterned == nil {
		s.rib.attrs.release(c.lastInterned)
		c.lastDecoded, c.lastInterned = a, s.rib.attrs.intern(a)
	}
	in := c.lastInterned
	for _, prefix := range prefixes {
		in.refs++
		out, _ := s.importRoute(p, prefix, in)
		if s.rib.set(prefix, p.slot, in, out) {
			s.touch(prefix)
		}
	}
}

// rejudge filters everything a peer sent again, after its import policy or
// our own addresses changed.
func (s *Speaker) rejudge(p *peer) {
	for _, prefix := range s.rib.of(p.slot, nil) {
		var in *attrs
		stale := false
		head, _ := s.rib.table.Get(prefix)
		for q := head; q != nil; q = q.next {
			if q.peer == p.slot {
				in, stale = q.in, q.flags&pathStale != 0
			}
		}
		in.refs++
		out, _ := s.importRoute(p, prefix, in)
		changed := s.rib.set(prefix, p.slot, in, out)
		if stale && s.rib.edit(prefix, p.slot, s.markStale) {
			changed = true
		}
		if changed {
			s.touch(prefix)
		}
	}
}

// push queues encoded changes to a member of a group, or only remembers the
// prefixes when the peer is behind: what changes twice meanwhile is sent
// once.
func (s *Speaker) push(p *peer, chunks []chunk, prefixes []netip.Prefix) {
	if len(p.backlog) == 0 && len(p.dirty) == 0 && !p.est.backlogged() {
		p.est.send(chunks...)
		return
	}
	for _, prefix := range prefixes {
		p.dirty[prefix] = struct{}{}
	}
	s.pump(p)
}

// dirtyBatch is the number of remembered prefixes encoded at a time.
const dirtyBatch = 8192

// pump moves what a peer is owed into its queue, as far as that has room: the
// table dump, then what changed since, then a requested refresh, then
// End-of-RIB.
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
	for len(p.dirty) > 0 {
		if c.backlogged() {
			return
		}
		pack := packer{as4: p.group.key.as4}
		n := 0
		for prefix := range p.dirty {
			a, _ := p.group.out.Get(prefix)
			pack.add(prefix, a)
			delete(p.dirty, prefix)
			if n++; n == dirtyBatch {
				break
			}
		}
		c.send(pack.finish()...)
		if len(p.dirty) == 0 {
			p.dirty = make(map[netip.Prefix]struct{}) // a map never shrinks
		}
	}
	if p.refresh != (familySet{}) {
		fs := p.refresh
		p.refresh = familySet{}
		p.backlog = append(p.backlog, p.group.table(fs)...)
		for f := range numFamilies {
			if fs[f] && !p.oweEOR[f] && c.open.gr {
				// Nothing is owed after a refresh, but RFC 2918 implementations
				// take the marker as "that was all", and it does no harm.
				p.backlog = append(p.backlog, chunk{endOfRIBMessage(f), 1})
			}
		}
		s.pump(p)
		return
	}
	if p.oweEOR != (familySet{}) && s.mayEndRIB(p) {
		for f := range numFamilies {
			if p.oweEOR[f] {
				c.send(chunk{endOfRIBMessage(f), 1})
			}
		}
		p.oweEOR = familySet{}
	}
}
