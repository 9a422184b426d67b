// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rewrite decodes a stored value, changes it and encodes it again.
func rewrite(t *testing.T, kind, stored string, change func(Resource)) map[string]any {
	t.Helper()
	r, err := DecodeStored(kind, []byte(stored))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	b, err := EncodeMerged(r, []byte(stored))
	if err != nil {
		t.Fatal(err)
	}
	return generic(t, string(b))
}

func generic(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return v
}

func TestEncodeMergedKeepsTheUnknown(t *testing.T) {
	const stored = `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","top":{"a":[1,{"b":null}]},
	"metadata":{"name":"p","uid":"u","managed":{"by":"x"},"annotations":{"projectcalico.org/metadata":"{\"name\":\"p\"}"},"finalizers":["f"]},
	"spec":{"tier":"default","newSpec":12345678901234567890,"selector":"all()",
	 "ingress":[{"action":"Allow","newRule":1,"source":{"nets":["10.0.0.0/8"],"newEntity":true}},
	            {"action":"Deny","newRule":2,"icmp":{"newICMP":"x"},"protocol":1}]}}`
	if diff := cmp.Diff(generic(t, stored), rewrite(t, "GlobalNetworkPolicy", stored, nil)); diff != "" {
		t.Errorf("unchanged (-want +got):\n%s", diff)
	}
	if b, _ := EncodeMerged(mustDecode(t, "GlobalNetworkPolicy", stored), []byte(stored)); !strings.Contains(string(b), "12345678901234567890") {
		t.Errorf("a large number lost digits: %s", b)
	}

	got := rewrite(t, "GlobalNetworkPolicy", stored, func(r Resource) {
		p := r.(*GlobalNetworkPolicy)
		p.Spec.Selector = "has(a)"
		p.Spec.Ingress = []Rule{{Action: "Log"}, p.Spec.Ingress[1], p.Spec.Ingress[0]}
	})
	want := generic(t, strings.NewReplacer(`"all()"`, `"has(a)"`).Replace(stored))
	in := want["spec"].(map[string]any)["ingress"].([]any)
	want["spec"].(map[string]any)["ingress"] = []any{map[string]any{"action": "Log"}, in[1], in[0]}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("moved rules (-want +got):\n%s", diff)
	}

	got = rewrite(t, "GlobalNetworkPolicy", stored, func(r Resource) { r.(*GlobalNetworkPolicy).Spec.Ingress[0].Source.Nets = []string{"11.0.0.0/8"} })
	if diff := cmp.Diff(generic(t, strings.Replace(stored, "10.0.0.0/8", "11.0.0.0/8", 1)), got); diff != "" {
		t.Errorf("changed rule (-want +got):\n%s", diff)
	}
}

func mustDecode(t *testing.T, kind, stored string) Resource {
	t.Helper()
	r, err := DecodeStored(kind, []byte(stored))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEncodeMergedRemovesTheKnown(t *testing.T) {
	const stored = `{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n","labels":{"a":"b"},"creationTimestamp":"2026-08-22T13:00:00Z","uid":"u","resourceVersion":"7","selfLink":"/x"},
	"spec":{"bgp":{"ipv4Address":"10.0.0.1/24","asNumber":64512},"SPEC":1},"status":{"podCIDRs":["10.0.0.0/24"]}}`
	n := &Node{}
	n.Metadata.Name, n.Metadata.ResourceVersion = "n", "9"
	n.Spec.BGP = &NodeBGP{IPv6Address: "fd00::1/64"}
	b, err := EncodeMerged(n, []byte(stored))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n","creationTimestamp":"2026-08-22T13:00:00Z","uid":"u"},"spec":{"bgp":{"ipv6Address":"fd00::1/64"},"SPEC":1},"status":{"podCIDRs":["10.0.0.0/24"]}}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Members that differ from a known one only in case were read as that one; kept
// beside it they would come back and override what was written.
func TestEncodeMergedDropsOtherSpellings(t *testing.T) {
	got := rewrite(t, "IPPool", `{"metadata":{"name":"p"},"spec":{"cidr":"10.0.0.0/8","CIDR":"11.0.0.0/8"}}`, func(r Resource) { r.(*IPPool).Spec.CIDR = "12.0.0.0/8" })
	if diff := cmp.Diff(map[string]any{"cidr": "12.0.0.0/8"}, got["spec"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEncodeMergedOpenStack(t *testing.T) {
	got := rewrite(t, "WorkloadEndpoint", openstackWEP, nil)
	want := generic(t, openstackWEP)
	want["metadata"].(map[string]any)["labels"].(map[string]any)["projectcalico.org/openstack-project-parent-id"] = ""
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEncodeMergedFresh(t *testing.T) {
	p := &NetworkPolicy{}
	p.Metadata = ObjectMeta{Name: "web", Namespace: "ns"}
	Default(p)
	for _, stored := range []string{"", "garbage", "null", "[]"} {
		b, err := EncodeMerged(p, []byte(stored))
		if err != nil {
			t.Fatal(err)
		}
		const want = `{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"web","namespace":"ns","labels":{"projectcalico.org/tier":"default"},` +
			`"annotations":{"projectcalico.org/metadata":"{\"name\":\"web\"}"}},"spec":{"tier":"default","types":["Ingress"]}}`
		if string(b) != want {
			t.Errorf("over %q:\n got %s\nwant %s", stored, b, want)
		}
	}
	if p.Metadata.Annotations != nil {
		t.Error("EncodeMerged changed its argument")
	}
	f := &FelixConfiguration{}
	f.Metadata.Name = "default"
	Default(f)
	b, _ := EncodeMerged(f, nil)
	const want = `"spec":{"floatingIPs":"Disabled","nftablesFlowTableOffload":"Disabled","nftablesMode":"Auto","bpfConnectTimeLoadBalancing":"TCP","bpfHostNetworkedNATWithoutCTLB":"Enabled","bpfLogLevel":""}`
	if !strings.Contains(string(b), want) {
		t.Errorf("%s lacks %s", b, want)
	}
}

func TestEncodeMergedRefusesWhatEtcdWould(t *testing.T) {
	s := &GlobalNetworkSet{}
	s.Metadata.Name = "s"
	for range MaxStored / 12 {
		s.Spec.Nets = append(s.Spec.Nets, "10.0.0.0/16")
	}
	if _, err := EncodeMerged(s, nil); err == nil || !strings.Contains(err.Error(), `GlobalNetworkSet "s"`) {
		t.Errorf("%v", err)
	}
}

func TestDefaultIsIdempotent(t *testing.T) {
	for _, k := range Kinds() {
		r := k.New()
		r.Meta().Name = "default"
		Default(r)
		once, _ := json.Marshal(r)
		Default(r)
		if twice, _ := json.Marshal(r); string(once) != string(twice) {
			t.Errorf("%s: %s becomes %s", k.Kind, once, twice)
		}
	}
}

func TestDefaults(t *testing.T) {
	for input, want := range map[string]string{
		`{"kind":"NetworkPolicy","spec":{"egress":[{"action":"Allow"}]}}`:                               `{"tier":"default","egress":[{"action":"Allow"}],"types":["Egress"]}`,
		`{"kind":"NetworkPolicy","spec":{"ingress":[{"action":"Allow"}],"egress":[{"action":"Deny"}]}}`: `{"tier":"default","ingress":[{"action":"Allow"}],"egress":[{"action":"Deny"}],"types":["Ingress","Egress"]}`,
		`{"kind":"GlobalNetworkPolicy","spec":{"tier":"ops","types":["Egress"]}}`:                       `{"tier":"ops","types":["Egress"]}`,
		`{"kind":"Tier","spec":{}}`:                                       `{"order":1000000,"defaultAction":"Deny"}`,
		`{"kind":"Tier","spec":{"order":5,"defaultAction":"Pass"}}`:       `{"order":5,"defaultAction":"Pass"}`,
		`{"kind":"IPPool","spec":{"cidr":"10.1.2.3/16"}}`:                 `{"cidr":"10.1.0.0/16","vxlanMode":"Never","ipipMode":"Never","blockSize":26,"nodeSelector":"all()","allowedUses":["Workload","Tunnel"],"assignmentMode":"Automatic"}`,
		`{"kind":"IPPool","spec":{"cidr":"FD00:0::/48","blockSize":116}}`: `{"cidr":"fd00::/48","vxlanMode":"Never","ipipMode":"Never","blockSize":116,"nodeSelector":"all()","allowedUses":["Workload","Tunnel"],"assignmentMode":"Automatic"}`,
		`{"kind":"IPPool","spec":{"cidr":"fd00::/48"}}`:                   `{"cidr":"fd00::/48","vxlanMode":"Never","ipipMode":"Never","blockSize":122,"nodeSelector":"all()","allowedUses":["Workload","Tunnel"],"assignmentMode":"Automatic"}`,
		`{"kind":"BGPConfiguration","spec":{}}`:                           `{"logSeverityScreen":"Info","serviceLoadBalancerAggregation":"Enabled"}`,
		`{"kind":"StagedNetworkPolicy","spec":{}}`:                        `{"stagedAction":"Set","tier":"default","types":["Ingress"]}`,
		`{"kind":"StagedKubernetesNetworkPolicy","spec":{"podSelector":{},"ingress":[{"ports":[{"port":"web"},{"port":1,"endPort":2}]}]}}`: `{"stagedAction":"Set","ingress":[{"ports":[{"port":"web"},{"port":1,"endPort":2}]}]}`,
		`{"kind":"StagedNetworkPolicy","spec":{"stagedAction":"Delete"}}`:                                                                  `{"stagedAction":"Delete","tier":"default"}`,
	} {
		rs, err := Decode([]byte(strings.Replace(input, "{", `{"apiVersion":"projectcalico.org/v3",`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		Default(rs[0])
		b, _ := json.Marshal(rs[0])
		if got := string(knownMember(t, b, "spec")); got != want {
			t.Errorf("%s:\n got %s\nwant %s", input, got, want)
		}
	}
	w := &WorkloadEndpoint{Spec: WorkloadEndpointSpec{Node: "compute-01", Orchestrator: "openstack", Workload: "1f2e-aa", Endpoint: "77-bb"}}
	Default(w)
	want := ObjectMeta{Name: "compute--01-openstack-1f2e--aa-77--bb", Namespace: "default",
		Labels: map[string]string{LabelNamespace: "default", LabelOrchestrator: "openstack"}}
	if diff := cmp.Diff(want, w.Metadata); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func knownMember(t *testing.T, b []byte, name string) json.RawMessage {
	t.Helper()
	var v map[string]json.RawMessage
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v[name]
}
