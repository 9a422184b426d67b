// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"testing"
	"time"
)

// RFC 4271 section 4.2: the smaller of the two hold times holds, 0 is none, and
// KEEPALIVEs come at a third of it at least; RFC 9687: the send-hold time is
// longer than that.
func TestRFC4271_4_2_Timers(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		cfg                       PeerConfig
		theirs                    time.Duration
		hold, keepalive, sendHold time.Duration
	}{
		{PeerConfig{}, 90 * s, 9 * s, 3 * s, 18 * s},
		{PeerConfig{}, 3 * s, 3 * s, s, 6 * s},
		{PeerConfig{}, 0, 0, 0, 8 * time.Minute},
		{PeerConfig{HoldTime: TimerOff}, 90 * s, 0, 0, 8 * time.Minute},
		{PeerConfig{HoldTime: 90 * s}, 240 * s, 90 * s, 3 * s, 180 * s},
		{PeerConfig{HoldTime: 90 * s, Keepalive: 30 * s}, 240 * s, 90 * s, 30 * s, 180 * s},
		{PeerConfig{HoldTime: 90 * s, Keepalive: 30 * s}, 9 * s, 9 * s, 3 * s, 18 * s},
		{PeerConfig{SendHold: 60 * s}, 90 * s, 9 * s, 3 * s, 60 * s},
		{PeerConfig{SendHold: 9 * s}, 90 * s, 9 * s, 3 * s, 18 * s},
		{PeerConfig{SendHold: TimerOff}, 90 * s, 9 * s, 3 * s, 0},
	} {
		a := freeAddr(t)
		d := newDesk(t, nodeConfig(64512, a))
		c.cfg.Addr, c.cfg.ASN = addrPort(freeAddr(t)), 64512
		p := d.add("p", c.cfg, a.Next())
		p.open.hold = c.theirs
		d.up(p)
		if p.c.hold != c.hold || p.c.keepalive != c.keepalive || p.c.sendHold != c.sendHold {
			t.Errorf("%+v against %v: hold %v, keepalive %v, send hold %v", c, c.theirs, p.c.hold, p.c.keepalive, p.c.sendHold)
		}
	}
	for _, d := range []time.Duration{1, s, 2 * s} {
		pc := peerTo(freeAddr(t), 64512)
		if pc.HoldTime = d; pc.Validate() == nil {
			t.Errorf("hold time %v is taken", d)
		}
	}
}
