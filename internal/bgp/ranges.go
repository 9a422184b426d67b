// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Listen ranges: sessions with whoever connects from a network, without a
// configuration of their own. Such a peer is made when it connects, never
// dialled, and forgotten when it is gone and nothing of it is kept.

// RangeConfig is a network from which sessions are accepted. Of several that
// contain an address the longest prefix decides; a configured peer comes first.
type RangeConfig struct {
	Prefixes []netip.Prefix
	// ASNs are the AS numbers that a peer may have, as first and last of a row.
	ASNs  [][2]uint32
	Limit int // how many peers there may be at a time; 0 means 100
	// Peer is what all of them have in common. Addr, ASN, ASNs, LocalAddr and
	// Passive are set for each.
	Peer PeerConfig
}

// defaultRangeLimit is RangeConfig.Limit where that is 0.
const defaultRangeLimit = 100

// Validate checks a range; each error names it and the field.
func (r RangeConfig) Validate() error {
	var errs []error
	bad := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("listen range %q: %s", r.Peer.Name, fmt.Sprintf(format, a...)))
	}
	if len(r.Prefixes) == 0 || len(r.ASNs) == 0 || r.Limit < 0 {
		bad("needs Prefixes and ASNs, and a Limit that is not negative")
	}
	for _, p := range r.Prefixes {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() || p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast() {
			bad("Prefixes: %s is no network to connect from", p)
		}
	}
	if len(errs) == 0 {
		if err := r.peer(r.Prefixes[0].Addr().Next(), r.ASNs[0][0]).Validate(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// peer is the configuration of one that connected.
func (r RangeConfig) peer(a netip.Addr, asn uint32) PeerConfig {
	pc := r.Peer
	pc.Addr, pc.ASN, pc.ASNs, pc.LocalAddr, pc.Passive = netip.AddrPortFrom(a, 0), asn, r.ASNs, netip.Addr{}, true
	return pc
}

// allows tells whether the peer may have an AS number that its OPEN decides on.
func (p PeerConfig) allows(asn uint32) bool {
	return slices.ContainsFunc(p.ASNs, func(row [2]uint32) bool { return row[0] <= asn && asn <= row[1] })
}

// rangeOf is the range that an address belongs to, nil if there is none.
func (s *Speaker) rangeOf(a netip.Addr) (found *RangeConfig) {
	longest := -1
	for i := range s.cfg.Ranges {
		for _, p := range s.cfg.Ranges[i].Prefixes {
			if p.Contains(a) && p.Bits() > longest {
				found, longest = &s.cfg.Ranges[i], p.Bits()
			}
		}
	}
	return found
}

// dynamic makes a peer of whoever connected from a range, or says why not. Until
// its OPEN it counts as having the first AS number that is allowed.
func (s *Speaker) dynamic(from netip.Addr) (*peer, error) {
	r := s.rangeOf(from)
	if r == nil {
		return nil, errors.New("it is in no listen range")
	}
	limit, n := r.Limit, 0
	if limit == 0 {
		limit = defaultRangeLimit
	}
	for _, p := range s.peers {
		if p.cfg.Addr.Addr() == from {
			return nil, fmt.Errorf("peer %q expects it at another of our addresses", p.cfg.Name)
		}
		if p.dynamic && p.cfg.Name == r.Peer.Name {
			n++
		}
	}
	switch {
	case n >= limit:
		return nil, fmt.Errorf("listen range %q has %d peers already", r.Peer.Name, n)
	case len(s.peers) >= maxPeers:
		return nil, fmt.Errorf("there are %d peers already", len(s.peers))
	case s.accepted >= s.opt.MaxPending/2: // the other half is for those who are configured
		return nil, errors.New("too many connections wait for an OPEN")
	}
	p := s.addPeer(r.peer(from, r.ASNs[0][0]))
	p.dynamic = true
	return p, nil
}

// adopt takes over the AS number of the OPEN of a peer that may have several, if
// it is one of them and nothing else of the peer stands against it.
func (s *Speaker) adopt(p *peer, c *conn, asn uint32) *notification {
	switch {
	case len(p.cfg.ASNs) == 0 || asn == p.cfg.ASN && p.saidAS:
		return nil
	case !p.cfg.allows(asn):
		return &notification{code: codeOpen, sub: subPeerAS, reason: fmt.Sprintf("peer says AS %d, which it may not have", asn)}
	case asn == p.cfg.ASN:
		p.saidAS = true
		return nil
	case slices.ContainsFunc(p.conns, func(o *conn) bool { return o.open != nil }):
		return nil // another connection has said otherwise, and accept refuses this one
	}
	s.sweepAll(p) // routes of another AS
	p.cfg.ASN, p.saidAS = asn, true
	p.ebgp = p.localAS != asn
	c.ebgp = p.ebgp
	s.rib.sources[p.slot].ebgp = p.ebgp
	return nil
}

// saidASN is the AS number of a peer, 0 while only its OPEN can say which.
func (p *peer) saidASN() uint32 {
	if len(p.cfg.ASNs) > 0 && !p.saidAS {
		return 0
	}
	return p.cfg.ASN
}

// forgetLater removes a dynamic peer when it has no connection and no routes, and is not
// kept idle, which only it remembers. It may be
// called at any moment: it looks when the loop has done what it is at.
func (s *Speaker) forgetLater(p *peer) {
	if !p.dynamic {
		return
	}
	s.post(func() {
		if s.peers[p.cfg.Addr] == p && len(p.conns) == 0 && p.retained == (familySet{}) && p.idle == "" && !p.expected {
			s.removePeer(p)
		}
	})
}

// applyRanges brings dynamic peers to what their ranges say now; those that are
// in none, or configured by themselves, go.
func (s *Speaker) applyRanges(reset, rejudge bool) {
	configured := map[netip.Addr]bool{}
	for _, pc := range s.cfg.Peers {
		configured[pc.Addr.Addr()] = true
	}
	for _, p := range s.peers {
		if !p.dynamic {
			continue
		}
		a := p.cfg.Addr.Addr()
		r := s.rangeOf(a)
		if r == nil || configured[a] || !r.peer(a, p.cfg.ASN).allows(p.cfg.ASN) {
			s.removePeer(p)
			continue
		}
		s.changePeer(p, r.peer(a, p.cfg.ASN), reset, rejudge)
	}
}

// strangersEvery is how often at most refused connections are spoken of.
const strangersEvery = time.Minute

// strange notes that a connection was refused. The accept goroutines and the
// loop share it.
func (s *Speaker) strange(nc net.Conn, why string) {
	from, _ := endsOf(nc)
	_ = nc.Close()
	k := &s.known
	k.mu.Lock()
	k.refused++
	n, due := k.refused, time.Since(k.told) >= strangersEvery
	if due {
		k.told, k.refused = time.Now(), 0
	}
	k.mu.Unlock()
	if due {
		s.log.Warn("BGP connection refused", "address", from, "reason", why, "since last told", n)
	}
}
