// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"runtime"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// The load of the budget: 200 local and 10,000 remote endpoints, 500 policies
// of 10 rules.
const (
	benchLocal    = 200
	benchRemote   = 10000
	benchPolicies = 500
	benchRules    = 10
)

func benchKey(i int) Key {
	return Key{kindEndpoint, "default", fmt.Sprintf("node%d-k8s-pod--%d-eth0", i/benchLocal, i)}
}

// benchEndpoint is endpoint i, the first ones being local. Each has a label of
// its own, as pods of a stateful set have, so that classes do not help.
func benchEndpoint(i, rev int) *v3.WorkloadEndpoint {
	k := benchKey(i)
	w := &v3.WorkloadEndpoint{}
	at := "2026-01-01T00:00:00Z"
	w.Metadata = v3.ObjectMeta{Name: k.Name, Namespace: k.Namespace, CreationTimestamp: &at, Labels: map[string]string{
		labelNamespace:                   k.Namespace,
		"projectcalico.org/orchestrator": "k8s",
		"app":                            fmt.Sprintf("app%d", i%100),
		"tier":                           fmt.Sprintf("tier%d", i%7),
		"pod":                            fmt.Sprintf("pod-%d", i),
		"rev":                            fmt.Sprintf("r%d", rev),
	}}
	w.Spec.Node = fmt.Sprintf("node%d", i/benchLocal)
	w.Spec.InterfaceName = fmt.Sprintf("cali%d", i)
	w.Spec.IPNetworks = []string{fmt.Sprintf("10.%d.%d.%d/32", i>>16, i>>8&255, i&255), fmt.Sprintf("2001:db8::%x/128", i)}
	w.Spec.Profiles = []string{"kns.default"}
	return w
}

func benchPolicy(i, rev int) (Key, *v3.GlobalNetworkPolicy) {
	k := Key{Kind: kindGlobalPolicy, Name: fmt.Sprintf("policy-%d", i)}
	p := &v3.GlobalNetworkPolicy{}
	p.Metadata.Name = k.Name
	order := float64(i % 50)
	p.Spec.Order = &order
	p.Spec.Selector = fmt.Sprintf("app == 'app%d'", i%100)
	p.Spec.Types = []string{"Ingress"}
	tcp := v3.ProtocolName("TCP")
	for j := range benchRules {
		p.Spec.Ingress = append(p.Spec.Ingress, v3.Rule{
			Action:      "Allow",
			Protocol:    &tcp,
			Source:      v3.EntityRule{Selector: fmt.Sprintf("app == 'app%d' && tier == 'tier%d'", (i+j)%100, j%7)},
			Destination: v3.EntityRule{Ports: []v3.Port{v3.SinglePort(uint16(1 + rev%1000)), v3.SinglePort(uint16(2000 + j))}},
		})
	}
	return k, p
}

func benchIndex() *Index {
	x := NewIndex("node0")
	x.Set(Key{Kind: kindTier, Name: "default"}, &v3.Tier{}, nil)
	x.Set(Key{Kind: kindProfile, Name: "kns.default"}, &v3.Profile{Spec: v3.ProfileSpec{LabelsToApply: map[string]string{"pcns.projectcalico.org/name": "default"}}}, nil)
	for i := range benchPolicies {
		k, p := benchPolicy(i, 0)
		x.Set(k, p, nil)
	}
	for i := range benchLocal + benchRemote {
		x.Set(benchKey(i), benchEndpoint(i, 0), nil)
	}
	x.Flush()
	return x
}

func BenchmarkPolicyChange(b *testing.B) {
	x := benchIndex()
	var policies []*v3.GlobalNetworkPolicy
	for rev := range 2 {
		_, p := benchPolicy(7, rev+1)
		policies = append(policies, p)
	}
	k, _ := benchPolicy(7, 0)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x.Set(k, policies[i&1], nil)
		if ch := x.Flush(); len(ch.Policies) != 1 || len(ch.Endpoints) != 0 || len(ch.Sets) != 0 {
			b.Fatalf("%d policies, %d endpoints, %d sets differ", len(ch.Policies), len(ch.Endpoints), len(ch.Sets))
		}
	}
}

// BenchmarkPolicyForAll adds and removes a policy that applies to every local
// endpoint and has a set of all endpoints.
func BenchmarkPolicyForAll(b *testing.B) {
	x := benchIndex()
	k, p := benchPolicy(1000, 0)
	p.Spec.Selector = ""
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 {
			x.Set(k, p, nil)
		} else {
			x.Set(k, nil, nil)
		}
		if ch := x.Flush(); len(ch.Endpoints) != benchLocal {
			b.Fatalf("%d endpoints differ", len(ch.Endpoints))
		}
	}
}

func BenchmarkEndpointChange(b *testing.B) {
	for _, where := range []struct {
		name string
		i    int
	}{{"local", 17}, {"remote", benchLocal + 17}} {
		b.Run(where.name, func(b *testing.B) {
			x := benchIndex()
			k := benchKey(where.i)
			revs := []*v3.WorkloadEndpoint{benchEndpoint(where.i, 1), benchEndpoint(where.i+1, 1)}
			for _, w := range revs {
				w.Spec.Node, w.Spec.InterfaceName = benchEndpoint(where.i, 0).Spec.Node, fmt.Sprintf("cali%d", where.i)
				w.Spec.IPNetworks = benchEndpoint(where.i, 0).Spec.IPNetworks
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				x.Set(k, revs[1-i&1], nil)
				if ch := x.Flush(); len(ch.Sets) == 0 {
					b.Fatal("no set differs")
				}
			}
		})
	}
}

// BenchmarkBuild is a cold start; it reports the heap that the Index then
// holds.
func BenchmarkBuild(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		before := heap()
		b.StartTimer()
		x := benchIndex()
		b.StopTimer()
		b.ReportMetric(float64(heap()-before)/1e6, "MB-held")
		b.ReportMetric(float64(len(x.sets.byID)), "sets")
		runtime.KeepAlive(x)
		b.StartTimer()
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
