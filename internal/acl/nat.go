// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// chainNATOutgoing stands where sources are translated, after all policy.
const chainNATOutgoing = "nat-outgoing"

// prioritySrcNAT is NF_IP_PRI_NAT_SRC of linux/netfilter_ipv4.h.
const prioritySrcNAT = 100

// natOutgoing renders the chain, nil if there is nothing to translate. The ports
// are random, so that many hosts behind one address do not guess each other's.
func (r *renderer) natOutgoing() *chain {
	c := &chain{name: chainNATOutgoing, hook: &hook{num: unix.NF_INET_POST_ROUTING, priority: prioritySrcNAT, nat: true}}
	for _, f := range []*family{ipv4, ipv6} {
		from := mergeNets(r.opts.NAT.Outgoing, f)
		to := mergeNets(r.opts.NAT.Spared, f)
		if len(from) == 0 || len(to) > 0 && to[0].Bits() == 0 {
			continue
		}
		b := r.rule().is(f)
		r.nets(c, b, source, from, f, false)
		r.nets(c, b, destination, to, f, true)
		if a := r.opts.NAT.Address; a.IsValid() && familyOf(a) == f {
			b.snat(a)
		} else {
			b.masquerade()
		}
		c.add(b.done("leaves the pools"))
	}
	if len(c.rules) == 0 {
		return nil
	}
	return c
}

// at tells whether two base chains are in the same place.
func (h hook) at(o *hook) bool {
	return h.num == o.num && h.priority == o.priority && h.device == o.device
}

const fullyRandom = 1 << 4 // NF_NAT_RANGE_PROTO_RANDOM_FULLY

// snat gives the packet an address.
func (r *rb) snat(a netip.Addr) *rb {
	r.immediate(reg1, a.AsSlice())
	r.nat(familyOf(a), unix.NFT_NAT_SNAT, fullyRandom)
	return r.say("snat to %s fully-random", a)
}

// masquerade gives the packet the address of the interface by which it leaves.
func (r *rb) masquerade() *rb {
	r.expr("masq", func(b *buf) { b.u32(unix.NFTA_MASQ_FLAGS, fullyRandom) })
	return r.say("masquerade fully-random")
}

// takeNAT brings the chain that translates sources up to date. Its content follows
// from options alone, with which a state begins anew.
func (g *stager) takeNAT() {
	if c := g.r.natOutgoing(); c != nil {
		g.put(c)
	}
}
