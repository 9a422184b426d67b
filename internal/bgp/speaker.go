// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Options are what a Speaker is built from. The zero value works: it logs to
// nowhere and uses the network.
type Options struct {
	Log *slog.Logger
	// Listen opens a listening socket; nil means TCP with SO_REUSEADDR. Peers
	// with TTLSecurity are accepted only if it keeps each SYN (TCP_SAVE_SYN).
	Listen func(ctx context.Context, addr netip.AddrPort) (net.Listener, error)
	// Dial connects to a peer, from local if that is valid; nil means TCP
	// with TTL 255.
	Dial func(ctx context.Context, local netip.Addr, addr netip.AddrPort) (net.Conn, error)
	// Within runs open where the sockets of Dial and Listen are to be made, if
	// these are nil: in another network namespace. Nil means here.
	Within func(open func() error) error
	// Restarting says that the forwarding state of an earlier process is
	// still in place: the first OPEN to each peer carries the R and F bits of
	// RFC 4724, and End-of-RIB may wait for outside peers (gr.go).
	Restarting bool
	// Expected are the peers that an earlier process had from listen ranges, as its
	// DynamicPeers said. Those that a range still has are waited for.
	Expected []netip.Addr
	// TrackNextHops says that somebody listens to NextHops and answers with
	// SetNextHops. Otherwise every next hop counts as reachable at no cost.
	TrackNextHops bool
	// MaxPending bounds accepted connections that are not Established yet;
	// 0 means 100.
	MaxPending int
	// RetryMin and RetryMax bound the ConnectRetryTimer, which is drawn at
	// random between them; 0 means 2 s and 5 s. The first attempts after a
	// loss come faster.
	RetryMin, RetryMax time.Duration
	// OpenTimeout bounds the wait for the peer's OPEN; 0 means 5 s.
	OpenTimeout time.Duration
}

// Speaker is the BGP engine. Its methods may be called from any goroutine, before
// and while Run runs; after Run has returned they do nothing.
type Speaker struct {
	opt      Options
	log      *slog.Logger
	epoch    time.Time
	inputs   chan input
	arrivals chan net.Conn  // accepted from known addresses
	done     chan struct{}  // closed when Run ends
	updates  sync.Pool      // *update
	batches  chan []message // empty, of inputs that were dealt with
	wg       sync.WaitGroup

	converged chan struct{}

	mu      sync.Mutex // guards calls and state
	calls   []func()
	state   runState
	callSig chan struct{}
	known   knownPeers // addresses that may connect; read by the accept goroutines

	// Below: owned by the loop.
	ctx        context.Context
	cfg        Config
	configured time.Time // the first Config was applied; zero: none yet
	peers      map[netip.AddrPort]*peer
	listeners  map[netip.AddrPort]*listener
	rib        rib
	own        map[netip.Addr]bool     // addresses that cannot be a next hop of others
	interfaces map[netip.Prefix]string // of what is originated, where there is one
	groups     map[groupKey]*group
	scratch    Route          // of exportRoute
	arrived    Route          // scratch of received
	changed    []netip.Prefix // whose selection changed since the last flush
	inside     []netip.Prefix // the same, of interest to some groups only (group.inward)
	paths      []netip.Prefix // of which only paths beside the selection did
	room       path           // scratch of what reads the table
	ranked     []*path        // scratch of desired
	pending    prefixQueue    // not yet handed out by NextBest
	answered   time.Time      // NextBest was last looked after
	waiting    []chan<- []Best
	monitors   []*Monitor
	dynamics   dynamicPeers
	selections uint64 // how often the selection of a prefix has changed
	originated bool   // OriginationsComplete was called
	applying   bool   // a configuration is half applied: who is waited for is not known
	hasConv    bool   // the peers have converged
	convTold   bool   // and the channel is closed
	conv       timer  // bound of the wait for that
	eorBound   timer  // bound of the wait with End-of-RIB
	accepted   int    // accepted connections that are not Established
}

type runState uint8

const (
	notRunning runState = iota
	running
	stopped
)

// New returns a Speaker with nothing configured. It starts no goroutine.
func New(opt Options) *Speaker {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Within == nil {
		opt.Within = func(open func() error) error { return open() }
	}
	if opt.MaxPending == 0 {
		opt.MaxPending = 100
	}
	if opt.RetryMin == 0 {
		opt.RetryMin = 2 * time.Second
	}
	if opt.RetryMax < opt.RetryMin {
		opt.RetryMax = max(5*time.Second, opt.RetryMin)
	}
	if opt.OpenTimeout == 0 {
		opt.OpenTimeout = 5 * time.Second
	}
	s := &Speaker{
		opt: opt, log: opt.Log, epoch: time.Now(),
		inputs: make(chan input, 8), arrivals: make(chan net.Conn), done: make(chan struct{}),
		callSig: make(chan struct{}, 1), converged: make(chan struct{}),
		updates:    sync.Pool{New: func() any { return new(update) }},
		batches:    make(chan []message, maxIdleBatches),
		peers:      make(map[netip.AddrPort]*peer),
		listeners:  make(map[netip.AddrPort]*listener),
		groups:     make(map[groupKey]*group),
		own:        make(map[netip.Addr]bool),
		interfaces: make(map[netip.Prefix]string),
		rib:        rib{sources: []*source{{used: true}}, hops: hopTable{on: opt.TrackNextHops}},
	}
	s.rib.attrs.hops = &s.rib.hops
	return s
}

// Run runs the engine until ctx ends, then closes every connection without a
// NOTIFICATION, so that peers with graceful restart keep our routes, waits
// for its goroutines and returns nil. It can be called once.
func (s *Speaker) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.state != notRunning {
		s.mu.Unlock()
		return fmt.Errorf("bgp: Run called twice")
	}
	s.state = running
	s.mu.Unlock()
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	s.epoch = time.Now()
	for {
		select {
		case <-ctx.Done():
			s.shutdown(cancel)
			return nil
		case in := <-s.inputs:
			s.handle(in)
		case nc := <-s.arrivals:
			s.incoming(nc)
		case <-s.callSig:
			s.mu.Lock()
			calls := s.calls
			s.calls = nil
			s.mu.Unlock()
			for _, fn := range calls {
				fn()
			}
		}
		s.flush()
	}
}

// shutdown ends every goroutine and releases every waiting caller.
func (s *Speaker) shutdown(cancel context.CancelFunc) {
	cancel()
	s.mu.Lock()
	s.state = stopped
	s.calls = nil
	s.mu.Unlock()
	close(s.done)
	for _, l := range s.listeners {
		l.close()
	}
	for _, p := range s.peers {
		p.retry.stop()
		p.stale.stop()
		for _, c := range p.conns {
			c.timer.stop()
			_ = c.nc.Close()
		}
	}
	s.conv.stop()
	s.eorBound.stop()
	s.dynamics.bound.stop()
	s.wg.Wait()
}

// post has fn run by the loop. It never blocks; after Run ended fn is dropped
// and the result is false.
func (s *Speaker) post(fn func()) bool {
	s.mu.Lock()
	if s.state == stopped {
		s.mu.Unlock()
		return false
	}
	s.calls = append(s.calls, fn)
	s.mu.Unlock()
	select {
	case s.callSig <- struct{}{}:
	default:
	}
	return true
}

// ask runs fn in the loop and waits for it. It reports false, without running
// fn, when the loop does not run.
func (s *Speaker) ask(fn func()) bool {
	s.mu.Lock()
	up := s.state == running
	s.mu.Unlock()
	if !up {
		return false
	}
	finished := make(chan struct{})
	s.post(func() {
		fn()
		close(finished)
	})
	select {
	case <-finished:
		return true
	case <-s.done:
		return false
	}
}

// Originate changes what this node announces: add replaces an announcement of
// the same prefix, remove withdraws. Prefixes are masked; 169.254/16 and other
// prefixes that cannot be routed are kept but never announced.
func (s *Speaker) Originate(add []Origination, remove []netip.Prefix) {
	s.post(func() {
		for _, prefix := range remove {
			if prefix.IsValid() {
				prefix = prefix.Masked()
				delete(s.interfaces, prefix)
				s.touch(prefix, s.rib.remove(pathRef{prefix: prefix}, 0))
			}
		}
		for _, o := range add {
			if !o.Prefix.IsValid() {
				continue
			}
			a := &attrs{localPref: o.LocalPref, hasLocalPref: o.LocalPref != 0}
			if o.NoExport {
				a.comms = []uint32{commNoExport}
			}
			prefix := o.Prefix.Masked()
			if s.interfaces[prefix] != o.Interface {
				s.interfaces[prefix] = o.Interface
				s.touch(prefix, selectionChanged) // policies may look at it
			}
			s.touch(prefix, s.rib.set(pathRef{prefix: prefix}, 0, nil, s.rib.attrs.intern(a), Accepted))
		}
	})
}

// OriginationsComplete says that everything this node announces has been
// given to Originate once: from now on End-of-RIB may be sent.
func (s *Speaker) OriginationsComplete() {
	s.post(func() {
		s.flush()
		s.originated = true
		s.releaseEOR()
	})
}

// Converged returns a channel that is closed once: when every configured peer
// has sent its table and every next hop is known, or the restart time has passed since the first SetConfig, and when
// NextBest has been called again after handing out all of it. Only then may
// routes of an earlier process that NextBest did not name be removed.
func (s *Speaker) Converged() <-chan struct{} { return s.converged }

// NextBest waits for changes of the selected routes and returns them, at most
// a few thousand at a time and each prefix once, with its present state: what
// changed twice is seen once. Every prefix with a learned route is named at
// least once. It returns ctx's error, or net.ErrClosed when Run has ended. Meant for one
// consumer; several share the changes.
func (s *Speaker) NextBest(ctx context.Context) ([]Best, error) {
	ch := make(chan []Best, 1)
	s.post(func() { s.waiting = append(s.waiting, ch) })
	select {
	case b := <-ch:
		return b, nil
	case <-ctx.Done():
		s.post(func() {
			for i, w := range s.waiting {
				if w == (chan<- []Best)(ch) {
					s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
					return
				}
			}
			// Answered in the meantime: the changes are due again.
			select {
			case b := <-ch:
				for _, x := range b {
					s.pending.add(x.Prefix, 0)
				}
			default:
			}
		})
		return nil, ctx.Err()
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Repeat has NextBest name every prefix again, for a daemon that deals with
// them in another way from now on.
func (s *Speaker) Repeat() { s.post(s.repeat) }

func (s *Speaker) repeat() {
	if s.cfg.ControlPlaneOnly {
		return
	}
	for prefix := range s.rib.table.All() {
		s.pending.add(prefix, 0)
	}
}

// maxBest bounds what NextBest returns at a time.
const maxBest = 4096

// bestDelay is how long changes may wait for more of them while input is at
// hand: a table that arrives is handed on in full pages, and whoever sends it is
// not kept waiting for what becomes of it.
const bestDelay = 20 * time.Millisecond

// answerBest gives pending changes to a waiting NextBest.
func (s *Speaker) answerBest() {
	if len(s.inputs) > 0 && time.Since(s.answered) < bestDelay {
		return // the loop comes here again after that input
	}
	s.answered = time.Now()
	for len(s.waiting) > 0 && s.pending.len() > 0 {
		s.waiting[0] <- s.nextBest()
		s.waiting = s.waiting[1:]
	}
	// Whoever waits for more has dealt with everything before.
	if s.hasConv && !s.convTold && len(s.waiting) > 0 {
		s.convTold = true
		close(s.converged)
	}
}

// nextBest takes a page of pending changes, in the order in which they came, so
// that what changes all the time keeps nothing else waiting.
func (s *Speaker) nextBest() []Best {
	n := min(s.pending.len(), maxBest)
	out := make([]Best, n)
	hops := make([]netip.Addr, 0, n) // nearly all have one
	for i := range out {
		prefix, since := s.pending.take()
		out[i], hops = outcome(prefix, s.rib.table.read(prefix, &s.room), hops)
		out[i].since = since
	}
	return out
}

// Waited calls each for those of a page of NextBest that a message led to, through
// the question for an unknown next hop, too: how long ago it was received.
func (s *Speaker) Waited(page []Best, each func(time.Duration)) {
	now := tickAt(time.Since(s.epoch))
	for i := range page {
		if page[i].since != 0 {
			each(page[i].since.until(now))
		}
	}
}
