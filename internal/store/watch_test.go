// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/muslin-net/muslin/internal/lab/labtest"
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

// fill writes keys [from, to) in transactions.
func fill(t *testing.T, c *Client, from, to int) int64 {
	t.Helper()
	var rev int64
	for from < to {
		var ops []Op
		for ; from < to && len(ops) < 100; from++ {
			ops = append(ops, OpPut(setKey(from), setValue(from)))
		}
		rev = must[int64](t)(c.Commit(context.Background(), ops))
	}
	return rev
}

func empty(t *testing.T, c *Client, from, to int) int64 {
	t.Helper()
	var ops []Op
	for ; from < to; from++ {
		ops = append(ops, OpDelete(setKey(from), 0))
	}
	return must[int64](t)(c.Commit(context.Background(), ops))
}

func compact(t *testing.T, c *Client) {
	t.Helper()
	rev := must[int64](t)(c.Revision(context.Background()))
	if _, err := c.etcd.Compact(context.Background(), rev); err != nil {
		t.Fatal(err)
	}
}

func (r *recorder) at(t *testing.T, rev int64) {
	t.Helper()
	r.wait(t, fmt.Sprintf("revision %d", rev), func() bool { return r.lastLocked().Revision >= rev })
}

func changes(ups []Update) (all []Change) {
	for _, u := range ups {
		all = append(all, u.Changes...)
	}
	return all
}

func keysOf(chs []Change, deleted bool) (out []string) {
	for _, ch := range chs {
		if ch.Deleted == deleted {
			out = append(out, ch.Name)
		}
	}
	slices.Sort(out)
	return out
}

func TestFirstListing(t *testing.T) {
	c, _ := newStore(t)
	rev := fill(t, c, 0, 1200)
	// Others' keys are in the same keyspace; nobody here reads them.
	for _, k := range []string{"/calico/felix/v2/no-region/host/a/status", "/calico/ipam/v2/handle/h", "/calico/resources/v3/projectcalico.org/nosuchkinds/x", "/other/key"} {
		rev = must[int64](t)(c.Put(context.Background(), k, []byte("{}")))
	}
	r := startWatch(t, c, nil)
	r.synced(t)
	r.at(t, rev)
	ups := r.since(0)
	seen := 0
	for i, u := range ups {
		if !u.InSync && u.Revision != 0 {
			t.Errorf("update %d has revision %d before InSync", i, u.Revision)
		}
		seen += len(u.Changes)
	}
	if seen != 1200 || len(r.state) != 1200 {
		t.Fatalf("got %d changes of %d keys, want 1200", seen, len(r.state))
	}
}

func TestOrderOfArrival(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	r := startWatch(t, c, nil)
	r.synced(t)
	n := r.count()
	var rev int64
	for i := range 50 {
		rev = must[int64](t)(c.Put(ctx, setKey(i), setValue(i)))
	}
	r.at(t, rev)
	last := int64(0)
	chs := changes(r.since(n))
	for _, ch := range chs {
		if ch.Revision <= last {
			t.Fatalf("revision %d after %d", ch.Revision, last)
		}
		last = ch.Revision
	}
	if len(chs) != 50 {
		t.Fatalf("%d changes, want 50", len(chs))
	}
}

func TestKinds(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	r := startWatch(t, c, nil)
	r.synced(t)
	want := map[string]Change{
		"/calico/ipam/v2/config":                                                     {Kind: KindIPAMConfig, Name: "default"},
		"/calico/ipam/v2/host/n1":                                                    {Kind: KindBlockAffinity, Namespace: "n1"},
		"/calico/ipam/v2/host/n1/ipv4/block/10.65.0.0-26":                            {Kind: KindBlockAffinity, Namespace: "n1", Name: "10.65.0.0/26"},
		"/calico/ipam/v2/host/n1/ipv6/block/2001:db8::-122":                          {Kind: KindBlockAffinity, Namespace: "n1", Name: "2001:db8::/122"},
		"/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26":                         {Kind: KindBlock, Name: "10.65.0.0/26"},
		"/calico/ipam/v2/assignment/ipv6/block/2001:db8::-122":                       {Kind: KindBlock, Name: "2001:db8::/122"},
		"/calico/resources/v3/projectcalico.org/networksets/shop/a":                  {Kind: "NetworkSet", Namespace: "shop", Name: "a"},
		"/calico/resources/v3/projectcalico.org/globalnetworkpolicies/default.allow": {Kind: "GlobalNetworkPolicy", Name: "default.allow"},
	}
	var rev int64
	for k := range want {
		rev = must[int64](t)(c.Put(ctx, k, []byte(`{}`)))
	}
	r.at(t, rev)
	for k, w := range want {
		got, ok := r.state[k]
		if !ok || got.Kind != w.Kind || got.Namespace != w.Namespace || got.Name != w.Name || got.Err != nil || string(got.Raw) != "{}" {
			t.Errorf("%s: got %+v", k, got)
		}
		if isResource(k) && got.Object == nil {
			t.Errorf("%s: no object", k)
		}
	}
	if o := r.state["/calico/resources/v3/projectcalico.org/globalnetworkpolicies/default.allow"].Object; o != nil && o.Meta().Name != "allow" {
		t.Errorf("displayed name %q, want allow", o.Meta().Name)
	}
}

func TestUndecodableValue(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	must[int64](t)(c.Put(ctx, setKey(1), []byte("not json")))
	must[int64](t)(c.Put(ctx, setKey(2), setValue(2)))
	r := startWatch(t, c, nil)
	r.synced(t)
	rev := must[int64](t)(c.Commit(ctx, []Op{OpPut(setKey(3), []byte(`{"spec":{"nets":7}}`)), OpPut(setKey(4), setValue(4))}))
	r.at(t, rev)
	for i := 1; i <= 4; i++ {
		ch := r.state[setKey(i)]
		if bad := i%2 == 1; bad != (ch.Err != nil) || bad == (ch.Object != nil) {
			t.Errorf("key %d: %+v", i, ch)
		} else if bad && !strings.Contains(ch.Err.Error(), setKey(i)) {
			t.Errorf("error does not name the key: %v", ch.Err)
		}
	}
	rev = must[int64](t)(c.Put(ctx, setKey(1), setValue(1)))
	r.at(t, rev)
	if ch := r.state[setKey(1)]; ch.Err != nil || ch.Object == nil {
		t.Errorf("not repaired: %+v", ch)
	}
}

func TestProgressWhenUnrelatedKeysMove(t *testing.T) {
	c, _ := newStore(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r := startWatch(t, c, nil)
	r.synced(t)
	for range 3 {
		rev := must[int64](t)(c.Put(ctx, "/unrelated", []byte("x")))
		began := time.Now()
		if err := c.WaitRevision(ctx, rev); err != nil {
			t.Fatal(err)
		}
		t.Logf("caught up after %v", time.Since(began))
		u := r.since(r.count() - 1)[0]
		if u.Revision < rev || len(u.Changes) != 0 || !u.InSync || !u.Connected {
			t.Fatalf("got %+v, want revision %d without changes", u, rev)
		}
	}
}

func TestWaitRevisionOutlivesNoWatch(t *testing.T) {
	c, _ := newStore(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r := newRecorder()
	wctx, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.watch(wctx, nil, r.deliver, defaultTuning()) }()
	r.synced(t)
	waited := make(chan error, 1)
	go func() { waited <- c.WaitRevision(ctx, 1<<40) }()
	select {
	case err := <-waited:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	stop()
	<-ended
	if err := <-waited; err != nil {
		t.Errorf("waited for a watch that has ended: %v", err)
	}
}

func TestE01_ServerStoppedAndStarted(t *testing.T) {
	dir := t.TempDir()
	e := startServer(t, dir, "http://127.0.0.1:0")
	c := openClient(t, e.URLs()...)
	fill(t, c, 0, 20)
	r := startWatch(t, c, nil)
	r.synced(t)
	n := r.count()
	e.Close()
	r.wait(t, "the loss of the connection", func() bool { return !r.lastLocked().Connected })
	if u := r.since(n); len(u) != 1 || len(u[0].Changes) != 0 || !u[0].InSync {
		t.Fatalf("want one update that only says disconnected, got %+v", u)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	if _, err := c.Put(ctx, setKey(0), nil); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), e.URLs()[0]) {
		t.Errorf("put without a server: %v", err)
	}
	cancel()
	t.Logf("refused after %v", time.Since(began))
	n = r.count()
	e2 := startServer(t, dir, e.URLs()[0])
	began = time.Now()
	r.wait(t, "the connection", func() bool { return r.lastLocked().Connected })
	t.Logf("connected again %v after the server was ready", time.Since(began))
	rev := fill(t, openClient(t, e2.URLs()...), 20, 21)
	r.at(t, rev)
	if chs := changes(r.since(n)); len(chs) != 1 || chs[0].Name != "s00020" {
		t.Fatalf("want the one new key, got %+v", chs)
	}
}

func TestE03_UnreachableAtStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	l.Close()
	c := openClient(t, url)
	c.timeout = time.Second
	began := time.Now()
	err = c.Ping(context.Background())
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), url) || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("ping: %v", err)
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("ping took %v", d)
	}
	t.Log(err)
	r := startWatch(t, c, nil)
	r.wait(t, "news", func() bool { return len(r.all) > 0 })
	if u := r.since(0)[0]; u.Connected || u.InSync {
		t.Fatalf("got %+v", u)
	}
	startServer(t, t.TempDir(), url)
	r.synced(t)
	if n := r.count(); n > 4 {
		t.Errorf("%d updates to get going", n)
	}
}

func TestE04_BlackHole(t *testing.T) {
	direct, e := newStore(t)
	c, g := gatedClient(t, e)
	r := startWatch(t, c, func(tun *tuning) { tun.ping, tun.pong = 300*time.Millisecond, 500*time.Millisecond })
	r.synced(t)
	// The first answer proves that the server gives some.
	rev := must[int64](t)(direct.Put(context.Background(), "/unrelated", nil))
	r.at(t, rev)
	g.blackhole()
	began := time.Now()
	rev = fill(t, direct, 0, 1)
	r.wait(t, "the loss", func() bool { return !r.lastLocked().Connected })
	t.Logf("noticed after %v", time.Since(began))
	r.at(t, rev)
	r.wait(t, "the connection", func() bool { return r.lastLocked().Connected })
	t.Logf("recovered after %v", time.Since(began))
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("recovery took %v", d)
	}
}

// On a datastore that nobody writes to, a healthy watch stays, and one that
// leads nowhere is noticed all the same.
func TestE04_IdleDatastore(t *testing.T) {
	direct, e := newStore(t)
	fill(t, direct, 0, 3)
	c, g := gatedClient(t, e)
	tun := defaultTuning()
	r := startWatch(t, c, func(s *tuning) {
		s.ping, s.pong = 100*time.Millisecond, 300*time.Millisecond
		tun = *s
	})
	r.synced(t)
	n := r.count()
	w := theWatcher(c)
	began := time.Now()
	for time.Since(began) < 6*(tun.ping+tun.pong) {
		if ups := r.since(n); len(ups) != 0 {
			t.Fatalf("after %v of quiet: %+v", time.Since(began), ups)
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.mu.Lock()
	stale := w.stale
	w.mu.Unlock()
	if stale != 0 {
		t.Errorf("%d events count as come again; asking for the last revision once more is our own doing", stale)
	}
	g.blackhole()
	began = time.Now()
	r.wait(t, "the loss", func() bool { return !r.lastLocked().Connected })
	t.Logf("noticed after %v", time.Since(began))
	if d := time.Since(began); d > 3*(tun.ping+tun.pong) {
		t.Errorf("noticed after %v", d)
	}
	r.wait(t, "the connection", func() bool { return r.lastLocked().Connected })
	if chs := changes(r.since(n)); len(chs) != 0 {
		t.Errorf("nothing was written, and yet %+v", chs)
	}
}

// A progress request that meets a server still catching up is never answered:
// it must not pass for a dead connection, and the revision must come.
func TestProgressAskedTooEarly(t *testing.T) {
	c, _ := newStore(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	rev := must[int64](t)(c.Put(ctx, "/unrelated", nil))
	for range 2 {
		func() {
			r := newRecorder()
			wctx, stop := context.WithCancel(ctx)
			tun := defaultTuning()
			tun.ping, tun.pong = time.Hour, 300*time.Millisecond
			done := make(chan struct{})
			go func() { defer close(done); _ = c.watch(wctx, nil, r.deliver, tun) }()
			defer func() { stop(); <-done }()
			r.synced(t) // the stream was created a moment ago
			n := r.count()
			theWatcher(c).poke <- struct{}{}
			began := time.Now()
			for time.Since(began) < 3*tun.pong {
				if ups := r.since(n); len(ups) != 0 && !ups[len(ups)-1].Connected {
					t.Fatalf("torn down after %v: %+v", time.Since(began), ups)
				}
				time.Sleep(10 * time.Millisecond)
			}
			r.at(t, rev)
		}()
	}
}

func TestE05_CompactionWhileDisconnected(t *testing.T) {
	direct, e := newStore(t)
	c, g := gatedClient(t, e)
	fill(t, direct, 0, 100)
	r := startWatch(t, c, nil)
	r.synced(t)
	g.set(true)
	r.wait(t, "the loss", func() bool { return !r.lastLocked().Connected })
	n := r.count()
	fill(t, direct, 10, 20)
	empty(t, direct, 0, 5)
	rev := fill(t, direct, 200, 203)
	compact(t, direct)
	began := time.Now()
	g.set(false)
	r.at(t, rev)
	r.wait(t, "the connection", func() bool { return r.lastLocked().Connected })
	t.Logf("back after %v", time.Since(began))
	ups := r.since(n)
	with := slices.DeleteFunc(ups, func(u Update) bool { return len(u.Changes) == 0 })
	if len(with) != 1 {
		t.Fatalf("the difference came in %d updates", len(with))
	}
	put, gone := keysOf(with[0].Changes, false), keysOf(with[0].Changes, true)
	if len(put) != 13 || !slices.Equal(gone, []string{"s00000", "s00001", "s00002", "s00003", "s00004"}) {
		t.Fatalf("put %v, deleted %v", put, gone)
	}
}

func TestReconnectWithoutCompactionContinues(t *testing.T) {
	direct, e := newStore(t)
	c, g := gatedClient(t, e)
	fill(t, direct, 0, 100)
	r := startWatch(t, c, nil)
	r.synced(t)
	g.set(true)
	r.wait(t, "the loss", func() bool { return !r.lastLocked().Connected })
	n := r.count()
	// On a watch deletions are never held, however many.
	rev := empty(t, direct, 0, 100)
	g.set(false)
	r.at(t, rev)
	if chs := changes(r.since(n)); len(chs) != 100 || len(keysOf(chs, true)) != 100 {
		t.Fatalf("%d changes", len(chs))
	}
}

func theWatcher(c *Client) *watcher {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watchers {
		return w
	}
	return nil
}

func TestE06_SilentLossIsFound(t *testing.T) {
	c, _ := newStore(t)
	rev := fill(t, c, 0, 50)
	r := startWatch(t, c, func(tun *tuning) {
		tun.ping, tun.settle, tun.audit = 200*time.Millisecond, 10*time.Millisecond, 200*time.Millisecond
	})
	r.synced(t)
	r.at(t, rev)
	w := theWatcher(c)
	audits := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return int(w.gen)
	}
	// An audit of a healthy watch finds nothing. One that has begun is over when
	// the next one begins.
	before := audits()
	labtest.Poll(t, 10*time.Second, func() error {
		if n := audits() - before; n < 2 {
			return fmt.Errorf("%d audits", n)
		}
		return nil
	})
	if s := c.WatchStats(); s != (WatchStats{}) || r.since(r.count() - 1)[0].Connected == false {
		t.Fatalf("false alarm: %+v", s)
	}
	n := r.count()
	w.mu.Lock()
	delete(w.keys, setKey(1))                 // a creation that never came
	w.keys[setKey(2)] = &known{rev: 1}        // a change that never came
	w.keys[setKey(999)] = &known{rev: w.sure} // a deletion that never came
	w.mu.Unlock()
	r.wait(t, "the repair", func() bool {
		return len(changes(r.all[n:])) >= 3 && r.lastLocked().Connected
	})
	chs := changes(r.since(n))
	if !slices.Equal(keysOf(chs, false), []string{"s00001", "s00002"}) || !slices.Equal(keysOf(chs, true), []string{"s00999"}) {
		t.Fatalf("got %+v", chs)
	}
	if s := c.WatchStats(); s.Lost != 3 {
		t.Errorf("lost %d, want 3", s.Lost)
	}
}

func TestE07_OldEventsChangeNothing(t *testing.T) {
	w := &watcher{keys: map[string]*known{}, news: make(chan struct{}, 1)}
	ev := func(typ mvccpb.Event_EventType, n int, rev int64) *mvccpb.Event {
		return &mvccpb.Event{Type: typ, Kv: &mvccpb.KeyValue{Key: []byte(setKey(n)), Value: setValue(n), ModRevision: rev}}
	}
	w.apply([]*mvccpb.Event{ev(mvccpb.Event_PUT, 1, 10), ev(mvccpb.Event_PUT, 2, 10)})
	w.apply([]*mvccpb.Event{ev(mvccpb.Event_DELETE, 1, 11), ev(mvccpb.Event_PUT, 2, 12)})
	w.pend.take()
	w.apply([]*mvccpb.Event{ev(mvccpb.Event_PUT, 1, 10), ev(mvccpb.Event_PUT, 2, 10)})
	w.apply([]*mvccpb.Event{ev(mvccpb.Event_DELETE, 1, 11), ev(mvccpb.Event_PUT, 2, 12)})
	if len(w.pend.index) != 0 || w.rev != 12 || w.stale != 4 {
		t.Fatalf("pending %v, revision %d, stale %d", w.pend.index, w.rev, w.stale)
	}
}

func TestE08_SlowConsumer(t *testing.T) {
	c, _ := newStore(t)
	fill(t, c, 0, 1000)
	limit := 128 << 10
	r := startWatch(t, c, func(tun *tuning) { tun.maxPending = limit })
	r.synced(t)
	block := make(chan struct{})
	r.mu.Lock()
	r.block = block
	n := len(r.all)
	r.mu.Unlock()
	var m0, m1 runtime.MemStats
	fill(t, c, 0, 1) // the consumer is stuck in this one
	r.wait(t, "the first", func() bool { return len(r.all) > n })
	runtime.GC()
	runtime.ReadMemStats(&m0)
	var rev int64
	for range 20 {
		rev = fill(t, c, 0, 1000)
	}
	w := theWatcher(c)
	w.mu.Lock()
	cost := w.pend.cost
	w.mu.Unlock()
	runtime.GC()
	runtime.ReadMemStats(&m1)
	t.Logf("20,000 events waiting: %d bytes pending, heap %+d KiB (with the server's)", cost, (int64(m1.HeapAlloc)-int64(m0.HeapAlloc))/1024)
	if cost > limit+200<<10 {
		t.Errorf("%d bytes pending, limit %d", cost, limit)
	}
	began := time.Now()
	close(block)
	r.at(t, rev)
	ups := r.since(n)
	total := len(changes(ups))
	t.Logf("caught up after %v with %d updates of %d changes", time.Since(began), len(ups), total)
	for k, ch := range r.state {
		if ch.Revision <= rev-10 {
			t.Fatalf("%s is at %d, want the last round up to %d", k, ch.Revision, rev)
		}
	}
	if !r.since(r.count() - 1)[0].Connected {
		t.Error("connection lost")
	}
}

func TestCoalescing(t *testing.T) {
	c, _ := newStore(t)
	fill(t, c, 0, 5)
	r := startWatch(t, c, nil)
	r.synced(t)
	block := make(chan struct{})
	r.mu.Lock()
	r.block = block
	n := len(r.all)
	r.mu.Unlock()
	fill(t, c, 0, 1)
	r.wait(t, "the first", func() bool { return len(r.all) > n })
	for range 200 {
		fill(t, c, 0, 3)
	}
	fill(t, c, 10, 11) // comes and goes unseen
	empty(t, c, 10, 11)
	rev := empty(t, c, 2, 3)
	w := theWatcher(c)
	deadline := time.Now().Add(10 * time.Second)
	for done := false; !done; {
		w.mu.Lock()
		done = w.rev >= rev
		w.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatal("events did not come")
		}
	}
	close(block)
	r.at(t, rev)
	chs := changes(r.since(n + 1))
	if len(r.since(n+1)) != 1 || len(chs) != 3 || chs[2].Name != "s00002" || !chs[2].Deleted {
		t.Fatalf("want one update: s00000, s00001, deleted s00002; got %d updates, %+v", len(r.since(n+1)), chs)
	}
}

func TestE09_RestoredDatastoreIsHeld(t *testing.T) {
	dir := t.TempDir()
	e := startServer(t, dir, "http://127.0.0.1:0")
	c := openClient(t, e.URLs()...)
	for i := range 40 {
		fill(t, c, i, i+1)
	}
	r := startWatch(t, c, func(tun *tuning) { tun.hold = 2 * time.Second })
	r.synced(t)
	e.Close()
	r.wait(t, "the loss", func() bool { return !r.lastLocked().Connected })
	n := r.count()
	startServer(t, t.TempDir(), e.URLs()[0])
	fill(t, openClient(t, e.URLs()...), 100, 101)
	r.wait(t, "the brake", func() bool { return r.lastLocked().Held != "" })
	held := r.since(r.count() - 1)[0]
	t.Log(held.Held)
	if chs := changes(r.since(n)); len(chs) != 0 || !held.Connected {
		t.Fatalf("not held: %+v", chs)
	}
	r.wait(t, "the second listing", func() bool { return r.lastLocked().Held == "" && r.lastLocked().Connected })
	chs := changes(r.since(n))
	if len(keysOf(chs, true)) != 40 || !slices.Equal(keysOf(chs, false), []string{"s00100"}) {
		t.Fatalf("got %+v", chs)
	}
	rev := fill(t, openClient(t, e.URLs()...), 101, 102)
	r.wait(t, "life after", func() bool { return r.lastLocked().Revision == rev })
}

func TestE10_MassDeletionFoundByListingIsHeld(t *testing.T) {
	direct, e := newStore(t)
	c, g := gatedClient(t, e)
	fill(t, direct, 0, 50)
	r := startWatch(t, c, func(tun *tuning) { tun.hold = 2 * time.Second })
	r.synced(t)
	g.set(true)
	r.wait(t, "the loss", func() bool { return !r.lastLocked().Connected })
	n := r.count()
	empty(t, direct, 0, 30)
	fill(t, direct, 100, 101)
	compact(t, direct)
	g.set(false)
	r.wait(t, "the brake", func() bool { return r.lastLocked().Held != "" })
	t.Log(r.since(r.count() - 1)[0].Held)
	if chs := changes(r.since(n)); len(keysOf(chs, true)) != 0 || !slices.Equal(keysOf(chs, false), []string{"s00100"}) {
		t.Fatalf("additions come, deletions are held; got %+v", chs)
	}
	// Somebody restores most of it: nothing is left to hold.
	fill(t, direct, 0, 25)
	r.wait(t, "the end of the brake", func() bool { return r.lastLocked().Held == "" && r.lastLocked().Connected })
	if gone := keysOf(changes(r.since(n)), true); !slices.Equal(gone, []string{"s00025", "s00026", "s00027", "s00028", "s00029"}) {
		t.Fatalf("deleted %v", gone)
	}
}

func TestE05_CompactedListingStartsOver(t *testing.T) {
	c, _ := newStore(t)
	fill(t, c, 0, 1200)
	pages := 0
	_, err := c.pages(context.Background(), resourcePrefix, 0, func([]*mvccpb.KeyValue) error {
		if pages++; pages == 1 {
			fill(t, c, 0, 1)
			compact(t, c)
		}
		return nil
	})
	if err = compacted(err); !needsListing(err) {
		t.Fatalf("got %v", err)
	}
}
