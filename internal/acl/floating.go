// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"github.com/google/nftables/expr"
	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// What is sent to a floating IP goes to the address behind it, before all policy but
// preDNAT's, whether it comes in or the host sends it. What the endpoint sends keeps
// its own address, but for answers, which connection tracking translates back, and
// for what it sends to itself by its floating IP: without the other address it would
// take the answer for somebody else's.
const (
	chainFloatingIn   = "floating-in"
	chainFloatingOut  = "floating-out"
	chainFloatingSelf = "floating-self"

	setFloating4     = "floating4" // external address : internal address
	setFloating6     = "floating6"
	setFloatingSelf4 = "floating-self4" // internal address twice : external address
	setFloatingSelf6 = "floating-self6"
)

// priorityDestNAT is NF_IP_PRI_NAT_DST of linux/netfilter_ipv4.h.
const priorityDestNAT = -100

var (
	setAddr4 = &setType{unix.NFT_SET_MAP, typeIPv4, 4, typeIPv4, "ipv4_addr : ipv4_addr", 0}
	setAddr6 = &setType{unix.NFT_SET_MAP, typeIPv6, 16, typeIPv6, "ipv6_addr : ipv6_addr", 0}
	setPair4 = &setType{unix.NFT_SET_MAP, concat(typeIPv4, typeIPv4), 8, typeIPv4, "ipv4_addr . ipv4_addr : ipv4_addr", 0}
	setPair6 = &setType{unix.NFT_SET_MAP, concat(typeIPv6, typeIPv6), 32, typeIPv6, "ipv6_addr . ipv6_addr : ipv6_addr", 0}
)

// floating and floatingSelf name the sets of a family.
func (f *family) floating() string {
	return map[*family]string{ipv4: setFloating4, ipv6: setFloating6}[f]
}
func (f *family) floatingSelf() string {
	return map[*family]string{ipv4: setFloatingSelf4, ipv6: setFloatingSelf6}[f]
}

func (r *renderer) floatingSets() []*set {
	if r.opts.Floating == NoFloating {
		return nil
	}
	return []*set{
		{name: setFloating4, typ: setAddr4, static: true, comment: "floating IPs"},
		{name: setFloating6, typ: setAddr6, static: true, comment: "floating IPs"},
		{name: setFloatingSelf4, typ: setPair4, static: true, comment: "who asks himself by a floating IP"},
		{name: setFloatingSelf6, typ: setPair6, static: true, comment: "who asks himself by a floating IP"},
	}
}

func (r *renderer) floatingChains() []*chain {
	if r.opts.Floating == NoFloating {
		return nil
	}
	in := &chain{name: chainFloatingIn, hook: &hook{num: unix.NF_INET_PRE_ROUTING, priority: priorityDestNAT, nat: true}}
	out := &chain{name: chainFloatingOut, hook: &hook{num: unix.NF_INET_LOCAL_OUT, priority: priorityDestNAT, nat: true}}
	self := &chain{name: chainFloatingSelf, hook: &hook{num: unix.NF_INET_POST_ROUTING, priority: prioritySrcNAT, nat: true}}
	for _, f := range []*family{ipv4, ipv6} {
		for _, c := range []*chain{in, out} {
			c.add(r.rule().is(f).floating(f).done("floating IP"))
		}
		self.add(r.rule().is(f).floatingSelf(f).done("itself by its floating IP"))
	}
	return []*chain{in, out, self}
}

// floating translates the destination to what the map has for it.
func (r *rb) floating(f *family) *rb {
	r.payload(expr.PayloadBaseNetworkHeader, f.dst, f.bytes, reg1)
	r.lookup(f.floating(), reg1, reg1)
	r.nat(f, unix.NFT_NAT_DNAT, 0)
	return r.say("dnat to %s daddr map @%s", f.word, f.floating())
}

// floatingSelf translates a source that sends to itself.
func (r *rb) floatingSelf(f *family) *rb {
	r.bothEnds(f)
	r.lookup(f.floatingSelf(), reg1, reg1)
	r.nat(f, unix.NFT_NAT_SNAT, 0)
	return r.say("snat to %s saddr . %s daddr map @%s", f.word, f.word, f.floatingSelf())
}

// nat translates an end of the connection to the address in reg1, and with natToPort
// to the port in reg2.
func (r *rb) nat(f *family, typ, flags uint32) {
	r.expr("nat", func(b *buf) {
		b.u32(unix.NFTA_NAT_TYPE, typ)
		b.u32(unix.NFTA_NAT_FAMILY, uint32(f.proto))
		b.u32(unix.NFTA_NAT_REG_ADDR_MIN, reg1)
		b.u32(unix.NFTA_NAT_REG_ADDR_MAX, reg1)
		if flags&natToPort != 0 {
			b.u32(unix.NFTA_NAT_REG_PROTO_MIN, reg2)
			b.u32(unix.NFTA_NAT_REG_PROTO_MAX, reg2)
		}
		b.u32(unix.NFTA_NAT_FLAGS, natToAddress|flags)
	})
}

// floatingElems renders the elements for the floating IPs of an endpoint.
func (r *renderer) floatingElems(e *policy.Endpoint, add func(set, key, target string)) {
	if r.opts.Floating == NoFloating {
		return
	}
	self := map[string]bool{}
	for _, n := range e.FloatingIPs(r.opts.Floating == AllFloating) {
		f, in, out := familyOf(n.Internal), string(n.Internal.AsSlice()), string(n.External.AsSlice())
		add(f.floating(), out, in)
		if !self[in] { // by the first of several
			self[in] = true
			add(f.floatingSelf(), in+in, out)
		}
	}
}
