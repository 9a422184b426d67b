// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/secret"
)

// feature is one thing that BIRD and we do together on a session of its own,
// over both transports.
type feature struct {
	name    string
	asn     uint32 // of BIRD
	session string // BIRD: options of the session
	channel string // BIRD: options of both channels
	more    string // BIRD: further protocols
	cfg     func(*Config)
	check   func(t *testing.T, n *node, b *bird, addr netip.Addr)
}

func hasRoute(b *bird, prefix string, words ...string) func() bool {
	return func() bool {
		out := b.ask("show", "route", "all", prefix)
		for _, w := range append(words, prefix) {
			if !strings.Contains(out, w) {
				return false
			}
		}
		return true
	}
}

var features = []feature{
	{
		name: "RFC 2385, the same password", asn: 64512, session: `password "k3y with space";`,
		cfg: func(c *Config) { c.Peers[0].Password = secret.New("k3y with space") },
		check: func(t *testing.T, n *node, b *bird, _ netip.Addr) {
			eventually(t, "our route", hasRoute(b, "10.1.0.0/26"))
			n.waitHops("192.0.2.0/24", "10.99.0.2")
		},
	},
	{
		name: "RFC 2385, another password", asn: 64512, session: `password "other";`,
		cfg: func(c *Config) { c.Peers[0].Password = secret.New("k3y") },
		check: func(t *testing.T, n *node, _ *bird, addr netip.Addr) {
			eventually(t, "the reason", func() bool { return strings.Contains(n.peer(addr).LastError, "password") })
			if n.peer(addr).Established != 0 {
				t.Error("there was a session")
			}
		},
	},
	{
		name: "RFC 4456, we reflect", asn: 64512,
		cfg: func(c *Config) {
			c.ClusterID = netip.MustParseAddr("1.1.1.1")
			c.Peers[0].Client = true
		},
		check: func(t *testing.T, n *node, b *bird, _ netip.Addr) {
			n.waitHops("192.0.2.0/24", "10.99.0.2")
			eventually(t, "our route", hasRoute(b, "10.1.0.0/26"))
		},
	},
	{
		name: "RFC 4456, BIRD reflects", asn: 64512, session: `rr client; rr cluster id 2.2.2.2;`,
		more: `protocol bgp second { local 10.99.0.2 port 1790 as 64512; neighbor 10.99.0.3 port 1790 as 64512; multihop; strict bind on; passive on; rr client; rr cluster id 2.2.2.2; ipv4 { import all; export all; }; ipv6 { import all; export all; }; }`,
		check: func(t *testing.T, n *node, b *bird, _ netip.Addr) {
			id := netip.MustParseAddr("10.99.0.3")
			other := startNode(t, Config{ASN: 64512, RouterID: id, NextHop4: id, NextHop6: netip.MustParseAddr("fd99::3"),
				Peers: []PeerConfig{{Name: "bird", Addr: netip.AddrPortFrom(netip.MustParseAddr("10.99.0.2"), 1790), LocalAddr: id, ASN: 64512}}}, b.sp.options())
			other.OriginationsComplete()
			other.originate("10.3.0.0/26", "fd00:3::/122")
			n.waitHops("10.3.0.0/26", "10.99.0.3")
			n.waitHops("fd00:3::/122", "fd99::3")
			r := n.Routes(RouteFilter{Prefix: netip.MustParsePrefix("10.3.0.0/26")})
			if len(r) != 1 || !r[0].Accepted {
				t.Errorf("reflected route: %+v", r)
			}
			other.waitHops("10.1.0.0/26", "10.99.0.1")
		},
	},
	{
		name: "RFC 7911, both ways", asn: 64512, channel: "add paths on;",
		more: `protocol bgp second { local 10.99.0.2 port 1790 as 64512; neighbor 10.99.0.3 port 1790 as 65003; multihop; strict bind on; passive on; ipv4 { import all; export none; }; }
protocol bgp third { local 10.99.0.2 port 1790 as 64512; neighbor 10.99.0.4 port 1790 as 65004; multihop; strict bind on; passive on; ipv4 { import all; export none; }; }`,
		cfg: func(c *Config) {
			c.Peers[0].AddPathReceive, c.Peers[0].AddPathSend = true, 4
		},
		check: func(t *testing.T, n *node, b *bird, _ netip.Addr) {
			for i, as := range map[string]uint32{"10.99.0.3": 65003, "10.99.0.4": 65004} {
				id := netip.MustParseAddr(i)
				o := startNode(t, Config{ASN: as, RouterID: id, NextHop4: id,
					Peers: []PeerConfig{{Name: "bird", Addr: netip.AddrPortFrom(netip.MustParseAddr("10.99.0.2"), 1790), LocalAddr: id, ASN: 64512}}}, b.sp.options())
				o.OriginationsComplete()
				o.originate("10.9.0.0/24")
			}
			eventually(t, "two paths from BIRD", func() bool {
				r := n.Routes(RouteFilter{Prefix: netip.MustParsePrefix("10.9.0.0/24")})
				return len(r) == 2 && r[0].PathID != r[1].PathID && r[0].PathID != 0
			})
			eventually(t, "our route with a path identifier", hasRoute(b, "10.1.0.0/26"))
		},
	},
}

// What BIRD 2 and we do together, one feature at a time.
func TestInterop_BIRD_Features(t *testing.T) {
	needBird(t)
	for _, f := range features {
		for _, tr := range []struct{ name, ours, theirs string }{
			{"v4", "10.99.0.1", "10.99.0.2"},
			{"v6", "fd99::1", "fd99::2"},
		} {
			t.Run(f.name+"/"+tr.name, func(t *testing.T) {
				t.Parallel()
				testFeature(t, f, tr.ours, tr.theirs)
			})
		}
	}
}

func testFeature(t *testing.T, f feature, ours, theirs string) {
	sp := newSpace(t, "10.99.0.1/32", "10.99.0.2/32", "10.99.0.3/32", "10.99.0.4/32", "fd99::1/128", "fd99::2/128", "fd99::3/128")
	b := newBird(t, sp, fmt.Sprintf(`
log "bird.log" all;
router id 10.99.0.2;
protocol device {}
protocol direct { ipv4; ipv6; }
protocol static s4 { ipv4; route 192.0.2.0/24 blackhole; }
protocol static s6 { ipv6; route 2001:db8:1::/48 blackhole; }
protocol bgp muslin {
	local %s port 1790 as %d;
	neighbor %s port 1790 as 64512;
	multihop; strict bind on; hold time 9;
	connect delay time 1; connect retry time 1; error wait time 1, 2;
	%s
	ipv4 { import all; export where source ~ [ RTS_STATIC, RTS_BGP ]; %s };
	ipv6 { import all; export where source ~ [ RTS_STATIC, RTS_BGP ]; %s };
}
%s
`, theirs, f.asn, ours, f.session, f.channel+ownHop(f, "10.99.0.2"), f.channel+ownHop(f, "fd99::2"), f.more))
	b.start()
	addr := netip.MustParseAddr(theirs)
	cfg := Config{
		ASN: 64512, RouterID: netip.MustParseAddr("10.99.0.1"),
		Listen:   []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(ours), 1790)},
		NextHop4: netip.MustParseAddr("10.99.0.1"), NextHop6: netip.MustParseAddr("fd99::1"),
		Peers: []PeerConfig{{Name: "bird", Addr: netip.AddrPortFrom(addr, 1790), LocalAddr: netip.MustParseAddr(ours), ASN: f.asn}},
	}
	if f.cfg != nil {
		f.cfg(&cfg)
	}
	n := startNode(t, cfg, sp.options())
	n.OriginationsComplete()
	n.originate("10.1.0.0/26", "fd00:1::/122")
	f.check(t, n, b, addr)
}

// ownHop has BIRD announce its own address for what it originates itself; what
// it reflects keeps its next hop.
func ownHop(f feature, addr string) string {
	if f.more != "" {
		return ""
	}
	return " next hop address " + addr + ";"
}
