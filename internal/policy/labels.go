// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
	"unique"
)

// word is an interned string: thousands of endpoints share few labels.
type word = unique.Handle[string]

// label is one name and its value.
type label struct{ name, value word }

// labelSet is sorted by name, with every name once.
type labelSet []label

func (rd *Reader) labels(m map[string]string) labelSet {
	if len(m) == 0 {
		return nil
	}
	s := make(labelSet, 0, len(m))
	for k, v := range m {
		s = append(s, label{rd.word(k), rd.word(v)})
	}
	s.sort()
	return s
}

func (s labelSet) sort() {
	slices.SortFunc(s, func(a, b label) int { return strings.Compare(a.name.Value(), b.name.Value()) })
}

// Get implements selector.Labels.
func (s labelSet) Get(name string) (string, bool) {
	i, ok := slices.BinarySearchFunc(s, name, func(l label, name string) int {
		return strings.Compare(l.name.Value(), name)
	})
	if !ok {
		return "", false
	}
	return s[i].value.Value(), true
}

// Names that have a meaning of their own.
const (
	labelNamespace      = "projectcalico.org/namespace"
	labelServiceAccount = "projectcalico.org/serviceaccount"
	prefixNamespace     = "pcns."
	prefixAccount       = "pcsa."
)

// ownLabels returns the labels of a namespaced object without those that only
// the system may give: labels inherited from the namespace and the service
// account come from profiles alone, and what is said about the namespace is
// what the key says. given are those that it has in any case. forged names a
// label that claimed otherwise.
func (rd *Reader) ownLabels(m map[string]string, namespace string, given ...label) (own labelSet, forged string) {
	own = make(labelSet, 0, len(m)+len(given))
	own = append(own, given...)
	for k, v := range m {
		switch {
		case strings.HasPrefix(k, prefixNamespace), strings.HasPrefix(k, prefixAccount), k == labelServiceAccount:
			continue
		case k == labelNamespace && v != namespace:
			forged, v = k, namespace
		}
		if l := (label{rd.word(k), rd.word(v)}); !slices.Contains(given, l) {
			own = append(own, l)
		}
	}
	own.sort()
	return slices.Clip(own), forged
}
