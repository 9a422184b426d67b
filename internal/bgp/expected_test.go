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
