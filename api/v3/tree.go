// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// maxDepth limits how deep a document nests. The model itself needs ten levels.
const maxDepth = 64

// tree is a JSON value that remembers the order of its members and where it
// stood. Exactly one of the three shapes is in use.
type tree struct {
	shape   byte // '{' object, '[' array, 's' scalar
	members []member
	index   map[string]int // of members by name, once there are many
	items   []*tree
	scalar  []byte // as in the text
	offset  int    // of the byte behind the value's first token
}

type member struct {
	name  string
	value *tree
}

// errDuplicate is the cause of a refusal of a member that occurs twice.
var errDuplicate = errors.New("the member occurs twice")

// errDepth is the cause of a refusal of what nests too deep.
var errDepth = fmt.Errorf("nested deeper than %d levels", maxDepth)

// parseTree reads one JSON value and nothing after it. With unique set, a
// member that occurs twice is an error; otherwise the last one counts.
func parseTree(b []byte, unique bool) (*tree, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	p := treeParser{d: d, unique: unique}
	t, err := p.value(0, "")
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("data after the value, at byte %d", d.InputOffset())
	}
	return t, nil
}

type treeParser struct {
	d      *json.Decoder
	unique bool
}

// treeError tells where in a document reading stopped.
type treeError struct {
	path   string
	offset int
	cause  error
}

func (e *treeError) Error() string {
	if e.path == "" {
		return e.cause.Error()
	}
	return e.path + ": " + e.cause.Error()
}

func (e *treeError) Unwrap() error { return e.cause }

func (p *treeParser) fail(path string, cause error) error {
	return &treeError{path, int(p.d.InputOffset()), cause}
}

func (p *treeParser) value(depth int, path string) (*tree, error) {
	if depth > maxDepth {
		return nil, p.fail("", errDepth)
	}
	token, err := p.d.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, p.fail("", err)
	}
	t := &tree{offset: int(p.d.InputOffset())}
	switch token {
	case json.Delim('{'):
		t.shape = '{'
		return t, p.object(t, depth, path)
	case json.Delim('['):
		t.shape = '['
		for p.d.More() {
			item, err := p.value(depth+1, path+"["+strconv.Itoa(len(t.items))+"]")
			if err != nil {
				return nil, err
			}
			t.items = append(t.items, item)
		}
		_, err = p.d.Token()
		return t, err
	}
	t.shape = 's'
	t.scalar, err = json.Marshal(token)
	return t, err
}

func (p *treeParser) object(t *tree, depth int, path string) error {
	for p.d.More() {
		token, err := p.d.Token()
		if err != nil {
			return p.fail("", err)
		}
		name, _ := token.(string)
		offset := int(p.d.InputOffset())
		here := joinPath(path, name)
		if t.get(name) != nil && p.unique {
			return p.fail(here, errDuplicate)
		}
		v, err := p.value(depth+1, here)
		if err != nil {
			return err
		}
		v.offset = offset
		t.set(name, v)
	}
	_, err := p.d.Token()
	return err
}

// find returns the place of the named member, or -1.
func (t *tree) find(name string) int {
	const few = 16
	if len(t.members) <= few {
		return slices.IndexFunc(t.members, func(m member) bool { return m.name == name })
	}
	if t.index == nil {
		t.index = make(map[string]int, len(t.members))
		for i, m := range t.members {
			t.index[m.name] = i
		}
	}
	if i, ok := t.index[name]; ok {
		return i
	}
	return -1
}

// get returns the named member, or nil.
func (t *tree) get(name string) *tree {
	if i := t.find(name); i >= 0 {
		return t.members[i].value
	}
	return nil
}

// set replaces or appends a member.
func (t *tree) set(name string, v *tree) {
	if i := t.find(name); i >= 0 {
		t.members[i].value = v
		return
	}
	if t.index != nil {
		t.index[name] = len(t.members)
	}
	t.members = append(t.members, member{name, v})
}

// remove takes a member out, if it is there.
func (t *tree) remove(name string) {
	if i := t.find(name); i >= 0 {
		t.members = slices.Delete(t.members, i, i+1)
		t.index = nil
	}
}

// text returns the value of a string, and "" for anything else or none.
func (t *tree) text() string {
	var s string
	if t != nil && t.shape == 's' {
		_ = json.Unmarshal(t.scalar, &s) // not a string: ""
	}
	return s
}

func (t *tree) isNull() bool { return t.shape == 's' && isNull(t.scalar) }

// append writes the value as JSON.
func (t *tree) append(b []byte) []byte {
	switch t.shape {
	case '{':
		b = append(b, '{')
		for i, m := range t.members {
			if i > 0 {
				b = append(b, ',')
			}
			name, _ := json.Marshal(m.name) // a string always marshals
			b = append(append(b, name...), ':')
			b = m.value.append(b)
		}
		return append(b, '}')
	case '[':
		b = append(b, '[')
		for i, v := range t.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.append(b)
		}
		return append(b, ']')
	}
	return append(b, t.scalar...)
}

// lines maps the path of every value to its line, counted from 1.
func (t *tree) lines(text []byte) map[string]int {
	found := map[string]int{}
	line, at := 1, 0
	var visit func(t *tree, path string)
	visit = func(t *tree, path string) {
		if t.offset >= at { // values are visited in the order of the text
			line += bytes.Count(text[at:t.offset], []byte{'\n'})
			at = t.offset
		}
		found[path] = line
		for _, m := range t.members {
			visit(m.value, joinPath(path, m.name))
		}
		for i, v := range t.items {
			visit(v, path+"["+strconv.Itoa(i)+"]")
		}
	}
	visit(t, "")
	return found
}

// joinPath appends a member to a path such as spec.ingress[0]. Names that are
// not plain words, such as those of labels, are quoted in brackets.
func joinPath(path, name string) string {
	plain := name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
	switch {
	case !plain:
		return path + "[" + strconv.Quote(name) + "]"
	case path == "":
		return name
	}
	return path + "." + name
}

// parentPath takes the last step off a path; that of one step is "".
func parentPath(path string) string {
	if strings.HasSuffix(path, `"]`) {
		return path[:max(strings.LastIndex(path, `["`), 0)]
	}
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}
