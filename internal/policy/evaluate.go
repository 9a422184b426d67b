// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/selector"
)

// Packet is the first packet of a flow, as rules see it.
type Packet struct {
	Src, Dst           netip.Addr // of one family
	Proto              uint8
	SrcPort, DstPort   uint16 // of TCP, UDP and SCTP
	ICMPType, ICMPCode uint8  // of ICMP in IPv4 and ICMPv6 in IPv6
}

// Flow is a packet and the workload endpoints at its ends; the zero EndpointID
// means that the end is not a workload. Via is its way through one server, for
// what the host endpoints of that say; without a node none is asked.
type Flow struct {
	Packet
	From, To EndpointID
	Via      Passage
}

// FlowOf finds the endpoints of a packet by its addresses.
func (w *World) FlowOf(p Packet) Flow {
	f := Flow{Packet: p}
	f.From, _ = w.Owner(p.Src)
	f.To, _ = w.Owner(p.Dst)
	if to, _, ok := w.Floating(p.Dst); ok {
		f.To = to
	}
	return f
}

// Reason says what kind of thing decided.
type Reason string

// The reasons.
const (
	ByPolicy       Reason = "policy rule"
	ByProfile      Reason = "profile rule"
	EndOfTier      Reason = "end of tier"          // no rule of the tier's policies matched
	NoMatch        Reason = "no profile matched"   // and no tier decided
	Unselected     Reason = "no policy or profile" // neither applies
	MissingProfile Reason = "profile missing or unreadable"
	BadPolicy      Reason = "policy unreadable"
	Closed         Reason = "endpoint closed" // absent, bad, or its interface is another's

	// Of host endpoints.
	ByFailsafe   Reason = "failsafe port"
	ByNeighbours Reason = "neighbour discovery"
	NoForward    Reason = "no policy with applyOnForward"
	Open         Reason = "no rule matched" // in a stage that leaves the packet to the next one
)

// PolicyRef names a policy as users know it.
type PolicyRef struct {
	Key  Key
	Name string
}

// String is the kind and the displayed name, after the namespace if there is
// one.
func (p PolicyRef) String() string {
	if p.Key.Namespace != "" {
		return p.Key.Kind + " " + p.Key.Namespace + "/" + p.Name
	}
	return p.Key.Kind + " " + p.Name
}

// Decision is the verdict at one endpoint in one direction, or, if Host is set, at
// the host endpoint of that name in one stage. Tier is set if a
// policy or the end of a tier decided. Policy is the policy or profile that
// did, and Rule the place of its rule in its list, or -1. Selected lists the
// policies that apply, of the tier at whose end the packet was dropped, or, if no
// tier decided and no profile did, all policies and profiles.
type Decision struct {
	Endpoint  EndpointID
	Host      string
	Stage     Stage
	Direction Direction
	Allowed   bool
	Reason    Reason
	Tier      string
	Policy    PolicyRef
	Rule      int
	Selected  []PolicyRef
	// Staged is what staged policies would do that the packet comes to on the way.
	Staged []StagedDecision
}

// String is the decision in one line.
func (d Decision) String() string {
	verdict, dir := "denied", "ingress to"
	if d.Allowed {
		verdict = "allowed"
	}
	if d.Direction == Egress {
		dir = "egress from"
	}
	s := fmt.Sprintf("%s %s %s: ", verdict, dir, d.Endpoint)
	if d.Host != "" {
		s = fmt.Sprintf("%s %s HostEndpoint %s%s: ", verdict, dir, d.Host, stageWords[d.Stage])
	}
	list := strings.ToLower(strings.Fields(dir)[0])
	switch d.Reason {
	case ByPolicy:
		return s + fmt.Sprintf("%s, %s rule %d, tier %s", d.Policy, list, d.Rule, d.Tier)
	case ByProfile:
		return s + fmt.Sprintf("%s, %s rule %d", d.Policy, list, d.Rule)
	case BadPolicy, MissingProfile:
		return s + fmt.Sprintf("%s (%s)", d.Policy, d.Reason)
	case EndOfTier:
		return s + fmt.Sprintf("no rule matched in tier %s, where it is selected by %s", d.Tier, refNames(d.Selected))
	case NoMatch:
		if len(d.Selected) > 0 {
			return s + fmt.Sprintf("no rule matched, and it is selected by %s", refNames(d.Selected))
		}
	}
	return s + string(d.Reason)
}

func refNames(list []PolicyRef) string {
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.String()
	}
	return strings.Join(names, ", ")
}

// Trace is why a flow is allowed or not: all that are asked must allow it. Egress
// is nil if the source is not a workload, and Ingress if the destination is not.
// In is what the host endpoint of the interface says by which it comes in, and Out
// that of the one by which it leaves. All are told even if an earlier one denies.
type Trace struct {
	Allowed         bool
	In              []Decision
	Egress, Ingress *Decision
	Out             []Decision
}

// Evaluate returns the verdict on a flow. It reads the objects plainly, in time
// proportional to the world, and shares with the Index only how fields are read
// (selectors, networks, floating IPs, staged policies of Kubernetes, names) and
// which claim to an address ranks first. It does not judge whether From may use the source
// address: that is not a matter of policy.
func Evaluate(w *World, f Flow) Trace {
	sent, received := w.Translated(f)
	v := evaluation{w: w, p: sent, src: w.entities(f.Src), dst: w.entities(sent.Dst)}
	t := Trace{Allowed: true}
	if f.From == f.To && isProcess(w.Endpoints[f.From]) {
		f.From, f.To = EndpointID{}, EndpointID{} // what a process sends to itself is its own matter
	}
	if f.From != (EndpointID{}) {
		d := v.decide(f.From, Egress)
		t.Egress, t.Allowed = &d, d.Allowed
	}
	if received != sent {
		v.p, v.dst = received, w.entities(received.Dst)
	}
	if f.To != (EndpointID{}) {
		d := v.decide(f.To, Ingress)
		t.Ingress, t.Allowed = &d, t.Allowed && d.Allowed
	}
	if f.Via.Node != "" {
		t.In, t.Out = v.passage(f.Via)
	}
	for _, d := range slices.Concat(t.In, t.Out) {
		t.Allowed = t.Allowed && d.Allowed
	}
	return t
}

type evaluation struct {
	w        *World
	p        Packet
	src, dst []entity // that hold the addresses
}

// applying is a policy that applies to an endpoint.
type applying struct {
	ref   PolicyRef
	tier  string
	order float64
	rules [2][]v3.Rule
	types [2]bool
	bad   bool
	// Of a staged policy the rules are asked for show.
	staged bool
}

func (v *evaluation) decide(id EndpointID, dir Direction) Decision {
	d := Decision{Endpoint: id, Direction: dir, Rule: -1}
	if v.w.closed(id) {
		d.Reason = Closed
		return d
	}
	list := v.applying(v.w.endpointLabels(id), StageWorkload, dir)
	profiles := v.w.Endpoints[id].Spec.Profiles
	d.Reason = NoMatch
	if len(list) == 0 && len(profiles) == 0 {
		d.Reason = Unselected
	}
	if !v.tiers(&d, list, dir, true) {
		v.profiles(&d, profiles, dir)
	}
	return d
}

// tiers evaluates policies, which are in order, and tells whether they decided.
// Not all stages deny at the end of a tier.
func (v *evaluation) tiers(d *Decision, list []applying, dir Direction, ends bool) bool {
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].tier == list[0].tier {
			n++
		}
		passed := d.Selected
		d.Selected = nil
		if v.tier(d, list[:n], dir, ends) {
			return true
		}
		for _, a := range list[:n] {
			if !a.staged {
				passed = append(passed, a.ref)
			}
		}
		d.Selected = passed
		list = list[n:]
	}
	return false
}

// profiles evaluates profiles in order.
func (v *evaluation) profiles(d *Decision, names []string, dir Direction) {
	for _, name := range names {
		ref := PolicyRef{Key{Kind: kindProfile, Name: name}, name}
		p := v.w.Profiles[name]
		if name == defaultAllow {
			p = &v3.Profile{Spec: v3.ProfileSpec{Ingress: []v3.Rule{{Action: "Allow"}}, Egress: []v3.Rule{{Action: "Allow"}}}}
		}
		if p == nil || badRules(p.Spec.Ingress) || badRules(p.Spec.Egress) {
			d.Reason, d.Policy, d.Selected = MissingProfile, ref, nil
			return
		}
		rules := p.Spec.Ingress
		if dir == Egress {
			rules = p.Spec.Egress
		}
		if action, i := v.first("", rules); action == "Allow" || action == "Deny" {
			d.Allowed, d.Reason, d.Policy, d.Rule, d.Selected = action == "Allow", ByProfile, ref, i, nil
			return
		}
		d.Selected = append(d.Selected, ref)
	}
}

// tier evaluates the policies of one tier and tells whether they decided.
func (v *evaluation) tier(d *Decision, list []applying, dir Direction, ends bool) bool {
	for _, a := range list {
		if a.staged {
			if !a.bad {
				action, i := v.first(a.ref.Key.Namespace, a.rules[dir])
				d.Staged = append(d.Staged, StagedDecision{a.ref, action, i})
			}
			continue
		}
		if a.bad {
			d.Reason, d.Tier, d.Policy = BadPolicy, a.tier, a.ref
			return true
		}
		action, i := v.first(a.ref.Key.Namespace, a.rules[dir])
		switch action {
		case "Allow", "Deny":
			d.Allowed, d.Reason, d.Tier, d.Policy, d.Rule = action == "Allow", ByPolicy, a.tier, a.ref, i
			return true
		case "Pass":
			return false
		}
	}
	if t := v.w.Tiers[list[0].tier]; !ends || t != nil && t.Spec.DefaultAction == "Pass" {
		return false
	}
	list = slices.DeleteFunc(slices.Clone(list), func(a applying) bool { return a.staged })
	if len(list) == 0 {
		return false
	}
	d.Reason, d.Tier = EndOfTier, list[0].tier
	for _, a := range list {
		d.Selected = append(d.Selected, a.ref)
	}
	return true
}

// first returns the action of the first rule that matches and decides, and its
// place, or "" and -1.
func (v *evaluation) first(namespace string, rules []v3.Rule) (string, int) {
	for i := range rules {
		if !v.matches(namespace, &rules[i]) {
			continue
		}
		switch a := rules[i].Action; a {
		case "Log":
		case "Allow", "Pass":
			return a, i
		default:
			return "Deny", i
		}
	}
	return "", -1
}

// applying returns the policies that apply to labels in a stage, in order.
func (v *evaluation) applying(labels selector.Map, stage Stage, dir Direction) []applying {
	var list []applying
	consider := func(k Key, m *v3.ObjectMeta, s *v3.PolicySpec) {
		a := applying{
			ref:   PolicyRef{k, displayName(k, m, s.Tier)},
			tier:  cmp.Or(s.Tier, "default"),
			order: math.Inf(1),
			rules: [2][]v3.Rule{s.Ingress, s.Egress},
			bad:   v.w.Bad[k] != nil,
		}
		if s.Order != nil && !math.IsNaN(*s.Order) {
			a.order = *s.Order
		}
		for _, t := range s.Types {
			a.types[Ingress] = a.types[Ingress] || t == "Ingress"
			a.types[Egress] = a.types[Egress] || t == "Egress"
			a.bad = a.bad || t != "Ingress" && t != "Egress"
			if t != "Ingress" && t != "Egress" {
				a.types = [2]bool{true, true}
			}
		}
		if len(s.Types) == 0 {
			a.types = [2]bool{true, true}
		}
		for d, rules := range a.rules {
			a.bad = a.bad || a.types[d] && badRules(rules)
		}
		a.staged = k.Kind == kindStaged || k.Kind == kindStagedGlobal || k.Kind == kindStagedKube
		if a.types[dir] {
			list = append(list, a)
		}
	}
	namespaced := func(k Key, m *v3.ObjectMeta, s *v3.PolicySpec) {
		if stage <= StageHost && labels[labelNamespace] == k.Namespace &&
			selects(s.Selector, labels) &&
			(s.ServiceAccountSelector == "" || selectsPrefixed(s.ServiceAccountSelector, labels, prefixAccount, "")) {
			consider(k, m, s)
		}
	}
	global := func(k Key, m *v3.ObjectMeta, s *v3.GlobalPolicySpec) {
		if stageOf(s, stage) && selects(s.Selector, labels) &&
			(s.ServiceAccountSelector == "" || selectsPrefixed(s.ServiceAccountSelector, labels, prefixAccount, labelServiceAccount)) &&
			(s.NamespaceSelector == "" || selectsPrefixed(s.NamespaceSelector, labels, prefixNamespace, labelNamespace)) {
			consider(k, m, &s.PolicySpec)
		}
	}
	for k, p := range v.w.Policies {
		namespaced(k, p.Meta(), &p.Spec)
	}
	for k, p := range v.w.GlobalPolicies {
		global(k, p.Meta(), &p.Spec)
	}
	for k, p := range v.w.Staged {
		if stage <= StageHost && staging(p.Spec.StagedAction) {
			namespaced(k, p.Meta(), &p.Spec.PolicySpec)
		}
	}
	for k, p := range v.w.StagedGlobal {
		if stage <= StageHost && staging(p.Spec.StagedAction) {
			global(k, p.Meta(), &p.Spec.GlobalPolicySpec)
		}
	}
	slices.SortFunc(list, func(a, b applying) int {
		return cmp.Or(
			v.w.compareTierNames(a.tier, b.tier),
			cmp.Compare(a.order, b.order),
			cmp.Compare(a.ref.Key.Name+"/"+a.ref.Key.Namespace+"/"+a.ref.Key.Kind, b.ref.Key.Name+"/"+b.ref.Key.Namespace+"/"+b.ref.Key.Kind),
		)
	})
	return list
}

func (w *World) compareTierNames(a, b string) int {
	rank := func(name string) (class int, order float64) {
		t := w.Tiers[name]
		switch {
		case t == nil:
			return 2, 0
		case t.Spec.Order == nil || math.IsNaN(*t.Spec.Order):
			return 1, 0
		}
		return 0, *t.Spec.Order
	}
	ca, oa := rank(a)
	cb, ob := rank(b)
	return cmp.Or(cmp.Compare(ca, cb), cmp.Compare(oa, ob), cmp.Compare(a, b))
}
