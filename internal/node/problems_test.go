// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestProblemsAreLoggedOnce: a problem is in the log when it appears and when it is
// gone, and not each time that somebody looks; so is a datastore that is not ready.
func TestProblemsAreLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	var p problemLog
	now := time.Now()
	want := func(when string, list []api.Problem, lines ...string) {
		t.Helper()
		out.Reset()
		p.say(log, list, now)
		got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if out.Len() == 0 {
			got = nil
		}
		if len(got) != len(lines) {
			t.Fatalf("%s: %q, want %q", when, got, lines)
		}
		for i, l := range lines {
			if !strings.Contains(got[i], l) {
				t.Errorf("%s: %s, want %s", when, got[i], l)
			}
		}
	}
	one, two := api.Problem{Object: "Tier a", Field: "spec.order", Text: "why"}, api.Problem{Object: "Tier b", Text: "why not"}
	want("nothing wrong", nil)
	want("one", []api.Problem{one}, `level=WARN msg=problem object="Tier a" field=spec.order text=why`)
	want("the same", []api.Problem{one, one})
	want("another", []api.Problem{one, two}, `level=WARN msg=problem object="Tier b"`)
	want("the first is solved", []api.Problem{two}, `level=INFO msg="problem solved" object="Tier a"`)
	var many []api.Problem
	for i := range 1000 {
		many = append(many, api.Problem{Object: fmt.Sprint("Tier ", i)})
	}
	out.Reset()
	p.say(log, many, now)
	if n := strings.Count(out.String(), "\n"); n != problemLines+1 || !strings.Contains(out.String(), "more=981 problems=1000") {
		t.Errorf("of 1000 problems %d lines:\n%s", n, out.String())
	}
	if p.due(now, false); p.at != nil {
		t.Error("compared before anything is known")
	}
	if p.due(now, true); p.at == nil {
		t.Error("not compared after a change")
	}
}

func TestNotReadyIsAProblem(t *testing.T) {
	m := newModel("n1", policy.NewIndex("n1"))
	for _, ready := range []bool{true, false} {
		m.cluster = &v3.ClusterInformation{Spec: v3.ClusterInformationSpec{DatastoreReady: &ready}}
		if got := m.unready(); (len(got) == 0) != ready {
			t.Errorf("ready is %v: %v", ready, got)
		}
	}
}

// TestProfilesAreNoPolicies: the status counts policies.
func TestProfilesAreNoPolicies(t *testing.T) {
	x := policy.NewIndex("n1")
	var r policy.Reader
	put := func(kind, namespace, name, value string) {
		k := policy.Key{Kind: kind, Namespace: namespace, Name: name}
		o, err := v3.DecodeKV(v3.Key(kind, namespace, name), []byte(value))
		x.Put(r.Read(k, o, err))
	}
	put("Profile", "", "p", `{"spec":{"ingress":[{"action":"Allow"}]}}`)
	put("WorkloadEndpoint", "default", "n1-o-w-eth0", `{"spec":{"node":"n1","orchestrator":"o","workload":"w","endpoint":"eth0","interfaceName":"cali1","ipNetworks":["10.0.0.1/32"],"profiles":["p"]}}`)
	x.Flush()
	if n := countPolicies(x); n != 0 {
		t.Errorf("%d policies with a profile alone", n)
	}
	put("GlobalNetworkPolicy", "", "g", storedPolicy)
	x.Flush()
	if n := countPolicies(x); n != 1 {
		t.Errorf("%d policies, want 1", n)
	}
}
