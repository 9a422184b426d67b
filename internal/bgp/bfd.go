// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
)

// PathDown says that the path to a neighbour's address was up and is lost, as
// BFD noticed. It is not for a neighbour that was told to stop BFD: that
// says nothing about the path (RFC 5882 section 3.2).
//
// An Established session ends at once, with Cease, "BFD Down" (RFC 9384), and
// its routes go with it. If the neighbour is in a graceful restart (RFC 4724),
// it depends on what the loss means. Where BFD shares fate with the control
// plane on neither side (independent), the path is dead, and what was kept goes as well; else it
// may be the restart itself that BFD saw, and the restart takes its course
// (RFC 5882 sections 4.3.1 and 4.3.2). If it is we who restart, a neighbour whose path is
// lost before it is heard is not waited for.
func (s *Speaker) PathDown(peer netip.Addr, independent bool) {
	s.post(func() {
		for _, p := range s.peers {
			if p.cfg.Addr.Addr() == peer {
				n := &notification{code: codeCease, sub: ceaseBFDDown, reason: "BFD: the path is down"}
				s.pathDown(p, independent, n, n)
			}
		}
	})
}

// LinkDown says that the link with a neighbour's address on it was lost, and why: it goes with its interface. A session
// with another AS whose neighbour may be one hop away only ends at once, and its routes with it, as what is kept over a graceful
// restart does: other daemons call that fast external failover. Any other is left alone, and so is one that
// comes over another link later.
func (s *Speaker) LinkDown(peer netip.Addr, why string) {
	s.post(func() {
		for _, p := range s.peers {
			if p.cfg.Addr.Addr() == peer && p.onLink() {
				s.pathDown(p, true, &notification{code: codeCease}, linkLost(why))
			}
		}
	})
}

// LinkUp says that the link is back: who is not connected is called at once.
func (s *Speaker) LinkUp(peer netip.Addr) {
	s.post(func() {
		for _, p := range s.peers {
			if p.cfg.Addr.Addr() == peer && p.onLink() && p.est == nil {
				p.losses = 0
				p.hangUp() // an attempt that the dead link swallowed
				p.retry.stop()
				p.connect()
			}
		}
	})
}

// linkLost is why a link is down.
type linkLost string

func (l linkLost) Error() string { return string(l) }

// onLink tells whether a session goes with the link that its neighbour is on.
func (p *peer) onLink() bool { return p.ebgp && p.cfg.TTLSecurity <= 1 }

// PathWasDown says that the path to a neighbour's address was lost before this
// process started, and is still. If it is we who restart, the neighbour is not waited for.
// An Established session is left alone: it has its own opinion of the path.
func (s *Speaker) PathWasDown(peer netip.Addr) {
	s.post(func() {
		for _, p := range s.peers {
			if p.cfg.Addr.Addr() == peer && p.est == nil && p.retained == (familySet{}) {
				p.silent = true
				s.checkConverged()
			}
		}
	})
}

func (s *Speaker) pathDown(p *peer, independent bool, n *notification, why error) {
	restarting := p.retained != (familySet{})
	switch {
	case restarting && !independent:
	case p.est != nil:
		s.fire(p.est, evStop, n, why)
	case restarting:
		s.log.Info("the routes of a restarting peer go", "peer", p.cfg.Name, "address", p.cfg.Addr, "reason", why)
		p.lastErr = fmt.Sprint(why)
		s.sweepLate(p)
	case independent:
		p.silent = true
		s.checkConverged()
	}
}
