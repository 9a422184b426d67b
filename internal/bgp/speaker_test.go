// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"
	"testing"
)

// RFC 4760: one session carries both families, whatever it runs over.
func TestRFC4760_BothFamiliesIBGP(t *testing.T) {
	a, b := pair(t, 64512, 64512, nil)
	a.originate("10.1.0.0/26", "10.1.9.9/32", "fd00:1::/122", "0.0.0.0/0")
	b.originate("10.2.0.0/26", "fd00:2::/122")
	b.waitHops("10.1.0.0/26", a.cfg.NextHop4.String())
	b.waitHops("10.1.9.9/32", a.cfg.NextHop4.String())
	b.waitHops("0.0.0.0/0", a.cfg.NextHop4.String())
	b.waitHops("fd00:1::/122", a.cfg.NextHop6.String())
	a.waitHops("10.2.0.0/26", b.cfg.NextHop4.String())
	a.waitHops("fd00:2::/122", b.cfg.NextHop6.String())
	a.withdraw("10.1.9.9/32", "fd00:1::/122")
	b.waitHops("10.1.9.9/32", "")
	b.waitHops("fd00:1::/122", "")
	b.waitHops("10.1.0.0/26", a.cfg.NextHop4.String())
	st := b.peer(a.cfg.RouterID)
	if st.Received != 2 || st.Accepted != 2 || st.Advertised != 2 || !st.GracefulRestart {
		t.Errorf("status %+v", st)
	}
	if r := b.Routes(RouteFilter{View: ViewBest, Peer: a.cfg.RouterID}); len(r) != 2 || r[0].LocalPref != 100 {
		t.Errorf("best: %+v", r)
	}
}

// RFC 4271 section 9.1: what we originate ourselves wins, and comes back when it is withdrawn.
func TestRFC4271_9_1_OwnWins(t *testing.T) {
	a, b := pair(t, 64512, 64512, nil)
	a.Originate([]Origination{{Prefix: netip.MustParsePrefix("10.9.0.0/24"), LocalPref: 4000000000}}, nil)
	b.waitHops("10.9.0.0/24", a.cfg.NextHop4.String())
	b.originate("10.9.0.0/24")
	b.waitHops("10.9.0.0/24", "")
	b.withdraw("10.9.0.0/24")
	b.waitHops("10.9.0.0/24", a.cfg.NextHop4.String())
}

// RFC 4271 section 9.2 and 5.1: a server between a fabric router (eBGP) and
// another server (iBGP). Routes pass from eBGP to iBGP with next-hop-self, from iBGP to
// eBGP with our AS in front, and never from iBGP to iBGP.
func TestRFC4271_9_2_Propagation(t *testing.T) {
	tor, mid, far, third := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)
	nt := startNode(t, nodeConfig(65000, tor, peerTo(mid, 64512)), Options{})
	nm := startNode(t, nodeConfig(64512, mid, peerTo(tor, 65000), peerTo(far, 64512), peerTo(third, 64512)), Options{})
	nf := startNode(t, nodeConfig(64512, far, peerTo(mid, 64512)), Options{})
	n3 := startNode(t, nodeConfig(64512, third, peerTo(mid, 64512)), Options{})
	for _, n := range []*node{nt, nm, nf, n3} {
		n.OriginationsComplete()
	}
	nt.originate("192.0.2.0/24", "2001:db8::/32")
	nm.originate("10.1.0.0/26", "169.254.1.1/32", "fe80::/64")
	nf.originate("10.2.0.0/26", "fd00:2::/122")
	nf.waitHops("192.0.2.0/24", nm.cfg.NextHop4.String())
	nf.waitHops("2001:db8::/32", nm.cfg.NextHop6.String())
	nt.waitHops("10.2.0.0/26", nm.cfg.NextHop4.String())
	nt.waitHops("10.1.0.0/26", nm.cfg.NextHop4.String())
	n3.waitHops("10.1.0.0/26", nm.cfg.NextHop4.String())
	if r := nt.Routes(RouteFilter{Prefix: netip.MustParsePrefix("10.2.0.0/26")}); len(r) != 1 || !slices.Equal(r[0].ASPath, []uint32{64512}) || r[0].HasLocalPref {
		t.Errorf("at the fabric router: %+v", r)
	}
	want := []string{"10.1.0.0/26", "192.0.2.0/24", "2001:db8::/32"}
	if got := nm.advertised(third); !slices.Equal(got, want) {
		t.Errorf("to an iBGP peer: %v, want %v", got, want)
	}
	want = []string{"10.1.0.0/26", "10.2.0.0/26", "fd00:2::/122"}
	if got := nm.advertised(tor); !slices.Equal(got, want) {
		t.Errorf("to the eBGP peer: %v, want %v", got, want)
	}
}

// Equal paths of several peers become one Best with all their next hops, and
// the set shrinks when one goes.
func TestRFC4271_9_1_2_ECMP(t *testing.T) {
	x, y, z := freeAddr(t), freeAddr(t), freeAddr(t)
	nx := startNode(t, nodeConfig(64512, x, peerTo(z, 64512)), Options{})
	ny := startNode(t, nodeConfig(64512, y, peerTo(z, 64512)), Options{})
	nz := startNode(t, nodeConfig(64512, z, peerTo(x, 64512), peerTo(y, 64512)), Options{})
	for _, p := range []string{"10.7.7.7/32", "fd07::7/128"} {
		nx.originate(p)
		ny.originate(p)
	}
	nz.waitHops("10.7.7.7/32", x.String()+" "+y.String())
	nz.waitHops("fd07::7/128", nx.cfg.NextHop6.String()+" "+ny.cfg.NextHop6.String())
	nx.withdraw("10.7.7.7/32")
	nz.waitHops("10.7.7.7/32", y.String())
}

// SetConfig: what does not concern a session leaves it up; policies are
// applied live; a removed peer gets Cease and its routes go.
func TestSetConfig_Difference(t *testing.T) {
	a, b := pair(t, 64512, 64512, nil)
	a.originate("10.1.0.0/26", "10.2.0.0/26")
	b.waitHops("10.1.0.0/26", a.cfg.NextHop4.String())
	b.waitHops("10.2.0.0/26", a.cfg.NextHop4.String())

	edit := &Edit{LocalPref: 700, SetLocalPref: true}
	only1 := func(r *Route) Verdict {
		if r.Prefix != netip.MustParsePrefix("10.1.0.0/26") {
			return Verdict{Refused: RefusedFilter, Detail: "not the first"}
		}
		return Verdict{Edit: edit}
	}
	c := b.cfg
	c.Peers = slices.Clone(c.Peers)
	c.Peers[0].Import, c.Peers[0].ImportID = only1, "only1"
	if err := b.SetConfig(c); err != nil {
		t.Fatal(err)
	}
	b.waitHops("10.2.0.0/26", "")
	eventually(t, "import policy sets LOCAL_PREF", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.fib[netip.MustParsePrefix("10.1.0.0/26")].LocalPref == 700
	})
	r := b.Routes(RouteFilter{Prefix: netip.MustParsePrefix("10.2.0.0/26")})
	if len(r) != 1 || r[0].Accepted || r[0].Refused != RefusedFilter || r[0].Reason != "not the first" {
		t.Errorf("rejected route: %+v", r)
	}
	if r := b.Routes(RouteFilter{View: ViewRejected}); len(r) != 1 || r[0].Prefix != netip.MustParsePrefix("10.2.0.0/26") {
		t.Errorf("rejected routes: %+v", r)
	}
	if st := b.peer(a.cfg.RouterID); st.Received != 2 || st.Accepted != 1 || st.Rejected["filter"] != 1 || len(st.Rejected) != 1 {
		t.Errorf("counts: %+v", st)
	}
	if err := b.SetConfig(b.cfg); err != nil {
		t.Fatal(err)
	}
	b.waitHops("10.2.0.0/26", a.cfg.NextHop4.String())
	if st := b.peer(a.cfg.RouterID); st.Rejected != nil {
		t.Errorf("still counted as rejected: %v", st.Rejected)
	}

	ca := a.cfg
	ca.Peers = slices.Clone(ca.Peers)
	ca.Peers[0].Export, ca.Peers[0].ExportID = only1, "only1"
	if err := a.SetConfig(ca); err != nil {
		t.Fatal(err)
	}
	b.waitHops("10.2.0.0/26", "")
	eventually(t, "export policy sets LOCAL_PREF", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.fib[netip.MustParsePrefix("10.1.0.0/26")].LocalPref == 700
	})
	ca.NextHop4 = netip.MustParseAddr("127.77.200.1")
	if err := a.SetConfig(ca); err != nil {
		t.Fatal(err)
	}
	b.waitHops("10.1.0.0/26", "127.77.200.1")
	if n := b.peer(a.cfg.RouterID).Established; n != 1 {
		t.Errorf("the session came up %d times, want 1", n)
	}

	ca.Peers = nil
	if err := a.SetConfig(ca); err != nil {
		t.Fatal(err)
	}
	b.waitHops("10.1.0.0/26", "")
	eventually(t, "Cease is reported", func() bool {
		return b.peer(a.cfg.RouterID).LastError != ""
	})
}
