// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"bytes"
	"encoding/json"
)

// selecting are the members of a policy's spec that say which traffic it is
// about, as opposed to what happens to it.
var selecting = [...]string{
	"tier", "order", "types", "namespaceSelector", "serviceAccountSelector", "applyOnForward", "doNotTrack", "preDNAT",
}

// salvagePolicy reads what a policy selects from a stored value that cannot be
// read as a whole. Nil if the kind is no policy, or if the selector is missing
// or unreadable: a policy must not come to select everything by accident.
func salvagePolicy(kind string, b []byte) Resource {
	if kind != "NetworkPolicy" && kind != "GlobalNetworkPolicy" || len(b) > MaxStored || tooDeep(b) {
		return nil
	}
	var v struct{ Spec map[string]json.RawMessage }
	if json.Unmarshal(b, &v) != nil {
		return nil
	}
	info, _ := kindNamed(kind)
	r := info.New()
	// Each member on its own: a bad one takes nothing else along.
	take := func(member string) bool {
		raw, ok := v.Spec[member]
		if !ok || bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
			return false
		}
		one, err := json.Marshal(map[string]any{"spec": map[string]json.RawMessage{member: raw}})
		return err == nil && json.Unmarshal(one, info.New()) == nil && json.Unmarshal(one, r) == nil
	}
	if !take("selector") {
		return nil
	}
	for _, m := range selecting {
		take(m)
	}
	*r.Type() = TypeMeta{Kind: kind, APIVersion: APIVersion}
	return r
}
