// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestQueueAgreesWithList holds the heap against a plain list: whatever is
// scheduled, put forward and taken out, the earliest is in front.
func TestQueueAgreesWithList(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	start := time.Unix(0, 0)
	e := New(Options{})
	var list []*session
	for step := range 20000 {
		switch op := r.IntN(4); {
		case op < 2 || len(list) == 0:
			s := &session{index: -1}
			e.schedule(s, start.Add(time.Duration(r.IntN(1000))))
			list = append(list, s)
		case op == 2:
			s := list[r.IntN(len(list))]
			was, at := s.due, start.Add(time.Duration(r.IntN(1000)))
			e.schedule(s, at)
			if want := was; at.Before(was) && !s.due.Equal(at) || !at.Before(was) && !s.due.Equal(want) {
				t.Fatalf("step %d: due %v after scheduling %v over %v", step, s.due, at, was)
			}
		default:
			i := r.IntN(len(list))
			e.unschedule(list[i])
			list = slices.Delete(list, i, i+1)
		}
		at, ok := e.Next()
		if ok != (len(list) > 0) {
			t.Fatalf("step %d: Next says %v with %d sessions", step, ok, len(list))
		}
		for i, s := range e.queue {
			if s.index != i {
				t.Fatalf("step %d: the session at %d believes to be at %d", step, i, s.index)
			}
			if s.due.Before(at) {
				t.Fatalf("step %d: %v is due before %v", step, s.due, at)
			}
		}
	}
}

// TestLossyWire lets two ends live on a bad wire: packets are lost, the wire is
// cut and mended, ends change their intervals and start over. Whatever
// happens: an end whose neighbour has been silent for its detection time is not Up, and
// when the wire is good again both are Up within seconds.
func TestLossyWire(t *testing.T) {
	for seed := range uint64(20) {
		for name, fam := range families {
			t.Run(fmt.Sprint(name, "/", seed), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 1))
				w := newWire(t, fam)
				w.delay = time.Duration(1+r.IntN(20)) * time.Millisecond
				configs := map[*end]Config{w.a: w.a.config(), w.b: w.b.config()}
				if r.IntN(2) == 0 {
					for e, c := range configs {
						c.Auth = Auth{Type: AuthType(1 + r.IntN(5)), Key: []byte("k")}
						configs[e] = c
					}
					c := configs[w.b]
					c.Auth = configs[w.a].Auth
					configs[w.b] = c
				}
				w.a.set(configs[w.a])
				w.b.set(configs[w.b])
				for range 60 {
					e := []*end{w.a, w.b}[r.IntN(2)]
					switch r.IntN(5) {
					case 0:
						e.cut = !e.cut
					case 1:
						c := configs[e]
						c.Interval = time.Duration(50+r.IntN(1500)) * time.Millisecond
						c.Multiplier = uint8(2 + r.IntN(4))
						configs[e] = c
						e.set(c)
					case 2:
						e.set()
						w.run(time.Duration(r.IntN(300)) * time.Millisecond)
						e.set(configs[e])
					case 3:
						e.mangle = func(b []byte) { b[r.IntN(len(b))] ^= byte(1 << r.IntN(8)) }
						w.run(time.Duration(r.IntN(2000)) * time.Millisecond)
						e.mangle = nil
					}
					w.run(time.Duration(r.IntN(3000)) * time.Millisecond)
					for _, e := range []*end{w.a, w.b} {
						st := e.status()
						var heard time.Time
						for _, s := range e.byID {
							heard = s.lastHeard
						}
						if st.State == "Up" && w.now.Sub(heard) > st.Detect {
							t.Fatalf("%s is Up, and has heard nothing for %v of %v", e.name, w.now.Sub(heard), st.Detect)
						}
					}
				}
				w.a.cut, w.b.cut = false, false
				w.run(30 * time.Second) // the slowest detection time, and a handshake
				w.a.want(Up)
				w.b.want(Up)
			})
		}
	}
}

// TestManySessions: sessions do not disturb each other, and each keeps its pace.
func TestManySessions(t *testing.T) {
	const n = 1000
	now := time.Unix(1e9, 0)
	sent := map[netip.Addr]int{}
	e := New(Options{Send: func(k Key, _ []byte) { sent[k.Peer]++ }})
	if err := e.Set(now, manySessions(n)); err != nil {
		t.Fatal(err)
	}
	for range 60_000 {
		now = now.Add(time.Millisecond)
		e.Tick(now)
	}
	if len(sent) != n {
		t.Fatalf("%d of %d sent anything", len(sent), n)
	}
	for a, got := range sent {
		if got < 59 || got > 81 {
			t.Errorf("%s: %d packets in a minute", a, got)
		}
	}
}

func manySessions(n int) (list []Config) {
	a := netip.MustParseAddr("fd00::1:0")
	for range n {
		a = a.Next()
		list = append(list, Config{Name: "n", Key: Key{Peer: a}})
	}
	return list
}

// BenchmarkReceive is what one packet of an Up session costs, of 1,000.
func BenchmarkReceive(b *testing.B) {
	now := time.Unix(1e9, 0)
	e := New(Options{Send: func(Key, []byte) {}})
	if err := e.Set(now, manySessions(1000)); err != nil {
		b.Fatal(err)
	}
	var arrivals []Arrival
	for _, s := range e.byID {
		for _, state := range []State{Init, Up} {
			p := plain(state, s.localDiscr)
			a := Arrival{Src: s.cfg.Peer, TTL: 255, Packet: p.encode(nil)}
			if err := e.Receive(now, a); err != nil {
				b.Fatal(err)
			}
			if state == Up {
				arrivals = append(arrivals, a)
			}
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now = now.Add(300 * time.Microsecond)
		if err := e.Receive(now, arrivals[i%len(arrivals)]); err != nil {
			b.Fatal(err)
		}
		e.Tick(now)
	}
}
