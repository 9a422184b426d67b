// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"iter"
	"slices"

	"github.com/muslin-net/muslin/internal/policy"
)

// A packet may ask one set before a transaction takes effect and another one after
// it. If an address comes into what a denial asks and into what a permission below
// asks, it could meet the one as it was and the other as it is, and pass although
// neither model lets it. So it comes first into what is asked first, and leaves that
// last: in between it is as before, or as after. Each of the two steps only opens, or only closes:
// whatever a packet sees of one, it is judged as before it or as after it.
// TestLookupsOnTheWay plays that.
//
// Where there is no such order (torn) members change by rules: a walk has the rules of one
// transaction from its begin to its end. The sets are replaced by others, under their other name,
// with the members of after; the same transaction has all who ask them ask those; and the old ones go with
// the next (leftovers). So rules of before find what they ask as it was, and rules of after as
// it is. Egress and ingress are two walks: if both have changed, again.go sees to that. It takes as many
// elements as there are members, and the kernel validates all rules. TestOnTheWay plays both ways.

// torn tells whether what changes could be seen in part, whatever the order of its
// elements. What only opens, or only closes, cannot: a packet that meets some of it is judged as before
// it or as after it. Nor can what one address is in if there is an order of two steps of that kind.
func (g *stager) torn(ch *policy.Changes) bool {
	var adds, dels [2]bool // by who asks
	mixes, changes := false, false
	for id, sc := range ch.Sets {
		for _, name := range g.byID[id] {
			st := g.sets[name]
			of := func(m policy.Member) bool { return familyOf(m.Net.Addr()) == st.set.fam }
			add, del := slices.ContainsFunc(sc.Added, of), slices.ContainsFunc(sc.Removed, of)
			by := askedBy(st.set.denial)
			adds[by], dels[by] = adds[by] || add, dels[by] || del
			changes, mixes = changes || add || del, mixes || g.mixing[id] > 0
		}
	}
	if !changes {
		return false
	}
	if len(ch.Hosts) > 0 || g.rewrites(ch) {
		return true // rules of before would ask members of after
	}
	opens, closes := adds[0] || dels[1], dels[0] || adds[1]
	for id, e := range ch.Endpoints {
		opens, closes = opens || e != nil, closes || g.endpoints[id] != nil
	}
	switch {
	case !(opens && closes) && !(mixes && g.passes(ch)), g.oneAddress(ch) && g.askedOnce(ch):
		return false
	case !g.oneMoves(ch):
		return true
	}
	both := func(l [2]bool) bool { return l[0] && l[1] }
	comes, goes := adds != [2]bool{}, dels != [2]bool{}
	if comes && goes {
		return both(adds) || both(dels)
	}
	_, ok := g.askedFirst(ch)
	return !ok
}

// passes tells whether a rule that passes asks a set that changes: who comes into that may be let in
// by it, or not.
func (g *stager) passes(ch *policy.Changes) bool {
	for id := range g.asking(ch) {
		for _, d := range directions {
			for ru := range g.rulesIn(g.effectives[id].effective, d) {
				if ru.Action == policy.Pass && asks(&ru.Src, ch)+asks(&ru.Dst, ch) > 0 {
					return true
				}
			}
		}
	}
	return false
}

// askedOnce tells whether of all rules that a packet may meet one at most asks for what changes.
func (g *stager) askedOnce(ch *policy.Changes) bool {
	for id := range g.asking(ch) {
		e := g.effectives[id].effective
		for _, d := range directions {
			n := 0
			for ru := range g.rulesIn(e, d) {
				own := asks(ownEnd(ru, d), ch) // the policy of the other end may ask for it, too
				n += asks(&ru.Src, ch) + asks(&ru.Dst, ch)
				if n > 1 || own > 0 || n > 0 && e.Stage != policy.StageWorkload {
					return false
				}
			}
		}
	}
	return true
}

// asks counts the sets that change which one end of a rule asks.
func asks(m *policy.Match, ch *policy.Changes) (n int) {
	for _, list := range [][]policy.SetID{m.Sets, m.NotSets, m.PortSets, m.NotPortSets} {
		n += count(list, func(id policy.SetID) bool { return ch.Sets[id] != nil })
	}
	return n
}

// ownEnd is what a rule says of the end whose policy it is.
func ownEnd(ru *policy.Rule, d policy.Direction) *policy.Match {
	if d == policy.Ingress {
		return &ru.Dst
	}
	return &ru.Src
}

// rewrites tells whether rules change of policies that are in use.
func (g *stager) rewrites(ch *policy.Changes) bool {
	for key, p := range ch.Policies {
		if old := g.policies[key]; old != nil && p != nil && !sameRules(old, p) {
			return true
		}
	}
	return false
}

// askedBy is the place of what denials ask, or permissions.
func askedBy(denial bool) int {
	if denial {
		return 1
	}
	return 0
}

// inTwoSteps divides elements that come or go, by what permissions and denials ask, into
// those of the change and those before it, if that is needed, and if there is such an order.
func (g *stager) inTwoSteps(ch *policy.Changes, dels, adds *[2][]setElem) bool {
	comes, goes := len(adds[0])+len(adds[1]) > 0, len(dels[0])+len(dels[1]) > 0
	both := func(l *[2][]setElem) bool { return len(l[0]) > 0 && len(l[1]) > 0 }
	if comes && goes || !both(adds) && !both(dels) || !g.oneMoves(ch) {
		return false
	}
	first, ok := g.askedFirst(ch)
	if !ok {
		return false
	}
	g.out.early, g.out.memberAdd = adds[first], adds[1-first]
	g.out.earlyDel, g.out.memberDel = dels[1-first], dels[first]
	g.sortMembers()
	return true
}

// askedFirst tells whether permissions (0) or denials (1) are the first to ask the sets that
// change, in all policies that ask them, one after the other as endpoints have them. Not ok if
// some do it otherwise, nor if a policy of a host asks: that and a workload's must both allow a packet,
// and the one could open before the other closes.
func (g *stager) askedFirst(ch *policy.Changes) (first int, ok bool) {
	can := [2]bool{true, true}
	for id := range g.asking(ch) {
		e := g.effectives[id].effective
		if e == nil || e.Stage != policy.StageWorkload {
			return 0, false
		}
		for _, d := range directions {
			for by, is := range whoIsFirst(g.rulesIn(e, d), func(id policy.SetID) bool { return ch.Sets[id] != nil }) {
				can[by] = can[by] && is
			}
		}
		if can == [2]bool{} {
			return 0, false
		}
	}
	if can[1] {
		return 1, true
	}
	return 0, can[0]
}

// asking gives the effective policies in which rules ask a set that changes.
func (g *stager) asking(ch *policy.Changes) iter.Seq[string] {
	return func(yield func(string) bool) {
		given := map[string]bool{}
		give := func(id string) bool {
			if given[id] {
				return true
			}
			given[id] = true
			return yield(id)
		}
		for _, c := range g.chains {
			if !g.concerned(c, ch) {
				continue
			}
			if c.eff != "" && !give(c.eff) {
				return
			}
			for id := range g.listedBy[c.pol.key] {
				if !give(id) {
					return
				}
			}
		}
	}
}

// concerned tells whether a chain asks a set that changes.
func (g *stager) concerned(c *chainState, ch *policy.Changes) bool {
	return slices.ContainsFunc(c.sets, func(name string) bool {
		st := g.sets[name]
		return st != nil && st.set.id != "" && ch.Sets[st.set.id] != nil
	})
}

// rulesIn gives the rules that decide in an effective policy, in the order in which they are asked.
func (g *stager) rulesIn(e *policy.Effective, d policy.Direction) iter.Seq[*policy.Rule] {
	return func(yield func(*policy.Rule) bool) {
		var list []*policy.Policy
		for _, t := range e.Tiers[d] {
			list = append(list, t.Policies...)
		}
		for _, p := range append(list, e.Profiles...) {
			if p = g.policies[p.Key]; p == nil || p.Staged {
				continue
			}
			rules := rulesOf(p, d)
			for i := range rules {
				if rules[i].Action != policy.Log && !yield(&rules[i]) {
					return
				}
			}
		}
	}
}

// whoIsFirst tells of permissions, and of denials, whether all of them come before the others, among
// the rules that ask a set that changes.
func whoIsFirst(rules iter.Seq[*policy.Rule], changes func(policy.SetID) bool) (can [2]bool) {
	var seen [2]bool
	can = [2]bool{true, true}
	for ru := range rules {
		if slices.ContainsFunc(ru.Src.Sets, changes) || slices.ContainsFunc(ru.Dst.Sets, changes) {
			by := askedBy(denies(ru))
			can[by] = can[by] && !seen[1-by]
			seen[by] = true
		}
	}
	return can
}

// onlyLists tells whether all that changes is lists of services of one policy,
// several of them, whose rules all do the same: the same is true of a service that
// moves among these. Between the two directions it is not: both must allow a packet.
func (g *stager) onlyLists(ch *policy.Changes) bool {
	if len(ch.Policies) != 1 || g.out.lists[0] && g.out.lists[1] || len(ch.Effectives)+len(ch.Endpoints)+len(ch.Hosts)+len(ch.Sets)+len(g.out.chains)+len(g.out.goneChains) > 0 {
		return false
	}
	first := g.out.memberAdd[0].key
	return slices.ContainsFunc(slices.Concat(g.out.memberAdd, g.out.memberDel), func(e setElem) bool { return e.key[:16] != first[:16] })
}

// oneMoves tells whether all that changes is the sets that one address of each
// family is in. A packet may ask one set before a transaction takes effect and
// another one after it: it would find what moves in neither. So that goes into
// the new sets before it leaves the old ones. In between it is in both, and what
// becomes of a packet must be what becomes of it before or after: no rule may mix
// the two.
func (g *stager) oneMoves(ch *policy.Changes) bool {
	for id := range ch.Sets {
		if g.mixing[id] > 0 {
			return false
		}
	}
	return g.oneAddress(ch)
}

// oneAddress tells whether all that changes is the sets that one address of each family is in.
func (g *stager) oneAddress(ch *policy.Changes) bool {
	if len(ch.Policies)+len(ch.Effectives)+len(ch.Endpoints)+len(ch.Hosts) > 0 {
		return false
	}
	moved := map[bool]policy.Member{}
	for _, sc := range ch.Sets {
		for _, m := range slices.Concat(sc.Added, sc.Removed) {
			v4 := m.Net.Addr().Is4()
			if other, ok := moved[v4]; sc.Kind != policy.SetNets || ok && other != m {
				return false
			}
			moved[v4] = m
		}
	}
	return true
}

// mixes lists the sets in the rules of a policy's direction that mix. Of an address that
// is in the sets of before and of after, the first rule that matches is the first one
// before or after, and says what becomes of the packet. Unless it passes: then a set of
// before may lead to the next tier, and one of after through it. Or unless a rule is for
// who is not in a set: it matches before or after, and not in between. Or unless a
// rule asks for the end whose policy it is: the policy of the other end may ask for it,
// too, and both must allow the packet.
func mixes(p *policy.Policy, d policy.Direction) (out []policy.SetID) {
	if p.Staged {
		return nil
	}
	for _, ru := range rulesOf(p, d) {
		own := ownEnd(&ru, d)
		for _, m := range []*policy.Match{&ru.Src, &ru.Dst} {
			if ru.Action == policy.Pass || len(m.NotSets) > 0 || m == own {
				out = append(append(out, m.Sets...), m.NotSets...)
			}
		}
	}
	return out
}
