// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
)

// Judging received routes and applying policies to attribute sets.

// Well-known communities (RFC 1997 unless said otherwise).
const (
	commNoExport          = 0xffffff01
	commNoAdvertise       = 0xffffff02
	commNoExportSubconfed = 0xffffff03
	commGracefulShutdown  = 0xffff0000 // RFC 8326
	commBlackhole         = 0xffff029a // RFC 7999
)

// judge refuses a received route that cannot be used, whatever policy says.
// Such a route stays in Adj-RIB-In, so that it can be shown and judged again,
// but never reaches the decision process. set is what judgeSet says of a.
func judge(p *peer, prefix netip.Prefix, a *attrs, set *Verdict) Verdict {
	switch nh := a.nextHop; {
	case martian(prefix):
		return Verdict{Refused: RefusedPrefix, Detail: fmt.Sprintf("prefix %s is not routable", prefix)}
	case nh.Is4() != prefix.Addr().Is4() && !(nh.Is6() && p.cfg.ExtendedNextHop):
		return Verdict{Refused: RefusedNextHop, Detail: fmt.Sprintf("next hop %s is of the other family", nh)}
	}
	return *set
}

// judgeSet is the part of judge that is the same for all prefixes which come with
// a set of attributes.
func (s *Speaker) judgeSet(p *peer, a *attrs) Verdict {
	refuse := func(r Refusal, format string, args ...any) Verdict {
		return Verdict{Refused: r, Detail: fmt.Sprintf(format, args...)}
	}
	nh := a.nextHop
	switch {
	case nh.IsUnspecified() || nh.IsMulticast() || nh.IsLoopback() && !p.cfg.Addr.Addr().IsLoopback() ||
		nh.Is4() && nh.IsLinkLocalUnicast() || nh.Is4In6() || nh.Is4() && nh.As4()[0] >= 240 || nh.Is4() && nh.As4()[0] == 0:
		return refuse(RefusedNextHop, "next hop %s is not a usable address", nh)
	case isLinkLocal(nh) && nh != p.cfg.neighbour():
		return refuse(RefusedNextHop, "next hop %s is link-local, and not the peer's own", nh)
	case s.own[nh]:
		return refuse(RefusedNextHop, "next hop %s is this node", nh)
	case p.ebgp && a.firstAS() != p.cfg.ASN:
		return refuse(RefusedPath, "AS path does not begin with the peer's AS %d", p.cfg.ASN) // RFC 4271 section 6.3
	case a.countAS(p.localAS) > int(p.cfg.AllowLocalAS) || a.countAS(s.cfg.ASN) > int(p.cfg.AllowLocalAS):
		return refuse(RefusedLoop, "our own AS is in the path") // RFC 4271 section 9.1.2
	case a.hasOriginator && a.originator == id32(s.cfg.RouterID):
		return refuse(RefusedLoop, "ORIGINATOR_ID is this node") // RFC 4456 section 8
	case s.cfg.ClusterID.IsValid() && slices.Contains(a.clusters, id32(s.cfg.ClusterID)):
		return refuse(RefusedLoop, "our own cluster is in CLUSTER_LIST") // RFC 4456 section 8
	}
	if why := p.leaked(a); why != "" {
		return Verdict{Refused: RefusedLeak, Detail: why}
	}
	return Verdict{}
}

// martian tells whether a prefix can be nobody's route.
func martian(prefix netip.Prefix) bool {
	a := prefix.Addr()
	if prefix.Bits() == 0 {
		return false
	}
	if a.Is4() {
		b := a.As4()
		return b[0] == 0 || b[0] == 127 || b[0] >= 224 || b[0] == 169 && b[1] == 254
	}
	return a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.Is4In6() || a.IsUnspecified()
}

// importRoute judges and filters a received route. r is the route of in, and set
// what judgeSet says of that. It
// returns the accepted set with a reference for the caller, or nil; and the
// verdict.
func (s *Speaker) importRoute(p *peer, r *Route, in *attrs, set *Verdict) (*attrs, Verdict) {
	out, v := accept(p, r, in, set)
	if out == nil {
		return nil, v
	}
	return s.rib.attrs.intern(out), v
}

// accept is importRoute without the table of attributes; what it returns is not interned.
func accept(p *peer, r *Route, in *attrs, set *Verdict) (*attrs, Verdict) {
	v := judge(p, r.Prefix, in, set)
	if v.Refused == Accepted && p.cfg.Import != nil {
		v = p.cfg.Import(r)
	}
	if v.Refused != Accepted {
		return nil, v
	}
	out := v.Edit.apply(in)
	if p.ebgp && slices.Contains(out.comms, commGracefulShutdown) {
		// RFC 8326 section 4.3: a neighbour that is about to end the session
		// asks for other paths to be used.
		out = (&Edit{SetLocalPref: true}).apply(out)
	}
	return p.marked(out), v
}

// received is the view that policies have of what a peer sent with one set of
// attributes; the prefix is to be filled in. It is good until the next call.
func (s *Speaker) received(p *peer, in *attrs) *Route {
	r := &s.arrived
	*r = Route{}
	r.fill(in)
	r.Peer, r.EBGP = p.cfg.Addr.Addr(), p.ebgp
	return r
}

// fill takes over what attributes say.
func (r *Route) fill(a *attrs) {
	r.NextHop = a.nextHop
	r.LocalPref, r.HasLocalPref = a.localPref, a.hasLocalPref
	r.MED, r.HasMED, r.Origin = a.med, a.hasMED, a.origin
	r.ASPath, r.Communities, r.Extended, r.Large = a.flatPath(), a.comms, a.ext, a.large
	r.OTC, r.HasOTC = a.otc, a.hasOTC
	if a.hasOriginator {
		r.Originator = addr4(a.originator)
	}
}

// routeOf is the view that policies and outsiders have of a path with the
// attributes a, which may be those before or after policy.
func (s *Speaker) routeOf(prefix netip.Prefix, q *path, a *attrs) Route {
	src := s.rib.sources[q.peer]
	r := Route{Prefix: prefix, Peer: src.addr, EBGP: src.ebgp, Stale: q.flags&pathStale != 0, Local: q.peer == 0}
	r.fill(a)
	if r.Local {
		r.Interface = s.interfaces[prefix]
	}
	return r
}

// Rejudge changes what policies look at, and judges again what that concerns,
// at the cost of the routes concerned. The loop calls change, which owns for that moment
// whatever the policies share, and which returns the prefixes inside of which
// routes may be judged otherwise now, and addresses: routes with such a next hop
// or ORIGINATOR_ID may be, too. What is inside of the prefixes is also looked
// at again for sending.
func (s *Speaker) Rejudge(change func() (within []netip.Prefix, from []netip.Addr)) {
	s.post(func() {
		within, from := change()
		due := map[netip.Prefix]struct{}{}
		for _, p := range within {
			for prefix := range s.rib.table.Within(p.Masked()) {
				due[prefix] = struct{}{}
			}
		}
		for _, prefix := range s.cameFrom(from) {
			due[prefix] = struct{}{}
		}
		for prefix := range due {
			head, _ := s.rib.table.Get(prefix)
			for q := head; q != nil; q = q.next {
				if p := s.rib.sources[q.peer].p; p != nil {
					s.reimport(p, pathRef{prefix, q.id}, q)
				}
			}
			s.changed = append(s.changed, prefix)
		}
	})
}

// cameFrom returns the prefixes with a path that has one of the addresses as
// next hop or ORIGINATOR_ID. The sets of attributes are few and asked first:
// mostly none has, and then the table need not be walked.
func (s *Speaker) cameFrom(addrs []netip.Addr) (list []netip.Prefix) {
	if len(addrs) == 0 {
		return nil
	}
	has := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		has[a] = true
	}
	match := func(a *attrs) bool { return has[a.nextHop] || a.hasOriginator && has[addr4(a.originator)] }
	found := false
	for _, a := range s.rib.attrs.sets {
		if found = match(a); found {
			break
		}
	}
	if !found {
		return nil
	}
	for prefix, head := range s.rib.table.All() {
		for q := head; q != nil; q = q.next {
			if q.in != nil && match(q.in) {
				list = append(list, prefix)
				break
			}
		}
	}
	return list
}
