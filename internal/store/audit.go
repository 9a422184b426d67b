// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"math"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// audit compares the revisions of all keys with etcd's and returns an
// errRelist if an event never came. A watch that loses events silently looks
// healthy from the inside; only a second way of reading shows it.
//
// With values it compares those, too. An etcd that was restored from a backup and written
// to until it is at the revision that was seen answers as the one of before: its cluster and its member
// have the same ids, its raft term may be the same, and a watch goes on without an error. What a key holds at
// a revision tells them apart, and only all keys tell all of it. done is false if etcd did not answer.
func (w *watcher) audit(ctx context.Context, values bool) (done bool, err error) {
	w.mu.Lock()
	w.gen++
	gen := w.gen
	w.mu.Unlock()
	missed := map[string]int64{}     // key → revision of the write that did not come
	elsewhen := int64(math.MaxInt64) // the first revision a key is known at that etcd has an older one of
	other := false                   // a key has another value at the same revision
	opts := []clientv3.OpOption{clientv3.WithKeysOnly()}
	if values {
		opts = nil
	}
	var rev int64
	for _, prefix := range listed {
		h, err := w.c.pages(ctx, prefix, rev, func(kvs []*mvccpb.KeyValue) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, kv := range kvs {
				k := w.keys[string(kv.Key)]
				if k == nil {
					if _, ok := refOf(string(kv.Key)); !ok {
						continue
					}
				} else {
					k.gen = gen
				}
				switch {
				case k == nil || k.rev < kv.ModRevision:
					missed[string(kv.Key)] = kv.ModRevision
				case k.rev > kv.ModRevision:
					elsewhen = min(elsewhen, k.rev)
				case values && !k.isOf(kv):
					other = true
				}
			}
			return nil
		}, opts...)
		if err != nil {
			return false, nil // the stream's own business; next time
		}
		rev = h.Revision
	}
	if other || elsewhen <= rev {
		return true, &errRelist{fmt.Sprintf("etcd has at revision %d another history than the one that was followed: restored from a backup?", rev)}
	}
	return true, w.lostEvents(ctx, missed, gen, rev)
}

// lostEvents waits for what a listing at revision rev has and the watch has not: missed, and
// deletions of what that listing did not see.
func (w *watcher) lostEvents(ctx context.Context, missed map[string]int64, gen uint32, rev int64) error {
	var undead []string // known, and not in etcd at rev
	w.mu.Lock()
	for key, k := range w.keys {
		if k.gen != gen && k.rev <= rev {
			undead = append(undead, key)
		}
	}
	w.mu.Unlock()
	if len(missed) == 0 && len(undead) == 0 {
		return nil
	}
	// Most likely the events are on their way.
	signal(w.poke)
	if !sleep(ctx, max(2*w.tun.settle, w.tun.ping/2)) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rev < rev {
		return nil // slow, not lossy
	}
	lost := 0
	for key, r := range missed {
		if k := w.keys[key]; k == nil || k.rev < r {
			lost++
		}
	}
	for _, key := range undead {
		if k, ok := w.keys[key]; ok && k.rev <= rev {
			lost++
		}
	}
	if lost == 0 {
		return nil
	}
	w.lost += int64(lost)
	return &errRelist{fmt.Sprintf("the watch lost %d events without a sign", lost)}
}

// WatchStats counts what a healthy watch never sees.
type WatchStats struct {
	Stale int64 // events that came again, or late
	Lost  int64 // events that never came and were found by comparing
}

// WatchStats sums over the running watches of the client.
func (c *Client) WatchStats() WatchStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	var s WatchStats
	for w := range c.watchers {
		w.mu.Lock()
		s.Stale += w.stale
		s.Lost += w.lost
		w.mu.Unlock()
	}
	return s
}
