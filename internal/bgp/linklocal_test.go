// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/secret"
)

// newLinks is a namespace with two links, lo and d1, each with these link-local
// addresses.
func newLinks(t *testing.T, addrs ...string) *space {
	t.Helper()
	needBird(t) // for a namespace
	var host []string
	for _, a := range addrs {
		host = append(host, a+"/64")
	}
	sp := newSpace(t, host...)
	_, err := inSpace(sp, func() (any, error) {
		d1 := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "d1"}, PeerName: "d2"}
		if err := netlink.LinkAdd(d1); err != nil {
			return nil, err
		}
		d2, err := netlink.LinkByName("d2")
		if err == nil {
			err = netlink.LinkSetUp(d2)
		}
		if err != nil {
			return nil, err
		}
		for _, a := range host {
			addr, _ := netlink.ParseAddr(a)
			addr.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(d1, addr); err != nil {
				return nil, err
			}
		}
		return nil, netlink.LinkSetUp(d1)
	})
	if err != nil {
		t.Fatal(err)
	}
	return sp
}

// onLink is a session on a link; as is what the peer may be.
func onLink(zone, ours, theirs string, as ...[2]uint32) PeerConfig {
	a := func(s string) netip.Addr { return netip.MustParseAddr(s).WithZone(zone) }
	return PeerConfig{Name: "on-" + zone, Addr: addrPort(a(theirs)), LocalAddr: a(ours), ASN: as[0][0], ASNs: as, ExtendedNextHop: true}
}

// unnumbered is a node whose only addresses on the links are link-local.
func unnumbered(t *testing.T, sp *space, asn uint32, id string, peers ...PeerConfig) *node {
	t.Helper()
	cfg := Config{ASN: asn, RouterID: netip.MustParseAddr(id), NextHop4: netip.MustParseAddr(id), Peers: peers}
	for _, p := range peers {
		if p.linkLocal() {
			cfg.Listen = append(cfg.Listen, addrPort(p.LocalAddr))
		}
	}
	n := startNode(t, cfg, sp.options())
	n.OriginationsComplete()
	return n
}

// Two routers with two links between them, on which each has one and the same
// link-local address: four routes in both families, each over both links. What
// comes over the links is passed on with another next hop.
func TestUnnumbered(t *testing.T) {
	sp := newLinks(t, "fe80::1", "fe80::2")
	anyAS := [][2]uint32{{1, 64511}, {64513, 4294967294}}
	near := freeAddr(t)
	sessionTo := func(p PeerConfig, password string) PeerConfig {
		p.Password = secret.New(password)
		return p
	}
	third := PeerConfig{Name: "third", Addr: addrPort(near), ASN: 65003, Passive: true, LocalAddr: netip.MustParseAddr("127.0.0.1"), ExtendedNextHop: true}
	a := startNode(t, Config{
		ASN: 64512, RouterID: netip.MustParseAddr("10.99.0.1"), NextHop4: netip.MustParseAddr("10.99.0.1"), NextHop6: netip.MustParseAddr("fd99::1"),
		Listen: []netip.AddrPort{netip.MustParseAddrPort("[fe80::1%lo]:11790"), netip.MustParseAddrPort("[fe80::1%d1]:11790"), netip.MustParseAddrPort("127.0.0.1:11790")},
		Peers:  []PeerConfig{sessionTo(onLink("lo", "fe80::1", "fe80::2", anyAS...), "of lo"), sessionTo(onLink("d1", "fe80::1", "fe80::2", anyAS...), "of d1"), third},
	}, sp.options())
	a.OriginationsComplete()
	b := unnumbered(t, sp, 65001, "10.99.0.2",
		sessionTo(onLink("lo", "fe80::2", "fe80::1", [2]uint32{64512, 64512}), "of lo"), sessionTo(onLink("d1", "fe80::2", "fe80::1", [2]uint32{64512, 64512}), "of d1"))
	c := startNode(t, Config{ASN: 65003, RouterID: netip.MustParseAddr("10.99.0.3"), NextHop4: near, NextHop6: netip.MustParseAddr("fd99::3"),
		Peers: []PeerConfig{{Name: "a", Addr: netip.MustParseAddrPort("127.0.0.1:11790"), LocalAddr: near, ASN: 64512, ExtendedNextHop: true}}}, sp.options())
	c.OriginationsComplete()
	a.originate("10.1.0.0/26", "fd00:1::/122")
	b.originate("10.2.0.0/26", "fd00:2::/122")
	c.originate("10.3.0.0/26", "fd00:3::/122")
	for _, p := range []string{"10.2.0.0/26", "fd00:2::/122"} {
		a.waitHops(p, "fe80::2%d1 fe80::2%lo")
	}
	for _, p := range []string{"10.1.0.0/26", "fd00:1::/122", "10.3.0.0/26", "fd00:3::/122"} {
		b.waitHops(p, "fe80::1%d1 fe80::1%lo")
	}
	c.waitHops("10.2.0.0/26", "10.99.0.1")
	c.waitHops("fd00:2::/122", "fd99::1")
	for _, zone := range []string{"lo", "d1"} {
		st := a.peer(netip.MustParseAddr("fe80::2%" + zone))
		if st.ASN != 65001 || !st.EBGP || !slices.Equal(st.Families, []string{"ipv4-unicast", "ipv6-unicast"}) {
			t.Errorf("%s: %+v", zone, st)
		}
	}
	// Equal octets are made once, for both links.
	if g := a.groupsSnapshot(); !slices.Contains(g, 2) || len(g) != 2 {
		t.Errorf("groups of %v", g)
	}
	// One link goes: the session with it at once, the other one stays.
	cfg := a.cfg
	cfg.Peers, cfg.Listen = cfg.Peers[1:], cfg.Listen[1:]
	if err := a.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	a.waitHops("10.2.0.0/26", "fe80::2%d1")
	a.waitHops("fd00:2::/122", "fe80::2%d1")
	b.waitHops("10.1.0.0/26", "fe80::1%d1")
	if st := a.peer(netip.MustParseAddr("fe80::2%d1")); st.Established != 1 || st.State != "Established" || st.ASN != 65001 {
		t.Errorf("the other link was disturbed: %+v", st)
	}
	if err := a.SetConfig(a.cfg); err != nil { // and comes back
		t.Fatal(err)
	}
	a.waitHops("10.2.0.0/26", "fe80::2%d1 fe80::2%lo")
}

// Both ends connect at the same moment and learn the AS number of the other from
// its OPEN: no connection is refused for it, whichever is kept. Within one AS
// as between two.
func TestUnnumbered_ASFromOpen(t *testing.T) {
	for _, as := range []uint32{64512, 65001} {
		t.Run(fmt.Sprint(as), func(t *testing.T) {
			t.Parallel()
			sp := newLinks(t, "fe80::1", "fe80::2")
			rows := func(own uint32) [][2]uint32 {
				if as == 64512 {
					return [][2]uint32{{own, own}}
				}
				return [][2]uint32{{1, own - 1}, {own + 1, 4294967294}}
			}
			for range 10 {
				a := unnumbered(t, sp, 64512, "10.99.0.1", onLink("lo", "fe80::1", "fe80::2", rows(64512)...))
				b := unnumbered(t, sp, as, "10.99.0.2", onLink("lo", "fe80::2", "fe80::1", rows(as)...))
				a.waitUp(netip.MustParseAddr("fe80::2%lo"))
				b.waitUp(netip.MustParseAddr("fe80::1%lo"))
				for _, n := range []*node{a, b} {
					for _, st := range n.Peers() {
						for _, notice := range []*Notice{st.Sent, st.Got} {
							if notice != nil && notice.Code == codeOpen {
								t.Errorf("%+v", notice)
							}
						}
					}
				}
				a.stop()
				b.stop()
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		sp := newLinks(t, "fe80::1", "fe80::2")
		a := unnumbered(t, sp, 64512, "10.99.0.1", onLink("lo", "fe80::1", "fe80::2", [2]uint32{1, 64511}, [2]uint32{64513, 4294967294}))
		unnumbered(t, sp, 64512, "10.99.0.2", onLink("lo", "fe80::2", "fe80::1", [2]uint32{64512, 64512}))
		eventually(t, "the reason", func() bool {
			st := a.peer(netip.MustParseAddr("fe80::2%lo"))
			return st.ASN == 0 && st.Established == 0 && strings.Contains(st.LastError, "AS 64512, which it may not have")
		})
	})
}

// RFC 2545 section 3 and what is done beside it: every form in which a next hop on
// a link is sent, for routes of both families.
func TestUnnumbered_NextHopForms(t *testing.T) {
	neighbour := netip.MustParseAddr("fe80::2%lo")
	base := cat(goodAttrs(false)[0], goodAttrs(false)[1], goodAttrs(false)[3])
	octets := func(addrs ...string) (b []byte) {
		for _, a := range addrs {
			b = append(b, netip.MustParseAddr(a).AsSlice()...)
		}
		return b
	}
	for _, c := range []struct {
		hop         []byte
		want, else_ string // on the link, and on a session that is on none
	}{
		{octets("fe80::2"), "fe80::2%lo", "fe80::2"},
		{octets("fe80::2", "fe80::2"), "fe80::2%lo", "fe80::2"},
		{octets("::", "fe80::2"), "fe80::2%lo", "::"},
		{octets("fd99::2", "fe80::2"), "fe80::2%lo", "fd99::2"},
		{octets("fd99::2", "fe80::3"), "fd99::2", "fd99::2"}, // a third one's
		{octets("fe80::3"), "fe80::3%lo", "fe80::3"},
		{octets("fd99::2"), "fd99::2", "fd99::2"},
		{octets("10.0.0.1"), "10.0.0.1", "10.0.0.1"},
	} {
		for _, f := range []struct{ afi, prefix string }{{"\x01", "10.7.0.0/16"}, {"\x02", "fd07::/64"}} {
			mp := at(0x80, attrMPReach, cat([]byte{0, f.afi[0], 1, byte(len(c.hop))}, c.hop, []byte{0}, nlri(f.prefix))...)
			body := upd(nil, cat(mp, base), nil)[headerLen:]
			for _, d := range []struct {
				neighbour netip.Addr
				want      string
			}{{neighbour, c.want}, {netip.Addr{}, c.else_}} {
				dec := &decoder{as4: true, neighbour: d.neighbour}
				var u, again update
				if n := dec.decode(body, &u); n != nil || len(u.mpReach) != 1 || u.mpAttrs.nextHop != netip.MustParseAddr(d.want) {
					t.Errorf("%x for %s: %v %+v, want %s", c.hop, f.prefix, n, u.mpAttrs, d.want)
				}
				if n := dec.decode(body, &again); n != nil || again.mpAttrs != u.mpAttrs {
					t.Errorf("%x: equal attributes are two sets", c.hop)
				}
			}
		}
	}
}

// Reliability row B18: of link-local next hops only the neighbour's own is taken, on
// its own link.
func TestB18_LinkLocalNextHops(t *testing.T) {
	s := New(Options{})
	s.cfg = Config{ASN: 64512, RouterID: netip.MustParseAddr("10.99.0.1")}
	on := &peer{s: s, localAS: 64512, ebgp: true, cfg: onLink("lo", "fe80::1", "fe80::2", [2]uint32{65001, 65001})}
	off := &peer{s: s, localAS: 64512, ebgp: true, cfg: PeerConfig{Addr: netip.MustParseAddrPort("[fd99::2]:179"), ASN: 65001, ExtendedNextHop: true}}
	for _, c := range []struct {
		p    *peer
		hop  string
		want Refusal
	}{
		{on, "fe80::2%lo", Accepted}, {on, "fe80::3%lo", RefusedNextHop}, {on, "fe80::1%lo", RefusedNextHop},
		{on, "fe80::2%d1", RefusedNextHop}, {on, "fe80::2", RefusedNextHop}, {on, "fd99::2", Accepted},
		{off, "fe80::2", RefusedNextHop}, {off, "fe80::2%lo", RefusedNextHop},
	} {
		a := &attrs{nextHop: netip.MustParseAddr(c.hop), path: []segment{{segSequence, []uint32{65001}}}}
		for _, prefix := range []string{"10.7.0.0/16", "fd07::/64"} {
			set := s.judgeSet(c.p, a)
			if v := judge(c.p, netip.MustParsePrefix(prefix), a, &set); v.Refused != c.want {
				t.Errorf("%s from %s via %s: %+v", prefix, c.p.cfg.Addr, c.hop, v)
			}
		}
	}
}

// A configuration that cannot be is refused, and what is wrong is named.
func TestUnnumbered_Validate(t *testing.T) {
	good := onLink("eth1", "fe80::1", "fe80::2", [2]uint32{65001, 65001})
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*PeerConfig){
		"no zone": func(p *PeerConfig) { p.Addr = netip.MustParseAddrPort("[fe80::2]:179") },
		"a zone too many": func(p *PeerConfig) {
			p.Addr = netip.MustParseAddrPort("[fd99::2%eth1]:179")
			p.LocalAddr = netip.Addr{}
		},
		"no address of ours": func(p *PeerConfig) { p.LocalAddr = netip.Addr{} },
		"a global one":       func(p *PeerConfig) { p.LocalAddr = netip.MustParseAddr("fd99::1") },
		"of another link":    func(p *PeerConfig) { p.LocalAddr = netip.MustParseAddr("fe80::1%eth2") },
		"our own":            func(p *PeerConfig) { p.LocalAddr = p.Addr.Addr() },
		"AS numbers":         func(p *PeerConfig) { p.ASNs = [][2]uint32{{7, 1}} },
	} {
		p := good
		if change(&p); p.Validate() == nil {
			t.Errorf("%s: %+v is taken", name, p)
		}
	}
}

// Whoever connects on another link than where he is expected is no neighbour.
func TestUnnumbered_OtherLink(t *testing.T) {
	sp := newLinks(t, "fe80::1", "fe80::2")
	p := onLink("lo", "fe80::1", "fe80::2", [2]uint32{65001, 65001})
	p.Passive = true
	a := unnumbered(t, sp, 64512, "10.99.0.1", p, onLink("d1", "fe80::1", "fe80::9", [2]uint32{65001, 65001}))
	stray := func(zone string) error {
		nc, err := inSpace(sp, func() (net.Conn, error) {
			return defaultDial(context.Background(), netip.MustParseAddr("fe80::2%"+zone), netip.MustParseAddrPort("[fe80::1%"+zone+"]:11790"))
		})
		if err != nil {
			return err
		}
		defer nc.Close()
		_, err = nc.Read(make([]byte, headerLen))
		return err
	}
	eventually(t, "an OPEN on the right link", func() bool { return stray("lo") == nil })
	eventually(t, "a listener on the other", func() bool {
		err := stray("d1")
		if err == nil {
			t.Fatal("an OPEN on the wrong link")
		}
		return !strings.Contains(err.Error(), "refused")
	})
	if len(a.Peers()) != 2 {
		t.Error(a.Peers())
	}
}
