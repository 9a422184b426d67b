// SPDX-License-Identifier: Apache-2.0

package bgp

import "net/netip"

// Reset is what an operator asks of a session.
type Reset uint8

const (
	// ResetHard ends the session with Cease, "administrative reset", and a text for
	// the other end (RFC 9003); it comes back by itself. Routes go, both ways.
	ResetHard Reset = iota
	// ResetIn judges again what the peer has sent, and asks for it (RFC 2918).
	ResetIn
	// ResetOut sends again what the peer has been told.
	ResetOut
)

// Reset resets the Established sessions with an address, and returns how many there
// are. The text is for ResetHard.
func (s *Speaker) Reset(addr netip.Addr, how Reset, text string) (n int) {
	s.ask(func() { n = s.reset(addr, how, text) })
	return n
}

func (s *Speaker) reset(addr netip.Addr, how Reset, text string) (n int) {
	for _, p := range s.peers {
		c := p.est
		if p.cfg.Addr.Addr() != addr || c == nil {
			continue
		}
		n++
		switch how {
		case ResetHard:
			s.fire(c, evStop, &notification{code: codeCease, sub: ceaseReset, data: shutdownData(text), reason: "administrative reset"}, nil)
		case ResetIn:
			s.rejudge(p)
			p.askAgain()
		case ResetOut:
			p.refresh = c.families
			s.pump(p)
		}
	}
	return n
}
