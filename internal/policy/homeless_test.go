// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// TestHomeless: endpoints of nodes that do not exist are told, whichever comes or goes
// first, and nothing is left of those that are gone.
func TestHomeless(t *testing.T) {
	x, nodes := NewIndex("n1"), map[string]bool{"n1": true}
	workload := func(name, node string) {
		w := &v3.WorkloadEndpoint{}
		w.Metadata.Namespace, w.Metadata.Name = "default", name
		w.Spec.Node, w.Spec.InterfaceName, w.Spec.IPNetworks = node, "cali"+name, []string{fmt.Sprintf("10.65.0.%d/32", len(name))}
		x.Set(Key{kindEndpoint, "default", name}, w, nil)
	}
	host := func(name, node string) {
		h := &v3.HostEndpoint{}
		h.Metadata.Name = name
		h.Spec.Node, h.Spec.InterfaceName = node, "eth0"
		x.Set(Key{Kind: kindHostEndpoint, Name: name}, h, nil)
	}
	want := func(when string, names ...string) {
		t.Helper()
		var got []string
		for _, p := range x.Homeless(func(n string) bool { return nodes[n] }) {
			if p.Field != "spec.node" || p.Err == nil {
				t.Errorf("%s: %v", when, p)
			}
			got = append(got, p.Key.Kind+" "+p.Key.Name)
		}
		if !slices.Equal(got, names) {
			t.Errorf("%s: %q, want %q", when, got, names)
		}
	}
	workload("a", "n1")
	workload("bb", "n2")
	host("h", "n1")
	want("n2 is not there", "WorkloadEndpoint bb")
	nodes["n2"] = true
	want("n2 comes")
	workload("ccc", "n2")
	host("h", "n3")
	want("a host endpoint moves to a node that is not there", "HostEndpoint h")
	nodes["n2"] = false
	want("n2 goes", "HostEndpoint h", "WorkloadEndpoint bb", "WorkloadEndpoint ccc")
	workload("bb", "n1")
	workload("ccc", "n1")
	host("h", "n1")
	want("all are on n1")
	host("h", "")
	want("a host endpoint of no node", "HostEndpoint h")
	for _, k := range []Key{{kindEndpoint, "default", "a"}, {kindEndpoint, "default", "bb"}, {kindEndpoint, "default", "ccc"}, {Kind: kindHostEndpoint, Name: "h"}} {
		x.Set(k, nil, nil)
	}
	want("all are gone")
	if len(x.onNodes) > 0 {
		t.Errorf("still counted: %v", x.onNodes)
	}
}
