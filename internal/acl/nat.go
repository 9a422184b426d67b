// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/policy"
)

// chainNATOutgoing stands where sources are translated, after all policy. The networks
// are in sets: pools and servers come and go, and of those there may be thousands.
const (
	chainNATOutgoing = "nat-outgoing"

	setNATFrom   = "nat-from"   // with the digit of the family
	setNATSpared = "nat-spared" // the same
)

// nets are the networks of a family, none if nothing of it is translated.
func (n *NAT) nets(f *family) (from, spared []netip.Prefix) {
	from, spared = mergeNets(n.Outgoing, f), mergeNets(n.Spared, f)
	if len(from) == 0 || len(spared) > 0 && spared[0].Bits() == 0 {
		return nil, nil
	}
	return from, spared
}

func natSet(name string, f *family) *set {
	return &set{name: fmt.Sprintf("%s%d", name, f.v), typ: addrSet(f), static: true, comment: map[string]string{
		setNATFrom: "pools whose packets take another address", setNATSpared: "where they keep theirs"}[name]}
}

// natSets hold what natOutgoing asks for.
func (r *renderer) natSets() (sets []*set) {
	for _, f := range []*family{ipv4, ipv6} {
		from, spared := r.opts.NAT.nets(f)
		for name, list := range map[string][]netip.Prefix{setNATFrom: from, setNATSpared: spared} {
			s := natSet(name, f)
			for _, p := range list {
				s.elems = append(s.elems, interval(p, "")...)
			}
			if len(list) > 0 {
				sets = append(sets, s)
			}
		}
	}
	slices.SortFunc(sets, func(a, b *set) int { return strings.Compare(a.name, b.name) })
	return sets
}

// prioritySrcNAT is NF_IP_PRI_NAT_SRC of linux/netfilter_ipv4.h.
const prioritySrcNAT = 100

// natOutgoing renders the chain, nil if there is nothing to translate. The ports
// are random, so that many hosts behind one address do not guess each other's. What a
// process of this host sends to others of it stays the process's: by its source it is known
// when it comes in by lo.
func (r *renderer) natOutgoing() *chain {
	c := &chain{name: chainNATOutgoing, hook: &hook{num: unix.NF_INET_POST_ROUTING, priority: prioritySrcNAT, nat: true}}
	var stays []*rule
	if r.opts.Processes {
		stays = append(stays, r.rule().on(expr.MetaKeyOIFNAME, policy.Loopback).accept().done("does not leave this host"))
	}
	for _, f := range []*family{ipv4, ipv6} {
		from, to := r.opts.NAT.nets(f)
		if len(from) == 0 {
			continue
		}
		b := r.rule().is(f).addrIn(f, source, natSet(setNATFrom, f), false)
		if len(to) > 0 {
			b.addrIn(f, destination, natSet(setNATSpared, f), true)
		}
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
	c.rules = slices.Concat(stays, c.rules)
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
