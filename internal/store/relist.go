// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// The brake: a listing that would remove more than brakeCount objects and
// more than brakePercent of all is not believed at once.
const (
	brakeCount   = 10
	brakePercent = 30
)

// listing is what one listing found to be different.
type listing struct {
	rev       int64
	clusterID uint64
	total     int
	changed   []item
	removed   []string
}

// relist brings the consumer to the state of the datastore at one revision.
// The first time the pages are delivered as they come; later only the
// difference is, in one Update.
func (w *watcher) relist(ctx context.Context) error {
	w.mu.Lock()
	first := !w.inSync
	w.mu.Unlock()
	if first {
		return w.firstListing(ctx)
	}
	var suspect *listing
	var since time.Time
	for {
		l, err := w.compare(ctx)
		if err != nil {
			return err
		}
		if guid := w.elsewhere(l); guid != "" {
			w.log.Error("what was saved is of another cluster than the datastore, and is given up", "saved", w.savedGUID, "clusterGUID", guid)
			w.accept(l)
			return nil
		}
		why, foreign := w.brake(l)
		if why == "" || (suspect != nil && time.Since(since) >= w.tun.hold && agree(suspect, l)) {
			if why != "" {
				w.log.Warn("second listing agrees; changes are applied", "held", why)
			}
			w.accept(l)
			return nil
		}
		if suspect == nil || !agree(suspect, l) {
			suspect, since = l, time.Now()
			w.log.Error("changes found by a listing are held back", "why", why, "second look in", w.tun.hold)
		}
		w.hold(l, why, foreign)
		// The listings in between notice a datastore that came back.
		if !sleep(ctx, jitter(w.tun.hold/4)) {
			return ctx.Err()
		}
	}
}

// agree: both listings are of the same datastore, which did not move back, and
// miss the same objects.
func agree(a, b *listing) bool {
	return a.clusterID == b.clusterID && b.rev >= a.rev && len(a.removed) == len(b.removed) && digest(a.removed) == digest(b.removed)
}

func digest(keys []string) uint64 {
	h := fnv.New64a()
	slices.Sort(keys)
	for _, k := range keys {
		h.Write([]byte(k))
		h.Write([]byte{0})
	}
	return h.Sum64()
}

// brake says why l must not be believed yet. With foreign, nothing in it is.
func (w *watcher) brake(l *listing) (why string, foreign bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, gone := len(w.keys), len(l.removed)
	switch {
	case l.clusterID != w.clusterID:
		return fmt.Sprintf("etcd cluster id changed from %x to %x", w.clusterID, l.clusterID), true
	case l.rev < w.sure:
		return fmt.Sprintf("etcd went back from revision %d to %d: restored from a backup?", w.sure, l.rev), true
	case l.total == 0 && n > 0:
		return fmt.Sprintf("etcd is empty; %d objects were known", n), false
	case gone > brakeCount && gone*100 > n*brakePercent:
		return fmt.Sprintf("%d of %d objects are gone from etcd", gone, n), false
	}
	return "", false
}

// elsewhere is the clusterGUID of l, if what is known was saved from a datastore that had
// another one, in another etcd.
func (w *watcher) elsewhere(l *listing) string {
	if w.savedGUID == "" || l.clusterID == w.clusterID {
		return ""
	}
	if guid := guidIn(l.changed); guid != w.savedGUID {
		return guid
	}
	return ""
}

// hold delivers what l adds and changes, unless it is foreign, and keeps what
// it removes.
func (w *watcher) hold(l *listing, why string, foreign bool) {
	w.mu.Lock()
	if !foreign {
		w.merge(l.changed)
	}
	w.changed = w.changed || w.held != why || !w.connected
	w.held, w.connected, w.told = why, true, false
	w.mu.Unlock()
	signal(w.news)
}

// accept delivers all of l.
func (w *watcher) accept(l *listing) {
	w.mu.Lock()
	for _, key := range l.removed {
		delete(w.keys, key)
		w.pend.add(item{key: key, rev: l.rev, deleted: true})
	}
	w.merge(l.changed)
	w.rev, w.sure, w.clusterID, w.held, w.changed, w.savedGUID = l.rev, l.rev, l.clusterID, "", true, ""
	w.mu.Unlock()
	signal(w.news)
	w.log.Info("listed the datastore again", "revision", l.rev, "changed", len(l.changed), "removed", len(l.removed))
}

// merge needs w.mu.
func (w *watcher) merge(items []item) {
	for _, it := range items {
		old := w.keys[it.key]
		it.fresh = old == nil
		if old != nil {
			old.rev, old.sum = it.rev, sumOf(it.raw)
		} else {
			w.keys[it.key] = &known{rev: it.rev, sum: sumOf(it.raw)}
		}
		w.pend.add(it)
	}
}

// firstListing delivers everything, page by page.
func (w *watcher) firstListing(ctx context.Context) error {
	w.mu.Lock()
	// What an earlier attempt left is compared with, not repeated: an object
	// that is gone meanwhile must be taken back.
	again := len(w.keys) > 0
	w.mu.Unlock()
	if again {
		l, err := w.compare(ctx)
		if err != nil {
			return err
		}
		w.accept(l)
		w.synced()
		return nil
	}
	var rev int64
	for _, prefix := range listed {
		h, err := w.c.pages(ctx, prefix, rev, func(kvs []*mvccpb.KeyValue) error {
			w.mu.Lock()
			for _, kv := range kvs {
				key := string(kv.Key)
				if _, ok := refOf(key); ok {
					w.keys[key] = &known{rev: kv.ModRevision, sum: sumOf(kv.Value)}
					w.pend.add(item{key: key, raw: kv.Value, rev: kv.ModRevision, fresh: true})
				}
			}
			w.mu.Unlock()
			signal(w.news)
			return w.waitRoom(ctx)
		})
		if err != nil {
			return compacted(err)
		}
		w.mu.Lock()
		rev, w.rev, w.sure, w.clusterID = h.Revision, h.Revision, h.Revision, h.ClusterId
		w.mu.Unlock()
	}
	w.synced()
	return nil
}

func (w *watcher) synced() {
	w.mu.Lock()
	w.inSync, w.changed = true, true
	n, rev := len(w.keys), w.rev
	w.mu.Unlock()
	// follow tells the consumer, in a moment and together with Connected.
	w.log.Info("listed the datastore", "objects", n, "revision", rev)
}

// compare lists at one revision and returns how that differs from what the
// consumer knows. Only differing values are kept. Revisions of another etcd say
// nothing: of that, all that is there counts as different.
func (w *watcher) compare(ctx context.Context) (*listing, error) {
	l, err := w.list(ctx, false)
	if err == nil && w.clusterID != 0 && l.clusterID != w.clusterID {
		l, err = w.list(ctx, true)
	}
	return l, err
}

func (w *watcher) list(ctx context.Context, all bool) (*listing, error) {
	l := &listing{}
	w.mu.Lock()
	w.gen++
	gen := w.gen
	w.mu.Unlock()
	for _, prefix := range listed {
		h, err := w.c.pages(ctx, prefix, l.rev, func(kvs []*mvccpb.KeyValue) error {
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
				l.total++
				if all || k == nil || !k.isOf(kv) {
					l.changed = append(l.changed, item{key: string(kv.Key), raw: kv.Value, rev: kv.ModRevision})
				}
			}
			return nil
		})
		if err != nil {
			return nil, compacted(err)
		}
		l.rev, l.clusterID = h.Revision, h.ClusterId
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, k := range w.keys {
		if k.gen != gen {
			l.removed = append(l.removed, key)
		}
	}
	return l, nil
}

// compacted: a listing whose revision was compacted under it starts over.
func compacted(err error) error {
	if errors.Is(err, rpctypes.ErrCompacted) {
		return &errRelist{"etcd compacted the revision that was being listed"}
	}
	return err
}
