// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// wire is two engines, a and b, a cable between them and a clock of its own.
type wire struct {
	t    *testing.T
	now  time.Time
	a, b *end
	// delay is how long a packet takes.
	delay  time.Duration
	flight []flying
	n      int
}

// end is one engine with what it sent.
type end struct {
	*Engine
	w    *wire
	name string
	addr netip.Addr
	cut  bool // what it sends is lost
	ttl  uint8
	sent []sentPacket
	// judge sees every verdict on what arrives here.
	verdicts []error
	mangle   func([]byte) // changes what it sends
}

type sentPacket struct {
	at time.Time
	packet
	raw []byte
}

type flying struct {
	at  time.Time
	seq int
	to  *end
	arr Arrival
}

var families = map[string][2]netip.Addr{
	"v4":        {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
	"v6":        {netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")},
	"on a link": {netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("fe80::2%eth0")},
}

// eachFamily runs a test for IPv4 and IPv6.
func eachFamily(t *testing.T, f func(t *testing.T, w *wire)) {
	for name, addrs := range families {
		t.Run(name, func(t *testing.T) { f(t, newWire(t, addrs)) })
	}
}

func newWire(t *testing.T, addrs [2]netip.Addr) *wire {
	w := &wire{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), delay: time.Millisecond}
	w.a, w.b = w.end("a", addrs[0], 1), w.end("b", addrs[1], 2)
	return w
}

func (w *wire) end(name string, addr netip.Addr, seed uint64) *end {
	e := &end{w: w, name: name, addr: addr, ttl: 255}
	e.Engine = New(Options{Rand: rand.New(rand.NewPCG(seed, 0)), Send: func(k Key, b []byte) {
		raw := append([]byte{}, b...)
		p, err := decode(raw)
		if err != nil {
			w.t.Errorf("%s sends what cannot be read: %v", name, err)
		}
		e.sent = append(e.sent, sentPacket{w.now, p, raw})
		if e.mangle != nil {
			raw = append([]byte{}, raw...)
			e.mangle(raw)
		}
		if to := w.other(e); !e.cut && k.Peer == to.addr {
			w.n++
			w.flight = append(w.flight, flying{w.now.Add(w.delay), w.n, to, Arrival{Src: e.addr, Dst: to.addr.WithZone(""), TTL: e.ttl, Multihop: k.Multihop, Packet: raw}})
		}
	}})
	return e
}

func (w *wire) other(e *end) *end {
	if e == w.a {
		return w.b
	}
	return w.a
}

// run lets time pass.
func (w *wire) run(d time.Duration) {
	until := w.now.Add(d)
	for {
		next, who := until, -1
		for i, f := range w.flight {
			if !f.at.After(next) && (who < 0 || f.at.Before(w.flight[who].at)) {
				next, who = f.at, i
			}
		}
		var tick *end
		for _, e := range []*end{w.a, w.b} {
			if at, ok := e.Next(); ok && at.Before(next) {
				next, tick = at, e
			}
		}
		if next.After(w.now) {
			w.now = next
		}
		switch {
		case tick != nil:
			tick.Tick(w.now)
		case who >= 0:
			f := w.flight[who]
			w.flight = append(w.flight[:who], w.flight[who+1:]...)
			f.to.verdicts = append(f.to.verdicts, f.to.Receive(w.now, f.arr))
		default:
			w.now = until
			return
		}
	}
}

// config is a session of e with the other end.
func (e *end) config() Config {
	return Config{Name: "to-" + e.w.other(e).name, Key: Key{Peer: e.w.other(e).addr, Local: e.addr}, Independent: true}
}

func (e *end) set(c ...Config) {
	e.w.t.Helper()
	if err := e.Set(e.w.now, c); err != nil {
		e.w.t.Fatal(err)
	}
}

func (e *end) status() Status {
	e.w.t.Helper()
	all := e.Sessions()
	if len(all) != 1 {
		e.w.t.Fatalf("%s has %d sessions", e.name, len(all))
	}
	return all[0]
}

// want checks a session's state.
func (e *end) want(state State) Status {
	e.w.t.Helper()
	st := e.status()
	if st.State != state.String() {
		e.w.t.Fatalf("%s is %s (%s), want %s", e.name, st.State, st.Diag, state)
	}
	return st
}

// up brings a session up with each end's configuration and forgets what was sent.
func (w *wire) up(a, b Config) {
	w.t.Helper()
	w.a.set(a)
	w.b.set(b)
	w.run(5 * time.Second)
	w.a.want(Up)
	w.b.want(Up)
	w.a.sent, w.b.sent, w.a.verdicts, w.b.verdicts = nil, nil, nil, nil
}

func (e *end) last() sentPacket { return e.sent[len(e.sent)-1] }

// hear hands e a packet as if the other end had sent it.
func (e *end) hear(p packet) error {
	return e.Receive(e.w.now, Arrival{Src: e.w.other(e).addr, Dst: e.addr, TTL: 255, Packet: p.encode(nil)})
}

// plain is a valid packet from the other end in a state.
func plain(state State, your uint32) packet {
	return packet{state: state, detectMult: 3, my: 77, your: your, minTx: 1e6, minRx: 3e5}
}

func (s sentPacket) String() string {
	return fmt.Sprintf("%s poll=%v final=%v tx=%d rx=%d", s.state, s.poll, s.final, s.minTx, s.minRx)
}
