// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// renderer turns policy into chains. It has no state but what it was given:
// the same input always gives the same chains.
type renderer struct {
	opts     Options
	flags    uint32                           // of our tables
	noFrames bool                             // the kernel cannot hook interfaces to come
	text     bool                             // also make text
	bad      map[string]error                 // objects quarantined: rendered closed
	form     func(policy.SetID, *family) form // of a set of networks
	atOnce   bool                             // several policies change: no list may change in place
	has      func(name string) bool           // whether the kernel has a set, while everything is staged; nil if it has none

	epoch epoch // of the table
}

func (r *renderer) rule() *rb { return &rb{text: r.text, b: make(buf, 0, ruleRoom)} }

// ruleRoom is what most rules fit in.
const ruleRoom = 512

func policyOwner(k policy.Key) string {
	name := k.Name
	if k.Namespace != "" {
		name = k.Namespace + "/" + name
	}
	return k.Kind + " " + name
}

// hasPass tells whether a direction must be inlined. The rules are looked at
// themselves: a wrong flag would jump nowhere.
func hasPass(rules []policy.Rule) bool {
	for i := range rules {
		if rules[i].Action == policy.Pass {
			return true
		}
	}
	return false
}

func rulesOf(p *policy.Policy, d policy.Direction) []policy.Rule {
	if d == policy.Ingress {
		return p.Ingress
	}
	return p.Egress
}

// shared tells whether the direction of a policy is one chain for all who
// use it. In a tier, Pass must name the next tier's chain, which differs
// from endpoint to endpoint; in a profile, Pass just ends the profile. A staged
// policy goes nowhere.
func shared(p *policy.Policy, d policy.Direction) bool {
	return p.Key.Kind == kindProfile || p.Staged || !hasPass(rulesOf(p, d))
}

const kindProfile = "Profile"

// policyChain renders the shared chain of a policy's direction. A packet that
// matches no rule returns to the chain of the effective policy, which ends
// in a drop.
func (r *renderer) policyChain(p *policy.Policy, pd polDir) *chain {
	d := pd.dir
	c := &chain{
		name:    pd.chain(),
		stage:   p.Stage,
		comment: comment(fmt.Sprintf("%s %s %s", p.Key.Kind, displayName(p), dirWord(d))),
		owner:   policyOwner(p.Key),
	}
	if pd.host && p.Stage == policy.StageWorkload {
		c.stage = policy.StageHost
	}
	c.dirs[d] = !pd.host
	r.rules(c, p, d, "")
	return c
}

func displayName(p *policy.Policy) string {
	n := p.Name
	if n == "" {
		n = p.Key.Name
	}
	if p.Key.Namespace != "" {
		return p.Key.Namespace + "/" + n
	}
	return n
}

// rules appends the rules of a policy's direction to the chain. next is the
// chain that Pass goes to; without one Pass returns. A quarantined policy, or
// one that uses a quarantined set, is a drop.
func (r *renderer) rules(c *chain, p *policy.Policy, d policy.Direction, next string) {
	rulesBefore, setsBefore := len(c.rules), len(c.sets)
	c.logPrefix, c.staged = logPrefix(r.opts.LogPrefix, p), p.Staged
	c.mixing = append(c.mixing, mixes(p, d)...)
	closed := r.bad[policyOwner(p.Key)] != nil
	if !closed {
		gs := merge(groups(rulesOf(p, d)))
		inPlace := uniform(gs)
		for i := range gs {
			r.group(c, p, d, &gs[i], inPlace, next)
		}
		for _, s := range c.sets[setsBefore:] {
			closed = closed || r.bad[s.owner()] != nil
		}
	}
	if closed {
		c.rules, c.sets = c.rules[:rulesBefore], c.sets[:setsBefore]
		if p.Staged {
			return // it denies nobody
		}
		c.add(r.rule().counter().drop().done(comment(displayName(p) + " quarantined")))
		c.standFor(rulesBefore, origin{policy: p, dir: d, text: "quarantined"})
	}
}

// group appends the rules of a group. inPlace tells whether the list of its
// services may change in place.
func (r *renderer) group(c *chain, p *policy.Policy, d policy.Direction, g *group, inPlace bool, next string) {
	note, at := displayName(p)+" "+dirWord(d), len(c.rules)
	switch {
	case len(g.parts) > 0 && !r.mergedRules(c, g, d, next, comment(note)):
		for i := range g.parts {
			r.group(c, p, d, &g.parts[i], inPlace, next)
		}
		return
	case len(g.parts) > 0:
	case len(g.services) == 0, !inPlace && g.rules == 1:
		r.policyRule(c, g.first, d, nil, next, comment(fmt.Sprintf("%s %d", note, g.first.Index)))
	default:
		r.policyRule(c, &g.rule, d, r.services(p, d, g, inPlace), next, comment(note))
	}
	c.standFor(at, origin{policy: p, dir: d, text: g.places()})
}

// portProtos are the protocols in which a port can be matched: TCP, UDP, SCTP.
var portProtos = []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP}

// policyRule appends the kernel's rules for one rule of the model: one for
// each family it can match, and for each alternative in which it can match
// that one kernel rule cannot express together. Of a group, services holds
// protocols and ports.
func (r *renderer) policyRule(c *chain, ru *policy.Rule, d policy.Direction, services *set, next, note string) {
	for _, f := range r.families(ru) {
		if !possible(ru, f) {
			continue
		}
		room := maxSpelled
		src, dst := choices(&ru.Src, f, &room), choices(&ru.Dst, f, &room)
		for _, icmp := range icmpCases(ru) {
			for _, pc := range portCases(ru) {
				for _, from := range src {
					for _, to := range dst {
						b := r.rule()
						if f != nil {
							b.is(f)
						}
						r.protocol(c, b, ru, f, icmp, pc)
						if services != nil {
							use(c, services)
							b.serviceIn(services)
						}
						r.end(c, b, source, &ru.Src, f, from, denies(ru))
						r.end(c, b, destination, &ru.Dst, f, to, denies(ru))
						b.counter()
						r.action(c, b, ru.Action, d, next)
						c.add(b.done(note))
					}
				}
			}
		}
	}
}

// maxSpelled bounds the rules that a short list of networks is spelled out
// into. A set for each list would be one lookup instead of a few comparisons,
// but many sets are slow to change (set).
const maxSpelled = 4

// choice is one alternative of what an end of a rule may be. Its networks and
// ports are those of one kernel rule. Alternatives exclude each other.
type choice struct {
	nets []netip.Prefix
	port portChoice
}

func choices(m *policy.Match, f *family, room *int) (out []choice) {
	ports := portChoices(m)
	nets := [][]netip.Prefix{nil}
	if f != nil {
		nets = spell(mergeNets(m.Nets, f), room)
	}
	for _, n := range nets {
		for _, p := range ports {
			out = append(out, choice{n, p})
		}
	}
	return out
}

// spell splits a list of networks into its elements if there is room for so
// many, else leaves it in one piece.
func spell(list []netip.Prefix, room *int) (out [][]netip.Prefix) {
	if len(list) < 2 || len(list) > *room {
		return [][]netip.Prefix{list}
	}
	*room /= len(list)
	for i := range list {
		out = append(out, list[i:i+1])
	}
	return out
}

func (r *renderer) action(c *chain, b *rb, a policy.Action, d policy.Direction, next string) {
	if c.staged { // it has been counted
		if a != policy.Log {
			b.ret()
		}
		return
	}
	switch a {
	case policy.Allow:
		switch c.stage {
		case policy.StageWorkload:
			b.goTo(Acceptor(d))
			return
		case policy.StageUntracked:
			b.notrack().setMark(markAllowed, true)
		case policy.StagePreDNAT:
			b.setMark(markAllowed, true)
		}
		b.accept()
	case policy.Log:
		if r.opts.LogLimit.Packets > 0 {
			b.limit(r.opts.LogLimit)
		}
		b.log(c.logPrefix)
	case policy.Pass:
		if next != "" {
			b.goTo(next)
		} else {
			b.ret()
		}
	default:
		r.deny(b)
	}
}

// families returns the families the rule is rendered for: nil alone if one
// rule serves both.
func (r *renderer) families(ru *policy.Rule) []*family {
	switch ru.IPVersion {
	case 4:
		return []*family{ipv4}
	case 6:
		return []*family{ipv6}
	}
	needs := func(m *policy.Match) bool {
		return len(m.Nets)+len(m.NotNets)+len(m.Sets)+len(m.NotSets)+len(m.PortSets)+len(m.NotPortSets) > 0
	}
	if needs(&ru.Src) || needs(&ru.Dst) || ru.ICMP != nil || ru.NotICMP != nil ||
		ru.HasProto && (ru.Proto == ipv4.icmp || ru.Proto == ipv6.icmp) {
		return []*family{ipv4, ipv6}
	}
	return []*family{nil}
}

// possible tells whether any packet of the family can match. A list of
// negated networks that has none of the family excludes the family, as a list
// of networks does.
func possible(ru *policy.Rule, f *family) bool {
	if ru.HasProto && ru.HasNotProto && ru.Proto == ru.NotProto {
		return false
	}
	if f == nil {
		return true
	}
	for _, other := range []*family{ipv4, ipv6} {
		if other != f && ru.HasProto && ru.Proto == other.icmp {
			return false
		}
	}
	if ru.ICMP != nil && (ru.HasProto && ru.Proto != f.icmp || ru.HasNotProto && ru.NotProto == f.icmp) {
		return false
	}
	for _, m := range []*policy.Match{&ru.Src, &ru.Dst} {
		if len(m.Nets) > 0 && len(mergeNets(m.Nets, f)) == 0 {
			return false
		}
		if len(m.NotNets) > 0 {
			not := mergeNets(m.NotNets, f)
			if len(not) == 0 || not[0].Bits() == 0 {
				return false
			}
		}
	}
	return true
}

// icmpCase is how a rule's ICMP conditions are met.
type icmpCase uint8

const (
	icmpFree    icmpCase = iota // there are none, or the protocol is given
	icmpIs                      // the packet is ICMP, and they hold
	icmpIsOther                 // the packet is not ICMP, and NotICMP holds therefore
)

func icmpCases(ru *policy.Rule) []icmpCase {
	switch {
	case ru.ICMP != nil:
		return []icmpCase{icmpIs}
	case ru.NotICMP == nil:
		return []icmpCase{icmpFree}
	case !ru.HasProto:
		return []icmpCase{icmpIs, icmpIsOther}
	case ru.Proto == ipv4.icmp || ru.Proto == ipv6.icmp:
		return []icmpCase{icmpIs}
	}
	return []icmpCase{icmpFree} // another protocol: NotICMP holds
}

// portCase is how a rule's port conditions are met.
type portCase uint8

const (
	portFree portCase = iota // there are none, or the protocol is given and has ports
	portIs                   // the packet's protocol has ports, and they hold
)

// portCases returns none if nothing can match. Negated ports, too, are a
// condition on a packet that has ports.
func portCases(ru *policy.Rule) []portCase {
	switch {
	case !ru.MatchesPorts(), ru.HasProto && policy.HasPorts(ru.Proto):
		return []portCase{portFree}
	case ru.HasProto:
		return nil
	}
	return []portCase{portIs}
}

// portChoice is one of the alternatives of a union of ports and port sets.
type portChoice struct {
	ports []policy.PortRange
	set   policy.SetID
}

func portChoices(m *policy.Match) []portChoice {
	if len(m.Ports) == 0 && len(m.PortSets) == 0 {
		return []portChoice{{}}
	}
	var out []portChoice
	if ports := mergePorts(m.Ports); len(ports) > 0 {
		out = append(out, portChoice{ports: ports})
	}
	for _, id := range m.PortSets {
		out = append(out, portChoice{set: id})
	}
	return out // none if every range was empty: nothing can match
}

func (r *renderer) protocol(c *chain, b *rb, ru *policy.Rule, f *family, icmp icmpCase, pc portCase) {
	switch {
	case ru.HasProto:
		b.l4proto(expr.CmpOpEq, ru.Proto)
	case icmp == icmpIs:
		b.l4proto(expr.CmpOpEq, f.icmp)
	case icmp == icmpIsOther:
		b.l4proto(expr.CmpOpNeq, f.icmp)
	}
	if ru.HasNotProto {
		b.l4proto(expr.CmpOpNeq, ru.NotProto)
	}
	if !ru.HasProto && pc != portFree {
		s := constSet("cproto", setProto, protoElems(portProtos))
		c.sets = append(c.sets, s)
		b.protoIn(s.name)
	}
	if icmp == icmpIs {
		icmpMatch(b, f, ru.ICMP, false)
		icmpMatch(b, f, ru.NotICMP, true)
	}
}

func icmpMatch(b *rb, f *family, m *policy.ICMPMatch, not bool) {
	switch {
	case m == nil:
	case m.Type >= 0 && m.Code >= 0:
		b.icmpBytes(f, 0, []byte{byte(m.Type), byte(m.Code)}, not)
	case m.Type >= 0:
		b.icmpBytes(f, 0, []byte{byte(m.Type)}, not)
	case m.Code >= 0:
		b.icmpBytes(f, 1, []byte{byte(m.Code)}, not)
	}
}

// end appends the conditions on one end of the packet. denial tells that they are of a rule that denies.
func (r *renderer) end(c *chain, b *rb, e end, m *policy.Match, f *family, which choice, denial bool) {
	if f != nil {
		r.nets(c, b, e, which.nets, f, false)
		r.nets(c, b, e, mergeNets(m.NotNets, f), f, true)
		for _, id := range m.Sets {
			b.addrIn(f, e, use(c, r.netSet(id, f, denial)), false)
		}
		for _, id := range m.NotSets { // who comes into it is denied by a permission
			b.addrIn(f, e, use(c, r.netSet(id, f, !denial)), true)
		}
	}
	if which.port.set != "" {
		b.endIn(f, e, use(c, r.portSet(which.port.set, f, denial)).name, false)
	}
	r.ports(c, b, e, which.port.ports, false)
	r.ports(c, b, e, mergePorts(m.NotPorts), true)
	for _, id := range m.NotPortSets {
		b.endIn(f, e, use(c, r.portSet(id, f, !denial)).name, true)
	}
}

func use(c *chain, s *set) *set {
	c.sets = append(c.sets, s)
	return s
}

func (r *renderer) nets(c *chain, b *rb, e end, nets []netip.Prefix, f *family, not bool) {
	switch {
	case len(nets) == 0 || nets[0].Bits() == 0:
	case len(nets) == 1, not && len(nets) <= maxSpelled:
		for _, p := range nets { // a negated list is none of its elements
			b.addr(f, e, p, not)
		}
	default:
		var es []elem
		for _, p := range nets {
			es = append(es, interval(p, "")...)
		}
		b.addrIn(f, e, use(c, constSet(fmt.Sprintf("cn%d", f.v), addrSet(f), es)), not)
	}
}

func (r *renderer) ports(c *chain, b *rb, e end, ports []policy.PortRange, not bool) {
	switch {
	case len(ports) == 0:
	case len(ports) == 1, not && len(ports) <= maxSpelled:
		for _, p := range ports {
			b.portRange(e, p.Min, p.Max, not)
		}
	default:
		var es []elem
		for _, p := range ports {
			es = append(es, portInterval(p, "")...)
		}
		b.portIn(e, use(c, constSet("cp", setPort, es)).name, not)
	}
}

func addrSet(f *family) *setType {
	if f.v == 4 {
		return setIPv4
	}
	return setIPv6
}

// netSet is the set for the members of one family of a set of networks. If all
// are single addresses it is a part of a hash table: to add or delete an element
// takes 0.02 ms, where an interval set of 10,000 takes 1 to 2 ms. The first
// network makes it an interval set of its own.
//
// What denials ask is another set than what permissions ask, for these to change one after
// the other (askedFirst).
func (r *renderer) netSet(id policy.SetID, f *family, denial bool) *set {
	return memberSet(id, f, r.form(id, f), denial)
}

func denies(ru *policy.Rule) bool {
	return ru.Action != policy.Allow && ru.Action != policy.Pass && ru.Action != policy.Log
}

func (r *renderer) portSet(id policy.SetID, f *family, denial bool) *set {
	return portSet(id, f, r.form(id, f), denial)
}

// form is how the kernel holds one family of a set. Each has two names, which change
// places when it is replaced as a whole.
type form uint8

const (
	asHosts form = iota
	asHostsToo
	asNets // which only a set of networks can be
	asNetsToo
)

var forms = []form{asHosts, asHostsToo, asNets, asNetsToo}

func (as form) nets() bool { return as >= asNets }

// other is the form under the other name.
func (as form) other() form { return as ^ 1 }

func memberSet(id policy.SetID, f *family, as form, denial bool) *set {
	s := &set{id: id, kind: policy.SetNets, fam: f, denial: denial}
	letter, part := []string{"h", "g", "n", "m"}[as], string(id)
	if as == asHostsToo { // for one family: rules of the kernel tell the form of each
		part = fmt.Sprintf("too%d %s", f.v, part)
	}
	if denial {
		letter, part = "d"+letter, "denied "+part
	}
	switch {
	case as.nets():
		s.typ = addrSet(f)
	case f.v == 4:
		s.typ, s.in, s.part = setPartIPv4, setHosts4, key16(part)
	default:
		s.typ, s.in, s.part = setPartIPv6, setHosts6, key16(part)
	}
	s.name = fmt.Sprintf("%s%d-%s", letter, f.v, safeName(string(id)))
	return s
}

// portSet is the kernel's set for the members of one family of a set of
// (address, protocol, port).
func portSet(id policy.SetID, f *family, as form, denial bool) *set {
	s := &set{id: id, kind: policy.SetPorts, fam: f, typ: setEnd6, denial: denial}
	if f.v == 4 {
		s.typ = setEnd4
	}
	letter := []string{"p", "q"}[as]
	if denial {
		letter = "d" + letter
	}
	s.name = fmt.Sprintf("%s%d-%s", letter, f.v, safeName(string(id)))
	return s
}

// constSet is a set whose name says its content: rules with the same list
// share it, and it never changes.
func constSet(prefix string, typ *setType, es []elem) *set {
	keys := make([]string, 0, 2*len(es))
	for _, e := range es {
		kind := "start"
		if e.end {
			kind = "end"
		}
		keys = append(keys, e.key, kind+e.last)
	}
	s := &set{name: prefix + "-" + hashName(keys...), typ: typ, elems: es}
	for i := range es {
		es[i].owner = s.owner()
	}
	return s
}

func protoElems(protos []byte) []elem {
	var out []elem
	for _, p := range protos {
		out = append(out, elem{key: string([]byte{p})})
	}
	return out
}
