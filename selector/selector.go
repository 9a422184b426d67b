// SPDX-License-Identifier: Apache-2.0

// Package selector is the label-selector language of the data model: the text
// in which policies say which endpoints they mean.
//
// The walk of a selector: Parse turns text from a user or from the datastore
// into an immutable tree; callers narrow it (And, WithPrefix, ReplaceAll) to
// what a policy really selects; the policy index asks Restrictions which labels
// to look under, and Match whether a set of labels is selected; String and
// UniqueID give equal selectors one name, so that they share one address set.
//
// The package is pure: no I/O, no global state, and no memory kept between
// calls. Match allocates nothing. No input can exhaust the stack: text is
// limited to MaxText bytes and MaxDepth nested parentheses.
package selector

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
)

// Limits of Parse. They bound the work and the stack that text can cost.
const (
	MaxText  = 4096 // bytes of a selector
	MaxDepth = 32   // nested parentheses
	MaxLabel = 512  // bytes of a label name
)

// Labels is a set of labels that a selector can be held against. Get returns
// the value of the named label, and false if the label is absent.
type Labels interface {
	Get(name string) (value string, present bool)
}

// Map is the plain implementation of Labels. A nil Map has no labels.
type Map map[string]string

// Get implements Labels.
func (m Map) Get(name string) (string, bool) {
	v, ok := m[name]
	return v, ok
}

// Selector is a parsed selector. It is immutable, and safe for concurrent use.
// The zero value selects everything, as the empty text does.
type Selector struct{ root node }

// op is what a node does. The zero op is all(), so that the zero Selector is
// what the empty text means.
type op uint8

const (
	opAll op = iota
	opGlobal
	opHas
	opEqual
	opNotEqual
	opContains
	opStartsWith
	opEndsWith
	opIn
	opNotIn
	opNot // one kid
	opAnd // two kids or more
	opOr  // two kids or more
)

// node is one operation of the tree. Nodes are shared between selectors and
// never change once built.
type node struct {
	op     op
	label  string
	value  string   // of the comparisons
	values []string // of in and not in: sorted, without repeats
	kids   []node
}

// Match tells whether the labels are selected. It allocates nothing.
func (s *Selector) Match(labels Labels) bool { return s.root.match(labels) }

func (n *node) match(labels Labels) bool {
	switch n.op {
	case opAll, opGlobal:
		return true
	case opNot:
		return !n.kids[0].match(labels)
	case opAnd:
		for i := range n.kids {
			if !n.kids[i].match(labels) {
				return false
			}
		}
		return true
	case opOr:
		for i := range n.kids {
			if n.kids[i].match(labels) {
				return true
			}
		}
		return false
	}
	v, present := labels.Get(n.label)
	switch n.op {
	case opHas:
		return present
	case opEqual:
		return present && v == n.value
	case opNotEqual:
		return !present || v != n.value
	case opContains:
		return present && strings.Contains(v, n.value)
	case opStartsWith:
		return present && strings.HasPrefix(v, n.value)
	case opEndsWith:
		return present && strings.HasSuffix(v, n.value)
	case opIn:
		return present && n.holds(v)
	case opNotIn:
		return !present || !n.holds(v)
	}
	return false
}

func (n *node) holds(v string) bool {
	_, ok := slices.BinarySearch(n.values, v)
	return ok
}

// String returns the canonical form: selectors that differ only in spacing,
// redundant parentheses, spelling of operators, quotes, or the order within a
// set have one. Parse reads it back to an equal selector, provided that it is
// within the limits and no value holds both kinds of quote (parsed ones never
// do).
func (s *Selector) String() string { return string(s.root.append(nil)) }

var infix = [...]string{
	opEqual: " == ", opNotEqual: " != ", opContains: " contains ",
	opStartsWith: " starts with ", opEndsWith: " ends with ",
	opIn: " in ", opNotIn: " not in ", opAnd: " && ", opOr: " || ",
}

func (n *node) append(b []byte) []byte {
	switch n.op {
	case opAll:
		return append(b, "all()"...)
	case opGlobal:
		return append(b, "global()"...)
	case opHas:
		b = append(b, "has("...)
		b = append(b, n.label...)
		return append(b, ')')
	case opNot:
		return n.kids[0].append(append(b, '!'))
	case opAnd, opOr:
		b = append(b, '(')
		for i := range n.kids {
			if i > 0 {
				b = append(b, infix[n.op]...)
			}
			b = n.kids[i].append(b)
		}
		return append(b, ')')
	}
	b = append(b, n.label...)
	b = append(b, infix[n.op]...)
	if n.op != opIn && n.op != opNotIn {
		return appendQuoted(b, n.value)
	}
	b = append(b, '{')
	for i, v := range n.values {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendQuoted(b, v)
	}
	return append(b, '}')
}

// appendQuoted writes a literal. The language has no escapes, so the quote is
// one that the value does not hold.
func appendQuoted(b []byte, v string) []byte {
	q := byte('"')
	if strings.IndexByte(v, '"') >= 0 {
		q = '\''
	}
	b = append(b, q)
	b = append(b, v...)
	return append(b, q)
}

// UniqueID returns a name for the selector that is equal exactly for equal
// canonical forms: "s:" and the SHA-224 of "s:"+String in unpadded base64url, 40
// characters in all. It is computed anew at each call.
func (s *Selector) UniqueID() string {
	sum := sha256.Sum224(s.root.append([]byte("s:")))
	return "s:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// Equal tells whether both have the same canonical form. (Selectors that
// select the same but say it differently are not equal.)
func (s *Selector) Equal(t *Selector) bool { return s.String() == t.String() }

// IsAll tells whether the selector is just all(), or the empty text.
func (s *Selector) IsAll() bool { return s.root.op == opAll }

// IsGlobal tells whether the selector is just global().
func (s *Selector) IsGlobal() bool { return s.root.op == opGlobal }

// UsesGlobal tells whether global() occurs anywhere in the selector. It means
// something only in the namespaceSelector of a rule.
func (s *Selector) UsesGlobal() bool { return s.root.uses(opGlobal) }

func (n *node) uses(o op) bool {
	if n.op == o {
		return true
	}
	for i := range n.kids {
		if n.kids[i].uses(o) {
			return true
		}
	}
	return false
}
