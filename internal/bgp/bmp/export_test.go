// SPDX-License-Identifier: Apache-2.0

package bmp

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	oracle "github.com/osrg/gobgp/v4/pkg/packet/bmp"

	"github.com/muslin-net/muslin/internal/bgp"
)

// speaker starts an engine on a loopback address, with peers by address and AS.
func speaker(t *testing.T, asn uint32, addr string, peers map[string]uint32) (*bgp.Speaker, func()) {
	t.Helper()
	a := netip.MustParseAddr(addr)
	b := a.As4()
	cfg := bgp.Config{ASN: asn, RouterID: a, Listen: []netip.AddrPort{netip.AddrPortFrom(a, 11790)},
		NextHop4: a, NextHop6: netip.AddrFrom16([16]byte{0xfd, 0x78, 14: b[2], 15: b[3]})}
	for p, as := range peers {
		cfg.Peers = append(cfg.Peers, bgp.PeerConfig{Name: p, Addr: netip.AddrPortFrom(netip.MustParseAddr(p), 11790), LocalAddr: a, ASN: as})
	}
	s := bgp.New(bgp.Options{RetryMin: 50 * time.Millisecond, RetryMax: 200 * time.Millisecond})
	if err := s.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	s.OriginationsComplete()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return s, stop
}

func originate(s *bgp.Speaker, prefixes ...string) {
	var add []bgp.Origination
	for _, p := range prefixes {
		add = append(add, bgp.Origination{Prefix: netip.MustParsePrefix(p)})
	}
	s.Originate(add, nil)
}

// station is a collector that believes what it is told. It has GoBGP read
// every message.
type station struct {
	t *testing.T
	l net.Listener

	mu       sync.Mutex
	conns    int
	named    string
	peers    map[string]bool
	routes   map[string]map[string]bool // of a view of a peer
	ends     map[string]int             // End-of-RIB markers of a view of a peer
	downs    []uint8
	stats    map[string]uint64
	goodbye  bool
	deaf     bool // does not read
	received int
}

func startStation(t *testing.T) *station {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &station{t: t, l: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go x.serve(c)
		}
	}()
	return x
}

func (x *station) addr() netip.AddrPort { return netip.MustParseAddrPort(x.l.Addr().String()) }

func (x *station) serve(c net.Conn) {
	defer c.Close()
	x.mu.Lock()
	x.conns++
	x.peers, x.routes, x.ends = map[string]bool{}, map[string]map[string]bool{}, map[string]int{}
	deaf, mine := x.deaf, x.conns
	x.mu.Unlock()
	if deaf {
		_ = c.(*net.TCPConn).SetReadBuffer(4096)
		<-x.t.Context().Done()
		return
	}
	r := bufio.NewReader(c)
	for {
		h := make([]byte, headerLen)
		if _, err := io.ReadFull(r, h); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(h[1:]))
		copy(b, h)
		if _, err := io.ReadFull(r, b[headerLen:]); err != nil {
			return
		}
		m, err := oracle.ParseBMPMessage(b)
		if err != nil {
			x.t.Errorf("GoBGP cannot read %x: %v", b, err)
			return
		}
		x.mu.Lock()
		if mine != x.conns { // what is left of a connection that was given up
			x.mu.Unlock()
			return
		}
		x.take(m)
		x.mu.Unlock()
	}
}

func (x *station) take(m *oracle.BMPMessage) {
	x.received++
	h := m.PeerHeader
	who := h.PeerAddress.String()
	if h.PeerType == oracle.BMP_PEER_TYPE_LOCAL_RIB {
		who = "table"
	}
	view := who + " pre"
	if h.IsPostPolicy() {
		view = who + " post"
	}
	if m.Header.Type != oracle.BMP_MSG_INITIATION && m.Header.Type != oracle.BMP_MSG_TERMINATION &&
		m.Header.Type != oracle.BMP_MSG_PEER_UP_NOTIFICATION && !x.peers[who] {
		x.t.Errorf("message %d of %s, which is not up", m.Header.Type, who)
	}
	switch b := m.Body.(type) {
	case *oracle.BMPInitiation:
		for _, i := range b.Info {
			x.named += i.(*oracle.BMPInfoTLVString).Value + ";"
		}
	case *oracle.BMPTermination:
		x.goodbye = true
	case *oracle.BMPPeerUpNotification:
		if x.peers[who] {
			x.t.Errorf("%s comes up twice", who)
		}
		x.peers[who] = true
		if as := b.ReceivedOpenMsg.Body.(*wire.BGPOpen).MyAS; uint32(as) != h.PeerAS {
			x.t.Errorf("%s: OPEN of AS %d, header of AS %d", who, as, h.PeerAS)
		}
	case *oracle.BMPPeerDownNotification:
		delete(x.peers, who)
		delete(x.routes, who+" pre")
		delete(x.routes, who+" post")
		x.downs = append(x.downs, b.Reason)
	case *oracle.BMPStatisticsReport:
		for _, s := range b.Stats {
			if g, ok := s.(*oracle.BMPStatsTLV64); ok && g.Type == statAdjRIBIn {
				x.stats = map[string]uint64{who: g.Value}
			}
		}
	case *oracle.BMPRouteMonitoring:
		u := b.BGPUpdate.Body.(*wire.BGPUpdate)
		if end, _ := u.IsEndOfRib(); end {
			x.ends[view]++
			return
		}
		if x.routes[view] == nil {
			x.routes[view] = map[string]bool{}
		}
		for _, n := range u.WithdrawnRoutes {
			delete(x.routes[view], n.NLRI.String())
		}
		for _, n := range u.NLRI {
			x.routes[view][n.NLRI.String()] = true
		}
		for _, a := range u.PathAttributes {
			switch a := a.(type) {
			case *wire.PathAttributeMpReachNLRI:
				for _, n := range a.Value {
					x.routes[view][n.NLRI.String()] = true
				}
			case *wire.PathAttributeMpUnreachNLRI:
				for _, n := range a.Value {
					delete(x.routes[view], n.NLRI.String())
				}
			}
		}
	}
}

// want polls until the station believes something.
func (x *station) want(what string, ok func() bool) {
	x.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		x.mu.Lock()
		done := ok()
		late := !done && time.Now().After(end)
		if late { // only now: it may be large
			x.t.Errorf("not %s: peers %v ends %v downs %v conns %d routes %.2000s", what, x.peers, x.ends, x.downs, x.conns, fmt.Sprint(x.routes))
		}
		x.mu.Unlock()
		if late {
			x.t.FailNow()
		}
		if done {
			return
		}
	}
}

func (x *station) has(view string, prefixes ...string) bool {
	if len(x.routes[view]) != len(prefixes) {
		return false
	}
	for _, p := range prefixes {
		if !x.routes[view][p] {
			return false
		}
	}
	return true
}

func startExport(t *testing.T, s *bgp.Speaker, x *station, change func(*Export)) (stop func()) {
	t.Helper()
	e := &Export{Engine: s, Station: x.addr(), Name: "host1", Version: "v1", Log: slog.New(slog.DiscardHandler),
		RetryMin: 20 * time.Millisecond, RetryMax: 100 * time.Millisecond, Statistics: 20 * time.Millisecond}
	if change != nil {
		change(e)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// A station is told of the sessions, of what they bring before and after
// policy, of what is selected, and of all that changes; and again after its
// connection was lost.
func TestExport(t *testing.T) {
	t.Parallel()
	const a, b = "127.78.0.1", "127.78.0.2"
	sa, _ := speaker(t, 64512, a, map[string]uint32{b: 64513})
	sb, stopB := speaker(t, 64513, b, map[string]uint32{a: 64512})
	originate(sb, "10.1.0.0/16", "fd01::/48", "224.1.0.0/16") // the last one is never sent
	originate(sa, "10.2.0.0/16")
	x := startStation(t)
	stop := startExport(t, sa, x, nil)
	x.want("everything", func() bool {
		return x.has(b+" pre", "10.1.0.0/16", "fd01::/48") && x.has(b+" post", "10.1.0.0/16", "fd01::/48") &&
			x.has("table pre", "10.1.0.0/16", "fd01::/48", "10.2.0.0/16")
	})
	x.want("End-of-RIB of the table", func() bool { return x.ends["table pre"] == 2 })
	x.want("statistics", func() bool { return x.stats[b] == 2 })
	if !strings.Contains(x.named, "Muslin v1;host1;") {
		t.Errorf("Initiation says %q", x.named)
	}

	originate(sb, "10.3.0.0/16")
	sb.Originate(nil, []netip.Prefix{netip.MustParsePrefix("fd01::/48")})
	x.want("the changes", func() bool {
		return x.has(b+" pre", "10.1.0.0/16", "10.3.0.0/16") && x.has(b+" post", "10.1.0.0/16", "10.3.0.0/16") &&
			x.has("table pre", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16")
	})

	// The peer restarts: its session ends without a word, and comes back.
	stopB()
	x.want("Peer Down without a NOTIFICATION", func() bool {
		return len(x.downs) > 0 && x.downs[len(x.downs)-1] == uint8(downRemote) // one before it may have lost a collision
	})
	sb, _ = speaker(t, 64513, b, map[string]uint32{a: 64512})
	originate(sb, "10.4.0.0/16")
	x.want("the new session", func() bool {
		return x.has(b+" pre", "10.4.0.0/16") && x.has(b+" post", "10.4.0.0/16") && x.has("table pre", "10.2.0.0/16", "10.4.0.0/16")
	})

	// The export ends with a word, and a new one tells everything again.
	stop()
	x.want("Termination", func() bool { return x.goodbye })
	startExport(t, sa, x, nil)
	x.want("everything again", func() bool {
		return x.conns == 2 && x.has(b+" pre", "10.4.0.0/16") && x.ends[b+" pre"] == 2 && x.ends[b+" post"] == 2 && x.has("table pre", "10.2.0.0/16", "10.4.0.0/16")
	})
}

// A station that does not read loses its connection; the engine goes on, and
// one that reads again gets everything.
func TestExportToOneThatDoesNotRead(t *testing.T) {
	t.Parallel()
	const a, b = "127.78.0.3", "127.78.0.4"
	sa, _ := speaker(t, 64512, a, map[string]uint32{b: 64513})
	sb, _ := speaker(t, 64513, b, map[string]uint32{a: 64512})
	x := startStation(t)
	x.deaf = true
	startExport(t, sa, x, func(e *Export) { e.Patience = time.Second })
	x.want("a connection", func() bool { return x.conns > 0 })
	var add []bgp.Origination
	for i := range 100_000 {
		add = append(add, bgp.Origination{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)})
	}
	sb.Originate(add, nil)
	x.want("all routes in the engine", func() bool { p := sa.Peers(); return len(p) == 1 && p[0].Received == len(add) })
	x.want("another connection", func() bool { return x.conns > 1 })
	x.mu.Lock()
	x.deaf = false
	x.mu.Unlock()
	x.want("everything", func() bool { return len(x.routes[b+" pre"]) == len(add) && len(x.routes["table pre"]) == len(add) })
}
