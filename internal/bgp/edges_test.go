// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// What only one step out of the usual order shows, each at a desk.

// refreshDesk has a peer with enhanced route refresh, up, which has said one route of each family.
func refreshDesk(t *testing.T, change func(*openMessage)) (d *desk, p *deskPeer, q *peer) {
	d = newDesk(t, Config{ASN: 64512, RouterID: netip.MustParseAddr("10.0.0.1"), NextHop4: netip.MustParseAddr("10.0.0.1"), NextHop6: netip.MustParseAddr("fd00::1")})
	a := netip.MustParseAddr("10.0.0.2")
	p = d.add("p", PeerConfig{Addr: netip.AddrPortFrom(a, 179), ASN: 64512}, a)
	p.open.enhanced = true
	if change != nil {
		change(&p.open)
	}
	d.up(p)
	d.says(p, &attrs{nextHop: a, localPref: 100, hasLocalPref: true}, pathRef{prefix: netip.MustParsePrefix("10.1.0.0/24")})
	d.says(p, &attrs{nextHop: netip.MustParseAddr("fd00::9"), localPref: 100, hasLocalPref: true}, pathRef{prefix: netip.MustParsePrefix("fd01::/64")})
	return d, p, d.s.peers[p.cfg.Addr]
}

// paths is how many a peer has of each family.
func (s *Speaker) pathsOf(p *peer) [numFamilies]int { return s.rib.sources[p.slot].received }

// RFC 7313 section 4: End-of-RIB is waited for from those only who will send it.
func TestRFC7313_4_BoRRWithoutGracefulRestart(t *testing.T) {
	for _, gr := range []bool{false, true} {
		d, p, q := refreshDesk(t, func(o *openMessage) { o.gr = gr })
		d.sends(p, refreshMessage(v4, refreshBegin))
		d.sends(p, refreshMessage(v4, refreshEnd))
		want := [numFamilies]int{v4: 0, v6: 1}
		if gr {
			want[v4] = 1
		}
		if got := d.s.pathsOf(q); got != want {
			t.Errorf("graceful restart %t: %v paths, want %v", gr, got, want)
		}
	}
}

// RFC 7313 section 4: who begins and does not end is not waited for without a bound; and what
// bounds it ends with the session.
func TestRFC7313_4_NoEnd(t *testing.T) {
	for f := range numFamilies {
		d, p, q := refreshDesk(t, nil)
		d.sends(p, refreshMessage(f, refreshBegin))
		q.refreshBound[f].t.Reset(0)
		eventually(t, "the time is up", func() bool { d.s.mu.Lock(); defer d.s.mu.Unlock(); return len(d.s.calls) > 0 })
		d.settle()
		want := [numFamilies]int{1, 1}
		want[f] = 0
		if got := d.s.pathsOf(q); got != want || q.refreshing[f] {
			t.Errorf("%v: %v paths, want %v; still repeating: %t", f, got, want, q.refreshing[f])
		}
		d.sends(p, refreshMessage(f, refreshBegin))
		d.down(p)
		if q.refreshBound[f].armed() || q.refreshing[f] {
			t.Errorf("%v: a refresh outlives its session", f)
		}
	}
}

// RFC 2918, RFC 7313, the sender: what is asked for is sent, and no other family; between
// markers to who knows them, but not before End-of-RIB; with End-of-RIB behind to
// who knows only that.
func TestRFC7313_AnswersWhatIsAsked(t *testing.T) {
	for _, c := range []struct {
		name string
		open func(*openMessage)
		owed bool
		want string
	}{
		{"enhanced", func(o *openMessage) { o.gr = true }, false, "10.9.0.0/24 BoRR ipv4-unicast EoRR ipv4-unicast"},
		{"enhanced, before End-of-RIB", nil, true, "10.9.0.0/24"},
		{"graceful restart", func(o *openMessage) { o.enhanced, o.gr = false, true }, false, "10.9.0.0/24 End-of-RIB ipv4-unicast"},
		{"neither", func(o *openMessage) { o.enhanced = false }, false, "10.9.0.0/24"},
	} {
		d, p, q := refreshDesk(t, c.open)
		d.originate(Origination{Prefix: netip.MustParsePrefix("10.9.0.0/24")})
		d.originate(Origination{Prefix: netip.MustParsePrefix("fd09::/64")})
		d.heard(p)
		if c.owed {
			d.s.originated, q.oweEOR = false, familySet{true, true}
		}
		d.sends(p, refreshMessage(v4, refreshRequest))
		var got []string
		for _, line := range d.heard(p) {
			line, _, _ = strings.Cut(line, " next-hop")
			got = append(got, line)
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %q, want %q", c.name, text, c.want)
		}
	}
}

// The end of a route refresh makes room below a limit of prefixes: what was turned away is asked for.
func TestRFC7313_EndMakesRoom(t *testing.T) {
	d, p, q := refreshDesk(t, nil)
	d.change(p, func(pc *PeerConfig) { pc.MaxPrefixes[v4] = 1 })
	say := func(prefix string) {
		d.says(p, &attrs{nextHop: p.cfg.Addr.Addr(), localPref: 100, hasLocalPref: true}, pathRef{prefix: netip.MustParsePrefix(prefix)})
	}
	say("10.2.0.0/24")
	if q.discarded != 1 || !q.over[v4] {
		t.Fatalf("%d turned away", q.discarded)
	}
	d.heard(p)
	d.sends(p, refreshMessage(v4, refreshBegin))
	if got := d.heard(p); len(got) != 0 {
		t.Errorf("without room: %q", got)
	}
	d.sends(p, refreshMessage(v4, refreshEnd))
	if got := fmt.Sprint(d.heard(p)); got != "[ROUTE-REFRESH ipv4-unicast]" || q.over[v4] {
		t.Errorf("with room: %s", got)
	}
	q.refilling.stop()
}

// RFC 4724 section 3: the R bit is in the first OPEN after a restart, within the restart time,
// to a peer that was not up since; the F bit in those after a session, too.
func TestRFC4724_3_Bits(t *testing.T) {
	for _, c := range []struct {
		name                  string
		restarting, hadUp     bool
		late                  bool
		restarts, forwardings bool
	}{
		{"a fresh start", false, false, false, false, false},
		{"after a restart", true, false, false, true, true},
		{"after a restart, and a session", true, true, false, false, true},
		{"after a restart, too late", true, false, true, false, true},
		{"after a session", false, true, false, false, true},
	} {
		d := newDesk(t, Config{ASN: 64512, RouterID: netip.MustParseAddr("10.0.0.1"), NextHop4: netip.MustParseAddr("10.0.0.1"), RestartTime: time.Minute},
			func(o *Options) { o.Restarting = c.restarting })
		a := netip.MustParseAddr("10.0.0.2")
		p := d.add("p", PeerConfig{Addr: netip.AddrPortFrom(a, 179), ASN: 64512}, a)
		q := d.s.peers[p.cfg.Addr]
		q.hadUp = c.hadUp
		if c.late {
			d.s.configured = time.Now().Add(-time.Hour)
		}
		cn := &conn{p: q, s: d.s, nc: noConn{}, wake: make(chan struct{}, 1)}
		if err := d.s.sendOpen(cn); err != nil {
			t.Fatal(err)
		}
		cn.timer.stop()
		o, note := decodeOpen(cn.sentOpen[headerLen:])
		if note != nil {
			t.Fatal(note)
		}
		if o.grRestarting != c.restarts || o.grForward[v4] != c.forwardings {
			t.Errorf("%s: R %t, F %t; want %t, %t", c.name, o.grRestarting, o.grForward[v4], c.restarts, c.forwardings)
		}
	}
}

// A session that comes back with another BGP identifier is of another speaker: what the
// first one said goes. With the same one it is kept until End-of-RIB (RFC 4724 section 4.2).
func TestRFC4724_4_2_AnotherIdentifier(t *testing.T) {
	for _, same := range []bool{true, false} {
		both := familySet{true, true}
		d, p, q := refreshDesk(t, func(o *openMessage) { o.gr, o.grTime, o.grFamilies, o.grForward = true, time.Hour, both, both })
		d.down(p)
		if !same {
			p.open.id = netip.MustParseAddr("10.0.0.77")
		}
		d.up(p)
		want := [numFamilies]int{}
		if same {
			want = [numFamilies]int{1, 1}
		}
		if got := d.s.pathsOf(q); got != want {
			t.Errorf("the same identifier %t: %v paths, want %v", same, got, want)
		}
		if q.silent || q.stale.armed() != same {
			t.Errorf("the same identifier %t: silent %t, stale timer %t", same, q.silent, q.stale.armed())
		}
	}
}

// rangeDesk has a listen range, and room for few.
func rangeDesk(t *testing.T, rows [][2]uint32, more ...func(*Options)) *desk {
	us := netip.MustParseAddr("10.0.0.1")
	return newDesk(t, Config{ASN: 64512, RouterID: us, NextHop4: us,
		Ranges: []RangeConfig{{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, ASNs: rows, Peer: PeerConfig{Name: "racks"}}}}, more...)
}

// Half of the connections that may wait for an OPEN are for those who are configured.
func TestRange_Pending(t *testing.T) {
	for accepted, ok := range map[int]bool{0: true, 4: true, 5: false, 6: false} {
		d := rangeDesk(t, [][2]uint32{{65001, 65001}}, func(o *Options) { o.MaxPending = 10 })
		d.s.accepted = accepted
		if _, err := d.s.dynamic(netip.MustParseAddr("10.0.0.9")); (err == nil) != ok {
			t.Errorf("%d wait: %v", accepted, err)
		}
	}
}

// The AS number of an OPEN of a peer that may have several: it is taken once, routes of another one go, and a second
// connection cannot say otherwise while the first one has spoken.
func TestRange_Adopt(t *testing.T) {
	d := rangeDesk(t, [][2]uint32{{65001, 65009}, {64512, 64512}})
	q, err := d.s.dynamic(netip.MustParseAddr("10.0.0.9"))
	if err != nil {
		t.Fatal(err)
	}
	first, second := &conn{p: q}, &conn{p: q}
	q.conns = []*conn{first, second}
	defer func() { q.conns = nil }()
	stale := func() {
		in := d.s.rib.attrs.intern(&attrs{nextHop: netip.MustParseAddr("10.0.0.9")})
		d.s.rib.set(pathRef{prefix: netip.MustParsePrefix("10.1.0.0/24")}, q.slot, in, nil, RefusedFilter)
		d.s.rib.edit(pathRef{prefix: netip.MustParsePrefix("10.1.0.0/24")}, q.slot, func(p *path) bool { p.flags |= pathStale; return true })
	}
	stale()
	if n := d.s.adopt(q, first, 65001); n != nil || !q.saidAS || q.cfg.ASN != 65001 || d.s.pathsOf(q)[v4] != 1 {
		t.Errorf("what it counts as already: %v, AS %d, %v paths", n, q.cfg.ASN, d.s.pathsOf(q))
	}
	if n := d.s.adopt(q, first, 64512); n != nil || q.cfg.ASN != 64512 || q.ebgp || first.ebgp || d.s.rib.sources[q.slot].ebgp || d.s.pathsOf(q)[v4] != 0 {
		t.Errorf("our own: %v, AS %d, eBGP %t, %v paths", n, q.cfg.ASN, q.ebgp, d.s.pathsOf(q))
	}
	first.open = &openMessage{asn: 64512}
	if n := d.s.adopt(q, second, 65002); n != nil || q.cfg.ASN != 64512 {
		t.Errorf("a second connection: %v, AS %d", n, q.cfg.ASN)
	}
	if n := d.s.adopt(q, second, 65010); n == nil || n.sub != subPeerAS {
		t.Errorf("one that it may not have: %v", n)
	}
}

// A peer stays with its range for as long as that takes its AS number, and nobody has configured it by itself.
func TestRange_Changes(t *testing.T) {
	from := netip.MustParseAddr("10.0.0.9")
	for _, c := range []struct {
		name   string
		change func(*Config)
		stays  bool
	}{
		{"nothing", func(*Config) {}, true},
		{"other numbers, its own among them", func(c *Config) { c.Ranges[0].ASNs = [][2]uint32{{65000, 65001}} }, true},
		{"other numbers", func(c *Config) { c.Ranges[0].ASNs = [][2]uint32{{65002, 65009}} }, false},
		{"other networks", func(c *Config) { c.Ranges[0].Prefixes = []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")} }, false},
		{"configured, at another port", func(c *Config) {
			c.Peers = []PeerConfig{{Name: "own", Addr: netip.AddrPortFrom(from, 1179), ASN: 65001, Passive: true}}
		}, false},
	} {
		d := rangeDesk(t, [][2]uint32{{65001, 65009}})
		if _, err := d.s.dynamic(from); err != nil {
			t.Fatal(err)
		}
		cfg := d.cfg
		cfg.Ranges = slices.Clone(cfg.Ranges)
		c.change(&cfg)
		d.s.apply(cfg)
		stays := false
		for _, q := range d.s.peers {
			stays = stays || q.dynamic
		}
		if stays != c.stays {
			t.Errorf("%s: it stays: %t", c.name, stays)
		}
	}
}

// Who was expected and does not come in time holds nobody up: End-of-RIB goes to the others.
func TestExpected_InVain(t *testing.T) {
	them := netip.MustParseAddr("10.0.0.2")
	d := rangeDesk(t, [][2]uint32{{65001, 65009}}, func(o *Options) { o.Restarting, o.Expected = true, []netip.Addr{them} })
	p := d.add("inside", PeerConfig{Addr: netip.MustParseAddrPort("10.0.0.3:179"), ASN: 64512}, netip.MustParseAddr("10.0.0.3"))
	d.up(p)
	if got := d.heard(p); len(got) != 0 {
		t.Errorf("before: %q", got)
	}
	d.s.dynamics.bound.t.Reset(0)
	eventually(t, "the time is up", func() bool { d.s.mu.Lock(); defer d.s.mu.Unlock(); return len(d.s.calls) > 0 })
	d.settle()
	if got := fmt.Sprint(d.heard(p)); got != "[End-of-RIB ipv4-unicast]" || len(d.s.peers) != 1 {
		t.Errorf("after: %s, %d peers", got, len(d.s.peers))
	}
}

// Remembered are those who had a session or are expected to, not whoever only connected.
func TestDynamicPeers_WhoeverConnected(t *testing.T) {
	d := rangeDesk(t, [][2]uint32{{65001, 65009}})
	for i, mark := range []func(*peer){func(*peer) {}, func(q *peer) { q.hadUp = true }, func(q *peer) { q.expected = true }} {
		q, err := d.s.dynamic(netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + i)}))
		if err != nil {
			t.Fatal(err)
		}
		mark(q)
	}
	configured := d.add("own", PeerConfig{Addr: netip.MustParseAddrPort("10.0.0.3:179"), ASN: 64512}, netip.MustParseAddr("10.0.0.3"))
	d.up(configured)
	ch := make(chan []netip.Addr, 1)
	d.s.dynamics.asking, d.s.dynamics.news = append(d.s.dynamics.asking, ch), true
	d.s.answerDynamic()
	if got := fmt.Sprint(<-ch); got != "[10.0.0.11 10.0.0.12]" {
		t.Error(got)
	}
}

// A path that was lost before we started says nothing of a session that is up, nor of a restart
// of the peer that began with us (RFC 5882 section 4.3).
func TestRFC5882_PathWasDown(t *testing.T) {
	both := familySet{true, true}
	d, p, q := refreshDesk(t, func(o *openMessage) { o.gr, o.grTime, o.grFamilies, o.grForward = true, time.Hour, both, both })
	other := d.add("other", PeerConfig{Addr: netip.MustParseAddrPort("10.0.0.3:179"), ASN: 64512}, netip.MustParseAddr("10.0.0.3"))
	say := func(a netip.Addr) { d.s.PathWasDown(a); d.settle() }
	say(p.cfg.Addr.Addr())
	if q.silent || q.est == nil {
		t.Error("a session that is up counts as silent")
	}
	d.s.fire(p.c, evTCPFail, nil, io.EOF)
	d.settle()
	say(p.cfg.Addr.Addr())
	if q.silent || q.retained != both {
		t.Errorf("a peer that restarts counts as silent; retained %v", q.retained)
	}
	o := d.s.peers[other.cfg.Addr]
	if say(other.cfg.Addr.Addr()); !o.silent {
		t.Error("one that was not heard is waited for")
	}
}

// Our own addresses, which are no next hop of others: also those that sessions are
// spoken from, and those that have no session; but a link-local one is another's on another link.
func TestOwnAddresses(t *testing.T) {
	us := netip.MustParseAddr("10.0.0.1")
	d := newDesk(t, Config{ASN: 64512, RouterID: us, NextHop4: us, Own: []netip.Addr{netip.MustParseAddr("10.6.0.1")}})
	d.add("far", PeerConfig{Addr: netip.MustParseAddrPort("10.0.0.2:179"), LocalAddr: netip.MustParseAddr("10.5.0.1"), ASN: 64512}, us)
	d.add("link", PeerConfig{Addr: netip.MustParseAddrPort("[fe80::2%eth1]:179"), LocalAddr: netip.MustParseAddr("fe80::1%eth1"), ASN: 64999}, us)
	for a, want := range map[string]bool{"10.0.0.1": true, "10.5.0.1": true, "10.6.0.1": true, "fe80::1%eth1": false, "fe80::1": false, "10.0.0.2": false} {
		if d.s.own[netip.MustParseAddr(a)] != want {
			t.Errorf("%s is ours: %t", a, !want)
		}
	}
}

// An address that comes to this node makes routes with it as the next hop useless, and none
// when it has gone; one that is nobody's next hop costs no judging.
func TestOwnAddressComes(t *testing.T) {
	d, p, q := refreshDesk(t, nil)
	asked := 0
	d.change(p, func(pc *PeerConfig) {
		pc.ImportID = "counts"
		pc.Import = func(*Route) Verdict { asked++; return Verdict{} }
	})
	for _, c := range []struct {
		own      []string
		accepted [numFamilies]int
		judged   bool
	}{
		{[]string{"10.7.0.1", "fd07::1"}, [numFamilies]int{1, 1}, false},
		{[]string{"10.7.0.1", "10.0.0.2"}, [numFamilies]int{v4: 0, v6: 1}, true},
		{[]string{"fd00::9"}, [numFamilies]int{v4: 1, v6: 0}, true},
		{nil, [numFamilies]int{1, 1}, true},
	} {
		d.cfg.Own, asked = nil, 0
		for _, a := range c.own {
			d.cfg.Own = append(d.cfg.Own, netip.MustParseAddr(a))
		}
		d.configure(d.cfg)
		d.settle()
		if got := d.s.rib.sources[q.slot].accepted; got != c.accepted || asked > 0 != c.judged {
			t.Errorf("with %v: %v accepted, want %v; judged %d times", c.own, got, c.accepted, asked)
		}
	}
}
