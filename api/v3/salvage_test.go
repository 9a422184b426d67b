// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"errors"
	"strings"
	"testing"
)

func TestDecodeKV_Salvage(t *testing.T) {
	key := Key("GlobalNetworkPolicy", "", "web")
	for _, tc := range []struct {
		name, value string
		selector    string // "" is nothing to be salvaged
		path        string
		order       float64
		types       int
	}{
		{"a rule of a wrong type", `{"spec":{"ingress":7,"selector":"a == 'b'","order":3,"types":["Ingress"]}}`, "a == 'b'", "spec.ingress", 3, 1},
		{"types of a wrong type", `{"spec":{"types":7,"selector":"a == 'b'","order":3}}`, "a == 'b'", "spec.types", 3, 0},
		{"metadata of a wrong type", `{"metadata":7,"spec":{"selector":"a == 'b'","order":3}}`, "a == 'b'", "metadata", 3, 0},
		{"a selector of a wrong type", `{"spec":{"ingress":[],"selector":7}}`, "", "spec.selector", 0, 0},
		{"a selector that is null", `{"spec":{"ingress":7,"selector":null}}`, "", "spec.ingress", 0, 0},
		{"no selector", `{"spec":{"ingress":7}}`, "", "spec.ingress", 0, 0},
		{"no spec", `{"spec":[]}`, "", "spec", 0, 0},
		{"no JSON", `{"spec":{"selector":"a == 'b'"`, "", "", 0, 0},
		{"brackets", `{"spec":{"selector":"a == 'b'","x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}}`, "", "", 0, 0},
	} {
		r, err := DecodeKV(key, []byte(tc.value))
		var fault *FieldError
		if !errors.As(err, &fault) || fault.Kind != "GlobalNetworkPolicy" || fault.Name != "web" || fault.Path != tc.path {
			t.Errorf("%s: error %v, want one of GlobalNetworkPolicy web, field %q", tc.name, err, tc.path)
		}
		if r == nil {
			if tc.selector != "" {
				t.Errorf("%s: nothing was salvaged", tc.name)
			}
			continue
		}
		p := r.(*GlobalNetworkPolicy)
		if p.Spec.Selector != tc.selector || p.Spec.Order == nil || *p.Spec.Order != tc.order || len(p.Spec.Types) != tc.types || p.Metadata.Name != "web" || len(p.Spec.Ingress) != 0 {
			t.Errorf("%s: salvaged %+v", tc.name, p)
		}
	}
	if r, err := DecodeKV(Key("Tier", "", "t"), []byte(`{"spec":{"order":"x","selector":"all()"}}`)); r != nil || err == nil {
		t.Errorf("a tier: %v, %v", r, err)
	}
}
