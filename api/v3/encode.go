// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// EncodeMerged returns the JSON that etcd is to hold for an object. Stored is
// the value that it replaces; nil if there is none, or it is beyond repair.
//
// Members of stored that the Go types do not have survive, at every level,
// because other programs may live by them. An element of a list keeps its
// unknown members if it is unchanged otherwise, wherever it moved to; a changed
// one keeps those of its predecessor in the same place, as long as the list has
// the same length. Of metadata, only labels and annotations are the caller's to
// remove: uid, creationTimestamp and the like are kept when r has none, and so
// is status, which belongs to agents.
//
// The result has no resourceVersion or selfLink. The name in it is the key's,
// and a policy carries the displayed name in an annotation.
func EncodeMerged(r Resource, stored []byte) ([]byte, error) {
	info, ok := InfoFor(r)
	if !ok {
		return nil, fmt.Errorf("encode %T: not a kind of resource", r)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode %s %q: %w", info.Kind, r.Meta().Name, err)
	}
	t, err := parseTree(b, false)
	if err != nil {
		return nil, fmt.Errorf("encode %s %q: %w", info.Kind, r.Meta().Name, err)
	}
	t.set("kind", text(info.Kind))
	t.set("apiVersion", text(APIVersion))
	meta := t.get("metadata")
	meta.set("name", text(KeyName(r)))
	if isTiered(info.Kind) {
		annotations := meta.get("annotations")
		if annotations == nil {
			annotations = &tree{shape: '{'}
			meta.set("annotations", annotations)
		}
		shown := (&tree{shape: '{', members: []member{{"name", text(r.Meta().Name)}}}).append(nil)
		annotations.set(metadataAnnotation, text(string(shown)))
	}
	if old, err := parseTree(stored, false); err == nil && old.shape == '{' {
		merge(t, old, reflect.TypeOf(r).Elem())
		if s := old.get("status"); t.get("status") == nil && s != nil && !s.isNull() {
			t.set("status", s)
		}
	}
	meta = t.get("metadata")
	meta.remove("resourceVersion")
	meta.remove("selfLink")
	out := t.append(nil)
	if len(out) > MaxStored {
		return nil, fmt.Errorf("encode %s %q: %d bytes: the datastore accepts %d in one object", info.Kind, r.Meta().Name, len(out), MaxStored)
	}
	return out, nil
}

// text returns a string as a tree.
func text(s string) *tree {
	b, _ := json.Marshal(s) // a string always marshals
	return &tree{shape: 's', scalar: b}
}

// merge copies into t what old has and the type does not know.
func merge(t, old *tree, typ reflect.Type) {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case t.shape != old.shape || isOpaque(typ):
	case typ.Kind() == reflect.Slice && t.shape == '[':
		mergeList(t, old, typ.Elem())
	case typ.Kind() == reflect.Struct && t.shape == '{':
		mergeStruct(t, old, typ)
	}
}

func mergeStruct(t, old *tree, typ reflect.Type) {
	// The decoder ignores case, so that a member which differs only in case
	// was read: it is known, and its value is in t if it still holds.
	known := map[string]field{}
	for _, f := range fields(typ) {
		known[strings.ToLower(f.name)] = f
	}
	keep := typ == reflect.TypeFor[ObjectMeta]()
	for _, m := range old.members {
		f, ok := known[strings.ToLower(m.name)]
		switch now := t.get(f.name); {
		case !ok:
			t.set(m.name, m.value)
		case f.name != m.name || m.value.isNull():
		case now != nil:
			merge(now, m.value, f.typ)
		case keep && f.name != "labels" && f.name != "annotations":
			t.set(m.name, m.value)
		}
	}
}

func mergeList(t, old *tree, elem reflect.Type) {
	if elem.Kind() != reflect.Struct || isOpaque(elem) {
		return
	}
	// waiting holds the old elements by what is known of them.
	waiting := map[string][]int{}
	used := make([]bool, len(old.items))
	for i, item := range old.items {
		if s, ok := knownPart(item, elem); ok {
			waiting[s] = append(waiting[s], i)
		}
	}
	matched := make([]bool, len(t.items))
	for i, item := range t.items {
		s, ok := knownPart(item, elem)
		if w := waiting[s]; ok && len(w) > 0 {
			matched[i], used[w[0]], waiting[s] = true, true, w[1:]
			merge(item, old.items[w[0]], elem)
		}
	}
	if len(t.items) != len(old.items) {
		return
	}
	for i, item := range t.items {
		if !matched[i] && !used[i] {
			merge(item, old.items[i], elem)
		}
	}
}

// knownPart returns the JSON of what the type knows of a value.
func knownPart(t *tree, typ reflect.Type) (string, bool) {
	v := reflect.New(typ).Interface()
	if json.Unmarshal(t.append(nil), v) != nil {
		return "", false
	}
	b, err := json.Marshal(v)
	return string(b), err == nil
}
