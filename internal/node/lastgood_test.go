// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/store"
)

// history is an etcd of one key: its values by revision, nil where it was deleted.
type history struct {
	key       string
	values    map[int64][]byte
	compacted int64
}

func (h *history) before(_ context.Context, key string, rev int64) (store.KV, error) {
	for rev--; rev > 0; rev-- {
		if rev <= h.compacted {
			return store.KV{}, store.ErrCompacted
		}
		if v, ok := h.values[rev]; ok && v == nil {
			break
		} else if ok && key == h.key {
			return store.KV{Key: key, Value: v, Revision: rev}, nil
		}
	}
	return store.KV{}, store.ErrNotFound
}

func (h *history) update(t *testing.T, rev int64) update {
	t.Helper()
	c, ok := store.ChangeOf(store.KV{Key: h.key, Value: append([]byte(nil), h.values[rev]...), Revision: rev})
	if !ok {
		t.Fatal("nobody watches", h.key)
	}
	return read(store.Update{InSync: true, Changes: []store.Change{c}})
}

// TestLastGood follows a policy that becomes unreadable through restarts.
func TestLastGood(t *testing.T) {
	key := v3.Key("GlobalNetworkPolicy", "", "p")
	good := func(order int) []byte {
		return fmt.Appendf(nil, `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"p"},"spec":{"order":%d,"selector":"all()"}}`, order)
	}
	notJSON := []byte(`{"kind":"GlobalNetworkPolicy"`)
	noSelector := []byte(`{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"p"},"spec":{"selector":"a = 1"}}`)
	log := slog.New(slog.DiscardHandler)
	const none = 0
	type step struct {
		rev     int64
		restart bool
		compact int64
		want    int64 // the revision of the version that comes with the value, or none
	}
	for _, tt := range []struct {
		name   string
		values map[int64][]byte
		steps  []step
	}{
		{"seen", map[int64][]byte{1: good(1), 2: notJSON}, []step{{rev: 1, want: none}, {rev: 2, want: 1}, {rev: 2, restart: true, compact: 2, want: 1}, {rev: 2, restart: true, compact: 2, want: 1}}},
		{"a selector", map[int64][]byte{1: good(1), 2: noSelector}, []step{{rev: 2, want: 1}}},
		{"worse and worse", map[int64][]byte{1: good(1), 2: noSelector, 3: notJSON}, []step{{rev: 2, want: 1}, {rev: 3, want: 1}, {rev: 3, restart: true, compact: 3, want: 1}}},
		{"mended", map[int64][]byte{1: good(1), 2: notJSON, 3: good(3), 4: notJSON}, []step{{rev: 2, want: 1}, {rev: 3, want: none}, {rev: 4, want: 3}, {rev: 4, restart: true, compact: 4, want: 3}}},
		{"mended and bad again while nobody looked", map[int64][]byte{1: good(1), 2: notJSON, 3: good(3), 4: notJSON}, []step{{rev: 2, want: 1}, {rev: 4, restart: true, want: 3}}},
		{"the same, and etcd has forgotten", map[int64][]byte{1: good(1), 2: notJSON, 3: good(3), 4: notJSON}, []step{{rev: 2, want: 1}, {rev: 4, restart: true, compact: 4, want: 1}}},
		{"bad again while nobody looked", map[int64][]byte{1: good(1), 2: notJSON, 3: noSelector}, []step{{rev: 2, want: 1}, {rev: 3, restart: true, compact: 1, want: 1}}},
		{"made like this", map[int64][]byte{2: notJSON}, []step{{rev: 2, want: none}, {rev: 2, restart: true, want: none}}},
		{"deleted and made like this", map[int64][]byte{1: good(1), 2: notJSON, 3: nil, 4: notJSON}, []step{{rev: 2, want: 1}, {rev: 4, restart: true, want: none}, {rev: 4, restart: true, compact: 4, want: none}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			h := &history{key: key, values: tt.values}
			g := openLastGood(dir, log, h.before)
			for i, s := range tt.steps {
				h.compacted = s.compact
				if s.restart {
					g = openLastGood(dir, log, h.before)
				}
				u := g.join(t.Context(), h.update(t, s.rev))
				got := int64(none)
				if last := u.changes[0].last; last != nil {
					for rev, v := range tt.values {
						if v != nil && string(last.Raw) == string(v) {
							got = rev
						}
					}
				}
				if got != s.want {
					t.Errorf("step %d: the version at revision %d comes with it, want %d", i, got, s.want)
				}
			}
		})
	}
	t.Run("a file that is not whole", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, lastGoodFile), []byte(`[{"key":`), 0o600); err != nil {
			t.Fatal(err)
		}
		h := &history{key: key, values: map[int64][]byte{1: good(1), 2: notJSON}}
		if u := openLastGood(dir, log, h.before).join(t.Context(), h.update(t, 2)); u.changes[0].last == nil {
			t.Error("etcd was not asked")
		}
	})
}
