// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// Export groups: peers that are to be told the same share one Adj-RIB-Out and
// the encoded messages. Eligibility never depends on more than the key: a
// route is not sent back to where it came from because a path learned over
// iBGP is not sent over iBGP, and one learned over eBGP contains the AS of the
// peer (judge demands it), which is part of the key of an eBGP group.

// groupKey is all that decides what a peer is sent.
type groupKey struct {
	ebgp     bool
	localAS  uint32
	peerAS   uint32 // eBGP only
	as4      bool
	families familySet
	nh4, nh6 netip.Addr
	mode     NextHopMode
	exportID string
	alone    uint32 // peer number when its policy has no ID and cannot be shared
}

// group is an Adj-RIB-Out and its readers.
type group struct {
	key     groupKey
	export  Policy
	out     bart.Table[*attrs] // holds a reference to each
	members []*peer
	pack    packer
	delta   []netip.Prefix
	cache   map[cacheKey]*attrs // transformed sets of the current batch, not referenced

	dump      [familySetSize][]chunk // the whole table encoded, for peers that come up together
	dumpValid [familySetSize]bool
}

// familySetSize numbers the sets of families a dump may have: v4, v6, both.
const familySetSize = 3

type cacheKey struct {
	a    *attrs
	kind uint8 // own, from eBGP, from iBGP
}

// groupKeyOf derives the key for an established peer.
func (s *Speaker) groupKeyOf(p *peer) groupKey {
	k := groupKey{
		ebgp: p.ebgp, localAS: p.localAS, as4: p.est.open.as4, families: p.est.families,
		nh4: s.cfg.NextHop4, nh6: s.cfg.NextHop6, mode: p.cfg.NextHopMode, exportID: p.cfg.ExportID,
	}
	if p.ebgp {
		k.peerAS = p.cfg.ASN
	}
	if p.cfg.Export != nil && p.cfg.ExportID == "" {
		k.alone = p.slot
	}
	return k
}

// join puts an established peer into its group, made on demand.
func (s *Speaker) join(p *peer) {
	k := s.groupKeyOf(p)
	g := s.groups[k]
	if g == nil {
		g = &group{key: k, export: p.cfg.Export, pack: packer{as4: k.as4}}
		s.groups[k] = g
		for prefix, head := range s.rib.table.All() {
			if a, _ := s.exportRoute(g, prefix, head); a != nil {
				g.out.Insert(prefix, a)
			}
		}
		g.cache = nil
	}
	g.members = append(g.members, p)
	p.group = g
}

// leave takes a peer out of its group; the last one frees it.
func (s *Speaker) leave(p *peer) {
	if g := p.group; g != nil {
		s.detach(p)
		s.free(g)
	}
}

func (s *Speaker) detach(p *peer) {
	g := p.group
	p.group = nil
	g.members = slices.DeleteFunc(g.members, func(q *peer) bool { return q == p })
}

// free drops a group that has no members.
func (s *Speaker) free(g *group) {
	if len(g.members) > 0 {
		return
	}
	for _, a := range g.out.All() {
		s.rib.attrs.release(a)
	}
	delete(s.groups, g.key)
}

// regroup moves an established peer to the group it belongs to now, and has
// the difference sent.
func (s *Speaker) regroup(p *peer) {
	old := p.group
	if old == nil || old.key == s.groupKeyOf(p) {
		return
	}
	s.detach(p)
	s.join(p)
	for prefix, a := range old.out.All() {
		if b, ok := p.group.out.Get(prefix); !ok || a != b {
			p.dirty[prefix] = struct{}{}
		}
	}
	for prefix := range p.group.out.All() {
		if _, ok := old.out.Get(prefix); !ok {
			p.dirty[prefix] = struct{}{}
		}
	}
	s.free(old)
	s.pump(p)
}

// reexport recomputes a group whose policy changed and sends the difference.
func (s *Speaker) reexport(g *group) {
	var all []netip.Prefix
	for prefix := range s.rib.table.All() {
		all = append(all, prefix)
	}
	s.update(g, all)
}

// touch remembers that the selection of a prefix changed.
func (s *Speaker) touch(prefix netip.Prefix) {
	s.changed = append(s.changed, prefix)
	s.pending[prefix] = struct{}{}
}

// flush brings every group up to date with the prefixes touched since the
// last call. The loop calls it after each batch of input.
func (s *Speaker) flush() {
	if len(s.changed) > 0 {
		for _, g := range s.groups {
			s.update(g, s.changed)
		}
		s.changed = s.changed[:0]
		if cap(s.changed) > 1<<16 {
			s.changed = nil
		}
	}
	s.rib.hops.answer()
	s.answerBest()
}

// update recomputes the given prefixes of a group, encodes the difference
// once and queues it to every member.
func (s *Speaker) update(g *group, prefixes []netip.Prefix) {
	g.delta = g.delta[:0]
	var freed []*attrs
	for _, prefix := range prefixes {
		head, _ := s.rib.table.Get(prefix)
		a, _ := s.exportRoute(g, prefix, head)
		old, had := g.out.Get(prefix)
		if a == old {
			s.rib.attrs.release(a)
			continue
		}
		if a != nil {
			g.out.Insert(prefix, a)
		} else {
			g.out.Delete(prefix)
		}
		if had {
			freed = append(freed, old)
		}
		g.delta = append(g.delta, prefix)
		g.pack.add(prefix, a)
	}
	g.cache = nil
	chunks := g.pack.finish()
	for _, a := range freed { // only now: the packer knows sets by address
		s.rib.attrs.release(a)
	}
	if len(g.delta) == 0 {
		return
	}
	g.dump, g.dumpValid = [familySetSize][]chunk{}, [familySetSize]bool{}
	for _, p := range g.members {
		s.push(p, chunks, g.delta)
	}
	if cap(g.delta) > 1<<16 {
		g.delta = nil
	}
}

// exportRoute returns the attributes with which the group's members are told
// of a prefix, with a reference for the caller; nil and the reason when they
// are not. The reasons are constants or the policy's own words, so that they
// cost nothing where nobody asks.
func (s *Speaker) exportRoute(g *group, prefix netip.Prefix, head *path) (*attrs, string) {
	b := best(head)
	f := familyOf(prefix.Addr())
	switch {
	case b == nil:
		return nil, "there is no best path"
	case !g.key.families[f]:
		return nil, "the session does not carry the family"
	case martian(prefix) != "":
		return nil, "the prefix is not routable"
	}
	src := s.rib.sources[b.peer]
	own := b.peer == 0
	a := b.out
	if !own && !g.key.ebgp && !src.ebgp {
		return nil, "learned over iBGP, and the peer is iBGP, too (RFC 4271 section 9.2)"
	}
	for _, c := range a.comms {
		switch {
		case c == commNoAdvertise:
			return nil, "community NO_ADVERTISE (RFC 1997)"
		case g.key.ebgp && c == commNoExport:
			return nil, "community NO_EXPORT, and the peer is eBGP (RFC 1997)"
		case g.key.ebgp && c == commNoExportSubconfed:
			return nil, "community NO_EXPORT_SUBCONFED, and the peer is eBGP (RFC 1997)"
		}
	}
	if g.key.ebgp && a.hasAS(g.key.peerAS) {
		return nil, "the peer's AS is in the path"
	}
	kind := uint8(0)
	switch {
	case own:
		kind = 0
	case src.ebgp:
		kind = 1
	default:
		kind = 2
	}
	if g.export == nil {
		ck := cacheKey{a, kind | uint8(f)<<4}
		out, ok := g.cache[ck]
		if !ok {
			out = s.outgoing(g, f, a, own, src.ebgp, false)
			if g.cache == nil {
				g.cache = make(map[cacheKey]*attrs)
			}
			if out != nil {
				out = s.rib.attrs.intern(out)
			}
			g.cache[ck] = out
			return out, noNextHop(out)
		}
		// A cached set may have lost its last reference meanwhile; interning
		// finds or revives it.
		if out == nil {
			return nil, noNextHop(out)
		}
		if out.refs <= 0 {
			out = s.rib.attrs.intern(out.clone())
			g.cache[ck] = out
			return out, ""
		}
		out.refs++
		return out, ""
	}

	pre := a
	if g.key.ebgp && !own && a.hasMED {
		pre = a.clone()
		pre.hasMED, pre.med = false, 0
	}
	r := routeOf(prefix, pre, src.addr, src.ebgp, b.flags&pathStale != 0)
	if own {
		r.NextHop = g.self(f)
	}
	out, ok, why := g.export(r)
	if !ok {
		if why == "" {
			why = "rejected by export policy"
		}
		return nil, why
	}
	chosen := out.NextHop != r.NextHop
	if own && !chosen {
		r.NextHop, out.NextHop = netip.Addr{}, netip.Addr{}
	}
	res := s.outgoing(g, f, changedBy(pre, r, out), own, src.ebgp, chosen)
	if res == nil {
		return nil, noNextHop(res)
	}
	return s.rib.attrs.intern(res), ""
}

// noNextHop is the reason for what outgoing could not make.
func noNextHop(a *attrs) string {
	if a != nil {
		return ""
	}
	return "there is no next hop of the prefix's family to announce"
}

// self is this node's next hop for a family.
func (g *group) self(f family) netip.Addr {
	if f == v4 {
		return g.key.nh4
	}
	return g.key.nh6
}

// outgoing makes the changes that the session type asks for: RFC 4271
// sections 5.1 and 9.2. nextHopChosen says that policy set the next hop.
func (s *Speaker) outgoing(g *group, f family, a *attrs, own, fromEBGP, nextHopChosen bool) *attrs {
	c := a.clone()
	keep := nextHopChosen || !own && (g.key.mode == NextHopKeep ||
		g.key.mode == NextHopAuto && !g.key.ebgp && !fromEBGP)
	if !keep {
		c.nextHop = g.self(f)
	}
	if !c.nextHop.IsValid() || familyOf(c.nextHop) != f {
		return nil
	}
	if !g.key.ebgp {
		c.localPref, c.hasLocalPref = a.lp(), true
		return c
	}
	c.localPref, c.hasLocalPref = 0, false
	c.originator, c.hasOriginator, c.clusters = 0, false, nil
	if g.export == nil && !own {
		c.med, c.hasMED = 0, false // section 5.1.4: not to other neighbouring ASes
	}
	const nonTransitive = 0x40 // RFC 4360 section 2
	c.ext = slices.DeleteFunc(slices.Clone(c.ext), func(e [8]byte) bool { return e[0]&nonTransitive != 0 })
	c.path = a.prepended(g.key.localAS)
	return c
}

// table returns the whole Adj-RIB-Out of the families, encoded. Peers that
// come up with nothing changed in between share it.
func (g *group) table(fs familySet) []chunk {
	i := 2
	switch {
	case !fs[v6]:
		i = 0
	case !fs[v4]:
		i = 1
	}
	if !g.dumpValid[i] {
		pack := packer{as4: g.key.as4}
		if fs[v4] {
			for prefix, a := range g.out.All4() {
				pack.add(prefix, a)
			}
		}
		if fs[v6] {
			for prefix, a := range g.out.All6() {
				pack.add(prefix, a)
			}
		}
		g.dump[i], g.dumpValid[i] = pack.finish(), true
	}
	return g.dump[i]
}
