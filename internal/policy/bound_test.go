// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// Where addresses are, as endpoints of all nodes say, in both families.
func TestNodesOf(t *testing.T) {
	x := NewIndex("n1")
	set := func(name, node string, nets ...string) {
		w := &v3.WorkloadEndpoint{}
		w.Metadata.Namespace, w.Metadata.Name = "default", name
		w.Spec = v3.WorkloadEndpointSpec{Node: node, Orchestrator: "muslin", Workload: name, Endpoint: "eth0", InterfaceName: "cali" + name, IPNetworks: nets}
		x.Set(Key{kindEndpoint, "default", name}, w, nil)
	}
	rebound := func() string {
		list := x.Rebound()
		slices.SortFunc(list, netip.Addr.Compare)
		return fmt.Sprint(list)
	}
	nodes := func(a string) string { return fmt.Sprint(x.NodesOf(netip.MustParseAddr(a))) }

	set("a", "n1", "10.65.0.1/32", "fd65::1/128")
	set("b", "n2", "10.65.0.2/32", "fd65::2/128")
	if got, want := rebound(), "[10.65.0.1 10.65.0.2 fd65::1 fd65::2]"; got != want {
		t.Errorf("rebound %s, want %s", got, want)
	}
	if got := rebound(); got != "[]" {
		t.Errorf("rebound a second time: %s", got)
	}
	// A machine moves from n2 to n3: for a while both have it.
	set("c", "n3", "10.65.0.2/32", "fd65::2/128")
	for _, a := range []string{"10.65.0.2", "fd65::2"} {
		if got := nodes(a); got != "[n2 n3]" {
			t.Errorf("%s is on %s", a, got)
		}
	}
	if got, want := rebound(), "[10.65.0.2 fd65::2]"; got != want {
		t.Errorf("rebound %s, want %s", got, want)
	}
	x.Set(Key{kindEndpoint, "default", "b"}, nil, nil)
	if got, want := rebound()+nodes("10.65.0.2")+nodes("fd65::2")+nodes("10.65.0.9"), "[10.65.0.2 fd65::2][n3][n3][]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, p := range []string{"10.65.0.0/26", "fd65::/122", "10.65.0.2/31", "fd65::2/127", "0.0.0.0/0", "::/0", "10.65.0.2/32"} {
		prefix := netip.MustParsePrefix(p)
		var got, want []netip.Addr
		x.ClaimedIn(prefix, func(a netip.Addr) { got = append(got, a) })
		for _, a := range []string{"10.65.0.1", "10.65.0.2", "fd65::1", "fd65::2"} {
			if a := netip.MustParseAddr(a); prefix.Contains(a) {
				want = append(want, a)
			}
		}
		slices.SortFunc(got, netip.Addr.Compare)
		if !slices.Equal(got, want) {
			t.Errorf("in %s: %v, want %v", p, got, want)
		}
	}
}
