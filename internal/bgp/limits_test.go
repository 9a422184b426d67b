// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// B07: a peer that stops reading is dropped by the send-hold timer although its
// KEEPALIVEs come, its queue stays bounded, and others notice nothing.
func TestB07_RFC9687_StuckReader(t *testing.T) {
	t.Parallel()
	us, stuck, fine := freeAddr(t), freeAddr(t), freeAddr(t)
	ps := peerTo(stuck, 64512)
	ps.HoldTime, ps.SendHold, ps.Passive = 3*time.Second, 4*time.Second, true
	n := startNode(t, nodeConfig(64512, us, ps, peerTo(fine, 64512)), Options{})
	nf := startNode(t, nodeConfig(64512, fine, peerTo(us, 64512)), Options{})
	nf.waitUp(us)
	r := &rawPeer{t: t, addr: stuck}
	r.connect(n)
	_ = r.nc.(*net.TCPConn).SetReadBuffer(4096)
	r.write(rawOpen(64512, stuck))
	r.write(keepaliveMessage())
	n.waitUp(stuck)

	stop, alive := make(chan struct{}), make(chan struct{})
	go func() { // it keeps talking, but never reads
		defer close(alive)
		for {
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Millisecond):
				r.write(keepaliveMessage())
			}
		}
	}()
	start := time.Now()
	var round byte
	queued := 0
	var sent uint64
	for {
		st := n.peer(stuck)
		if st.State != "Established" {
			break
		}
		if st.MessagesOut != sent { // until the buffers of the kernel are full, nothing is stuck
			sent, start = st.MessagesOut, time.Now()
		}
		// 20,000 routes, changing all the time.
		var add []Origination
		for i := range 20000 {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], 10<<24+uint32(i)*16)
			add = append(add, Origination{Prefix: netip.PrefixFrom(netip.AddrFrom4(b), 32), LocalPref: 1 + uint32(round)})
		}
		n.Originate(add, nil)
		round++
		n.ask(func() {
			for _, p := range n.Speaker.peers {
				if p.cfg.Addr.Addr() == stuck && p.est != nil {
					p.est.mu.Lock()
					queued = max(queued, p.est.queued)
					p.est.mu.Unlock()
				}
			}
		})
		if time.Since(start) > 8*time.Second {
			t.Fatal("the stuck peer is still there")
		}
		time.Sleep(20 * time.Millisecond)
	}
	close(stop)
	<-alive
	if d := time.Since(start); d > 6*time.Second {
		t.Errorf("dropped after %v, want 4 s", d)
	}
	if why := n.peer(stuck).LastError; !strings.Contains(why, "send hold timer expired (8/0)") {
		t.Errorf("the reason is %q", why)
	}
	if queued > 2<<20 {
		t.Errorf("%d octets were queued", queued)
	}
	eventually(t, "the other peer has everything", func() bool { return nf.fibSize() == 20000 })
	if nf.peer(us).Established != 1 {
		t.Error("the other session was reset")
	}
	t.Logf("queue at most %d octets, dropped after %v", queued, time.Since(start).Round(time.Millisecond))
}

// B11: connections from unknown addresses are closed without a word; of those
// of a known one at most one waits, and none longer than the open timeout.
func TestB11_HalfOpen(t *testing.T) {
	n, r := rawTarget(t, 64512, Options{OpenTimeout: time.Second})
	r.connect(n)
	stranger := &rawPeer{t: t, addr: freeAddr(t)}
	stranger.connect(n)
	if typ, _ := stranger.read(); typ != 0 {
		t.Errorf("a stranger was sent a message of type %d", typ)
	}
	before := runtime.NumGoroutine()
	var conns []net.Conn
	for range 200 {
		nc, err := defaultDial(context.Background(), r.addr, addrPort(n.cfg.RouterID))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, nc)
	}
	eventually(t, "one waits", func() bool {
		pending := 0
		n.ask(func() { pending = n.accepted })
		return pending == 1
	})
	if code, _ := r.readNote(); code != 6 {
		t.Errorf("the first connection got code %d, want Cease", code)
	}
	eventually(t, "none waits after the open timeout", func() bool {
		pending := 1
		n.ask(func() { pending = n.accepted })
		return pending == 0
	})
	for _, nc := range conns {
		_ = nc.Close()
	}
	eventually(t, "goroutines are gone", func() bool { return runtime.NumGoroutine() <= before+2 })
	r2 := &rawPeer{t: t, addr: r.addr}
	r2.establish(n, 64512)
}

// B10: a peer that comes up and fails again is damped, while one whose
// connection only broke is tried again at once.
func TestB10_Damping(t *testing.T) {
	s := New(Options{})
	s.ctx = context.Background()
	wait := func(p *peer) time.Duration {
		p.retry.stop()
		p.connectLater()
		if !p.retry.armed() {
			t.Fatal("not armed")
		}
		return p.retryIn
	}
	p := &peer{s: s}
	p.lose(true, false)
	if d := wait(p); d > 400*time.Millisecond {
		t.Errorf("after a broken connection: %v", d)
	}
	for range 10 {
		p.lose(true, false)
	}
	if d := wait(p); d < 2*time.Second || d > 5*time.Second {
		t.Errorf("after many: %v, want 2 to 5 s", d)
	}
	for range 10 {
		p.lose(false, false)
	}
	if d := wait(p); d < 30*time.Second || d > 2*time.Minute {
		t.Errorf("after ten errors: %v", d)
	}
	p.lose(true, true)
	if d := wait(p); d > 400*time.Millisecond {
		t.Errorf("after a long session: %v", d)
	}
	p.retry.stop()
}

// Ending Run leaves nothing behind.
func TestRun_EndsAll(t *testing.T) {
	before := runtime.NumGoroutine()
	a, b := pair(t, 64512, 64512, nil)
	a.waitUp(b.cfg.RouterID)
	a.stop()
	b.stop()
	eventually(t, "goroutines are gone", func() bool { return runtime.NumGoroutine() <= before })
	if err := a.Run(context.Background()); err == nil {
		t.Error("Run can be called twice")
	}
	if p := a.Peers(); p != nil {
		t.Errorf("peers after the end: %v", p)
	}
}

// B11: with a hold time of 0 a session is never given up for silence, but a
// connection that does not become one is: it would keep others out for good.
func TestB11_HoldTimeZeroAndNoKeepalive(t *testing.T) {
	t.Parallel()
	n, r := rawTarget(t, 64512, Options{OpenTimeout: 500 * time.Millisecond})
	open, err := openParams{asn: 64512, id: r.addr, families: familySet{true, true}}.marshal()
	if err != nil {
		t.Fatal(err)
	}
	r.connect(n)
	r.write(open)
	if code, sub := r.readNote(); code != codeHold || sub != 0 {
		t.Errorf("NOTIFICATION %d/%d, want %d/0; %s", code, sub, codeHold, n.peer(r.addr).State)
	}
	r.connect(n)
	r.write(cat(open, keepaliveMessage()))
	n.waitUp(r.addr)
	time.Sleep(time.Second) // twice the time that it had
	if p := n.peer(r.addr); p.State != "Established" || p.HoldTime != 0 {
		t.Errorf("%+v", p)
	}
}

// B11: whoever may connect, and does so as fast as he can, costs no more than a few
// connections at a time, whether he says nothing or nonsense.
func TestB11_Flood(t *testing.T) {
	for _, says := range []string{"", "nonsense"} {
		n, r := rawTarget(t, 64512, Options{})
		r.connect(n)
		before, most := runtime.NumGoroutine(), 0
		var conns []net.Conn
		for range 1000 {
			nc, err := defaultDial(context.Background(), r.addr, addrPort(n.cfg.RouterID))
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, nc)
			_, _ = nc.Write([]byte(strings.Repeat(says, 10)))
			most = max(most, runtime.NumGoroutine())
		}
		// Two goroutines each: those that wait, those that end, and some that have not noticed.
		if more := most - before; more > 128 {
			t.Errorf("%q: %d goroutines more than before", says, more)
		}
		for _, nc := range conns {
			_ = nc.Close()
		}
		r2 := &rawPeer{t: t, addr: r.addr}
		r2.establish(n, 64512)
	}
}
