// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"
)

// Export groups: peers that are to be told the same share one Adj-RIB-Out and
// the encoded messages. Eligibility never depends on more than the key. So a
// route is not sent back to where it came from in three ways: a path learned
// over iBGP is not sent over iBGP; one learned over eBGP contains the AS of the
// peer (judge demands it), which is part of the key of an eBGP group; and one
// that a client sent to its reflector does come back to it, with an
// ORIGINATOR_ID by which the client knows it (RFC 4456 section 8). To leave
// the client out would cost every reflector an encoding per client.

// groupKey is all that decides what a peer is sent.
type groupKey struct {
	ebgp     bool
	localAS  uint32
	peerAS   uint32 // eBGP only
	role     Role   // ours, eBGP only
	as4      bool
	families familySet
	addPath  familySet // is sent several paths per prefix (RFC 7911)
	limit    int       // how many at most
	client   bool      // of this route reflector
	cluster  uint32    // of this route reflector; iBGP only
	nh4, nh6 netip.Addr
	ext      bool // IPv4 routes may have an IPv6 next hop (RFC 8950)
	mode     NextHopMode
	far      netip.Addr // the peer, with NextHopThirdParty
	rewrite  Rewrite
	exportID string
	alone    uint16 // peer number when its policy has no ID and cannot be shared
}

// group is an Adj-RIB-Out and its readers.
type group struct {
	key     groupKey
	export  Policy
	out     adjOut
	members []*peer
	pack    packer
	delta   []pathRef
	freed   []*attrs
	cache   map[cacheKey]*attrs // transformed sets of the current batch, not referenced

	dump      [familySetSize][]chunk // the whole table encoded, for peers that come up together
	dumpValid [familySetSize]bool
}

// familySetSize numbers the sets of families a dump may have: v4, v6, both.
const familySetSize = 3

type cacheKey struct {
	a      *attrs
	kind   uint8  // own, from eBGP, from iBGP
	origin uint32 // ORIGINATOR_ID that is added
	edit   *Edit  // by policy
}

// groupKeyOf derives the key for an established peer.
func (s *Speaker) groupKeyOf(p *peer) groupKey {
	k := groupKey{
		ebgp: p.ebgp, localAS: p.localAS, as4: p.est.open.as4, families: p.est.families,
		nh4: s.cfg.NextHop4, nh6: s.cfg.NextHop6, mode: p.cfg.NextHopMode, rewrite: p.cfg.Rewrite, exportID: p.cfg.ExportID,
	}
	if p.ebgp {
		k.peerAS, k.role = p.cfg.ASN, p.cfg.Role
	} else {
		k.client, k.cluster = p.cfg.Client, id32(s.cfg.ClusterID)
	}
	if k.mode == NextHopThirdParty {
		k.far = p.cfg.Addr.Addr()
	}
	if k.ext = p.cfg.ExtendedNextHop && p.est.open.extNextHop; k.ext && p.cfg.Addr.Addr().Is6() {
		k.nh4 = netip.Addr{} // what carries the session carries the packets
	}
	if p.cfg.SessionNextHop && p.est.nc != nil {
		switch a := addrPortOf(p.est.nc.LocalAddr()).Addr().Unmap(); {
		case a.Is4():
			k.nh4 = a
		case !a.IsLinkLocalUnicast():
			k.nh6 = a
		}
	}
	if p.cfg.linkLocal() {
		k.nh6 = p.cfg.LocalAddr.WithZone("")
	}
	if k.addPath = p.est.sendPaths; k.addPath != (familySet{}) {
		k.limit = p.cfg.AddPathSend
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
		g = &group{key: k, export: p.cfg.Export, out: adjOut{addPath: k.addPath}}
		g.pack = g.packer()
		s.groups[k] = g
		var want []sentPath
		for prefix, head := range s.rib.table.All() {
			want = s.desired(want[:0], g, prefix, head)
			for _, w := range want {
				g.out.put(pathRef{prefix, w.id}, w.a)
			}
		}
		for f := range numFamilies {
			if prefix := defaultRoutes[f]; k.rewrite.DefaultRoute {
				for _, w := range s.desired(nil, g, prefix, nil) {
					s.rib.attrs.release(g.out.get(pathRef{prefix, w.id}))
					g.out.put(pathRef{prefix, w.id}, w.a)
				}
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
	for _, a := range g.out.all() {
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
	for ref, a := range old.out.all() {
		if p.group.out.get(ref) != a {
			p.dirty.add(ref)
		}
	}
	for ref := range p.group.out.all() {
		if old.out.get(ref) == nil {
			p.dirty.add(ref)
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

// inward tells whether what is learned inside (rib.inside) is no news to the members: they are
// told of a prefix only while its best path is from elsewhere. In a full mesh that
// is of nearly nothing. With ADD-PATH they hear of more than the best, which an
// inside path may have brought forward by its MED.
func (g *group) inward() bool {
	return !g.key.ebgp && !g.key.client && g.key.addPath == (familySet{})
}

// packer returns an empty packer for the group's members.
func (g *group) packer() packer { return packer{as4: g.key.as4, addPath: g.key.addPath} }

// touch remembers what an operation did to a prefix.
func (s *Speaker) touch(prefix netip.Prefix, c change) {
	switch c {
	case selectionInside, selectionChanged:
		if c == selectionInside {
			s.inside = append(s.inside, prefix)
		} else {
			s.changed = append(s.changed, prefix)
		}
		s.selections++
		if !s.cfg.ControlPlaneOnly {
			s.pending.add(prefix, s.rib.heard)
		}
		if len(s.monitors) > 0 {
			s.noteSelected(prefix)
		}
	case pathsChanged:
		s.paths = append(s.paths, prefix)
	}
}

// flush brings every group up to date with the prefixes touched since the
// last call. The loop calls it after each batch of input.
func (s *Speaker) flush() {
	if len(s.changed)+len(s.inside)+len(s.paths) > 0 {
		for _, g := range s.groups {
			s.update(g, s.changed)
			if !g.inward() {
				s.update(g, s.inside)
			}
			if g.key.addPath != (familySet{}) {
				s.update(g, s.paths)
			}
		}
		s.changed, s.inside, s.paths = emptied(s.changed), emptied(s.inside), emptied(s.paths)
	}
	s.rib.hops.answer()
	s.answerBest()
	s.answerDynamic()
	s.serveMonitors()
}

// emptied is a list for the next batch, without holding on to a huge one.
func emptied[T any](list []T) []T {
	if cap(list) > 1<<16 {
		return nil
	}
	return list[:0]
}

// update recomputes the given prefixes of a group, encodes the difference
// once and queues it to every member.
func (s *Speaker) update(g *group, prefixes []netip.Prefix) {
	var want []sentPath
	room := &s.room
	for _, prefix := range prefixes {
		head := s.rib.table.read(prefix, room)
		want = s.desired(want[:0], g, prefix, head)
		if !g.key.addPath[familyOf(prefix.Addr())] {
			var a *attrs
			if len(want) > 0 {
				a = want[0].a
			}
			s.replace(g, pathRef{prefix: prefix}, a)
			continue
		}
		for _, old := range slices.Clone(g.out.sent(prefix)) {
			if !slices.ContainsFunc(want, func(w sentPath) bool { return w.id == old.id }) {
				s.replace(g, pathRef{prefix, old.id}, nil)
			}
		}
		for _, w := range want {
			s.replace(g, pathRef{prefix, w.id}, w.a)
		}
	}
	g.cache = nil
	chunks := g.pack.finish()
	for _, a := range g.freed { // only now: the packer knows sets by address
		s.rib.attrs.release(a)
	}
	g.freed = emptied(g.freed)
	if len(g.delta) == 0 {
		return
	}
	g.dump, g.dumpValid = [familySetSize][]chunk{}, [familySetSize]bool{}
	for _, p := range g.members {
		s.push(p, chunks, g.delta)
	}
	g.delta = emptied(g.delta)
}

// replace puts one path into the group's Adj-RIB-Out and encodes what differs.
// It takes over the reference to a, which is nil for a path that goes.
func (s *Speaker) replace(g *group, ref pathRef, a *attrs) {
	old := g.out.get(ref)
	if a == old {
		s.rib.attrs.release(a)
		return
	}
	g.out.put(ref, a)
	if old != nil {
		g.freed = append(g.freed, old)
	}
	g.delta = append(g.delta, ref)
	g.pack.add(ref, a)
}

// desired appends what the group's members are to be told of a prefix, with a
// reference to each set for the caller: nothing, the best path, or, with
// ADD-PATH, the best ones up to the limit.
func (s *Speaker) desired(dst []sentPath, g *group, prefix netip.Prefix, head *path) []sentPath {
	f := familyOf(prefix.Addr())
	if prefix.Bits() == 0 && g.key.rewrite.DefaultRoute {
		if a := s.exportDefault(g, f); a != nil {
			dst = append(dst, sentPath{0, a})
		}
		return dst
	}
	if !g.key.addPath[f] {
		if a, _ := s.exportRoute(g, prefix, best(head)); a != nil {
			dst = append(dst, sentPath{0, a})
		}
		return dst
	}
	s.ranked = s.rib.preferred(s.ranked[:0], head, g.key.limit)
	for _, p := range s.ranked {
		if len(dst) == g.key.limit {
			break
		}
		if a, _ := s.exportRoute(g, prefix, p); a != nil {
			dst = append(dst, sentPath{s.rib.ids.of(p), a})
		}
	}
	return dst
}

// exportRoute returns the attributes with which the group's members are told
// of a path, with a reference for the caller; nil and the reason when they are
// not. The reasons are constants or the policy's own words, so that they cost
// nothing where nobody asks.
func (s *Speaker) exportRoute(g *group, prefix netip.Prefix, b *path) (*attrs, string) {
	if b == nil {
		return nil, "there is no best path"
	}
	f := familyOf(prefix.Addr())
	src := s.rib.sources[b.peer]
	own := b.peer == 0
	a := b.out
	if why := g.withheld(prefix, a, src, own); why != "" {
		return nil, why
	}
	if g.loops(a) {
		return nil, "the peer's AS is in the path"
	}
	ck := cacheKey{a: a, kind: uint8(f) << 4}
	switch {
	case own:
	case src.ebgp:
		ck.kind |= 1
	default:
		ck.kind |= 2
		if !g.key.ebgp && !a.hasOriginator {
			ck.origin = src.id
		}
	}
	if g.export != nil {
		r := &s.scratch
		*r = s.routeOf(prefix, b, a)
		switch {
		case own:
			r.NextHop = g.self(f)
		case b.out.hop != nil:
			r.Interface = b.out.hop.Device
		}
		v := g.export(r)
		if v.Refused != Accepted {
			return nil, v.Detail
		}
		ck.edit = v.Edit
	}
	out, ok := g.cache[ck]
	if !ok {
		out = g.outgoing(f, ck.edit.apply(a), src, own)
		if g.cache == nil {
			g.cache = make(map[cacheKey]*attrs)
		}
		if out != nil {
			if out = s.rib.attrs.intern(out); len(out.key) > maxSent {
				s.rib.attrs.release(out)
				out = tooLong
			}
		}
		g.cache[ck] = out
		return sendable(out)
	}
	// A cached set may have lost its last reference meanwhile; interning
	// finds or revives it.
	if out == nil || out == tooLong {
		return sendable(out)
	}
	if out.refs <= 0 {
		out = s.rib.attrs.intern(out.clone())
		g.cache[ck] = out
		return out, ""
	}
	out.refs++
	return out, ""
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
		pack := g.packer()
		for f := range numFamilies {
			if fs[f] {
				for ref, a := range g.out.family(f) {
					pack.add(ref, a)
				}
			}
		}
		g.dump[i], g.dumpValid[i] = pack.finish(), true
	}
	return g.dump[i]
}
