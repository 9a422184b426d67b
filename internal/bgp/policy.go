// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
)

// Judging received routes and applying policies to attribute sets.

// Well-known communities (RFC 1997).
const (
	commNoExport          = 0xffffff01
	commNoAdvertise       = 0xffffff02
	commNoExportSubconfed = 0xffffff03
)

// judge says why a received route cannot be used, whatever policy says; empty
// if it can. Such a route stays in Adj-RIB-In, so that it can be shown and
// judged again, but never reaches the decision process.
func (s *Speaker) judge(p *peer, prefix netip.Prefix, a *attrs) string {
	if why := martian(prefix); why != "" {
		return why
	}
	nh := a.nextHop
	switch {
	case familyOf(nh) != familyOf(prefix.Addr()):
		return fmt.Sprintf("next hop %s is of the other family", nh)
	case nh.IsUnspecified() || nh.IsMulticast() || nh.IsLoopback() && !p.cfg.Addr.Addr().IsLoopback() ||
		nh.IsLinkLocalUnicast() || nh.Is4In6() || nh.Is4() && nh.As4()[0] >= 240 || nh.Is4() && nh.As4()[0] == 0:
		return fmt.Sprintf("next hop %s is not a usable address", nh)
	case s.own[nh]:
		return fmt.Sprintf("next hop %s is this node", nh)
	}
	if p.ebgp && a.firstAS() != p.cfg.ASN {
		return fmt.Sprintf("AS path does not begin with the peer's AS %d", p.cfg.ASN) // RFC 4271 section 6.3
	}
	if a.hasAS(p.localAS) || a.hasAS(s.cfg.ASN) {
		return "our own AS is in the path" // RFC 4271 section 9.1.2
	}
	if a.hasOriginator && a.originator == id32(s.cfg.RouterID) {
		return "ORIGINATOR_ID is this node" // RFC 4456 section 8
	}
	if s.cfg.ClusterID.IsValid() && slices.Contains(a.clusters, id32(s.cfg.ClusterID)) {
		return "our own cluster is in CLUSTER_LIST" // RFC 4456 section 8
	}
	return ""
}

// martian says why a prefix can be nobody's route; empty if it can be one.
func martian(prefix netip.Prefix) string {
	a := prefix.Addr()
	if prefix.Bits() == 0 {
		return ""
	}
	switch {
	case a.IsMulticast(), a.IsLoopback(), a.IsLinkLocalUnicast(), a.Is4In6(),
		a.Is4() && (a.As4()[0] >= 240 || a.As4()[0] == 0),
		a.Is6() && a.IsUnspecified():
		return fmt.Sprintf("prefix %s is not routable", prefix)
	}
	return ""
}

// importRoute judges and filters a received route. It returns the accepted
// set with a reference for the caller, or nil and the reason.
func (s *Speaker) importRoute(p *peer, prefix netip.Prefix, in *attrs) (*attrs, string) {
	if why := s.judge(p, prefix, in); why != "" {
		return nil, why
	}
	if p.cfg.Import == nil {
		in.refs++
		return in, ""
	}
	r := routeOf(prefix, in, p.cfg.Addr.Addr(), p.ebgp, false)
	out, ok, why := p.cfg.Import(r)
	if !ok {
		if why == "" {
			why = "rejected by import policy"
		}
		return nil, why
	}
	return s.rib.attrs.intern(changedBy(in, r, out)), ""
}

// routeOf is the view that policies and outsiders have of a path.
func routeOf(prefix netip.Prefix, a *attrs, from netip.Addr, ebgp, stale bool) Route {
	return Route{
		Prefix: prefix, NextHop: a.nextHop,
		LocalPref: a.localPref, HasLocalPref: a.hasLocalPref,
		MED: a.med, HasMED: a.hasMED, Origin: a.origin,
		ASPath: a.flatPath(), Communities: a.comms, Large: a.large,
		Peer: from, EBGP: ebgp, Stale: stale,
	}
}

// changedBy returns a itself when a policy left the route as it was, else a
// new set with what it changed. Prefix and peer cannot be changed.
func changedBy(a *attrs, was, is Route) *attrs {
	same := was.NextHop == is.NextHop && was.LocalPref == is.LocalPref && was.HasLocalPref == is.HasLocalPref &&
		was.MED == is.MED && was.HasMED == is.HasMED && was.Origin == is.Origin &&
		slices.Equal(was.ASPath, is.ASPath) && slices.Equal(was.Communities, is.Communities) && slices.Equal(was.Large, is.Large)
	if same {
		return a
	}
	c := a.clone()
	c.nextHop = is.NextHop
	c.localPref, c.hasLocalPref = is.LocalPref, is.HasLocalPref
	c.med, c.hasMED = is.MED, is.HasMED
	c.origin = min(is.Origin, 2)
	c.comms, c.large = is.Communities, is.Large
	if !slices.Equal(was.ASPath, is.ASPath) {
		c.path = nil
		for seq := range slices.Chunk(is.ASPath, 255) {
			c.path = append(c.path, segment{segSequence, seq})
		}
	}
	return c
}
