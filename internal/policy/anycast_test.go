// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// TestAnycast: with muslin/anycast an endpoint of this node has the address that an older one of another
// node has, too, in whatever order they come; one that does not share keeps it for itself.
func TestAnycast(t *testing.T) {
	shared := netip.MustParsePrefix("10.99.0.1/32")
	on := func(node, since, anycast string) func(*v3.WorkloadEndpoint) {
		return func(w *v3.WorkloadEndpoint) {
			w.Spec.Node, w.Spec.IPNetworks, w.Metadata.CreationTimestamp = node, []string{shared.String()}, &since
			w.Metadata.Annotations = map[string]string{v3.AnnotationPrefix + "anycast": anycast}
		}
	}
	has := func(s *scene, name string) bool {
		s.x.Flush()
		id := EndpointID{"red", name}
		e := newInterp(s.x).eps[id]
		is := e != nil && slices.Contains(e.Addrs, shared.Addr())
		s.w.Node = "alpha"
		if owner, _ := s.w.Owner(shared.Addr()); is != (owner == id) && s.w.Endpoints[id] != nil {
			t.Errorf("%s has it: %v; the evaluator says that %s has", name, is, owner)
		}
		return is
	}
	const early, late = "2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z"
	for _, order := range []string{"xyz", "zyx", "yzx", "zxy"} {
		s := newScene(t)
		for _, name := range order {
			switch name {
			case 'x':
				s.endpoint("x", 9, on("alpha", late, "Enabled"))
			case 'y':
				s.endpoint("y", 9, on("beta", early, "Enabled"))
			case 'z':
				s.endpoint("z", 9, on("gamma", early, "Enabled"))
			}
		}
		if !has(s, "x") {
			t.Errorf("%s: x has not what it shares with others", order)
		}
		if got := s.x.NodesOf(shared.Addr()); !slices.Equal(got, []string{"alpha", "beta", "gamma"}) {
			t.Errorf("%s: it is on %v", order, got)
		}
		if p := s.problems(); strings.Contains(p, "10.99.0.1") {
			t.Errorf("%s: %s", order, p)
		}
		// Who does not share has it alone, however young.
		s.endpoint("z", 9, on("gamma", late, "Disabled"))
		if has(s, "x") {
			t.Errorf("%s: x has what z does not share", order)
		}
		s.reports("red/x: spec.ipNetworks: 10.99.0.1 belongs to the older endpoint red/z")
		// Of two on a node the older has it.
		s.endpoint("z", 9, on("alpha", early, "Enabled"))
		if has(s, "x") || !has(s, "z") {
			t.Errorf("%s: x %v, z %v; want z", order, has(s, "x"), has(s, "z"))
		}
		s.set(endpointKey("z"), nil)
		if !has(s, "x") {
			t.Errorf("%s: x has not what it shares with y", order)
		}
		s.endpoint("x", 9, on("alpha", late, "yes"))
		s.reports(`muslin/anycast"]: "yes": want Enabled or Disabled`)
	}
}
