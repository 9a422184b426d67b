// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/filter"
	"github.com/muslin-net/muslin/internal/guard"
)

// What is taken from a session and what is sent on it: its filters, the
// cluster's default handling, what its annotations ask for, and the guard.

// police returns a function that gives sessions their policies, each by the
// BGPPeer that asks for it, nil in the mesh. Its problems concern BGPPeers and
// filters, those of police itself configurations and pools.
func (in *peeringInput) police(self nodeAddr) (func(*bgp.PeerConfig, *v3.BGPPeer, v3.PeerSettings) []problem, []problem) {
	var problems []problem
	var pools []*v3.IPPool
	for _, name := range slices.Sorted(maps.Keys(in.pools)) {
		pools = append(pools, in.pools[name])
	}
	input := filter.Input{Pools: pools, Global: in.global, Node: in.perNode(in.self)}
	input.Priority4, input.Priority6 = in.priorities()
	if in.guard != nil {
		input.Bindings = in.guard
	}
	fabric, errs := filter.NewFabric(input)
	for _, err := range errs {
		problems = append(problems, problem{object: "BGP", text: err.Error()})
	}
	cluster, errs := v3.SettingsOn(in.global, in.perNode(in.self))
	problems = append(problems, annotationProblems(errs)...)
	own, errs := in.nodes[in.self].Settings()
	problems = append(problems, annotationProblems(errs)...)
	nodes, more := in.nodesByAddr()
	problems = append(problems, more...)

	return func(c *bgp.PeerConfig, by *v3.BGPPeer, set v3.PeerSettings) []problem {
		return in.policeSession(c, by, set, sessionInput{fabric, cluster, own, self, nodes[c.Addr.Addr()]})
	}, problems
}

// sessionInput is what policeSession needs beside the session.
type sessionInput struct {
	fabric  *filter.Fabric
	cluster v3.ConfigurationSettings
	own     v3.NodeSettings
	self    nodeAddr
	peer    *v3.Node // that the neighbour is, nil for a router
}

func (in *peeringInput) policeSession(c *bgp.PeerConfig, by *v3.BGPPeer, set v3.PeerSettings, si sessionInput) (problems []problem) {
	local := cmp.Or(c.LocalASN, si.self.asn)
	s := filter.Session{Fabric: si.fabric, EBGP: local != c.ASN}
	from := guard.Peer{Trusted: si.cluster.Trusting}
	if si.peer != nil {
		from.Node = si.peer.Metadata.Name
		from.Reflects = si.peer.Spec.BGP != nil && si.peer.Spec.BGP.RouteReflectorClusterID != ""
	}
	c.Rewrite = bgp.Rewrite{GracefulShutdown: si.own.GracefulShutdown}
	c.PassUnknown = si.cluster.PassUnknown
	if by != nil {
		if set.PassUnknown != nil {
			c.PassUnknown = *set.PassUnknown
		}
		s.Dynamic = len(set.ListenRange) > 0
		s.Strict, s.Tags = si.cluster.EBGPRequiresPolicy, set.Communities
		for _, name := range by.Spec.Filters {
			s.Filters = append(s.Filters, in.filters[name]) // nil if there is none: Session knows
		}
		from.Trusted = set.Trusted || from.Trusted && !set.Untrusted
		from.Workload = in.workloadOf(by, c.Addr.Addr())
		c.NextHopMode = nextHopMode(by, set, s.EBGP)
		c.Rewrite = bgp.Rewrite{
			ASOverride: set.ASOverride, RemovePrivateAS: set.RemovePrivateAS, Prepend: set.Prepend,
			DefaultRoute: set.DefaultOriginate, GracefulShutdown: si.own.GracefulShutdown || set.GracefulShutdown,
		}
		if set.ThirdParty {
			c.Rewrite.Shared4, c.Rewrite.Shared6 = si.self.v4.Masked(), si.self.v6.Masked()
		}
	}
	imports, importID, errs := s.Import()
	exports, exportID, more := s.Export()
	if errs = append(errs, more...); len(errs) > 0 {
		problems = append(problems, problem{object: "BGPPeer " + by.Metadata.Name, text: errors.Join(errs...).Error()})
	}
	c.Import, c.ImportID = guarded(in.guard, from, imports), fmt.Sprintf("%s %+v", importID, from)
	c.Export, c.ExportID = exports, exportID
	return problems
}

// nextHopMode is what a BGPPeer says of next hops; keepOriginalNextHop concerns
// eBGP sessions only.
func nextHopMode(p *v3.BGPPeer, set v3.PeerSettings, ebgp bool) bgp.NextHopMode {
	switch {
	case p.Spec.NextHopMode == "Self":
		return bgp.NextHopSelf
	case p.Spec.NextHopMode == "Keep", p.Spec.KeepOriginalNextHop && ebgp:
		return bgp.NextHopKeep
	case set.ThirdParty:
		return bgp.NextHopThirdParty
	}
	return bgp.NextHopAuto
}

// refusals are the guard's classes, as BGP counts them.
var refusals = map[guard.Class]bgp.Refusal{
	guard.Infrastructure: bgp.RefusedServer, guard.Local: bgp.RefusedLocal, guard.Unbound: bgp.RefusedUnbound, guard.Unknown: bgp.RefusedUnknown,
}

// guarded puts the guard before a policy: no filter opens what it refuses.
func guarded(g *guard.Guard, from guard.Peer, then bgp.Policy) bgp.Policy {
	if g == nil {
		return then
	}
	return func(r *bgp.Route) bgp.Verdict {
		if class, why := g.Judge(&guard.Route{Prefix: r.Prefix, NextHop: r.NextHop, Originator: r.Originator}, &from); class != guard.Accepted {
			return bgp.Verdict{Refused: refusals[class], Detail: why}
		}
		return then(r)
	}
}

// nodesByAddr finds nodes by their own addresses; of two that claim one, the first by
// name has it, and the other a problem.
func (in *peeringInput) nodesByAddr() (map[netip.Addr]*v3.Node, []problem) {
	var problems []problem
	m := map[netip.Addr]*v3.Node{}
	for _, name := range slices.Sorted(maps.Keys(in.nodes)) {
		v4, v6 := in.nodes[name].Addrs()
		for i, p := range []netip.Prefix{v4, v6} {
			other := m[p.Addr()]
			switch {
			case !p.IsValid():
			case other == nil:
				m[p.Addr()] = in.nodes[name]
			default:
				problems = append(problems, problem{object: "Node " + name, field: []string{"spec.bgp.ipv4Address", "spec.bgp.ipv6Address"}[i],
					text: fmt.Sprintf("%s is also the address of Node %s: give one of them another, or delete the one of a server that is gone or was renamed", p.Addr(), other.Metadata.Name)})
			}
		}
	}
	return m, problems
}

// priorities are those of ordinary routes of each family, from which LOCAL_PREF
// follows.
func (in *peeringInput) priorities() (v4, v6 int) {
	v4, v6 = in.metric4, in.metric6
	if in.global != nil {
		v4, v6 = cmp.Or(in.global.Spec.IPv4NormalRoutePriority, v4), cmp.Or(in.global.Spec.IPv6NormalRoutePriority, v6)
	}
	return cmp.Or(v4, defaultPriority), cmp.Or(v6, defaultPriority)
}

// defaultPriority is the priority of ordinary routes when nobody says.
const defaultPriority = 1024

// annotationProblems are the errors of annotations, which name their object,
// but not those of BFD: watch reports them with what follows.
func annotationProblems(errs []error) (problems []problem) {
	for _, err := range errs {
		var f *v3.FieldError
		if errors.As(err, &f) && !v3.IsBFDAnnotation(f.Path) {
			problems = append(problems, problem{object: strings.TrimSpace(f.Kind + " " + f.Name), field: f.Path, text: f.Problem})
		}
	}
	return problems
}
