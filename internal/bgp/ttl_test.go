// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// apart configures two speakers, of which the second connects to the first.
// Over IPv6 loopback has only one address, and the port tells them apart.
func apart(t *testing.T, is6 bool) (a, b Config) {
	t.Helper()
	addrA, addrB := freeAddr(t), freeAddr(t)
	a, b = nodeConfig(64512, addrA, peerTo(addrB, 64512)), nodeConfig(64512, addrB, peerTo(addrA, 64512))
	b.Listen = nil
	if is6 {
		end := netip.AddrPortFrom(netip.IPv6Loopback(), 20000+uint16(addrA.As4()[3]))
		a.Listen = []netip.AddrPort{end}
		b.Peers[0].Addr = end
		a.Peers[0].Addr = netip.AddrPortFrom(end.Addr(), 1)
		a.Peers[0].LocalAddr, b.Peers[0].LocalAddr = netip.Addr{}, netip.Addr{}
	}
	a.Peers[0].Passive = true
	return a, b
}

// dialWith is a Dial that sends with a TTL as if from afar.
func dialWith(ttl int) func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
	return func(ctx context.Context, local netip.Addr, addr netip.AddrPort) (net.Conn, error) {
		return dialTCP(ctx, PeerConfig{LocalAddr: local, Addr: addr}, ttl)
	}
}

// RFC 5082: who connects from further away than allowed is not heard.
func TestRFC5082_AcceptsByDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		hops uint8
		ttl  int
		ok   bool
	}{
		{0, 64, true}, {1, 255, true}, {1, 254, false}, {1, 64, false}, {3, 253, true}, {3, 252, false}, {255, 1, true},
	} {
		for _, is6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d hops TTL %d IPv6 %v", c.hops, c.ttl, is6), func(t *testing.T) {
				ca, cb := apart(t, is6)
				ca.Peers[0].TTLSecurity = c.hops
				a := startNode(t, ca, Options{})
				startNode(t, cb, Options{Dial: dialWith(c.ttl)})
				peer := ca.Peers[0].Addr.Addr()
				if c.ok {
					a.waitUp(peer)
					return
				}
				eventually(t, "the refusal is reported", func() bool {
					return strings.Contains(a.peer(peer).LastError, fmt.Sprintf("TTL %d,", c.ttl))
				})
				if st := a.peer(peer); st.Established != 0 || st.MessagesIn != 0 {
					t.Errorf("heard all the same: %+v", st)
				}
			})
		}
	}
}

// RFC 5082, both ends: speakers that demand of each other come up by
// themselves, whoever dials.
func TestRFC5082_BothDemand(t *testing.T) {
	for _, is6 := range []bool{false, true} {
		ca, cb := apart(t, is6)
		ca.Peers[0].TTLSecurity, cb.Peers[0].TTLSecurity = 1, 1
		a := startNode(t, ca, Options{})
		startNode(t, cb, Options{})
		a.waitUp(ca.Peers[0].Addr.Addr())
	}
}

// RFC 5082: a SYN from near buys nothing for what comes from afar after it.
func TestRFC5082_LaterPackets(t *testing.T) {
	ca, _ := apart(t, false)
	ca.Peers[0].TTLSecurity = 1
	a := startNode(t, ca, Options{})
	r := &rawPeer{t: t, addr: ca.Peers[0].Addr.Addr()}
	r.connect(a)
	if typ, _ := r.read(); typ != msgOpen { // so the connection was admitted
		t.Fatalf("message type %d instead of OPEN", typ)
	}
	if err := control(r.nc, func(fd int) error { return sendTTL(fd, false, 64) }); err != nil {
		t.Fatal(err)
	}
	r.write(rawOpen(64512, r.addr))
	_ = r.nc.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if typ, _, err := readMessage(r.br, make([]byte, maxMessage)); err == nil {
		t.Errorf("answered with message type %d", typ)
	}
	if st := a.peer(r.addr); st.MessagesIn != 0 {
		t.Errorf("heard: %+v", st)
	}
}

// RFC 5082: the end that dials takes no connection from a far listener, not
// even what that sends along with its SYN-ACK.
func TestRFC5082_Dials(t *testing.T) {
	for _, c := range []struct {
		ttl int
		ok  bool
	}{{255, true}, {254, false}} {
		for _, host := range []netip.Addr{freeAddr(t), netip.IPv6Loopback()} {
			l, err := defaultListen(t.Context(), netip.AddrPortFrom(host, 0), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			raw, err := l.(*net.TCPListener).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if err := onSocket(raw, func(fd int) error { return sendTTL(fd, host.Is6(), c.ttl) }); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			nc, err := New(Options{}).dialPeer(ctx, PeerConfig{Addr: addrPortOf(l.Addr()), TTLSecurity: 1})
			cancel()
			if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "TTL below 255") {
				t.Errorf("%s, TTL %d: %v", host, c.ttl, err)
			}
			if nc != nil {
				_ = nc.Close()
			}
		}
	}
}

// RFC 5082 over a connection that Options.Dial made: what arrives from afar is dropped.
func TestRFC5082_ForeignDial(t *testing.T) {
	host := freeAddr(t)
	l, err := defaultListen(t.Context(), netip.AddrPortFrom(host, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := New(Options{Dial: dialWith(maxTTL)})
	nc, err := s.dialPeer(t.Context(), PeerConfig{Addr: addrPortOf(l.Addr()), TTLSecurity: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = far.Close() }()
	if err := control(far, func(fd int) error { return sendTTL(fd, false, 64) }); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Write(keepaliveMessage()); err != nil {
		t.Fatal(err)
	}
	_ = nc.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if _, _, err := readMessage(bufio.NewReader(nc), make([]byte, maxMessage)); err == nil {
		t.Error("heard")
	}
}
