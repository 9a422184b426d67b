// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/secret"
)

func TestCompareAndSwap(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	const k = "/calico/x"
	check := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) || (want != nil && !strings.Contains(err.Error(), k)) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	_, err := c.Get(ctx, k)
	check("get of nothing", err, ErrNotFound)
	_, err = c.Update(ctx, k, nil, 1)
	check("update of nothing", err, ErrNotFound)
	check("delete of nothing", c.Delete(ctx, k, 0), ErrNotFound)
	check("delete of nothing at 7", c.Delete(ctx, k, 7), ErrNotFound)
	r1 := must[int64](t)(c.Create(ctx, k, []byte("1")))
	_, err = c.Create(ctx, k, nil)
	check("create of something", err, ErrExists)
	r2 := must[int64](t)(c.Update(ctx, k, []byte("2"), r1))
	_, err = c.Update(ctx, k, nil, r1)
	check("update of the past", err, ErrConflict)
	check("delete of the past", c.Delete(ctx, k, r1), ErrConflict)
	kv := must[KV](t)(c.Get(ctx, k))
	if string(kv.Value) != "2" || kv.Revision != r2 || kv.Key != k {
		t.Errorf("got %+v", kv)
	}
	if rev := must[int64](t)(c.Revision(ctx)); rev != r2 {
		t.Errorf("revision %d, want %d", rev, r2)
	}
	check("delete", c.Delete(ctx, k, r2), nil)
	r3 := must[int64](t)(c.Put(ctx, k, nil))
	check("delete whatever is there", c.Delete(ctx, k, 0), nil)

	// All or nothing, and the error names the key at fault.
	must[int64](t)(c.Create(ctx, k, nil))
	_, err = c.Commit(ctx, []Op{OpCreate(k+"1", nil), OpUpdate(k, []byte("x"), r3), OpPut(k+"2", nil)})
	check("commit", err, ErrConflict)
	if _, err := c.Get(ctx, k+"1"); !errors.Is(err, ErrNotFound) {
		t.Error("half a transaction was done")
	}
	var many []Op
	for i := range 129 {
		many = append(many, OpPut(fmt.Sprint(k, i), nil))
	}
	if _, err := c.Commit(ctx, many); err == nil {
		t.Error("129 keys in one transaction")
	}
	if rev, err := c.Commit(ctx, many[:128]); err != nil || rev == 0 {
		t.Error(rev, err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Get(canceled, k); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestCompareAndSwapCounts(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	must[int64](t)(c.Create(ctx, "/n", []byte("0")))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for done := 0; done < 10; {
				kv, err := c.Get(ctx, "/n")
				if err != nil {
					t.Error(err)
					return
				}
				var n int
				fmt.Sscan(string(kv.Value), &n)
				switch _, err := c.Update(ctx, "/n", fmt.Append(nil, n+1), kv.Revision); {
				case err == nil:
					done++
				case !errors.Is(err, ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if kv := must[KV](t)(c.Get(ctx, "/n")); string(kv.Value) != "80" {
		t.Errorf("counted %s, want 80", kv.Value)
	}
}

// TestConnectEndsWithContext: who has a user name waits for a token, and only as
// long as he can; and nobody waits for a client that is closed.
func TestConnectEndsWithContext(t *testing.T) {
	c, err := Open(t.Context(), Config{
		Endpoints: []string{"unix:///nowhere/etcd"}, Username: "u", Password: secret.New("p"), Timeout: time.Hour,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := c.Ping(ctx)
		cancel()
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "/nowhere/etcd: connect: no such file") {
			t.Errorf("ping: %v", err)
		}
	}
	waits := make(chan error)
	go func() { waits <- c.Ping(context.Background()) }()
	c.Close()
	if err := <-waits; err == nil {
		t.Error("a closed client answers")
	}
	if err := c.Ping(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
}
