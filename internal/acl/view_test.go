// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/policy"
)

// memView is a policy.View held in maps; it records what changes, as an index
// does.
type memView struct {
	endpoints  map[policy.EndpointID]*policy.Endpoint
	hosts      map[string]*policy.HostEndpoint
	effectives map[string]*policy.Effective
	policies   map[policy.Key]*policy.Policy
	kinds      map[policy.SetID]policy.SetKind
	members    map[policy.SetID][]policy.Member
	ch         policy.Changes
}

func newView() *memView {
	v := &memView{
		endpoints:  map[policy.EndpointID]*policy.Endpoint{},
		hosts:      map[string]*policy.HostEndpoint{},
		effectives: map[string]*policy.Effective{},
		policies:   map[policy.Key]*policy.Policy{},
		kinds:      map[policy.SetID]policy.SetKind{},
		members:    map[policy.SetID][]policy.Member{},
	}
	v.flush()
	return v
}

func (v *memView) flush() policy.Changes {
	ch := v.ch
	v.ch = policy.Changes{
		Endpoints:  map[policy.EndpointID]*policy.Endpoint{},
		Hosts:      map[string]*policy.HostEndpoint{},
		Effectives: map[string]*policy.Effective{},
		Policies:   map[policy.Key]*policy.Policy{},
		Sets:       map[policy.SetID]*policy.SetChange{},
	}
	return ch
}

func (v *memView) Endpoints() iter.Seq[*policy.Endpoint]   { return maps.Values(v.endpoints) }
func (v *memView) Hosts() iter.Seq[*policy.HostEndpoint]   { return maps.Values(v.hosts) }
func (v *memView) Effectives() iter.Seq[*policy.Effective] { return maps.Values(v.effectives) }
func (v *memView) Policies() iter.Seq[*policy.Policy]      { return maps.Values(v.policies) }
func (v *memView) Sets() iter.Seq2[policy.SetID, policy.SetKind] {
	return maps.All(v.kinds)
}
func (v *memView) Members(id policy.SetID) iter.Seq[policy.Member] {
	return slices.Values(v.members[id])
}

func gnp(name string, ingress, egress []policy.Rule) *policy.Policy {
	p := &policy.Policy{Key: policy.Key{Kind: "GlobalNetworkPolicy", Name: name}, Name: name, Tier: "default", Ingress: ingress, Egress: egress}
	p.HasPass[policy.Ingress], p.HasPass[policy.Egress] = hasPass(ingress), hasPass(egress)
	for _, l := range [][]policy.Rule{ingress, egress} {
		for i := range l {
			l[i].Index = i
		}
	}
	return p
}

func profile(name string, ingress, egress []policy.Rule) *policy.Policy {
	p := gnp(name, ingress, egress)
	p.Key.Kind, p.Tier = "Profile", ""
	return p
}

func (v *memView) policy(p *policy.Policy) *policy.Policy {
	v.policies[p.Key] = p
	v.ch.Policies[p.Key] = p
	return p
}

func (v *memView) effective(e *policy.Effective) *policy.Effective {
	v.effectives[e.ID] = e
	v.ch.Effectives[e.ID] = e
	return e
}

func (v *memView) endpoint(e *policy.Endpoint) *policy.Endpoint {
	v.endpoints[e.ID] = e
	v.ch.Endpoints[e.ID] = e
	return e
}

func (v *memView) host(h *policy.HostEndpoint) *policy.HostEndpoint {
	v.hosts[h.Name] = h
	v.ch.Hosts[h.Name] = h
	return h
}

func (v *memView) removeHost(name string) {
	for _, e := range v.hosts[name].Stages {
		delete(v.effectives, e.ID)
		v.ch.Effectives[e.ID] = nil
	}
	delete(v.hosts, name)
	v.ch.Hosts[name] = nil
}

func (v *memView) removeEndpoint(id policy.EndpointID) {
	delete(v.endpoints, id)
	v.ch.Endpoints[id] = nil
}

// set replaces the members of a set.
func (v *memView) set(id policy.SetID, kind policy.SetKind, members ...policy.Member) {
	c := &policy.SetChange{Kind: kind}
	_, known := v.kinds[id]
	c.New = !known
	for _, m := range members {
		if !slices.Contains(v.members[id], m) {
			c.Added = append(c.Added, m)
		}
	}
	for _, m := range v.members[id] {
		if !slices.Contains(members, m) {
			c.Removed = append(c.Removed, m)
		}
	}
	v.kinds[id], v.members[id], v.ch.Sets[id] = kind, members, c
}

func nets(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func netMembers(list ...string) (out []policy.Member) {
	for _, p := range nets(list...) {
		out = append(out, policy.Member{Net: p})
	}
	return out
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func tier(name string, defaultPass bool, p ...*policy.Policy) policy.TierPolicies {
	return policy.TierPolicies{Name: name, DefaultPass: defaultPass, Policies: p}
}

// both is one tier list for both directions.
func both(t ...policy.TierPolicies) [2][]policy.TierPolicies {
	return [2][]policy.TierPolicies{t, t}
}

var allowAll = []policy.Rule{{Action: policy.Allow}}

// scale is the load of the latency budget: endpoints × policies × rules, with
// sets of the given size.
func scale(endpoints, policies, rules, sets, members int) *memView {
	v := newView()
	for s := range sets {
		ms := make([]policy.Member, members)
		for i := range ms {
			ms[i].Net = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + s), byte(i >> 8), byte(i)}), 32)
		}
		id := policy.SetID(fmt.Sprintf("set%d", s))
		v.kinds[id], v.members[id] = policy.SetNets, ms
	}
	var all []*policy.Policy
	for i := range policies {
		all = append(all, v.policy(scalePolicy(i, rules, sets, 0)))
	}
	const perEffective = 10
	var effs []*policy.Effective
	for i := 0; i < policies; i += perEffective {
		effs = append(effs, v.effective(&policy.Effective{ID: fmt.Sprintf("eff%d", i), Tiers: both(tier("default", false, all[i:min(i+perEffective, policies)]...))}))
	}
	for i := range endpoints {
		v.endpoint(&policy.Endpoint{
			ID: policy.EndpointID{Namespace: "ns", Name: fmt.Sprintf("ep%d", i)}, Interface: fmt.Sprintf("cali%d", i),
			Addrs:     addrs(fmt.Sprintf("10.65.%d.%d", i>>8, i&255), fmt.Sprintf("fd00::%x", i+1)),
			Effective: effs[i%len(effs)],
		})
	}
	v.flush()
	return v
}

func scalePolicy(i, rules, sets, variant int) *policy.Policy {
	var rs []policy.Rule
	for j := range rules {
		r := policy.Rule{Action: policy.Allow, HasProto: true, Proto: 6}
		r.Dst.Ports = []policy.PortRange{{Min: uint16(1000 + j + variant), Max: uint16(1000 + j + variant)}}
		if sets > 0 {
			r.Src.Sets = []policy.SetID{policy.SetID(fmt.Sprintf("set%d", i%sets))}
		}
		rs = append(rs, r)
	}
	return gnp(fmt.Sprintf("policy%d", i), rs, slices.Clone(rs))
}
