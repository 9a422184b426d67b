// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/store"
)

func TestProblemNamesTheObjectOnce(t *testing.T) {
	_, err := v3.DecodeKV(v3.Key("Tier", "", "t"), []byte(`{"spec":{"order":"x"}}`))
	for _, tc := range []struct {
		err         error
		field       string
		want, wantT string
	}{
		{&store.Error{Op: "read", Object: "/calico/x", Err: err}, "", "spec.order", "want a number, not string"},
		{&store.Error{Op: "read", Object: "/calico/x", Err: errors.New("why")}, "", "", "why"},
		{errors.New("why"), "spec.selector", "spec.selector", "why"},
	} {
		if got := problemOf("Tier t", tc.field, tc.err); got != (problem{"Tier t", tc.want, tc.wantT}) {
			t.Errorf("%v: %+v", tc.err, got)
		}
	}
}

func TestI9_AffinityThatCannotBeRead(t *testing.T) {
	m := newModel("n1", policy.NewIndex("n1"))
	set := func(value string, deleted bool) {
		key := "/calico/ipam/v2/host/n1/ipv4/block/10.65.0.0-26"
		if _, _, ok := ipam.ParseAffinityKey(key); !ok {
			t.Fatal(key)
		}
		m.apply(change{Change: store.Change{Key: key, Kind: store.KindBlockAffinity, Namespace: "n1", Name: "10.65.0.0/26", Raw: []byte(value), Deleted: deleted}})
	}
	for _, step := range []struct {
		value    string
		deleted  bool
		has, bad int
	}{
		{`{"state":"confirmed"}`, false, 1, 0},
		{`{"state":"conf`, false, 1, 1}, // the last good version stays
		{`{"state":"pending"}`, false, 0, 0},
		{`{"state":7}`, false, 0, 1}, // without one there is nothing to announce
		{"", false, 1, 0},            // an old client's
		{"", true, 0, 0},
	} {
		if set(step.value, step.deleted); len(m.blocks) != step.has || len(m.bad) != step.bad {
			t.Errorf("after %q: blocks %v, problems %v", step.value, m.blocks, m.bad)
		}
	}
}
