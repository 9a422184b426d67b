// SPDX-License-Identifier: Apache-2.0

package selector

import "slices"

// All returns the selector all().
func All() *Selector { return &Selector{} }

// Global returns the selector global(), which matches everything until
// ReplaceAll gives it its meaning.
func Global() *Selector { return &Selector{node{op: opGlobal}} }

// Has returns has(label).
func Has(label string) *Selector { return &Selector{node{op: opHas, label: label}} }

// Equal returns label == "value".
func Equal(label, value string) *Selector {
	return &Selector{node{op: opEqual, label: label, value: value}}
}

// In returns label in {values}. Without values it matches nothing.
func In(label string, values ...string) *Selector {
	return &Selector{node{op: opIn, label: label, values: set(values)}}
}

// set returns the values sorted and without repeats, leaving its input alone.
func set(values []string) []string {
	s := slices.Clone(values)
	slices.Sort(s)
	return slices.Compact(s)
}

// Not returns the negation. A double negation collapses, so that String stays
// a fixed point of Parse.
func Not(s *Selector) *Selector { return &Selector{negate(s.root)} }

func negate(n node) node {
	if n.op == opNot {
		return n.kids[0]
	}
	return node{op: opNot, kids: []node{n}}
}

// And returns the conjunction, in the order given. Nil arguments are left out;
// of one selector it is that one, and of none all().
func And(list ...*Selector) *Selector {
	kids := roots(list)
	if len(kids) == 0 {
		return All()
	}
	return &Selector{join(opAnd, kids)}
}

// Or returns the disjunction, in the order given. Nil arguments are left out;
// of one selector it is that one, and of none !all().
func Or(list ...*Selector) *Selector {
	kids := roots(list)
	if len(kids) == 0 {
		return Not(All())
	}
	return &Selector{join(opOr, kids)}
}

func roots(list []*Selector) []node {
	kids := make([]node, 0, len(list))
	for _, s := range list {
		if s != nil {
			kids = append(kids, s.root)
		}
	}
	return kids
}

// join makes one node of one or more kids.
func join(o op, kids []node) node {
	if len(kids) == 1 {
		return kids[0]
	}
	return node{op: o, kids: kids}
}

// WithPrefix returns the selector with every label name prefixed, such as with
// "pcns." for labels of the namespace. Values are untouched, and so are all()
// and global().
func (s *Selector) WithPrefix(prefix string) *Selector {
	return &Selector{s.root.rewrite(func(n node) node {
		if n.label != "" {
			n.label = prefix + n.label
		}
		return n
	})}
}

// ReplaceAll returns the selector with every all() and every global() replaced
// by the given ones. A nil replacement leaves that term as it is.
func (s *Selector) ReplaceAll(all, global *Selector) *Selector {
	return &Selector{s.root.rewrite(func(n node) node {
		switch {
		case n.op == opAll && all != nil:
			return all.root
		case n.op == opGlobal && global != nil:
			return global.root
		}
		return n
	})}
}

// rewrite returns the tree with f applied to every leaf. What f returns is not
// descended into. Unchanged parts of n are never written to: trees share nodes.
func (n node) rewrite(f func(leaf node) node) node {
	switch n.op {
	case opNot:
		return negate(n.kids[0].rewrite(f))
	case opAnd, opOr:
		kids := make([]node, len(n.kids))
		for i := range n.kids {
			kids[i] = n.kids[i].rewrite(f)
		}
		n.kids = kids
		return n
	}
	return f(n)
}
