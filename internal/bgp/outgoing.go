// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"
)

// What becomes of a path on its way to the members of an export group, beside their
// policy: whether they may be told of it, and with which attributes.

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
	if own { // its communities are for those that hear of it
		return g.staysHere(a)
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
