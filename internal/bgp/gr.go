// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"slices"
	"time"
)

// Graceful restart, RFC 4724, without the N bit of RFC 8538.
//
// Restarting speaker. A process told that the forwarding state of its
// predecessor is in place sets the R and F bits in its first OPEN to each
// peer. It selects and announces routes at once: waiting for every peer, as
// section 4.1 has it, is what keeps a server silent for minutes when one peer is dead. What
// waits is only End-of-RIB, because it makes peers drop what we have not said
// yet: until the daemon has named all it originates, and, if we pass routes on from eBGP peers, until
// those have sent theirs or the restart time is over.
//
// Receiving speaker. When a connection breaks without a NOTIFICATION, the
// routes of the families in the peer's capability become stale and stay for
// the restart time. The new session keeps them per family if its OPEN says
// that forwarding continued (F bit); End-of-RIB, or the timer, removes what was not
// announced again. A NOTIFICATION in either direction, expiry of the hold
// timer included, removes all routes at once.

// restartTime is what a peer is told: how long it is to keep our routes. 0 means that it is told nothing.
func (p *peer) restartTime() time.Duration {
	switch own, all := p.cfg.RestartTime, p.s.cfg.RestartTime; {
	case own == TimerOff, own == 0 && all == TimerOff:
		return 0
	case own > 0:
		return own
	}
	return p.s.restartTime()
}

// restartTime is for how long peers are waited for after a start, and what they are told unless something else is
// said of one.
func (s *Speaker) restartTime() time.Duration {
	if s.cfg.RestartTime > 0 {
		return s.cfg.RestartTime
	}
	return DefaultRestartTime
}

// restartLeft is what remains of the restart time. It counts from the first
// configuration applied, not from the start of the process: one that waits for
// its datastore has asked no peer for anything yet, and has all of it left.
func (s *Speaker) restartLeft() time.Duration {
	if s.configured.IsZero() {
		return s.restartTime()
	}
	return s.restartTime() - time.Since(s.configured)
}

// staleTime is how long routes of a peer outlive its connection.
func (p *peer) staleTime(o *openMessage) time.Duration {
	switch {
	case p.restartTime() == 0:
		return 0
	case p.cfg.RestartTime > 0:
		return min(p.cfg.RestartTime, o.grTime)
	}
	return o.grTime
}

// retain decides what happens to the routes of a session that ended.
func (s *Speaker) retain(p *peer, c *conn, keep bool) {
	p.retained = familySet{}
	wait := p.staleTime(c.open)
	for f := range numFamilies {
		p.retained[f] = keep && wait > 0 && c.open.gr && c.open.grFamilies[f] && c.families[f]
	}
	for _, ref := range s.rib.of(p.slot) {
		if f := familyOf(ref.prefix.Addr()); p.retained[f] {
			// Stale twice: RFC 4724 section 4.2, a second restart before
			// End-of-RIB drops what the first one left.
			s.touch(ref.prefix, s.rib.edit(ref, p.slot, func(q *path) bool {
				gone := q.flags&pathStale != 0
				q.flags = q.flags&^pathGen | s.rib.sources[p.slot].gen[f] | pathStale
				return !gone
			}))
		} else {
			s.touch(ref.prefix, s.rib.remove(ref, p.slot))
		}
	}
	p.stale.stop()
	p.silent = p.retained == (familySet{})
	if !p.silent {
		p.stale.set(s, wait, func() { s.sweepLate(p) })
	}
}

// resume judges the retained routes by the OPEN of the new session.
func (s *Speaker) resume(p *peer) {
	o := p.est.open
	for f := range numFamilies {
		if p.retained[f] && !(o.gr && o.grForward[f] && p.est.families[f]) {
			s.sweep(p, f)
		}
	}
	p.stale.stop()
	if p.retained != (familySet{}) {
		// The restart timer ends with the session's return; End-of-RIB may
		// still never come, so the same time bounds the wait for it.
		p.stale.set(s, max(p.staleTime(o), time.Second), func() { s.sweepLate(p) })
	}
	if !o.gr {
		p.settled.set(s, settleTime, func() { s.checkConverged(); s.releaseEOR() })
	}
}

// settleTime is after how long a peer that will send no End-of-RIB counts as
// having sent its table.
const settleTime = 2 * time.Second

// sweep removes the stale routes of one family.
func (s *Speaker) sweep(p *peer, f family) {
	p.retained[f] = false
	src := s.rib.sources[p.slot]
	s.removeWhere(p, f, src.stale[f], func(q *path) bool { return q.flags&pathStale != 0 })
}

// removeWhere removes the n routes of one family for which gone is true.
func (s *Speaker) removeWhere(p *peer, f family, n int, gone func(*path) bool) {
	for _, ref := range s.rib.appendOf(nil, p.slot, f, n, gone) {
		s.touch(ref.prefix, s.rib.remove(ref, p.slot))
	}
}

func (s *Speaker) sweepAll(p *peer) {
	p.stale.stop()
	for f := range numFamilies {
		s.sweep(p, f)
	}
	s.forgetLater(p)
}

// sweepLate ends a restart of a peer that has not come back in time, or not said all.
func (s *Speaker) sweepLate(p *peer) {
	s.sweepAll(p)
	p.silent = p.est == nil
	s.checkConverged()
}

// endOfRIB handles the marker.
func (s *Speaker) endOfRIB(p *peer, f family) {
	p.gotEOR[f] = true
	s.sweep(p, f)
	if p.retained == (familySet{}) {
		p.stale.stop()
	}
	s.releaseEOR()
	s.checkConverged()
}

// toldAll reports whether a peer has sent its table, or will not: nobody waits
// for one who may be anybody, is not expected and does not restart, for one that is not to be talked to, nor for one
// whose session has ended with its routes or whose path is lost. What our
// predecessor learned from those is gone as it would be without a restart.
func (p *peer) toldAll() bool {
	if p.est == nil {
		return p.dynamic && !p.expected && p.retained == (familySet{}) || p.idle != "" || p.silent
	}
	if !p.est.open.gr && time.Since(p.est.since) >= settleTime {
		return true
	}
	return p.gotEOR == p.est.families
}

// restarts reports whether a peer said that it restarts itself. Such a one is
// not waited for with End-of-RIB (RFC 4724 section 4.1), or two would wait for
// each other.
func (p *peer) restarts() bool { return p.est != nil && p.est.open.gr && p.est.open.grRestarting }

// mayBeOutside reports whether a peer is in another AS, as far as that is known
// before its OPEN.
func (p *peer) mayBeOutside() bool {
	return p.ebgp || !p.saidAS && slices.ContainsFunc(p.cfg.ASNs, func(row [2]uint32) bool { return row != [2]uint32{p.localAS, p.localAS} })
}

// mayEndRIB reports whether p may be told that it has heard all.
func (s *Speaker) mayEndRIB(p *peer) bool {
	if !s.originated {
		return false
	}
	left := s.restartLeft()
	if !s.opt.Restarting || left <= 0 {
		return true
	}
	if s.cfg.PeersUnknown {
		s.eorBound.set(s, left, s.releaseEOR)
		return false
	}
	for _, q := range s.peers {
		if q != p && q.mayBeOutside() && !q.toldAll() && !q.restarts() {
			s.eorBound.set(s, left, s.releaseEOR)
			return false
		}
	}
	return true
}

// releaseEOR sends the markers that were held back, where they may go now.
func (s *Speaker) releaseEOR() {
	for _, p := range s.peers {
		if p.oweEOR != (familySet{}) {
			s.pump(p)
		}
	}
}

// checkConverged notices that every peer has sent its table and that what is
// known of next hops is complete, or that the restart time is over. Without a configuration nothing is known of peers, and
// nothing has converged; with one that names none, there is nobody to wait for.
// Here one that restarts itself is waited for as well:
// its End-of-RIB does not wait for ours, and what it has not said yet is not gone.
func (s *Speaker) checkConverged() {
	if s.hasConv || s.configured.IsZero() || s.applying {
		return
	}
	left := s.restartLeft()
	if s.cfg.PeersUnknown && left > 0 {
		s.conv.set(s, left, s.checkConverged)
		return
	}
	for _, p := range s.peers {
		if !p.toldAll() && left > 0 {
			s.conv.set(s, left, s.checkConverged)
			return
		}
	}
	if s.rib.hops.unknown > 0 && left > 0 {
		s.conv.set(s, left, s.checkConverged)
		return // SetNextHops comes back here
	}
	s.conv.stop()
	s.hasConv = true // answerBest closes the channel
}
