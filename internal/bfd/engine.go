// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// Options are what an Engine is built from.
type Options struct {
	Log *slog.Logger // nil logs nowhere
	// Send transmits a packet of a session, over one hop to Port and over
	// several to MultihopPort, with a TTL of 255. The packet is valid during
	// the call only. What cannot be sent is lost, as on the wire.
	Send func(k Key, packet []byte)
	// Rand draws discriminators and jitter. Somebody who can guess
	// discriminators has less to guess: nil is a good source.
	Rand *rand.Rand
}

// Engine holds sessions and runs the protocol for them. Its methods are not
// to be called concurrently, and each that is given the time must be given one
// that does not go back.
type Engine struct {
	log     *slog.Logger
	send    func(Key, []byte)
	rand    *rand.Rand
	byDiscr map[uint32]*session
	byID    map[Key]*session // by Key.id
	queue   queue
	buf     []byte
	changed bool

	// Strays counts packets that belong to no session, by reason.
	strays map[string]uint64
}

// New returns an Engine without sessions.
func New(opt Options) *Engine {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Rand == nil {
		var seed [32]byte
		for i := range seed {
			seed[i] = byte(rand.Uint32()) // the runtime's source is seeded by the kernel
		}
		opt.Rand = rand.New(rand.NewChaCha8(seed))
	}
	return &Engine{
		log: opt.Log, send: opt.Send, rand: opt.Rand,
		byDiscr: map[uint32]*session{}, byID: map[Key]*session{}, strays: map[string]uint64{},
		buf: make([]byte, 0, maxPacket),
	}
}

// spread is a random time below d.
func (e *Engine) spread(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(e.rand.Int64N(int64(d)))
}

// Set replaces the sessions that are wanted. Sessions that are there stay as they
// are, with changed parameters told to the neighbour; those that are not
// wanted any more say AdminDown and go. A session that cannot be is left out, and so is the
// second of two with one neighbour; the error tells of both.
func (e *Engine) Set(now time.Time, want []Config) error {
	var errs []error
	kept := make(map[Key]Config, len(want))
	for _, c := range want {
		if err := c.Validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		if other, dup := kept[c.id()]; dup {
			errs = append(errs, fmt.Errorf("BFD session %q (%s): there is already %q with this neighbour", c.Name, c.Peer, other.Name))
			continue
		}
		kept[c.id()] = c.withDefaults()
	}
	for id, s := range e.byID {
		if c, ok := kept[id]; !ok {
			s.leave(now)
		} else if c.Key != s.cfg.Key {
			e.forget(s) // from another address of ours it is another session
		}
	}
	for id, c := range kept {
		switch s := e.byID[id]; {
		case s == nil:
			e.add(c, now)
		case s.leaving || !s.cfg.Equal(c):
			s.change(c, now)
		}
	}
	e.changed = true
	return errors.Join(errs...)
}

// add makes a session, with a discriminator that no other has.
func (e *Engine) add(c Config, now time.Time) {
	discr := uint32(0)
	for discr == 0 || e.byDiscr[discr] != nil {
		discr = e.rand.Uint32()
	}
	s := newSession(e, c, discr, now)
	e.byDiscr[discr], e.byID[c.id()] = s, s
	e.schedule(s, s.earliest())
}

func (e *Engine) forget(s *session) {
	e.unschedule(s)
	delete(e.byDiscr, s.localDiscr)
	delete(e.byID, s.cfg.id())
	e.changed = true
}

// Arrival is a packet as it came.
type Arrival struct {
	Src, Dst netip.Addr // a link-local Src has its interface as zone, Dst may
	TTL      uint8      // or hop limit
	Multihop bool       // it came to MultihopPort
	Packet   []byte
}

// Reasons to discard a packet that was decoded.
var (
	errNoSession = errors.New("no session")
	errTTL       = errors.New("TTL too low")
	errSource    = errors.New("from another address than the session's neighbour")
	errDest      = errors.New("to another address than the session's own")
)

// Receive takes a packet. It returns nil, or why the packet was discarded.
func (e *Engine) Receive(now time.Time, a Arrival) error {
	p, err := decode(a.Packet)
	if err != nil {
		e.strays[err.Error()]++
		return err
	}
	s := e.find(&p, a)
	if s == nil {
		e.strays[errNoSession.Error()]++
		return errNoSession
	}
	if err := s.admit(&p, a, now); err != nil {
		s.discarded++
		s.lastDiscard = err
		return err
	}
	s.receive(&p, now)
	return nil
}

// find is demultiplexing: RFC 5880 section 6.3. Before the neighbour knows our
// discriminator, the addresses decide (RFC 5881 section 3, RFC 5883 section 4).
func (e *Engine) find(p *packet, a Arrival) *session {
	if p.your != 0 {
		return e.byDiscr[p.your]
	}
	return e.byID[Key{Peer: a.Src, Multihop: a.Multihop}]
}

// admit judges a packet by what its session asks for. RFC 5880 section 6.3
// lets the neighbour's address change once discriminators are known. A BGP
// neighbour's address does not, so that knowing a discriminator is not enough.
func (s *session) admit(p *packet, a Arrival, now time.Time) error {
	switch {
	case a.Src != s.cfg.Peer || a.Multihop != s.cfg.Multihop:
		return errSource
	case s.cfg.Local.IsValid() && a.Dst.WithZone("") != s.cfg.Local.WithZone(""):
		return errDest
	case a.TTL < s.cfg.MinTTL:
		return errTTL
	}
	if s.auth.known && s.forgetful(now) {
		s.auth.known = false
	}
	return s.auth.check(p, a.Packet)
}

// Next returns when Tick has something to do; false is never.
func (e *Engine) Next() (time.Time, bool) {
	if len(e.queue) == 0 {
		return time.Time{}, false
	}
	return e.queue[0].due, true
}

// Tick does what is due at a time.
func (e *Engine) Tick(now time.Time) {
	for len(e.queue) > 0 && !e.queue[0].due.After(now) {
		s := e.queue[0]
		e.unschedule(s)
		s.tick(now)
	}
}

// Empty tells whether there is no session left, not even one that is leaving.
func (e *Engine) Empty() bool { return len(e.byID) == 0 }

// Changed tells whether a session changed its state since the last call, or
// was added or removed.
func (e *Engine) Changed() bool {
	was := e.changed
	e.changed = false
	return was
}

// Sessions returns the wanted sessions, in order of their neighbours.
func (e *Engine) Sessions() []Status {
	out := make([]Status, 0, len(e.byID))
	for _, s := range e.byID {
		if !s.leaving {
			out = append(out, s.status())
		}
	}
	slices.SortFunc(out, func(a, b Status) int {
		return cmp.Or(a.Peer.Compare(b.Peer), cmp.Compare(boolInt(a.Multihop), boolInt(b.Multihop)))
	})
	return out
}

// Keys returns the keys of all sessions, those included that are leaving.
func (e *Engine) Keys() []Key {
	out := make([]Key, 0, len(e.byID))
	for _, s := range e.byID {
		out = append(out, s.cfg.Key)
	}
	return out
}

// Strays counts packets that belong to no session, by reason. The map is a copy.
func (e *Engine) Strays() map[string]uint64 {
	out := make(map[string]uint64, len(e.strays))
	for k, v := range e.strays {
		out[k] = v
	}
	return out
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
