// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/fabric"
)

// behaviour is in what a program differs from the decisions of this product's
// speaker, which are those of package bgp.
type behaviour struct {
	// sendsLoops: a route is sent to a peer whose own AS is in the path, and the peer refuses
	// it: RFC 4271 section 9.1.2 leaves the check to the receiver. If the peer
	// is told to take such routes, it makes the difference.
	sendsLoops bool
	// prefersLearned: a route learned by BGP goes before an endpoint of the server itself, which
	// the daemon has from the kernel with preference 10, where BGP has 100,
	// unless it is told otherwise (VRouter.PreferLocal).
	prefersLearned bool
	// echoes: what a peer sent is sent back to it, as peers with one policy share one table. The peer knows its
	// own route by AS_PATH or ORIGINATOR_ID, unless an AS override hid that.
	echoes bool
	// guards: a route to an endpoint that the server has itself is refused, unless the address is anycast and the next
	// hop another server that has it: the origin guard.
	guards bool
	// linkLocal: an eBGP peer on the same subnet is told the device's own link-local address beside the next hop of an
	// IPv6 route, even that of a third party, and packets go to the link-local address that a peer told.
	linkLocal bool
}

// behaviours are those that were seen with FRR 8.4 and BIRD 2.0.
var behaviours = map[fabric.Software]behaviour{
	fabric.Muslin: {echoes: true, guards: true},
	fabric.FRR:    {sendsLoops: true, echoes: true, linkLocal: true},
	fabric.BIRD:   {sendsLoops: true, prefersLearned: true},
	fabric.GoBGP:  {},
}

// ownLoses tells whether a learned route goes before what the device originates.
func (x *device) ownLoses(kind fabric.OriginKind) bool {
	switch kind {
	case fabric.OriginEndpoints, fabric.OriginAnycast, fabric.OriginMoved:
		return x.does.prefersLearned && (x.VRouter == nil || !x.VRouter.PreferLocal)
	}
	return false // loopbacks, subnets and static blocks go before BGP in every program
}

// policyOf is a filter as the speaker takes it.
func policyOf(f *fabric.Filter) bgp.Policy {
	return func(r *bgp.Route) bgp.Verdict {
		if f.Permits(r.Prefix) {
			return bgp.Verdict{}
		}
		return bgp.Verdict{Refused: bgp.RefusedFilter, Detail: "filter " + f.Name}
	}
}

// exportOf is what a profile tells: of what passes its filter what is the device's own, or all.
func exportOf(p *fabric.Profile, filter bgp.Policy) bgp.Policy {
	if !p.OwnOnly {
		return filter
	}
	return func(r *bgp.Route) bgp.Verdict {
		switch {
		case !r.Local:
			return bgp.Verdict{Refused: bgp.RefusedFilter, Detail: "ownOnly of profile " + p.Name}
		case filter == nil:
			return bgp.Verdict{}
		}
		return filter(r)
	}
}

// orRefused is a policy, or the one of eBGP without any where that is needed (RFC 8212): nothing passes. FRR
// shows (Policy) then, and counts no routes.
func orRefused(name string, p bgp.Policy) bgp.Policy {
	if name != "" {
		return p
	}
	return func(*bgp.Route) bgp.Verdict {
		return bgp.Verdict{Refused: bgp.RefusedFilter, Detail: "(Policy): eBGP without a policy"}
	}
}

// withLocalPref has accepted routes get a LOCAL_PREF, unless that is 0.
func withLocalPref(p bgp.Policy, pref uint32) bgp.Policy {
	if pref == 0 {
		return p
	}
	edit := &bgp.Edit{SetLocalPref: true, LocalPref: pref}
	return func(r *bgp.Route) bgp.Verdict {
		var v bgp.Verdict
		if p != nil {
			v = p(r)
		}
		if v.Refused == bgp.Accepted {
			v.Edit = edit
		}
		return v
	}
}
