// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// field is a member of an object as its Go type tells it.
type field struct {
	name  string // in JSON
	index []int  // for reflect.Value.FieldByIndex
	typ   reflect.Type
	tag   reflect.StructTag
}

// fields returns the members of a struct, those of embedded ones included, in
// order.
func fields(t reflect.Type) []field {
	var list []field
	for i := range t.NumField() {
		sf := t.Field(i)
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		switch {
		case sf.Anonymous && name == "":
			for _, f := range fields(sf.Type) {
				f.index = append([]int{i}, f.index...)
				list = append(list, f)
			}
		case name != "-" && sf.IsExported():
			list = append(list, field{name, []int{i}, sf.Type, sf.Tag})
		}
	}
	return list
}

// knows tells whether a struct type has the member, and which it is.
func knows(t reflect.Type, name string) (field, bool) {
	for _, f := range fields(t) {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// isOpaque tells whether a type reads its own JSON.
func isOpaque(t reflect.Type) bool { return reflect.PointerTo(t).Implements(unmarshaler) }

// strict checks a document against a type, with no mercy for members that the
// type does not have. Where a text is wanted and YAML made a number or a truth
// value of it, it puts the text back, unless YAML changed it: n has become
// false then, and 1.10 is 1.1.
type strict struct {
	*faults
	// written tells whether the value at a path was written just so.
	written func(path, value string) bool
}

const quotes = "put it in quotes: YAML reads it as %s"

func (s strict) check(t *tree, typ reflect.Type, path string) {
	if t.isNull() {
		return // as if it were absent
	}
	if typ.Kind() == reflect.Pointer {
		s.check(t, typ.Elem(), path)
		return
	}
	if isOpaque(typ) {
		if err := json.Unmarshal(t.append(nil), reflect.New(typ).Interface()); err != nil {
			s.add(path, "%v", err)
		}
		return
	}
	switch typ.Kind() {
	case reflect.Struct:
		s.checkStruct(t, typ, path)
	case reflect.Map:
		if t.shape != '{' {
			s.add(path, "want members (name: value), not %s", t.describe())
		}
		for _, m := range t.members {
			here := joinPath(path, m.name)
			if (m.name == "true" || m.name == "false") && !s.written(here, m.name) {
				s.add(path, "a name like y, n, on or off: "+quotes, m.name)
			}
			s.check(m.value, typ.Elem(), here)
		}
	case reflect.Slice:
		if t.shape != '[' {
			s.add(path, "want a list, not %s", t.describe())
		}
		for i, item := range t.items {
			s.check(item, typ.Elem(), path+"["+strconv.Itoa(i)+"]")
		}
	default:
		s.checkScalar(t, typ, path)
	}
}

func (s strict) checkStruct(t *tree, typ reflect.Type, path string) {
	if t.shape != '{' {
		s.add(path, "want members (name: value), not %s", t.describe())
		return
	}
	known := map[string]field{}
	for _, f := range fields(typ) {
		known[f.name] = f
	}
	for _, m := range t.members {
		here := joinPath(path, m.name)
		f, ok := known[m.name]
		switch {
		case ok:
			s.check(m.value, f.typ, here)
		case typ == reflect.TypeFor[ObjectMeta]() && m.name == "generateName":
			if m.value.text() != "" {
				s.add(here, "not supported: give metadata.name instead")
			}
		case typ == reflect.TypeFor[ObjectMeta]() && (m.name == "selfLink" || m.name == "managedFields"):
			// Other tools print these; nobody stores them.
		default:
			s.add(here, "unknown field%s", suggest(m.name, typ))
		}
	}
}

func (s strict) checkScalar(t *tree, typ reflect.Type, path string) {
	if t.shape != 's' {
		s.add(path, "want %s, not %s", wanted(typ), t.describe())
		return
	}
	quoted := t.scalar[0] == '"'
	if typ.Kind() == reflect.String && !quoted {
		if !s.written(path, string(t.scalar)) {
			s.add(path, quotes, t.scalar)
		}
		t.scalar, _ = json.Marshal(string(t.scalar)) // a string always marshals
		return
	}
	if err := json.Unmarshal(t.scalar, reflect.New(typ).Interface()); err != nil {
		hint := ""
		if quoted {
			hint = ", without quotes"
		}
		s.add(path, "%s: want %s%s", t.scalar, wanted(typ), hint)
	}
}

// wanted describes a scalar type to a user.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return fmt.Sprintf("a whole number 0–%d", uint64(1)<<t.Bits()-1)
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "a list"
	}
	return "a whole number"
}

// describe says what a value is, for errors.
func (t *tree) describe() string {
	switch {
	case t.shape == '{':
		return "members"
	case t.shape == '[':
		return "a list"
	case len(t.scalar) > 60:
		return string(t.scalar[:60]) + "…"
	}
	return string(t.scalar)
}

// suggest returns what the author of an unknown member may have meant: a member
// that is spelled alike, or one of that name a level deeper.
func suggest(name string, typ reflect.Type) string {
	var names, deeper []string
	for _, f := range fields(typ) {
		names = append(names, f.name)
		inner := f.typ
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && !isOpaque(inner) {
			if _, ok := knows(inner, name); ok {
				deeper = append(deeper, strconv.Quote(f.name+"."+name))
			}
		}
	}
	if best := Nearest(name, names); best != "" {
		return fmt.Sprintf(", did you mean %q?", best)
	}
	if len(deeper) > 0 {
		return ", did you mean " + strings.Join(deeper, " or ") + "?"
	}
	if len(names) <= 12 {
		return "; known are " + strings.Join(names, ", ")
	}
	return ""
}

// Nearest returns the candidate that differs least from the word, or "" if all
// differ by more than a third of their letters. Case does not count much.
func Nearest(word string, candidates []string) string {
	if len(word) > 100 {
		return ""
	}
	best, least := "", 1<<30
	for _, c := range candidates {
		d := 2 * distance(strings.ToLower(word), strings.ToLower(c))
		if word != c {
			d++ // so that a difference in case alone is the nearest but one
		}
		if d < least && d <= 2*max(1, min(len(c), len(word))/3)+1 {
			best, least = c, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour to make one word the other.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row := rows[(i-1)%3], rows[i%3], rows[(i+1)%3]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return rows[(len(a)+1)%3][len(b)]
}
