// SPDX-License-Identifier: Apache-2.0

package bgp

import "unicode/utf8"

// Administrative shutdown, with the reason told to the other end: RFC 4486 and
// RFC 9003. What a peer says is in decodeNotification.

// MaxShutdownText is how long a reason may be, in octets (RFC 9003 section 2).
const MaxShutdownText = 255

// shutdownData is the reason as it goes on the wire, cut at a character.
func shutdownData(text string) []byte {
	for len(text) > MaxShutdownText || !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return append([]byte{byte(len(text))}, text...)
}

// applyShutdown brings a peer to what PeerConfig.Shutdown says.
func (s *Speaker) applyShutdown(p *peer) {
	if !p.cfg.Shutdown {
		return
	}
	p.resting.stop()
	p.idle = "administratively shut down"
	if p.cfg.ShutdownText != "" {
		p.idle += ": " + p.cfg.ShutdownText
	}
	p.retry.stop()
	p.hangUp()
	for len(p.conns) > 0 {
		s.fire(p.conns[0], evStop, &notification{code: codeCease, sub: ceaseShutdown, data: shutdownData(p.cfg.ShutdownText), reason: p.idle}, nil)
	}
	p.retry.stop()
	s.sweepAll(p)
	p.lastErr = p.idle
	p.show(nil)
}
