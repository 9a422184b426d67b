// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"time"
)

// session is one session with the state variables of RFC 5880 section 6.8.1.
// It belongs to its Engine.
type session struct {
	e   *Engine
	cfg Config

	state, remoteState State
	diag, remoteDiag   Diag
	localDiscr         uint32
	remoteDiscr        uint32
	// minTx is bfd.DesiredMinTxInterval and minRx is
	// bfd.RequiredMinRxInterval, as they are said. txInUse and rxInUse lag
	// behind where a change must wait for the end of the poll (section 6.8.3).
	minTx, txInUse time.Duration
	minRx, rxInUse time.Duration
	remoteMinRx    time.Duration
	remoteMinTx    time.Duration
	remoteMult     uint8
	remoteDemand   bool
	remoteC        bool
	polling        bool
	auth           authState

	leaving   bool      // removed: saying AdminDown, until heard or leaveBy
	leaveBy   time.Time // when to go in any case
	nextTx    time.Time // zero: nothing periodic
	detectAt  time.Time // zero: not heard
	lastHeard time.Time
	due       time.Time // place in the heap, not later than nextTx and detectAt
	index     int       // in the heap

	since              time.Time
	ups, failures      uint64
	in, out, discarded uint64
	lastDiscard        error
	owed               bool // an immediate packet is owed (section 6.8.7)
}

// newSession starts in Down, with what section 6.8.1 initialises.
func newSession(e *Engine, cfg Config, discr uint32, now time.Time) *session {
	s := &session{
		e: e, cfg: cfg, localDiscr: discr, since: now, index: -1,
		state: Down, remoteState: Down,
		minTx: max(cfg.Interval, slowest), minRx: cfg.Interval,
		remoteMinRx: time.Microsecond,
		auth:        authState{Auth: cfg.Auth, xmit: e.rand.Uint32()},
	}
	s.txInUse, s.rxInUse = s.minTx, s.minRx
	if !cfg.Passive {
		s.nextTx = now.Add(s.e.spread(s.txInterval())) // a thousand sessions do not begin at once
	}
	return s
}

// txInterval is the time between transmissions, before jitter: section 6.8.2.
func (s *session) txInterval() time.Duration { return max(s.txInUse, s.remoteMinRx) }

// detection is the detection time: section 6.8.4. It is the neighbour's
// multiplier times the agreed interval of its transmissions.
func (s *session) detection() time.Duration {
	return time.Duration(s.remoteMult) * max(s.rxInUse, s.remoteMinTx)
}

// intervals sets what we say and use for a configuration and a state. While
// the session is not Up we do not send more often than once a second. A change is told by
// a poll; the slower transmission and the shorter detection wait for its end
// when the session is Up (section 6.8.3).
func (s *session) intervals() {
	minTx, minRx := s.cfg.Interval, s.cfg.Interval
	if s.state != Up {
		minTx = max(minTx, slowest)
	}
	if minTx == s.minTx && minRx == s.minRx {
		return
	}
	s.minTx, s.minRx = minTx, minRx
	if s.state != Up || minTx < s.txInUse {
		s.txInUse = minTx
	}
	if s.state != Up || minRx > s.rxInUse {
		s.rxInUse = minRx
	}
	s.polling = s.remoteDiscr != 0 && s.state != AdminDown
}

// polled ends a poll sequence.
func (s *session) polled() {
	s.polling = false
	s.txInUse, s.rxInUse = s.minTx, s.minRx
}

// enter changes the state. lost says that the path failed, as against a
// neighbour that was told to go down.
func (s *session) enter(state State, diag Diag, lost bool, now time.Time) {
	if state == s.state {
		return
	}
	was := s.state
	s.state, s.diag, s.since = state, diag, now
	switch {
	case state == Up:
		s.ups++
	case was == Up && lost:
		s.failures++
	}
	s.intervals()
	s.owed = true
	s.e.changed = true
	s.e.log.Info("session changed", "peer", s.cfg.Peer, "name", s.cfg.Name, "from", was.String(), "to", state.String(),
		"diagnostic", diag.String(), "remote", s.remoteState.String())
}

// receive takes a packet that was found to be of this session and
// authentic: section 6.8.6, from where a packet is no longer discarded.
func (s *session) receive(p *packet, now time.Time) {
	s.in++
	s.remoteDiscr, s.remoteState, s.remoteDiag = p.my, p.state, p.diag
	s.remoteDemand, s.remoteC = p.demand, p.independent
	oldInterval := s.txInterval()
	s.remoteMinRx, s.remoteMinTx, s.remoteMult = interval(p.minRx), interval(p.minTx), p.detectMult
	if s.polling && p.final {
		s.polled()
	}
	s.lastHeard = now
	if s.state == AdminDown {
		// A neighbour that knows is all we still wait for.
		if s.leaving && p.state != Up && p.state != Init {
			s.leaveBy = now
			s.e.schedule(s, now)
		}
		return
	}
	s.transition(p, now)
	s.detectAt = now.Add(s.detection())
	if s.owed || s.nextTx.IsZero() || s.txInterval() < oldInterval {
		s.pace(now)
	}
	switch {
	case p.poll:
		s.send(true) // at once, whatever the pace: section 6.5
	case s.owed:
		s.send(false)
	}
	s.e.schedule(s, s.earliest())
}

// transition is the state machine of section 6.2 in the words of 6.8.6.
func (s *session) transition(p *packet, now time.Time) {
	if p.state == AdminDown {
		if s.state != Down {
			s.enter(Down, DiagNeighborDown, false, now)
		}
		return
	}
	switch s.state {
	case Down:
		switch p.state {
		case Down:
			s.enter(Init, DiagNone, false, now)
		case Init:
			s.enter(Up, DiagNone, false, now)
		}
	case Init:
		if p.state == Init || p.state == Up {
			s.enter(Up, DiagNone, false, now)
		}
	case Up:
		if p.state == Down {
			s.enter(Down, DiagNeighborDown, true, now)
		}
	}
}

// expire is the end of the detection time: section 6.8.4, and 6.8.1 for what
// is forgotten.
func (s *session) expire(now time.Time) {
	s.detectAt = time.Time{}
	s.remoteDiscr, s.remoteState = 0, Down
	s.polling = false
	// What is left of the neighbour must not slow down how it is looked for.
	s.remoteDemand, s.remoteMinRx = false, time.Microsecond
	if s.state == Init || s.state == Up {
		s.enter(Down, DiagTimeExpired, true, now)
	}
	s.pace(now)
	if s.owed {
		s.send(false)
	}
}

// forgetful says that the neighbour was silent for so long that its sequence
// numbers may have started over: section 6.8.1, bfd.AuthSeqKnown.
func (s *session) forgetful(now time.Time) bool {
	return now.Sub(s.lastHeard) >= 2*s.detection()
}

// pace sets the time of the next periodic transmission: section 6.8.7.
func (s *session) pace(now time.Time) {
	switch {
	case s.cfg.Passive && s.remoteDiscr == 0,
		s.remoteMinRx == 0,
		s.remoteDemand && s.state == Up && s.remoteState == Up && !s.polling:
		s.nextTx = time.Time{}
		return
	}
	// Jitter: between 75 and 100 % of the interval, at most 90 with a
	// multiplier of 1.
	full := s.txInterval()
	most := full / 4
	if s.cfg.Multiplier == 1 {
		full -= full / 10
		most = full / 6
	}
	s.nextTx = now.Add(full - s.e.spread(most))
}

// send transmits one packet now. A final answers a poll; a packet is never both.
func (s *session) send(final bool) {
	s.owed = false
	p := packet{
		diag: s.diag, state: s.state, poll: s.polling && !final, final: final,
		independent: s.cfg.Independent, detectMult: s.cfg.Multiplier,
		my: s.localDiscr, your: s.remoteDiscr, minTx: micros(s.minTx), minRx: micros(s.minRx),
	}
	s.out++
	s.e.buf = s.auth.seal(p.encode(s.e.buf[:0]))
	s.e.send(s.cfg.Key, s.e.buf)
}

// tick does what is due.
func (s *session) tick(now time.Time) {
	if s.leaving && !now.Before(s.leaveBy) {
		s.e.forget(s)
		return
	}
	if !s.detectAt.IsZero() && !now.Before(s.detectAt) {
		s.expire(now)
	}
	if !s.nextTx.IsZero() && !now.Before(s.nextTx) {
		s.pace(now)
		if !s.nextTx.IsZero() {
			s.send(false)
		}
	}
	s.e.schedule(s, s.earliest())
}

// earliest is when tick has something to do; zero is never.
func (s *session) earliest() time.Time {
	first := s.nextTx
	for _, t := range [...]time.Time{s.detectAt, s.leaveBy} {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// change takes a new configuration of the same session.
func (s *session) change(cfg Config, now time.Time) {
	if !s.cfg.Auth.equal(cfg.Auth) {
		s.auth = authState{Auth: cfg.Auth, xmit: s.auth.xmit}
	}
	was := s.cfg
	s.cfg = cfg
	if s.leaving { // wanted again
		s.leaving, s.leaveBy = false, time.Time{}
		s.enter(Down, DiagNone, false, now)
	}
	s.intervals()
	if was.Interval != cfg.Interval || was.Multiplier != cfg.Multiplier || was.Passive != cfg.Passive || s.owed {
		s.pace(now)
		if !s.nextTx.IsZero() {
			s.send(false)
		}
	}
	s.e.schedule(s, s.earliest())
}

// leave ends a session in order: the neighbour is told AdminDown, for as long
// as it takes to hear it or to notice by itself (section 6.8.16).
func (s *session) leave(now time.Time) {
	if s.leaving {
		return
	}
	s.leaving, s.leaveBy = true, now
	s.detectAt, s.polling = time.Time{}, false
	if s.remoteDiscr != 0 {
		s.leaveBy = now.Add(time.Duration(s.cfg.Multiplier) * max(s.txInUse, s.remoteMinRx))
		s.enter(AdminDown, DiagAdministratively, false, now)
		s.pace(now)
		s.send(false)
	}
	s.e.schedule(s, s.earliest())
}

func (s *session) status() Status {
	st := Status{
		Name: s.cfg.Name, Peer: s.cfg.Peer, Local: s.cfg.Local, Multihop: s.cfg.Multihop,
		State: s.state.String(), Since: s.since, RemoteState: s.remoteState.String(),
		Failures: s.failures, Ups: s.ups, Independent: s.cfg.Independent && s.remoteC,
		Discriminator: s.localDiscr, RemoteDiscriminator: s.remoteDiscr,
		Transmit: s.txInterval(), Detect: s.detection(), Multiplier: s.cfg.Multiplier,
		Auth: s.cfg.Auth.String(), PacketsIn: s.in, PacketsOut: s.out, Discarded: s.discarded,
	}
	if s.diag != DiagNone {
		st.Diag = s.diag.String()
	}
	if s.remoteDiag != DiagNone {
		st.RemoteDiag = s.remoteDiag.String()
	}
	if s.lastDiscard != nil {
		st.LastDiscard = s.lastDiscard.Error()
	}
	return st
}
