// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// memConn is one end of a connection in memory, with addresses.
type memConn struct {
	net.Conn
	local, remote netip.AddrPort
}

func (c *memConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *memConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// memClient is the far end of a session: it announces a prefix of each family and
// knows what it was told last of every prefix.
type memClient struct {
	addr  netip.Addr
	own   [numFamilies]netip.Prefix
	nc    net.Conn
	count atomic.Int64 // prefixes that it has
	bad   atomic.Value // string
	say   sync.Mutex
}

func (c *memClient) run(asn uint32) {
	br := bufio.NewReaderSize(c.nc, 16<<10)
	buf := make([]byte, maxMessage)
	dec := decoder{as4: true}
	have := make([]bool, 1<<17) // by family and number of the client
	n := int64(0)
	set := func(ref pathRef, to bool) {
		b := ref.prefix.Addr().As16()
		i := int(familyOf(ref.prefix.Addr()))<<16 | int(b[14])<<8 | int(b[15])
		if have[i] != to {
			have[i] = to
			if to {
				n++
			} else {
				n--
			}
		}
	}
	open, err := openParams{asn: asn, id: c.addr, hold: time.Hour, families: familySet{true, true}}.marshal()
	if err != nil {
		panic(err)
	}
	c.write(append(open, keepaliveMessage()...))
	told := false
	var u update
	for {
		typ, body, err := readMessage(br, buf)
		switch {
		case err != nil:
			return
		case typ == msgNotification:
			c.bad.Store(decodeNotification(body).Error())
		case typ == msgKeepalive && !told:
			told = true
			c.announce()
		case typ == msgUpdate:
			u = update{withdrawn: u.withdrawn[:0], reach: u.reach[:0], mpReach: u.mpReach[:0]}
			if n := dec.decode(body, &u); n != nil || u.problem != "" {
				c.bad.Store(fmt.Sprint(n, u.problem))
				return
			}
			for _, ref := range u.withdrawn {
				set(ref, false)
			}
			for _, ref := range append(u.reach, u.mpReach...) {
				set(ref, true)
			}
			c.count.Store(n)
		}
	}
}

func (c *memClient) write(b []byte) {
	go func() { // the pipe has no buffer: reading must go on
		c.say.Lock()
		defer c.say.Unlock()
		_, _ = c.nc.Write(b)
	}()
}

// announce says both prefixes, withdrawn nothing.
func (c *memClient) announce() {
	pack := packer{as4: true}
	for f, p := range c.own {
		a := &attrs{hasLocalPref: true, localPref: 100, nextHop: c.addr}
		if family(f) == v6 {
			b := c.addr.As4()
			a.nextHop = netip.AddrFrom16([16]byte{0xfd, 14: b[2], 15: b[3]})
		}
		pack.add(pathRef{prefix: p}, a)
	}
	for _, ch := range pack.finish() {
		c.write(ch.b)
	}
}

// A reflector with 1,000 clients, all of which announce and hear everything,
// in one export group. Then one says that its prefixes are gone, and one breaks
// off: all others hear of it.
func TestRFC4456_ThousandClients(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	const clients = 1000
	us := netip.MustParseAddr("10.200.0.1")
	cfg := Config{ASN: 64512, RouterID: us, ClusterID: us, NextHop4: us, NextHop6: netip.MustParseAddr("fd00::1:0:0:1")}
	all := map[netip.AddrPort]*memClient{}
	for i := range clients {
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		ap := netip.AddrPortFrom(addr, 179)
		cfg.Peers = append(cfg.Peers, PeerConfig{Name: addr.String(), Addr: ap, ASN: 64512, Client: true, HoldTime: time.Hour})
		all[ap] = &memClient{addr: addr, own: [numFamilies]netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)}), 32),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 1, 14: byte(i >> 8), 15: byte(i)}), 128),
		}}
	}
	var wg sync.WaitGroup
	n := startNode(t, cfg, Options{
		OpenTimeout: time.Minute, RetryMin: time.Hour,
		Dial: func(_ context.Context, _ netip.Addr, to netip.AddrPort) (net.Conn, error) {
			ours, theirs := net.Pipe()
			c := all[to]
			if c.nc != nil {
				return nil, net.ErrClosed // one that broke off does not come back
			}
			local := netip.AddrPortFrom(us, 1)
			c.nc = &memConn{theirs, to, local}
			wg.Go(func() { c.run(64512) })
			return &memConn{ours, local, to}, nil
		},
	})
	n.OriginationsComplete()
	t.Cleanup(func() {
		n.stop()
		for _, c := range all {
			if c.nc != nil {
				_ = c.nc.Close()
			}
		}
		wg.Wait()
	})
	everyone := func(what string, want int, but ...netip.AddrPort) {
		t.Helper()
		within(t, 2*time.Minute, what, func() bool {
			for ap, c := range all {
				if why := c.bad.Load(); why != nil {
					t.Fatalf("%s: %v", ap, why)
				}
				if len(but) > 0 && ap == but[0] {
					continue
				}
				if c.count.Load() != int64(want) {
					time.Sleep(50 * time.Millisecond)
					return false
				}
			}
			return true
		})
	}
	everyone("every client has every prefix", 2*clients)
	if g := n.groupsSnapshot(); len(g) != 1 || g[0] != clients {
		t.Errorf("export groups %v, want one of %d", g, clients)
	}
	first := cfg.Peers[0].Addr
	pack := packer{as4: true}
	for _, p := range all[first].own {
		pack.add(pathRef{prefix: p}, nil)
	}
	for _, ch := range pack.finish() {
		all[first].write(ch.b)
	}
	everyone("two are withdrawn", 2*clients-2)
	last := cfg.Peers[clients-1].Addr
	_ = all[last].nc.Close()
	everyone("two more are gone with their client", 2*clients-4, last)
}
