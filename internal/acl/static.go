// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// Names of the chains and sets that are always there.
const (
	chainAntispoof    = "antispoof"     // every packet, before connection tracking
	chainAntispoofWl  = "antispoof-wl"  // from a workload
	chainAntispoofMAC = "antispoof-mac" // whose MAC address is known
	chainAntispoofSrc = "antispoof-src" // explicit sources
	chainAntispoofRPF = "antispoof-rpf" // reverse path
	chainEgress       = "egress"
	chainEgressWl     = "egress-wl"
	chainIngress      = "ingress"
	chainIngressWl    = "ingress-wl"
	chainInputHost    = "input-host"
	chainInputHostWl  = "input-host-wl"

	setInterfaces = "interfaces"  // interfaces of known endpoints
	setPolicy     = "endpoints"   // interface : itself . its effective policy
	setFrom       = "from"        // effective policy : chain for egress
	setTo         = "to"          // effective policy : chain for ingress
	setMACChecked = "mac-checked" // interfaces whose MAC address is known
	setMAC        = "mac"         // interface . its MAC address
	setSrc4       = "src4"        // interface . its address
	setSrc6       = "src6"
	setLinkLocal  = "ll6"    // interface . its EUI-64 link-local address
	setLLAny      = "ll-any" // interfaces free to choose a link-local address
	setHosts4     = "hosts4" // set . a member that is a single address
	setHosts6     = "hosts6"
	setServices   = "services" // list . protocol . destination port
	setSources4   = "sources4" // interface . a network that it may send from besides; only if any may
	setSources6   = "sources6"
	setSpeakers   = "speakers" // interfaces of those that speak BGP with this host; only if there are any
	setND         = "nd"       // ICMPv6 types an endpoint may always send to its host
)

// Priorities of linux/netfilter_ipv4.h.
const (
	priorityRaw    = -300
	priorityEgress = -90 // after the destination NAT of others, at -100
	priorityFilter = 0
)

func (r *renderer) staticSets() []*set {
	s := func(name string, typ *setType, comment string) *set {
		return &set{name: name, typ: typ, comment: comment, static: true}
	}
	nd := s(setND, setICMPv6, "neighbour discovery towards the host")
	nd.elems = protoElems(neighbourTypes)
	accepted := s(setAccepted, setMark, "marks of accepted connections")
	accepted.elems = r.epoch.elems()
	var more []*set
	if len(r.opts.Speakers) > 0 {
		speakers := s(setSpeakers, setIfname, "interfaces of workloads that speak BGP with this host")
		for _, name := range r.opts.Speakers {
			speakers.elems = append(speakers.elems, elem{key: ifKey(name)})
		}
		more = append(more, speakers)
	}
	if r.opts.AnySource {
		more = append(more, s(setSources4, setIfNets4, "IPv4 networks besides"), s(setSources6, setIfNets6, "IPv6 networks besides"))
	}
	more = slices.Concat(more, linkSets(), r.kindSets(), r.floatingSets(), r.natSets(), r.processSets(), ownSets())
	return append(more, []*set{
		s(setInterfaces, setIfname, "interfaces of endpoints"),
		s(setPolicy, setIfPolicy, "effective policy of endpoints"),
		s(setFrom, setVmap, "egress of effective policies"),
		s(setTo, setVmap, "ingress of effective policies"),
		s(setMACChecked, setIfname, "interfaces with a known MAC address"),
		s(setMAC, setIfEther, "MAC addresses"),
		s(setSrc4, setIfIPv4, "IPv4 addresses"),
		s(setSrc6, setIfIPv6, "IPv6 addresses"),
		s(setLinkLocal, setIfIPv6, "link-local addresses made from MAC addresses"),
		s(setLLAny, setIfname, "interfaces with any link-local address"),
		s(setSpoofed, setTraffic, "packets with the sender of another, by interface"),
		s(setHosts4, setPartIPv4, "members of sets, IPv4"),
		s(setHosts6, setPartIPv6, "members of sets, IPv6"),
		s(setServices, setListService, "protocols and ports in policies"),
		accepted, nd,
	}...)
}

// staticChains renders the chains that do not depend on policy.
//
// A packet from a workload meets antispoof first, before connection tracking
// can call it established, then egress, before it is routed. Forwarded, it
// meets ingress; towards the host, input-host (what the operator lets workloads
// do to the host): an accept ends one base chain only. Egress stands before the
// routing decision because the kernel validates the chains of every hook that
// leads to them, at each change of a rule: from forward and input it would
// walk all policies twice. No other packet is decided upon here.
func (r *renderer) staticChains() []*chain {
	// The kernel validates a verdict map by walking every chain it leads to,
	// element by element, whenever a rule with a verdict or an element of such
	// a map changes. Leading from effective policies, which endpoints share,
	// and not from interfaces makes that short, and spares it the endpoints.
	// It leads there by a jump. A packet that is under way while a commit takes
	// effect may find the elements of after it, and of a chain that is new only
	// what it was before: nothing. It comes back to the drop here; after a goto,
	// the base chain would accept it.
	forward := func(name, set string, key expr.MetaKey) *chain {
		c := &chain{name: name}
		c.add(r.rule().dispatch(key, set).done("by effective policy in @" + setPolicy))
		c.add(r.rule().drop().done("unknown interface"))
		return c
	}
	chains := []*chain{
		r.base(chainAntispoof, chainOwnAny, unix.NF_INET_PRE_ROUTING, priorityRaw, expr.MetaKeyIIFNAME, r.ownSources),
		r.base(chainEgress, chainEgressWl, unix.NF_INET_PRE_ROUTING, priorityEgress, expr.MetaKeyIIFNAME, r.outAccepted),
		r.base(chainIngress, chainIngressWl, unix.NF_INET_FORWARD, priorityFilter, expr.MetaKeyOIFNAME, r.inAccepted),
		r.base(chainInputHost, chainInputHostWl, unix.NF_INET_LOCAL_IN, priorityFilter, expr.MetaKeyIIFNAME),
	}
	chains = append(chains, r.acceptChains()...)
	chains = append(chains, forward(chainIngressWl, setTo, expr.MetaKeyOIFNAME))

	// What is excepted from policy goes to addresses that are never forwarded.
	egress := forward(chainEgressWl, setFrom, expr.MetaKeyIIFNAME)
	egress.rules = slices.Concat([]*rule{
		r.neighbours(r.rule().is(ipv6).addr(ipv6, destination, onLink, false)),
		r.neighbours(r.rule().is(ipv6).addr(ipv6, destination, multicast, false)),
	}, r.excepted(), egress.rules)

	host := &chain{name: chainInputHostWl}
	host.add(r.neighbours(r.rule().is(ipv6)))
	host.add(r.acceptEstablished())
	if len(r.opts.Speakers) > 0 {
		host.add(r.rule().iifIn(setSpeakers).l4proto(expr.CmpOpEq, unix.IPPROTO_TCP).portRange(destination, r.opts.SpeakerPort, r.opts.SpeakerPort, false).
			accept().done("BGP"))
	}
	for _, ru := range r.excepted() {
		host.add(ru)
	}
	if r.opts.HostAction == HostDrop {
		r.spareProcesses(host, destination)
		host.add(r.rule().drop().done("endpoint to host"))
	} else {
		host.add(r.rule().accept().done("endpoint to host"))
	}
	chains = append(chains, egress, host)
	chains = append(chains, r.denied()...)
	if c := r.natOutgoing(); c != nil {
		chains = append(chains, c)
	}
	return slices.Concat(chains, r.antispoof(), r.kindChains(), r.linkChains(), r.floatingChains(), r.metadataChains(), r.processChains())
}

// base renders a base chain that sends what comes from workloads, or goes to
// them, to target. first are the rules before that.
func (r *renderer) base(name, target string, num uint32, priority int32, key expr.MetaKey, first ...func(*chain)) *chain {
	c := &chain{name: name, hook: &hook{num: num, priority: priority}}
	for _, f := range first {
		f(c)
	}
	for _, p := range r.opts.Prefixes {
		c.add(r.rule().prefixed(key, p).goTo(target).done(""))
	}
	c.add(r.rule().accept().done("not a workload"))
	return c
}

// accepted begins a rule about flows that a direction of policy has accepted in this
// epoch. It is asked for first, whoever sends it: the others are accepted in any case.
// Which way the packet goes need not be asked: an answer is of a flow that both ends
// know, and policy lets pass what is established, unless it is cut.
func (r *renderer) accepted(d policy.Direction) *rb {
	return r.rule().ctMarkIn(markCut|markOf(d), setAccepted)
}

// answers begins one about the answers of such flows. An answer comes from where the flow
// goes to, whose ingress has accepted it, and goes to where the flow comes from.
func (r *renderer) answers(d policy.Direction) *rb {
	return r.rule().ctReply().ctMarkIn(markCut|markOf(d), setAccepted)
}

func (r *renderer) outAccepted(c *chain) { // from a known interface, says antispoof
	r.besidesAnswers(c)
	c.add(r.accepted(policy.Egress).accept().done("in this epoch"))
	c.add(r.answers(policy.Ingress).accept().done("an answer"))
}

func (r *renderer) inAccepted(c *chain) {
	c.add(r.accepted(policy.Ingress).ifIn(expr.MetaKeyOIFNAME, setInterfaces).accept().done("in this epoch"))
	c.add(r.answers(policy.Egress).ifIn(expr.MetaKeyOIFNAME, setInterfaces).accept().done("an answer"))
}

// neighbours ends a rule that accepts what neighbour discovery needs.
func (r *renderer) neighbours(b *rb) *rule {
	return b.iifIn(setInterfaces).l4proto(expr.CmpOpEq, ipv6.icmp).icmpTypeIn(ipv6, setND).
		accept().done("neighbour discovery")
}

// antispoof renders the two independent layers: the explicit sources of each
// interface, then the reverse path. Link-local sources and the unspecified
// one have no route and skip the second.
func (r *renderer) antispoof() []*chain {
	rpf := chainAntispoofRPF
	toRPF := func(b *rb) *rule {
		if r.opts.withoutRPF {
			return b.accept().done("")
		}
		return b.goTo(rpf).done("")
	}

	wl := &chain{name: chainAntispoofWl}
	wl.add(r.kind())
	wl.add(r.rule().iifIn(setMACChecked).goTo(chainAntispoofMAC).done(""))
	wl.add(r.rule().iifIn(setInterfaces).goTo(chainAntispoofSrc).done(""))
	wl.add(r.rule().drop().done("unknown interface"))

	mac := &chain{name: chainAntispoofMAC}
	mac.add(r.rule().iifAnd(expr.PayloadBaseLLHeader, 6, 6, "ether saddr", setMAC).goTo(chainAntispoofSrc).done(""))
	r.spoofed(mac, "MAC address")

	src := &chain{name: chainAntispoofSrc}
	if r.opts.withoutSources {
		src.add(toRPF(r.rule()))
	}
	src.add(toRPF(r.rule().is(ipv4).iifAnd(expr.PayloadBaseNetworkHeader, ipv4.src, ipv4.bytes, "ip saddr", setSrc4)))
	src.add(toRPF(r.rule().is(ipv6).iifAnd(expr.PayloadBaseNetworkHeader, ipv6.src, ipv6.bytes, "ip6 saddr", setSrc6)))
	src.add(r.rule().is(ipv6).iifAnd(expr.PayloadBaseNetworkHeader, ipv6.src, ipv6.bytes, "ip6 saddr", setLinkLocal).accept().done(""))
	src.add(r.rule().is(ipv6).addr(ipv6, source, linkLocal, false).iifIn(setLLAny).accept().done(""))
	if r.opts.AnySource {
		src.add(r.rule().is(ipv4).iifAnd(expr.PayloadBaseNetworkHeader, ipv4.src, ipv4.bytes, "ip saddr", setSources4).goTo(chainBesides).done("allowed besides"))
		src.add(r.rule().is(ipv6).iifAnd(expr.PayloadBaseNetworkHeader, ipv6.src, ipv6.bytes, "ip6 saddr", setSources6).goTo(chainBesides).done("allowed besides"))
	}
	r.discover(src)
	src.add(r.rule().is(ipv6).addr(ipv6, source, unspecified, false).hopLimit(255).l4proto(expr.CmpOpEq, ipv6.icmp).
		icmpBytes(ipv6, 0, []byte{135}, false).accept().done("duplicate address detection"))
	if len(r.opts.Speakers) > 0 {
		// What a workload announces and BGP's policy accepts is behind it: its
		// sources are judged by the reverse path alone.
		src.add(toRPF(r.rule().iifIn(setSpeakers)))
	}
	r.spoofed(src, "source address")

	path := &chain{name: rpf}
	path.add(r.rule().reversePath().accept().done(""))
	r.spoofed(path, "reverse path")
	return slices.Concat(r.ownChains(), []*chain{wl, mac, src, path}, r.besidesChains())
}

var (
	linkLocal   = netip.MustParsePrefix("fe80::/64")
	unspecified = netip.MustParsePrefix("::/128")
)

// setElem is an element and the static set it belongs to.
type setElem struct {
	set string
	elem
}

// endpoint renders the elements that make an endpoint live.
func (r *renderer) endpoint(e *policy.Endpoint) []setElem {
	owner := endpointOwner(e.ID)
	bad := r.bad[owner] != nil
	if e.Process {
		return r.process(e, bad)
	}
	if bad {
		return nil
	}
	iface := ifKey(e.Interface)
	var out []setElem
	add := func(set, key, target string) {
		out = append(out, setElem{set, elem{key: key, target: target, owner: owner}})
	}
	add(setInterfaces, iface, "")
	ownAddresses(e, add)
	for _, a := range e.Addrs {
		// A zone or a v4-mapped form is no source that a packet can carry.
		a = a.WithZone("")
		switch {
		case a.Is4():
			add(setSrc4, iface+string(a.AsSlice()), "")
		case a.Is6() && !a.Is4In6():
			add(setSrc6, iface+string(a.AsSlice()), "")
		}
	}
	if e.HasMAC {
		add(setMACChecked, iface, "")
		for _, mac := range e.AllMACs() {
			add(setMAC, iface+string(mac[:])+"\x00\x00", "")
		}
	}
	// One that is not to speak IPv6 has no link-local address, either.
	speaks6 := slices.ContainsFunc(e.Addrs, func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() })
	switch {
	case speaks6 && e.HasMAC:
		for _, mac := range e.AllMACs() {
			ll := eui64(mac)
			add(setLinkLocal, iface+string(ll[:]), "")
		}
	case speaks6:
		add(setLLAny, iface, "")
	}
	if r.opts.AnySource {
		out = append(out, besides(e, owner)...)
	}
	r.floatingElems(e, add)
	senders(e, add)
	if e.Effective != nil {
		add(setPolicy, iface, iface+key16(e.Effective.ID))
	}
	return out
}

// entries renders the elements that lead to an effective policy's chains.
func (r *renderer) entries(id string) []setElem {
	owner := effectiveOwner(id)
	return []setElem{
		{setFrom, elem{key: key16(id), target: effectiveChain(id, policy.Egress), owner: owner}},
		{setTo, elem{key: key16(id), target: effectiveChain(id, policy.Ingress), owner: owner}},
	}
}

// eui64 is the link-local address made from a MAC address (RFC 4291 appendix A).
func eui64(m [6]byte) [16]byte {
	return [16]byte{0xfe, 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]}
}
