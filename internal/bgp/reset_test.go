// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"strings"
	"testing"
)

// RFC 9003, RFC 2918: a hard reset tells the other end why, and the session comes back;
// a soft one sends or asks for everything again, and the session stays.
func TestReset(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 64512, 64512, nil)
	a.originate("10.1.0.0/24", "fd00:1::/64")
	b.originate("10.2.0.0/24", "fd00:2::/64")
	to := b.cfg.RouterID
	both := func() {
		t.Helper()
		b.waitHops("10.1.0.0/24", a.cfg.NextHop4.String())
		b.waitHops("fd00:1::/64", a.cfg.NextHop6.String())
		a.waitHops("10.2.0.0/24", b.cfg.NextHop4.String())
		a.waitHops("fd00:2::/64", b.cfg.NextHop6.String())
	}
	both()
	// Two connections may have met at the start, one of which was a session for a moment (RFC 4271 section 6.8).
	upHere, upThere := a.peer(to).Established, b.peer(a.cfg.RouterID).Established
	in, out := a.peer(to).Messages.Received["update"], a.peer(to).Messages.Sent["update"]
	if n := a.Reset(to, ResetIn, ""); n != 1 {
		t.Fatalf("%d sessions", n)
	}
	eventually(t, "both families come again", func() bool { return a.peer(to).Messages.Received["update"] >= in+2 })
	a.Reset(to, ResetOut, "")
	eventually(t, "both families go again", func() bool { return a.peer(to).Messages.Sent["update"] >= out+2 })
	both()
	if n := a.peer(to).Established; n != upHere {
		t.Fatalf("a soft reset ended the session: up %d times, and %d before", n, upHere)
	}
	a.Reset(to, ResetHard, "new optics")
	eventually(t, "it is told why, and the session is back", func() bool {
		p := b.peer(a.cfg.RouterID)
		return p.Got != nil && p.Got.Code == codeCease && p.Got.Subcode == ceaseReset && strings.Contains(p.Got.Text, "new optics") &&
			p.Established == upThere+1 && p.State == "Established"
	})
	both()
	if n := a.Reset(freeAddr(t), ResetHard, ""); n != 0 {
		t.Errorf("%d sessions with nobody", n)
	}
}
