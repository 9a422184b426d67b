// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"
)

// Ruling is what compiled policy says of the first packet of a flow at one
// endpoint. Policy is that of the Rule; both are nil if none matched. Tier is set
// if the end of a tier decided, and if a policy in it did. Host is the host endpoint
// that denies, if one does, and Direction in which.
type Ruling struct {
	Allowed   bool
	Rule      *Rule
	Policy    *Policy
	Tier      string
	Host      string
	Direction Direction
}

// KeepsEstablished tells whether a flow that was allowed before is to go on
// although it is denied now: the rule says so.
func (r Ruling) KeepsEstablished() bool { return !r.Allowed && r.Rule != nil && r.Rule.KeepFlows }

// LocalAt returns the local endpoint that has an address, as last flushed, nil
// if none does or it is closed.
func (x *Index) LocalAt(a netip.Addr) *Endpoint {
	e := x.owner(a)
	if e == nil || e.local == nil || e.local.class == nil || !e.member.has(a) {
		return nil
	}
	return x.locals[e.id]
}

// NameAt returns the endpoint of any node that has an address, as last flushed,
// and false if none has it.
func (x *Index) NameAt(a netip.Addr) (EndpointID, bool) {
	if e := x.owner(a); e != nil {
		return e.id, true
	}
	return EndpointID{}, false
}

// Judge reads compiled policy as the kernel does, in time proportional to the
// rules that apply to the endpoint: for many packets, where Evaluate, which
// reads the objects themselves, is the reference for few. The endpoint is one
// of the View.
func (x *Index) Judge(e *Endpoint, d Direction, p *Packet) Ruling {
	r, _ := x.judge(e.Effective, d, p)
	return r
}

// judge is Judge for any effective policy. Nothing has decided if nothing matched.
func (x *Index) judge(e *Effective, d Direction, p *Packet) (r Ruling, decided bool) {
tiers:
	for i := range e.Tiers[d] {
		t := &e.Tiers[d][i]
		for _, pol := range t.Policies {
			if pol.Staged {
				continue
			}
			switch r := x.first(pol, d, p); {
			case r == nil:
			case r.Action == Pass:
				continue tiers
			default:
				return Ruling{Allowed: r.Action == Allow, Rule: r, Policy: pol, Tier: t.Name}, true
			}
		}
		if !t.DefaultPass && e.Stage <= StageForward {
			return Ruling{Tier: t.Name}, true
		}
	}
	for _, pol := range e.Profiles {
		if r := x.first(pol, d, p); r != nil && r.Action != Pass {
			return Ruling{Allowed: r.Action == Allow, Rule: r, Policy: pol}, true
		}
	}
	return Ruling{}, false
}

// first returns the first rule of a policy that matches and decides.
func (x *Index) first(pol *Policy, d Direction, p *Packet) *Rule {
	rules := pol.Ingress
	if d == Egress {
		rules = pol.Egress
	}
	for i := range rules {
		if r := &rules[i]; r.Action != Log && x.matches(r, p) {
			return r
		}
	}
	return nil
}

func (x *Index) matches(r *Rule, p *Packet) bool {
	version := uint8(6)
	if p.Src.Is4() {
		version = 4
	}
	icmp := func(m *ICMPMatch) bool {
		return p.Proto == icmpOf(version) && (m.Type < 0 || m.Type == int16(p.ICMPType)) && (m.Code < 0 || m.Code == int16(p.ICMPCode))
	}
	switch {
	case r.Never,
		r.IPVersion != 0 && r.IPVersion != version,
		r.HasProto && (r.Proto != p.Proto || r.Proto == icmpOf(10-version)),
		r.HasNotProto && r.NotProto == p.Proto,
		r.MatchesPorts() && !HasPorts(p.Proto),
		r.ICMP != nil && !icmp(r.ICMP),
		r.NotICMP != nil && icmp(r.NotICMP):
		return false
	}
	return x.matchesEnd(&r.Src, p.Src, p.SrcPort, p.Proto) && x.matchesEnd(&r.Dst, p.Dst, p.DstPort, p.Proto)
}

func (x *Index) matchesEnd(m *Match, a netip.Addr, port uint16, proto uint8) bool {
	ports := func(ranges []PortRange, sets []SetID) bool {
		return slices.ContainsFunc(ranges, func(r PortRange) bool { return r.Min <= port && port <= r.Max }) ||
			slices.ContainsFunc(sets, func(id SetID) bool { return x.sets.holdsPort(id, a, proto, port) })
	}
	family := func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() }
	switch {
	case len(m.Nets) > 0 && !holds(m.Nets, a),
		len(m.NotNets) > 0 && (holds(m.NotNets, a) || !slices.ContainsFunc(m.NotNets, family)),
		slices.ContainsFunc(m.Sets, func(id SetID) bool { return !x.sets.holds(id, a) }),
		slices.ContainsFunc(m.NotSets, func(id SetID) bool { return x.sets.holds(id, a) }),
		len(m.Ports)+len(m.PortSets) > 0 && !ports(m.Ports, m.PortSets),
		len(m.NotPorts)+len(m.NotPortSets) > 0 && ports(m.NotPorts, m.NotPortSets):
		return false
	}
	return true
}

// holds tells whether an address is in a set in use.
func (s *sets) holds(id SetID, a netip.Addr) bool {
	set := s.byID[id]
	return set != nil && (set.nets.holds(a) || s.some(a, func(e *endpoint) bool {
		return e.member.class != nil && set.query.classes.has(e.member.class) && e.member.has(a)
	}))
}

// holdsPort tells whether a named port is at an address.
func (s *sets) holdsPort(id SetID, a netip.Addr, proto uint8, port uint16) bool {
	set := s.byID[id]
	return set != nil && set.tuples[Member{Net: netip.PrefixFrom(a, a.BitLen()), Proto: proto, Port: port}] > 0
}
