// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// Limits of what is read.
const (
	MaxInput  = 64 << 20 // bytes that Decode accepts
	MaxStored = 3 << 19  // bytes of one object, 1.5 MiB: what etcd accepts by default
	listKind  = "List"   // the kind, or its end, of a list of objects
	wantAPI   = `want "` + APIVersion + `"`
)

// Decode reads what a user wrote: YAML or JSON, one document or several
// separated by lines "---", or JSON values one after the other, each one object, a
// list of objects, or an object whose kind is List or <Kind>List and whose items
// are objects. Empty documents are skipped.
//
// It is strict. An unknown member, a member that occurs twice, or a value of
// the wrong type is an error that names the document, the line where that can
// be told, the object and the path; all errors of the input are returned
// together, as *FieldError, and then no object is. The objects are neither
// defaulted nor validated.
func Decode(input []byte) ([]Resource, error) {
	docs, err := DecodeDocuments(input)
	var all []Resource
	errs := []error{err}
	for i := range docs {
		all = append(all, docs[i].Resource)
		errs = append(errs, docs[i].Err())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return all, nil
}

// decoder reads one document.
type decoder struct {
	part
	document int // for errors; 0 if it is the only one
	isJSON   bool
	tree     *tree
	lines    map[string]int // of paths; nil until needed
	rows     []string       // the lines of text; nil until needed
	out      []Document
}

func (d *decoder) decode() []Document {
	if err := d.parse(); err != nil {
		return []Document{{form: faults{list: []*FieldError{err}}}}
	}
	d.top(d.tree, "", TypeMeta{APIVersion: APIVersion})
	return d.out
}

var yamlLine = regexp.MustCompile(`line (\d+): (?s:(.*))`)

// parse makes the tree: of JSON itself, of YAML by way of JSON.
func (d *decoder) parse() *FieldError {
	start := strings.TrimLeft(d.text, " \t\r\n")
	if strings.HasPrefix(start, "{") || strings.HasPrefix(start, "[") {
		t, err := parseTree([]byte(d.text), true)
		var at *treeError
		if err == nil {
			d.isJSON, d.tree = true, t
			return nil
		}
		if errors.As(err, &at) && (errors.Is(err, errDuplicate) || errors.Is(err, errDepth)) {
			line := d.before + 1 + strings.Count(d.text[:at.offset], "\n")
			return &FieldError{Document: d.document, Line: line, Path: at.path, Problem: at.cause.Error()}
		}
		// Else it may still be YAML in flow style, and if it is not, the
		// YAML parser says where it goes wrong.
	}
	b, err := yaml.YAMLToJSONStrict([]byte(d.text))
	if err == nil {
		err = yamlRest(d.text)
	}
	if err == nil {
		if d.tree, err = parseTree(b, true); err == nil {
			return nil
		}
	}
	e := &FieldError{Document: d.document, Line: d.firstLine(), Problem: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlLine.FindStringSubmatch(e.Problem); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Line += d.before
		e.Problem = strings.TrimSpace(m[2])
	}
	if !strings.Contains(e.Problem, "already set in map") { // which is YAML, and no object
		e.Problem = "not YAML: " + e.Problem
	}
	return e
}

// top reads what stands at the top of a document or in a list: an object or a
// list of objects. The kind and apiVersion of the list serve objects that have
// none.
func (d *decoder) top(t *tree, path string, inherited TypeMeta) {
	if t.shape == '[' {
		for i, item := range t.items {
			d.top(item, path+"["+strconv.Itoa(i)+"]", inherited)
		}
		return
	}
	doc := Document{in: d, path: path, tree: t}
	f := &doc.form
	f.template.Document = d.document
	defer func() { d.keep(&doc) }()
	if t.shape != '{' {
		f.add("", "want an object with apiVersion, kind, metadata and spec, not %s", t.describe())
		return
	}
	f.template.Name, f.template.Namespace = name(t)
	of := TypeMeta{Kind: t.get("kind").text(), APIVersion: t.get("apiVersion").text()}
	if of.Kind == "" {
		of.Kind = inherited.Kind
	}
	if of.APIVersion == "" && path != "" {
		of.APIVersion = inherited.APIVersion
	}
	elem, isList := strings.CutSuffix(of.Kind, listKind)
	if _, known := kindNamed(elem); isList && (elem == "" || known) {
		d.list(t, path, elem, f)
		return
	}
	info, ok := kindNamed(of.Kind)
	switch {
	case of.Kind == "":
		f.add("kind", "missing: want one of %s", kindNames())
		return
	case !ok:
		f.add("kind", "%q: unknown kind%s", of.Kind, suggestKind(of.Kind))
		return
	}
	f.template.Kind = of.Kind
	switch of.APIVersion {
	case APIVersion:
	case "":
		f.add("apiVersion", "missing: %s", wantAPI)
	default:
		f.add("apiVersion", "%q: %s", of.APIVersion, wantAPI)
	}
	r := info.New()
	strict{f, func(p, value string) bool { return d.isJSON || d.written(below(path, p), value) }}.check(t, reflect.TypeOf(r).Elem(), "")
	b := t.append(nil)
	if len(b) > MaxStored {
		f.add("", "%d bytes: the datastore accepts %d in one object", len(b), MaxStored)
		return
	}
	if len(f.list) > 0 {
		b = t.without(f.list).append(nil)
	}
	if err := json.Unmarshal(b, r); err != nil {
		if len(f.list) == 0 {
			f.add("", "%v", err) // cannot happen: strict found nothing wrong
		}
		return
	}
	*r.Type() = TypeMeta{Kind: of.Kind, APIVersion: APIVersion}
	doc.Resource = r
}

// list reads the items of a List.
func (d *decoder) list(t *tree, path, elem string, f *faults) {
	f.template.Kind = elem + listKind
	for _, m := range t.members {
		switch m.name {
		case "kind", "metadata":
		case "apiVersion":
			if v := m.value.text(); v != APIVersion && v != "v1" {
				f.add("apiVersion", "%q: %s", v, wantAPI)
			}
		case "items":
			switch {
			case m.value.isNull():
			case m.value.shape != '[':
				f.add("items", "want a list, not %s", m.value.describe())
			default:
				d.top(m.value, joinPath(path, "items"), TypeMeta{Kind: elem, APIVersion: APIVersion})
			}
		default:
			f.add(m.name, "unknown field%s", suggest(m.name, reflect.TypeFor[struct {
				TypeMeta
				Metadata ObjectMeta `json:"metadata"`
				Items    []Resource `json:"items"`
			}]()))
		}
	}
}

// below joins two paths.
func below(path, rest string) string {
	if path == "" || rest == "" || rest[0] == '[' {
		return path + rest
	}
	return path + "." + rest
}

// line returns the line of what is at a path, or else of what it is in.
func (d *decoder) line(path string) int {
	switch {
	case d.lines != nil:
	case d.isJSON:
		d.lines = d.tree.lines([]byte(d.text))
	default:
		d.lines = yamlLines(d.text)
	}
	for path != "" && d.lines[path] == 0 {
		path = parentPath(path)
	}
	if n := d.lines[path]; n > 0 {
		return d.before + n
	}
	return d.firstLine()
}

// written tells whether the line of a path of a YAML document has the value as
// a word of its own.
func (d *decoder) written(path, value string) bool {
	if d.rows == nil {
		d.rows = strings.Split(d.text, "\n")
	}
	row := d.rows[d.line(path)-d.before-1]
	for rest := row; ; {
		before, after, ok := strings.Cut(rest, value)
		if !ok {
			return false
		}
		if (before == "" || strings.ContainsAny(before[len(before)-1:], " \t:,[{")) &&
			(after == "" || strings.ContainsAny(after[:1], " \t\r:,]}")) {
			return true
		}
		rest = after
	}
}

// firstLine returns the line where the document begins, comments skipped.
func (d *decoder) firstLine() int {
	n := d.before
	for l := range strings.SplitSeq(d.text, "\n") {
		n++
		if l = strings.TrimSpace(l); l != "" && l[0] != '#' {
			break
		}
	}
	return n
}

// name returns the name and namespace of an object, for errors.
func name(t *tree) (name, namespace string) {
	if m := t.get("metadata"); m != nil {
		return m.get("name").text(), m.get("namespace").text()
	}
	return "", ""
}

func kindNames() string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.Kind)
	}
	return strings.Join(names, ", ")
}

func suggestKind(word string) string {
	if word == "Fabric" || word == "FabricDesign" {
		return " of the datastore: `muslin fabric emit` makes objects of such a file"
	}
	if k, ok := LookupKind(word); ok {
		return fmt.Sprintf(", did you mean %q?", k.Kind)
	}
	var names []string
	for _, k := range kinds {
		names = append(names, k.Kind, k.Kind+listKind)
	}
	if best := Nearest(word, names); best != "" {
		return fmt.Sprintf(", did you mean %q?", best)
	}
	return "; want one of " + kindNames()
}

// DecodeStored reads the value of an object of the given kind as etcd holds it,
// whoever wrote it. Unknown members are ignored (EncodeMerged keeps them), and
// so are nulls; missing kind, apiVersion and metadata are filled in. What is
// not an object of that kind, is larger than MaxStored, or nests too deep is an
// error that says so. It never panics.
//
// The displayed name of a policy is worked out: see KeyName. Where the key is at
// hand, DecodeKV is better, because the key is the identity.
func DecodeStored(kind string, b []byte) (Resource, error) {
	r, err := decodeStored(kind, b)
	if err != nil {
		return nil, storedFault(err)
	}
	showName(r, r.Meta().Name)
	return r, nil
}

// DecodeKV is DecodeStored for a key and its value. Name and namespace of the
// result are those of the key. Of a policy with an error it returns, beside the
// error, what says which endpoints it selects, if that much can be read.
func DecodeKV(key string, b []byte) (Resource, error) {
	kind, namespace, name, ok := ParseKey(key)
	if !ok {
		return nil, fmt.Errorf("key %q: not that of a resource of a known kind", key)
	}
	r, err := decodeStored(kind, b)
	if err != nil {
		fault := storedFault(err)
		fault.Kind, fault.Namespace, fault.Name = kind, namespace, name
		err = fault
		if r = salvagePolicy(kind, b); r == nil {
			return nil, err
		}
	}
	r.Meta().Name, r.Meta().Namespace = name, namespace
	showName(r, name)
	return r, err
}

// memberPath drops the names of embedded Go types from a path that encoding/json
// made; members of ours start with a lower-case letter.
func memberPath(path string) string {
	for _, embedded := range [...]string{"Object.", "KubernetesPolicySpec.", "PolicySpec."} {
		path = strings.Replace(path, embedded, "", 1)
	}
	return path
}

// storedFault says what is wrong with a stored value, apart from whose it is.
func storedFault(err error) *FieldError {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return &FieldError{Path: memberPath(wrong.Field), Problem: fmt.Sprintf("want %s, not %s", wanted(wrong.Type), wrong.Value)}
	}
	return &FieldError{Problem: err.Error()}
}

func decodeStored(kind string, b []byte) (Resource, error) {
	info, ok := kindNamed(kind)
	if !ok {
		return nil, fmt.Errorf("kind %q: unknown; want one of %s", kind, kindNames())
	}
	if len(b) > MaxStored {
		return nil, fmt.Errorf("stored value of %d bytes: the limit is %d", len(b), MaxStored)
	}
	if b = bytes.TrimLeft(b, " \t\r\n"); len(b) == 0 || b[0] != '{' {
		return nil, errors.New("stored value is not a JSON object")
	}
	r, err := decodeObject(info, b)
	if err != nil {
		return nil, fmt.Errorf("stored value: %w", err)
	}
	if k := r.Type().Kind; k != "" && k != kind {
		return nil, fmt.Errorf("stored value is a %.60q, but its key says %s", k, kind)
	}
	*r.Type() = TypeMeta{Kind: kind, APIVersion: APIVersion}
	return r, nil
}

// decodeObject reads a JSON object; kind and apiVersion are those it has.
func decodeObject(info KindInfo, b []byte) (Resource, error) {
	if info.Kind == "WorkloadEndpoint" {
		if w := plainEndpoint(b); w != nil {
			return w, nil
		}
	}
	if tooDeep(b) {
		return nil, fmt.Errorf("nests deeper than %d levels", maxDepth)
	}
	r := info.New()
	*r.Type() = TypeMeta{}
	return r, json.Unmarshal(b, r)
}

// tooDeep tells whether brackets nest deeper than maxDepth, before a parser
// spends anything on them.
func tooDeep(b []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// showName sets the displayed name of a policy whose name in the key is given.
// It is in an annotation, which is not shown itself; older writers have none,
// and prefix the names of policies in the default tier.
func showName(r Resource, inKey string) {
	spec := policySpec(r)
	if spec == nil {
		return
	}
	m := r.Meta()
	shown := inKey
	var saved struct {
		Name string `json:"name"`
	}
	text, annotated := m.Annotations[metadataAnnotation]
	delete(m.Annotations, metadataAnnotation)
	if len(m.Annotations) == 0 {
		m.Annotations = nil
	}
	switch {
	case annotated && json.Unmarshal([]byte(text), &saved) == nil && saved.Name != "":
		shown = saved.Name
	case spec.Tier == "" || spec.Tier == DefaultTier:
		if cut := strings.TrimPrefix(inKey, DefaultTier+"."); cut != "" {
			shown = cut
		}
	}
	m.Name, m.KeyName = shown, ""
	if shown != inKey {
		m.KeyName = inKey
	}
}
