// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const podWEP = `{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"node--1-k8s-web--1-eth0",` +
	`"namespace":"default","uid":"00000101-0000-4000-8000-000000000101","creationTimestamp":"2026-01-01T00:00:00Z",` +
	`"labels":{"app":"web","pod":"web-1","projectcalico.org/namespace":"default","projectcalico.org/orchestrator":"k8s",` +
	`"projectcalico.org/serviceaccount":"default","tier":"tier2"}},"spec":{"orchestrator":"k8s","node":"node-1",` +
	`"containerID":"0000000000000000000000000000000000000000000000000000000000000101","pod":"web-1","endpoint":"eth0",` +
	`"serviceAccountName":"default","ipNetworks":["10.64.1.1/32","fd64::1:1/128"],"profiles":["kns.default"],` +
	`"interfaceName":"cali0001","mac":"02:00:00:00:00:01","ports":[{"name":"http","protocol":"TCP","port":80,"hostPort":0,"hostIP":""}]}}`

// plainCases say whether a value is to be read without encoding/json.
var plainCases = []struct {
	text  string
	plain bool
}{
	{podWEP, true},
	{`{}`, true},
	{" { \"metadata\" : { \"labels\" : {} , \"generation\" : 7 } ,\n\t\"spec\":{\"profiles\":[ ],\"ports\":[]}} \r\n", true},
	{`{"spec":{"ports":[{"protocol":"17","port":65535},{"protocol":6}]}}`, true},
	{`{"metadata":{"labels":{"a":"1","a":"2"}}}`, true}, // a map takes the last
	{`{"kind":"Tier"}`, true}, // the caller's business
	{`{"spec":{"ports":[{"port":65536}]}}`, false},
	{`{"spec":{"ports":[{"protocol":256}]}}`, false},
	{`{"spec":{"ports":[{"port":080}]}}`, false},
	{`{"spec":{"ports":[{"port":1e2}]}}`, false},
	{`{"metadata":{"generation":-1}}`, false},
	{`{"Metadata":{}}`, false},
	{`{"spec":{"node":"a","node":"b"}}`, false},
	{`{"spec":{"node":null}}`, false},
	{`{"spec":{"node":"\u0061"}}`, false},
	{`{"spec":{"node":"é"}}`, false},
	{"{\"spec\":{\"node\":\"\n\"}}", false},
	{`{"spec":{"node":7}}`, false},
	{`{"spec":{"profiles":"x"}}`, false},
	{`{"spec":{"profiles":["x",]}}`, false},
	{`{"spec":{"unknown":"x"}}`, false},
	{`{"spec":{"ipNATs":[]}}`, false},
	{`{"spec":{}`, false},
	{`{"spec":{}}}`, false},
	{`{"spec":{"node":"x}}`, false},
	{openstackWEP, false}, // it has a null
}

func TestPlainEndpoint(t *testing.T) {
	for _, c := range plainCases {
		w := plainEndpoint([]byte(c.text))
		if (w != nil) != c.plain {
			t.Errorf("%s: plain is %v, want %v", c.text, w != nil, c.plain)
		}
		agreesWithJSON(t, c.text, w)
	}
}

// agreesWithJSON holds what was read against what encoding/json reads.
func agreesWithJSON(t *testing.T, text string, w *WorkloadEndpoint) {
	t.Helper()
	if w == nil {
		return
	}
	twin := &WorkloadEndpoint{}
	if err := json.Unmarshal([]byte(text), twin); err != nil {
		t.Fatalf("%s: read, although encoding/json says %v", text, err)
	}
	if diff := cmp.Diff(twin, w); diff != "" {
		t.Errorf("%s: (-encoding/json +ours):\n%s", text, diff)
	}
}

// FuzzPlainEndpoint: what is read is what encoding/json reads.
func FuzzPlainEndpoint(f *testing.F) {
	for _, c := range plainCases {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) { agreesWithJSON(t, text, plainEndpoint([]byte(text))) })
}

func BenchmarkDecodeEndpoint(b *testing.B) {
	key, value := Key("WorkloadEndpoint", "default", "node--1-k8s-web--1-eth0"), []byte(podWEP)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeKV(key, value); err != nil {
			b.Fatal(err)
		}
	}
}
