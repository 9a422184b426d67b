// SPDX-License-Identifier: Apache-2.0

package selector

import "slices"

// Restriction is a condition on one label that everything selected meets: the
// label is present and, unless Values is nil, has one of Values.
type Restriction struct {
	// Values is sorted, without repeats. Nil means any value; empty but not
	// nil means that the selector matches nothing.
	Values []string
}

// Allows tells whether a label that is present with this value may be selected.
func (r Restriction) Allows(value string) bool {
	if r.Values == nil {
		return true
	}
	_, ok := slices.BinarySearch(r.Values, value)
	return ok
}

// Restrictions returns, by label, conditions that all hold whenever the
// selector matches. It is conservative: labels that meet them need not match,
// and an empty map says nothing. An index files a selector under the label
// whose restriction is tightest. The caller owns the result.
func (s *Selector) Restrictions() map[string]Restriction {
	r, _ := s.root.restrict(false)
	if r == nil {
		r = map[string]Restriction{}
	}
	return r
}

// restrict returns the restrictions of n, or of its negation, and whether it
// can be seen never to match.
func (n *node) restrict(negated bool) (r map[string]Restriction, never bool) {
	switch n.op {
	case opAll, opGlobal:
		return nil, negated
	case opNot:
		return n.kids[0].restrict(!negated)
	case opAnd, opOr:
		// De Morgan: a negated conjunction is a disjunction of negations.
		if (n.op == opAnd) != negated {
			return n.restrictAll(negated)
		}
		return n.restrictAny(negated)
	case opHas, opContains, opStartsWith, opEndsWith:
		if negated {
			return nil, false
		}
		return map[string]Restriction{n.label: {}}, false
	case opEqual, opNotEqual:
		if (n.op == opEqual) == negated {
			return nil, false
		}
		return map[string]Restriction{n.label: {Values: []string{n.value}}}, false
	case opIn, opNotIn:
		if (n.op == opIn) == negated {
			return nil, false
		}
		values := append([]string{}, n.values...)
		return map[string]Restriction{n.label: {Values: values}}, len(values) == 0
	}
	return nil, false
}

// restrictAll is for kids that must all hold: what any one demands is demanded.
func (n *node) restrictAll(negated bool) (map[string]Restriction, bool) {
	all, never := map[string]Restriction{}, false
	for i := range n.kids {
		r, kidNever := n.kids[i].restrict(negated)
		never = never || kidNever
		for label, b := range r {
			if a, ok := all[label]; ok {
				b = a.both(b)
				never = never || b.Values != nil && len(b.Values) == 0
			}
			all[label] = b
		}
	}
	return all, never
}

// restrictAny is for kids of which one must hold: only what every kid that can
// match demands is demanded. If none can, what the last one demands is kept as
// the proof.
func (n *node) restrictAny(negated bool) (map[string]Restriction, bool) {
	var common, proof map[string]Restriction
	never := true
	for i := range n.kids {
		r, kidNever := n.kids[i].restrict(negated)
		switch {
		case kidNever:
			proof = r
			continue
		case never:
			common, never = r, false
			continue
		}
		for label, a := range common {
			if b, ok := r[label]; ok {
				common[label] = a.either(b)
			} else {
				delete(common, label)
			}
		}
	}
	if never {
		return proof, true
	}
	return common, false
}

func (r Restriction) both(o Restriction) Restriction {
	switch {
	case r.Values == nil:
		return o
	case o.Values == nil:
		return r
	}
	values := []string{}
	for _, v := range r.Values {
		if o.Allows(v) {
			values = append(values, v)
		}
	}
	return Restriction{Values: values}
}

func (r Restriction) either(o Restriction) Restriction {
	if r.Values == nil || o.Values == nil {
		return Restriction{}
	}
	values := slices.Concat(r.Values, o.Values)
	slices.Sort(values)
	return Restriction{Values: slices.Compact(values)}
}
