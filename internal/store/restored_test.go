// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestE09_RestoredToTheSameRevision stops etcd, puts a copy of its data of before in place, and
// writes other things than the first time until the revision is lower than, the same as, or higher
// than what a watch that goes on has seen. The cluster's id is the same, and so may be the raft term and
// the revision of a key. The watch must end with what is there.
func TestE09_RestoredToTheSameRevision(t *testing.T) {
	for _, c := range []struct {
		name  string
		after int  // writes after the copy that the watch never sees
		none  bool // of them concern what is watched
	}{{"lower", 4, false}, {"same", 6, false}, {"higher", 9, false}, {"same, nothing written", 6, true}} {
		t.Run(c.name, func(t *testing.T) {
			ctx := context.Background()
			dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "copy")
			e := startServer(t, dir, "http://127.0.0.1:0")
			url := e.URLs()[0]
			write := func(ops ...Op) (rev int64) {
				t.Helper()
				c := openClient(t, url)
				defer c.Close()
				for _, op := range ops {
					rev = must[int64](t)(c.Commit(ctx, []Op{op}))
				}
				return rev
			}
			fill(t, openClient(t, url), 0, 40)
			e.Close()
			if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			e = startServer(t, dir, url)
			watching, gate := gatedClient(t, e)
			r := startWatch(t, watching, func(tun *tuning) { tun.hold = time.Second })
			r.synced(t)
			r.at(t, write(
				OpPut(setKey(0), setValue(100)), // another value, at the same revision
				OpCreate(setKey(50), setValue(50)),
				OpDelete(setKey(1), 0),
				OpPut(setKey(2), setValue(102)),
				OpPut(setKey(3), setValue(103)),
				OpPut(setKey(4), setValue(104)), // the same last write
			))

			gate.set(true)
			r.wait(t, "the loss", func() bool { return !r.lastLocked().Connected })
			e.Close()
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(dir, os.DirFS(backup)); err != nil {
				t.Fatal(err)
			}
			startServer(t, dir, url)
			other := []Op{
				OpPut(setKey(0), setValue(200)),
				OpCreate(setKey(60), setValue(60)),
				OpPut(setKey(2), setValue(202)),
				OpDelete(setKey(3), 0),
				OpPut(setKey(5), setValue(105)),
				OpPut(setKey(4), setValue(104)),
				OpPut(setKey(6), setValue(206)), OpPut(setKey(7), setValue(207)), OpPut(setKey(8), setValue(208)),
			}
			for i := range other {
				if c.none {
					other[i] = OpPut("/unrelated", setValue(i))
				}
			}
			write(other[:c.after]...)
			direct := openClient(t, url)
			began := time.Now()
			gate.set(false)
			r.wait(t, "what the datastore holds", func() bool { return r.lastLocked().Connected && r.holds(t, direct) == nil })
			t.Logf("right after %v", time.Since(began))
			// What follows comes as ever.
			rev := write(OpPut(setKey(9), setValue(209)), OpDelete(setKey(8), 0))
			r.wait(t, "life after", func() bool { return r.lastLocked().Revision == rev && r.holds(t, direct) == nil })
		})
	}
}

// holds needs r.mu.
func (r *recorder) holds(t *testing.T, c *Client) error {
	kvs, _, err := c.List(context.Background(), resourcePrefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range kvs {
		if ch, ok := r.state[kv.Key]; !ok || string(ch.Raw) != string(kv.Value) || ch.Revision != kv.Revision {
			return fmt.Errorf("%s is %q at %d, in etcd %q at %d", kv.Key, ch.Raw, ch.Revision, kv.Value, kv.Revision)
		}
	}
	if len(kvs) != len(r.state) {
		return fmt.Errorf("%d objects, in etcd %d", len(r.state), len(kvs))
	}
	return nil
}
