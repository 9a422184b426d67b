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

// packer returns an empty packer for the group's members.
func (g *group) packer() packer { return packer{as4: g.key.as4, addPath: g.key.addPath} }

// touch remembers what an operation did to a prefix.
func (s *Speaker) touch(prefix netip.Prefix, c change) {
	switch c {
	case selectionChanged:
		s.changed = append(s.changed, prefix)
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
	if len(s.changed)+len(s.paths) > 0 {
		for _, g := range s.groups {
			s.update(g, s.changed)
			if g.key.addPath != (familySet{}) {
				s.update(g, s.paths)
			}
		}
		s.changed, s.paths = emptied(s.changed), emptied(s.paths)
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

// withheld says why the members are not told of a path with the attributes a,
// whatever policy says; empty if they may be.
func (g *group) withheld(prefix netip.Prefix, a *attrs, src *source, own bool) string {
	switch {
	case !g.key.families[familyOf(prefix.Addr())]:
		return "the session does not carry the family"
	case martian(prefix):
		return "the prefix is not routable"
	}
	reflected := !own && !g.key.ebgp && !src.ebgp
	switch {
	case reflected && g.key.cluster == 0:
		return "learned over iBGP, and the peer is iBGP, too (RFC 4271 section 9.2)"
	case reflected && !src.client && !g.key.client:
		return "learned over iBGP, and neither its peer nor this one is a client (RFC 4456 section 6)"
	}
	for _, c := range a.comms {
		switch {
		case c == commNoAdvertise:
			return "community NO_ADVERTISE (RFC 1997)"
		case g.key.ebgp && c == commNoExport:
			return "community NO_EXPORT, and the peer is eBGP (RFC 1997)"
		case g.key.ebgp && c == commNoExportSubconfed:
			return "community NO_EXPORT_SUBCONFED, and the peer is eBGP (RFC 1997)"
		case g.key.ebgp && c == commBlackhole:
			return "community BLACKHOLE, and the peer is eBGP (RFC 7999 section 3.2)"
		}
	}
	return g.staysHere(a)
}

// loops tells whether the members would refuse a path because their own AS is in it
// (RFC 4271 section 9.1.2).
func (g *group) loops(a *attrs) bool {
	return g.key.ebgp && a.hasAS(g.key.peerAS) && !g.key.rewrite.ASOverride
}

// defaultRoutes are what Rewrite.DefaultRoute sends, and defaultPath stands for
// the path that they do not have in the table: they are the node's own, towards
// some peers only.
var (
	defaultRoutes = [numFamilies]netip.Prefix{v4: netip.MustParsePrefix("0.0.0.0/0"), v6: netip.MustParsePrefix("::/0")}
	defaultPath   = &path{out: &attrs{}, flags: pathBest | pathMulti}
)

// exportDefault returns the attributes of the default route that the group's
// members get, with a reference for the caller. No policy is asked: it was asked for.
func (s *Speaker) exportDefault(g *group, f family) *attrs {
	if !g.key.families[f] {
		return nil
	}
	a := g.outgoing(f, defaultPath.out, s.rib.sources[0], true)
	if a == nil {
		return nil
	}
	return s.rib.attrs.intern(a)
}

// maxSent bounds the attributes of what is sent: a message must hold one prefix
// beside them.
const maxSent = maxMessage - 150

// tooLong stands for attributes beyond it.
var tooLong = &attrs{}

// sendable returns what outgoing made, or the reason for which it cannot be sent.
func sendable(a *attrs) (*attrs, string) {
	switch a {
	case nil:
		return nil, "there is no next hop of the prefix's family to announce"
	case tooLong:
		return nil, "its attributes do not fit into a message (RFC 4271 section 9.2)"
	}
	return a, ""
}

// self is this node's next hop for a family.
func (g *group) self(f family) netip.Addr {
	if f == v4 && (g.key.nh4.IsValid() || !g.key.ext) {
		return g.key.nh4
	}
	return g.key.nh6
}

// outgoing makes the changes that the session asks for: RFC 4271 sections 5.1
// and 9.2, for what is reflected RFC 4456 sections 8 and 10, for
// roles RFC 9234 section 5 (egress 1), and Rewrite.
func (g *group) outgoing(f family, a *attrs, src *source, own bool) *attrs {
	c := a.clone()
	if own || !g.keeps(f, a.nextHop, src) {
		c.nextHop = g.self(f)
	}
	if !c.nextHop.IsValid() || familyOf(c.nextHop) != f && !(f == v4 && g.key.ext) {
		return nil
	}
	w := &g.key.rewrite
	if !g.key.ebgp {
		c.localPref, c.hasLocalPref = a.lp(), true
		if w.GracefulShutdown {
			c.localPref = 0
		}
		if !own && !src.ebgp {
			if !c.hasOriginator {
				c.originator, c.hasOriginator = src.id, true
			}
			c.clusters = append([]uint32{g.key.cluster}, a.clusters...)
		}
		return c
	}
	c.localPref, c.hasLocalPref = 0, false
	c.originator, c.hasOriginator, c.clusters = 0, false, nil
	if !own {
		c.med, c.hasMED = 0, false // section 5.1.4: not to other neighbouring ASes
	}
	const nonTransitive = 0x40 // RFC 4360 section 2
	c.ext = slices.DeleteFunc(slices.Clone(c.ext), func(e [8]byte) bool { return e[0]&nonTransitive != 0 })
	if w.ASOverride || w.RemovePrivateAS {
		c.path = c.mapped(func(as uint32) (uint32, bool) {
			switch {
			case as == g.key.peerAS && w.ASOverride:
				return g.key.localAS, true
			case as != g.key.peerAS && w.RemovePrivateAS && privateAS(as):
				return 0, false
			}
			return as, true
		})
	}
	for range 1 + int(w.Prepend) {
		c.path = c.prepended(g.key.localAS)
	}
	if g.key.role.marks() && !c.hasOTC {
		c.otc, c.hasOTC = g.key.localAS, true
	}
	if w.GracefulShutdown {
		c.comms = union(c.comms, []uint32{commGracefulShutdown})
	}
	return c
}

// keeps tells whether a learned next hop is passed on as it is.
func (g *group) keeps(f family, nextHop netip.Addr, src *source) bool {
	if isLinkLocal(nextHop) {
		return false
	}
	switch g.key.mode {
	case NextHopSelf:
		return false
	case NextHopKeep:
		return true
	case NextHopThirdParty:
		shared := g.key.rewrite.Shared4
		if f == v6 {
			shared = g.key.rewrite.Shared6
		}
		if nextHop == g.key.far {
			return false // never its own address (RFC 4271 section 5.1.3)
		}
		if g.key.ebgp && shared.IsValid() && shared.Contains(nextHop) {
			return true
		}
	}
	return !g.key.ebgp && !src.ebgp
}

// privateAS tells whether an AS number is for private use (RFC 6996).
func privateAS(as uint32) bool {
	return as >= 64512 && as <= 65534 || as >= 4200000000 && as <= 4294967294
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
