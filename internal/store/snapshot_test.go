// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestSnapshot saves a datastore, changes it, and goes on with what was saved: first
// that, not connected, and then the difference, until both are the same. Without a
// datastore it is all there is.
func TestSnapshot(t *testing.T) {
	c, _ := newStore(t)
	ctx := t.Context()
	const n = 2500 // more than a page
	var ops []Op
	for i := range n {
		ops = append(ops, OpPut(setKey(i), setValue(i)))
		if len(ops) == 100 {
			must[int64](t)(c.Commit(ctx, ops))
			ops = nil
		}
	}
	must[int64](t)(c.Put(ctx, "/calico/of/somebody/else", []byte("x")))
	path := filepath.Join(t.TempDir(), "saved")
	if _, err := LoadSnapshot(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing was saved: %v", err)
	}
	rev := must[int64](t)(c.Save(ctx, path, "n1"))
	if info := must[fs.FileInfo](t)(os.Stat(path)); info.Mode().Perm() != 0o600 {
		t.Errorf("the file is for %v", info.Mode())
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	must[int64](t)(c.Put(ctx, setKey(1), setValue(2)))
	must[int64](t)(c.Put(ctx, setKey(n), setValue(n)))
	if err := c.Delete(ctx, setKey(3), 0); err != nil {
		t.Fatal(err)
	}

	s := must[*Snapshot](t)(LoadSnapshot(path))
	if s.Node != "n1" || s.ClusterGUID != "" {
		t.Errorf("saved by %q of cluster %q", s.Node, s.ClusterGUID)
	}
	if s.Revision != rev || len(s.items) != n || time.Since(s.Taken) > time.Minute {
		t.Errorf("%d objects of revision %d, %s ago; want %d of %d", len(s.items), s.Revision, time.Since(s.Taken), n, rev)
	}
	listed, loaded := 0, 0
	must[int64](t)(c.EachResource(ctx, func(Change) { listed++ }))
	if s.EachResource(func(ch Change) { loaded++ }); loaded == 0 || loaded != listed {
		t.Errorf("%d resources of the snapshot, %d of the datastore", loaded, listed)
	}
	r := newRecorder()
	wctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = c.WatchFrom(wctx, s, r.deliver) }()
	defer func() { cancel(); <-done }()
	r.synced(t)
	first, then := r.since(0)[0], r.since(1)
	if !first.InSync || first.Connected || first.Revision != rev || len(first.Changes) != n {
		t.Errorf("first: in sync %v, connected %v, revision %d, %d changes; want what was saved", first.InSync, first.Connected, first.Revision, len(first.Changes))
	}
	var later []string
	for _, u := range then {
		for _, ch := range u.Changes {
			later = append(later, ch.Key)
		}
	}
	slices.Sort(later)
	if want := []string{setKey(1), setKey(3), setKey(n)}; !slices.Equal(later, want) {
		t.Errorf("then came %q, want the difference, %q", later, want)
	}
	fresh := startWatch(t, c, nil)
	fresh.synced(t)
	same := func(a, b Change) bool { return a.Revision == b.Revision && bytes.Equal(a.Raw, b.Raw) }
	if !maps.EqualFunc(r.state, fresh.state, same) {
		t.Errorf("%d objects, want the %d that there are", len(r.state), len(fresh.state))
	}

	// A disk that is full takes nothing away.
	if err := os.Symlink("/dev/full", path+".new"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Save(ctx, path, "n1"); err == nil {
		t.Error("saved on a full disk")
	}
	if kept, err := LoadSnapshot(path); err != nil || kept.Revision != rev {
		t.Errorf("after a full disk: %v", err)
	}

	// Whatever is missing or differs in the file is noticed.
	whole := must[[]byte](t)(os.ReadFile(path))
	for at := 0; at < len(whole); at += 1 + len(whole)/500 {
		bent := slices.Clone(whole)
		bent[at] ^= 0x10
		for what, b := range map[string][]byte{"bent": bent, "cut": whole[:at]} {
			if _, err := parseSnapshot(b); err == nil {
				t.Fatalf("%s at %d: no error", what, at)
			}
		}
	}
}

// TestSnapshotOfAnotherCluster goes on with what was saved of one cluster until another one
// answers, whose objects have the same revisions: then all of that is in force at once, and nothing
// of the other. Of the same cluster in another etcd nothing is given up at once.
func TestSnapshotOfAnotherCluster(t *testing.T) {
	information := func(guid string) []byte {
		return []byte(`{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"clusterGUID":"` + guid + `","datastoreReady":true}}`)
	}
	path := filepath.Join(t.TempDir(), "saved")
	was, _ := newStore(t)
	ctx := t.Context()
	must[int64](t)(was.Put(ctx, clusterKey, information("one")))
	for i := range 30 {
		must[int64](t)(was.Put(ctx, setKey(i), setValue(i)))
	}
	must[int64](t)(was.Save(ctx, path, "n1"))
	s := must[*Snapshot](t)(LoadSnapshot(path))
	if s.ClusterGUID != "one" {
		t.Fatalf("clusterGUID %q", s.ClusterGUID)
	}
	for _, guid := range []string{"two", "one"} {
		now, _ := newStore(t)
		must[int64](t)(now.Put(ctx, clusterKey, information(guid)))
		for i := range 3 {
			must[int64](t)(now.Put(ctx, setKey(i), setValue(100+i)))
		}
		r := newRecorder()
		wctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		tun := defaultTuning()
		tun.hold = time.Hour
		go func() { defer close(done); _ = now.watch(wctx, s, r.deliver, tun) }()
		if guid == "two" {
			r.synced(t)
			fresh := startWatch(t, now, nil)
			fresh.synced(t)
			same := func(a, b Change) bool { return a.Revision == b.Revision && bytes.Equal(a.Raw, b.Raw) }
			if !maps.EqualFunc(r.state, fresh.state, same) {
				t.Errorf("%d objects, want the %d of the other cluster", len(r.state), len(fresh.state))
			}
		} else {
			r.wait(t, "held back", func() bool { return r.lastLocked().Held != "" })
		}
		cancel()
		<-done
	}
}

func FuzzSnapshot(f *testing.F) {
	var b bytes.Buffer
	w := newSnapshotWriter(&b)
	w.object([]byte("/calico/x"), 7, []byte("{}"))
	if err := w.end(1, 9, time.Unix(1e9, 0), "n1"); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes()[len(snapshotMagic) : b.Len()-32])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, body []byte) {
		var b bytes.Buffer
		w := newSnapshotWriter(&b)
		w.write(body)
		_ = w.out.Flush()
		s, err := parseSnapshot(w.sum.Sum(b.Bytes()))
		if err == nil && s.Revision <= 0 {
			t.Error("a snapshot of no revision")
		}
	})
}
