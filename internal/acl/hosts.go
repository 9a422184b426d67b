// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// Host endpoints police what this host itself receives and sends, and what it
// forwards, by interface. Where there are none there is nothing of what is here.
//
// They have base chains of their own, one for each stage and direction that is in
// use, with a rule for each interface that goes to the chain of its effective
// policy. A rule, and no element of a verdict map: a packet that is among the old
// rules when a commit takes effect would miss the old element, and what misses
// here is accepted, because no host endpoint concerns it.

// Names of the chains of host endpoints.
const (
	chainHostRawIn      = "host-raw-in"      // before connection tracking
	chainHostRawOut     = "host-raw-out"     // the same for what this host sends
	chainHostPreDNAT    = "host-prednat"     // before the destination is translated
	chainHostInput      = "host-input"       // for this host
	chainHostForwardIn  = "host-forward-in"  // forwarded
	chainHostForwardOut = "host-forward-out" // the same, by where it leaves
	chainHostOutput     = "host-output"      // from this host
	chainHostOutputNAT  = "host-output-nat"  // from this host, to where a translation sent it
	chainFailsafeIn     = "failsafe-in"
	chainFailsafeOut    = "failsafe-out"
	chainFailsafeRawIn  = "failsafe-raw-in" // and answers
	chainFailsafeRawOut = "failsafe-raw-out"
)

// markAllowed is the bit of a packet's mark that says that a policy before
// connection tracking, or before the destination was translated, has allowed it.
// It means nothing outside this host's chains, and is cleared where they begin.
const markAllowed = 1 << 30

// statusDNAT is IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
const statusDNAT = 1 << 5

// priorityMangle is before the destination NAT of others, at -100.
const priorityMangle = -150

// hostHook is a base chain by which packets reach host endpoints.
type hostHook struct {
	name  string
	hook  hook
	key   expr.MetaKey // the interface that counts
	stage policy.Stage
	dir   policy.Direction
}

var hostHooks = []hostHook{
	{chainHostRawIn, hook{num: unix.NF_INET_PRE_ROUTING, priority: priorityRaw}, expr.MetaKeyIIFNAME, policy.StageUntracked, policy.Ingress},
	{chainHostRawOut, hook{num: unix.NF_INET_LOCAL_OUT, priority: priorityRaw}, expr.MetaKeyOIFNAME, policy.StageUntracked, policy.Egress},
	{chainHostPreDNAT, hook{num: unix.NF_INET_PRE_ROUTING, priority: priorityMangle}, expr.MetaKeyIIFNAME, policy.StagePreDNAT, policy.Ingress},
	{chainHostInput, hook{num: unix.NF_INET_LOCAL_IN, priority: priorityFilter}, expr.MetaKeyIIFNAME, policy.StageHost, policy.Ingress},
	{chainHostForwardIn, hook{num: unix.NF_INET_FORWARD, priority: priorityFilter}, expr.MetaKeyIIFNAME, policy.StageForward, policy.Ingress},
	{chainHostForwardOut, hook{num: unix.NF_INET_FORWARD, priority: priorityFilter}, expr.MetaKeyOIFNAME, policy.StageForward, policy.Egress},
	{chainHostOutput, hook{num: unix.NF_INET_LOCAL_OUT, priority: priorityFilter}, expr.MetaKeyOIFNAME, policy.StageHost, policy.Egress},
	// A packet that a translation sends elsewhere has been routed anew only here.
	{chainHostOutputNAT, hook{num: unix.NF_INET_POST_ROUTING, priority: priorityMangle}, expr.MetaKeyOIFNAME, policy.StageHost, policy.Egress},
}

// asked tells whether an effective policy has a say in a direction. Without
// policies, a stage other than the host's own leaves everything to the next one.
func asked(e *policy.Effective, d policy.Direction) bool {
	return e.Stage <= policy.StageHost || len(e.Tiers[d]) > 0
}

// failsafeChain is the chain that an effective policy asks first, empty if none.
func failsafeChain(s policy.Stage, d policy.Direction) string {
	switch {
	case s == policy.StageWorkload, s == policy.StageForward:
		return ""
	case s == policy.StageUntracked && d == policy.Ingress:
		return chainFailsafeRawIn
	case s == policy.StageUntracked:
		return chainFailsafeRawOut
	case d == policy.Ingress:
		return chainFailsafeIn
	}
	return chainFailsafeOut
}

// hosts renders the chains that belong to no effective policy, for host endpoints
// in the order of their names. raw tells whether any asks before connection
// tracking.
func (r *renderer) hosts(list []*policy.HostEndpoint, raw bool) []*chain {
	if len(list) == 0 {
		return nil
	}
	chains := r.failsafes(raw)
	used := map[string]bool{}
	for _, h := range hostHooks {
		rules := r.hostRules(list, &h)
		if len(rules) == 0 {
			continue
		}
		used[h.name] = true
		c := &chain{name: h.name, hook: &hook{num: h.hook.num, priority: h.hook.priority}}
		r.beforeHosts(c, &h, used)
		for _, ru := range rules {
			c.add(ru)
		}
		if !slices.ContainsFunc(list, func(x *policy.HostEndpoint) bool { return x.Rest && at(x, &h) != nil }) {
			c.add(r.rule().accept().done("no host endpoint"))
		}
		chains = append(chains, c)
	}
	return chains
}

// beforeHosts renders what goes before the host endpoints of a base chain: what
// they have no say in.
func (r *renderer) beforeHosts(c *chain, h *hostHook, used map[string]bool) {
	rawOrDNAT := used[chainHostRawIn] || used[chainHostPreDNAT]
	allowedBefore := false
	switch h.name {
	case chainHostRawIn, chainHostRawOut:
		c.add(r.rule().setMark(markAllowed, false).done(""))
	case chainHostPreDNAT:
		if allowedBefore = used[chainHostRawIn]; !allowedBefore {
			c.add(r.rule().setMark(markAllowed, false).done(""))
		}
	case chainHostInput, chainHostForwardIn:
		allowedBefore = rawOrDNAT
	case chainHostOutput:
		allowedBefore = used[chainHostRawOut]
		c.add(r.rule().dnat(false).accept().done("asked in " + chainHostOutputNAT))
	case chainHostOutputNAT:
		allowedBefore = used[chainHostRawOut]
		c.add(r.rule().dnat(true).accept().done("asked in " + chainHostOutput))
		c.add(r.rule().ctState(ctUntracked, "untracked").accept().done("asked in " + chainHostOutput))
		c.add(r.rule().forwarded().accept().done("not from this host"))
	}
	if allowedBefore {
		c.add(r.rule().marked(markAllowed).accept().done("allowed before"))
	}
	if h.stage == policy.StageHost {
		r.spareProcesses(c, source, destination)
	}
	// What is forwarded, or not translated yet, concerns the host endpoint for all
	// interfaces even where it is a workload's.
	if h.stage == policy.StageHost || h.stage == policy.StageUntracked {
		for _, p := range r.opts.Prefixes {
			c.add(r.rule().prefixed(h.key, p).accept().done("a workload"))
		}
	}
}

// hostRules leads from interfaces to effective policies; there are none if nobody
// asks in this place.
func (r *renderer) hostRules(list []*policy.HostEndpoint, h *hostHook) (rules []*rule) {
	rest := slices.IndexFunc(list, func(x *policy.HostEndpoint) bool { return x.Rest })
	var of *policy.Effective
	if rest >= 0 {
		of = at(list[rest], h)
	}
	asks := of != nil
	for _, x := range list {
		eff := at(x, h)
		asks = asks || eff != nil
		for _, iface := range x.Interfaces {
			if r.validHostInterface(iface) != nil {
				continue
			}
			on := r.rule().on(h.key, iface)
			switch note := comment("HostEndpoint " + x.Name); {
			case eff != nil:
				rules = append(rules, on.goTo(effectiveChain(eff.ID, h.dir)).done(note))
			case of != nil:
				rules = append(rules, on.accept().done(note))
			}
		}
	}
	if !asks {
		return nil
	}
	if of != nil {
		rules = append(rules, r.rule().goTo(effectiveChain(of.ID, h.dir)).done(comment("HostEndpoint "+list[rest].Name)))
	}
	return rules
}

// at is the effective policy that a host endpoint asks in one place, nil if none.
func at(x *policy.HostEndpoint, h *hostHook) *policy.Effective {
	if e := x.At(h.stage); e != nil && asked(e, h.dir) {
		return e
	}
	return nil
}

// failsafes renders the chains that accept what keeps a host reachable whatever
// policy says.
func (r *renderer) failsafes(raw bool) []*chain {
	in, out := r.opts.Failsafes[policy.Ingress], r.opts.Failsafes[policy.Egress]
	build := func(name string, add ...func(*chain)) *chain {
		c := &chain{name: name}
		c.add(r.rule().is(ipv6).l4proto(expr.CmpOpEq, ipv6.icmp).icmpTypeIn(ipv6, use(c, constSet("cnd", setICMPv6, protoElems(policy.NeighbourTypes))).name).
			accept().done("neighbour discovery"))
		for _, f := range add {
			f(c)
		}
		return c
	}
	to := func(list []policy.Failsafe, port, remote end) func(*chain) {
		return func(c *chain) { r.failsafePorts(c, list, port, remote) }
	}
	chains := []*chain{
		build(chainFailsafeIn, to(in, destination, source)),
		build(chainFailsafeOut, to(out, destination, destination)),
	}
	if raw {
		chains = append(chains,
			build(chainFailsafeRawIn, to(in, destination, source), to(out, source, source)),
			build(chainFailsafeRawOut, to(out, destination, destination), to(in, source, destination)))
	}
	return chains
}

// failsafePorts accepts a list of ports, at one end of the packet: those for
// everyone by one lookup, those with a network by a rule each.
func (r *renderer) failsafePorts(c *chain, list []policy.Failsafe, port, remote end) {
	seen := map[policy.Failsafe]bool{}
	var es []elem
	var rules []*rule
	for _, f := range list {
		if seen[f] || !policy.HasPorts(f.Proto) {
			continue
		}
		seen[f] = true
		key := elem{key: string([]byte{f.Proto, 0, 0, 0, byte(f.Port >> 8), byte(f.Port), 0, 0})}
		if !f.Net.IsValid() {
			es = append(es, key)
			continue
		}
		of := familyOf(f.Net.Addr())
		b := r.rule().is(of)
		if f.Net.Bits() > 0 {
			b.addr(of, remote, f.Net, false)
		}
		rules = append(rules, b.l4proto(expr.CmpOpEq, f.Proto).portRange(port, f.Port, f.Port, false).accept().done("failsafe"))
	}
	if len(es) > 0 {
		slices.SortFunc(es, func(a, b elem) int { return strings.Compare(a.key, b.key) })
		c.add(r.rule().servicePort(port, use(c, constSet("cs", setService, es)).name).accept().done("failsafe"))
	}
	for _, ru := range rules {
		c.add(ru)
	}
}

// hostChains are the names of all chains that hosts can render.
func hostChains() (names []string) {
	for _, h := range hostHooks {
		names = append(names, h.name)
	}
	return append(names, chainFailsafeIn, chainFailsafeOut, chainFailsafeRawIn, chainFailsafeRawOut)
}

// takeHosts brings the chains of host endpoints up to date, of which there are few.
func (g *stager) takeHosts(ch *policy.Changes) {
	for name, h := range ch.Hosts {
		delete(g.problems, hostOwner(name))
		delete(g.hosts, name)
		if h == nil {
			continue
		}
		g.hosts[name] = h
		for _, iface := range h.Interfaces {
			if err := g.r.validHostInterface(iface); err != nil {
				g.problems[hostOwner(name)] = err
			}
		}
	}
	if len(ch.Hosts) == 0 && (len(g.hosts) == 0 || len(ch.Effectives) == 0 && !g.retuned()) {
		return
	}
	var list []*policy.HostEndpoint
	for _, name := range slices.Sorted(maps.Keys(g.hosts)) {
		list = append(list, g.hosts[name])
	}
	raw := false
	for _, st := range g.effectives {
		raw = raw || st.effective != nil && st.effective.Stage == policy.StageUntracked
	}
	stay := map[string]bool{}
	for _, c := range g.r.hosts(list, raw) {
		stay[c.name] = true
		g.put(c)
	}
	for _, name := range hostChains() {
		if !stay[name] {
			g.remove(name)
		}
	}
}

func hostOwner(name string) string { return "HostEndpoint " + name }

// validHostInterface refuses what is a workload's: that has an endpoint, or is
// closed.
func (r *renderer) validHostInterface(name string) error {
	for _, p := range r.opts.Prefixes {
		if strings.HasPrefix(name, p) {
			return fmt.Errorf("spec.interfaceName %q: is a workload's, by the prefix %q; police it by policy for its endpoint", name, p)
		}
	}
	if name == "" || len(name) > 15 || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == '/' || c > '~' }) {
		return fmt.Errorf("spec.interfaceName %q: not a name for a Linux interface (1 to 15 printable characters without space or slash)", name)
	}
	return nil
}
