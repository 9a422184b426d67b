// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/store"
)

// TestTaken: what the loop takes is what the next start goes on with. Changes that are set aside
// are not, until the datastore says that they are to be programmed, in whatever order
// ClusterInformation and they come; one that cannot be read changes nothing. A listing makes what was saved
// before worth nothing.
func TestTaken(t *testing.T) {
	dir, client := t.TempDir(), newDatastore(t)
	cluster := v3.Key("ClusterInformation", "", "default")
	information := func(ready string) string {
		return `{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"clusterGUID":"one","datastoreReady":` + ready + `}}`
	}
	if _, err := client.Put(t.Context(), cluster, []byte(information("true"))); err != nil {
		t.Fatal(err)
	}
	rev, err := journalOf(dir).Save(t.Context(), client, "n1")
	if err != nil {
		t.Fatal(err)
	}
	load := func() *store.Snapshot {
		t.Helper()
		s, err := loadKnown(dir, "n1")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	policies := func() string {
		t.Helper()
		var names []string
		load().EachResource(func(c store.Change) {
			if c.Kind == "GlobalNetworkPolicy" {
				names = append(names, c.Name)
			} else if !saysReady(c) {
				t.Error("what is gone on with programs nothing")
			}
		})
		return strings.Join(names, " ")
	}

	known := load()
	w := newTaken(journalOf(dir), slog.New(slog.DiscardHandler), known)
	w.take(update{Update: store.Update{InSync: true, Revision: known.Revision}})
	take := func(kvs ...store.KV) {
		u := store.Update{InSync: true, Connected: true}
		for _, kv := range kvs {
			rev++
			kv.Revision = rev
			c, ok := store.ChangeOf(kv)
			if !ok {
				t.Fatalf("%s is of no kind", kv.Key)
			}
			u.Changes = append(u.Changes, c)
		}
		u.Revision = rev
		w.take(read(u))
	}
	policy := func(name string) store.KV {
		return store.KV{Key: v3.Key("GlobalNetworkPolicy", "", name), Value: []byte(fmt.Sprintf(`{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":%q},"spec":{"selector":"all()"}}`, name))}
	}
	expect := func(when, want string) {
		t.Helper()
		if got := policies(); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	take(policy("a"))
	expect("taken", "a")
	take(policy("b"), store.KV{Key: cluster, Value: []byte(information("false"))})
	take(policy("c"))
	expect("not ready", "a")
	take(store.KV{Key: cluster, Value: []byte("{")})
	expect("not readable", "a")
	take(store.KV{Key: cluster, Value: []byte(information("true"))}, policy("d"))
	expect("ready", "a b c d")
	take(store.KV{Key: cluster, Value: []byte("{")}, policy("e"))
	take(policy("f"))
	if s := load(); s.Revision != rev {
		t.Errorf("of revision %d, want %d", s.Revision, rev)
	}

	other := t.TempDir()
	if err := os.CopyFS(other, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	newTaken(journalOf(other), slog.New(slog.DiscardHandler), load()).take(update{Update: store.Update{InSync: true, Revision: rev + 1}})
	if _, err := loadKnown(other, "n1"); err == nil {
		t.Error("gone on with although something else was delivered first")
	}

	w = newTaken(journalOf(dir), slog.New(slog.DiscardHandler), nil)
	w.take(update{})
	if s := load(); s.Revision != rev {
		t.Errorf("a listing that is not whole yet: revision %d", s.Revision)
	}
	take(policy("g"))
	if _, err := loadKnown(dir, "n1"); err == nil {
		t.Error("what an earlier daemon had is gone on with although another listing is in force")
	}
}
