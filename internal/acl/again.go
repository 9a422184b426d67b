// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/policy"
)

// A packet from a workload is judged in two hooks: egress as it comes in, ingress
// as it is forwarded. If a transaction takes effect in between, it is judged by
// egress of before and by ingress of after: where the one closes what the other
// opens it would pass, although neither model lets it. So a transaction that
// changes both has a base chain behind ingress, for as long as packets of before
// are on their way, in which egress is asked again. What egress has accepted in the
// present epoch is told by its mark, so that only packets on their way walk again;
// those that both models allow pass. The chain must be behind ingress: whoever has
// met ingress of after meets it, too.
//
// A comparison that finds rules of both to write, as it does when a change was refused
// or options have changed that are in every policy, has the chain, too.
//
// It is not there at other times: the kernel would validate all of egress for that
// hook as well, at each change of a rule. For the same reason a transaction that
// only changes elements goes without.
//
// With processes of this host there are two more ways with two hooks on them, and a
// chain behind ingress on each: to a process, from a workload or from another process, and
// from a process to a workload.
const (
	chainAgain    = "again"
	chainAgainIn  = "again-in"  // for this host
	chainAgainOut = "again-out" // from this host
)

func (r *renderer) again() []*chain {
	chains := []*chain{r.base(chainAgain, chainEgressWl, unix.NF_INET_FORWARD, priorityFilter+1, expr.MetaKeyIIFNAME, r.outAccepted)}
	if r.opts.Processes {
		chains = append(chains, r.againIn(), r.againOut())
	}
	for _, c := range chains {
		c.comment = "egress, for packets on their way"
	}
	return chains
}

func (r *renderer) againIn() *chain {
	c := &chain{name: chainAgainIn, hook: &hook{num: unix.NF_INET_LOCAL_IN, priority: priorityFilter + 1}}
	lo := func(f *family) *rb { return r.rule().on(expr.MetaKeyIIFNAME, policy.Loopback).is(f) }
	for _, f := range families {
		c.add(lo(f).processSelf(f).accept().done("itself"))
		c.add(lo(f).process(f, source, false).process(f, destination, false).goTo(chainProcessEgress).done(""))
	}
	r.outAccepted(c)
	for _, p := range r.opts.Prefixes {
		for _, f := range families {
			c.add(r.rule().prefixed(expr.MetaKeyIIFNAME, p).is(f).process(f, destination, false).goTo(chainEgressWl).done(""))
		}
	}
	c.add(r.rule().accept().done("not for a process"))
	return c
}

func (r *renderer) againOut() *chain {
	c := &chain{name: chainAgainOut, hook: &hook{num: unix.NF_INET_POST_ROUTING, priority: priorityMangle + 2}} // see process-on
	c.add(r.rule().forwarded().accept().done("not from this host"))
	for _, p := range r.opts.Prefixes {
		for _, f := range families {
			c.add(r.rule().prefixed(expr.MetaKeyOIFNAME, p).is(f).process(f, source, false).goTo(chainProcessEgress).done(""))
		}
	}
	c.add(r.rule().accept().done("not from a process to a workload"))
	return c
}

// bothWays tells whether egress and ingress change, and rules are written, or lists of
// services in both. Members and other policies for an endpoint that is there count as
// either.
func (c *change) bothWays() bool {
	elements := len(c.memberAdd)+len(c.memberDel)+len(c.elemAdd)+len(c.elemDel) > 0
	return c.dirs[0] && c.dirs[1] || c.lists[0] && c.lists[1] || (c.dirs[0] || c.dirs[1]) && elements ||
		len(c.entryAdd) > 0 && slices.ContainsFunc(c.elemDel, func(e setElem) bool { return leadsIn(e.set) || e.set == setPolicy })
}

// endAgain removes the chains that packets on their way are asked in again.
func (t *tx) endAgain(chains []*chain) {
	for _, c := range chains {
		t.dropChain(c.name)
	}
}
