// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Document is one object of what a user wrote, and where it stands there.
type Document struct {
	// Resource is the object as Decode returns it. Of one whose form is wrong it
	// is the rest, which is good for nothing but Check; it is nil where there
	// is no object to be seen.
	Resource Resource

	in   *decoder
	path string // in the document of the input
	tree *tree
	form faults // an unknown member, a wrong type: what Decode refuses
}

// DecodeDocuments is Decode for those who tell the user of all mistakes at
// once: every object of the input is in the answer, and so is each document
// that holds none. The error is one of the input as a whole.
func DecodeDocuments(input []byte) ([]Document, error) {
	if len(input) > MaxInput {
		return nil, fmt.Errorf("input of %d bytes: the limit is %d; split it", len(input), MaxInput)
	}
	parts := split(input)
	var out []Document
	for i, p := range parts {
		d := decoder{part: p}
		if len(parts) > 1 {
			d.document = i + 1
		}
		out = append(out, d.decode()...)
	}
	return out, nil
}

// Err is what is wrong with the form, as Decode says it.
func (doc *Document) Err() error { return doc.form.err() }

// Check says all that is wrong: Err, and what Validate finds in the Resource,
// which has been through Default, each with its place in the input. Where the
// form is wrong, a member that is missing is no news: it may be misspelt.
func (doc *Document) Check() error {
	if doc.Resource == nil || doc.form.more > 0 {
		return doc.Err()
	}
	info, _ := InfoFor(doc.Resource)
	found := validate(info, doc.Resource)
	all := faults{list: slices.Clone(doc.form.list), more: found.more}
	for _, e := range all.list {
		e.Namespace = doc.Resource.Meta().Namespace // which may be a default by now
	}
	for _, e := range found.list {
		said := func(f *FieldError) bool { return f.Path == e.Path }
		if len(doc.form.list) > 0 && (doc.tree.at(e.Path) == nil || slices.ContainsFunc(doc.form.list, said)) {
			continue
		}
		e.Document, e.Line = doc.in.document, doc.in.line(below(doc.path, e.Path))
		all.list = append(all.list, e)
	}
	return all.err()
}

// keep puts lines to the faults of what was found, and keeps it unless it was
// a list of others, and well.
func (d *decoder) keep(doc *Document) {
	for _, e := range doc.form.list {
		e.Line = d.line(below(doc.path, e.Path))
		if e.Kind == "" && doc.path != "" && e.Name == "" {
			e.Path = strings.TrimSuffix(doc.path+"."+e.Path, ".")
		}
	}
	if doc.Resource != nil || len(doc.form.list) > 0 {
		d.out = append(d.out, *doc)
	}
}

// at returns what is at a path, or nil.
func (t *tree) at(path string) *tree {
	if path == "" || t == nil {
		return t
	}
	up := parentPath(path)
	in := t.at(up)
	if in == nil {
		return nil
	}
	switch name, index := lastStep(path[len(up):]); {
	case index < 0:
		return in.get(name)
	case index < len(in.items):
		return in.items[index]
	}
	return nil
}

// lastStep reads one step of a path: the name of a member, with index -1, or
// the index of an item.
func lastStep(step string) (name string, index int) {
	if inner, ok := strings.CutPrefix(step, "["); ok {
		inner = strings.TrimSuffix(inner, "]")
		if i, err := strconv.Atoi(inner); err == nil {
			return "", i
		}
		name, _ = strconv.Unquote(inner)
		return name, -1
	}
	return strings.TrimPrefix(step, "."), -1
}

// without is a copy that lacks the members that are at fault. Items of a list
// go with the whole list, because the others keep their places in no other way.
func (t *tree) without(list []*FieldError) *tree {
	rest, err := parseTree(t.append(nil), false)
	if err != nil {
		return t // cannot happen: it is a tree that was read
	}
	for _, f := range list {
		path := f.Path
		for path != "" {
			name, index := lastStep(path[len(parentPath(path)):])
			path = parentPath(path)
			if index < 0 {
				if in := rest.at(path); in != nil {
					in.remove(name)
				}
				break
			}
		}
	}
	return rest
}
