// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	// Of the YAML libraries it is the one that tells where a value stands.
	"go.yaml.in/yaml/v3"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// Limits of what is read.
const (
	MaxInput  = 256 << 20 // bytes
	maxDepth  = 32
	maxFaults = 20
)

// Fault is one mistake in a file.
type Fault struct {
	Line    int    // 0 if it is in no line
	Field   string // such as spec.racks.count
	Problem string
	Fix     string // what would be right
}

// Error names the place, the problem and the fix.
func (f *Fault) Error() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	if f.Field != "" {
		b.WriteString(f.Field + ": ")
	}
	b.WriteString(f.Problem)
	if f.Fix != "" {
		b.WriteString(": " + f.Fix)
	}
	return b.String()
}

// lines is where the fields of a file stand.
type lines map[string]int

// of returns the line of a field, or of the nearest field around it.
func (l lines) of(field string) int {
	for {
		if n, ok := l[field]; ok {
			return n
		}
		cut := strings.LastIndexAny(field, ".[")
		if cut < 0 {
			return 0
		}
		field = field[:cut]
	}
}

// faults collects mistakes, and no more of them than a person reads at once.
type faults struct {
	lines lines
	list  []*Fault
	more  int
}

func (f *faults) add(field, fix, problem string, v ...any) {
	if len(f.list) == maxFaults {
		f.more++
		return
	}
	f.list = append(f.list, &Fault{f.lines.of(field), field, fmt.Sprintf(problem, v...), fix})
}

// err joins the faults in the order of their lines.
func (f *faults) err() error {
	slices.SortStableFunc(f.list, func(a, b *Fault) int { return cmp.Compare(a.Line, b.Line) })
	var errs []error
	for _, e := range f.list {
		errs = append(errs, e)
	}
	if f.more > 0 {
		errs = append(errs, fmt.Errorf("and %d more", f.more))
	}
	return errors.Join(errs...)
}

// Document is what a file holds: one of the two.
type Document struct {
	Fabric *Fabric
	Design *Design
}

// Parse reads a Fabric or a FabricDesign, in YAML or JSON. It is strict: a
// field that is not known, given twice or of the wrong type is an error. A
// Fabric comes back with its defaults filled in, and checked; all errors are
// Faults, joined.
func Parse(input []byte) (Document, error) {
	if len(input) > MaxInput {
		return Document{}, &Fault{Problem: fmt.Sprintf("%d bytes", len(input)), Fix: fmt.Sprintf("at most %d are read", MaxInput)}
	}
	root, err := parseYAML(input)
	if err != nil {
		return Document{}, err
	}
	d := decoder{faults{lines: lines{}}}
	kind, kindNode := member(root, "kind")
	switch {
	case root.Kind == yaml.MappingNode && kind == KindFabric:
		f := &Fabric{}
		d.value(root, reflect.ValueOf(f).Elem(), "", 0)
		f.lines = d.lines
		d.version(root, f.APIVersion)
		if len(d.list) == 0 {
			f.given = f.Spec
			f.fill()
			f.check(&d.faults)
		}
		return Document{Fabric: f}, d.err()
	case root.Kind == yaml.MappingNode && kind == KindDesign:
		g := &Design{}
		d.value(root, reflect.ValueOf(g).Elem(), "", 0)
		g.lines = d.lines
		d.version(root, g.APIVersion)
		if len(d.list) == 0 {
			g.check(&d.faults)
		}
		return Document{Design: g}, d.err()
	case kindNode != nil:
		d.lines["kind"] = kindNode.Line
		want := wantOneOf(kind, []string{KindFabric, KindDesign})
		if _, known := v3.LookupKind(kind); known {
			want += "; objects of the datastore are for `muslin apply`"
		}
		d.add("kind", want, "%q", clip(kind))
	default:
		d.add("kind", "begin with `kind: "+KindFabric+"`; `muslin fabric init` prints a file to start from", "missing")
	}
	return Document{}, d.err()
}

func (d *decoder) version(root *yaml.Node, version string) {
	if version != APIVersion {
		_, n := member(root, "apiVersion")
		if n == nil {
			d.add("apiVersion", "want `apiVersion: "+APIVersion+"`", "missing")
			return
		}
		d.add("apiVersion", "want "+APIVersion, "%q", clip(version))
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?s:(.*))$`)

// parseYAML returns the one value that the input consists of.
func parseYAML(input []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(strings.NewReader(string(input)))
	var doc, next yaml.Node
	if err := dec.Decode(&doc); err != nil {
		f := &Fault{Problem: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: "), Fix: "check the indentation, which is of spaces, and the brackets"}
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			f.Line, _ = strconv.Atoi(m[1])
			f.Problem = "not YAML: " + m[2]
			if f.Line == 0 {
				f.Line = lineOf(input, m[2])
			}
		}
		if err.Error() == "EOF" {
			f.Problem, f.Fix = "the file is empty", "`muslin fabric init` prints one to start from"
		}
		return nil, f
	}
	// Several objects of something else are told of by their kind.
	kind, _ := member(doc.Content[0], "kind")
	if dec.Decode(&next) == nil && len(next.Content) > 0 && (kind == "" || kind == KindFabric || kind == KindDesign) {
		return nil, &Fault{Line: next.Content[0].Line, Problem: "a second document", Fix: "put each fabric into a file of its own"}
	}
	return doc.Content[0], nil
}

var unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)

// lineOf is where a mistake is that the library tells no line of: of characters, of anchors, and in the first line.
func lineOf(input []byte, problem string) int {
	wrong := func(string) bool { return true }
	if m := unknownAnchor.FindStringSubmatch(problem); m != nil {
		wrong = func(l string) bool { return strings.Contains(l, "*"+m[1]) }
	} else if strings.Contains(problem, "character") || strings.Contains(problem, "UTF-8") {
		wrong = func(l string) bool {
			return !utf8.ValidString(l) || strings.ContainsFunc(l, func(r rune) bool { return unicode.IsControl(r) && r != '\t' && r != '\r' })
		}
	}
	for i, l := range strings.Split(string(input), "\n") {
		if wrong(l) {
			return i + 1
		}
	}
	return 0
}

// member finds a member's scalar at the top, before it is known which type to
// read.
func member(root *yaml.Node, name string) (string, *yaml.Node) {
	if root.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(root.Content); i += 2 {
			if root.Content[i].Value == name {
				return root.Content[i+1].Value, root.Content[i+1]
			}
		}
	}
	return "", nil
}

// decoder reads nodes into Go values after the names in their json tags.
type decoder struct{ faults }

// selfDecoder is a type that is more than one shape in a file.
type selfDecoder interface {
	decode(d *decoder, n *yaml.Node, field string, depth int)
}

// value reads one node.
func (d *decoder) value(n *yaml.Node, v reflect.Value, field string, depth int) {
	switch {
	case n.Kind == yaml.AliasNode:
		d.add(field, "write the value out", "an alias")
		return
	case depth > maxDepth:
		d.add(field, fmt.Sprintf("at most %d levels are read", maxDepth), "nested too deep")
		return
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return // as if it were absent
	}
	if s, ok := v.Addr().Interface().(selfDecoder); ok {
		s.decode(d, n, field, depth)
		return
	}
	if _, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.scalar(n, v, field)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.members(n, v, field, depth)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), field, depth)
	case reflect.Slice:
		items := n.Content
		if n.Kind == yaml.ScalarNode {
			items = []*yaml.Node{n} // one value is a list of one
		} else if n.Kind != yaml.SequenceNode {
			d.add(field, "write each item after a dash", "a list is wanted, not %s", describe(n))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
		for i, item := range items {
			here := field + "[" + strconv.Itoa(i) + "]"
			d.lines[here] = item.Line
			d.value(item, v.Index(i), here, depth+1)
		}
	default:
		d.scalar(n, v, field)
	}
}

// members reads a mapping into a struct.
func (d *decoder) members(n *yaml.Node, v reflect.Value, field string, depth int) {
	if n.Kind != yaml.MappingNode {
		d.add(field, "known members are "+strings.Join(names(v.Type()), ", "), "members (name: value) are wanted, not %s", describe(n))
		return
	}
	seen, known := map[string]int{}, names(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		here := strings.TrimPrefix(field+"."+shown(key.Value), ".")
		if first, twice := seen[key.Value]; twice {
			d.lines[here] = key.Line
			d.add(here, fmt.Sprintf("it stands in line %d already", first), "given twice")
			continue
		}
		seen[key.Value] = key.Line
		d.lines[here] = key.Line
		at := slices.Index(known, key.Value)
		if key.Kind != yaml.ScalarNode || key.Value == "" || at < 0 {
			d.add(here, meant(key.Value, known, v.Type()), "unknown field")
			continue
		}
		d.value(value, v.Field(at), here, depth+1)
	}
}

// worded is a type with a fixed set of values.
type worded interface{ words() []string }

// scalar reads one plain value.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, field string) {
	if n.Kind != yaml.ScalarNode {
		d.add(field, "", "one value is wanted, not %s", describe(n))
		return
	}
	text := n.Value
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		// It would be a line of its own in a configuration, or a command to a terminal.
		d.add(field, "write it in one line, of characters that can be seen", "%q", clip(text))
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		err := u.UnmarshalText([]byte(text))
		switch x := u.(type) {
		case *netip.Addr:
			if x.Zone() != "" || x.Is4In6() {
				err = errPlainAddress
			}
		case *netip.Prefix:
			if x.Addr().Is4In6() {
				err = errPlainAddress
			}
		}
		if err != nil {
			d.add(field, wanted(v, err), "%q", clip(text))
		}
		return
	}
	if w, ok := v.Interface().(worded); ok && !slices.Contains(w.words(), text) {
		d.add(field, wantOneOf(text, w.words()), "%q", clip(text))
		return
	}
	bad := func(want string) { d.add(field, want, "%q", clip(text)) }
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			bad("want true or false")
			return
		}
		v.SetBool(text == "true")
	case reflect.Int:
		x, err := strconv.ParseInt(text, 10, 32)
		if err != nil || x < 0 {
			bad("want a whole number, 0 or more")
			return
		}
		v.SetInt(x)
	case reflect.Uint32:
		x, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			bad("want a whole number from 0 to 4294967295")
			return
		}
		v.SetUint(x)
	}
}

// errPlainAddress is of an address with a zone, or of one of IPv4 that is written as one of IPv6.
var errPlainAddress = errors.New("no address of the fabric")

// wanted says what a scalar that could not be read should be.
func wanted(v reflect.Value, err error) string {
	switch v.Interface().(type) {
	case netip.Addr:
		return "want an address such as 10.99.0.1 or fd99::1"
	case netip.Prefix:
		return "want a prefix such as 10.64.0.0/14 or fd64::/48"
	}
	return err.Error()
}

// names are a struct's members, in the order of its fields; a field that is
// not in files has no name.
func names(t reflect.Type) []string {
	var list []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		list = append(list, name)
	}
	return list
}

// meant suggests what an unknown field should have been: one that is spelled
// alike, or one of this name a level deeper.
func meant(name string, known []string, t reflect.Type) string {
	known = slices.DeleteFunc(slices.Clone(known), func(s string) bool { return s == "" })
	if best := v3.Nearest(name, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	for i := range t.NumField() {
		if inner := t.Field(i).Type; inner.Kind() == reflect.Struct {
			if slices.Contains(names(inner), name) && name != "" {
				outer, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
				return fmt.Sprintf("did you mean %q?", outer+"."+name)
			}
		}
	}
	return "known are " + strings.Join(known, ", ")
}

func wantOneOf(word string, words []string) string {
	if best := v3.Nearest(word, words); best != "" {
		return fmt.Sprintf("did you mean %s? Possible are %s", best, strings.Join(words, ", "))
	}
	return "want one of " + strings.Join(words, ", ")
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "members"
	case yaml.SequenceNode:
		return "a list"
	}
	return strconv.Quote(clip(n.Value))
}

// shown is a name of a file as it stands in an error, in one line.
func shown(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return utf8.RuneError
	}, clip(s))
}

// clip keeps an error readable whatever was in the file.
func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}
