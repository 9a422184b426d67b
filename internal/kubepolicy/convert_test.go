// SPDX-License-Identifier: Apache-2.0

package kubepolicy

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestPolicy converts what the documentation of Kubernetes has examples of.
func TestPolicy(t *testing.T) {
	const pod = `projectcalico.org/orchestrator == 'k8s'`
	for _, c := range []struct{ name, spec, want string }{
		{"deny all", `{"podSelector":{},"policyTypes":["Ingress","Egress"]}`, `{"tier":"default","order":1000,"selector":"` + pod + `","types":["Ingress","Egress"]}`},
		{"no types, no egress", `{"podSelector":{"matchLabels":{"b":"2","a":"1"}}}`, `{"tier":"default","order":1000,"selector":"` + pod + ` && a == '1' && b == '2'","types":["Ingress"]}`},
		{"allow all", `{"podSelector":{},"ingress":[{}]}`, `{"tier":"default","order":1000,"ingress":[{"action":"Allow"}],"selector":"` + pod + `","types":["Ingress"]}`},
		{"pods of here and of elsewhere", `{"podSelector":{},"ingress":[{"from":[{"podSelector":{}},{"namespaceSelector":{}},{"namespaceSelector":{"matchLabels":{"team":"x"}},"podSelector":{"matchExpressions":[{"key":"a","operator":"NotIn","values":["1","2"]}]}}]}]}`,
			`{"tier":"default","order":1000,"ingress":[{"action":"Allow","source":{"selector":"` + pod + `"}},{"action":"Allow","source":{"selector":"` + pod + `","namespaceSelector":"all()"}},` +
				`{"action":"Allow","source":{"selector":"` + pod + ` && a not in {'1', '2'}","namespaceSelector":"team == 'x'"}}],"selector":"` + pod + `","types":["Ingress"]}`},
		{"networks and ports", `{"podSelector":{},"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}],"ports":[{"port":80},{"protocol":"UDP","port":"dns"},{"port":8000,"endPort":8010},{"protocol":"SCTP"}]}]}`,
			`{"tier":"default","order":1000,"egress":[{"action":"Allow","protocol":"TCP","destination":{"nets":["10.0.0.0/8"],"notNets":["10.1.0.0/16"],"ports":[80,"8000:8010"]}},` +
				`{"action":"Allow","protocol":"UDP","destination":{"nets":["10.0.0.0/8"],"notNets":["10.1.0.0/16"],"ports":["dns"]}},` +
				`{"action":"Allow","protocol":"SCTP","destination":{"nets":["10.0.0.0/8"],"notNets":["10.1.0.0/16"]}}],"selector":"` + pod + `","types":["Ingress","Egress"]}`},
	} {
		p := &NetworkPolicy{Metadata: Metadata{Name: "p", Namespace: "ns"}}
		if err := json.Unmarshal([]byte(c.spec), &p.Spec); err != nil {
			t.Fatal(err)
		}
		got, err := Policy(p)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var want v3.PolicySpec
		if err := json.Unmarshal([]byte(c.want), &want); err != nil {
			t.Fatal(err)
		}
		g, _ := json.Marshal(got.Spec)
		w, _ := json.Marshal(want)
		if string(g) != string(w) || got.Metadata.Name != "knp.default.p" || got.Metadata.Namespace != "ns" {
			t.Errorf("%s: got\n%s, want\n%s", c.name, g, w)
		}
		if err := v3.Validate(got); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, spec := range []string{
		`{"policyTypes":["Both"]}`, `{"ingress":[{"from":[{}]}]}`, `{"ingress":[{"ports":[{"protocol":"ICMP"}]}]}`, `{"ingress":[{"ports":[{"endPort":5}]}]}`,
		`{"ingress":[{"ports":[{"port":"x","endPort":5}]}]}`, `{"ingress":[{"ports":[{"port":80,"endPort":79}]}]}`, `{"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/33"}}]}]}`,
		`{"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8"},"podSelector":{}}]}]}`, `{"podSelector":{"matchExpressions":[{"key":"a","operator":"In"}]}}`,
		`{"podSelector":{"matchExpressions":[{"key":"a","operator":"Like","values":["b"]}]}}`, `{"podSelector":{"matchLabels":{"a":"it's"}}}`,
	} {
		p := &NetworkPolicy{}
		if err := json.Unmarshal([]byte(spec), &p.Spec); err != nil {
			t.Fatal(err)
		}
		if got, err := Policy(p); err == nil {
			t.Errorf("%s: converted to %+v", spec, got.Spec)
		}
	}
}

// pod is one of a random cluster.
type pod struct {
	namespace string
	labels    map[string]string
	addr      netip.Addr
}

var namespaces = map[string]map[string]string{"x": {"team": "a"}, "y": {"team": "b"}, "z": {}}

// TestConversionMeansTheSame holds the evaluator on converted objects against a
// plain reading of what Kubernetes says a NetworkPolicy means.
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
		w := &policy.World{}
		for _, n := range names {
			p := Namespace(Metadata{Name: n, Labels: namespaces[n]})
			w.Put(policy.Key{Kind: "Profile", Name: p.Metadata.Name}, p, nil)
		}
		var pods []pod
		for i := range 6 {
			p := pod{rapid.SampledFrom(names).Draw(t, "ns"), label(), netip.AddrFrom4([4]byte{10, 0, byte(i % 2), byte(i)})}
			if i > 3 {
				p.addr = netip.AddrFrom16([16]byte{0xfd, 15: byte(i)})
			}
			pods = append(pods, p)
			e := &v3.WorkloadEndpoint{Object: v3.Object{Metadata: v3.ObjectMeta{Name: string(rune('a' + i)), Namespace: p.namespace, Labels: map[string]string{
				"projectcalico.org/namespace": p.namespace, "projectcalico.org/orchestrator": "k8s"}}},
				Spec: v3.WorkloadEndpointSpec{Node: "n", InterfaceName: "cali" + string(rune('a'+i)), IPNetworks: []string{p.addr.String()}, Profiles: Profiles(p.namespace, "")}}
			for k, v := range p.labels {
				e.Metadata.Labels[k] = v
			}
			w.Put(policy.Key{Kind: "WorkloadEndpoint", Namespace: p.namespace, Name: e.Metadata.Name}, e, nil)
		}
		selector := func() LabelSelector {
			s := LabelSelector{MatchLabels: label()}
			if rapid.IntRange(0, 2).Draw(t, "expression") == 0 {
				r := Requirement{Key: rapid.SampledFrom([]string{"app", "team"}).Draw(t, "key"), Operator: rapid.SampledFrom([]string{"In", "NotIn", "Exists", "DoesNotExist"}).Draw(t, "operator")}
				if r.Operator == "In" || r.Operator == "NotIn" {
					r.Values = []string{"a"}
				}
				s.MatchLabels, s.MatchExpressions = nil, []Requirement{r}
			}
			return s
		}
		peers := func() (out []Peer) {
			for range rapid.IntRange(0, 2).Draw(t, "peers") {
				s, ns := selector(), selector()
				out = append(out, rapid.SampledFrom([]Peer{{PodSelector: &s}, {NamespaceSelector: &ns}, {PodSelector: &s, NamespaceSelector: &ns},
					{IPBlock: &IPBlock{CIDR: "10.0.0.0/16", Except: []string{"10.0.1.0/24"}}}, {IPBlock: &IPBlock{CIDR: "fd00::/8"}}}).Draw(t, "peer"))
			}
			return out
		}
		end := int32(90)
		ports := func() (out []Port) {
			for range rapid.IntRange(0, 2).Draw(t, "ports") {
				out = append(out, rapid.SampledFrom([]Port{{}, {Port: &NumberOrName{Number: 80}}, {Protocol: "UDP", Port: &NumberOrName{Number: 53}}, {Port: &NumberOrName{Number: 81}, EndPort: &end}}).Draw(t, "port"))
			}
			return out
		}
		var policies []*NetworkPolicy
		for i := range rapid.IntRange(0, 4).Draw(t, "policies") {
			p := &NetworkPolicy{Metadata: Metadata{Name: string(rune('a' + i)), Namespace: rapid.SampledFrom(names).Draw(t, "ns")}}
			p.Spec.PodSelector = selector()
			p.Spec.PolicyTypes = rapid.SampledFrom([][]string{nil, {"Ingress"}, {"Egress"}, {"Ingress", "Egress"}}).Draw(t, "types")
			for range rapid.IntRange(0, 2).Draw(t, "ingress") {
				p.Spec.Ingress = append(p.Spec.Ingress, Rule{From: peers(), Ports: ports()})
			}
			for range rapid.IntRange(0, 2).Draw(t, "egress") {
				p.Spec.Egress = append(p.Spec.Egress, Rule{To: peers(), Ports: ports()})
			}
			policies = append(policies, p)
			out, err := Policy(p)
			if err != nil {
				t.Fatal(err)
			}
			w.Put(policy.Key{Kind: "NetworkPolicy", Namespace: p.Metadata.Namespace, Name: out.Metadata.Name}, out, nil)
		}
		for _, a := range pods {
			for _, b := range pods {
				if a.addr == b.addr || a.addr.Is4() != b.addr.Is4() {
					continue
				}
				for _, s := range []struct {
					protocol string
					number   uint8
					port     uint16
				}{{"TCP", 6, 80}, {"TCP", 6, 85}, {"UDP", 17, 53}, {"UDP", 17, 80}} {
					want := permits(policies, a, b, false, s.protocol, s.port) && permits(policies, b, a, true, s.protocol, s.port)
					f := w.FlowOf(policy.Packet{Src: a.addr, Dst: b.addr, Proto: s.number, DstPort: s.port, SrcPort: 40000})
					if got := policy.Evaluate(w, f); got.Allowed != want {
						text, _ := json.Marshal(policies)
						t.Fatalf("%+v to %+v, %s %d: the evaluator says %v (%v; %v), Kubernetes %v\n%s", a, b, s.protocol, s.port, got.Allowed, got.Egress, got.Ingress, want, text)
					}
					tally[want]++
				}
			}
		}
	})
	t.Log(tally)
	if tally[true] == 0 || tally[false] == 0 {
		t.Error("the clusters are too poor")
	}
}

// permits reads policies as the API reference of Kubernetes does: a pod that none
// selects in a direction is not isolated; one that some select may talk to whom
// any rule of any of them names.
func permits(policies []*NetworkPolicy, at, other pod, ingress bool, protocol string, port uint16) bool {
	isolated := false
	for _, p := range policies {
		applies := slices.Contains(p.Spec.PolicyTypes, map[bool]string{true: "Ingress", false: "Egress"}[ingress]) ||
			len(p.Spec.PolicyTypes) == 0 && (ingress || len(p.Spec.Egress) > 0)
		if p.Metadata.Namespace != at.namespace || !applies || !p.Spec.PodSelector.matches(at.labels) {
			continue
		}
		isolated = true
		rules := p.Spec.Egress
		if ingress {
			rules = p.Spec.Ingress
		}
		for _, r := range rules {
			peers := r.To
			if ingress {
				peers = r.From
			}
			if (len(peers) == 0 || slices.ContainsFunc(peers, func(x Peer) bool { return x.is(p.Metadata.Namespace, other) })) &&
				(len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(x Port) bool { return x.is(protocol, port) })) {
				return true
			}
		}
	}
	return !isolated
}

func (p Peer) is(namespace string, other pod) bool {
	if p.IPBlock != nil {
		return netip.MustParsePrefix(p.IPBlock.CIDR).Contains(other.addr) &&
			!slices.ContainsFunc(p.IPBlock.Except, func(s string) bool { return netip.MustParsePrefix(s).Contains(other.addr) })
	}
	if p.NamespaceSelector == nil && other.namespace != namespace || p.NamespaceSelector != nil && !p.NamespaceSelector.matches(namespaces[other.namespace]) {
		return false
	}
	return p.PodSelector == nil || p.PodSelector.matches(other.labels)
}

func (p Port) is(protocol string, port uint16) bool {
	if p.Protocol == "" && protocol != "TCP" || p.Protocol != "" && p.Protocol != protocol {
		return false
	}
	if p.Port == nil {
		return true
	}
	last := p.Port.Number
	if p.EndPort != nil {
		last = uint16(*p.EndPort)
	}
	return p.Port.Number <= port && port <= last
}

func (s LabelSelector) matches(labels map[string]string) bool {
	for k, v := range s.MatchLabels {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	for _, r := range s.MatchExpressions {
		have, ok := labels[r.Key]
		if in := ok && slices.Contains(r.Values, have); r.Operator == "In" && !in || r.Operator == "NotIn" && in || r.Operator == "Exists" && !ok || r.Operator == "DoesNotExist" && ok {
			return false
		}
	}
	return true
}

// TestProfiles: what a pod cannot give itself comes from its namespace and account.
func TestProfiles(t *testing.T) {
	ns := Namespace(Metadata{Name: "x", Labels: map[string]string{"team": "a"}})
	if ns.Metadata.Name != "kns.x" || ns.Spec.LabelsToApply["pcns.team"] != "a" || ns.Spec.LabelsToApply["pcns.projectcalico.org/name"] != "x" || len(ns.Spec.Ingress) != 1 {
		t.Errorf("namespace: %+v", ns)
	}
	sa := ServiceAccount(Metadata{Name: "s", Namespace: "x", Labels: map[string]string{"job": "b"}})
	if sa.Metadata.Name != "ksa.x.s" || sa.Spec.LabelsToApply["pcsa.job"] != "b" || len(sa.Spec.Ingress)+len(sa.Spec.Egress) != 0 {
		t.Errorf("service account: %+v", sa)
	}
	if got := Profiles("x", "s"); !slices.Equal(got, []string{"kns.x", "ksa.x.s"}) {
		t.Errorf("profiles %v", got)
	}
}

// FuzzPolicy: whatever a policy holds, it is refused or becomes a valid one.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"podSelector":{"matchLabels":{"a":"b"}},"ingress":[{"from":[{"podSelector":{}}],"ports":[{"port":80},{"port":"x"}]}]}`))
	f.Add([]byte(`{"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}],"ports":[{"port":1,"endPort":2}]}]}`))
	f.Fuzz(func(t *testing.T, spec []byte) {
		p := &NetworkPolicy{Metadata: Metadata{Name: "p", Namespace: "ns"}}
		if json.Unmarshal(spec, &p.Spec) != nil {
			return
		}
		out, err := Policy(p)
		if (out == nil) != (err != nil) {
			t.Errorf("policy %v, error %v", out, err)
		}
	})
}
