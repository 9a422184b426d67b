// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/selector"
)

// setRef is a set that a policy needs, and how to make it.
type setRef struct {
	id   SetID
	kind SetKind
	sel  *selector.Selector
	port string // of SetPorts
}

// compiled is what is kept of a policy or a profile.
type compiled struct {
	policy *Policy
	refs   []setRef // sorted, each once

	// Of policies only.
	sel   *selector.Selector
	order float64 // never NaN
	types [2]bool
}

var digits = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// hashName is the first n characters of a hash, of [a-z2-7].
func hashName(sum [sha256.Size]byte, n int) string {
	return digits.EncodeToString(sum[:(n*5+7)/8])[:n]
}

func netsID(sel *selector.Selector) SetID {
	return SetID(hashName(sha256.Sum256([]byte("nets "+sel.String())), 24))
}

func portsID(sel *selector.Selector, port string) SetID {
	return SetID(hashName(sha256.Sum256([]byte("ports "+port+" "+sel.String())), 24))
}

// compiler gathers what the rules of one object need.
type compiler struct {
	namespace string // empty for cluster-scoped objects
	refs      []setRef
	have      map[SetID]SetID // of refs; gives all uses of an ID one string
	odd       []error         // what is tolerated but worth reporting
}

// compilePolicy compiles a NetworkPolicy or, without a namespace, a
// GlobalNetworkPolicy. With an error, a result is returned if the selector could
// be read: it denies all that the policy selects.
func compilePolicy(k Key, name string, spec *v3.PolicySpec, global *v3.GlobalPolicySpec) (*compiled, []error, error) {
	namespaceSelector := ""
	p := &Policy{Key: k, Name: name, Tier: tierName(spec.Tier)}
	if global != nil {
		namespaceSelector = global.NamespaceSelector
		p.Forward = global.ApplyOnForward
		switch {
		case global.DoNotTrack:
			p.Stage = StageUntracked
		case global.PreDNAT:
			p.Stage = StagePreDNAT
		}
	}
	sel, err := policySelector(k.Namespace, spec, namespaceSelector)
	if err != nil {
		return nil, nil, err
	}
	out := &compiled{sel: sel, order: math.Inf(1)}
	if spec.Order != nil && !math.IsNaN(*spec.Order) {
		out.order = *spec.Order
	}
	out.policy = p
	c := compiler{namespace: k.Namespace}
	out.types, err = policyTypes(spec.Types)
	if err == nil && out.types[Ingress] {
		p.Ingress, err = c.rules("spec.ingress", spec.Ingress)
	}
	if err == nil && out.types[Egress] {
		p.Egress, err = c.rules("spec.egress", spec.Egress)
	}
	if err != nil {
		return denying(out), nil, err
	}
	p.HasPass = [2]bool{Ingress: hasPass(p.Ingress), Egress: hasPass(p.Egress)}
	out.refs = c.sorted()
	return out, c.odd, nil
}

// denying makes a policy deny all in the directions it applies to.
func denying(c *compiled) *compiled {
	p := &Policy{Key: c.policy.Key, Name: c.policy.Name, Tier: c.policy.Tier, Stage: c.policy.Stage, Forward: c.policy.Forward}
	if c.types == [2]bool{} {
		c.types = [2]bool{true, true}
	}
	if c.types[Ingress] {
		p.Ingress = []Rule{{Action: Deny}}
	}
	if c.types[Egress] {
		p.Egress = []Rule{{Action: Deny}}
	}
	c.policy, c.refs = p, nil
	return c
}

func compileProfile(k Key, name string, spec *v3.ProfileSpec) (*compiled, []error, error) {
	p := &Policy{Key: k, Name: name}
	var c compiler
	var err error
	if p.Ingress, err = c.rules("spec.ingress", spec.Ingress); err != nil {
		return nil, nil, err
	}
	if p.Egress, err = c.rules("spec.egress", spec.Egress); err != nil {
		return nil, nil, err
	}
	p.HasPass = [2]bool{Ingress: hasPass(p.Ingress), Egress: hasPass(p.Egress)}
	return &compiled{policy: p, refs: c.sorted()}, c.odd, nil
}

// closedProfile stands for a profile that is missing or cannot be read.
func closedProfile(name string) *compiled {
	return &compiled{policy: &Policy{
		Key:     Key{Kind: kindProfile, Name: name},
		Name:    name,
		Ingress: []Rule{{Action: Deny}},
		Egress:  []Rule{{Action: Deny}},
	}}
}

// defaultAllow is the profile that exists without being stored.
const defaultAllow = "projectcalico-default-allow"

func openProfile() *compiled {
	return &compiled{policy: &Policy{
		Key:     Key{Kind: kindProfile, Name: defaultAllow},
		Name:    defaultAllow,
		Ingress: []Rule{{Action: Allow}},
		Egress:  []Rule{{Action: Allow}},
	}}
}

func tierName(s string) string {
	if s == "" {
		return "default"
	}
	return s
}

// policyTypes reads the directions; none named means both.
func policyTypes(types []string) (on [2]bool, err error) {
	if len(types) == 0 {
		return [2]bool{true, true}, nil
	}
	for i, t := range types {
		switch t {
		case "Ingress":
			on[Ingress] = true
		case "Egress":
			on[Egress] = true
		default:
			return [2]bool{}, fieldErrf(fmt.Sprintf("spec.types[%d]", i), "%q: want Ingress or Egress", t)
		}
	}
	return on, nil
}

func hasPass(rules []Rule) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool { return r.Action == Pass && !r.Never })
}

func (c *compiler) rules(field string, rules []v3.Rule) ([]Rule, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	out := make([]Rule, len(rules))
	for i := range rules {
		if err := c.rule(&out[i], fmt.Sprintf("%s[%d]", field, i), &rules[i]); err != nil {
			return nil, err
		}
		out[i].Index = i
	}
	return out, nil
}

func (c *compiler) rule(out *Rule, field string, r *v3.Rule) error {
	switch r.Action {
	case "Allow":
		out.Action = Allow
	case "Deny":
		out.Action = Deny
	case "Pass":
		out.Action = Pass
	case "Log":
		out.Action = Log
	default:
		out.Action = Deny
		c.tolerate(field+".action", "%q is unknown and taken as Deny: want Allow, Deny, Log or Pass", r.Action)
	}
	if r.IPVersion != nil {
		if *r.IPVersion != 4 && *r.IPVersion != 6 {
			return fieldErrf(field+".ipVersion", "%d: want 4 or 6", *r.IPVersion)
		}
		out.IPVersion = uint8(*r.IPVersion)
	}
	if r.Protocol != nil {
		out.HasProto = true
		out.Proto = c.protocol(out, field+".protocol", *r.Protocol)
	}
	if r.NotProtocol != nil {
		out.HasNotProto = true
		out.NotProto = c.protocol(out, field+".notProtocol", *r.NotProtocol)
	}
	settings, err := r.Settings()
	if err != nil {
		c.tolerate(field+".metadata.annotations", "%v", err)
	}
	out.KeepFlows = settings.KeepEstablished
	if out.ICMP, err = icmpMatch(field+".icmp", r.ICMP); err != nil {
		return err
	}
	if out.NotICMP, err = icmpMatch(field+".notICMP", r.NotICMP); err != nil {
		return err
	}
	if r.HTTP != nil {
		out.Never = true
		c.tolerate(field+".http", "matches nothing: no kernel reads HTTP; remove it and match ports")
	}
	if out.Src, err = c.match(out, field+".source", &r.Source); err != nil {
		return err
	}
	if out.Dst, err = c.match(out, field+".destination", &r.Destination); err != nil {
		return err
	}
	if out.HasProto && !out.Never && out.MatchesPorts() && !HasPorts(out.Proto) {
		out.Never = true
		c.tolerate(field, "matches nothing: ports of protocol %s cannot be matched, only those of TCP, UDP and SCTP", r.Protocol)
	}
	return nil
}

func (c *compiler) tolerate(field, format string, args ...any) {
	c.odd = append(c.odd, fieldErrf(field, format, args...))
}

func (c *compiler) protocol(r *Rule, field string, p v3.Protocol) uint8 {
	n, ok := p.Number()
	if !ok {
		r.Never = true
		c.tolerate(field, "the rule matches nothing: %q is unknown; want TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number", p.Name)
	}
	return n
}

func icmpMatch(field string, m *v3.ICMP) (*ICMPMatch, error) {
	if m == nil || m.Type == nil && m.Code == nil {
		return nil, nil
	}
	out := &ICMPMatch{Type: -1, Code: -1}
	for _, f := range []struct {
		name string
		from *int
		to   *int16
	}{{".type", m.Type, &out.Type}, {".code", m.Code, &out.Code}} {
		if f.from == nil {
			continue
		}
		if *f.from < 0 || *f.from > 255 {
			return nil, fieldErrf(field+f.name, "%d: want 0–255", *f.from)
		}
		*f.to = int16(*f.from)
	}
	return out, nil
}

func (c *compiler) match(r *Rule, field string, e *v3.EntityRule) (m Match, err error) {
	if m.Nets, err = parseNets(field+".nets", e.Nets); err != nil {
		return m, err
	}
	if m.NotNets, err = parseNets(field+".notNets", e.NotNets); err != nil {
		return m, err
	}
	if e.Services != nil {
		r.Never = true
		c.tolerate(field+".services", "matches nothing: there are no services in this datastore")
	}
	pos, neg, err := entitySelectors(c.namespace, field, e)
	if err != nil {
		return m, err
	}
	// Named ports are those of whom the positive selector selects.
	owners := pos
	if owners == nil {
		owners = selector.All()
	}
	if m.Ports, m.PortSets, err = c.ports(field+".ports", e.Ports, owners); err != nil {
		return m, err
	}
	if m.NotPorts, m.NotPortSets, err = c.ports(field+".notPorts", e.NotPorts, owners); err != nil {
		return m, err
	}
	// Who is in a set of named ports is selected: the set of addresses says
	// nothing more, unless a number can match instead.
	if pos != nil && (len(m.PortSets) == 0 || len(m.Ports) > 0) {
		m.Sets = []SetID{c.nets(pos)}
	}
	if neg != nil {
		m.NotSets = []SetID{c.nets(neg)}
	}
	return m, nil
}

func parseNets(field string, texts []string) ([]netip.Prefix, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	nets := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		p, err := parseNet(s)
		if err != nil {
			return nil, fieldErr(fmt.Sprintf("%s[%d]", field, i), err)
		}
		nets[i] = p
	}
	return slices.Clip(mergeNets(nets)), nil
}

func (c *compiler) ports(field string, ports []v3.Port, owners *selector.Selector) (ranges []PortRange, sets []SetID, err error) {
	for i, p := range ports {
		if p.Name != "" {
			id := c.need(setRef{portsID(owners, p.Name), SetPorts, owners, p.Name})
			if !slices.Contains(sets, id) {
				sets = append(sets, id)
			}
			continue
		}
		if p.Min > p.Max {
			return nil, nil, fieldErrf(fmt.Sprintf("%s[%d]", field, i), "%d:%d: want min:max, min not above max", p.Min, p.Max)
		}
		ranges = append(ranges, PortRange{p.Min, p.Max})
	}
	return mergePorts(ranges), sets, nil
}

// mergePorts sorts ranges and joins those that overlap or touch.
func mergePorts(ranges []PortRange) []PortRange {
	slices.SortFunc(ranges, func(a, b PortRange) int { return int(a.Min) - int(b.Min) })
	out := ranges[:0]
	for _, r := range ranges {
		if n := len(out); n > 0 && int(r.Min) <= int(out[n-1].Max)+1 {
			out[n-1].Max = max(out[n-1].Max, r.Max)
			continue
		}
		out = append(out, r)
	}
	return slices.Clip(out)
}

func (c *compiler) nets(sel *selector.Selector) SetID {
	return c.need(setRef{id: netsID(sel), kind: SetNets, sel: sel})
}

func (c *compiler) need(r setRef) SetID {
	id, ok := c.have[r.id]
	if !ok {
		if c.have == nil {
			c.have = map[SetID]SetID{}
		}
		id, c.have[r.id] = r.id, r.id
		c.refs = append(c.refs, r)
	}
	return id
}

func (c *compiler) sorted() []setRef {
	slices.SortFunc(c.refs, func(a, b setRef) int { return strings.Compare(string(a.id), string(b.id)) })
	return slices.Clip(c.refs)
}
