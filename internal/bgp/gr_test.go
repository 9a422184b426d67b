// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// restartOf starts the successor of a stopped node.
func restartOf(t *testing.T, n *node, restarting bool) *node {
	t.Helper()
	return startNode(t, n.cfg, Options{Restarting: restarting})
}

// seen watches a node's view of a prefix until the returned function is called, which
// reports whether it was always there.
func always(n *node, prefix string) (stop func() bool) {
	end, ok := make(chan struct{}), make(chan bool)
	go func() {
		good := true
		for {
			select {
			case <-end:
				ok <- good
				return
			case <-time.After(time.Millisecond):
				good = good && n.hops(prefix) != ""
			}
		}
	}()
	return func() bool { close(end); return <-ok }
}

// RFC 4724, both roles: a process is replaced; its routes are never gone at the peer, what it does
// not announce again goes with End-of-RIB, and what it does stays.
func TestB15_RFC4724_RestartKeepsRoutes(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 64512, 64512, nil)
	a.originate("10.1.0.0/26", "fd00:1::/122", "10.66.0.0/26")
	b.originate("10.2.0.0/26")
	for _, p := range []string{"10.1.0.0/26", "fd00:1::/122", "10.66.0.0/26"} {
		eventually(t, p, func() bool { return b.hops(p) != "" })
	}
	addr := a.cfg.RouterID
	eventually(t, "End-of-RIB", func() bool { return len(b.peer(addr).EndOfRIB) == 2 })
	kept4, kept6 := always(b, "10.1.0.0/26"), always(b, "fd00:1::/122")
	a.stop()
	eventually(t, "routes are stale", func() bool { return b.peer(addr).Stale == 3 })

	a = restartOf(t, a, true)
	b.waitUp(addr)
	if !b.peer(addr).PeerRestarting {
		t.Error("the R bit was not seen")
	}
	a.originate("10.1.0.0/26", "fd00:1::/122")
	eventually(t, "announced again", func() bool { return b.peer(addr).Stale == 1 })
	if b.hops("10.66.0.0/26") == "" {
		t.Error("a stale route went before End-of-RIB")
	}
	a.waitHops("10.2.0.0/26", b.cfg.NextHop4.String())
	select {
	case <-a.Converged():
	case <-time.After(5 * time.Second):
		t.Error("the restarted node does not converge")
	}
	a.OriginationsComplete()
	b.waitHops("10.66.0.0/26", "")
	if !kept4() || !kept6() {
		t.Error("a route was gone for a moment")
	}
}

// RFC 4724 section 4.2: without the F bit stale routes go with the new OPEN.
func TestB15_RFC4724_4_2_NoForwardingBit(t *testing.T) {
	a, b := pair(t, 64512, 64512, nil)
	a.originate("10.1.0.0/26", "fd00:1::/122")
	eventually(t, "both", func() bool { return b.fibSize() == 2 })
	a.stop()
	eventually(t, "routes are stale", func() bool { return b.peer(a.cfg.RouterID).Stale == 2 })
	a = restartOf(t, a, false)
	b.waitHops("10.1.0.0/26", "")
	b.waitHops("fd00:1::/122", "")
}

// RFC 4724 section 4.2: the restart time ends the wait, at the smaller of what the
// peer announced and what is configured for it.
func TestB15_RFC4724_4_2_Expiry(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"announced", "announced to this peer", "configured"} {
		t.Run(by, func(t *testing.T) {
			a, b := pair(t, 64512, 64512, func(ca, cb *Config) {
				ca.RestartTime = time.Second
				switch by {
				case "announced to this peer":
					ca.RestartTime, ca.Peers[0].RestartTime = 100*time.Second, time.Second
				case "configured":
					ca.RestartTime, cb.Peers[0].RestartTime = 100*time.Second, time.Second
				}
			})
			a.originate("10.1.0.0/26", "fd00:1::/122")
			eventually(t, "both", func() bool { return b.fibSize() == 2 })
			a.stop()
			start := time.Now()
			eventually(t, "swept", func() bool { return b.fibSize() == 0 })
			if d := time.Since(start); d < 900*time.Millisecond || d > 2*time.Second {
				t.Errorf("routes went after %v, want 1 s", d)
			}
		})
	}
}

// Switched off on either end, graceful restart is not offered there, and no route outlives the connection.
func TestB15_RestartOff(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"who ends", "who ends, to this peer", "who stays", "who stays, to this peer"} {
		t.Run(by, func(t *testing.T) {
			offers := [2]bool{true, true}
			a, b := pair(t, 64512, 64512, func(ca, cb *Config) {
				cfg, end := ca, 0
				if strings.HasPrefix(by, "who stays") {
					cfg, end = cb, 1
				}
				offers[end] = false
				if strings.HasSuffix(by, "to this peer") {
					cfg.Peers[0].RestartTime = TimerOff
				} else {
					cfg.RestartTime = TimerOff
				}
			})
			a.originate("10.1.0.0/26", "fd00:1::/122")
			eventually(t, "both", func() bool { return b.fibSize() == 2 })
			if got := [2]bool{b.peer(a.cfg.RouterID).GracefulRestart, a.peer(b.cfg.RouterID).GracefulRestart}; got != offers {
				t.Errorf("a and b offer %v, want %v", got, offers)
			}
			a.stop()
			start := time.Now()
			eventually(t, "gone", func() bool { return b.fibSize() == 0 })
			if d := time.Since(start); d > 2*time.Second {
				t.Errorf("routes went after %v", d)
			}
		})
	}
}

// Another restart time is told at once, over a new connection, and no route is gone for it,
// whether it is that of all peers or of one.
func TestB15_RestartTimeChanges(t *testing.T) {
	t.Parallel()
	for _, one := range []bool{false, true} {
		t.Run(fmt.Sprintf("of one peer=%v", one), func(t *testing.T) {
			a, b := pair(t, 64512, 64512, nil)
			a.originate("10.1.0.0/26", "fd00:1::/122")
			b.originate("10.2.0.0/26")
			eventually(t, "both", func() bool { return b.fibSize() == 2 && a.fibSize() == 1 })
			keptA, kept4, kept6 := always(a, "10.2.0.0/26"), always(b, "10.1.0.0/26"), always(b, "fd00:1::/122")
			if a.cfg.Peers = slices.Clone(a.cfg.Peers); one {
				a.cfg.Peers[0].RestartTime = 300 * time.Second
			} else {
				a.cfg.RestartTime = 300 * time.Second
			}
			if err := a.SetConfig(a.cfg); err != nil {
				t.Fatal(err)
			}
			eventually(t, "b is told", func() bool {
				st := b.peer(a.cfg.RouterID)
				return st.Established == 2 && st.Restart.PeerTime == 300 && len(st.EndOfRIB) == 2 && st.Stale == 0
			})
			eventually(t, "a is up", func() bool { st := a.peer(b.cfg.RouterID); return len(st.EndOfRIB) == 2 && st.Stale == 0 })
			if !keptA() || !kept4() || !kept6() {
				t.Error("a route was gone for a moment")
			}
			if err := a.SetConfig(a.cfg); err != nil { // the same again
				t.Fatal(err)
			}
			a.ask(func() {})
			if st := a.peer(b.cfg.RouterID); st.State != "Established" || st.Established != 2 {
				t.Errorf("the session did not stay: %+v", st)
			}
		})
	}
}

// A stale path loses against a fresh one, and is as good again once refreshed.
func TestB15_StaleLoses(t *testing.T) {
	x, y, z := freeAddr(t), freeAddr(t), freeAddr(t)
	nx := startNode(t, nodeConfig(64512, x, peerTo(z, 64512)), Options{})
	ny := startNode(t, nodeConfig(64512, y, peerTo(z, 64512)), Options{})
	nz := startNode(t, nodeConfig(64512, z, peerTo(x, 64512), peerTo(y, 64512)), Options{})
	nx.originate("10.7.7.7/32")
	ny.originate("10.7.7.7/32")
	nz.waitHops("10.7.7.7/32", x.String()+" "+y.String())
	nx.stop()
	nz.waitHops("10.7.7.7/32", y.String())
	nx = restartOf(t, nx, true)
	nx.originate("10.7.7.7/32")
	nz.waitHops("10.7.7.7/32", x.String()+" "+y.String())
}

// RFC 4724 section 4.1, End-of-RIB of a restarting speaker that passes on
// routes of an eBGP peer: it waits for that peer, so that nothing is swept at
// the iBGP peer; a peer that never comes is waited for no longer than the restart time.
func TestB15_RFC4724_4_1_EndOfRIBWaitsForOutside(t *testing.T) {
	t.Parallel()
	tor, mid, far := freeAddr(t), freeAddr(t), freeAddr(t)
	cm := nodeConfig(64512, mid, peerTo(tor, 65000), peerTo(far, 64512))
	cm.RestartTime = 3 * time.Second
	nt := startNode(t, nodeConfig(65000, tor, peerTo(mid, 64512)), Options{})
	nm := startNode(t, cm, Options{})
	nf := startNode(t, nodeConfig(64512, far, peerTo(mid, 64512)), Options{})
	nt.OriginationsComplete()
	nm.OriginationsComplete()
	nf.OriginationsComplete()
	nt.originate("192.0.2.0/24")
	nf.waitHops("192.0.2.0/24", mid.String())
	kept := always(nf, "192.0.2.0/24")
	nm.stop()
	nt.stop()
	nm = restartOf(t, nm, true)
	nm.OriginationsComplete()
	nf.waitUp(mid)
	nt = restartOf(t, nt, true)
	nt.originate("192.0.2.0/24")
	nt.OriginationsComplete()
	eventually(t, "End-of-RIB at the far end", func() bool {
		p := nf.peer(mid)
		return len(p.EndOfRIB) == 2 && p.Stale == 0 && p.Accepted == 1
	})
	if !kept() {
		t.Error("the route was gone for a moment")
	}

	// Now the outside peer never comes back.
	nm.stop()
	nt.stop()
	nm = restartOf(t, nm, true)
	start := time.Now()
	nm.OriginationsComplete()
	<-nm.Converged()
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("converged after %v, want the restart time of 3 s", d)
	}
	nf.waitHops("192.0.2.0/24", "")
}

// Two restart at once: neither has converged, and may forget what the other
// had announced before, until the other has said all it has to say.
func TestB15_BothRestart(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 64512, 64512, nil)
	a.stop()
	b.stop()
	a, b = restartOf(t, a, true), restartOf(t, b, true)
	a.originate("10.1.0.0/26")
	a.OriginationsComplete()
	eventually(t, "End-of-RIB of the first", func() bool { return len(b.peer(a.cfg.RouterID).EndOfRIB) == 2 })
	<-b.Converged()
	select {
	case <-a.Converged():
		t.Error("converged before the other said anything")
	case <-time.After(200 * time.Millisecond):
	}
	b.originate("10.2.0.0/26")
	b.OriginationsComplete()
	select {
	case <-a.Converged():
	case <-time.After(5 * time.Second):
		t.Error("does not converge")
	}
	if a.hops("10.2.0.0/26") == "" {
		t.Error("converged without the other's route")
	}
}

// Three in three ASes restart at once, each a neighbour of the others. Each would hold its
// End-of-RIB back until it has another's (section 4.1), and all of them until their restart
// time is over, if those that restart were waited for.
func TestB15_ThreeRestart(t *testing.T) {
	t.Parallel()
	addrs := []netip.Addr{freeAddr(t), freeAddr(t), freeAddr(t)}
	var nodes []*node
	for i, x := range addrs {
		var peers []PeerConfig
		for j, y := range addrs {
			if j != i {
				peers = append(peers, peerTo(y, 65001+uint32(j)))
			}
		}
		nodes = append(nodes, startNode(t, nodeConfig(65001+uint32(i), x, peers...), Options{}))
	}
	ended := func() bool {
		for i, n := range nodes {
			for j, y := range addrs {
				if i != j && len(n.peer(y).EndOfRIB) != 2 {
					return false
				}
			}
		}
		return true
	}
	for _, n := range nodes {
		n.OriginationsComplete()
	}
	eventually(t, "everybody has heard all", ended)
	for _, n := range nodes {
		n.stop()
	}
	for i, n := range nodes {
		nodes[i] = restartOf(t, n, true)
	}
	for _, n := range nodes {
		n.OriginationsComplete()
	}
	eventually(t, "everybody has heard all again", ended)
}

// RFC 4724 section 5: a peer whose end of the connection vanished silently opens a new one: routes
// stay, the old connection goes without NOTIFICATION.
func TestB15_RFC4724_5_NewConnection(t *testing.T) {
	t.Parallel()
	px := &proxy{}
	x, y := freeAddr(t), freeAddr(t)
	cx := nodeConfig(64512, x, peerTo(y, 64512))
	cy := nodeConfig(64512, y, peerTo(x, 64512))
	cy.Peers[0].Passive = true
	nx := startNode(t, cx, Options{Dial: px.dial})
	ny := startNode(t, cy, Options{})
	nx.originate("10.1.0.0/26")
	ny.waitHops("10.1.0.0/26", x.String())
	kept := always(ny, "10.1.0.0/26")
	// The first process is cut off rather than ended: its successor takes
	// its address over.
	px.silence(true)
	c := nx.cfg
	c.Listen = nil
	nx2 := startNode(t, c, Options{Restarting: true})
	nx2.originate("10.1.0.0/26")
	nx2.OriginationsComplete()
	eventually(t, "second session", func() bool { return ny.peer(x).Established == 2 && len(ny.peer(x).EndOfRIB) == 2 })
	if !kept() {
		t.Error("the route was gone for a moment")
	}
}

// B12: a peer that falls silent is given up at the hold time and its routes
// go at once, graceful restart or not.
func TestB12_RFC4271_8_HoldTimerExpires(t *testing.T) {
	t.Parallel()
	px := &proxy{}
	x, y := freeAddr(t), freeAddr(t)
	cx := nodeConfig(64512, x, peerTo(y, 64512))
	cy := nodeConfig(64512, y, peerTo(x, 64512))
	cx.Peers[0].HoldTime, cy.Peers[0].Passive = 3*time.Second, true
	nx := startNode(t, cx, Options{Dial: px.dial})
	ny := startNode(t, cy, Options{})
	nx.originate("10.1.0.0/26", "fd00:1::/122")
	ny.originate("10.2.0.0/26")
	eventually(t, "exchanged", func() bool { return ny.fibSize() == 2 && nx.fibSize() == 1 })
	if h := ny.peer(x).HoldTime; h != 3 {
		t.Fatalf("hold time %v, want the smaller of both, 3 s", h)
	}
	// The time is that after the last message, and not that after the beginning.
	eventually(t, "a KEEPALIVE beside the first", func() bool {
		return ny.peer(x).Messages.Received["keepalive"] > 1 && nx.peer(y).Messages.Received["keepalive"] > 1
	})
	px.silence(true)
	start := time.Now()
	eventually(t, "withdrawn on both ends", func() bool { return ny.fibSize() == 0 && nx.fibSize() == 0 })
	if d := time.Since(start); d < 1900*time.Millisecond || d > 4*time.Second {
		t.Errorf("routes went after %v, want 3 s ± 1 s", d)
	}
	px.silence(false)
	px.cut()
	eventually(t, "back", func() bool { return ny.fibSize() == 2 && nx.fibSize() == 1 })
}

// RFC 4271 section 6.8: both ends connect at the same time, again and again;
// in the end there is one session, and it stays. That it is the first one that
// came up cannot be promised: an end whose OPEN of the second connection is
// overtaken by its KEEPALIVE on the first may be Established where the other is
// just about to choose.
func TestB11_RFC4271_6_8_Collision(t *testing.T) {
	second := uint64(0)
	for i := range 20 {
		a, b := pair(t, 64512, uint32(64512+i%2), nil)
		a.originate("10.1.0.0/26")
		b.originate("fd00:2::/122")
		b.waitHops("10.1.0.0/26", a.cfg.NextHop4.String())
		a.waitHops("fd00:2::/122", b.cfg.NextHop6.String())
		// What is exchanged on the session shows that it is there. Where the other connection of the
		// collision comes late, on a busy machine, it may take the place of one that has carried routes already.
		a.originate("10.1.0.0/26", "10.1.0.64/26")
		b.waitHops("10.1.0.64/26", a.cfg.NextHop4.String())
		a.waitUp(b.cfg.RouterID)
		came := a.peer(b.cfg.RouterID).Established
		if came > 2 {
			t.Errorf("run %d: %d sessions came up, want 1", i, came)
		}
		second += came - 1
		a.stop()
		b.stop()
	}
	if second > 4 {
		t.Errorf("in %d of 20 runs a second session was needed", second)
	}
}

// A full mesh of ten comes up, converges and holds every route once.
func TestMesh_Converges(t *testing.T) {
	t.Parallel()
	const n = 10
	addrs := make([]netip.Addr, n)
	for i := range addrs {
		addrs[i] = freeAddr(t)
	}
	var nodes []*node
	for i, a := range addrs {
		var peers []PeerConfig
		for j, b := range addrs {
			if i != j {
				p := peerTo(b, 64512)
				p.Passive = a.String() < b.String() // as Calico's mesh has it
				peers = append(peers, p)
			}
		}
		nd := startNode(t, nodeConfig(64512, a, peers...), Options{})
		nd.Originate([]Origination{
			{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, byte(i), 0}), 26), LocalPref: 2147482623},
			{Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 5, 3: byte(i)}), 64), LocalPref: 2147482623},
		}, nil)
		nd.OriginationsComplete()
		nodes = append(nodes, nd)
	}
	for _, nd := range nodes {
		select {
		case <-nd.Converged():
		case <-time.After(10 * time.Second):
			t.Fatal("not converged")
		}
		eventually(t, "all routes", func() bool { return nd.fibSize() == 2*(n-1) })
		st := nd.Peers()
		if i := slices.IndexFunc(st, func(p PeerStatus) bool { return p.Accepted != 2 || p.Advertised != 2 }); i >= 0 {
			t.Errorf("%s: %+v", nd.cfg.RouterID, st[i])
		}
	}
}

// restart ends the connection without a NOTIFICATION, waits until all of the
// peer's routes are stale, and comes back with the R and F bits and a restart
// time.
func (r *rawPeer) restart(n *node, restartTime time.Duration) {
	r.t.Helper()
	if r.nc != nil {
		_ = r.nc.Close()
		eventually(r.t, "routes are stale", func() bool { p := n.peer(r.addr); return p.Stale > 0 && p.State != "Established" })
	}
	b, err := openParams{
		asn: 64512, id: r.addr, hold: 90 * time.Second, families: familySet{true, true},
		restarting: true, forwarding: true, restartTime: restartTime,
	}.marshal()
	if err != nil {
		r.t.Fatal(err)
	}
	r.connect(n)
	r.write(b)
	if typ, _ := r.read(); typ != msgOpen {
		r.t.Fatalf("message type %d instead of OPEN", typ)
	}
	r.write(keepaliveMessage())
	n.waitUp(r.addr)
}

// RFC 4724 section 4.2: a second restart before the End-of-RIB of the first
// drops what is still stale from before, and keeps what was announced since.
func TestB15_RFC4724_4_2_SecondRestart(t *testing.T) {
	t.Parallel()
	n, r := rawTarget(t, 64512, Options{})
	r.restart(n, 100*time.Second)
	r.write(upd(nil, cat(goodAttrs(false)...), nlri("10.60.0.0/24", "10.61.0.0/24")))
	n.waitHops("10.61.0.0/24", "10.0.0.9")
	r.restart(n, 100*time.Second)
	r.write(upd(nil, cat(goodAttrs(false)...), nlri("10.60.0.0/24")))
	eventually(t, "one is refreshed", func() bool { return n.peer(r.addr).Stale == 1 })
	if n.hops("10.61.0.0/24") == "" {
		t.Fatal("the first restart dropped a route")
	}
	kept := always(n, "10.60.0.0/24")
	r.restart(n, 100*time.Second)
	// Well before the hold time, which would drop everything.
	within(t, 4*time.Second, "what was stale already is dropped", func() bool { return n.hops("10.61.0.0/24") == "" })
	if !kept() {
		t.Error("a route announced since the first restart was gone for a moment")
	}
}

// RFC 4724 section 4.2: a peer that comes back and never sends End-of-RIB
// keeps its stale routes no longer than the restart time.
func TestB15_RFC4724_4_2_NoEndOfRIB(t *testing.T) {
	t.Parallel()
	n, r := rawTarget(t, 64512, Options{})
	r.restart(n, 2*time.Second)
	r.write(upd(nil, cat(goodAttrs(false)...), nlri("10.60.0.0/24", "10.61.0.0/24")))
	n.waitHops("10.61.0.0/24", "10.0.0.9")
	r.restart(n, 2*time.Second)
	start := time.Now()
	r.write(upd(nil, cat(goodAttrs(false)...), nlri("10.60.0.0/24")))
	kept := always(n, "10.60.0.0/24")
	within(t, 5*time.Second, "the stale route is swept", func() bool { return n.hops("10.61.0.0/24") == "" })
	if d := time.Since(start); d < 1500*time.Millisecond {
		t.Errorf("swept after %v, want 2 s", d)
	}
	if p := n.peer(r.addr); !kept() || p.State != "Established" || p.Established != 2 || p.Stale != 0 {
		t.Errorf("10.60.0.0/24 or the session was touched: %+v", p)
	}
}
