// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// Values as networking-calico writes them.
const (
	openstackKey = Root + "workloadendpoints/openstack/host1-openstack-instance--1-DEADBEEF--1234--5678"
	openstackWEP = `{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3",
 "metadata":{"name":"host1-openstack-instance--1-DEADBEEF--1234--5678","namespace":"openstack",
  "creationTimestamp":"2026-08-22T13:00:00Z","uid":"5f6c",
  "annotations":{"openstack.projectcalico.org/network-id":"calico-network-id","openstack.projectcalico.org/fqdn":"vm1.example.com."},
  "labels":{"sg.projectcalico.org/openstack-SGID-default":"My_default_SG",
            "projectcalico.org/namespace":"openstack","projectcalico.org/orchestrator":"openstack",
            "projectcalico.org/openstack-project-parent-id":null}},
 "spec":{"orchestrator":"openstack","workload":"instance-1","node":"host1","endpoint":"DEADBEEF-1234-5678",
  "interfaceName":"tapDEADBEEF-12","mac":"00:11:22:33:44:55",
  "ipNetworks":["10.65.0.2/32","23.23.23.2/32"],"allowedIps":["23.23.23.2/32"],
  "ipv4Gateway":"10.65.0.1","ipNATs":[{"internalIP":"10.65.0.2","externalIP":"192.168.0.1"}],
  "qosControls":{"ingressBandwidth":1000000}}}`
	openstackPolicy = `{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3",
 "metadata":{"name":"ossg.default.sg1","namespace":"openstack","creationTimestamp":null},
 "spec":{"selector":"has(sg.projectcalico.org/openstack-sg1)",
  "ingress":[{"action":"Allow","ipVersion":4,"protocol":6,"destination":{"ports":[22,"8000:8010"]}},
             {"action":"Allow","ipVersion":4,"protocol":"112"},
             {"action":"Allow","ipVersion":6,"protocol":"ICMPv6","icmp":{"code":0}},
             {"action":"Allow","ipVersion":4,"source":{"selector":"has(sg.projectcalico.org/openstack-sg1)"}}],
  "egress":[{"action":"Allow","ipVersion":4},{"action":"Allow","ipVersion":6}]}}`
)

func TestDecodeStoredOpenStackEndpoint(t *testing.T) {
	r, err := DecodeKV(openstackKey, []byte(openstackWEP))
	if err != nil {
		t.Fatal(err)
	}
	w := r.(*WorkloadEndpoint)
	if v, ok := w.Metadata.Labels["projectcalico.org/openstack-project-parent-id"]; !ok || v != "" {
		t.Errorf("a null label is %q, %v; want the empty text, present", v, ok)
	}
	want := WorkloadEndpointSpec{
		Orchestrator: "openstack", Workload: "instance-1", Node: "host1", Endpoint: "DEADBEEF-1234-5678",
		InterfaceName: "tapDEADBEEF-12", MAC: "00:11:22:33:44:55", IPNetworks: []string{"10.65.0.2/32", "23.23.23.2/32"},
		AllowedIPs: []string{"23.23.23.2/32"}, IPv4Gateway: "10.65.0.1",
		IPNATs: []IPNAT{{"10.65.0.2", "192.168.0.1"}}, QoSControls: &QoSControls{IngressBandwidth: 1000000},
	}
	if diff := cmp.Diff(want, w.Spec); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if name, err := WorkloadEndpointName(w.Spec); err != nil || name != w.Metadata.Name {
		t.Errorf("name made from spec is %q (%v), stored is %q", name, err, w.Metadata.Name)
	}
}

func TestDecodeStoredOpenStackPolicy(t *testing.T) {
	r, err := DecodeStored("NetworkPolicy", []byte(openstackPolicy))
	if err != nil {
		t.Fatal(err)
	}
	p := r.(*NetworkPolicy)
	if p.Metadata.Name != "ossg.default.sg1" || KeyName(p) != "ossg.default.sg1" {
		t.Errorf("name %q, in key %q: ossg.default. is no prefix of a tier", p.Metadata.Name, KeyName(p))
	}
	if len(p.Spec.Types) != 0 || p.Spec.Tier != "" {
		t.Errorf("decoding made up types %v or tier %q", p.Spec.Types, p.Spec.Tier)
	}
	in := p.Spec.Ingress
	if *in[0].Protocol != ProtocolNumber(6) || in[0].Destination.Ports[1] != (Port{Min: 8000, Max: 8010}) {
		t.Errorf("first rule: %+v", in[0])
	}
	if *in[1].Protocol != ProtocolNumber(112) {
		t.Errorf("a number in quotes: %+v", in[1].Protocol)
	}
	if in[2].ICMP.Type != nil || *in[2].ICMP.Code != 0 {
		t.Errorf("a code without a type: %+v", in[2].ICMP)
	}
}

func TestDecodeStoredOthers(t *testing.T) {
	r, err := DecodeStored("ClusterInformation", []byte(`{"spec":{"clusterGUID":"0","clusterType":"openstack","datastoreReady":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c := r.(*ClusterInformation); c.Spec.DatastoreReady == nil || !*c.Spec.DatastoreReady || *c.Type() != (TypeMeta{"ClusterInformation", APIVersion}) {
		t.Errorf("%+v", c)
	}
	r, err = DecodeStored("FelixConfiguration", []byte(`{"metadata":{"name":"default"},"spec":{"endpointReportingEnabled":true,"interfacePrefix":"tap","reportingInterval":"0s","failsafeInboundHostPorts":[],"bpfLogLevel":""}}`))
	if err != nil {
		t.Fatal(err)
	}
	s := r.(*FelixConfiguration).Spec
	if !*s.EndpointReportingEnabled || s.InterfacePrefix != "tap" || s.ReportingInterval.Duration != 0 || s.FailsafeInboundHostPorts == nil || s.FailsafeOutboundHostPorts != nil {
		t.Errorf("%+v", s)
	}
}

// Everything may be null, as if it were absent.
func TestDecodeStoredNulls(t *testing.T) {
	for _, value := range []string{
		`{"kind":null,"metadata":null,"spec":null,"status":null}`,
		`{"spec":{"asNumber":null,"listenPort":null,"nodeMeshMaxRestartTime":null,"communities":null,"ports":[null]}}`,
		`{"spec":{"ingress":[null,{"protocol":null,"source":null,"destination":{"ports":[null],"nets":[null]}}]}}`,
		`{"metadata":{"labels":null,"annotations":{"a":null},"creationTimestamp":null},"spec":{"node":null,"ports":[{"protocol":null,"port":null}],"qosControls":{"dscp":null}}}`,
		`{"spec":{"peerIP":null,"asNumber":null,"order":null,"cidr":null,"datastoreReady":null}}`,
	} {
		for _, k := range Kinds() {
			if _, err := DecodeStored(k.Kind, []byte(value)); err != nil {
				t.Errorf("%s: %s: %v", k.Kind, value, err)
			}
		}
	}
}

func TestDecodeStoredErrors(t *testing.T) {
	for _, c := range []struct{ kind, value, want string }{
		{"Tier", "", "not a JSON object"},
		{"Tier", "null", "not a JSON object"},
		{"Tier", "[]", "not a JSON object"},
		{"Tier", "not JSON", "not a JSON object"},
		{"Tier", "{", "unexpected end"},
		{"Tier", "{}{}", "after top-level value"},
		{"Tier", "\x00\xff", "not a JSON object"},
		{"Tier", `{"kind":"Node"}`, `is a "Node", but its key says Tier`},
		{"Tier", `{"spec":{"order":"high"}}`, "spec.order: want a number, not string"},
		{"Tier", `{"metadata":{"labels":{"a":1}}}`, "want text, not number"},
		{"Tier", `{"metadata":{"labels":[]}}`, "metadata.labels: want an object, not array"},
		{"Tier", `{"x":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}`, "nests deeper than 64"},
		{"Tier", `{"x":"` + strings.Repeat("x", MaxStored) + `"}`, "the limit is 1572864"},
		{"Tear", `{}`, `kind "Tear": unknown`},
		{"NetworkPolicy", `{"spec":{"ingress":[{"protocol":{}}]}}`, "protocol {}"},
		{"NetworkPolicy", `{"spec":{"ingress":[{"destination":{"ports":[99999]}}]}}`, "port 99999"},
		{"BGPConfiguration", `{"spec":{"asNumber":1.5}}`, "AS number 1.5"},
	} {
		r, err := DecodeStored(c.kind, []byte(c.value))
		if err == nil || !strings.Contains(err.Error(), c.want) || r != nil {
			t.Errorf("%s %.80q: %v, %v; want …%s…", c.kind, c.value, r, err, c.want)
		}
	}
	_, err := DecodeKV(Root+"networkpolicies/ns/web", []byte("x"))
	var f *FieldError
	if !errors.As(err, &f) || f.Kind != "NetworkPolicy" || f.Namespace != "ns" || f.Name != "web" {
		t.Errorf("DecodeKV does not name the object: %v", err)
	}
	if _, err := DecodeKV("/calico/ipam/v2/config", []byte("{}")); err == nil {
		t.Error("DecodeKV accepts a key that is no resource's")
	}
}

func TestPolicyNames(t *testing.T) {
	for _, c := range []struct{ key, annotation, tier, shown string }{
		{"web", `{"name":"web"}`, "default", "web"},
		{"web", "", "default", "web"},
		{"default.web", "", "default", "web"},
		{"default.web", "", "", "web"},
		{"default.web", `{"name":"default.web"}`, "default", "default.web"},
		{"default.web", `{"name":"web"}`, "default", "web"},
		{"default.web", "not JSON", "default", "web"},
		{"default.web", `{"name":""}`, "default", "web"},
		{"default.", "", "", "default."},
		{"ops.web", "", "ops", "ops.web"},
		{"default.web", "", "ops", "default.web"},
		{"knp.default.web", "", "default", "knp.default.web"},
	} {
		for _, kind := range []string{"NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy"} {
			info, _ := LookupKind(kind)
			ns := ""
			if info.Namespaced {
				ns = "ns"
			}
			meta := map[string]any{"name": "whatever"}
			if c.annotation != "" {
				meta["annotations"] = map[string]string{metadataAnnotation: c.annotation, "kept": "yes"}
			}
			value, _ := json.Marshal(map[string]any{"metadata": meta, "spec": map[string]string{"tier": c.tier}})
			key := Key(kind, ns, c.key)
			r, err := DecodeKV(key, value)
			if err != nil {
				t.Fatal(err)
			}
			if r.Meta().Name != c.shown || KeyName(r) != c.key || KeyOf(r) != key {
				t.Errorf("%s %q %q: shown as %q, key name %q", kind, c.key, c.annotation, r.Meta().Name, KeyName(r))
			}
			if _, ok := r.Meta().Annotations[metadataAnnotation]; ok {
				t.Errorf("%s: the annotation is shown", kind)
			}
			// What is written back names the same object in the same way.
			b, err := EncodeMerged(r, value)
			if err != nil {
				t.Fatal(err)
			}
			again, err := DecodeKV(key, b)
			if err != nil || again.Meta().Name != c.shown || KeyName(again) != c.key {
				t.Errorf("%s %q: after a write shown as %q, key name %q (%v)", kind, c.key, again.Meta().Name, KeyName(again), err)
			}
		}
	}
}

// What get -o yaml prints can be applied again.
func TestYAMLRoundTrip(t *testing.T) {
	for _, c := range []struct{ key, value string }{
		{openstackKey, openstackWEP},
		{Root + "networkpolicies/openstack/ossg.default.sg1", strings.Replace(openstackPolicy, `"code":0`, `"type":8,"code":0`, 1)},
		{Root + "felixconfigurations/default", `{"metadata":{"name":"default"},"spec":{"failsafeInboundHostPorts":[],"failsafeOutboundHostPorts":[{"protocol":"udp","port":53}],"reportingInterval":"1m30s","natPortRange":"1:2","iptablesMarkMask":4294901760}}`},
		{Root + "bgpconfigurations/default", `{"spec":{"asNumber":"1.10","communities":[{"name":"a","value":"1:2"}]}}`},
	} {
		r, err := DecodeKV(c.key, []byte(c.value))
		if err != nil {
			t.Fatal(err)
		}
		text, err := yaml.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff([]Resource{r}, again); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.key, diff)
		}
	}
	// Timestamps need no quotes.
	if _, err := Decode([]byte("apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata:\n  name: a\n  creationTimestamp: 2026-08-22T13:00:00Z\n")); err != nil {
		t.Error(err)
	}
}

func BenchmarkDecodeKV(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeKV(openstackKey, []byte(openstackWEP)); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzDecodeStored looks for a stored value that panics, or that does not
// survive being written back. The seeds are what other programs write, and one
// per trap.
func FuzzDecodeStored(f *testing.F) {
	f.Add(byte(0), []byte(openstackWEP))                                           // whole objects
	f.Add(byte(1), []byte(openstackPolicy))                                        //
	f.Add(byte(2), []byte(`{"metadata":{"labels":{"a":null}},"spec":{"x":[{}]}}`)) // null and unknown
	f.Add(byte(3), []byte(`{"spec":{"cidr":"::/0","CIDR":"0/0"}}`))                // members that differ in case
	f.Add(byte(4), []byte(`{"spec":{"asNumber":"1.10"},"spec":{"asNumber":7}}`))   // twice
	f.Add(byte(5), []byte(`{"a":{"a":{"a":{"a":[[[[]]]]}}}}`))                     // deep
	f.Add(byte(6), []byte("{\"metadata\":{\"name\":\"\xff\"}}"))                   // not UTF-8
	f.Fuzz(func(t *testing.T, n byte, value []byte) {
		k := Kinds()[int(n)%len(Kinds())]
		r, err := DecodeStored(k.Kind, value)
		if err != nil {
			return
		}
		_ = Validate(r) // must not panic
		b, err := EncodeMerged(r, value)
		if err != nil {
			if len(value) < MaxStored/8 {
				t.Fatalf("cannot be written back: %v", err)
			}
			return
		}
		again, err := DecodeStored(k.Kind, b)
		if err != nil {
			t.Fatalf("what was written back does not decode: %v\n%s", err, b)
		}
		c, err := EncodeMerged(again, b)
		if err != nil || string(c) != string(b) {
			t.Fatalf("not a fixed point (%v):\n%s\n%s", err, b, c)
		}
		Default(r)
		_ = Validate(r)
	})
}

// FuzzDecode looks for input that panics, and for such that makes what comes after it
// disappear. The seeds are one per way in.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(goodPolicy))                                                                     // YAML
	f.Add([]byte(goodPolicy + "---\n" + goodPolicy))                                              // documents
	f.Add([]byte(openstackWEP))                                                                   // JSON
	f.Add([]byte("apiVersion: projectcalico.org/v3\nkind: TierList\nitems: [{spec: {oder: 1}}]")) // list, error
	f.Add([]byte("- - - a: |\n   b\n"))                                                           // nested sequences
	f.Add([]byte("a: &a [*a]"))                                                                   // alias of itself
	f.Add([]byte("{\"a\":1,\"a\":2}"))                                                            // twice
	f.Add([]byte("# c\n{kind: TierList, apiVersion: v1}"))                                        // flow style
	f.Add([]byte("{\"kind\":\"TierList\",\"apiVersion\":\"v1\"}\n# c"))                           // JSON and a comment
	f.Fuzz(func(t *testing.T, input []byte) {
		rs, err := Decode(input)
		docs, _ := DecodeDocuments(input)
		wrong := false
		for i := range docs {
			if docs[i].Resource != nil {
				Default(docs[i].Resource)
			}
			wrong = wrong || docs[i].Err() != nil
			if docs[i].Err() != nil && docs[i].Check() == nil {
				t.Fatalf("document %d: %v is lost", i, docs[i].Err())
			}
		}
		if err != nil {
			if !wrong {
				t.Fatalf("%v, and no document has it", err)
			}
			return
		}
		for _, separator := range []string{"\n", "\n---\n", "\n...\n"} {
			const last = `{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"last"}}`
			all, err := Decode([]byte(string(input) + separator + last))
			if err == nil && (len(all) != len(rs)+1 || all[len(rs)].Meta().Name != "last") {
				t.Fatalf("of the object after %q there is nothing: %v", separator, all)
			}
		}
		for i, r := range rs {
			Default(r)
			if a, b := Validate(r), docs[i].Check(); (a == nil) != (b == nil) {
				t.Fatalf("%v, and as a document %v", a, b)
			}
			if Validate(r) == nil && KeyOf(r) == "" {
				t.Fatalf("%s %q is valid but has no key", r.Type().Kind, r.Meta().Name)
			}
		}
	})
}
