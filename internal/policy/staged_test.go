// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// TestStaged tells what staged policies would do on the way of a packet, and that
// its verdict is what it is without them.
func TestStaged(t *testing.T) {
	w := &World{}
	x := NewIndex("n")
	put := func(k Key, r v3.Resource) {
		w.Put(k, r, nil)
		x.Set(k, r, nil)
	}
	put(Key{kindEndpoint, "ns", "w"}, &v3.WorkloadEndpoint{Object: v3.Object{Metadata: v3.ObjectMeta{Name: "w", Namespace: "ns", Labels: map[string]string{labelNamespace: "ns", "projectcalico.org/orchestrator": "k8s"}}},
		Spec: v3.WorkloadEndpointSpec{Node: "n", InterfaceName: "cali0", IPNetworks: []string{"10.0.0.1", "fd00::1"}}})
	rules := func(actions ...string) v3.PolicySpec {
		s := v3.PolicySpec{Types: []string{"Ingress"}}
		for _, a := range actions {
			s.Ingress = append(s.Ingress, v3.Rule{Action: a})
		}
		return s
	}
	first := 0.0
	inTier := func(s v3.PolicySpec, tier string) v3.PolicySpec { s.Tier, s.Order = tier, &first; return s }
	put(Key{Kind: kindTier, Name: "early"}, &v3.Tier{Spec: v3.TierSpec{Order: &first, DefaultAction: "Deny"}})
	put(Key{kindStaged, "ns", "early.s"}, &v3.StagedNetworkPolicy{Spec: v3.StagedPolicySpec{StagedAction: "Set", PolicySpec: inTier(rules("Log", "Deny"), "early")}})
	put(Key{kindStaged, "ns", "early.pass"}, &v3.StagedNetworkPolicy{Spec: v3.StagedPolicySpec{StagedAction: "Learn", PolicySpec: inTier(rules("Pass"), "early")}})
	put(Key{kindStaged, "ns", "early.ignored"}, &v3.StagedNetworkPolicy{Spec: v3.StagedPolicySpec{StagedAction: "Ignore", PolicySpec: inTier(rules("Deny"), "early")}})
	put(Key{kindStaged, "ns", "early.gone"}, &v3.StagedNetworkPolicy{Spec: v3.StagedPolicySpec{StagedAction: "Delete", PolicySpec: v3.PolicySpec{Tier: "early"}}})
	put(Key{kindStaged, "other", "early.s"}, &v3.StagedNetworkPolicy{Spec: v3.StagedPolicySpec{PolicySpec: inTier(rules("Deny"), "early")}})
	put(Key{Kind: kindGlobalPolicy, Name: "g"}, &v3.GlobalNetworkPolicy{Spec: v3.GlobalPolicySpec{PolicySpec: rules("Allow")}})
	put(Key{Kind: kindStagedGlobal, Name: "a"}, &v3.StagedGlobalNetworkPolicy{Spec: v3.StagedGlobalPolicySpec{GlobalPolicySpec: v3.GlobalPolicySpec{PolicySpec: rules()}}})
	put(Key{Kind: kindStagedGlobal, Name: "z"}, &v3.StagedGlobalNetworkPolicy{Spec: v3.StagedGlobalPolicySpec{GlobalPolicySpec: v3.GlobalPolicySpec{PolicySpec: rules("Deny")}}})
	kube := func(name, action string, rules ...v3.KubernetesIngressRule) {
		put(Key{kindStagedKube, "ns", name}, &v3.StagedKubernetesNetworkPolicy{Spec: v3.StagedKubernetesPolicySpec{StagedAction: action,
			KubernetesPolicySpec: v3.KubernetesPolicySpec{Ingress: rules}}})
	}
	port := v3.SinglePort(80)
	kube("default.k", "Set", v3.KubernetesIngressRule{Ports: []v3.KubernetesPort{{Protocol: "UDP"}}}, v3.KubernetesIngressRule{Ports: []v3.KubernetesPort{{Port: &port}}})
	kube("l", "Ignore", v3.KubernetesIngressRule{})
	kube("m", "Set", v3.KubernetesIngressRule{From: []v3.KubernetesPeer{{}}}) // cannot be read
	x.Flush()
	for _, to := range []string{"10.0.0.1", "fd00::1"} {
		dst := netip.MustParseAddr(to)
		src := netip.MustParseAddr(map[bool]string{true: "192.0.2.1", false: "2001:db8::1"}[dst.Is4()])
		p := Packet{Src: src, Dst: dst, Proto: 6, DstPort: 80}
		d := Evaluate(w, Flow{Packet: p, To: EndpointID{"ns", "w"}}).Ingress
		var got []string
		for _, s := range d.Staged {
			got = append(got, fmt.Sprintf("%s rule %d: %s", s.Policy, s.Rule, s))
		}
		want := []string{"StagedNetworkPolicy ns/early.pass rule 0: would pass to the next tier", "StagedNetworkPolicy ns/early.s rule 1: would deny", "StagedKubernetesNetworkPolicy ns/default.k rule 1: would allow", "StagedGlobalNetworkPolicy a rule -1: no rule matches"}
		if !d.Allowed || d.Policy.Name != "g" || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("to %s: %s; staged %q, want %q", to, d, got, want)
		}
		if r := x.Judge(x.LocalAt(dst), Ingress, &p); !r.Allowed || r.Policy.Name != "g" {
			t.Errorf("to %s: judged %+v", to, r)
		}
	}
}
