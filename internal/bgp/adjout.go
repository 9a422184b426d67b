// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/prefixmap"
)

// adjOut is an Adj-RIB-Out: what the members of a group were told. It holds a
// reference to each set of attributes. A family without ADD-PATH has one path
// per prefix, with identifier 0; one with it has a short list.
type adjOut struct {
	addPath familySet
	one     prefixmap.Map[*attrs]
	many    prefixmap.Map[[]sentPath]
	paths   [numFamilies]int // in many
}

// sentPath is a path of a prefix in a family with ADD-PATH.
type sentPath struct {
	id uint32
	a  *attrs
}

// get returns nil for what was not announced.
func (t *adjOut) get(ref pathRef) *attrs {
	if !t.addPath[familyOf(ref.prefix.Addr())] {
		if t.one.Len() == 0 { // as towards whoever is told nothing of what is learned
			return nil
		}
		a, _ := t.one.Get(ref.prefix)
		return a
	}
	for _, p := range t.sent(ref.prefix) {
		if p.id == ref.id {
			return p.a
		}
	}
	return nil
}

// sent returns the paths of a prefix in a family with ADD-PATH.
func (t *adjOut) sent(prefix netip.Prefix) []sentPath {
	list, _ := t.many.Get(prefix)
	return list
}

// put replaces a path; a nil set removes it.
func (t *adjOut) put(ref pathRef, a *attrs) {
	switch {
	case t.addPath[familyOf(ref.prefix.Addr())]:
		old := t.sent(ref.prefix)
		list := slices.DeleteFunc(slices.Clone(old), func(p sentPath) bool { return p.id == ref.id })
		if a != nil {
			list = append(list, sentPath{ref.id, a})
		}
		t.paths[familyOf(ref.prefix.Addr())] += len(list) - len(old)
		if len(list) == 0 {
			t.many.Delete(ref.prefix)
		} else {
			t.many.Put(ref.prefix, list)
		}
	case a == nil:
		t.one.Delete(ref.prefix)
	default:
		t.one.Put(ref.prefix, a)
	}
}

func (t *adjOut) size() int { return t.count(v4) + t.count(v6) }

// count is the number of paths of one family.
func (t *adjOut) count(f family) int {
	if f == v4 {
		return t.one.Len4() + t.paths[f]
	}
	return t.one.Len6() + t.paths[f]
}

// all walks everything, in no order. The table must not change meanwhile.
func (t *adjOut) all() iter.Seq2[pathRef, *attrs] {
	return func(yield func(pathRef, *attrs) bool) {
		for f := range numFamilies {
			for ref, a := range t.family(f) {
				if !yield(ref, a) {
					return
				}
			}
		}
	}
}

// family walks one family.
func (t *adjOut) family(f family) iter.Seq2[pathRef, *attrs] {
	one, many := t.one.All4(), t.many.All4()
	if f == v6 {
		one, many = t.one.All6(), t.many.All6()
	}
	return func(yield func(pathRef, *attrs) bool) {
		for prefix, a := range one {
			if !yield(pathRef{prefix: prefix}, a) {
				return
			}
		}
		for prefix, list := range many {
			for _, p := range list {
				if !yield(pathRef{prefix, p.id}, p.a) {
					return
				}
			}
		}
	}
}
