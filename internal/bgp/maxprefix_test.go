// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// B08: more prefixes than are allowed, with each action and in each family;
// the other family and other peers are not concerned.
func TestB08_MaxPrefixes(t *testing.T) {
	for _, c := range []struct {
		name   string
		action LimitAction
		want   int // v4 routes in the end, of 7 with a limit of 5
		state  string
	}{
		{"discard", LimitDiscard, 5, "Established"},
		{"warn", LimitWarn, 7, "Established"},
		{"restart", LimitRestart, 0, ""},
		{"shutdown", LimitShutdown, 0, "Idle"},
	} {
		for f := range numFamilies {
			t.Run(fmt.Sprintf("%s/%s", c.name, f), func(t *testing.T) {
				t.Parallel()
				a, b := pair(t, 64512, 65001, func(_, cb *Config) {
					cb.Peers[0].MaxPrefixes[f], cb.Peers[0].OverLimit = 5, c.action
				})
				addr := a.cfg.RouterID
				prefix := func(i int) string {
					return []string{fmt.Sprintf("10.%d.0.0/16", i), fmt.Sprintf("fd00:%d::/32", i)}[f]
				}
				other := []string{"fd99::/32", "10.99.0.0/16"}[f]
				a.originate(other)
				for i := range 5 {
					a.originate(prefix(i))
				}
				eventually(t, "five and one", func() bool { return b.fibSize() == 6 })
				if b.peer(addr).OverLimit != nil {
					t.Error("five are said to be too many")
				}
				a.originate(prefix(0), prefix(5), prefix(6)) // the first one is there already
				if c.state == "Established" {
					eventually(t, "the limit is seen", func() bool { return len(b.peer(addr).OverLimit) == 1 })
					eventually(t, fmt.Sprint(c.want, " and one"), func() bool { return b.fibSize() == c.want+1 })
					if p := b.peer(addr); p.State != c.state || p.Established != 1 {
						t.Errorf("%+v", p)
					}
				} else {
					eventually(t, "the session is ended", func() bool { return b.fibSize() == 0 })
					p := b.peer(addr)
					if !strings.Contains(p.LastError, "more than 5 prefixes") || c.state != "" && p.State != c.state {
						t.Errorf("%+v", p)
					}
					eventually(t, "the other end knows why", func() bool { return strings.Contains(a.peer(b.cfg.RouterID).LastError, "(6/1)") })
				}
				if c.action == LimitDiscard {
					// With room again, what was turned away is asked for.
					a.withdraw(prefix(0), prefix(1))
					b.waitHops(prefix(5), b.hops(prefix(2)))
					b.waitHops(prefix(6), b.hops(prefix(2)))
				}
				if c.action == LimitShutdown {
					a.withdraw(prefix(5), prefix(6))
					cfg := b.cfg
					cfg.Peers = slices.Clone(cfg.Peers)
					cfg.Peers[0].MaxPrefixes = [2]int{6, 6}
					if err := b.SetConfig(cfg); err != nil {
						t.Fatal(err)
					}
					eventually(t, "five and one again", func() bool { return b.fibSize() == 6 })
				}
			})
		}
	}
}

// RFC 9003: the reason of a shutdown is told, and shown at the other end; a
// session that is shut down stays so until it is no more.
func TestRFC9003_Shutdown(t *testing.T) {
	a, b := pair(t, 64512, 64512, nil)
	addrA, addrB := a.cfg.RouterID, b.cfg.RouterID
	a.waitUp(addrB)
	b.waitUp(addrA)
	long := strings.Repeat("ä", 200) // 400 octets
	cfg := a.cfg
	cfg.Peers = []PeerConfig{a.cfg.Peers[0]}
	cfg.Peers[0].Shutdown, cfg.Peers[0].ShutdownText = true, long
	if err := a.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reason at the other end", func() bool {
		return strings.Contains(b.peer(addrA).LastError, strings.Repeat("ä", 127)) && !strings.Contains(b.peer(addrA).LastError, strings.Repeat("ä", 128))
	})
	eventually(t, "Idle", func() bool {
		return a.peer(addrB).State == "Idle" && strings.Contains(a.peer(addrB).LastError, "administratively shut down: ä")
	})
	n := b.peer(addrA).Established
	if err := a.SetConfig(a.cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "up again", func() bool { return b.peer(addrA).Established > n && a.peer(addrB).State == "Established" })
}
