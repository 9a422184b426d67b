// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// node is a speaker under test on an address of 127/8, and what it told its
// daemon.
type node struct {
	t *testing.T
	*Speaker
	cfg    Config
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	fib    map[netip.Prefix]Best
	events int // Best values received
}

var nextNode struct {
	sync.Mutex
	n int
}

// freeAddr returns a loopback address that no other test of this process uses.
func freeAddr(t *testing.T) netip.Addr {
	t.Helper()
	nextNode.Lock()
	defer nextNode.Unlock()
	nextNode.n++
	return netip.AddrFrom4([4]byte{127, 77, byte(nextNode.n >> 8), byte(nextNode.n)})
}

const testPort = 11790

func addrPort(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, testPort) }

// nodeConfig is a configuration for a node at addr, with next hops derived
// from it.
func nodeConfig(asn uint32, addr netip.Addr, peers ...PeerConfig) Config {
	b := addr.As4()
	for i := range peers {
		peers[i].LocalAddr = addr
	}
	return Config{
		ASN: asn, RouterID: addr, Listen: []netip.AddrPort{addrPort(addr)},
		NextHop4: addr,
		NextHop6: netip.AddrFrom16([16]byte{0xfd, 0x77, 14: b[2], 15: b[3]}),
		Peers:    peers,
	}
}

func peerTo(addr netip.Addr, asn uint32) PeerConfig {
	return PeerConfig{Name: addr.String(), Addr: addrPort(addr), ASN: asn}
}

func startNode(t *testing.T, cfg Config, opt Options) *node {
	t.Helper()
	n := &node{t: t, cfg: cfg, fib: map[netip.Prefix]Best{}, ended: make(chan struct{})}
	if testing.Verbose() && opt.Log == nil {
		opt.Log = slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", cfg.RouterID)
	}
	if opt.RetryMin == 0 {
		opt.RetryMin, opt.RetryMax = 100*time.Millisecond, 300*time.Millisecond
	}
	n.Speaker = New(opt)
	if err := n.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Add(2)
	go func() {
		defer wg.Done()
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	go func() {
		defer wg.Done()
		for {
			best, err := n.NextBest(ctx)
			if err != nil {
				return
			}
			n.mu.Lock()
			for _, b := range best {
				n.events++
				if len(b.NextHops) == 0 {
					delete(n.fib, b.Prefix)
				} else {
					n.fib[b.Prefix] = b
				}
			}
			n.mu.Unlock()
		}
	}()
	go func() { wg.Wait(); close(n.ended) }()
	t.Cleanup(n.stop)
	return n
}

// stop is a process that ends, in the manner of a restart.
func (n *node) stop() {
	n.cancel()
	<-n.ended
}

func (n *node) originate(prefixes ...string) {
	var add []Origination
	for _, p := range prefixes {
		add = append(add, Origination{Prefix: netip.MustParsePrefix(p)})
	}
	n.Originate(add, nil)
}

func (n *node) withdraw(prefixes ...string) {
	var del []netip.Prefix
	for _, p := range prefixes {
		del = append(del, netip.MustParsePrefix(p))
	}
	n.Originate(nil, del)
}

// hops is the daemon's view: the next hops of a prefix as text.
func (n *node) hops(prefix string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := ""
	for i, h := range n.fib[netip.MustParsePrefix(prefix)].NextHops {
		if i > 0 {
			s += " "
		}
		s += h.String()
	}
	return s
}

func (n *node) fibSize() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.fib)
}

func (n *node) peer(addr netip.Addr) PeerStatus {
	for _, p := range n.Peers() {
		if p.Addr.Addr() == addr {
			return p
		}
	}
	return PeerStatus{}
}

// eventually polls until ok, and fails the test after ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	within(t, 10*time.Second, what, ok)
}

func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", d, what)
		}
	}
}

func (n *node) waitHops(prefix, want string) {
	n.t.Helper()
	eventually(n.t, fmt.Sprintf("%s: %s via %q (is %q)", n.cfg.RouterID, prefix, want, n.hops(prefix)),
		func() bool { return n.hops(prefix) == want })
}

func (n *node) waitUp(addrs ...netip.Addr) {
	n.t.Helper()
	for _, a := range addrs {
		eventually(n.t, fmt.Sprintf("%s: session with %s is Established", n.cfg.RouterID, a),
			func() bool { return n.peer(a).State == "Established" })
	}
}

// pair starts two nodes with a session between them.
func pair(t *testing.T, asA, asB uint32, change func(a, b *Config)) (a, b *node) {
	t.Helper()
	addrA, addrB := freeAddr(t), freeAddr(t)
	ca := nodeConfig(asA, addrA, peerTo(addrB, asB))
	cb := nodeConfig(asB, addrB, peerTo(addrA, asA))
	if change != nil {
		change(&ca, &cb)
	}
	a, b = startNode(t, ca, Options{}), startNode(t, cb, Options{})
	a.OriginationsComplete()
	b.OriginationsComplete()
	return a, b
}

// defaultDial connects as a speaker does.
func defaultDial(ctx context.Context, local netip.Addr, addr netip.AddrPort) (net.Conn, error) {
	return dialTCP(ctx, PeerConfig{LocalAddr: local, Addr: addr}, maxTTL)
}

// proxy stands between a node and whom it dials, and can go silent.
type proxy struct {
	mu    sync.Mutex
	black bool
	conns []net.Conn
}

func (p *proxy) silence(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.black = on
}

// cut closes every connection that runs through the proxy.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// dial is a Dial for Options that passes everything through p.
func (p *proxy) dial(ctx context.Context, local netip.Addr, addr netip.AddrPort) (net.Conn, error) {
	out, err := defaultDial(ctx, local, addr)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.conns = append(p.conns, out)
	p.mu.Unlock()
	return &holedConn{Conn: out, p: p, closed: make(chan struct{})}, nil
}

// holedConn loses everything in both directions while the proxy is silent, also
// the news that an end closed.
type holedConn struct {
	net.Conn
	p      *proxy
	once   sync.Once
	closed chan struct{}
}

func (c *holedConn) isBlack() bool {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return c.p.black
}

func (c *holedConn) Write(b []byte) (int, error) {
	if c.isBlack() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *holedConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if !c.isBlack() {
			return n, err
		}
		if err != nil {
			<-c.closed
			return 0, net.ErrClosed
		}
	}
}

func (c *holedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	if c.isBlack() {
		return c.Conn.SetReadDeadline(time.Now())
	}
	return c.Conn.Close()
}

// advertised lists the prefixes a node sends to a peer, sorted.
func (n *node) advertised(to netip.Addr) []string {
	var out []string
	for _, r := range n.Routes(RouteFilter{View: ViewAdvertised, Peer: to}) {
		out = append(out, r.Prefix.String())
	}
	slices.Sort(out)
	return out
}

// groupsSnapshot is the number of members of each export group.
func (s *Speaker) groupsSnapshot() (members []int) {
	s.ask(func() {
		for _, g := range s.groups {
			members = append(members, len(g.members))
		}
	})
	return members
}
