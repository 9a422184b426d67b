// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"
	"testing"
)

// RFC 8950: IPv4 routes of a node that has no IPv4 next hop, and of one that
// passes them on; between ends of which one does not know it there are none.
func TestRFC8950_IPv4OverIPv6NextHops(t *testing.T) {
	a, b := pair(t, 64512, 65001, func(ca, cb *Config) {
		ca.NextHop4 = netip.Addr{}
		ca.Peers[0].ExtendedNextHop, cb.Peers[0].ExtendedNextHop = true, true
	})
	a.originate("10.1.0.0/26", "fd00:1::/122")
	b.originate("10.2.0.0/26", "fd00:2::/122")
	six := a.cfg.NextHop6.String()
	b.waitHops("10.1.0.0/26", six)
	b.waitHops("fd00:1::/122", six)
	a.waitHops("10.2.0.0/26", b.cfg.NextHop4.String()) // b has one
	a.waitHops("fd00:2::/122", b.cfg.NextHop6.String())
	a.withdraw("10.1.0.0/26")
	b.waitHops("10.1.0.0/26", "")
	b.waitHops("fd00:1::/122", six)

	c, d := pair(t, 64512, 65001, func(ca, _ *Config) {
		ca.NextHop4 = netip.Addr{}
		ca.Peers[0].ExtendedNextHop = true
	})
	c.originate("10.1.0.0/26", "fd00:1::/122")
	d.waitHops("fd00:1::/122", c.cfg.NextHop6.String())
	if fs := c.peer(d.cfg.RouterID).Families; !slices.Equal(fs, []string{"ipv6-unicast"}) {
		t.Errorf("families %v with a peer that has no extended next hops", fs)
	}
	if d.hops("10.1.0.0/26") != "" {
		t.Error("an IPv4 route without a next hop that the peer can take")
	}
}

// RFC 8950 section 3: a next hop of 16 or 32 octets for IPv4.
func TestRFC8950_3_Decoding(t *testing.T) {
	nh := netip.MustParseAddr("fd99::9").As16()
	ll := netip.MustParseAddr("fe80::9").As16()
	base := cat(goodAttrs(false)[0], goodAttrs(false)[1], goodAttrs(false)[3])
	for _, hop := range [][]byte{nh[:], slices.Concat(nh[:], ll[:])} {
		mp := at(0x80, attrMPReach, cat([]byte{0, 1, 1, byte(len(hop))}, hop, []byte{0}, nlri("10.7.0.0/16"))...)
		body := upd(nil, cat(mp, base), nil)[headerLen:]
		var u update
		d := &decoder{as4: true}
		if n := d.decode(body, &u); n != nil || len(u.mpReach) != 1 || u.mpAttrs.nextHop != netip.MustParseAddr("fd99::9") {
			t.Errorf("%d octets: %v %+v", len(hop), n, u)
		}
		// The same attributes with the same next hop, and with another one.
		again := update{}
		if n := d.decode(body, &again); n != nil || again.mpAttrs != u.mpAttrs {
			t.Errorf("%d octets: equal attributes are two sets", len(hop))
		}
		hop[15] = 8
		mp = at(0x80, attrMPReach, cat([]byte{0, 1, 1, byte(len(hop))}, hop, []byte{0}, nlri("10.7.0.0/16"))...)
		other := update{}
		if n := d.decode(upd(nil, cat(mp, base), nil)[headerLen:], &other); n != nil || other.mpAttrs.nextHop != netip.MustParseAddr("fd99::8") {
			t.Errorf("another next hop: %v %+v", n, other)
		}
		hop[15] = 9
	}
}
