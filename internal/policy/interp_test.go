// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// failer is a test or a random check.
type failer interface {
	Fatalf(format string, args ...any)
}

// interp reads compiled policy as a data plane does: the View alone, nothing
// of the objects it came from.
type interp struct {
	index *Index // of which it is a view; not asked here

	sets  map[SetID][]Member
	eps   map[EndpointID]*Endpoint
	hosts []*HostEndpoint
}

func newInterp(v *Index) *interp {
	in := &interp{v, map[SetID][]Member{}, map[EndpointID]*Endpoint{}, slices.Collect(v.Hosts())}
	for id := range v.Sets() {
		in.sets[id] = slices.Collect(v.Members(id))
	}
	for e := range v.Endpoints() {
		in.eps[e.ID] = e
	}
	return in
}

// outcome is what decided: kind is tier, profile, end or none.
type outcome struct {
	allowed bool
	kind    string
	tier    string
	key     Key
	rule    int
}

func (in *interp) decide(t failer, e *Endpoint, dir Direction, p *Packet) outcome {
	return in.ask(t, e.Effective, dir, p)
}

func (in *interp) ask(t failer, eff *Effective, dir Direction, p *Packet) outcome {
	rulesOf := func(pol *Policy) []Rule {
		if dir == Ingress {
			return pol.Ingress
		}
		return pol.Egress
	}
	first := func(pol *Policy) (Action, int, bool) {
		for _, r := range rulesOf(pol) {
			m := in.matches(&r, p)
			if m && r.Action != Log {
				return r.Action, r.Index, true
			}
		}
		return 0, 0, false
	}
tiers:
	for _, tier := range eff.Tiers[dir] {
		if len(tier.Policies) == 0 {
			t.Fatalf("tier %s of %s has no policy", tier.Name, eff.ID)
		}
		for _, pol := range tier.Policies {
			if pol.Staged {
				continue
			}
			switch a, i, ok := first(pol); {
			case ok && a == Pass:
				if !pol.HasPass[dir] {
					t.Fatalf("policy %v passes without saying so", pol.Key)
				}
				continue tiers
			case ok:
				return outcome{a == Allow, "tier", tier.Name, pol.Key, i}
			}
		}
		if !tier.DefaultPass && eff.Stage <= StageForward {
			return outcome{kind: "end", tier: tier.Name}
		}
	}
	if eff.Stage >= StageForward {
		return outcome{allowed: true, kind: "none"}
	}
	for _, pol := range eff.Profiles {
		if a, i, ok := first(pol); ok && a != Pass {
			return outcome{a == Allow, "profile", "", pol.Key, i}
		}
	}
	return outcome{kind: "none"}
}

func version(p *Packet) uint8 {
	if p.Src.Is4() {
		return 4
	}
	return 6
}

func (in *interp) matches(r *Rule, p *Packet) bool {
	if r.Never || r.IPVersion != 0 && r.IPVersion != version(p) ||
		r.HasProto && (r.Proto != p.Proto || r.Proto == icmpOf(10-version(p))) || r.HasNotProto && r.NotProto == p.Proto ||
		r.MatchesPorts() && !HasPorts(p.Proto) {
		return false
	}
	icmp := func(m *ICMPMatch) bool {
		return p.Proto == icmpOf(version(p)) && (m.Type < 0 || m.Type == int16(p.ICMPType)) && (m.Code < 0 || m.Code == int16(p.ICMPCode))
	}
	if r.ICMP != nil && !icmp(r.ICMP) || r.NotICMP != nil && icmp(r.NotICMP) {
		return false
	}
	return in.end(&r.Src, p.Src, p.SrcPort, p.Proto) && in.end(&r.Dst, p.Dst, p.DstPort, p.Proto)
}

func (in *interp) end(m *Match, a netip.Addr, port uint16, proto uint8) bool {
	inNets := func(nets []netip.Prefix) bool {
		return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	inSet := func(id SetID) bool {
		return slices.ContainsFunc(in.sets[id], func(x Member) bool { return x.Net.Contains(a) })
	}
	inPorts := func(ranges []PortRange, sets []SetID) bool {
		if slices.ContainsFunc(ranges, func(r PortRange) bool { return r.Min <= port && port <= r.Max }) {
			return true
		}
		return slices.ContainsFunc(sets, func(id SetID) bool {
			return slices.Contains(in.sets[id], Member{netip.PrefixFrom(a, a.BitLen()), proto, port})
		})
	}
	ofFamily := func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() }
	switch {
	case len(m.Nets) > 0 && !inNets(m.Nets),
		inNets(m.NotNets),
		len(m.NotNets) > 0 && !slices.ContainsFunc(m.NotNets, ofFamily),
		slices.ContainsFunc(m.Sets, func(id SetID) bool { return !inSet(id) }),
		slices.ContainsFunc(m.NotSets, inSet),
		len(m.Ports)+len(m.PortSets) > 0 && !inPorts(m.Ports, m.PortSets),
		inPorts(m.NotPorts, m.NotPortSets):
		return false
	}
	return true
}

// dump is the whole View as text, in one order.
func dump(v View) string {
	var b []string
	line := func(format string, args ...any) { b = append(b, fmt.Sprintf(format, args...)) }
	for e := range v.Endpoints() {
		line("%s", dumpEndpoint(e))
	}
	for h := range v.Hosts() {
		line("%s", dumpHost(h))
	}
	for e := range v.Effectives() {
		line("%s", dumpEffective(e))
	}
	for p := range v.Policies() {
		line("%s", dumpPolicy(p))
	}
	for id, kind := range v.Sets() {
		line("set %s %d: %s", id, kind, dumpMembers(slices.Collect(v.Members(id))))
	}
	slices.Sort(b)
	return strings.Join(b, "\n")
}

func dumpEndpoint(e *Endpoint) string {
	return fmt.Sprintf("endpoint %s %s %x/%v %v %s", e.ID, e.Interface, e.MAC, e.HasMAC, e.Addrs, e.Effective.ID)
}

func dumpHost(h *HostEndpoint) string {
	s := fmt.Sprintf("host endpoint %s %v %v", h.Name, h.Interfaces, h.Rest)
	for _, e := range h.Stages {
		s += fmt.Sprintf(" %d:%s", e.Stage, e.ID)
	}
	return s
}

func dumpEffective(e *Effective) string {
	s := fmt.Sprintf("effective %s, stage %d", e.ID, e.Stage)
	for dir, tiers := range e.Tiers {
		for _, t := range tiers {
			s += fmt.Sprintf(" %d:%s/%v", dir, t.Name, t.DefaultPass)
			for _, p := range t.Policies {
				s += fmt.Sprintf(",%v", p.Key)
			}
		}
	}
	for _, p := range e.Profiles {
		s += " profile:" + p.Key.Name
	}
	return s
}

func dumpPolicy(p *Policy) string {
	s := fmt.Sprintf("policy %v %s %s %v %v %v", p.Key, p.Name, p.Tier, p.HasPass, p.Stage, p.Forward)
	for i, rules := range [][]Rule{p.Ingress, p.Egress} {
		for _, r := range rules {
			icmp := func(m *ICMPMatch) string {
				if m == nil {
					return "-"
				}
				return fmt.Sprint(*m)
			}
			s += fmt.Sprintf("\n  %d: %s %s", i, icmp(r.ICMP), icmp(r.NotICMP))
			r.ICMP, r.NotICMP = nil, nil
			s += fmt.Sprintf(" %+v", r)
		}
	}
	return s
}

func dumpMembers(list []Member) string {
	slices.SortFunc(list, func(a, b Member) int {
		return cmp.Or(compareNets(a.Net, b.Net), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
	})
	return fmt.Sprint(list)
}

// follower is a data plane that knows only Changes.
type follower struct {
	eps   map[EndpointID]*Endpoint
	hosts map[string]*HostEndpoint
	effs  map[string]*Effective
	pols  map[Key]*Policy
	kinds map[SetID]SetKind
	sets  map[SetID]map[Member]bool
}

func newFollower() *follower {
	return &follower{map[EndpointID]*Endpoint{}, map[string]*HostEndpoint{}, map[string]*Effective{}, map[Key]*Policy{}, map[SetID]SetKind{}, map[SetID]map[Member]bool{}}
}

func (f *follower) apply(ch Changes) error {
	follow(f.eps, ch.Endpoints)
	follow(f.hosts, ch.Hosts)
	follow(f.effs, ch.Effectives)
	follow(f.pols, ch.Policies)
	for id, c := range ch.Sets {
		if c.New == (f.sets[id] != nil) {
			return fmt.Errorf("set %s: new is %v", id, c.New)
		}
		if c.New {
			f.sets[id], f.kinds[id] = map[Member]bool{}, c.Kind
		}
		for _, m := range c.Removed {
			if !f.sets[id][m] {
				return fmt.Errorf("set %s: %v removed but not there", id, m)
			}
			delete(f.sets[id], m)
		}
		for _, m := range c.Added {
			if f.sets[id][m] {
				return fmt.Errorf("set %s: %v added twice", id, m)
			}
			f.sets[id][m] = true
		}
		if c.Gone {
			if n := len(f.sets[id]); n != 0 || len(c.Added) != 0 {
				return fmt.Errorf("set %s: gone with %d members not removed, %d added", id, n, len(c.Added))
			}
			delete(f.sets, id)
			delete(f.kinds, id)
		}
	}
	return nil
}

func follow[K comparable, V any](m map[K]*V, ch map[K]*V) {
	for k, v := range ch {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
}

func (f *follower) dump() string {
	var b []string
	for _, e := range f.eps {
		b = append(b, dumpEndpoint(e))
	}
	for _, h := range f.hosts {
		b = append(b, dumpHost(h))
	}
	for _, e := range f.effs {
		b = append(b, dumpEffective(e))
	}
	for _, p := range f.pols {
		b = append(b, dumpPolicy(p))
	}
	for id, members := range f.sets {
		var list []Member
		for m := range members {
			list = append(list, m)
		}
		b = append(b, fmt.Sprintf("set %s %d: %s", id, f.kinds[id], dumpMembers(list)))
	}
	slices.Sort(b)
	return strings.Join(b, "\n")
}
