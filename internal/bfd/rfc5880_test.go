// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// The tests walk RFC 5880; each names its section.

// 6.2: the three-way handshake, and what each end says on the way.
func TestRFC5880_6_2_Handshake(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *wire) {
		w.a.set(w.a.config())
		w.run(3 * time.Second)
		w.a.want(Down) // nobody there
		w.b.set(w.b.config())
		w.run(3 * time.Second)
		a, b := w.a.want(Up), w.b.want(Up)
		if a.RemoteDiscriminator != b.Discriminator || b.RemoteDiscriminator != a.Discriminator {
			t.Errorf("discriminators: a %d knows %d, b %d knows %d", a.Discriminator, a.RemoteDiscriminator, b.Discriminator, b.RemoteDiscriminator)
		}
		if a.Failures+b.Failures != 0 || a.Ups != 1 || b.Ups != 1 || !a.Independent {
			t.Errorf("a: %+v\nb: %+v", a, b)
		}
		var said []State
		for _, p := range w.b.sent {
			if len(said) == 0 || said[len(said)-1] != p.state {
				said = append(said, p.state)
			}
		}
		if !slices.Equal(said, []State{Init, Up}) && !slices.Equal(said, []State{Down, Init, Up}) && !slices.Equal(said, []State{Down, Up}) {
			t.Errorf("b said %v", said)
		}
	})
}

// 6.2, 6.8.6: every pair of states, by the RFC's own table.
func TestRFC5880_6_8_6_StateMachine(t *testing.T) {
	next := map[State]map[State]State{
		Down: {AdminDown: Down, Down: Init, Init: Up, Up: Down},
		Init: {AdminDown: Down, Down: Init, Init: Up, Up: Up},
		Up:   {AdminDown: Down, Down: Down, Init: Up, Up: Up},
	}
	for local, row := range next {
		for heard, want := range row {
			w := newWire(t, families["v6"])
			w.a.set(w.a.config())
			discr := w.a.status().Discriminator
			bring := map[State][]State{Down: nil, Init: {Down}, Up: {Init}}
			for _, s := range bring[local] {
				if err := w.a.hear(plain(s, discr)); err != nil {
					t.Fatal(err)
				}
			}
			w.a.want(local)
			if err := w.a.hear(plain(heard, discr)); err != nil {
				t.Fatal(err)
			}
			st := w.a.status()
			if st.State != want.String() {
				t.Errorf("in %s, heard %s: %s, want %s", local, heard, st.State, want)
			}
			if left := local == Up && want == Down; left && st.Diag != "neighbor signaled session down" || left && (st.Failures == 1) != (heard == Down) {
				t.Errorf("in %s, heard %s: diagnostic %q, %d failures: only a neighbour that fell is one", local, heard, st.Diag, st.Failures)
			}
		}
	}
}

// 6.8.3: not more often than once a second while the session is not Up.
func TestRFC5880_6_8_3_SlowUntilUp(t *testing.T) {
	w := newWire(t, families["v4"])
	w.a.set(w.a.config())
	w.run(time.Minute)
	for i, p := range w.a.sent {
		if p.minTx != 1e6 || p.minRx != 3e5 {
			t.Fatalf("says %v", p)
		}
		if i > 0 && p.at.Sub(w.a.sent[i-1].at) < 750*time.Millisecond {
			t.Fatalf("%v after the packet before", p.at.Sub(w.a.sent[i-1].at))
		}
	}
	if n := len(w.a.sent); n < 60 || n > 81 {
		t.Errorf("%d packets in a minute", n)
	}
}

// 6.8.3, 6.5: going up, the faster interval is told by a poll and answered by a final.
func TestRFC5880_6_5_PollOnUp(t *testing.T) {
	w := newWire(t, families["v4"])
	w.a.set(w.a.config())
	w.b.set(w.b.config())
	w.run(5 * time.Second)
	for _, e := range []*end{w.a, w.b} {
		polls, finals := 0, 0
		for _, p := range e.sent {
			if p.poll && p.final {
				t.Errorf("%s: poll and final in one packet", e.name)
			}
			if p.poll {
				polls++
			}
			if p.final {
				finals++
			}
		}
		if polls == 0 || finals == 0 || e.last().poll {
			t.Errorf("%s: %d polls, %d finals, the last packet polls: %v", e.name, polls, finals, e.last().poll)
		}
		st := e.status()
		if st.Transmit != 300*time.Millisecond || st.Detect != 900*time.Millisecond {
			t.Errorf("%s: transmits every %v, detects in %v", e.name, st.Transmit, st.Detect)
		}
	}
}

// 6.8.3: a slower transmission and a quicker detection wait for the end of the
// poll; what goes the safe way is used at once.
func TestRFC5880_6_8_3_ChangeWhileUp(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *wire) {
		w.up(w.a.config(), w.b.config())
		w.b.cut = true // no final comes back
		slow := w.a.config()
		slow.Interval = 2 * time.Second
		w.a.set(slow)
		if st := w.a.status(); st.Transmit != 300*time.Millisecond || st.Detect != 6*time.Second {
			t.Errorf("before the final: transmits every %v, detects in %v; want 300ms and the longer 6s at once", st.Transmit, st.Detect)
		}
		if p := w.a.last(); !p.poll || p.minTx != 2e6 {
			t.Errorf("says %v", p)
		}
		w.b.cut = false
		w.run(time.Second)
		if st := w.a.want(Up); st.Transmit != 2*time.Second {
			t.Errorf("after the final: transmits every %v", st.Transmit)
		}
		w.run(30 * time.Second)
		w.b.want(Up)
		// And back: now detection must not shrink before the neighbour knows.
		w.b.cut = true
		w.a.set(w.a.config())
		if st := w.a.status(); st.Transmit != 300*time.Millisecond || st.Detect != 6*time.Second {
			t.Errorf("before the final: transmits every %v, detects in %v; want 300ms at once and still 6s", st.Transmit, st.Detect)
		}
		w.b.cut = false
		w.run(5 * time.Second)
		if st := w.a.want(Up); st.Detect != 900*time.Millisecond || st.Failures != 0 {
			t.Errorf("after the final: %+v", st)
		}
	})
}

// 6.8.4: the detection time is the neighbour's multiplier times the agreed
// interval, and ends the session with diagnostic 1.
func TestRFC5880_6_8_4_Detection(t *testing.T) {
	for _, c := range []struct {
		a, b       time.Duration // intervals
		multB      uint8
		wantDetect time.Duration // at a
	}{
		{300 * time.Millisecond, 300 * time.Millisecond, 3, 900 * time.Millisecond},
		{100 * time.Millisecond, 100 * time.Millisecond, 3, 300 * time.Millisecond},
		{50 * time.Millisecond, 200 * time.Millisecond, 5, time.Second},
		{time.Second, 10 * time.Millisecond, 2, 2 * time.Second},
	} {
		for _, fam := range families {
			w := newWire(t, fam)
			ca, cb := w.a.config(), w.b.config()
			ca.Interval, cb.Interval, cb.Multiplier = c.a, c.b, c.multB
			w.up(ca, cb)
			w.run(20 * time.Second)
			if st := w.a.want(Up); st.Detect != c.wantDetect || st.Failures != 0 {
				t.Fatalf("%v, %v × %d: %+v", c.a, c.b, c.multB, st)
			}
			w.b.cut = true
			w.run(2 * time.Millisecond) // what was under way arrives
			lastHeard := w.now
			w.run(c.wantDetect + time.Millisecond)
			st := w.a.want(Down)
			if st.Diag != "control detection time expired" || st.Failures != 1 || st.Since.Sub(lastHeard) > c.wantDetect {
				t.Errorf("%v, %v × %d: %+v", c.a, c.b, c.multB, st)
			}
			if st.RemoteDiscriminator != 0 { // 6.8.1
				t.Errorf("the neighbour's discriminator is still %d", st.RemoteDiscriminator)
			}
			// The neighbour hears it from us, at once: 6.8.7.
			w.run(5 * time.Millisecond)
			if st := w.b.want(Down); st.Diag != "neighbor signaled session down" || st.Failures != 1 {
				t.Errorf("b: %+v", st)
			}
			w.b.cut = false
			w.run(5 * time.Second)
			w.a.want(Up)
			w.b.want(Up)
		}
	}
}

// 6.8.6: what makes a packet void.
func TestRFC5880_6_8_6_Discards(t *testing.T) {
	w := newWire(t, families["v4"])
	w.up(w.a.config(), w.b.config())
	discr := w.a.status().Discriminator
	ok := plain(Up, discr)
	ok.minTx = 3e5
	arrival := func(change func(*Arrival, []byte)) Arrival {
		a := Arrival{Src: w.b.addr, Dst: w.a.addr, TTL: 255, Packet: ok.encode(nil)}
		if change != nil {
			change(&a, a.Packet)
		}
		return a
	}
	for _, c := range []struct {
		name   string
		change func(*Arrival, []byte)
		want   error
	}{
		{"valid", nil, nil},
		{"version 0", func(_ *Arrival, b []byte) { b[0] &= 0x1f }, errVersion},
		{"version 2", func(_ *Arrival, b []byte) { b[0] = 2 << 5 }, errVersion},
		{"length below 24", func(_ *Arrival, b []byte) { b[3] = 23 }, errLength},
		{"length beyond the payload", func(_ *Arrival, b []byte) { b[3] = 25 }, errLength},
		{"A bit with length 24", func(_ *Arrival, b []byte) { b[1] |= flagAuth }, errLength},
		{"cut short", func(a *Arrival, b []byte) { a.Packet = b[:23] }, errLength},
		{"detect mult 0", func(_ *Arrival, b []byte) { b[2] = 0 }, errMult},
		{"multipoint", func(_ *Arrival, b []byte) { b[1] |= flagMultipoint }, errMultipoint},
		{"my discriminator 0", func(_ *Arrival, b []byte) { clear(b[4:8]) }, errMy},
		{"your discriminator 0 in Up", func(_ *Arrival, b []byte) { clear(b[8:12]) }, errYour},
		{"your discriminator of nobody", func(_ *Arrival, b []byte) { b[8] ^= 1 }, errNoSession},
		{"octets behind the packet", func(a *Arrival, b []byte) { a.Packet = append(b, 1, 2, 3) }, nil},
		{"from somebody else", func(a *Arrival, _ []byte) { a.Src = a.Src.Next() }, errSource},
		{"to another address", func(a *Arrival, _ []byte) { a.Dst = a.Dst.Prev() }, errDest},
		{"to the other port", func(a *Arrival, _ []byte) { a.Multihop = true }, errSource},
		{"authentication that nobody asked for", func(a *Arrival, b []byte) {
			a.Packet = (&authState{Auth: Auth{Type: AuthSHA1, Key: []byte("k")}}).seal(b)
		}, errAuthUnasked},
	} {
		before := w.a.status()
		if err := w.a.Receive(w.now, arrival(c.change)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		after := w.a.status()
		if got := after.PacketsIn - before.PacketsIn; (c.want == nil) != (got == 1) {
			t.Errorf("%s: %d packets count as received", c.name, got)
		}
	}
	// None of the void ones puts the detection time off.
	w.b.cut = true
	w.run(5 * time.Millisecond)
	for range 12 {
		w.run(100 * time.Millisecond)
		_ = w.a.Receive(w.now, arrival(func(a *Arrival, _ []byte) { a.TTL = 254 }))
	}
	w.a.want(Down)
}

// 6.8.7: jitter between 0 and 25 %, and at least 10 % with a multiplier of 1.
func TestRFC5880_6_8_7_Jitter(t *testing.T) {
	for _, c := range []struct {
		mult   uint8
		lo, hi time.Duration
	}{{3, 225 * time.Millisecond, 300 * time.Millisecond}, {1, 225 * time.Millisecond, 270 * time.Millisecond}} {
		w := newWire(t, families["v6"])
		ca := w.a.config()
		ca.Multiplier = c.mult
		w.up(ca, w.b.config())
		w.run(200 * time.Second)
		lo, hi := time.Hour, time.Duration(0)
		for i := 1; i < len(w.a.sent); i++ {
			d := w.a.sent[i].at.Sub(w.a.sent[i-1].at)
			lo, hi = min(lo, d), max(hi, d)
		}
		if lo < c.lo || hi > c.hi || hi-lo < (c.hi-c.lo)*9/10 {
			t.Errorf("multiplier %d: intervals %v to %v, want them all over %v to %v", c.mult, lo, hi, c.lo, c.hi)
		}
		if st := w.b.want(Up); st.Failures != 0 {
			t.Errorf("multiplier %d: %d failures", c.mult, st.Failures)
		}
	}
}

// 6.8.7: what a neighbour is not ready to receive is not sent.
func TestRFC5880_6_8_7_NeighborsPace(t *testing.T) {
	w := newWire(t, families["v4"])
	slow := w.b.config()
	slow.Interval = 2 * time.Second
	w.up(w.a.config(), slow)
	if st := w.a.status(); st.Transmit != 2*time.Second {
		t.Errorf("transmits every %v to a neighbour that takes one in 2s", st.Transmit)
	}
	p := plain(Up, w.a.status().Discriminator)
	p.minRx, p.minTx = 0, 60e6
	if err := w.a.hear(p); err != nil {
		t.Fatal(err)
	}
	w.b.cut = true
	w.a.sent = nil
	w.run(30 * time.Second)
	if len(w.a.sent) > 1 { // one was under way
		t.Errorf("%d packets to a neighbour that wants none", len(w.a.sent))
	}
}

// 6.6: a neighbour in demand mode is not sent to, and is answered.
func TestRFC5880_6_6_NeighborDemand(t *testing.T) {
	w := newWire(t, families["v4"])
	w.up(w.a.config(), w.b.config())
	w.b.cut = true
	p := plain(Up, w.a.status().Discriminator)
	p.demand, p.minTx = true, 60e6
	if err := w.a.hear(p); err != nil {
		t.Fatal(err)
	}
	w.a.sent = nil
	w.run(10 * time.Second)
	if len(w.a.sent) > 1 {
		t.Errorf("%d packets to a neighbour in demand mode", len(w.a.sent))
	}
	p.poll = true
	w.a.sent = nil
	if err := w.a.hear(p); err != nil || len(w.a.sent) != 1 || !w.a.last().final {
		t.Errorf("poll: %v, answered by %v", err, w.a.sent)
	}
}

// 6.1: the passive end is silent until it hears something.
func TestRFC5880_6_1_Passive(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *wire) {
		passive := w.a.config()
		passive.Passive = true
		w.a.set(passive)
		w.run(10 * time.Second)
		if len(w.a.sent) != 0 {
			t.Fatalf("the passive end spoke first: %v", w.a.sent)
		}
		w.b.set(w.b.config())
		w.run(5 * time.Second)
		w.a.want(Up)
		w.b.cut = true
		w.run(5 * time.Second)
		w.a.want(Down)
		w.a.sent = nil
		w.run(10 * time.Second)
		if len(w.a.sent) != 0 {
			t.Errorf("the passive end looks for a neighbour that is gone: %v", w.a.sent)
		}
	})
}

// 6.8.16: a session that is removed says AdminDown until it is heard, and the
// neighbour goes down without taking it for a failure (RFC 5882 section 3.2).
func TestRFC5880_6_8_16_AdminDown(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *wire) {
		w.up(w.a.config(), w.b.config())
		w.a.set()
		if p := w.a.last(); p.state != AdminDown || p.diag != DiagAdministratively {
			t.Errorf("says %v", p)
		}
		if len(w.a.Sessions()) != 0 || w.a.Empty() {
			t.Error("a session that leaves is not listed, and is there")
		}
		w.run(100 * time.Millisecond)
		if st := w.b.want(Down); st.Failures != 0 || st.RemoteState != "AdminDown" || st.RemoteDiag != "administratively down" {
			t.Errorf("b: %+v", st)
		}
		w.run(2 * time.Second)
		if !w.a.Empty() {
			t.Error("the session is still there after the neighbour heard")
		}
		// A neighbour that hears nothing is not waited for longer than it takes to notice.
		w.a.set(w.a.config())
		w.run(5 * time.Second)
		w.b.want(Up)
		w.b.cut = true
		w.a.set()
		w.run(910 * time.Millisecond)
		if !w.a.Empty() {
			t.Error("the session is still there after the neighbour's detection time")
		}
		if _, more := w.a.Next(); more {
			t.Error("something is still due")
		}
	})
}

// A session that is wanted again while it leaves comes up again.
func TestWantedAgain(t *testing.T) {
	w := newWire(t, families["v6"])
	w.up(w.a.config(), w.b.config())
	w.a.set()
	w.a.set(w.a.config())
	w.run(5 * time.Second)
	w.a.want(Up)
	if st := w.b.want(Up); st.Failures != 0 {
		t.Errorf("%+v", st)
	}
}

// 6.8.1: a neighbour that starts over has another discriminator; the session
// goes down and comes up with it.
func TestRFC5880_6_8_1_NeighborRestarts(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *wire) {
		w.up(w.a.config(), w.b.config())
		old := w.b.status().Discriminator
		w.b.Engine = w.end("b", w.b.addr, 99).Engine
		w.b.set(w.b.config())
		w.run(10 * time.Second)
		if st := w.a.want(Up); st.RemoteDiscriminator == old || st.Failures != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// 6.7: every kind of authentication, with the right and the wrong key.
func TestRFC5880_6_7_Authentication(t *testing.T) {
	for typ := AuthNone; typ <= AuthMeticulousSHA1; typ++ {
		for _, c := range []struct {
			name   string
			change func(*Auth)
			want   error
		}{
			{"right", func(*Auth) {}, nil},
			{"wrong key", func(a *Auth) { a.Key = []byte("Key") }, errAuthKey},
			{"wrong key ID", func(a *Auth) { a.ID++ }, errAuthKind},
			{"other type", func(a *Auth) { a.Type = a.Type%AuthMeticulousSHA1 + 1 }, errAuthKind},
			{"none", func(a *Auth) { *a = Auth{} }, errAuthMissing},
		} {
			if typ == AuthNone && c.want != nil {
				continue
			}
			t.Run(fmt.Sprint(typ, "/", c.name), func(t *testing.T) {
				eachFamily(t, func(t *testing.T, w *wire) {
					ca, cb := w.a.config(), w.b.config()
					if typ != AuthNone {
						ca.Auth = Auth{Type: typ, ID: 7, Key: []byte("key")}
						cb.Auth = ca.Auth
						c.change(&cb.Auth)
					}
					w.a.set(ca)
					w.b.set(cb)
					w.run(20 * time.Second)
					if c.want == nil {
						if st := w.a.want(Up); st.Failures != 0 || st.Discarded != 0 {
							t.Errorf("%+v", st)
						}
						return
					}
					if st := w.a.want(Down); st.LastDiscard != c.want.Error() {
						t.Errorf("last discard %q, want %q", st.LastDiscard, c.want)
					}
				})
			})
		}
	}
}

// 6.7.3, 6.7.4: sequence numbers. A packet that was heard is not taken again
// by the meticulous kinds; an old one is taken by none; after twice
// the detection time of silence a neighbour may start over.
func TestRFC5880_6_7_3_Replay(t *testing.T) {
	for _, typ := range []AuthType{AuthMD5, AuthMeticulousMD5, AuthSHA1, AuthMeticulousSHA1} {
		w := newWire(t, families["v4"])
		ca, cb := w.a.config(), w.b.config()
		ca.Auth = Auth{Type: typ, ID: 1, Key: []byte("sixteen octets !")}
		cb.Auth = ca.Auth
		w.up(ca, cb)
		w.run(3 * time.Second)
		replay := func(i int) error {
			return w.a.Receive(w.now, Arrival{Src: w.b.addr, Dst: w.a.addr, TTL: 255, Packet: w.b.sent[i].raw})
		}
		last := len(w.b.sent) - 1
		meticulous := typ == AuthMeticulousMD5 || typ == AuthMeticulousSHA1
		if err := replay(last); (err != nil) != meticulous {
			t.Errorf("%v: the last packet again: %v", typ, err)
		}
		if err := replay(0); !errors.Is(err, errAuthSequence) {
			t.Errorf("%v: an old packet: %v", typ, err)
		}
		old := w.b.sent[0].raw
		w.b.cut = true
		w.run(10 * time.Second)
		w.a.want(Down)
		w.b.Engine = w.end("b", w.b.addr, 5).Engine // with other sequence numbers
		w.b.cut = false
		w.b.set(cb)
		w.run(5 * time.Second)
		w.a.want(Up)
		if err := w.a.Receive(w.now, Arrival{Src: w.b.addr, Dst: w.a.addr, TTL: 255, Packet: old}); err == nil {
			t.Errorf("%v: a packet of the neighbour's earlier life is taken", typ)
		}
	}
}

// 6.7.3: the sequence number is a circle.
func TestRFC5880_6_7_3_SequenceWraps(t *testing.T) {
	w := newWire(t, families["v4"])
	ca, cb := w.a.config(), w.b.config()
	ca.Auth = Auth{Type: AuthMeticulousSHA1, Key: []byte("k")}
	cb.Auth = ca.Auth
	w.b.set(cb)
	for _, s := range w.b.byDiscr {
		s.auth.xmit = 1<<32 - 20
	}
	w.a.set(ca)
	w.run(30 * time.Second)
	if st := w.a.want(Up); st.Failures != 0 || st.Discarded != 0 {
		t.Errorf("%+v", st)
	}
	for _, s := range w.b.byDiscr {
		if s.auth.xmit > 1<<31 {
			t.Errorf("the number is %d: nothing wrapped", s.auth.xmit)
		}
	}
}

// A change of the key on both ends within the detection time loses nothing.
func TestKeyChangesLive(t *testing.T) {
	w := newWire(t, families["v6"])
	ca, cb := w.a.config(), w.b.config()
	w.up(ca, cb)
	ca.Auth = Auth{Type: AuthMeticulousSHA1, ID: 2, Key: []byte("new")}
	cb.Auth = ca.Auth
	w.a.set(ca)
	w.run(400 * time.Millisecond)
	w.b.set(cb)
	w.run(10 * time.Second)
	if a, b := w.a.want(Up), w.b.want(Up); a.Failures+b.Failures != 0 || a.Auth != "meticulous-sha1, key 2" {
		t.Errorf("%+v\n%+v", a, b)
	}
}

// RFC 5881 section 5: over one hop nothing is taken that was forwarded, with
// authentication or without.
func TestRFC5881_5_TTL(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *wire) {
		w.b.ttl = 254
		w.a.set(w.a.config())
		w.b.set(w.b.config())
		w.run(10 * time.Second)
		if st := w.a.want(Down); st.LastDiscard != errTTL.Error() || st.PacketsIn != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// RFC 5883: over several hops the TTL says nothing unless it is asked to, and
// the session is not that over one hop.
func TestRFC5883_Multihop(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *wire) {
		w.a.ttl, w.b.ttl = 250, 250
		ca, cb := w.a.config(), w.b.config()
		ca.Multihop, cb.Multihop = true, true
		w.up(ca, cb)
		ca.MinTTL = 251
		w.a.set(ca)
		w.run(5 * time.Second)
		if st := w.a.want(Down); st.LastDiscard != errTTL.Error() {
			t.Errorf("%+v", st)
		}
		ca.MinTTL = 250
		w.a.set(ca)
		w.run(5 * time.Second)
		w.a.want(Up)
		single := w.a.config()
		w.a.set(single)
		w.run(10 * time.Second)
		w.a.want(Down)
	})
}

// What cannot be is named, and does not stand in the way of the rest.
func TestSetRefuses(t *testing.T) {
	w := newWire(t, families["v4"])
	good, twice, slow, bad := w.a.config(), w.a.config(), w.a.config(), w.a.config()
	twice.Name, twice.Local = "twice", w.a.addr.Prev()
	slow.Name, slow.Interval, slow.Peer = "slow", time.Hour, w.b.addr.Next()
	bad.Name, bad.Auth, bad.Peer = "bad", Auth{Type: AuthSHA1, Key: []byte("longer than twenty octets")}, w.b.addr.Next().Next()
	err := w.a.Set(w.now, []Config{good, twice, slow, bad})
	for _, name := range []string{"twice", "slow", "bad"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "longer than") {
		t.Errorf("the error shows the key: %v", err)
	}
	if st := w.a.status(); st.Name != "to-b" {
		t.Errorf("%+v", st)
	}
}

// The key of a session never leaves it in words.
func TestKeyIsNeverPrinted(t *testing.T) {
	a := Auth{Type: AuthSHA1, ID: 1, Key: []byte("hunter2")}
	c := Config{Auth: a}
	for _, text := range []string{fmt.Sprint(a), fmt.Sprintf("%+v", a), fmt.Sprintf("%#v", a), fmt.Sprintf("%v", c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c)} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "104 117") || strings.Contains(text, "0x68") {
			t.Errorf("printed: %s", text)
		}
	}
}

// A poll while another is under way, and a final that was not asked for.
func TestRFC5880_6_5_Finals(t *testing.T) {
	w := newWire(t, families["v4"])
	w.up(w.a.config(), w.b.config())
	p := plain(Up, w.a.status().Discriminator)
	p.final = true
	if err := w.a.hear(p); err != nil {
		t.Fatal(err)
	}
	p.final, p.poll = false, true
	fast := w.a.config()
	fast.Interval = 100 * time.Millisecond
	w.a.set(fast)
	w.a.sent = nil
	if err := w.a.hear(p); err != nil {
		t.Fatal(err)
	}
	if got := w.a.last(); !got.final || got.poll {
		t.Errorf("a poll is answered by %v", got)
	}
}
