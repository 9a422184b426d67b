// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// Notes come out as they went in, in few octets.
func TestNotes(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	var q notes
	var twin []note
	for i := range 200_000 {
		if rng.IntN(1000) < 505 {
			n := note{kind: uint8(rng.IntN(3))}
			if n.kind != noteSelected {
				n.peer = uint16(rng.IntN(1 << 16))
			}
			if n.kind != noteSession {
				n.ref.prefix = nearPrefix(rng)
			}
			if n.kind == noteReceived && rng.IntN(2) == 0 {
				n.ref.id = rng.Uint32()
			}
			if !q.push(n) {
				t.Fatal("the queue is full")
			}
			twin = append(twin, n)
		} else if len(twin) > 0 {
			if got := q.pop(); got != twin[0] {
				t.Fatalf("step %d: got %+v, want %+v", i, got, twin[0])
			}
			twin = twin[1:]
		}
		if q.empty() != (len(twin) == 0) {
			t.Fatalf("step %d: empty is %v with %d notes", i, q.empty(), len(twin))
		}
	}
	for !q.empty() {
		q.pop()
	}
	if q.size != 0 || q.blocks != nil {
		t.Errorf("left over: %d octets in %d blocks", q.size, len(q.blocks))
	}
	for i := range 500_000 {
		q.push(note{kind: noteReceived, peer: 3, ref: pathRef{prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)}})
	}
	if q.size > 4<<20 {
		t.Errorf("500,000 host routes take %d octets", q.size)
	}
}

// watcher is somebody who watches and believes what he is told.
type watcher struct {
	mu       sync.Mutex
	sessions map[*Session]bool
	received map[*Session]map[string]string
	selected map[string]string
	complete bool
	err      error
}

func watch(t *testing.T, n *node, w Watch) *watcher {
	t.Helper()
	m := n.Watch(w)
	x := &watcher{sessions: map[*Session]bool{}, received: map[*Session]map[string]string{}, selected: map[string]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		defer m.Close()
		for {
			events, err := m.Next(ctx)
			x.mu.Lock()
			if err != nil {
				x.err = err
				x.mu.Unlock()
				return
			}
			for _, e := range events {
				x.take(t, e)
			}
			x.mu.Unlock()
		}
	}()
	return x
}

func (x *watcher) take(t *testing.T, e Event) {
	switch e.Kind {
	case SessionUp:
		if x.sessions[e.Session] {
			t.Errorf("%s came up twice", e.Session.Addr)
		}
		x.sessions[e.Session], x.received[e.Session] = true, map[string]string{}
	case SessionDown:
		if !x.sessions[e.Session] {
			t.Errorf("%s went down and was not up", e.Session.Addr)
		}
		delete(x.sessions, e.Session)
		delete(x.received, e.Session)
	case TableComplete:
		x.complete = true
	case RouteChanged, RouteGone:
		into := x.selected
		if e.View == ViewReceived {
			if into = x.received[e.Session]; into == nil {
				t.Errorf("%s from %s, which is not up", e.Route.Prefix, e.Session.Addr)
				return
			}
		}
		if e.Kind == RouteGone {
			delete(into, e.Route.Prefix.String())
		} else {
			into[e.Route.Prefix.String()] = standing(e.Route)
		}
	}
}

// standing is what of a route a watcher can know: what was said last of its
// prefix. Whether it is the best may have changed with another path.
func standing(r RouteInfo) string {
	return fmt.Sprint(r.NextHop, r.ASPath, r.LocalPref, r.Accepted, r.Reason)
}

// agrees compares what the watcher believes with what is there.
func (x *watcher) agrees(n *node) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err != nil {
		return x.err
	}
	received, selected := map[string]map[string]string{}, map[string]string{}
	for _, r := range n.Routes(RouteFilter{}) {
		if r.Local {
			continue
		}
		if received[r.PeerName] == nil {
			received[r.PeerName] = map[string]string{}
		}
		received[r.PeerName][r.Prefix.String()] = standing(r)
	}
	for _, r := range n.Routes(RouteFilter{View: ViewBest}) {
		if r.Best {
			selected[r.Prefix.String()] = standing(r)
		}
	}
	if got, want := fmt.Sprint(x.selected), fmt.Sprint(selected); got != want {
		return fmt.Errorf("Loc-RIB: believed %s, is %s", got, want)
	}
	for s, routes := range x.received {
		if got, want := fmt.Sprint(routes), fmt.Sprint(received[s.Name]); len(routes)+len(received[s.Name]) > 0 && got != want {
			return fmt.Errorf("from %s: believed %s, is %s", s.Name, got, want)
		}
	}
	return nil
}

// Whoever watches ends up with what is there, whenever he begins and whatever
// happens meanwhile: changes, rejudging, and sessions that end and come back.
func TestMonitorEndsUpWithWhatIsThere(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 8))
	addrA, addrB, addrC := freeAddr(t), freeAddr(t), freeAddr(t)
	cfg := nodeConfig(64512, addrA, peerTo(addrB, 64513), peerTo(addrC, 64512))
	a := startNode(t, cfg, Options{})
	start := func(as uint32, addr netip.Addr) *node {
		n := startNode(t, nodeConfig(as, addr, peerTo(addrA, 64512)), Options{})
		n.OriginationsComplete()
		return n
	}
	b, c := start(64513, addrB), start(64512, addrC)
	a.OriginationsComplete()
	a.waitUp(addrB, addrC)
	prefixes := make([]string, 60)
	for i := range prefixes {
		prefixes[i] = fmt.Sprintf("10.9.%d.0/24", i)
		if i%2 == 0 {
			prefixes[i] = fmt.Sprintf("fd09:%x::/48", i)
		}
	}
	all := Watch{Table: true, Received: true, Selected: true}
	var watchers []*watcher
	for round := range 12 {
		for range 40 {
			n := []*node{a, b, c}[rng.IntN(3)]
			if p := prefixes[rng.IntN(len(prefixes))]; rng.IntN(3) == 0 {
				n.withdraw(p)
			} else {
				n.originate(p)
			}
		}
		if round%3 == 1 {
			watchers = append(watchers, watch(t, a, all))
		}
		switch round {
		case 4: // the import policy changes: everything is judged again
			cfg.Peers[0].Import = func(r *Route) (v Verdict) {
				if r.Prefix.Addr().Is6() {
					v = Verdict{Refused: RefusedFilter, Detail: "IPv6 is not wanted"}
				}
				return v
			}
			cfg.Peers[0].ImportID = "no IPv6"
			if err := a.SetConfig(cfg); err != nil {
				t.Fatal(err)
			}
		case 6: // a restart, with the routes kept, and a peer that goes for good
			b.stop()
			b = start(64513, addrB)
		case 9:
			c.stop()
			c = start(64512, addrC)
		}
	}
	a.waitUp(addrB, addrC)
	for i, w := range watchers {
		eventually(t, "a watcher agrees", func() bool { return w.agrees(a) == nil })
		if err := w.agrees(a); err != nil {
			t.Errorf("watcher %d: %v", i, err)
		}
		if !w.complete {
			t.Errorf("watcher %d: was never told that the table is complete", i)
		}
	}
	if len(watchers) < 4 {
		t.Fatalf("%d watchers", len(watchers))
	}
}

// One who does not read is sent away; the engine goes on.
func TestMonitorBehind(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 64512, 64513, nil)
	a.waitUp(b.cfg.RouterID)
	m := a.Watch(Watch{Received: true})
	defer m.Close()
	a.ask(func() {
		slot := a.peers[addrPort(b.cfg.RouterID)].slot
		for i := range 3_000_000 {
			a.noteReceived(pathRef{prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)}, slot)
		}
		if m.notes.size > 0 {
			t.Errorf("%d octets are kept for one who was given up", m.notes.size)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := m.Next(ctx); !errors.Is(err, ErrBehind) {
		t.Fatalf("got %v, want %v", err, ErrBehind)
	}
	b.originate("10.1.0.0/16")
	a.waitHops("10.1.0.0/16", b.cfg.RouterID.String())
	a.ask(func() {
		if len(a.monitors) != 0 || a.rib.observe != nil {
			t.Errorf("%d monitors are left", len(a.monitors))
		}
	})
}

// Sessions are told of with their OPENs, and their ends with what was said.
func TestMonitorSessions(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 64512, 64513, nil)
	m := a.Watch(Watch{Table: true})
	defer m.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var got []Event
	until := func(kind EventKind) Event {
		t.Helper()
		for {
			if i := slices.IndexFunc(got, func(e Event) bool { return e.Kind == kind }); i >= 0 {
				e := got[i]
				got = got[i+1:]
				return e
			}
			events, err := m.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, events...)
		}
	}
	up := until(SessionUp).Session
	if up.ASN != 64513 || up.RouterID != b.cfg.RouterID || up.Local.Addr() != a.cfg.RouterID || up.Remote.Addr() != b.cfg.RouterID || !up.EBGP {
		t.Errorf("session %+v", up)
	}
	for i, open := range [][]byte{up.Sent, up.Received} {
		if len(open) < headerLen {
			t.Fatalf("OPEN %d is %x", i, open)
		}
		if o, note := decodeOpen(open[headerLen:]); note != nil || o.asn != []uint32{64512, 64513}[i] {
			t.Errorf("OPEN %d: %v, %+v", i, note, o)
		}
	}
	cfg := b.cfg
	cfg.Peers = nil
	if err := b.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	down := until(SessionDown)
	if down.Session != up || down.Down.Sent != nil || len(down.Down.Received) != headerLen+2 || down.Down.Received[headerLen] != codeCease {
		t.Errorf("down %+v", down.Down)
	}
}
