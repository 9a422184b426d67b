// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// Update is what Watch hands to its consumer: the changes of one or several
// whole etcd transactions, or only news about the watch itself.
type Update struct {
	// Revision: every change of the datastore up to and including this
	// revision has been delivered, this Update included. It is 0 until InSync
	// and goes back only after a restored datastore was accepted.
	Revision int64
	// InSync is false while the first listing is being delivered, in several
	// Updates; from then on it is true. Prune nothing before.
	InSync bool
	// Connected is false from the moment the watch breaks until it follows
	// the datastore again.
	Connected bool
	// Held is not empty while changes found by a listing are held back,
	// because they look like a lost or foreign datastore. It says which.
	Held string
	// Changes are in the order of their last write. A key is in it once.
	Changes []Change
}

// Change is the newest state of one key.
type Change struct {
	Key string
	// Kind is a kind of api/v3, KindBlock, KindBlockAffinity or KindIPAMConfig.
	Kind string
	// Namespace is of a namespaced kind, or the node of a KindBlockAffinity.
	Namespace string
	// Name is the name in the key, which is the identity. A policy may be
	// displayed under another: Object.Meta().Name.
	Name string
	// Revision is the revision the key was last written, or deleted, at. For
	// a deletion found by a listing it is the revision of the listing.
	Revision int64
	// Raw is the stored value; nil when Deleted.
	Raw []byte
	// Object is the value of a resource, with stored members only: no default
	// is filled in. Nil when Deleted and for the IPAM kinds. When Err is set it
	// is nil too, or what could be read of a policy: see v3.DecodeKV.
	Object v3.Resource
	// Err says why the value cannot be read. Other changes are unaffected.
	Err error
	// Deleted: the key is gone.
	Deleted bool
}

// Tuning of the watch. Tests shorten it; nobody else needs to.
type tuning struct {
	maxPending int           // bytes waiting for the consumer
	ping       time.Duration // silence before a progress request
	pong       time.Duration // wait for its answer
	settle     time.Duration // see stream.progress
	audit      time.Duration // between comparisons with the datastore
	hold       time.Duration // between the two listings that lift the brake
	minBackoff time.Duration
	maxBackoff time.Duration
}

func defaultTuning() tuning {
	return tuning{
		maxPending: 2 << 20, // a first listing is decoded in such portions, and most of each is garbage
		ping:       3 * time.Second,
		pong:       4 * time.Second,
		settle:     100 * time.Millisecond,
		audit:      50 * time.Second,
		hold:       10 * time.Second,
		minBackoff: 50 * time.Millisecond,
		maxBackoff: time.Second,
	}
}

// known is what the watch remembers of a key: enough to find differences. It is
// changed in place: assigning to a map replaces the key, too, by an equal one
// of other memory, while the consumer shares that of the first.
type known struct {
	rev int64
	sum uint32 // of the value: a restored datastore may come to the same revision with another one
	gen uint32 // of the listing that last saw it
}

// isOf: it knows the key as it is in a listing.
func (k *known) isOf(kv *mvccpb.KeyValue) bool {
	return k.rev == kv.ModRevision && k.sum == sumOf(kv.Value)
}

// sumOf has a seed of this process. 32 bits take no memory beside the revision, and one of
// four thousand million changes is missed, of those to another value at the same revision.
func sumOf(value []byte) uint32 { return uint32(maphash.Bytes(sumSeed, value)) }

var sumSeed = maphash.MakeSeed()

// watcher is one running Watch. One goroutine (run) reads from etcd and fills
// pend; the caller's goroutine (deliverLoop) empties it.
type watcher struct {
	c   *Client
	log *slog.Logger
	tun tuning

	news chan struct{} // pend or the state below changed
	room chan struct{} // pend was taken
	poke chan struct{} // a progress request is wanted

	mu        sync.Mutex
	pend      pending
	keys      map[string]*known
	gen       uint32
	rev       int64 // everything up to here is in keys and pend, as far as etcd says
	sure      int64 // the same, from what cannot have been overtaken; resume there
	resumed   int64 // sure when the stream began; events of this revision come again
	clusterID uint64
	savedGUID string // of the snapshot that is known and has not been compared yet
	inSync    bool
	connected bool
	told      bool // the consumer knows that it is not connected
	held      string
	changed   bool // the consumer has not seen rev, connected or held
	stale     int64
	lost      int64

	delivered int64 // revision the consumer returned from
	reached   chan struct{}
}

// Watch delivers the datastore, first everything and then every change, until
// ctx ends; then it returns nil. It never gives up: while etcd cannot be
// reached it says so once (Connected false) and keeps trying.
//
// deliver is called from this goroutine, one call at a time. While it is busy
// changes are coalesced by key, within a bound; beyond it etcd keeps them.
func (c *Client) Watch(ctx context.Context, deliver func(Update)) error {
	return c.watch(ctx, nil, deliver, defaultTuning())
}

func (c *Client) watch(ctx context.Context, from *Snapshot, deliver func(Update), tun tuning) error {
	w := &watcher{
		c: c, log: c.log, tun: tun,
		news: make(chan struct{}, 1), room: make(chan struct{}, 1), poke: make(chan struct{}, 1),
		keys: map[string]*known{}, reached: make(chan struct{}),
	}
	if from != nil {
		w.begin(from)
	}
	c.mu.Lock()
	c.watchers[w] = struct{}{}
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx)
	}()
	w.deliverLoop(ctx, deliver)
	cancel()
	<-done
	c.mu.Lock()
	delete(c.watchers, w)
	c.mu.Unlock()
	w.hand(math.MaxInt64) // it keeps nobody waiting
	return nil
}

func (w *watcher) deliverLoop(ctx context.Context, deliver func(Update)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.news:
		}
		w.mu.Lock()
		if len(w.pend.index) == 0 && !w.changed {
			w.pend.take()
			w.mu.Unlock()
			continue
		}
		items := w.pend.take()
		w.changed = false
		up := Update{InSync: w.inSync, Connected: w.connected, Held: w.held}
		if w.inSync {
			up.Revision = w.rev
		}
		w.mu.Unlock()
		signal(w.room)
		up.Changes = changesOf(items)
		deliver(up)
		w.hand(up.Revision)
	}
}

// hand notes that the consumer has everything up to rev.
func (w *watcher) hand(rev int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delivered = rev
	close(w.reached)
	w.reached = make(chan struct{})
}

// changesOf decodes items, those of a first listing on all processors.
func changesOf(items []item) []Change {
	if len(items) == 0 {
		return nil
	}
	out := make([]Change, len(items))
	const share = 64 // not worth another goroutine below that
	parts := min(runtime.GOMAXPROCS(0), 1+len(items)/share)
	var decoders sync.WaitGroup
	for part := range parts {
		decoders.Go(func() {
			for i := part * len(items) / parts; i < (part+1)*len(items)/parts; i++ {
				if !items[i].dropped {
					out[i], _ = items[i].change()
				}
			}
		})
	}
	decoders.Wait()
	return slices.DeleteFunc(out, func(c Change) bool { return c.Key == "" })
}

// change decodes an item, and false for a key that nobody here reads. The
// value is the Change's from then on.
func (it *item) change() (Change, bool) {
	r, ok := refOf(it.key)
	if !ok {
		return Change{}, false
	}
	ch := Change{Key: it.key, Kind: r.kind, Namespace: r.namespace, Name: r.name, Revision: it.rev, Raw: it.raw, Deleted: it.deleted}
	if !it.deleted && isResource(it.key) {
		ch.Object, ch.Err = decodeKV(KV{Key: it.key, Value: it.raw, Revision: it.rev})
	}
	it.raw = nil
	return ch, true
}

// run follows the datastore until ctx ends.
func (w *watcher) run(ctx context.Context) {
	wait := w.tun.minBackoff
	relist := true
	var said time.Time
	for ctx.Err() == nil {
		var err error
		began := time.Now()
		listed := relist
		if relist {
			err = w.relist(ctx)
		}
		if err == nil {
			relist = false
			err = w.follow(ctx, listed)
		}
		if ctx.Err() != nil {
			return
		}
		relist = relist || needsListing(err)
		if w.disconnect() || time.Since(said) > sayAgain {
			said = time.Now()
			w.log.Warn("the datastore is not followed; what is enforced stays in force", "etcd", w.c.endpoints, "err", err)
		}
		if time.Since(began) > 4*w.tun.maxBackoff {
			wait = w.tun.minBackoff
		}
		if !sleep(ctx, jitter(wait)) {
			return
		}
		wait = min(2*wait, w.tun.maxBackoff)
	}
}

// sayAgain is how often a datastore that stays away is spoken of.
const sayAgain = 5 * time.Minute

// errRelist is a reason to list again.
type errRelist struct{ why string }

func (e *errRelist) Error() string { return e.why }

func needsListing(err error) bool {
	var r *errRelist
	return errors.As(err, &r)
}

// disconnect tells the consumer, once; it reports whether that is news.
func (w *watcher) disconnect() bool {
	w.mu.Lock()
	news := !w.told
	if news {
		w.connected, w.told, w.changed = false, true, true
	}
	w.mu.Unlock()
	if news {
		signal(w.news)
	}
	return news
}

// waitRoom blocks while the consumer has too much in front of it. etcd keeps
// what is not read.
func (w *watcher) waitRoom(ctx context.Context) error {
	for {
		w.mu.Lock()
		full := w.pend.cost > w.tun.maxPending
		w.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.room:
		}
	}
}

// WaitRevision returns once every running Watch of this client has delivered
// everything up to revision rev and its consumer has returned from deliver, or
// with an error when ctx ends. It asks etcd for progress until then, so it need
// not be one of the watched keys that was written at rev. A Watch that ends
// meanwhile is not waited for.
func (c *Client) WaitRevision(ctx context.Context, rev int64) error {
	c.mu.Lock()
	all := make([]*watcher, 0, len(c.watchers))
	for w := range c.watchers {
		all = append(all, w)
	}
	c.mu.Unlock()
	for _, w := range all {
		for {
			w.mu.Lock()
			reached, done := w.reached, w.delivered >= rev
			w.mu.Unlock()
			if done {
				break
			}
			signal(w.poke)
			select {
			case <-ctx.Done():
				return &Error{Op: "wait for", Object: "revision " + formatRevision(rev), Err: ctx.Err()}
			case <-reached:
			case <-time.After(50 * time.Millisecond):
				// A server that was still catching up does not answer.
			}
		}
	}
	return nil
}

func formatRevision(rev int64) string { return strconv.FormatInt(rev, 10) }

func isResource(key string) bool {
	return len(key) > len(resourcePrefix) && key[:len(resourcePrefix)] == resourcePrefix
}

// signal wakes the reader of a channel that holds one token.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// jitter spreads d over 50–150 %, so that nodes do not return in step.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d+1) }

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
