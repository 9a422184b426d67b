// SPDX-License-Identifier: Apache-2.0

package kubepolicy

import (
	"encoding/json"
	"slices"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
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
		`{"ingress":[{"ports":[{"port":"x","endPort":5}]}]}`, `{"ingress":[{"ports":[{"port":"80:90"}]}]}`, `{"ingress":[{"ports":[{"port":80,"endPort":79}]}]}`, `{"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/33"}}]}]}`,
		`{"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8"},"podSelector":{}}]}]}`, `{"podSelector":{"matchExpressions":[{"key":"a","operator":"In"}]}}`,
		`{"podSelector":{"matchExpressions":[{"key":"a","operator":"Like","values":["b"]}]}}`, `{"podSelector":{"matchLabels":{"a":"it's"}}}`,
		`{"podSelector":{"matchLabels":{"a":"b' || c == 'd"}}}`, `{"podSelector":{"matchLabels":{"a == 'b' || c":"d"}}}`, `{"podSelector":{"matchLabels":{"":"d"}}}`,
		`{"podSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["b'} || c in {'d"]}]}}`, `{"podSelector":{"matchExpressions":[{"key":"a) || has(b","operator":"Exists"}]}}`,
		`{"ingress":[{"ports":[{"port":80,"endPort":65536}]}]}`,
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
