// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// TestMACs: the annotation macs adds MAC addresses to the one in the specification, and
// counts as absent, which is a Problem, without that or with a mistake in it.
func TestMACs(t *testing.T) {
	key := Key{kindEndpoint, "default", "n-muslin-w-eth0"}
	for _, c := range []struct {
		mac, macs string
		want      [][6]byte
		problem   string
	}{
		{"02:00:00:00:00:01", "", nil, ""},
		{"02:00:00:00:00:01", "02:00:00:00:00:03, 02:00:00:00:00:02, 02:00:00:00:00:01,02:00:00:00:00:02", [][6]byte{{2, 5: 1}, {2, 5: 2}, {2, 5: 3}}, ""},
		{"", "02:00:00:00:00:02", nil, "spec.mac is missing"},
		{"02:00:00:00:00:01", "02:00:00:00:00:02, x", nil, `"x"`},
	} {
		x := NewIndex("n")
		w := &v3.WorkloadEndpoint{Spec: v3.WorkloadEndpointSpec{Node: "n", Orchestrator: "muslin", Workload: "w", Endpoint: "eth0",
			InterfaceName: "cali1", MAC: c.mac, IPNetworks: []string{"10.65.0.1/32"}}}
		if c.macs != "" {
			w.Metadata.Annotations = map[string]string{"muslin/macs": c.macs}
		}
		x.Set(key, w, nil)
		x.Flush()
		if c.want == nil && c.mac != "" {
			c.want = [][6]byte{{2, 5: 1}}
		}
		for e := range x.Endpoints() {
			if got := e.AllMACs(); !slices.Equal(got, c.want) {
				t.Errorf("mac %q, macs %q: %v, want %v", c.mac, c.macs, got, c.want)
			}
		}
		text := ""
		for p := range x.Problems() {
			text += p.String()
		}
		if (c.problem == "") != (text == "") || !strings.Contains(text, c.problem) {
			t.Errorf("mac %q, macs %q: problem %q, want %q", c.mac, c.macs, text, c.problem)
		}
	}
}
