// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// ref names one object, or with an empty Name all of a kind.
type ref struct {
	kind      v3.KindInfo
	namespace string // empty for a cluster-scoped kind
	name      string
}

func (r ref) String() string { return show(r.kind.Kind, r.namespace, r.name) }

// show names an object for people: Kind namespace/name.
func show(kind, namespace, name string) string {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return kind + " " + name
}

// showResource is show for a resource.
func showResource(r v3.Resource) string {
	return show(r.Type().Kind, r.Meta().Namespace, r.Meta().Name)
}

// kind finds a kind by name, plural or alias.
func kind(name string) (v3.KindInfo, error) {
	if k, ok := v3.LookupKind(name); ok {
		return k, nil
	}
	hint := ""
	if near := nearest(name, kindWords()); near != "" {
		hint = fmt.Sprintf("did you mean %s? ", near)
	}
	var all []string
	for _, k := range v3.Kinds() {
		all = append(all, k.Kind)
	}
	slices.Sort(all)
	return v3.KindInfo{}, usagef("unknown kind %q: %skinds are %s", name, hint, strings.Join(all, ", "))
}

// kindWords lists every word that names a kind, in lower case.
func kindWords() []string {
	var out []string
	for _, k := range v3.Kinds() {
		out = append(out, strings.ToLower(k.Kind), k.Plural)
		out = append(out, k.Aliases...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// refs reads KIND[,KIND…] [NAME…], or words of the form kind/name and
// kind/namespace/name as `-o name` prints them.
func refs(words []string, namespace string) ([]ref, error) {
	if len(words) == 0 {
		return nil, usagef("name a kind, or a file with -f")
	}
	if strings.Contains(words[0], "/") {
		return slashRefs(words, namespace)
	}
	var kinds []v3.KindInfo
	for word := range strings.SplitSeq(words[0], ",") {
		k, err := kind(word)
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, k)
	}
	names := words[1:]
	if len(kinds) > 1 && len(names) > 0 {
		return nil, usagef("names go with one kind, not with %s", words[0])
	}
	var out []ref
	for _, k := range kinds {
		ns := namespace
		if !k.Namespaced {
			ns = ""
		}
		if len(names) == 0 {
			out = append(out, ref{k, ns, ""})
		}
		for _, n := range names {
			if n == "" || strings.Contains(n, "/") {
				return nil, usagef("name %q of a %s: names have no '/'; give the namespace with -n", n, k.Kind)
			}
			out = append(out, ref{k, ns, n})
		}
	}
	return out, nil
}

func slashRefs(words []string, namespace string) ([]ref, error) {
	var out []ref
	for _, w := range words {
		parts := strings.Split(w, "/")
		if slices.Contains(parts, "") || len(parts) < 2 || len(parts) > 3 {
			return nil, usagef("%q: want kind/name or kind/namespace/name", w)
		}
		k, err := kind(parts[0])
		if err != nil {
			return nil, err
		}
		r := ref{kind: k, name: parts[len(parts)-1]}
		switch {
		case k.Namespaced && len(parts) == 3:
			r.namespace = parts[1]
		case k.Namespaced:
			r.namespace = namespace
		case len(parts) == 3:
			return nil, usagef("%q: a %s is in no namespace", w, k.Kind)
		}
		out = append(out, r)
	}
	return out, nil
}

// nearest returns the word that few edits turn s into, or "".
func nearest(s string, words []string) string {
	best, distance := "", max(2, len(s)/4)+1
	for _, w := range words {
		if d := edits(strings.ToLower(s), w); d < distance {
			best, distance = w, d
		}
	}
	return best
}

// edits counts insertions, deletions and substitutions between two words.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
