// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"fmt"
	"testing"
)

// A BGPPeer on interfaces says who the neighbour is by AS number alone.
func TestPeerOnInterface(t *testing.T) {
	const annotation = `metadata.annotations["muslin/`
	for _, c := range []struct {
		on, as, more, spec, want string
	}{
		{"eth1", "External", "", "{}", ""},
		{"eth1, swp2.100", "Internal", "", "{}", ""},
		{"eth1", "", "", "{asNumber: 65001}", ""},
		{"eth1", "", "", "{asNumber: 65001, node: host1, localASNumber: 65002}", ""},
		{"eth1", "", "", "{}", "spec.asNumber"},
		{"eth1", "External", "", "{asNumber: 65001}", "spec.asNumber"},
		{"eth1", "", "", "{asNumber: 65001, peerIP: 10.0.0.1}", "spec.peerIP"},
		{"eth1", "External", "", "{peerSelector: all()}", "spec.peerIP"},
		{"eth1", "External", "", "{localWorkloadSelector: all()}", "spec.peerIP"},
		{"eth1", "External", "10.0.0.0/24", "{}", "spec.peerIP"},
		{"eth1", "External", "", "{sourceAddress: None}", "spec.sourceAddress"},
		{"", "External", "", "{peerIP: 10.0.0.1, asNumber: 65001}", "metadata.annotations"},
		{"eth1", "external", "", "{}", annotation + `remote-as"]`},
		{"lo", "External", "", "{}", annotation + `interface"]`},
		{"eth1,eth1", "External", "", "{}", annotation + `interface"]`},
		{"eth/1", "External", "", "{}", annotation + `interface"]`},
		{"eth1%", "External", "", "{}", annotation + `interface"]`},
		{"eth1,", "External", "", "{}", annotation + `interface"]`},
		{"an-interface-name", "External", "", "{}", annotation + `interface"]`},
	} {
		r := load(t, "BGPPeer", "x", c.spec)
		r.Meta().Annotations = map[string]string{}
		for name, v := range map[string]string{"interface": c.on, "remote-as": c.as, "listen-range": c.more} {
			if v != "" {
				r.Meta().Annotations[AnnotationPrefix+name] = v
			}
		}
		if got := paths(Validate(r)); got != c.want {
			t.Errorf("%+v: faults %q", c, got)
		}
		if s, _ := r.(*BGPPeer).Settings(); c.want == annotation+`interface"]` && s.Interfaces != nil {
			t.Errorf("%+v: %v is in force in spite of the mistake", c, s.Interfaces)
		}
		if s, _ := r.(*BGPPeer).Settings(); c.on == "eth1, swp2.100" && fmt.Sprint(s.Interfaces, s.RemoteAS) != "[eth1 swp2.100]Internal" {
			t.Errorf("%+v", s)
		}
	}
}
