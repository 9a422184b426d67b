// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// remembered is what a daemon has written down of DynamicPeers.
type remembered struct {
	sync.Mutex
	list []netip.Addr
	told int
}

func (n *node) remember(t *testing.T) *remembered {
	r := &remembered{}
	go func() {
		for {
			list, err := n.DynamicPeers(t.Context())
			if err != nil {
				return
			}
			r.Lock()
			r.list, r.told = list, r.told+1
			r.Unlock()
		}
	}()
	return r
}

func (r *remembered) now() []netip.Addr {
	r.Lock()
	defer r.Unlock()
	return slices.Clone(r.list)
}

// RFC 4724 section 4.1 for peers of a listen range: after a restart of ours those
// that were there are waited for, for the restart time at most; who never was there, or
// is in no range any more, is not.
func TestB15_DynamicPeersAreExpected(t *testing.T) {
	t.Parallel()
	us, back, gone, never := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)
	within := netip.PrefixFrom(us, 24).Masked()
	cfg := nodeConfig(64512, us)
	cfg.RestartTime = 5 * time.Second
	cfg.Ranges = []RangeConfig{{Prefixes: []netip.Prefix{within}, ASNs: [][2]uint32{{64999, 65009}}, Peer: PeerConfig{Name: "racks"}}}
	router := func(a netip.Addr) *node {
		n := startNode(t, nodeConfig(65001, a, peerTo(us, 64512)), Options{})
		n.originate("192.0.2.0/24", "2001:db8::/48")
		n.OriginationsComplete()
		return n
	}
	n := startNode(t, cfg, Options{})
	first := n.remember(t)
	eventually(t, "the first answer comes with the configuration", func() bool { first.Lock(); defer first.Unlock(); return first.told == 1 && first.list == nil })
	a, b := router(back), router(gone)
	n.waitUp(back, gone)
	eventually(t, "both are to be remembered", func() bool { return slices.Equal(first.now(), []netip.Addr{back, gone}) })
	n.stop()
	a.stop()
	b.stop()

	n = startNode(t, cfg, Options{Restarting: true, Expected: append(first.now(), netip.MustParseAddr("203.0.113.1"))})
	second := n.remember(t)
	n.OriginationsComplete()
	eventually(t, "they are still to be remembered", func() bool { return slices.Equal(second.now(), []netip.Addr{back, gone}) })
	if p := n.peer(back); !p.Dynamic || n.peer(never).Dynamic || len(n.Peers()) != 2 {
		t.Errorf("expected are %+v", n.Peers())
	}
	converged := func() bool {
		select {
		case <-n.Converged():
			return true
		default:
			return false
		}
	}
	if converged() {
		t.Error("it converged without those who were there")
	}
	a = router(back)
	n.waitHops("192.0.2.0/24", a.cfg.NextHop4.String())
	n.waitHops("2001:db8::/48", a.cfg.NextHop6.String())
	eventually(t, "the other one is given up after the restart time", func() bool { return converged() && n.peer(gone).Name == "" })
	eventually(t, "and forgotten", func() bool { return slices.Equal(second.now(), []netip.Addr{back}) })

	// When all are back, nobody waits for the rest of the time.
	n.stop()
	cfg.RestartTime = 100 * time.Second
	n = startNode(t, cfg, Options{Restarting: true, Expected: second.now()})
	eventually(t, "it is converged", func() bool {
		select {
		case <-n.Converged():
			return n.hops("192.0.2.0/24") != ""
		default:
			return false
		}
	})
}

// A peer that was expected, came, and broke before it had said all restarts like a
// configured one: what our predecessor learned from it is kept for its restart time.
func TestB15_ExpectedBreaks(t *testing.T) {
	t.Parallel()
	us, them := freeAddr(t), freeAddr(t)
	cfg := nodeConfig(64512, us)
	cfg.Ranges = []RangeConfig{{Prefixes: []netip.Prefix{netip.PrefixFrom(us, 24).Masked()}, ASNs: [][2]uint32{{65001, 65009}}, Peer: PeerConfig{Name: "racks"}}}
	n := startNode(t, cfg, Options{Restarting: true, Expected: []netip.Addr{them}})
	n.OriginationsComplete()
	r := &rawPeer{t: t, addr: them}
	r.connect(n)
	open, err := openParams{asn: 65001, id: them, families: familySet{true, true}, restartTime: 2 * time.Second}.marshal()
	if err != nil {
		t.Fatal(err)
	}
	r.write(cat(open, keepaliveMessage()))
	n.waitUp(them)
	converged := func() bool {
		select {
		case <-n.Converged():
			return true
		default:
			return false
		}
	}
	_ = r.nc.Close()
	eventually(t, "the session is down", func() bool { return n.peer(them).State != "Established" })
	n.Peers() // once more through the loop, which tells after each turn
	if converged() {
		t.Error("converged without what the peer had not said yet")
	}
	eventually(t, "its restart time is over", converged)
}

// RFC 4724 section 4.1: an expected peer of which only its OPEN will say whether it is
// outside may be that.
func TestB15_ExpectedMayBeOutside(t *testing.T) {
	for _, c := range []struct {
		name  string
		rows  [][2]uint32
		waits bool
	}{
		{"inside", [][2]uint32{{64512, 64512}}, false},
		{"either", [][2]uint32{{64512, 64512}, {65001, 65009}}, true},
		{"a row around ours", [][2]uint32{{64512, 64513}}, true},
		{"outside", [][2]uint32{{65001, 65009}}, true},
	} {
		us, them := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		d := newDesk(t, Config{ASN: 64512, RouterID: us, NextHop4: us,
			Ranges: []RangeConfig{{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, ASNs: c.rows, Peer: PeerConfig{Name: "racks"}}}},
			func(o *Options) { o.Restarting, o.Expected = true, []netip.Addr{them} })
		p := d.add("inside", PeerConfig{Addr: netip.MustParseAddrPort("10.0.0.3:179"), ASN: 64512}, netip.MustParseAddr("10.0.0.3"))
		d.up(p)
		if waits := !d.s.mayEndRIB(d.s.peers[p.cfg.Addr]); waits != c.waits {
			t.Errorf("%s: End-of-RIB waits: %v", c.name, waits)
		}
	}
}
