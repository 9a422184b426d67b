// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// TestOrderAlone: a policy of which nothing but the order is another is asked in another place.
func TestOrderAlone(t *testing.T) {
	x := NewIndex("n")
	x.Set(Key{kindEndpoint, "ns", "w"}, &v3.WorkloadEndpoint{Object: v3.Object{Metadata: v3.ObjectMeta{Name: "w", Namespace: "ns"}},
		Spec: v3.WorkloadEndpointSpec{Node: "n", InterfaceName: "cali0", IPNetworks: []string{"10.0.0.1", "fd00::1"}}}, nil)
	put := func(name, action string, order *float64) {
		spec := v3.PolicySpec{Order: order, Types: []string{"Ingress"}, Ingress: []v3.Rule{{Action: action}}}
		x.Set(Key{Kind: kindGlobalPolicy, Name: name}, &v3.GlobalNetworkPolicy{Spec: v3.GlobalPolicySpec{PolicySpec: spec}}, nil)
	}
	at := func(order float64) *float64 { return &order }
	put("deny", "Deny", at(10))
	for _, c := range []struct {
		order *float64
		pass  bool
	}{{at(20), false}, {at(5), true}, {nil, false}, {at(9.5), true}} {
		put("allow", "Allow", c.order)
		if ch := x.Flush(); ch.Empty() {
			t.Error("nothing changes")
		}
		for _, to := range []string{"10.0.0.1", "fd00::1"} {
			p := Packet{Src: netip.MustParseAddr(to), Dst: netip.MustParseAddr(to), Proto: 6, DstPort: 80}
			if r := x.Judge(x.LocalAt(p.Dst), Ingress, &p); r.Allowed != c.pass {
				t.Errorf("to %s: judged %+v, want it to pass: %v", to, r, c.pass)
			}
		}
	}
}
