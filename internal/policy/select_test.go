// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/selector"
)

// A selector selects an endpoint by its labels and by those of its profiles, as
// they are now.
func TestSelects(t *testing.T) {
	x := NewIndex("n1")
	id := EndpointID{"default", "a"}
	w := &v3.WorkloadEndpoint{}
	w.Metadata.Namespace, w.Metadata.Name, w.Metadata.Labels = "default", "a", map[string]string{"role": "router"}
	w.Spec = v3.WorkloadEndpointSpec{Node: "n1", Orchestrator: "muslin", Workload: "a", Endpoint: "eth0", InterfaceName: "calia",
		IPNetworks: []string{"10.65.0.1/32", "fd65::1/128"}, Profiles: []string{"p"}}
	expect := func(text string, want bool) {
		t.Helper()
		s, err := selector.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if x.Selects(s, id) != want {
			t.Errorf("%s: want %v", text, want)
		}
	}
	expect("all()", false) // it is not there
	x.Set(Key{kindEndpoint, "default", "a"}, w, nil)
	expect("role == 'router'", true)
	expect("has(rack)", false)
	p := &v3.Profile{}
	p.Metadata.Name, p.Spec.LabelsToApply = "p", map[string]string{"rack": "one", "role": "other"}
	x.Set(Key{kindProfile, "", "p"}, p, nil)
	expect("rack == 'one' && role == 'router'", true) // its own label wins
	x.Set(Key{kindProfile, "", "p"}, nil, nil)
	expect("has(rack)", false)
	x.Set(Key{kindEndpoint, "default", "a"}, nil, nil)
	expect("all()", false)
}
