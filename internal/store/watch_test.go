// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"testing"
	"time"
)

func TestTransactionIsOneUpdate(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	r := startWatch(t, c, nil)
	r.synced(t)
	n := r.count()
	var ops []Op
	for i := range 100 {
		ops = append(ops, OpCreate(setKey(99-i), setValue(99-i)))
	}
	rev := must[int64](t)(c.Commit(ctx, ops))
	r.wait(t, "the transaction", func() bool { return r.lastLocked().Revision >= rev })
	with := 0
	for _, u := range r.since(n) {
		if len(u.Changes) == 0 {
			continue
		}
		with++
		if len(u.Changes) != 100 || u.Revision != rev {
			t.Fatalf("got %d changes at %d, want 100 at %d", len(u.Changes), u.Revision, rev)
		}
		for _, ch := range u.Changes {
			if ch.Kind != "GlobalNetworkSet" || ch.Object == nil || ch.Err != nil || ch.Revision != rev {
				t.Fatalf("bad change %+v", ch)
			}
		}
	}
	if with != 1 {
		t.Fatalf("%d updates with changes, want 1", with)
	}
}

func TestLatency(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	r := startWatch(t, c, nil)
	r.synced(t)
	var put, total time.Duration
	const n = 200
	for i := range n {
		began := time.Now()
		rev := must[int64](t)(c.Put(ctx, setKey(1), setValue(i)))
		put += time.Since(began)
		r.wait(t, "put", func() bool { return r.lastLocked().Revision >= rev })
		total += time.Since(began)
	}
	t.Logf("put returns after %v, delivered after %v", put/n, total/n)
}
