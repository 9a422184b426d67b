// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/policy"
)

func TestQuick(t *testing.T) {
	inNetns(t)
	v := scale(200, 500, 10, 3, 10000)
	tab := openTable(t)
	start := time.Now()
	must(t, tab.Resync(v))
	t.Logf("cold: %v %+v problems %d", time.Since(start), tab.Stats(), len(tab.Problems()))
	for _, p := range tab.Problems() {
		t.Log(p)
	}
	start = time.Now()
	quiet(t, tab, v)
	t.Logf("resync %v", time.Since(start))
	for i := range 5 {
		v.policy(scalePolicy(7, 10, 3, 1+i))
		before := tab.Stats()
		start = time.Now()
		must(t, tab.Apply(v, v.flush()))
		t.Logf("policy: %v messages %d", time.Since(start), tab.Stats().Messages-before.Messages)
	}
	for i := range 5 {
		e := *v.endpoints[policy.EndpointID{Namespace: "ns", Name: "ep3"}]
		e.ID.Name, e.Interface, e.Addrs = fmt.Sprintf("new%d", i), fmt.Sprintf("calinew%d", i), addrs("10.1.1.1", "fd01::1")
		v.endpoint(&e)
		before := tab.Stats()
		start = time.Now()
		must(t, tab.Apply(v, v.flush()))
		t.Logf("endpoint: %v messages %d", time.Since(start), tab.Stats().Messages-before.Messages)
	}
	for i := range 5 {
		m := policy.Member{Net: nets(fmt.Sprintf("10.200.0.%d/32", i))[0]}
		v.members["set1"] = append(v.members["set1"], m)
		v.ch.Sets["set1"] = &policy.SetChange{Added: []policy.Member{m}}
		start = time.Now()
		must(t, tab.Apply(v, v.flush()))
		t.Logf("member: %v", time.Since(start))
	}
	quiet(t, tab, v)
}
