// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/muslin-net/muslin/internal/policy"
)

// lookRule is a rule that asks one set, or none.
type lookRule struct {
	action policy.Action
	set    int // 0 or 1; -1 for a rule that matches all
	not    bool
}

// inSets tells of which of the two sets an address is a member.
type inSets [2]bool

// lookWalk is two tiers, of which the second is asked by who passes. Whoever meets the end of one is denied.
type lookWalk [2][]lookRule

// allows walks, and meets a change of elements from was to now before the lookup cut.
func (w lookWalk) allows(was, now inSets, cut int) bool {
	n := 0
	for _, tier := range w {
		passed := false
		for _, r := range tier {
			matches := true
			if r.set >= 0 {
				in := was
				if n >= cut {
					in = now
				}
				n++
				matches = in[r.set] != r.not
			}
			if !matches {
				continue
			}
			if r.action != policy.Pass {
				return r.action == policy.Allow
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

// uniform tells whether a change only opens, or only closes: each rule that it concerns
// allows or denies, and does so more, or less, than before.
func (w lookWalk) uniform(was, now inSets) bool {
	var does [2]bool
	for _, tier := range w {
		for _, r := range tier {
			if r.set < 0 || was[r.set] == now[r.set] {
				continue
			}
			if r.action == policy.Pass {
				return false
			}
			matches := now[r.set] != r.not
			does[either(matches == (r.action == policy.Allow), 0, 1)] = true
		}
	}
	return !does[0] || !does[1]
}

// policies are what the compiler would see, of either tier.
func (w lookWalk) policies() (out [2]policy.Policy) {
	for i, tier := range w {
		for _, r := range tier {
			ru := policy.Rule{Action: r.action}
			switch id := policy.SetID(fmt.Sprint(r.set)); {
			case r.set < 0:
			case r.not:
				ru.Src.NotSets = []policy.SetID{id}
			default:
				ru.Src.Sets = []policy.SetID{id}
			}
			out[i].Ingress = append(out[i].Ingress, ru)
		}
	}
	return out
}

// wrong tells whether some packet that is on its way during the steps meets what neither the first nor
// the last model says. A packet meets one step at most: there is a millisecond between two.
func (w lookWalk) wrong(steps ...inSets) bool {
	first, last := steps[0], steps[len(steps)-1]
	want := w.allows(first, first, 0)
	if w.allows(last, last, 0) != want {
		return false // either will do
	}
	for i, now := range steps[1:] {
		for cut := range 6 {
			if w.allows(steps[i], now, cut) != want {
				return true
			}
		}
	}
	return false
}

func (w lookWalk) rules(ps [2]policy.Policy) iter.Seq[*policy.Rule] {
	return func(yield func(*policy.Rule) bool) {
		for i := range ps {
			for j := range ps[i].Ingress {
				if !yield(&ps[i].Ingress[j]) {
					return
				}
			}
		}
	}
}

// denied tells whether denials ask a set.
func (w lookWalk) denied(set int) bool {
	return slices.ContainsFunc(slices.Concat(w[0], w[1]), func(r lookRule) bool { return r.set == set && r.action == policy.Deny })
}

// TestLookupsOnTheWay plays all walks of up to three rules in a tier and two in the next against all changes
// of the two sets that they ask: what only opens or only closes is safe as one step, and a move between sets
// that are asked in denials or in permissions alone is safe in two, as is to come into both, in the order in which they are asked, and
// to leave them in the other. The others are not.
func TestLookupsOnTheWay(t *testing.T) {
	var rules []lookRule
	for _, a := range []policy.Action{policy.Allow, policy.Deny, policy.Pass} {
		rules = append(rules, lookRule{a, -1, false})
		for set := range 2 {
			rules = append(rules, lookRule{a, set, false}, lookRule{a, set, true})
		}
	}
	lists := [][]lookRule{{}}
	upTo := []int{} // how many lists have at most so many rules
	for n, from := 0, 0; n <= 3; n++ {
		end := len(lists)
		upTo = append(upTo, end)
		for _, l := range lists[from:end] {
			for _, r := range rules {
				lists = append(lists, append(l[:len(l):len(l)], r))
			}
		}
		from = end
	}
	bits := []inSets{{}, {true, false}, {false, true}, {true, true}}
	var safe, unsafe, moved, ordered int
	for _, first := range lists[:upTo[3]] {
		for _, second := range lists[:upTo[2]] {
			w := lookWalk{first, second}
			for _, was := range bits {
				for _, now := range bits {
					wrong := w.wrong(was, now)
					switch {
					case !w.uniform(was, now):
						if wrong {
							unsafe++
						}
					case wrong:
						t.Fatalf("%v, from %v to %v: it only opens or only closes, and goes the wrong way", w, was, now)
					default:
						safe++
					}
				}
			}
			none, one, two, both := bits[0], bits[1], bits[2], bits[3]
			moves := w.uniform(one, both) && w.uniform(both, two)
			orders := w.uniform(none, one) && w.uniform(none, two) && !w.uniform(none, both)
			if !moves && !orders {
				continue
			}
			ps := w.policies()
			if len(mixes(&ps[0], policy.Ingress))+len(mixes(&ps[1], policy.Ingress)) > 0 {
				continue
			}
			if moves {
				moved++
				if w.wrong(one, both, two) {
					t.Fatalf("%v: a move goes the wrong way", w)
				}
			}
			if orders {
				can := whoIsFirst(w.rules(ps), func(policy.SetID) bool { return true })
				for by, is := range can {
					first := either(w.denied(0) == (by == 1), two, one)
					if is {
						ordered++
						if w.wrong(none, first, both) || w.wrong(both, first, none) {
							t.Fatalf("%v: two steps go the wrong way", w)
						}
					}
				}
			}
		}
	}
	if safe == 0 || unsafe == 0 || moved == 0 || ordered == 0 {
		t.Errorf("%d safe, %d not, %d moves, %d in order", safe, unsafe, moved, ordered)
	}
	twice := lookWalk{{{policy.Deny, 0, false}, {policy.Allow, 0, false}}}
	if !twice.wrong(bits[0], bits[1]) {
		t.Error("a set that a denial and a permission ask is taken for safe")
	}
	t.Logf("%d changes only open or only close, %d of the others go the wrong way; %d moves, %d that come or go in order", safe, unsafe, moved, ordered)
}
