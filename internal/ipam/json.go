// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// members are the members of a JSON object that we do not know. They belong
// to other writers of the same key and are written back as they were read.
type members map[string]json.RawMessage

// decodeObject reads a JSON object into its members. An empty text or null is
// an object without members.
func decodeObject(b []byte) (members, error) {
	m := members{}
	if len(bytes.TrimSpace(b)) == 0 {
		return m, nil
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	return m, nil
}

// take decodes a member into v and removes it from m. A member that is absent
// or null leaves v alone. The first error is kept in *err and stops the rest.
func take[T any](m members, name string, v *T, err *error) {
	raw, ok := m[name]
	if !ok || *err != nil {
		return
	}
	delete(m, name)
	if bytes.Equal(raw, []byte("null")) {
		return
	}
	if e := json.Unmarshal(raw, v); e != nil {
		*err = fmt.Errorf("member %q: %w", name, e)
	}
}

// takeTime is take for RFC 3339 text.
func takeTime(m members, name string, v *time.Time, err *error) {
	var s string
	take(m, name, &s, err)
	if *err != nil || s == "" {
		return
	}
	t, e := time.Parse(time.RFC3339, s)
	if e != nil {
		*err = fmt.Errorf("member %q: %w", name, e)
		return
	}
	*v = t
}

// object writes a JSON object member by member, in the order of the calls.
type object struct {
	buf bytes.Buffer
	err error
}

func (o *object) set(name string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		o.err = fmt.Errorf("member %q: %w", name, err)
		return
	}
	if o.buf.Len() == 0 {
		o.buf.WriteByte('{')
	} else {
		o.buf.WriteByte(',')
	}
	n, _ := json.Marshal(name) // a string always encodes
	o.buf.Write(n)
	o.buf.WriteByte(':')
	o.buf.Write(b)
}

func (o *object) setTime(name string, t time.Time) {
	if !t.IsZero() {
		o.set(name, t.UTC().Format(time.RFC3339Nano))
	}
}

// end adds the members that are not ours and returns the text.
func (o *object) end(others members) ([]byte, error) {
	for _, k := range slices.Sorted(maps.Keys(others)) {
		o.set(k, others[k])
	}
	if o.err != nil {
		return nil, o.err
	}
	if o.buf.Len() == 0 {
		o.buf.WriteByte('{')
	}
	o.buf.WriteByte('}')
	return o.buf.Bytes(), nil
}
