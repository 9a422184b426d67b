// SPDX-License-Identifier: Apache-2.0

package bgp

import "net/netip"

// Rules are the decisions of a speaker without its sessions: what becomes of a
// received route, which path is selected, and what a peer is told. They are the
// functions that the speaker itself calls, for those who compute what a
// network of speakers comes to. Nothing waits, and no route is kept.
type Rules struct {
	s      *Speaker
	peers  []*peer
	groups []*group
	paths  []path // scratch of Select
}

// Attributes is a set of path attributes, which never changes. The zero value
// is no route.
type Attributes struct{ set *attrs }

// Own is the Peer of a Candidate that this node originates.
const Own = -1

// Candidate is a path that takes part in the selection. Its next hop is usable.
type Candidate struct {
	Peer int    // index in Config.Peers, or Own
	ID   uint32 // path identifier (RFC 7911)
	Attributes
}

// NewRules prepares the decisions of a speaker with this configuration. ids are the
// identifiers of its peers, in their order. A router has an address on each of its links:
// the next hop that a peer is told is its LocalAddr, where it has one. Policies
// are called as the speaker calls them; a peer is offered all families.
func NewRules(c Config, ids []netip.Addr) *Rules {
	r := &Rules{s: &Speaker{cfg: c, own: map[netip.Addr]bool{}, rib: rib{sources: []*source{{used: true}}}}}
	for _, a := range append([]netip.Addr{c.NextHop4, c.NextHop6}, c.Own...) {
		r.s.own[a] = a.IsValid()
	}
	n := len(c.Peers)
	r.peers, r.groups, r.s.rib.sources = make([]*peer, n), make([]*group, n), append(make([]*source, 0, 1+n), r.s.rib.sources...)
	peers, groups, sources := make([]peer, n), make([]group, n), make([]source, n)
	families := familySet{true, true}
	est := [2]conn{} // what the other end offered, with and without extended next hops
	for i := range est {
		est[i].families, est[i].open = families, &openMessage{as4: true, families: families, extNextHop: i > 0}
	}
	for i := range c.Peers {
		pc := &r.s.cfg.Peers[i]
		if pc.LocalAddr.IsValid() {
			r.s.own[pc.LocalAddr] = true
		}
		p, g, src := &peers[i], &groups[i], &sources[i]
		p.s, p.cfg, p.slot, p.localAS, p.est = r.s, *pc, uint16(i+1), r.s.localAS(*pc), &est[0]
		if pc.ExtendedNextHop {
			p.est = &est[1]
		}
		p.ebgp = p.localAS != pc.ASN
		src.used, src.ebgp, src.client, src.id, src.addr, src.p = true, p.ebgp, pc.Client, id32(ids[i]), pc.Addr.Addr(), p
		g.key, g.export = r.s.groupKeyOf(p), pc.Export
		switch a := pc.LocalAddr; {
		case a.Is4():
			g.key.nh4 = a
		case a.Is6():
			g.key.nh6 = a
		}
		r.peers[i], r.groups[i] = p, g
		r.s.rib.sources = append(r.s.rib.sources, src)
	}
	return r
}

// Originate returns the attributes of what this node announces itself.
func Originate(localPref uint32) Attributes {
	return Attributes{&attrs{localPref: localPref, hasLocalPref: localPref != 0}}
}

// Import judges and filters what a peer sent, as ingest does.
func (r *Rules) Import(peer int, prefix netip.Prefix, in Attributes) (Attributes, Verdict) {
	p := r.peers[peer]
	route, set := r.s.received(p, in.set), r.s.judgeSet(p, in.set)
	route.Prefix = prefix
	out, v := accept(p, route, in.set, &set)
	return Attributes{out}, v
}

// Select is the decision process (RFC 4271 section 9.1.2.2): the index of the best
// path, -1 if there is none, and for each whether it is equal to that up to the
// interior cost. The slice is the caller's.
func (r *Rules) Select(list []Candidate, equal []bool) (best int, _ []bool) {
	best = -1
	if len(list) == 0 {
		return best, equal[:0]
	}
	r.load(list)
	r.s.rib.decide(&r.paths[0])
	equal = equal[:0]
	for i := range r.paths {
		if r.paths[i].flags&pathBest != 0 {
			best = i
		}
		equal = append(equal, r.paths[i].flags&pathMulti != 0)
	}
	return best, equal
}

// load makes a list of paths of candidates.
func (r *Rules) load(list []Candidate) {
	if cap(r.paths) < len(list) {
		r.paths = make([]path, len(list), 2*len(list))
	}
	r.paths = r.paths[:len(list)]
	for i, c := range list {
		p := &r.paths[i]
		*p = path{out: c.set, id: c.ID, peer: uint16(c.Peer + 1)}
		if i > 0 {
			r.paths[i-1].next = p
		}
	}
}

// Beaten is why a candidate was not selected: which one beat it, at which step of the
// decision process, and what was compared.
type Beaten struct {
	By        int // index in the list
	Step      string
	Value, To string
}

// Beaten tells for each candidate why Select did not take it; nil for the best one.
func (r *Rules) Beaten(list []Candidate) []*Beaten {
	out := make([]*Beaten, len(list))
	if len(list) == 0 {
		return out
	}
	r.load(list)
	place := func(p *path) int {
		for i := range r.paths {
			if &r.paths[i] == p {
				return i
			}
		}
		return -1
	}
	r.s.rib.elect(&r.paths[0], func(p, to *path, by *step) {
		out[place(p)] = &Beaten{place(to), by.name, by.value(&r.s.rib, p), by.value(&r.s.rib, to)}
	})
	return out
}

// Export returns with which attributes a peer is told of a path, or the reason why it is not.
// That the peer's own AS is in the path is no such reason here: Loops says so.
func (r *Rules) Export(peer int, prefix netip.Prefix, c Candidate) (Attributes, string) {
	g, src := r.groups[peer], r.s.rib.sources[c.Peer+1]
	own := c.Peer == Own
	if why := g.withheld(prefix, c.set, src, own); why != "" {
		return Attributes{}, why
	}
	a, f := c.set, familyOf(prefix.Addr())
	if g.export != nil {
		route := r.s.routeOf(prefix, &path{peer: uint16(c.Peer + 1)}, a)
		if own {
			route.NextHop = g.self(f)
		}
		v := g.export(&route)
		if v.Refused != Accepted {
			return Attributes{}, v.Detail
		}
		a = v.Edit.apply(a)
	}
	out, why := sendable(g.outgoing(f, a, src, own))
	return Attributes{out}, why
}

// Loops tells whether the peer must refuse a path because its own AS is in it.
// This speaker does not send such a path; others do (RFC 4271 section 9.1.2 leaves
// the check to the receiver).
func (r *Rules) Loops(peer int, c Candidate) bool { return r.groups[peer].loops(c.set) }

// Default returns the default route that Rewrite.DefaultRoute has sent to a peer.
func (r *Rules) Default(peer int, prefix netip.Prefix) Attributes {
	return Attributes{r.groups[peer].outgoing(familyOf(prefix.Addr()), defaultPath.out, r.s.rib.sources[0], true)}
}

// Valid tells whether there is a route.
func (a Attributes) Valid() bool { return a.set != nil }

// Key identifies the set: equal sets have equal keys.
func (a Attributes) Key() string {
	if a.set == nil {
		return ""
	}
	return string(a.set.appendKey(make([]byte, 0, 128)))
}

// NextHop is where the path leads; invalid for what is originated here.
func (a Attributes) NextHop() netip.Addr { return a.set.nextHop }

// Path is the AS path, leftmost first.
func (a Attributes) Path() []uint32 { return a.set.flatPath() }

// LocalPref is LOCAL_PREF, or what counts where there is none.
func (a Attributes) LocalPref() uint32 { return a.set.lp() }
