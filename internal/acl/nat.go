// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
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
		c.add(b.masquerade().done("leaves the pools"))
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

// masquerade gives the packet the address of the interface by which it leaves.
func (r *rb) masquerade() *rb {
	const fullyRandom = 1 << 4 // NF_NAT_RANGE_PROTO_RANDOM_FULLY
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
