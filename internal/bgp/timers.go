// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"time"
)

// The timers of a session: hold and keepalive (RFC 4271 section 4.2 and 4.4),
// and the send-hold timer (RFC 9687) for a peer that is alive and reads nothing:
// what it is told gets old while its KEEPALIVEs keep the session.

const (
	minHoldTime = 3 * time.Second // RFC 4271 section 4.2: 1 and 2 are illegal

	// defaultSendHold is for sessions without a hold timer. Others have twice the hold time,
	// without the floor of RFC 9687, 8 minutes: in a fabric that is an outage.
	defaultSendHold = 8 * time.Minute
)

// hold is the hold time that we offer; 0 is none.
func (p PeerConfig) hold() time.Duration {
	switch {
	case p.HoldTime == 0:
		return DefaultHoldTime
	case p.HoldTime < 0:
		return 0
	}
	return p.HoldTime
}

// keepalive is how often something is sent at least where hold is the negotiated
// hold time; 0 is never.
func (p PeerConfig) keepalive(hold time.Duration) time.Duration {
	if p.Keepalive == 0 {
		return min(DefaultKeepalive, hold/3)
	}
	return min(p.Keepalive, hold/3)
}

// sendHold is the send-hold time where hold is the negotiated hold time; 0 is none.
func (p PeerConfig) sendHold(hold time.Duration) time.Duration {
	switch {
	case p.SendHold < 0:
		return 0
	case p.SendHold > hold:
		return p.SendHold
	case hold == 0:
		return defaultSendHold
	}
	return 2 * hold
}

// negotiate answers a valid OPEN with a KEEPALIVE and starts the timers of
// RFC 4271 section 4.2.
func (s *Speaker) negotiate(c *conn) {
	p := c.p
	c.hold = min(p.cfg.hold(), c.open.hold)
	for f := range numFamilies {
		c.families[f] = s.familiesFor(p.cfg)[f] && c.open.families[f] && (f == v6 || s.families()[v4] && !p.cfg.linkLocal() || c.open.extNextHop)
		c.sendPaths[f] = p.cfg.AddPathSend > 0 && c.families[f] && c.open.addPathReceive[f]
	}
	c.send(chunk{keepaliveMessage(), 1})
	c.setTimes(p.cfg.keepalive(c.hold), p.cfg.sendHold(c.hold))
	c.lastRecv.Store(int64(time.Since(s.epoch)))
	s.watchHold(c, c.hold)
}

// watchHold arms the hold timer. Readers note the time of each message; on
// expiry the rest of the hold time after the last one is waited for.
func (s *Speaker) watchHold(c *conn, d time.Duration) {
	if c.hold == 0 { // the session will have none, but until it is one somebody has to come
		c.timer.set(s, s.opt.OpenTimeout, func() {
			s.fire(c, evHoldTimer, &notification{code: codeHold, reason: "no KEEPALIVE from the peer"}, nil)
		})
		return
	}
	c.timer.set(s, d, func() {
		left := c.hold - (time.Since(s.epoch) - time.Duration(c.lastRecv.Load()))
		switch {
		case left > 0:
			s.watchHold(c, left)
		case c.busy.Load():
			s.watchHold(c, c.hold/4) // it has a message for us; we are the slow one
		default:
			s.fire(c, evHoldTimer, &notification{code: codeHold, reason: fmt.Sprintf("nothing received for %v", c.hold)}, nil)
		}
	})
}

// timer runs a function in the loop after a time. Setting or stopping it
// outdates an expiry that is already on its way.
type timer struct {
	t   *time.Timer
	at  time.Time
	gen uint64
}

func (t *timer) set(s *Speaker, d time.Duration, fn func()) {
	t.stop()
	gen := t.gen
	t.at = time.Now().Add(d)
	t.t = time.AfterFunc(d, func() {
		s.post(func() {
			if t.gen == gen {
				t.t = nil
				fn()
			}
		})
	})
}

func (t *timer) stop() {
	t.gen++
	if t.t != nil {
		t.t.Stop()
		t.t = nil
	}
}

func (t *timer) armed() bool { return t.t != nil }

// left is the time until it expires, in seconds; 0 if it is not set.
func (t *timer) left() float64 {
	if t.t == nil {
		return 0
	}
	return max(0, time.Until(t.at).Seconds())
}
