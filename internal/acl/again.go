// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
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
// or the operator's options have changed, has the chain, too.
//
// It is not there at other times: the kernel would validate all of egress for that
// hook as well, at each change of a rule. For the same reason a transaction that
// only changes elements goes without.
const chainAgain = "again"

func (r *renderer) again() *chain {
	c := r.base(chainAgain, chainEgressWl, unix.NF_INET_FORWARD, priorityFilter+1, expr.MetaKeyIIFNAME, r.outAccepted)
	c.comment = "egress, for packets on their way"
	return c
}

// bothWays tells whether egress and ingress change, and rules are written, or lists of
// services in both. Members and other policies for an endpoint that is there count as
// either.
func (c *change) bothWays() bool {
	elements := len(c.memberAdd)+len(c.memberDel)+len(c.elemAdd)+len(c.elemDel) > 0
	return c.dirs[0] && c.dirs[1] || c.lists[0] && c.lists[1] || (c.dirs[0] || c.dirs[1]) && elements ||
		len(c.entryAdd) > 0 && has(c.elemDel, setPolicy)
}
