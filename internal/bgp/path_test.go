// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// RFC 5882 section 4.2, RFC 9384: a lost path ends the session and its routes
// at once, the neighbour learns why, and the session comes back with the path.
func TestRFC5882_4_2_PathDown(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 64512, 64512, nil)
	a.originate("10.1.0.0/26", "fd00:1::/122")
	eventually(t, "both", func() bool { return b.fibSize() == 2 })
	addr := a.cfg.RouterID
	b.mu.Lock()
	before := b.events
	b.mu.Unlock()
	b.PathDown(addr, true)
	eventually(t, "the routes went and came", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.events >= before+4 && len(b.fib) == 2
	})
	eventually(t, "the session is back", func() bool { return b.peer(addr).Established == 2 })
	// Somebody else's path is nobody's business.
	b.PathDown(b.cfg.RouterID, true)
	if p := b.peer(addr); p.Established != 2 || p.State != "Established" {
		t.Errorf("%+v", p)
	}
}

// B10: a path that is lost and found again and again, as that over a port that flaps, is no error of either end: the
// session comes back as soon as after one that broke.
func TestB10_PathsAreNotDamped(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 64512, 64512, nil)
	addr, start := a.cfg.RouterID, time.Now()
	b.waitUp(addr)
	for n := range 3 {
		b.PathDown(addr, true)
		eventually(t, "the session is back", func() bool {
			p := b.peer(addr)
			return p.Established == uint64(n+2) && p.State == "Established"
		})
	}
	if d := time.Since(start); d > 6*time.Second { // with damping the third is 8 s alone
		t.Errorf("came back three times in %v", d)
	}
}

// RFC 9384: the neighbour is told.
func TestRFC9384_CeaseBFDDown(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 64512, 64512, func(ca, _ *Config) { ca.Peers[0].Passive = true })
	addrA, addrB := a.cfg.RouterID, b.cfg.RouterID
	a.waitUp(addrB)
	b.waitUp(addrA)
	cfg := b.cfg
	cfg.Peers[0].Passive = true // nobody connects again, so the reason stays
	if err := b.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	b.PathDown(addrA, false)
	eventually(t, "the reason", func() bool { return strings.Contains(a.peer(addrB).LastError, "cease (6/10)") })
	if got := b.peer(addrA).LastError; !strings.Contains(got, "BFD") {
		t.Errorf("we say %q", got)
	}
}

// RFC 5882 section 4.3: what a lost path does to a graceful restart.
func TestRFC5882_4_3_GracefulRestart(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 64512, 64512, nil)
	a.originate("10.1.0.0/26", "fd00:1::/122")
	eventually(t, "both", func() bool { return b.fibSize() == 2 })
	eventually(t, "End-of-RIB", func() bool { return len(b.peer(a.cfg.RouterID).EndOfRIB) == 2 })
	addr := a.cfg.RouterID

	// 4.3.2: BFD that dies with the control plane says nothing about the path.
	kept := always(b, "10.1.0.0/26")
	a.stop()
	eventually(t, "routes are stale", func() bool { return b.peer(addr).Stale == 2 })
	b.PathDown(addr, false)
	if p := b.peer(addr); p.Stale != 2 {
		t.Errorf("%d stale routes after BFD went with the control plane", p.Stale)
	}
	// The neighbour is back and has not said all yet: its BFD starts over.
	a = restartOf(t, a, true)
	a.originate("10.1.0.0/26")
	eventually(t, "announced again", func() bool { return b.peer(addr).Stale == 1 })
	b.PathDown(addr, false)
	if p := b.peer(addr); p.State != "Established" || p.Stale != 1 {
		t.Errorf("a restart was disturbed: %+v", p)
	}
	if !kept() {
		t.Error("a route was gone for a moment")
	}
	// 4.3.1: BFD that lives on its own tells of the path.
	a.stop()
	eventually(t, "routes are stale", func() bool { return b.peer(addr).Stale > 0 })
	b.PathDown(addr, true)
	eventually(t, "routes went", func() bool { return b.fibSize() == 0 })
}

// We restart, and a neighbour is lost before it has said all: what our
// predecessor learned from it is not kept for the rest of the restart time, nor
// is what others hear of us. One whose path is not known to be dead is waited for.
func TestRFC5882_4_3_LostWhileWeRestart(t *testing.T) {
	t.Parallel()
	us := freeAddr(t)
	for _, c := range []struct {
		name string
		up   bool // the session was up again when the path was lost
		lose func(n *node, peer netip.Addr)
		ends bool
	}{
		{"path, session up", true, func(n *node, peer netip.Addr) { n.PathDown(peer, true) }, true},
		{"path, session up, BFD part of the control plane", true, func(n *node, peer netip.Addr) { n.PathDown(peer, false) }, true},
		{"path, not heard yet", false, func(n *node, peer netip.Addr) { n.PathDown(peer, true) }, true},
		{"perhaps only its control plane", false, func(n *node, peer netip.Addr) { n.PathDown(peer, false) }, false},
		{"path, before we started", false, func(n *node, peer netip.Addr) { n.PathWasDown(peer) }, true},
		{"path, before we started, but the session is up", true, func(n *node, peer netip.Addr) { n.PathWasDown(peer) }, false},
		{"another's path", false, func(n *node, _ netip.Addr) { n.PathDown(us, true) }, false},
		{"shut down", false, func(n *node, peer netip.Addr) {
			cfg := n.cfg
			cfg.Peers[0].Shutdown = true
			if err := n.SetConfig(cfg); err != nil {
				t.Error(err)
			}
		}, true},
		{"reset by us", true, func(n *node, peer netip.Addr) {
			cfg := n.cfg
			cfg.Peers[0].TTLSecurity = 1
			if err := n.SetConfig(cfg); err != nil {
				t.Error(err)
			}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			us, them := freeAddr(t), freeAddr(t)
			// The neighbour never sends End-of-RIB: it has not been told that it has named all.
			other := nodeConfig(64512, them, peerTo(us, 64512))
			other.Peers[0].Passive = true
			if c.up {
				startNode(t, other, Options{})
			}
			n := startNode(t, nodeConfig(64512, us, peerTo(them, 64512)), Options{Restarting: true})
			n.OriginationsComplete()
			if c.up {
				n.waitUp(them)
			}
			select {
			case <-n.Converged():
				t.Fatal("converged without the neighbour's routes")
			default:
			}
			c.lose(n, them)
			if c.ends {
				eventually(t, "converged", func() bool {
					select {
					case <-n.Converged():
						return true
					default:
						return false
					}
				})
				return
			}
			n.peer(them) // the loop has dealt with the loss
			select {
			case <-n.Converged():
				t.Error("converged without the neighbour's routes")
			default:
			}
		})
	}
}

// A lost link ends a session with another AS and its routes at once, although the neighbour would be given time to restart, is no
// error of it, and LinkUp calls it at once. What a neighbour that restarts has left goes with the link, too.
func TestLinkDown(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 65001, 64512, func(ca, cb *Config) { ca.Peers[0].Passive = true })
	a.originate("10.1.0.0/26", "fd00:1::/122")
	eventually(t, "both", func() bool { return b.fibSize() == 2 })
	addr := a.cfg.RouterID
	cfg := b.cfg
	cfg.Peers[0].Passive = true // nobody calls
	if err := b.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	b.LinkDown(addr, "eth1 has no carrier")
	eventually(t, "routes went", func() bool { return b.fibSize() == 0 })
	if p := b.peer(addr); p.State == "Established" || p.Stale != 0 || p.LastError != "eth1 has no carrier" {
		t.Errorf("%+v", p)
	}
	eventually(t, "the neighbour is told", func() bool { return strings.Contains(a.peer(b.cfg.RouterID).LastError, "cease (6/0)") })
	cfg.Peers[0].Passive = false
	if err := b.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	for range 4 { // with damping the fourth is 16 s alone
		start := time.Now()
		b.LinkUp(addr)
		b.waitUp(addr)
		eventually(t, "both again", func() bool { return b.fibSize() == 2 })
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("the session was back after %v", d)
		}
		b.LinkDown(addr, "eth1 has no carrier")
		eventually(t, "routes went again", func() bool { return b.fibSize() == 0 })
	}
	b.LinkUp(addr)
	b.waitUp(addr)
	eventually(t, "End-of-RIB", func() bool { return len(b.peer(addr).EndOfRIB) == 2 })
	a.stop()
	eventually(t, "routes are stale", func() bool { return b.peer(addr).Stale == 2 })
	b.LinkDown(addr, "eth1 has no carrier")
	eventually(t, "stale routes went", func() bool { return b.fibSize() == 0 })
}

// A session inside the AS, and one that may be more hops away, does not go with a link.
func TestLinkDown_OnlyOnIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		as   uint32
		hops uint8
	}{{"own AS", 64512, 0}, {"two hops", 65001, 2}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, c.as, 64512, func(ca, cb *Config) { ca.Peers[0].TTLSecurity, cb.Peers[0].TTLSecurity = c.hops, c.hops })
			a.originate("10.1.0.0/26")
			eventually(t, "the route", func() bool { return b.fibSize() == 1 })
			kept := always(b, "10.1.0.0/26")
			b.LinkDown(a.cfg.RouterID, "eth1 has no carrier")
			b.LinkUp(a.cfg.RouterID)
			if p := b.peer(a.cfg.RouterID); p.State != "Established" || p.Established != 1 || !kept() {
				t.Errorf("%+v", p)
			}
		})
	}
}
