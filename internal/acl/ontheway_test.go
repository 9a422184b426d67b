// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/muslin-net/muslin/internal/policy"
)

// onTheWay is what a packet from a to b meets: rules of two policies in two tiers, in each direction,
// with the names under which sets are asked, and the elements of these.
type onTheWay struct {
	rules [2][2][]policy.Rule // by direction and tier
	forms map[setFamily]form
	has   map[string]bool // elements that are there, by key
	again bool            // egress is asked again behind ingress
}

var wayEnds = [2]string{string(addrOf(4, "a").AsSlice()), string(addrOf(4, "b").AsSlice())} // source and destination

// judge walks a direction by the rules of one state. has tells of an element whether it is there as it is looked up.
func (w *onTheWay) judge(d policy.Direction, has func(key string) bool) bool {
	for _, tier := range w.rules[d] {
		passed := false
		for _, ru := range tier {
			matches := true
			for i, m := range []*policy.Match{&ru.Src, &ru.Dst} {
				for not, list := range map[bool][]policy.SetID{false: m.Sets, true: m.NotSets} {
					for _, id := range list {
						s := memberSet(id, ipv4, w.forms[setFamily{id, 4}], denies(&ru) != not)
						matches = matches && has(s.part+wayEnds[i]) != not
					}
				}
			}
			if !matches {
				continue
			}
			if ru.Action != policy.Pass {
				return ru.Action == policy.Allow
			}
			passed = true
			break
		}
		if !passed {
			return false
		}
	}
	return false
}

// allows sends a packet that meets the change from one state to the next before its step cut: to enter
// a hook is one, and to look an element up.
func (w *onTheWay) allows(next *onTheWay, cut int) bool {
	n := 0
	now := func() *onTheWay {
		n++
		return either(n > cut, w, next)
	}
	has := func(key string) bool { return now().has[key] }
	first := now()
	if !first.judge(policy.Egress, has) || !now().judge(policy.Ingress, has) {
		return false
	}
	if again := now(); again.again && again != first {
		return again.judge(policy.Egress, has)
	}
	return true
}

// wrong tells whether a packet that meets one of the changes of states goes another way than in the first
// and in the last, where these agree.
func wrongOnTheWay(states []*onTheWay) bool {
	first, last := states[0], states[len(states)-1]
	want := first.allows(first, 0)
	if last.allows(last, 0) != want {
		return false
	}
	for i, next := range states[1:] {
		for cut := range 16 {
			if states[i].allows(next, cut) != want {
				return true
			}
		}
	}
	return false
}

// states plays the transactions of a change.
func (w *onTheWay) states(c *change, v policy.View, rules [2][2][]policy.Rule, forms map[setFamily]form) []*onTheWay {
	step := func(w *onTheWay, adds bool, list []setElem) {
		for _, e := range list {
			if adds {
				w.has[e.key] = true
			} else {
				delete(w.has, e.key)
			}
		}
	}
	next := func(w *onTheWay) *onTheWay {
		copied := *w
		copied.has = maps.Clone(w.has)
		return &copied
	}
	first := next(w)
	step(first, false, c.earlyDel)
	step(first, true, c.early)
	then := next(first)
	then.rules, then.forms, then.again = rules, forms, c.bothWays()
	for _, s := range c.newSets {
		step(then, true, inSet(s.in, s.content(v, nil)))
	}
	step(then, false, c.memberDel)
	step(then, true, c.memberAdd)
	last := next(then)
	step(last, false, c.gone)
	last.again = false
	return []*onTheWay{w, first, then, last}
}

// TestOnTheWay plays what stage makes of changes of random policies and of who is in their sets, both ends of
// a packet: wherever it is at a transaction, it goes the way of before or of after.
func TestOnTheWay(t *testing.T) {
	const seed = 1
	rnd := rand.New(rand.NewPCG(seed, 0))
	ids := []policy.SetID{"x", "y"}
	draw := func() (tiers [2][]policy.Rule) {
		for i := range tiers {
			for range rnd.IntN(4) {
				ru := policy.Rule{Action: []policy.Action{policy.Allow, policy.Deny, policy.Deny, policy.Allow, policy.Pass}[rnd.IntN(5)]}
				for _, m := range []*policy.Match{&ru.Src, &ru.Dst} {
					switch id := ids[rnd.IntN(2)]; rnd.IntN(5) {
					case 0, 1:
						m.Sets = []policy.SetID{id}
					case 2:
						m.NotSets = []policy.SetID{id}
					}
				}
				tiers[i] = append(tiers[i], ru)
			}
		}
		return tiers
	}
	tally := map[string]int{}
	for range 400 {
		v, st := newView(), newState()
		var rules [2][2][]policy.Rule
		put := func(d policy.Direction) {
			for i, l := range rules[d] {
				p := gnp(dirWord(d)+string('0'+rune(i)), nil, nil)
				*either(d == policy.Ingress, &p.Egress, &p.Ingress) = slices.Clone(l)
				p.HasPass[d] = hasPass(l)
				v.policy(p)
			}
		}
		members := func(bits int) {
			for i, id := range ids {
				list := netMembers("10.65.0.9/32")
				for j, a := range []string{"10.65.0.1/32", "10.65.0.2/32"} {
					if bits>>(2*i+j)&1 > 0 {
						list = append(list, netMembers(a)...)
					}
				}
				v.set(id, policy.SetNets, list...)
			}
		}
		bits := rnd.IntN(16)
		members(bits)
		e := &policy.Effective{ID: "ontheontheontheo"}
		for _, d := range directions {
			rules[d] = draw()
			put(d)
			for i := range 2 {
				e.Tiers[d] = append(e.Tiers[d], tier(string('0'+rune(i)), false, v.policies[policy.Key{Kind: "GlobalNetworkPolicy", Name: dirWord(d) + string('0'+rune(i))}]))
			}
		}
		v.effective(e)
		v.flush()
		ch := everything(v)
		c := st.stage(&renderer{}, v, &ch)
		w := &onTheWay{has: map[string]bool{}}
		all := w.states(c, v, rules, maps.Clone(st.forms))
		w = all[3]
		for range 10 {
			now := bits
			for now == bits {
				now = either(rnd.IntN(2) == 0, rnd.IntN(16), bits^1<<rnd.IntN(4))
			}
			bits = now
			members(bits)
			if rnd.IntN(4) == 0 {
				d := directions[rnd.IntN(2)]
				rules[d] = draw()
				put(d)
			}
			for id, sc := range v.ch.Sets {
				if len(sc.Added)+len(sc.Removed) == 0 {
					delete(v.ch.Sets, id)
				}
			}
			ch := v.flush()
			torn := (&stager{state: st}).torn(&ch)
			c := st.stage(&renderer{}, v, &ch)
			all := w.states(c, v, rules, maps.Clone(st.forms))
			if wrongOnTheWay(all) {
				t.Fatalf("a packet goes neither the way of before nor that of after, sets replaced %v: %v: %+v", torn, ch.Sets, rules)
			}
			tally[either(torn, "in place", "anew")]++
			w = all[3]
			for id := range v.kinds { // the elements are those of the model
				for _, denial := range []bool{false, true} {
					s := memberSet(id, ipv4, w.forms[setFamily{id, 4}], denial)
					if st.sets[s.name] == nil {
						continue
					}
					for _, m := range v.members[id] {
						if key := s.part + string(m.Net.Addr().AsSlice()); !w.has[key] {
							t.Fatalf("%v is not in %s", m, s.name)
						}
					}
				}
			}
		}
	}
	if t.Log(tally); len(tally) < 2 {
		t.Error("all changes are alike")
	}
}
