// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// peer is a configured neighbour: the owner of its connections, of which at
// most one is Established. It belongs to the loop.
type peer struct {
	s        *Speaker
	cfg      PeerConfig
	slot     uint16 // in rib.sources
	localAS  uint32
	ebgp     bool
	dynamic  bool // of a listen range (ranges.go)
	expected bool // it had a session with our predecessor (expected.go)
	saidAS   bool // cfg.ASN is what its OPEN said, of PeerConfig.ASNs

	conns   []*conn // alive, in any state from OpenSent on
	est     *conn   // the Established one
	state   State   // as shown: that of the most advanced connection
	since   time.Time
	dialing context.CancelFunc
	dialSeq uint64 // outdates a dial that ends after it was given up
	retry   timer
	retryIn time.Duration // what retry was last set to
	losses  int           // consecutive failures, for the retry time
	flaps   int           // sessions that ended soon and badly, for damping
	lastErr string
	idle    string // why no connection is tried or taken; empty: they are

	errors   Errors
	complain complaint

	over      familySet // more prefixes than PeerConfig.MaxPrefixes
	discarded uint64
	refilling timer     // the peer was asked to repeat itself
	resting   timer     // until LimitRestart begins anew
	crowds    familySet // more paths to a prefix than maxPaths
	thinning  timer     // until the peer is asked for them, after some have gone

	lingering   atomic.Int32 // connections that have ended, and wait with a NOTIFICATION
	transitions uint64
	in, out     messageCounts // of connections that are gone
	history     history
	refusal     string // what noteRefusal said last

	// Graceful restart, receiving side (gr.go).
	stale    timer
	retained familySet
	hadUp    bool      // a session was Established since the process started
	silent   bool      // its session ended with its routes, or its path is lost: no table is to be expected
	gotEOR   familySet // in this session

	// Route refresh, receiving side (refresh.go).
	refreshing   familySet // between BoRR and EoRR
	refreshBound [numFamilies]timer

	// Export.
	group   *group
	backlog []chunk // shared table dump, not yet queued
	dirty   owed
	refresh familySet // ROUTE-REFRESH to be answered
	oweEOR  familySet
	settled timer // a peer without graceful restart counts as converged a little after the start
}

// handle processes what a reader or writer reported.
func (s *Speaker) handle(in input) {
	c := in.c
	s.rib.heard = in.at
	defer func() { s.rib.heard = 0 }()
	defer s.recycle(in.msgs)
	if c.dead {
		return
	}
	if in.drained {
		s.pump(c.p)
	}
	for _, m := range in.msgs {
		if !c.dead {
			s.receive(c, m)
		}
	}
	if in.err != nil && !c.dead {
		if timedOut(in.err) {
			s.fire(c, evHoldTimer, &notification{code: codeSendHold, reason: "the peer does not read what we send"}, nil)
		} else {
			s.fire(c, evTCPFail, nil, in.err)
		}
	}
}

// recycle gives back what processed messages were in.
func (s *Speaker) recycle(msgs []message) {
	for _, m := range msgs {
		if u := m.update; u != nil {
			*u = update{withdrawn: u.withdrawn[:0], reach: u.reach[:0], mpReach: u.mpReach[:0]}
			s.updates.Put(u)
		}
	}
	if cap(msgs) == 0 {
		return
	}
	clear(msgs)
	select {
	case s.batches <- msgs[:0]:
	default:
	}
}

// receive feeds one message to the state machine of its connection.
func (s *Speaker) receive(c *conn, m message) {
	switch {
	case m.note != nil && m.typ == msgNotification:
		s.fire(c, evNotify, nil, fmt.Errorf("peer sent %w", m.note))
	case m.typ == 0:
		s.fire(c, evHeaderErr, m.note, nil)
	case m.typ == msgOpen:
		s.receiveOpen(c, m)
	case m.typ == msgUpdate && m.note != nil && c.state == Established:
		s.fire(c, evUpdateErr, m.note, nil)
	case m.typ == msgUpdate:
		if s.fire(c, evUpdate, early(c.state), nil)&actUse != 0 {
			s.ingest(c, m.update)
		}
	case m.typ == msgKeepalive:
		s.fire(c, evKeepalive, early(c.state), nil)
	case m.typ == msgRefresh:
		if s.fire(c, evRefresh, early(c.state), nil)&actUse != 0 {
			s.refreshed(c, m.refresh)
		}
	}
}

// receiveOpen checks an OPEN and resolves collisions before the state machine
// sees it.
func (s *Speaker) receiveOpen(c *conn, m message) {
	p := c.p
	if c.state != OpenSent {
		s.fire(c, evOpen, unexpected(c.state), nil)
		return
	}
	if m.note == nil {
		m.note = s.adopt(p, c, m.open.asn)
	}
	if m.note == nil {
		m.note = m.open.accept(p.cfg.ASN, p.localAS, s.cfg.RouterID)
	}
	if m.note == nil {
		m.note = p.mismatch(m.open)
	}
	if m.note != nil {
		s.fire(c, evOpenErr, m.note, nil)
		return
	}
	for _, other := range slices.Clone(p.conns) {
		if other == c {
			continue
		}
		if other.state == Established {
			// RFC 4724 section 5: from a peer with graceful restart, a new
			// connection means that it lost the old one.
			if !other.open.gr || !m.open.grRestarting && time.Since(other.since) < lateCollision {
				s.fire(c, evCollision, collision(), nil)
				return
			}
			s.fire(other, evTCPFail, nil, fmt.Errorf("the peer opened a new connection"))
		} else if !s.outlives(c, other, id32(m.open.id)) {
			return
		}
	}
	c.open, c.gotOpen = m.open, m.raw
	s.fire(c, evOpen, nil, nil)
}

// lateCollision is the age under which a session is taken for the other half
// of a collision when one more connection comes, unless the peer says that it
// restarted.
const lateCollision = 3 * time.Second

func collision() *notification {
	return &notification{code: codeCease, sub: ceaseCollision, reason: "connection collision"}
}

// outlives closes one of two connections of a peer whose identifier is known,
// and reports whether c is left. It goes further than RFC 4271 section 6.8
// asks and includes connections in OpenSent: both ends then decide the same
// way at whatever moment they notice. Comparing in OpenConfirm only, one end
// can be Established on the connection that the other is about to close.
func (s *Speaker) outlives(c, other *conn, remoteID uint32) bool {
	p := c.p
	keep := c // two of one kind: the newer one lives
	if c.dialled != other.dialled && collide(id32(s.cfg.RouterID), remoteID, p.localAS, p.cfg.ASN) != c.dialled {
		keep = other
	}
	if keep == other {
		s.fire(c, evCollision, collision(), nil)
		return false
	}
	s.fire(other, evCollision, collision(), nil)
	return true
}

// fire runs one transition of a connection and does what it asks. n is the NOTIFICATION
// to send if the transition notifies; cause is the error otherwise. actUse is
// left to the caller, who has the message.
//
// The order is part of the design, for several steps fire other connections of
// the peer in turn:
//
//   - The new state stands first: whoever looks from inside sees it.
//   - actOpen comes before everything that ends, and may itself end the
//     connection: then that inner transition has done the rest.
//   - actClose takes the connection out of the peer before up or down,
//     which look at what is left, and before anything is sent to anyone.
//   - actUp closes the peer's other connections, so this one is the session
//     before they go, and they do not count as failures.
//   - actDown lets go of the session before its loss is weighed: the routes
//     leave or become stale at once, whatever is tried next.
//   - lose sets what connectLater waits, so it goes before it.
//   - show comes last and reports once: the state that all of this led to,
//     a retry that is armed included.
func (s *Speaker) fire(c *conn, ev event, n *notification, cause error) action {
	p := c.p
	next, act := transition(c.state, ev)
	if cause == nil && n != nil {
		cause = n
	}
	c.state = next
	if act&actOpen != 0 {
		if err := s.sendOpen(c); err != nil {
			s.log.Error("cannot send OPEN", "peer", p.cfg.Name, "address", p.cfg.Addr, "error", err)
			return s.fire(c, evStop, nil, err)
		}
	}
	if act&actKeepalive != 0 {
		s.negotiate(c)
	}
	if act&actClose != 0 {
		c.dead = true
		c.timer.stop()
		if act&actNotify == 0 {
			n = nil
		}
		last := n
		if act&actDown == 0 && p.lingering.Load() >= maxLingering {
			last = nil
		}
		c.end(last)
		p.conns = slices.DeleteFunc(p.conns, func(o *conn) bool { return o == c })
		p.in.add(&c.in)
		p.out.add(&c.out)
		s.rib.attrs.release(c.lastInterned)
		if !c.dialled && act&actDown == 0 {
			s.accepted--
		}
	}
	if act&actUp != 0 {
		s.up(c)
	}
	if act&actClose != 0 && ev != evCollision {
		p.history.ended(n, cause)
		if act&actDown == 0 && ev != evStop { // show says it of a session, and to stop is no refusal
			p.noteRefusal(n, cause)
		}
	}
	if act&actDown != 0 {
		p.lastErr = fmt.Sprint(cause)
		s.noteSession(p.slot, Event{Kind: SessionDown, Time: time.Now(), Session: c.session, Down: downOf(n, cause)})
		// Routes outlive only a connection that broke: RFC 4724 section 4.2.
		s.down(c, ev == evTCPFail)
	} else if act&actClose != 0 && ev != evCollision && p.est == nil {
		p.lastErr = fmt.Sprint(cause)
	}
	if act&actClose != 0 {
		// A connection that loses a collision is no failure of the peer.
		if ev != evCollision && len(p.conns) == 0 {
			p.lose(ev == evTCPFail || isBroken(cause), act&actDown != 0 && time.Since(c.since) > stableAfter)
		}
		p.connectLater()
		s.forgetLater(p)
	}
	p.show(cause)
	return act
}

// isBroken tells whether a connection ended for no error of the peer, as one that TCP loses: another one is kept in its
// place, BFD has found the path dead, or the link is down.
func isBroken(cause error) bool {
	var told *notification
	var link linkLost
	return errors.As(cause, &link) || errors.As(cause, &told) && told.code == codeCease && (told.sub == ceaseCollision || told.sub == ceaseBFDDown)
}

// sendOpen starts the writer's output with our OPEN.
func (s *Speaker) sendOpen(c *conn) error {
	p := c.p
	b, err := openParams{
		asn: p.localAS, id: s.cfg.RouterID, hold: p.cfg.hold(), families: s.familiesFor(p.cfg), extNextHop: p.cfg.ExtendedNextHop,
		addPathReceive: p.cfg.AddPathReceive, addPathSend: p.cfg.AddPathSend > 0, role: p.role(),
		restarting:  s.opt.Restarting && !p.hadUp && s.restartLeft() > 0,
		forwarding:  s.opt.Restarting || p.hadUp,
		restartTime: p.restartTime(),
	}.marshal()
	if err != nil {
		return err
	}
	c.sentOpen, c.restartTime = b, p.restartTime()
	c.send(chunk{b, 1})
	c.timer.set(s, s.opt.OpenTimeout, func() {
		s.fire(c, evHoldTimer, &notification{code: codeHold, reason: "no OPEN from the peer"}, nil)
	})
	return nil
}

// up makes a connection the session of its peer.
func (s *Speaker) up(c *conn) {
	p := c.p
	if !c.dialled {
		s.accepted--
	}
	if c.hold == 0 {
		c.timer.stop()
	}
	c.since = time.Now()
	c.session = c.sessionOf()
	p.est = c
	p.hangUp()
	p.retry.stop()
	for _, other := range slices.Clone(p.conns) {
		if other != c {
			s.fire(other, evCollision, collision(), nil)
		}
	}
	src := s.rib.sources[p.slot]
	if id := id32(c.open.id); src.id != id {
		s.sweepAll(p) // another speaker's routes; the decision counted on the identifier
		src.id = id
	}
	p.lastErr, p.refusal, p.losses = "", "", 0
	p.transitions++
	p.gotEOR = familySet{}
	s.resume(p)
	p.hadUp, p.silent, p.expected = true, false, false
	s.dynamics.news = s.dynamics.news || p.dynamic
	p.dirty = owed{}
	p.oweEOR = c.families
	s.join(p)
	p.backlog = slices.Clone(p.group.table(c.families))
	s.noteSession(p.slot, Event{Kind: SessionUp, Time: c.since, Session: c.session})
	s.pump(p)
	s.checkConverged()
}

// down ends the session of a peer; keep says that the connection broke
// without a NOTIFICATION.
func (s *Speaker) down(c *conn, keep bool) {
	p := c.p
	p.est = nil
	s.leave(p)
	p.backlog, p.dirty, p.refresh, p.oweEOR = nil, owed{}, familySet{}, familySet{}
	p.settled.stop()
	p.refilling.stop()
	p.thinning.stop()
	p.over, p.crowds, p.refreshing = familySet{}, familySet{}, familySet{}
	for f := range numFamilies {
		p.refreshBound[f].stop()
	}
	s.retain(p, c, keep)
	s.releaseEOR()
	s.checkConverged()
}

// show updates the state that is displayed for a peer and logs its coming and going.
func (p *peer) show(cause error) {
	st := Idle
	switch {
	case p.dialing != nil:
		st = Connect
	case p.idle != "":
	case p.retry.armed() || p.cfg.Passive:
		st = Active
	}
	for _, c := range p.conns {
		st = max(st, c.state)
	}
	if st == p.state {
		return
	}
	was := p.state
	p.state, p.since = st, time.Now()
	p.s.log.Debug("BGP state", "peer", p.cfg.Name, "address", p.cfg.Addr, "from", was.String(), "to", st.String())
	if was == Established {
		p.s.log.Warn("BGP session down", "peer", p.cfg.Name, "address", p.cfg.Addr, "reason", fmt.Sprint(cause))
	} else if st == Established {
		p.s.log.Info("BGP session up", "peer", p.cfg.Name, "address", p.cfg.Addr, "families", strings.Join(p.est.families.names(), " "))
	}
}
