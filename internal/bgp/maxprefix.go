// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"encoding/binary"
	"fmt"
	"time"
)

// A bound on what a peer may fill our tables with, per family. RFC 4271 section
// 6.7 leaves the choice of what to do beyond it; RFC 4486 names the Cease.

// LimitAction is what is done about prefixes beyond PeerConfig.MaxPrefixes.
type LimitAction uint8

const (
	// LimitDiscard takes no more, and keeps the session. When there is room
	// again, the peer is asked to repeat itself (RFC 2918).
	LimitDiscard LimitAction = iota
	// LimitWarn only says so.
	LimitWarn
	// LimitRestart ends the session and begins anew after a while.
	LimitRestart
	// LimitShutdown ends the session until the configuration of the peer changes.
	LimitShutdown
)

// maxPaths is how many paths to one prefix are taken from a peer with ADD-PATH
// (RFC 7911). Each that comes is compared with all that are there: some thousands
// would keep the loop from everything else. Who uses ADD-PATH sends a handful.
const maxPaths = 64

// refillEvery is how often a peer is asked to repeat itself at most.
const refillEvery = 10 * time.Second

// overLimit decides whether one more path of a peer is turned away; the
// connection may be gone afterwards.
func (s *Speaker) overLimit(c *conn, ref pathRef) bool {
	p, f := c.p, familyOf(ref.prefix.Addr())
	limit := p.cfg.MaxPrefixes[f]
	if limit == 0 || p.taken(f) < limit {
		return false
	}
	if head, _ := s.rib.table.Get(ref.prefix); find(head, p.slot, ref.id) != nil {
		return false // replaces one
	}
	why := fmt.Sprintf("%s: more than %d prefixes", f, limit)
	if !p.over[f] {
		p.over[f] = true
		s.log.Warn("BGP peer is beyond its limit", "peer", p.cfg.Name, "address", p.cfg.Addr, "family", f.String(), "limit", limit)
	}
	switch p.cfg.OverLimit {
	case LimitWarn:
		return false
	case LimitDiscard:
		p.discarded++
		return true
	}
	p.idle = why
	n := &notification{code: codeCease, sub: ceaseMaxPrefixes, reason: why,
		data: binary.BigEndian.AppendUint32([]byte{0, byte(f) + 1, 1}, uint32(limit))}
	s.fire(c, evStop, n, nil)
	if p.cfg.OverLimit == LimitRestart {
		p.flaps = max(p.flaps, 4) // from 16 s on
		p.resting.set(s, time.Second<<p.flaps, func() {
			p.idle = ""
			p.connect()
			p.show(nil)
			s.forgetLater(p)
		})
	}
	return true
}

// taken is how many paths there are of a peer. Those that are kept over its restart are
// not what it sends now.
func (p *peer) taken(f family) int {
	src := p.s.rib.sources[p.slot]
	return src.received[f] - src.stale[f]
}

// crowded decides whether one more path to a prefix is turned away.
func (s *Speaker) crowded(p *peer, ref pathRef) bool {
	if ref.id == 0 {
		return false // there is one at most
	}
	n := 0
	for q := s.rib.table.read(ref.prefix, &s.room); q != nil; q = q.next {
		if q.peer != p.slot {
			continue
		}
		if n++; q.id == ref.id {
			return false // replaces one
		}
	}
	if n < maxPaths {
		return false
	}
	p.discarded++
	p.crowds[familyOf(ref.prefix.Addr())] = true
	p.complainOf("BGP peer sends more paths to a prefix than are taken", "prefix", ref.prefix, "limit", maxPaths)
	return true
}

// thinned asks a peer to repeat what crowded turned away, some time after paths have
// gone.
func (s *Speaker) thinned(p *peer) {
	if p.crowds == (familySet{}) || p.thinning.armed() {
		return
	}
	p.thinning.set(s, refillEvery, func() {
		p.crowds = familySet{}
		p.askAgain()
	})
}

// tryAgain ends what keeps a peer idle.
func (p *peer) tryAgain() {
	p.resting.stop()
	p.idle = ""
	p.s.forgetLater(p)
}

// refill asks a peer to repeat what was turned away, once there is room.
func (s *Speaker) refill(c *conn) {
	p := c.p
	for f := range numFamilies {
		limit := p.cfg.MaxPrefixes[f]
		if !p.over[f] || limit > 0 && p.taken(f) >= limit {
			continue
		}
		if p.cfg.OverLimit == LimitDiscard && c.open.refresh {
			if p.refilling.armed() {
				continue
			}
			p.refilling.set(s, refillEvery, func() {
				if p.est != nil {
					s.refill(p.est)
				}
			})
			c.send(chunk{refreshMessage(f, refreshRequest), 1})
		}
		p.over[f] = false
	}
}
