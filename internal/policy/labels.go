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

func makeLabels(m map[string]string) labelSet {
	if len(m) == 0 {
		return nil
	}
	s := make(labelSet, 0, len(m))
	for k, v := range m {
		s = append(s, label{unique.Make(k), unique.Make(v)})
	}
	slices.SortFunc(s, func(a, b label) int { return strings.Compare(a.name.Value(), b.name.Value()) })
	return s
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

// inherit returns s with those labels of t whose names s lacks. It returns s
// itself if there are none.
func (s labelSet) inherit(t labelSet) labelSet {
	var out labelSet
	for _, l := range t {
		if _, ok := s.Get(l.name.Value()); ok {
			continue
		}
		if out == nil {
			out = append(make(labelSet, 0, len(s)+len(t)), s...)
		}
		out = append(out, l)
	}
	if out == nil {
		return s
	}
	slices.SortFunc(out, func(a, b label) int { return strings.Compare(a.name.Value(), b.name.Value()) })
	return out
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
// what the key says. forged names a label that claimed otherwise.
func ownLabels(m map[string]string, namespace string) (own map[string]string, forged string) {
	own = make(map[string]string, len(m)+1)
	for k, v := range m {
		switch {
		case strings.HasPrefix(k, prefixNamespace), strings.HasPrefix(k, prefixAccount), k == labelServiceAccount:
			continue
		case k == labelNamespace && v != namespace:
			forged, v = k, namespace
		}
		own[k] = v
	}
	return own, forged
}
