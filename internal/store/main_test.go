// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"
)

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) { w.t.Logf("%s", p); return len(p), nil }

func testLog(t *testing.T) *slog.Logger {
	var mu sync.Mutex
	ended := false
	t.Cleanup(func() { mu.Lock(); ended = true; mu.Unlock() })
	return slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			return testWriter{t}.Write(p)
		}
		return len(p), nil
	}), nil))
}

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// startServer runs an embedded etcd until the test ends.
func startServer(t *testing.T, dir, listen string) *Embedded {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	e, err := StartEmbedded(ctx, EmbeddedConfig{Dir: dir, ListenClient: []string{listen}, Log: testLog(t), UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func openClient(t *testing.T, urls ...string) *Client {
	t.Helper()
	c, err := Open(context.Background(), Config{Endpoints: urls}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func newStore(t *testing.T) (*Client, *Embedded) {
	t.Helper()
	e := startServer(t, t.TempDir(), "http://127.0.0.1:0")
	return openClient(t, e.URLs()...), e
}

// recorder collects Updates.
type recorder struct {
	mu    sync.Mutex
	all   []Update
	state map[string]Change // newest per key
	block chan struct{}     // when set, deliver waits for it to close
	cond  *sync.Cond
}

func newRecorder() *recorder {
	r := &recorder{state: map[string]Change{}}
	r.cond = sync.NewCond(&r.mu)
	return r
}

func (r *recorder) deliver(u Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, u)
	for _, ch := range u.Changes {
		if ch.Deleted {
			delete(r.state, ch.Key)
		} else {
			r.state[ch.Key] = ch
		}
	}
	r.cond.Broadcast()
	for block := r.block; block != nil; block = r.block {
		r.mu.Unlock()
		<-block
		r.mu.Lock()
		if r.block == block {
			r.block = nil
		}
	}
}

// wait polls until ok holds for the recorder's contents.
func (r *recorder) wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	timer := time.AfterFunc(20*time.Second, r.cond.Broadcast)
	defer timer.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s; last update: %+v", what, r.lastLocked())
		}
		r.cond.Wait()
	}
}

func (r *recorder) lastLocked() Update {
	if len(r.all) == 0 {
		return Update{}
	}
	return r.all[len(r.all)-1]
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

func (r *recorder) since(n int) []Update {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Update(nil), r.all[n:]...)
}

func (r *recorder) synced(t *testing.T) {
	t.Helper()
	r.wait(t, "the first listing", func() bool { u := r.lastLocked(); return u.InSync && u.Connected })
}

// startWatch runs a Watch with tuning f until the test ends.
func startWatch(t *testing.T, c *Client, f func(*tuning)) *recorder {
	t.Helper()
	r := newRecorder()
	tun := defaultTuning()
	if f != nil {
		f(&tun)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.watch(ctx, nil, r.deliver, tun); err != nil {
			t.Errorf("watch: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

func setKey(n int) string {
	return fmt.Sprintf("/calico/resources/v3/projectcalico.org/globalnetworksets/s%05d", n)
}

func setValue(n int) []byte {
	return fmt.Appendf(nil, `{"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"s%05d"},"spec":{"nets":["10.0.0.0/8"]}}`, n)
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
