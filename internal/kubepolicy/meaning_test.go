// SPDX-License-Identifier: Apache-2.0

package kubepolicy_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/kubepolicy"
	"github.com/muslin-net/muslin/internal/kubepolicy/kubepolicytest"
	"github.com/muslin-net/muslin/internal/policy"
)

var numbers = map[string]uint8{"TCP": 6, "UDP": 17, "SCTP": 132}

type fataler interface{ Fatalf(string, ...any) }

// world is what the evaluator is asked about.
func world(t fataler, c *kubepolicytest.Cluster) *policy.World {
	w := &policy.World{}
	err := c.Objects(func(kind, namespace, name string, r v3.Resource) {
		w.Put(policy.Key{Kind: kind, Namespace: namespace, Name: name}, r, nil)
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return w
}

// compare asks for every pod at every other one: the evaluator on the converted
// objects says what Kubernetes does.
func compare(t fataler, c *kubepolicytest.Cluster, ports []uint16, tally map[bool]int) {
	w := world(t, c)
	for a, from := range c.Pods {
		for b, to := range c.Pods {
			if a == b || from.Addr.Is4() != to.Addr.Is4() {
				continue
			}
			for protocol, number := range numbers {
				for _, port := range ports {
					want := c.Permits(a, b, protocol, port)
					got := policy.Evaluate(w, w.FlowOf(policy.Packet{Src: from.Addr, Dst: to.Addr, Proto: number, DstPort: port, SrcPort: 40000}))
					if got.Allowed != want {
						text, _ := json.Marshal(c)
						t.Fatalf("%s to %s, %s %d: the evaluator says %v (%v; %v), Kubernetes %v\n%s", a, b, protocol, port, got.Allowed, got.Egress, got.Ingress, want, text)
					}
					tally[want]++
				}
			}
		}
	}
}

// TestCyclonus: all 230 cases, in both families.
func TestCyclonus(t *testing.T) {
	for _, v4 := range []bool{true, false} {
		cases := kubepolicytest.Cyclonus(v4)
		seen, groups := map[string]bool{}, map[string]int{}
		tally := map[bool]int{}
		for _, x := range cases {
			name := x.Group + "/" + x.Name
			if seen[name] {
				t.Errorf("two cases are called %s", name)
			}
			seen[name] = true
			groups[x.Group]++
			t.Run(map[bool]string{true: "IPv4/", false: "IPv6/"}[v4]+name, func(t *testing.T) {
				c := kubepolicytest.NewCluster(v4)
				for _, step := range x.Steps {
					for _, do := range step {
						do(c)
					}
					compare(t, c, kubepolicytest.Ports, tally)
				}
			})
		}
		for g, want := range kubepolicytest.Groups {
			if groups[g] != want {
				t.Errorf("%d cases of the group %s, want %d", groups[g], g, want)
			}
		}
		if len(cases) != 230 {
			t.Errorf("%d cases, want 230", len(cases))
		}
		if tally[true] == 0 || tally[false] == 0 {
			t.Errorf("permitted and not: %v", tally)
		}
		t.Logf("%d cases, connections permitted and not: %v", len(cases), tally)
	}
}

// TestConversionMeansTheSame is the same for random clusters.
func TestConversionMeansTheSame(t *testing.T) {
	tally := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		label := func() map[string]string {
			m := map[string]string{}
			for _, k := range []string{"app", "tier"} {
				if v := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, k); v != "" {
					m[k] = v
				}
			}
			return m
		}
		names := []string{"x", "y", "z"}
		c := &kubepolicytest.Cluster{Namespaces: map[string]map[string]string{"x": {"team": "a"}, "y": {"team": "b"}, "z": {}},
			Pods: map[kubepolicytest.PodID]*kubepolicytest.Pod{}, Policies: map[kubepolicytest.PodID]*kubepolicy.NetworkPolicy{}}
		for i := range 6 {
			name := string(rune('a' + i))
			p := &kubepolicytest.Pod{Labels: label(), Addr: netip.AddrFrom4([4]byte{10, 0, byte(i % 2), byte(i)}), Interface: "cali" + name}
			if i > 3 {
				p.Addr = netip.AddrFrom16([16]byte{0xfd, 15: byte(i)})
			}
			if i%2 == 0 {
				p.Ports = []v3.EndpointPort{{Name: "web", Protocol: v3.ProtocolName("TCP"), Port: 80}}
			}
			c.Pods[kubepolicytest.PodID{Namespace: rapid.SampledFrom(names).Draw(t, "ns"), Name: name}] = p
		}
		selector := func() kubepolicy.LabelSelector {
			s := kubepolicy.LabelSelector{MatchLabels: label()}
			if rapid.IntRange(0, 2).Draw(t, "expression") == 0 {
				r := kubepolicy.Requirement{Key: rapid.SampledFrom([]string{"app", "team"}).Draw(t, "key"), Operator: rapid.SampledFrom([]string{"In", "NotIn", "Exists", "DoesNotExist"}).Draw(t, "operator")}
				if strings.HasSuffix(r.Operator, "In") {
					r.Values = []string{"a"}
				}
				s.MatchLabels, s.MatchExpressions = nil, []kubepolicy.Requirement{r}
			}
			return s
		}
		peers := func() (out []kubepolicy.Peer) {
			for range rapid.IntRange(0, 2).Draw(t, "peers") {
				s, ns := selector(), selector()
				out = append(out, rapid.SampledFrom([]kubepolicy.Peer{{PodSelector: &s}, {NamespaceSelector: &ns}, {PodSelector: &s, NamespaceSelector: &ns},
					{IPBlock: &kubepolicy.IPBlock{CIDR: "10.0.0.0/16", Except: []string{"10.0.1.0/24"}}}, {IPBlock: &kubepolicy.IPBlock{CIDR: "fd00::/8"}}}).Draw(t, "peer"))
			}
			return out
		}
		end, port := int32(90), v3.SinglePort
		at := func(protocol string, p v3.Port, end *int32) kubepolicy.Port {
			return kubepolicy.Port{Protocol: protocol, Port: &p, EndPort: end}
		}
		ports := func() (out []kubepolicy.Port) {
			for range rapid.IntRange(0, 2).Draw(t, "ports") {
				out = append(out, rapid.SampledFrom([]kubepolicy.Port{{}, at("", port(80), nil), at("UDP", port(53), nil), at("", port(81), &end), at("", v3.Port{Name: "web"}, nil)}).Draw(t, "port"))
			}
			return out
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "policies") {
			p := &kubepolicy.NetworkPolicy{Metadata: kubepolicy.Metadata{Name: string(rune('a' + i)), Namespace: rapid.SampledFrom(names).Draw(t, "ns")}}
			p.Spec.PodSelector = selector()
			p.Spec.PolicyTypes = rapid.SampledFrom([][]string{nil, {"Ingress"}, {"Egress"}, {"Ingress", "Egress"}}).Draw(t, "types")
			for range rapid.IntRange(0, 2).Draw(t, "ingress") {
				p.Spec.Ingress = append(p.Spec.Ingress, kubepolicy.IngressRule{From: peers(), Ports: ports()})
			}
			for range rapid.IntRange(0, 2).Draw(t, "egress") {
				p.Spec.Egress = append(p.Spec.Egress, kubepolicy.EgressRule{To: peers(), Ports: ports()})
			}
			c.Policies[kubepolicytest.PodID{Namespace: p.Metadata.Namespace, Name: p.Metadata.Name}] = p
		}
		compare(t, c, []uint16{53, 80, 85}, tally)
	})
	t.Log(tally)
	if tally[true] == 0 || tally[false] == 0 {
		t.Error("the clusters are too poor")
	}
}
