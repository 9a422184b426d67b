// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/secret"
)

// What others and we do together: each feature with each daemon, over IPv4 and
// over IPv6, both families on the session. docs/interop.md shows the outcome.

// interop is one session under test.
type interop struct {
	t    *testing.T
	sp   *space
	n    *node      // us
	r    *neighbour // the daemon
	addr netip.Addr
	opt  Options
	// silence makes both ends lose what the other sends.
	silence func(bool)
	apart   atomic.Bool // no connection is tried
}

// together is a feature.
type together struct {
	name  string
	set   func(*setting)          // the daemon's side
	cfg   func(*Config, *interop) // ours
	check func(x *interop)        // both sides
	cells map[string]string       // daemon: the test elsewhere that shows it
	lacks string                  // why there is none with any daemon
	// overIPv6: only a session over IPv6 has it.
	overIPv6 bool
}

var daemons = []daemon{daemonBIRD, daemonFRR, daemonGoBGP, daemonOpenBGPD}

// Features that not every daemon has.
const (
	refreshOurs   = "route refresh (RFC 2918): muslin asks"
	limitTheirs   = "limit of prefixes: the other's"
	refreshTheirs = "route refresh (RFC 2918): the other asks"
	markersTheirs = "enhanced route refresh (RFC 7313): the other sends the markers"
	markersOurs   = "enhanced route refresh (RFC 7313): muslin sends the markers"
	restartTheirs = "graceful restart (RFC 4724): of the other"
	bfd           = "BFD (RFC 5880)"
	extNextHop    = "IPv4 with IPv6 next hops (RFC 8950), over IPv6"
	onInterface   = "unnumbered: found by router advertisement (RFC 4861), both families by RFC 8950"
	roles         = "roles (RFC 9234): provider and customer"
	roleMismatch  = "roles (RFC 9234): two customers"
)

// slow is long enough for a daemon's timers of a few seconds.
const slow = 10 * time.Second

// exchanged waits until each side has the other's routes.
func (x *interop) exchanged() {
	x.t.Helper()
	x.n.waitHops("192.0.2.0/24", "10.99.0.2")
	x.n.waitHops("198.51.100.0/24", "10.99.0.2")
	x.n.waitHops(own6, "fd99::2")
	x.r.wait("10.1.0.0/26", "10.99.0.1")
	x.r.wait("fd00:1::/122", "fd99::1")
}

// node is a further speaker of ours with a session with each of these.
func (x *interop) node(addr, hop6 string, as uint32, peers ...PeerConfig) *node {
	id := netip.MustParseAddr(addr)
	for i := range peers {
		peers[i].LocalAddr, peers[i].ASN = id, 64512
	}
	n := startNode(x.t, Config{ASN: as, RouterID: id, NextHop4: id, NextHop6: netip.MustParseAddr(hop6), Peers: peers}, x.sp.options())
	n.OriginationsComplete()
	return n
}

// raw is a further neighbour by hand, which connects from one address to
// another.
func (x *interop) raw(addr, to string, as uint32) *rawPeer {
	x.t.Helper()
	r := &rawPeer{t: x.t, addr: netip.MustParseAddr(addr)}
	within(x.t, 2*slow, "session by hand with "+to, func() bool {
		nc, err := inSpace(x.sp, func() (net.Conn, error) {
			return defaultDial(context.Background(), r.addr, netip.AddrPortFrom(netip.MustParseAddr(to), 1790))
		})
		if err != nil {
			return false
		}
		r.nc, r.br = nc, bufio.NewReader(nc)
		b, err := openParams{asn: as, id: r.addr, hold: 90 * time.Second, families: familySet{true, true}}.marshal()
		if err != nil {
			x.t.Fatal(err)
		}
		r.write(b)
		if typ, _ := r.read(); typ != msgOpen {
			_ = nc.Close()
			return false
		}
		r.write(keepaliveMessage())
		return true
	})
	x.t.Cleanup(func() { _ = r.nc.Close() })
	return r
}

func to(addr string) PeerConfig {
	return PeerConfig{Name: addr, Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), 1790)}
}

// from is a neighbour of our speaker that connects to it.
func from(addr string, as uint32) PeerConfig {
	p := to(addr)
	p.ASN, p.LocalAddr, p.Passive = as, netip.MustParseAddr("10.99.0.1"), true
	return p
}

// only exports what lies in one of these prefixes.
func only(prefixes ...string) Policy {
	return func(r *Route) Verdict {
		if slices.Contains(prefixes, r.Prefix.String()) {
			return Verdict{}
		}
		return Verdict{Refused: RefusedFilter, Detail: "not for this peer"}
	}
}

var togethers = []together{
	{name: "iBGP", check: (*interop).exchanged},
	{
		name:  "eBGP, AS number of 4 octets",
		set:   func(s *setting) { s.as = 4200000001 },
		check: func(x *interop) { x.exchanged(); x.r.wait("10.1.0.0/26", "64512"); x.r.wait("fd00:1::/122", "64512") },
	},
	{
		name: "route reflector (RFC 4456): muslin",
		cfg: func(c *Config, _ *interop) {
			c.ClusterID = netip.MustParseAddr("1.1.1.1")
			c.Peers[0].Client = true
			second := from("10.99.0.3", 64512)
			second.Client = true
			c.Peers = append(c.Peers, second)
		},
		check: func(x *interop) {
			second := x.node("10.99.0.3", "fd99::3", 64512, to("10.99.0.1"))
			second.originate("10.3.0.0/26", "fd00:3::/122")
			x.exchanged()
			x.r.wait("10.3.0.0/26", "10.99.0.3", "1.1.1.1")
			x.r.wait("fd00:3::/122", "fd99::3", "10.99.0.3", "1.1.1.1")
			second.waitHops("192.0.2.0/24", "10.99.0.2")
			second.waitHops(own6, "fd99::2")
		},
	},
	{
		name: "route reflector (RFC 4456): the other",
		set:  func(s *setting) { s.client, s.more = true, []other{{"10.99.0.3", 64512}} },
		check: func(x *interop) {
			second := x.node("10.99.0.3", "fd99::3", 64512, to("10.99.0.2"))
			second.originate("10.3.0.0/26", "fd00:3::/122")
			x.exchanged()
			x.n.waitHops("10.3.0.0/26", "10.99.0.3")
			x.n.waitHops("fd00:3::/122", "fd99::3")
			second.waitHops("10.1.0.0/26", "10.99.0.1")
			second.waitHops("fd00:1::/122", "fd99::1")
		},
	},
	{
		name:  "TCP MD5 (RFC 2385): the same password",
		set:   func(s *setting) { s.password = "k3y-of-both" },
		cfg:   func(c *Config, _ *interop) { c.Peers[0].Password = secret.New("k3y-of-both") },
		check: (*interop).exchanged,
	},
	{
		name: "TCP MD5 (RFC 2385): another password",
		set:  func(s *setting) { s.password = "other" },
		cfg:  func(c *Config, _ *interop) { c.Peers[0].Password = secret.New("k3y") },
		check: func(x *interop) {
			eventually(x.t, "the reason", func() bool { return strings.Contains(x.n.peer(x.addr).LastError, "password") })
			if x.n.peer(x.addr).Established != 0 || x.r.isUp() {
				x.t.Error("there was a session")
			}
		},
	},
	{
		name:  "TTL security (RFC 5082)",
		set:   func(s *setting) { s.ttlSecurity = true },
		cfg:   func(c *Config, _ *interop) { c.Peers[0].TTLSecurity = 2 },
		check: (*interop).exchanged,
	},
	{
		name: "graceful restart (RFC 4724): of muslin",
		check: func(x *interop) {
			x.exchanged()
			x.n.stop()
			eventually(x.t, "the loss is seen", func() bool { return !x.r.isUp() })
			if !x.r.has("10.1.0.0/26") || !x.r.has("fd00:1::/122") {
				x.t.Error("our routes were dropped on the loss of TCP")
			}
			x.opt.Restarting = true
			n := startNode(x.t, x.n.cfg, x.opt)
			n.originate("10.1.0.0/26")
			within(x.t, 2*slow, "the session is back", func() bool { return n.peer(x.addr).State == "Established" })
			if !x.r.has("10.1.0.0/26") || !x.r.has("fd00:1::/122") {
				x.t.Error("our routes were dropped before End-of-RIB")
			}
			n.OriginationsComplete()
			x.r.lost("fd00:1::/122")
			if !x.r.has("10.1.0.0/26") {
				x.t.Error("the route that stayed is gone")
			}
		},
	},
	{
		name: restartTheirs,
		cfg: func(c *Config, x *interop) {
			c.Listen = nil
			x.opt.Dial = func(ctx context.Context, local netip.Addr, addr netip.AddrPort) (net.Conn, error) {
				if x.apart.Load() {
					return nil, errors.New("kept apart")
				}
				return inSpace(x.sp, func() (net.Conn, error) { return defaultDial(ctx, local, addr) })
			}
		},
		check: func(x *interop) {
			x.exchanged()
			kept4, kept6 := always(x.n, "192.0.2.0/24"), always(x.n, own6)
			x.r.kill()
			eventually(x.t, "its routes are stale", func() bool { return x.n.peer(x.addr).Stale == 3 })
			x.r.set.less = true
			// One whose routes come by its API says End-of-RIB without them, and then
			// they have to go (RFC 4724 section 4.2), unless the session is later.
			x.apart.Store(x.r.originate != nil)
			x.r.begin(x.r.set, x.r.restart...)
			x.apart.Store(false)
			within(x.t, 3*slow, "what it no longer announces is gone", func() bool { return x.n.hops("198.51.100.0/24") == "" })
			within(x.t, 3*slow, "nothing is stale", func() bool { p := x.n.peer(x.addr); return p.State == "Established" && p.Stale == 0 })
			if !kept4() || !kept6() {
				x.t.Error("a route was gone for a moment")
			}
			x.r.wait("10.1.0.0/26", "10.99.0.1")
			x.r.wait("fd00:1::/122", "fd99::1")
		},
	},
	{
		name: refreshOurs,
		check: func(x *interop) {
			x.exchanged()
			before := x.n.peer(x.addr).Messages.Received["update"]
			x.n.ask(func() {
				for _, p := range x.n.Speaker.peers {
					p.est.send(chunk{refreshMessage(v4, refreshRequest), 1})
					p.est.send(chunk{refreshMessage(v6, refreshRequest), 1})
				}
			})
			eventually(x.t, "both families come again", func() bool { return x.n.peer(x.addr).Messages.Received["update"] >= before+2 })
			x.exchanged()
		},
	},
	{
		name: refreshTheirs,
		check: func(x *interop) {
			x.exchanged()
			sent := x.n.peer(x.addr).Messages.Sent["update"]
			for _, words := range x.r.refresh(x.r.set.ours) {
				x.r.ask(words...)
			}
			eventually(x.t, "it asks for both families and gets them", func() bool {
				m := x.n.peer(x.addr).Messages
				return m.Received["route-refresh"] >= 2 && m.Sent["update"] >= sent+2
			})
			x.exchanged()
		},
	},
	{
		name: markersTheirs,
		set:  func(s *setting) { s.markers = true },
		check: func(x *interop) {
			x.exchanged()
			kept4, kept6 := always(x.n, "192.0.2.0/24"), always(x.n, own6)
			// As if it had said so once, and its withdrawal had been lost.
			never := []string{"203.0.113.0/24", "2001:db8:2::/48"}
			x.n.ask(func() {
				for _, p := range x.n.Speaker.peers {
					for _, prefix := range never {
						a := &attrs{nextHop: netip.MustParseAddr("10.99.0.2"), localPref: 100, hasLocalPref: true}
						if f := netip.MustParsePrefix(prefix); f.Addr().Is6() {
							a.nextHop = netip.MustParseAddr("fd99::2")
						}
						x.n.announce(p.est, []pathRef{{prefix: netip.MustParsePrefix(prefix)}}, a)
					}
				}
			})
			x.n.waitHops(never[0], "10.99.0.2")
			x.n.waitHops(never[1], "fd99::2")
			x.n.Reset(x.addr, ResetIn, "")
			eventually(x.t, "both markers of both families", func() bool { return x.n.peer(x.addr).Messages.Received["route-refresh"] >= 4 })
			x.n.waitHops(never[0], "")
			x.n.waitHops(never[1], "")
			if !kept4() || !kept6() {
				x.t.Error("a route was gone for a moment")
			}
			x.exchanged()
		},
	},
	{
		name: markersOurs,
		set:  func(s *setting) { s.markers = true },
		check: func(x *interop) {
			x.n.originate("10.1.9.0/26", "fd00:1:9::/122")
			x.exchanged()
			x.r.wait("10.1.9.0/26", "10.99.0.1")
			x.r.wait("fd00:1:9::/122", "fd99::1")
			// As if a withdrawal had been lost.
			x.n.ask(func() {
				for _, p := range x.n.Speaker.peers {
					for _, prefix := range []string{"10.1.9.0/26", "fd00:1:9::/122"} {
						p.group.out.put(pathRef{prefix: netip.MustParsePrefix(prefix)}, nil)
					}
					p.group.dumpValid = [familySetSize]bool{}
				}
			})
			for _, words := range x.r.refresh(x.r.set.ours) {
				x.r.ask(words...)
			}
			eventually(x.t, "both markers of both families", func() bool { return x.n.peer(x.addr).Messages.Sent["route-refresh"] >= 4 })
			x.r.lost("10.1.9.0/26")
			x.r.lost("fd00:1:9::/122")
			x.exchanged()
		},
	},
	{
		name: "ADD-PATH (RFC 7911), both ways",
		set:  func(s *setting) { s.addPath, s.more = true, []other{{"10.99.0.3", 65003}, {"10.99.0.4", 65004}} },
		cfg: func(c *Config, _ *interop) {
			p := &c.Peers[0]
			p.AddPathReceive, p.AddPathSend, p.NextHopMode = true, 4, NextHopKeep
			c.Peers = append(c.Peers, from("10.99.0.3", 65003), from("10.99.0.4", 65004))
		},
		check: func(x *interop) {
			for i := 3; i <= 4; i++ {
				us, them := to("10.99.0.1"), to("10.99.0.2")
				us.Export, them.Export = only("10.8.0.0/24", "fd00:8::/64"), only("10.9.0.0/24", "fd00:9::/64")
				o := x.node(fmt.Sprint("10.99.0.", i), fmt.Sprint("fd99::", i), 65000+uint32(i), us, them)
				o.originate("10.8.0.0/24", "fd00:8::/64", "10.9.0.0/24", "fd00:9::/64")
			}
			x.exchanged()
			for _, p := range []string{"10.9.0.0/24", "fd00:9::/64"} {
				eventually(x.t, "two paths to "+p, func() bool {
					r := x.n.Routes(RouteFilter{Prefix: netip.MustParsePrefix(p), Peer: x.addr})
					return len(r) == 2 && r[0].PathID != r[1].PathID && r[0].NextHop != r[1].NextHop
				})
			}
			x.r.wait("10.8.0.0/24", "10.99.0.3", "10.99.0.4", "65003", "65004")
			x.r.wait("fd00:8::/64", "fd99::3", "fd99::4", "65003", "65004")
		},
	},
	{
		name: "unknown attributes (RFC 4271 section 9), both ways",
		set:  func(s *setting) { s.as, s.more = 65002, []other{{"10.99.0.4", 65004}} },
		cfg: func(c *Config, _ *interop) {
			c.Peers[0].PassUnknown = true
			c.Peers = append(c.Peers, from("10.99.0.3", 65003))
			c.Peers[1].PassUnknown = true
		},
		check: func(x *interop) {
			// By hand to us, through both, by hand to whom the daemon tells; and back.
			a := x.raw("10.99.0.3", "10.99.0.1", 65003)
			x.exchanged()
			b := x.raw("10.99.0.4", "10.99.0.2", 65004)
			long := slices.Repeat([]byte{5}, 300) // not as type 254, which BIRD uses for itself and then takes for malformed
			for _, dir := range []struct {
				from, to     *rawPeer
				as           uint32
				route4, hop4 string
				route6, hop6 string
			}{
				{a, b, 65003, "10.50.0.0/24", "10.99.0.3", "fd50::/64", "fd99::3"},
				{b, a, 65004, "10.51.0.0/24", "10.99.0.4", "fd51::/64", "fd99::4"},
			} {
				list := [][]byte{at(0x40, attrOrigin, 0), at(0x40, attrASPath, cat([]byte{segSequence, 1}, be32(dir.as))...)}
				// Of the family of the transport, for which every daemon has a next hop.
				route, hop := dir.route4, netip.MustParseAddr(dir.hop4)
				if x.addr.Is6() {
					route = dir.route6
					list = append(list, mpReach(dir.hop6, route))
				} else {
					list = append(list, at(0x40, attrNextHop, hop.AsSlice()...))
				}
				list = append(list, at(0xc0, 99, 1, 2, 3), at(0x80, 98, 7), at(0xc0, 253, long...))
				dir.from.write(announce(route, list))
				got, _ := dir.to.await(route)
				if have, want := unknowns(got), cat(at(0xe0, 99, 1, 2, 3), at(0xe0, 253, long...)); !slices.Equal(have, want) {
					x.t.Errorf("%s: %x, want %x", route, have, want)
				}
			}
		},
	},
	{
		name:     extNextHop,
		overIPv6: true,
		set:      func(s *setting) { s.extNextHop = true },
		cfg: func(c *Config, _ *interop) {
			c.NextHop4, c.Peers[0].ExtendedNextHop = netip.Addr{}, true
		},
		check: func(x *interop) {
			x.n.waitHops("192.0.2.0/24", "fd99::2")
			x.n.waitHops(own6, "fd99::2")
			x.r.wait("10.1.0.0/26", "fd99::1")
			x.r.wait("fd00:1::/122", "fd99::1")
			x.n.withdraw("10.1.0.0/26")
			x.r.lost("10.1.0.0/26")
		},
	},
	{
		name:  "malformed UPDATEs of a third (RFC 7606) stop at muslin",
		cfg:   func(c *Config, _ *interop) { c.Peers = append(c.Peers, from("10.99.0.3", 65001)) },
		check: (*interop).thirdParty,
	},
	{
		name: "listen range: the other connects from one",
		cfg: func(c *Config, x *interop) {
			p := c.Peers[0]
			network, _ := x.addr.Prefix(24)
			c.Peers, c.Ranges = nil, []RangeConfig{{Prefixes: []netip.Prefix{network}, ASNs: [][2]uint32{{p.ASN, p.ASN}}, Peer: PeerConfig{Name: "range"}}}
		},
		check: func(x *interop) {
			within(x.t, 3*slow, "it has connected", func() bool { p := x.n.peer(x.addr); return p.Dynamic && p.State == "Established" })
			x.exchanged()
		},
	},
	{
		name: roles,
		set:  func(s *setting) { s.as, s.role = 65002, RoleProvider },
		cfg: func(c *Config, _ *interop) {
			second := from("10.99.0.3", 65003)
			c.Peers[0].Role, c.Peers[0].RoleStrict, second.Role = RoleCustomer, true, RoleCustomer
			c.Peers = append(c.Peers, second)
		},
		check: func(x *interop) {
			second := x.node("10.99.0.3", "fd99::3", 65003, to("10.99.0.1"))
			second.originate("10.3.0.0/26", "fd00:3::/122")
			x.exchanged()
			x.n.waitHops("10.3.0.0/26", "10.99.0.3")
			x.n.waitHops("fd00:3::/122", "fd99::3")
			for prefix, as := range map[string]uint32{"192.0.2.0/24": 65002, own6: 65002, "10.3.0.0/26": 65003, "fd00:3::/122": 65003} {
				if r := x.n.Routes(RouteFilter{View: ViewAccepted, Prefix: netip.MustParsePrefix(prefix)}); r[0].OTC != as {
					x.t.Errorf("%s: ONLY_TO_CUSTOMER %d, want %d", prefix, r[0].OTC, as)
				}
			}
			// It marks what goes to its customer itself.
			if r := x.n.Routes(RouteFilter{View: ViewReceived, Prefix: netip.MustParsePrefix(own6)}); r[0].OTC != 65002 {
				x.t.Errorf("received ONLY_TO_CUSTOMER %d", r[0].OTC)
			}
			x.n.originate("10.1.1.0/26", "fd00:1:1::/122") // sent after the others
			x.r.wait("10.1.1.0/26", "10.99.0.1")
			x.r.wait("fd00:1:1::/122", "fd99::1")
			if x.r.has("10.3.0.0/26") || x.r.has("fd00:3::/122") {
				x.t.Error("routes of one provider were leaked to the other")
			}
		},
	},
	{
		name: roleMismatch,
		set:  func(s *setting) { s.as, s.role = 65002, RoleCustomer },
		cfg:  func(c *Config, _ *interop) { c.Peers[0].Role = RoleCustomer },
		check: func(x *interop) {
			eventually(x.t, "the reason", func() bool {
				p := x.n.peer(x.addr)
				told := p.Sent
				if told == nil {
					told = p.Got
				}
				return told != nil && told.Code == codeOpen && told.Subcode == subRoleMismatch
			})
			if x.n.peer(x.addr).Established != 0 || x.r.isUp() {
				x.t.Error("there was a session")
			}
		},
	},
	{
		name: "limit of prefixes: muslin's",
		cfg:  func(c *Config, _ *interop) { c.Peers[0].MaxPrefixes[0], c.Peers[0].OverLimit = 1, LimitShutdown },
		check: func(x *interop) {
			eventually(x.t, "the reason", func() bool {
				p := x.n.peer(x.addr)
				return strings.Contains(p.LastError, "more than 1 prefixes") && p.State == "Idle" && p.Received == 0
			})
			eventually(x.t, "the other end sees it", func() bool { return !x.r.isUp() && !x.r.has("10.1.0.0/26") })
		},
	},
	{
		name: limitTheirs,
		set:  func(s *setting) { s.limit = 3 },
		check: func(x *interop) {
			x.exchanged()
			// Two too many: FRR counts before it takes one.
			x.n.originate("10.1.1.0/26", "10.1.2.0/26", "10.1.3.0/26", "10.1.4.0/26")
			eventually(x.t, "we are told why", func() bool {
				got := x.n.peer(x.addr).Got
				return got != nil && got.Code == codeCease && got.Subcode == ceaseMaxPrefixes
			})
		},
	},
	{
		name: "session down by hold timer, both ends",
		set:  func(s *setting) { s.hold = 3 },
		cfg: func(c *Config, x *interop) {
			// Everything passes through something that can fall silent.
			c.Listen, c.Peers[0].HoldTime = nil, 3*slow/10
			p := &proxy{}
			x.opt.Dial = func(ctx context.Context, local netip.Addr, addr netip.AddrPort) (net.Conn, error) {
				return inSpace(x.sp, func() (net.Conn, error) { return p.dial(ctx, local, addr) })
			}
			x.silence = p.silence
		},
		check: func(x *interop) {
			x.exchanged()
			x.silence(true)
			eventually(x.t, "ours", func() bool {
				p := x.n.peer(x.addr)
				return p.State != "Established" && strings.Contains(p.LastError, "nothing received for 3s")
			})
			eventually(x.t, "the other's", func() bool { return !x.r.isUp() })
			if n := x.n.fibSize(); n != 0 {
				x.t.Errorf("%d routes are left", n)
			}
			x.silence(false)
			within(x.t, 3*slow, "they find each other again", func() bool { return x.n.peer(x.addr).State == "Established" })
			x.exchanged()
		},
	},
	{name: onInterface, cells: map[string]string{"BIRD": "internal/e2e TestUnnumbered_BIRD", "FRR": "internal/e2e TestUnnumbered_FRR"}},
	{name: bfd, cells: map[string]string{"BIRD": "internal/e2e TestInterop_BFD_BIRD", "FRR": "internal/bfdd TestInterop_FRR"}},
}

func TestInterop(t *testing.T) {
	for _, d := range daemons {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			d.need(t)
			for _, f := range togethers {
				if f.check == nil || d.lacks[f.name] != "" {
					continue
				}
				for _, tr := range []struct{ name, ours, theirs string }{
					{"v4", "10.99.0.1", "10.99.0.2"},
					{"v6", "fd99::1", "fd99::2"},
				} {
					if f.overIPv6 && tr.name != "v6" {
						continue
					}
					t.Run(f.name+"/"+tr.name, func(t *testing.T) {
						t.Parallel()
						testInterop(t, d, f, setting{ours: tr.ours, theirs: tr.theirs, as: 64512, hold: 9})
					})
				}
			}
		})
	}
}

func testInterop(t *testing.T, d daemon, f together, s setting) {
	if f.set != nil {
		f.set(&s)
	}
	x := &interop{t: t, addr: netip.MustParseAddr(s.theirs),
		sp: newSpace(t, "10.99.0.1/32", "10.99.0.2/32", "10.99.0.3/32", "10.99.0.4/32", "fd99::1/128", "fd99::2/128", "fd99::3/128", "fd99::4/128")}
	x.opt = x.sp.options()
	local := netip.MustParseAddr(s.ours)
	main := to(s.theirs)
	main.LocalAddr, main.ASN = local, s.as
	cfg := Config{
		ASN: 64512, RouterID: netip.MustParseAddr("10.99.0.1"),
		Listen:   []netip.AddrPort{netip.MustParseAddrPort("10.99.0.1:1790"), netip.MustParseAddrPort("[fd99::1]:1790")},
		NextHop4: netip.MustParseAddr("10.99.0.1"), NextHop6: netip.MustParseAddr("fd99::1"),
		Peers: []PeerConfig{main},
	}
	if f.cfg != nil {
		f.cfg(&cfg, x)
	}
	x.r = d.start(t, x.sp, s)
	x.n = startNode(t, cfg, x.opt)
	x.n.originate("10.1.0.0/26", "fd00:1::/122")
	x.n.OriginationsComplete()
	f.check(x)
}

// The page says what is tested, no more and no less; -update writes its table.
func TestInterop_Page(t *testing.T) { checkPage(t, "../../docs/interop.md", interopTable(t)) }

// interopTable is the matrix, and the reason for each empty cell. Every cell
// has a test or a reason, never both.
func interopTable(t *testing.T) string {
	var table, notes words
	fmt.Fprint(&table, "\n|")
	for _, d := range daemons {
		fmt.Fprintf(&table, " | %s %s", d.name, d.version)
	}
	table.add(" |\n|---%s|", strings.Repeat("|---", len(daemons)))
	reasons := []string{}
	for _, f := range togethers {
		fmt.Fprintf(&table, "| %s", f.name)
		for _, d := range daemons {
			lacks := d.lacks[f.name]
			if lacks == "" {
				lacks = f.lacks
			} else {
				lacks = d.name + ": " + lacks
			}
			where := f.cells[d.name]
			if where != "" {
				hasTest(t, where)
			}
			if tested := where != "" || f.check != nil && d.lacks[f.name] == ""; tested == (lacks != "") {
				t.Errorf("%s with %s: it is tested: %v; why not: %q", f.name, d.name, tested, lacks)
			}
			if lacks == "" {
				fmt.Fprint(&table, " | yes")
				continue
			}
			at := slices.Index(reasons, lacks)
			if at < 0 {
				at = len(reasons)
				reasons = append(reasons, lacks)
				notes.add("%d. %s", at+1, lacks)
			}
			fmt.Fprintf(&table, " | (%d)", at+1)
		}
		table.add(" |")
	}
	for _, d := range daemons {
		for name := range d.lacks {
			if !slices.ContainsFunc(togethers, func(f together) bool { return f.name == name }) {
				t.Errorf("%s lacks %q, which is no feature", d.name, name)
			}
		}
	}
	return table.String() + "\n" + notes.String() + "\n"
}

// hasTest checks that "directory TestName" exists.
func hasTest(t *testing.T, where string) {
	t.Helper()
	dir, name, _ := strings.Cut(where, " ")
	files, _ := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
	for _, f := range files {
		if text, _ := os.ReadFile(f); strings.Contains(string(text), "\nfunc "+name+"(") {
			return
		}
	}
	t.Errorf("there is no test %s in %s", name, dir)
}
