// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// TestLoadKnown: what was saved is gone on with by the node that saved it, in the cluster
// that it was in last, and by nobody else, who is told why.
func TestLoadKnown(t *testing.T) {
	dir, client := t.TempDir(), newDatastore(t)
	if _, err := loadKnown(dir, "n1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing was saved: %v", err)
	}
	c := &v3.ClusterInformation{}
	c.Spec.ClusterGUID = "one"
	if _, err := client.Put(t.Context(), v3.Key("ClusterInformation", "", "default"), []byte(`{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"clusterGUID":"one"}}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := journalOf(dir).Save(t.Context(), client, "n1"); err != nil {
		t.Fatal(err)
	}
	expect := func(node, word string) {
		t.Helper()
		s, err := loadKnown(dir, node)
		if word == "" && (err != nil || s.ClusterGUID != "one") || word != "" && (err == nil || !strings.Contains(err.Error(), word)) {
			t.Errorf("node %s: %v, want %q", node, err, word)
		}
	}
	expect("n1", "")
	expect("n2", "saved by node n1")

	l := &loop{d: &Daemon{cfg: Config{StateDir: dir}, log: slog.New(slog.DiscardHandler)}, model: &model{cluster: c}, connected: true}
	l.noteCluster()
	expect("n1", "")
	other := *c
	other.Spec.ClusterGUID = "two"
	l.model.cluster, l.heldSince = &other, time.Now()
	l.noteCluster() // it has not answered yet
	expect("n1", "")
	l.heldSince = time.Time{}
	l.noteCluster()
	expect("n1", "of another cluster (one)")
}

// TestLastKnownMaxAge: a boot without the datastore goes on with nothing that is older than the limit, if there
// is one. A daemon that finds what an earlier one has in force goes on with it whatever its age.
func TestLastKnownMaxAge(t *testing.T) {
	dir, client := t.TempDir(), newDatastore(t)
	if _, err := client.Put(t.Context(), v3.Key("Tier", "", "t"), []byte(`{"kind":"Tier","apiVersion":"projectcalico.org/v3","metadata":{"name":"t"},"spec":{}}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := journalOf(dir).Save(t.Context(), client, "n1"); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end() // nobody is in the loop
	const every, young, old = 0, 24 * time.Hour, time.Nanosecond
	for _, c := range []struct {
		limit      time.Duration
		restarting bool
		want       bool
	}{{every, false, true}, {young, false, true}, {old, false, false}, {old, true, true}} {
		d := &Daemon{cfg: Config{Node: "n1", StateDir: dir, SnapshotMaxAge: c.limit}, log: slog.New(slog.DiscardHandler), loop: &loop{}, restarting: c.restarting}
		if s := d.lastKnown(ended, d.maxAge()); (s != nil) != c.want {
			t.Errorf("limit %s, what an earlier daemon has in force found %v: gone on with %v, want %v", c.limit, c.restarting, s != nil, c.want)
		}
	}
}
