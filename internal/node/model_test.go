// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/store"
)

// TestReadInParts reads an update in several goroutines: the index comes to
// hold what it holds if each object is set by itself.
func TestReadInParts(t *testing.T) {
	const n = 300
	var u store.Update
	add := func(kind, name string, r v3.Resource, err error) {
		namespace := ""
		if kind == "WorkloadEndpoint" {
			namespace = "default"
		}
		u.Changes = append(u.Changes, store.Change{Key: v3.Key(kind, namespace, name), Kind: kind, Namespace: namespace, Name: name, Object: r, Err: err})
	}
	for i := range n {
		switch name := fmt.Sprint("o", i); i % 5 {
		default:
			w := &v3.WorkloadEndpoint{}
			w.Metadata.Labels = map[string]string{"app": fmt.Sprint(i % 7), "own": name}
			w.Spec.Node, w.Spec.InterfaceName = fmt.Sprint("n", i%2), "cali"+name
			w.Spec.IPNetworks = []string{fmt.Sprintf("10.0.%d.%d", i/250, i%250), fmt.Sprintf("fd00::%x", i)}
			add("WorkloadEndpoint", name, w, nil)
		case 3:
			p := &v3.GlobalNetworkPolicy{}
			p.Spec.Selector, p.Spec.Types = fmt.Sprintf("app == '%d'", i%7), []string{"Ingress"}
			p.Spec.Ingress = []v3.Rule{{Action: "Allow", Source: v3.EntityRule{Selector: fmt.Sprintf("app == '%d'", i%3)}}}
			add("GlobalNetworkPolicy", name, p, nil)
		case 4:
			add("GlobalNetworkPolicy", name, nil, errors.New("not JSON"))
		}
	}
	add("Node", "n0", &v3.Node{}, nil)
	add("WorkloadEndpoint", "o0", nil, nil) // it is deleted again

	one, all := policy.NewIndex("n0"), newModel("n0", policy.NewIndex("n0"))
	for _, c := range u.Changes {
		one.Set(policy.Key{Kind: c.Kind, Namespace: c.Namespace, Name: c.Name}, c.Object, c.Err)
	}
	for _, c := range read(u).changes {
		all.apply(c)
	}
	if all.nodes["n0"] == nil {
		t.Error("an object that is not of policy is lost")
	}
	byAddr := cmpopts.SortSlices(func(a, b policy.Member) int { return a.Net.Compare(b.Net) })
	if diff := cmp.Diff(one.Flush(), all.index.Flush(), byAddr, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("one by one (-) and in parts (+):\n%s", diff)
	}
	texts := func(x *policy.Index) (list []string) {
		for p := range x.Problems() {
			list = append(list, p.String())
		}
		return list
	}
	if a, b := texts(one), texts(all.index); !slices.Equal(a, b) || len(a) < n/5 {
		t.Errorf("problems: %d one by one, %d in parts", len(a), len(b))
	}
}

// TestAffinityThatIsNoBlock: what can be no block, or is not written as one, is nobody's, whoever claims it; this
// node's own is a problem until it goes.
func TestAffinityThatIsNoBlock(t *testing.T) {
	for _, c := range []struct {
		block string
		good  bool
	}{
		{"ipv4/block/0.0.0.0-0", false}, {"ipv4/block/10.0.0.0-8", false}, {"ipv4/block/10.64.0.0-19", false}, {"ipv4/block/10.64.0.1-26", false}, {"ipv4/block/10.64.0.0-026", false},
		{"ipv4/block/10.64.0.0-33", false}, {"ipv4/block/::-122", false}, {"ipv6/block/::-0", false}, {"ipv6/block/fd00::-115", false}, {"ipv6/block/fd00:0::-122", false}, {"ipv6/block/::ffff:10.0.0.0-122", false},
		{"ipv4/block/10.64.0.0-20", true}, {"ipv4/block/10.64.0.0-32", true}, {"ipv6/block/fd00::-116", true}, {"ipv6/block/fd00::-128", true},
	} {
		for _, node := range []string{"n1", "n2"} {
			m := newModel("n1", policy.NewIndex("n1"))
			kv := store.KV{Key: "/calico/ipam/v2/host/" + node + "/" + c.block, Value: []byte(`{"state":"confirmed"}`)}
			written, ok := store.ChangeOf(kv)
			if !ok {
				t.Fatalf("%s is not listed", kv.Key)
			}
			m.apply(change{Change: written})
			if len(m.affinities) == 1 != c.good || len(m.blocks) == 1 != (c.good && node == "n1") || len(m.bad) == 1 != (!c.good && node == "n1") {
				t.Errorf("%s: affinities %v, blocks %v, problems %v", kv.Key, m.affinities, m.blocks, m.bad)
			}
			written.Raw, written.Deleted = nil, true
			if m.apply(change{Change: written}); len(m.affinities)+len(m.blocks)+len(m.bad) > 0 {
				t.Errorf("%s is gone: affinities %v, blocks %v, problems %v", kv.Key, m.affinities, m.blocks, m.bad)
			}
		}
	}
	m := newModel("n1", policy.NewIndex("n1"))
	if mark, ok := store.ChangeOf(store.KV{Key: "/calico/ipam/v2/host/n1"}); !ok || mark.Name != "" {
		t.Fatalf("the mark of a host: %v, %v", mark, ok)
	} else if m.apply(change{Change: mark}); len(m.bad) > 0 {
		t.Errorf("the mark of a host is a problem: %v", m.bad)
	}
}
