// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"fmt"
	"testing"
)

// A BGPPeer with a listen range needs AS numbers, and no neighbour of its own.
func TestListenRange(t *testing.T) {
	const rows = "64999,65000-65099, 1.0"
	for _, c := range []struct {
		rng, as, spec, want string
	}{
		{"10.0.0.0/24, 2001:db8::/64", "", "{asNumber: 64999}", ""},
		{"10.0.0.0/24", rows, "{}", ""},
		{"10.0.0.0/24", "", "{}", "spec.asNumber"},
		{"10.0.0.0/24", "", "{peerIP: 10.0.0.1, asNumber: 64999}", "spec.peerIP"},
		{"10.0.0.0/24", "", "{peerSelector: all()}", "spec.peerIP"},
		{"", "64999", "{peerIP: 10.0.0.1, asNumber: 64999}", "metadata.annotations"},
		{"10.0.0.0/24", "65000-64999", "{asNumber: 1}", `metadata.annotations["muslin/listen-as"]`},
		{"10.0.0.0/24", "0", "{asNumber: 1}", `metadata.annotations["muslin/listen-as"]`},
		{"10.0.0.0/24", "4294967295", "{asNumber: 1}", `metadata.annotations["muslin/listen-as"]`},
		{"10.0.0.0/24,fe80::/10", "", "{asNumber: 1}", `metadata.annotations["muslin/listen-range"]`},
		{"10.0.0.0/24", "64999,0", "{}", `metadata.annotations["muslin/listen-as"]`},
		{"10.0.0.0/24,rack", "", "{asNumber: 1}", `metadata.annotations["muslin/listen-range"]`},
	} {
		r := load(t, "BGPPeer", "x", c.spec)
		r.Meta().Annotations = map[string]string{}
		for name, v := range map[string]string{"listen-range": c.rng, "listen-as": c.as} {
			if v != "" {
				r.Meta().Annotations[AnnotationPrefix+name] = v
			}
		}
		if got := paths(Validate(r)); got != c.want {
			t.Errorf("%+v: faults %q", c, got)
		}
		s, _ := r.(*BGPPeer).Settings()
		if c.want == `metadata.annotations["muslin/listen-as"]` && s.ListenAS != nil || c.want == `metadata.annotations["muslin/listen-range"]` && s.ListenRange != nil {
			t.Errorf("%+v: %v of %v is in force in spite of the mistake", c, s.ListenRange, s.ListenAS)
		}
		if c.as == rows && fmt.Sprint(s.ListenAS) != "[[64999 64999] [65000 65099] [65536 65536]]" {
			t.Errorf("%v", s.ListenAS)
		}
	}
}
