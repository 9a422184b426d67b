// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// stream is one etcd watch stream. The client library's own watcher is not
// used: it hides a broken stream behind retries and buffers without a bound.
type stream struct {
	w      *watcher
	rpc    pb.Watch_WatchClient
	send   sync.Mutex
	cancel context.CancelCauseFunc
	// exact is false for servers whose answer to a progress request may
	// overtake events (before 3.4.25 and 3.5.8).
	exact bool
	// answers is false for servers that do not know progress requests.
	answers bool

	heard   atomic.Int64 // monotonic nanoseconds of the last message
	created atomic.Bool
	began   time.Time
}

// follow watches from w.sure until the stream breaks. It returns an errRelist
// when continuing would not be enough. Unless everything was listed just now, etcd may have
// another history than the one that was followed, see audit.
//
// Everything up to and including w.sure is known already, but etcd answers no
// progress request while its revision is below the one a watch starts at: a
// watch from w.sure+1 would be silent until somebody writes, and a datastore
// that nobody writes to would look dead. apply ignores what comes again.
func (w *watcher) follow(ctx context.Context, listed bool) error {
	// A restored or foreign datastore would let a watch wait silently for a
	// revision it may reach years later: look before following.
	h, err := w.c.header(ctx)
	if err != nil {
		return err
	}
	w.mu.Lock()
	from, clusterID := w.sure, w.clusterID
	w.resumed = from
	w.mu.Unlock()
	if h.ClusterId != clusterID {
		return &errRelist{fmt.Sprintf("etcd cluster is %x, was %x", h.ClusterId, clusterID)}
	}
	if h.Revision < from {
		return &errRelist{fmt.Sprintf("etcd is at revision %d, was at %d", h.Revision, from)}
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	v, err := w.c.version(ctx)
	if err != nil {
		return err
	}
	s := &stream{w: w, cancel: cancel, exact: v.progressInOrder(), answers: v.answersProgress(), began: time.Now()}
	etcd, err := w.c.client(ctx)
	if err != nil {
		return err
	}
	rpc := pb.NewWatchClient(etcd.ActiveConnection())
	// Require a leader: a member that lost its cluster must not keep us.
	s.rpc, err = rpc.Watch(clientv3.WithRequireLeader(ctx), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		return w.c.wrap("watch", watchStart, err)
	}
	if err := s.create(from); err != nil {
		return w.c.wrap("watch", watchStart, err)
	}
	var tenders sync.WaitGroup
	tenders.Go(func() { s.tend(ctx) })
	tenders.Go(func() { s.audits(ctx, !listed) })
	err = s.read(ctx, from)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	cancel(nil)
	tenders.Wait()
	return err
}

func (s *stream) create(from int64) error {
	return s.rpc.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(watchStart), RangeEnd: []byte(watchEnd), StartRevision: from,
		ProgressNotify: true, Fragment: true,
	}}})
}

// read takes responses until the stream ends. One response holds whole
// transactions: etcd splits one only into fragments, which are joined here.
func (s *stream) read(ctx context.Context, from int64) error {
	var events []*mvccpb.Event
	for {
		if err := s.w.waitRoom(ctx); err != nil {
			return err
		}
		resp, err := s.rpc.Recv()
		if err != nil {
			return s.w.c.wrap("watch", watchStart, err)
		}
		s.heard.Store(int64(time.Since(s.began)))
		switch {
		case resp.CompactRevision != 0:
			return &errRelist{fmt.Sprintf("etcd compacted revision %d before it was read", from)}
		case resp.Canceled:
			return s.w.c.wrap("watch", watchStart, canceled(resp.CancelReason))
		case resp.Created:
			s.created.Store(true)
			s.w.following()
			continue
		}
		if h := resp.Header; h != nil && h.ClusterId != 0 && h.ClusterId != s.w.clusterID {
			return &errRelist{fmt.Sprintf("etcd cluster is %x, was %x", h.ClusterId, s.w.clusterID)}
		}
		if len(resp.Events) == 0 && len(events) == 0 {
			s.progress(ctx, resp.Header.GetRevision())
			continue
		}
		events = append(events, resp.Events...)
		if resp.Fragment {
			continue
		}
		s.w.apply(events)
		events = nil
	}
}

func canceled(reason string) error {
	if strings.Contains(reason, "no leader") {
		return fmt.Errorf("%w: %s", ErrUnavailable, reason)
	}
	return errors.New("etcd ended the watch: " + reason)
}

// following tells the consumer that the watch stands.
func (w *watcher) following() {
	w.mu.Lock()
	again := w.told
	if !w.connected || w.told {
		w.connected, w.told, w.changed = true, false, true
	}
	rev := w.rev
	w.mu.Unlock()
	signal(w.news)
	if again {
		w.log.Info("following the datastore again", "etcd", w.c.endpoints, "revision", rev)
	}
}

// apply merges the events of one response. Events that were applied before, in
// whatever order they come again, change nothing.
func (w *watcher) apply(events []*mvccpb.Event) {
	w.mu.Lock()
	floor, top := w.sure, w.sure
	for _, ev := range events {
		rev := ev.Kv.ModRevision
		top = max(top, rev)
		key := string(ev.Kv.Key)
		old := w.keys[key]
		if rev < floor || old != nil && rev <= old.rev {
			if rev != w.resumed {
				w.stale++
			}
			continue
		}
		if ev.Type == mvccpb.Event_DELETE {
			if old != nil {
				delete(w.keys, key)
				w.pend.add(item{key: key, rev: rev, deleted: true})
			}
			continue
		}
		if old != nil {
			old.rev, old.sum = rev, sumOf(ev.Kv.Value)
		} else if _, wanted := refOf(key); !wanted {
			continue
		} else {
			w.keys[key] = &known{rev: rev, sum: sumOf(ev.Kv.Value)}
		}
		w.pend.add(item{key: key, raw: ev.Kv.Value, rev: rev, fresh: old == nil})
	}
	w.sure = top
	if top > w.rev {
		w.rev, w.changed = top, true
	}
	w.mu.Unlock()
	signal(w.news)
}

// progress moves the revision on when etcd says that nothing happened.
func (s *stream) progress(ctx context.Context, rev int64) {
	if s.exact {
		s.w.advance(rev, true)
		return
	}
	// The answer may have overtaken events that were ready to be sent. They
	// follow at once; give them the time.
	time.AfterFunc(s.w.tun.settle, func() {
		if ctx.Err() == nil {
			s.w.advance(rev, false)
		}
	})
}

func (w *watcher) advance(rev int64, exact bool) {
	w.mu.Lock()
	news := rev > w.rev
	if news {
		w.rev, w.changed = rev, true
	}
	if exact {
		w.sure = max(w.sure, rev)
	}
	w.mu.Unlock()
	if news {
		signal(w.news)
	}
}

// tend asks for progress when the stream is silent or somebody wants to know,
// and ends a stream that does not answer.
func (s *stream) tend(ctx context.Context) {
	tun := s.w.tun
	tick := time.NewTicker(min(tun.ping, tun.pong) / 4)
	defer tick.Stop()
	var asked time.Duration // since s.began; 0: nothing outstanding
	for {
		want := false
		select {
		case <-ctx.Done():
			return
		case <-s.w.poke:
			want = true
		case <-tick.C:
		}
		now, heard := time.Since(s.began), time.Duration(s.heard.Load())
		if heard > asked || s.w.busy() {
			// While busy we are not reading; the silence is our own.
			asked = 0
		}
		due := asked != 0 && now-asked > tun.pong && s.answers
		if due || (!s.created.Load() && now > tun.pong) {
			s.cancel(fmt.Errorf("%w at %s: no answer on the watch for %s", ErrUnavailable, strings.Join(s.w.c.endpoints, ","), tun.pong))
			s.w.c.drop()
			return
		}
		// A server that is still catching up with the watch ignores the
		// request instead of delaying its answer: ask again until one comes.
		again := asked != 0 && s.answers
		if s.created.Load() && (want || again || (asked == 0 && now-heard > tun.ping)) {
			if asked == 0 {
				asked = now
			}
			s.ask()
		}
	}
}

// audits compares with the datastore soon after connecting and then at
// leisure; the first time with values, if the history may be another.
func (s *stream) audits(ctx context.Context, values bool) {
	wait := min(s.w.tun.audit, 3*time.Second)
	for sleep(ctx, jitter(wait)) {
		if !s.created.Load() {
			continue // a restore that comes after a comparison has to break this stream
		}
		done, err := s.w.audit(ctx, values)
		if err != nil {
			s.cancel(err)
			return
		}
		values, wait = values && !done, s.w.tun.audit
	}
}

func (w *watcher) busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pend.cost > w.tun.maxPending
}

func (s *stream) ask() {
	s.send.Lock()
	defer s.send.Unlock()
	// A failed send shows up in read.
	_ = s.rpc.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}
