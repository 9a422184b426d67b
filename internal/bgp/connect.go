// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"time"
)

// How there comes to be a connection with a peer: dialled, again after a while, or
// accepted. ConnectRetryTimer and DampPeerOscillations of RFC 4271 section 8.

// Retry and damping.
const (
	stableAfter = 30 * time.Second // a session that lived so long clears the damping
	maxDamping  = 6                // 2^6 seconds at most
)

// lose counts a failure. A broken connection is tried again at once; a
// session that ends with an error soon after it came up is damped (RFC 4271
// section 8.1, DampPeerOscillations).
func (p *peer) lose(broken, stable bool) {
	p.losses++
	switch {
	case stable:
		p.losses, p.flaps = 0, 0
	case !broken:
		p.losses = max(p.losses, 4)
		p.flaps = min(p.flaps+1, maxDamping)
	}
}

// connectLater arms ConnectRetryTimer unless something is under way already.
func (p *peer) connectLater() {
	if p.idle != "" || p.cfg.Passive || len(p.conns) > 0 || p.dialing != nil || p.retry.armed() || p.s.ctx.Err() != nil {
		return
	}
	lo, hi := p.s.opt.RetryMin, p.s.opt.RetryMax
	var d time.Duration
	if p.losses < 4 {
		// The first moments after a loss or a start: the peer is most
		// likely only restarting.
		d = min(lo, 200*time.Millisecond<<p.losses)
		d = d/2 + rand.N(d/2+1)
	} else {
		d = lo + rand.N(hi-lo+1)
	}
	if p.flaps > 1 {
		d = max(d, min(time.Second<<p.flaps, 64*hi))
	}
	p.retryIn = d
	p.retry.set(p.s, d, p.connect)
}

// connect dials the peer.
func (p *peer) connect() {
	s := p.s
	if p.idle != "" || p.cfg.Passive || len(p.conns) > 0 || p.dialing != nil {
		return
	}
	p.retry.stop()
	const limit = 4 * time.Second
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	p.dialing = cancel
	p.dialSeq++
	seq := p.dialSeq
	p.show(nil)
	pc := p.cfg
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		nc, err := s.dialPeer(ctx, pc)
		cancel()
		s.postOr(func() {
			if p.dialSeq != seq {
				if nc != nil {
					_ = nc.Close()
				}
				return
			}
			p.dialing = nil
			if err != nil {
				p.lastErr = err.Error()
				p.history.ended(nil, err)
				p.lose(true, false)
				p.connectLater()
				p.show(err)
				return
			}
			s.start(p, nc, true)
		}, func() {
			if nc != nil {
				_ = nc.Close()
			}
		})
	}()
}

// hangUp gives up a dial that is under way.
func (p *peer) hangUp() {
	p.dialSeq++
	if p.dialing != nil {
		p.dialing()
		p.dialing = nil
	}
}

// postOr posts fn, or runs instead if the loop has ended.
func (s *Speaker) postOr(fn, instead func()) {
	if !s.post(fn) {
		instead()
	}
}

// incoming takes an accepted connection to its peer. One that cannot belong to
// any is closed without a word.
func (s *Speaker) incoming(nc net.Conn) {
	from, to := endsOf(nc)
	var p *peer
	for _, q := range s.peers {
		if q.cfg.Addr.Addr() != from || q.cfg.LocalAddr.IsValid() && q.cfg.LocalAddr != to {
			continue
		}
		if p == nil || q.cfg.Addr.Port() < p.cfg.Addr.Port() {
			p = q
		}
	}
	if p == nil {
		var err error
		if p, err = s.dynamic(from); err != nil {
			s.strange(nc, err.Error())
			return
		}
	}
	defer s.forgetLater(p) // if nothing comes of it
	if p.idle != "" {
		_ = nc.Close()
		return
	}
	if err := admit(nc, p.cfg); err != nil {
		_ = nc.Close()
		if p.est == nil {
			p.lastErr = "TTL security: " + err.Error()
		}
		return
	}
	// The newest unidentified connection of a peer replaces the one before:
	// whoever opens many holds at most one.
	for _, c := range slices.Clone(p.conns) {
		if !c.dialled && c.state == OpenSent {
			s.fire(c, evCollision, &notification{code: codeCease, sub: ceaseCollision, reason: "replaced by a newer connection"}, nil)
		}
	}
	// A session that is only just up: this is the other half of a collision,
	// sent on its way before the peer knew. With an OPEN it would look alive.
	if s.accepted >= s.opt.MaxPending || p.est != nil && time.Since(p.est.since) < lateCollision {
		_ = nc.Close()
		return
	}
	s.start(p, nc, false)
}

// start gives a fresh TCP connection its reader, writer and state machine.
func (s *Speaker) start(p *peer, nc net.Conn, dialled bool) {
	c := &conn{
		p: p, dialled: dialled, state: Active, nc: nc, s: s, ebgp: p.ebgp, localAS: p.localAS,
		wake: make(chan struct{}, 1), readDone: make(chan struct{}),
		sendHold: s.opt.OpenTimeout, takePaths: p.cfg.AddPathReceive, neighbour: p.cfg.neighbour(),
	}
	if dialled {
		c.state = Connect
	} else {
		s.accepted++
	}
	c.keepAll.Store(p.cfg.PassUnknown)
	p.conns = append(p.conns, c)
	s.wg.Add(2)
	go func() { defer s.wg.Done(); c.read() }()
	go func() { defer s.wg.Done(); c.write(); c.gone() }()
	for _, other := range slices.Clone(p.conns) {
		if other.state == OpenConfirm && !s.outlives(c, other, id32(other.open.id)) {
			return
		}
	}
	s.fire(c, evTCPUp, nil, nil)
}
