// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"unicode/utf8"
)

// Administrative shutdown and reset, with the reason told to the other end: RFC
// 4486 and RFC 9003. What a peer says is in decodeNotification.

// maxShutdownText is how long a reason may be, in octets (RFC 9003 section 2).
const maxShutdownText = 255

// shutdownData is the reason as it goes on the wire, cut at a character.
func shutdownData(text string) []byte {
	for len(text) > maxShutdownText || !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return append([]byte{byte(len(text))}, text...)
}

// told ends everything of a peer with an administrative Cease.
func (s *Speaker) told(p *peer, sub uint8, what, text string) {
	if text != "" {
		what += ": " + text
	}
	for len(p.conns) > 0 {
		s.fire(p.conns[0], evStop, &notification{code: codeCease, sub: sub, data: shutdownData(text), reason: what}, nil)
	}
}

// applyShutdown brings a peer to what PeerConfig.Shutdown says.
func (s *Speaker) applyShutdown(p *peer) {
	if !p.cfg.Shutdown {
		return
	}
	p.idle = "administratively shut down"
	if p.cfg.ShutdownText != "" {
		p.idle += ": " + p.cfg.ShutdownText
	}
	p.retry.stop()
	p.hangUp()
	s.told(p, ceaseShutdown, "administratively shut down", p.cfg.ShutdownText)
	p.retry.stop()
	s.sweepAll(p)
	p.lastErr = p.idle
	p.show(nil)
}

// ResetPeer ends the session with the peer at an address, if there is one, with Cease,
// "administrative reset" and a reason, and begins anew. A peer that was
// stopped by LimitShutdown may come back.
func (s *Speaker) ResetPeer(addr netip.Addr, text string) error {
	err := fmt.Errorf("there is no BGP peer %s", addr)
	s.ask(func() {
		for _, p := range s.peers {
			if p.cfg.Addr.Addr() != addr {
				continue
			}
			if p.cfg.Shutdown {
				err = fmt.Errorf("BGP peer %s is shut down by its configuration", addr)
				continue
			}
			err = nil
			p.idle, p.losses, p.flaps = "", 0, 0
			s.told(p, ceaseReset, "administrative reset", text)
			p.retry.stop()
			p.connectLater()
			p.show(nil)
		}
	})
	return err
}
