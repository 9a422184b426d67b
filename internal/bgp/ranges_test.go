// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/secret"
)

// Listen ranges, over IPv4 and over IPv6: who is in one and has an AS number that it
// allows is taken, up to the limit; others are not; whoever is gone is forgotten, after
// graceful restart; and a configured peer comes first.
func TestListenRanges(t *testing.T) {
	needBird(t) // for a namespace
	for name, c := range map[string]struct{ us, wide, narrow, outside string }{
		"v4": {"10.99.0.1", "10.98.0.0/16", "10.98.7.0/24", "10.97.0.1"},
		"v6": {"fd99::1", "fd98::/32", "fd98:0:7::/48", "fd97::1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			us, wide, narrow, outside := netip.MustParseAddr(c.us), netip.MustParsePrefix(c.wide), netip.MustParsePrefix(c.narrow), netip.MustParseAddr(c.outside)
			w1, n1 := wide.Addr().Next(), narrow.Addr().Next()
			w2 := w1.Next()
			w3 := w2.Next()
			var addrs []string
			for _, a := range []netip.Addr{us, w1, w2, w3, n1, outside} {
				addrs = append(addrs, hostPrefix(a).String())
			}
			sp := newSpace(t, addrs...)
			var log lockedBuffer
			opt := sp.options()
			opt.Log = slog.New(slog.NewTextHandler(&log, nil))
			cfg := Config{ASN: 64512, RouterID: netip.MustParseAddr("10.99.0.1"), NextHop4: netip.MustParseAddr("10.99.0.1"), NextHop6: netip.MustParseAddr("fd99::1"),
				Listen: []netip.AddrPort{addrPort(us)},
				Ranges: []RangeConfig{
					{Prefixes: []netip.Prefix{wide}, ASNs: [][2]uint32{{65000, 65009}, {64512, 64512}}, Limit: 2, Peer: PeerConfig{Name: "wide", RestartTime: 2 * time.Second}},
					{Prefixes: []netip.Prefix{narrow}, ASNs: [][2]uint32{{65100, 65100}}, Peer: PeerConfig{Name: "narrow", Password: secret.New("k3y")}},
				}}
			n := startNode(t, cfg, opt)
			n.originate("10.1.0.0/24")
			n.OriginationsComplete()
			far := func(a netip.Addr, as uint32, id, password string) *node {
				pc := PeerConfig{Name: "us", Addr: addrPort(us), LocalAddr: a, ASN: 64512, Password: secret.New(password)}
				f := startNode(t, Config{ASN: as, RouterID: netip.MustParseAddr(id), NextHop4: netip.MustParseAddr(id), NextHop6: netip.MustParseAddr("fd77::1"), Peers: []PeerConfig{pc}}, sp.options())
				f.OriginationsComplete()
				return f
			}
			a, b, c := far(w1, 65003, "10.98.0.1", ""), far(w2, 64512, "10.98.0.2", ""), far(n1, 65100, "10.98.7.1", "k3y")
			n.waitUp(w1, w2, n1)
			a.originate("10.2.0.0/24")
			n.waitHops("10.2.0.0/24", "10.98.0.1")
			for _, f := range []*node{a, b, c} {
				f.waitHops("10.1.0.0/24", "10.99.0.1")
			}
			for _, want := range []struct {
				a    netip.Addr
				name string
				as   uint32
				ebgp bool
			}{{w1, "wide", 65003, true}, {w2, "wide", 64512, false}, {n1, "narrow", 65100, true}} {
				if st := n.peer(want.a); !st.Dynamic || st.Name != want.name || st.ASN != want.as || st.EBGP != want.ebgp {
					t.Errorf("%s: %+v", want.a, st)
				}
			}
			// One too many, and one from elsewhere.
			third, stranger := far(w3, 65004, "10.98.0.3", ""), far(outside, 65004, "10.97.0.1", "")
			eventually(t, "attempts", func() bool { return stranger.peer(us).Failure != nil && third.peer(us).Failure != nil })
			if strings.Count(log.String(), "BGP connection refused") != 1 {
				t.Errorf("not said once:\n%s", log.String())
			}
			if len(n.Peers()) != 3 || third.peer(us).Established+stranger.peer(us).Established != 0 {
				t.Errorf("peers %+v", n.Peers())
			}
			third.stop()
			// An end without a word: the routes are stale, and then all is forgotten.
			a.stop()
			eventually(t, "stale", func() bool { return n.peer(w1).Stale == 1 })
			eventually(t, "forgotten", func() bool { return n.hops("10.2.0.0/24") == "" && n.peer(w1).Name == "" })
			// Another AS number than is allowed.
			bad := far(w1, 65010, "10.98.0.1", "")
			eventually(t, "bad peer AS", func() bool {
				got := bad.peer(us).Got
				return got != nil && got.Code == codeOpen && got.Subcode == subPeerAS
			})
			bad.stop()
			eventually(t, "forgotten", func() bool { return len(n.Peers()) == 2 })
			// A peer of its own wins, and a range that is gone ends its sessions.
			cfg.Ranges = cfg.Ranges[1:]
			cfg.Peers = []PeerConfig{{Name: "own", Addr: addrPort(w2), LocalAddr: us, ASN: 64512, Passive: true}}
			if err := n.SetConfig(cfg); err != nil {
				t.Fatal(err)
			}
			eventually(t, "configured", func() bool { st := n.peer(w2); return st.Name == "own" && !st.Dynamic && st.State == "Established" })
			if st := n.peer(n1); st.Established != 1 || st.State != "Established" {
				t.Errorf("the other range was disturbed: %+v", st)
			}
			cfg.Ranges = nil
			if err := n.SetConfig(cfg); err != nil {
				t.Fatal(err)
			}
			eventually(t, "gone", func() bool { return len(n.Peers()) == 1 })
		})
	}
}

// A range that cannot be is refused, and what is wrong is named.
func TestRangeConfig_Validate(t *testing.T) {
	good := RangeConfig{Prefixes: []netip.Prefix{netip.MustParsePrefix("::/0")}, ASNs: [][2]uint32{{1, 2}}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*RangeConfig){
		"needs Prefixes": func(r *RangeConfig) { r.Prefixes = nil },
		"needs Pref":     func(r *RangeConfig) { r.ASNs = nil },
		"10.0.0.1/24":    func(r *RangeConfig) { r.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")} },
		"fe80::/10":      func(r *RangeConfig) { r.Prefixes = []netip.Prefix{netip.MustParsePrefix("fe80::/10")} },
		"ASNs: 2 to 1":   func(r *RangeConfig) { r.ASNs = [][2]uint32{{2, 1}} },
		"HoldTime":       func(r *RangeConfig) { r.Peer.HoldTime = time.Second },
	} {
		r := good
		if change(&r); r.Validate() == nil || !strings.Contains(r.Validate().Error(), want) {
			t.Errorf("%s: %v", want, r.Validate())
		}
	}
}
