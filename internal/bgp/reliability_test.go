// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// What a neighbour can do to us, and the tests in which it does. The letters are
// in the names of the tests.
var reliability = []struct{ id, what string }{
	{"B01", "malformed UPDATEs: internal/bgp TestB01_RFC7606_MalformedAttributes, TestB01_RFC7606_MultiprotocolWithdraw, TestB01_RFC7606_5_Unlocatable, TestB01_RFC7606_TableSessions, TestRFC7606_TableDecoder, TestB01_ErrorsAreCounted"},
	{"B02", "attributes of unknown type, with anything in them: internal/bgp TestB02_RFC4271_9_UnknownAttributes, TestB02_AnyUnknownAttribute"},
	{"B03", "malformed through us to others: internal/bgp TestB03_NothingMalformedLeaves, TestInterop, FuzzRoundTrip"},
	{"B04", "anything at all: internal/bgp FuzzMessage, FuzzAttributes, FuzzRoundTrip, TestB04_CorpusPage"},
	{"B05", "OPENs: internal/bgp TestB05_RFC4271_6_2_Open, FuzzOpen"},
	{"B06", "broken frames, one octet at a time, floods: internal/bgp TestB06_RFC4271_6_1_Framing, TestRFC6608_UnexpectedMessages"},
	{"B07", "a peer that does not read: internal/bgp TestB07_RFC9687_StuckReader"},
	{"B08", "too many prefixes: internal/bgp TestB08_MaxPrefixes"},
	{"B09", "churn that does not end: internal/bgp TestB09_Churn"},
	{"B10", "sessions that flap: internal/bgp TestB10_Damping, TestB10_FlapStorm"},
	{"B11", "collisions, half-open connections, strangers: internal/bgp TestB11_RFC4271_6_8_Collision, TestB11_HalfOpen"},
	{"B12", "silence: internal/bgp TestB12_RFC4271_8_HoldTimerExpires"},
	{"B13", "passwords that are wrong, missing, changed, too long: internal/bgp TestB13_RFC2385_Passwords, TestRFC2385_TooLong, TestInterop; internal/node TestB13_SecretsAreWatched"},
	{"B14", "packets from further away: internal/bgp TestRFC5082_AcceptsByDistance, TestRFC5082_LaterPackets, TestRFC5082_Dials"},
	{"B15", "restarts of either end, of both, that do not come back, beside the dead: internal/bgp TestB15_RFC4724_RestartKeepsRoutes, TestB15_RFC4724_4_2_Expiry, TestB15_BothRestart, TestB15_RFC4724_RestartBesideTheDead, TestB15_DynamicPeersAreExpected, TestInterop; internal/e2e TestB15_BFDAndGracefulRestart, TestB15_ListenRangeOverRestart"},
	{"B16", "reflectors that are lost: internal/e2e TestB16_RouteReflectors"},
	{"B17", "routes that are not the peer's: internal/guard TestB17_Judge; internal/e2e TestB17_RouteLeak, TestB17_JudgedAgain"},
	{"B18", "next hops and prefixes that nobody may announce: internal/bgp TestB18_NextHopAndMartians"},
	{"B19", "a fabric in two halves: internal/e2e TestB19_SplitBrain"},
	{"B20", "loops, identifiers that are ours: internal/bgp TestB20_Loops"},
	{"B21", "a day with other daemons: internal/bgp TestB21_Soak"},
	{"B22", "taking a way out of service: internal/bgp TestB22_RFC8326_Drain"},
	{"B23", "any sequence of events: internal/bgp TestB23_RFC4271_8_RandomEvents"},
}

// Every row has its tests.
func TestReliability(t *testing.T) {
	for _, r := range reliability {
		_, where, ok := strings.Cut(r.what, ": ")
		if !ok {
			t.Errorf("%s has no test", r.id)
		}
		for part := range strings.SplitSeq(where, "; ") {
			dir, names, _ := strings.Cut(part, " ")
			for name := range strings.SplitSeq(names, ", ") {
				hasTest(t, dir+" "+name)
			}
		}
	}
}

// badUpdates is every UPDATE of the corpora that a session survives, each with a
// prefix of its own, so that none hides behind the next.
func badUpdates(t *testing.T, s sender) (list [][]byte) {
	t.Helper()
	own := func(prefix string, attrs [][]byte) []byte {
		n := len(list)
		if prefix[0] == '1' {
			return announce(fmt.Sprintf("10.%d.%d.0/24", 100+n>>8, n&255), attrs)
		}
		attrs = slices.Clone(attrs)
		for i, a := range attrs {
			if bytes.Equal(a, mpReach("fd99::9", prefix)) {
				attrs[i] = mpReach("fd99::9", fmt.Sprintf("fd50:%x::/64", n+1))
			}
		}
		return announce(prefix, attrs)
	}
	add := func(msg []byte) {
		var u update
		if len(msg) <= maxMessage && s.decoder().decode(msg[headerLen:], &u) == nil {
			list = append(list, msg)
		}
	}
	for _, bad := range badAttrs() {
		for _, p := range []string{"10.50.0.0/24", "fd50::/64"} {
			rest := slices.DeleteFunc(s.well(p), func(a []byte) bool { return a[1] == bad.typ })
			for i := range 3 {
				add(own(p, slices.Insert(slices.Clone(rest), i*len(rest)/2, bad.raw)))
			}
		}
	}
	every(func(typ uint8, from sender, prefix string) {
		if from == s {
			for _, c := range tableCases(typ, s, prefix) {
				add(own(prefix, c.list))
			}
		}
	})
	for _, c := range corpus(t, "message") {
		if len(c.data) > headerLen && c.data[headerLen-1] == msgUpdate && len(c.data) == int(c.data[16])<<8+int(c.data[17]) {
			add(c.data)
		}
	}
	return list
}

// B03: whatever comes in, what goes out is well-formed in the eyes of another
// decoder, over eBGP and iBGP. (With PassUnknown it is not: the codec knows types
// that have no rule here, and finds errors in them. That is why it has to be asked for.)
func TestB03_NothingMalformedLeaves(t *testing.T) {
	t.Parallel()
	s := sender{ebgp: true, as4: true}
	list := badUpdates(t, s)
	us, up, in, out := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)
	cfg := nodeConfig(64512, us, peerTo(up, 65001), peerTo(in, 64512), peerTo(out, 65002))
	for i := range cfg.Peers {
		cfg.Peers[i].Passive = true
	}
	n := startNode(t, cfg, Options{})
	n.OriginationsComplete()
	a, b, c := &rawPeer{t: t, addr: up}, &rawPeer{t: t, addr: in}, &rawPeer{t: t, addr: out}
	a.establish(n, 65001)
	b.establish(n, 64512)
	c.establish(n, 65002)
	const sentinel = "10.60.0.0/24"
	told := make(chan int, 2)
	for _, r := range []*rawPeer{b, c} {
		go func() {
			seen := 0
			defer func() { told <- seen }()
			for {
				typ, body := r.read()
				if typ != msgUpdate {
					t.Errorf("message type %d", typ)
					return
				}
				seen++
				m, err := wire.ParseBGPMessage(appendHeader(nil, msgUpdate, body))
				if err == nil {
					families := map[wire.Family]wire.BGPAddPathMode{v4.wire(): 0, v6.wire(): 0}
					_, err = wire.ValidateUpdateMsg(m.Body.(*wire.BGPUpdate), families, r == c, false, true) // next hops of a test are loopback addresses
				}
				if err != nil {
					t.Errorf("malformed leaves us: %v\n%x", err, body)
				}
				if bytes.Contains(body, nlri(sentinel)) {
					return
				}
			}
		}()
	}
	for _, msg := range list {
		a.write(msg)
	}
	a.write(announce(sentinel, s.well(sentinel)))
	seen := [2]int{<-told, <-told}
	for _, r := range []*rawPeer{a, b, c} {
		if p := n.peer(r.addr); p.Established != 1 || p.State != "Established" {
			t.Errorf("needless reset: %+v", p)
		}
	}
	t.Logf("%d in, %d out", len(list), seen)
}

// B02: every type that is not known, with anything in it.
func TestB02_AnyUnknownAttribute(t *testing.T) {
	t.Parallel()
	n, out, in := twoRaw(t)
	s := sender{ebgp: true, as4: true}
	sent := 0
	for typ := 0; typ < 256; typ++ {
		if ruleFor(uint8(typ)) != nil {
			continue
		}
		for i, l := range []int{0, 1, typ, 255, 1000} {
			p := fmt.Sprintf("10.%d.%d.0/24", typ, i)
			if i%2 == 1 {
				p = fmt.Sprintf("fd50:%x:%x::/64", typ, i)
			}
			body := make([]byte, l)
			for j := range body {
				body[j] = byte(j*31 + typ)
			}
			if typ == 0 || typ >= 127 && i%2 == 0 { // prefixes that can be somebody's
				p = fmt.Sprintf("11.%d.%d.0/24", typ, i)
			}
			out.write(announce(p, append(s.well(p), at(flagOptional|uint8(typ&1)*flagTransitive, uint8(typ), body...))))
			sent++
			if list, gone := in.await(p); gone || len(unknowns(list)) > 0 {
				t.Fatalf("attribute %d of %d octets: withdrawn %v, %x", typ, l, gone, unknowns(list))
			}
		}
	}
	if p := n.peer(out.addr); p.Established != 1 || p.Errors != (Errors{Discarded: uint64(sent)}) {
		t.Errorf("%d sent: %+v", sent, p)
	}
}

// B09: a peer that announces and withdraws as fast as it can costs no session,
// its own included, and what is selected in the end is what it said last. No
// change is told twice, and fewer where nobody looks.
func TestB09_Churn(t *testing.T) {
	t.Parallel()
	us, churner, other := freeAddr(t), freeAddr(t), freeAddr(t)
	cfg := nodeConfig(64512, us, peerTo(churner, 65001), peerTo(other, 64512))
	cfg.Peers[0].Passive = true
	n := startNode(t, cfg, Options{})
	n.OriginationsComplete()
	far := startNode(t, nodeConfig(64512, other, peerTo(us, 64512)), Options{})
	far.waitUp(us)
	r := &rawPeer{t: t, addr: churner}
	r.establish(n, 65001)
	s := sender{ebgp: true, as4: true}
	var prefixes []string
	for i := range 200 {
		prefixes = append(prefixes, fmt.Sprintf("10.%d.%d.0/24", i/100, i%100))
	}
	const rounds = 500
	attrs := cat(s.well(prefixes[0])...)
	up, down := upd(nil, attrs, nlri(prefixes...)), upd(nlri(prefixes...), nil, nil)
	six := announce("fd50::/64", s.well("fd50::/64"))
	gone := upd(nil, at(flagOptional, attrMPUnreach, cat([]byte{0, 2, 1}, nlri("fd50::/64"))...), nil)
	for range rounds {
		r.write(cat(up, six, down, gone))
	}
	r.write(cat(up, six, announce("10.60.0.0/24", s.well("10.60.0.0/24"))))
	n.waitHops("10.60.0.0/24", "10.0.0.9") // all before it has been taken in
	eventually(t, "the last word at the far end", func() bool { return far.fibSize() == len(prefixes)+2 })
	n.waitHops("fd50::/64", "fd99::9")
	n.mu.Lock()
	events := n.events
	n.mu.Unlock()
	if most := (2*rounds+1)*(len(prefixes)+1) + 1; events > most || n.fibSize() != len(prefixes)+2 {
		t.Errorf("%d changes were told of %d at most, %d routes", events, most, n.fibSize())
	}
	for _, p := range n.Peers() {
		if p.Established != 1 || p.State != "Established" {
			t.Errorf("a session was lost: %+v", p)
		}
	}
	t.Logf("%d changes, %d told", (2*rounds+1)*(len(prefixes)+1)+1, events)
}

// B10: peers that flap leave nothing behind and do not disturb one that is stable.
func TestB10_FlapStorm(t *testing.T) {
	us, stable := freeAddr(t), freeAddr(t)
	peers := []PeerConfig{peerTo(stable, 64512)}
	var flappers []*rawPeer
	for range 20 {
		r := &rawPeer{t: t, addr: freeAddr(t)}
		flappers = append(flappers, r)
		p := peerTo(r.addr, 65001)
		p.Passive = true
		peers = append(peers, p)
	}
	n := startNode(t, nodeConfig(64512, us, peers...), Options{})
	n.OriginationsComplete()
	far := startNode(t, nodeConfig(64512, stable, peerTo(us, 64512)), Options{})
	far.originate("10.2.0.0/26", "fd00:2::/122")
	n.waitUp(stable)
	n.waitHops("fd00:2::/122", far.cfg.NextHop6.String())
	kept := always(n, "10.2.0.0/26")
	fds := func() int { l, _ := os.ReadDir("/proc/self/fd"); return len(l) }
	goroutines, files := runtime.NumGoroutine(), fds()
	s := sender{ebgp: true, as4: true}
	for range 5 {
		for i, r := range flappers {
			r.establish(n, 65001)
			r.write(announce(fmt.Sprintf("10.70.%d.0/24", i), s.well("10.70.0.0/24")))
		}
		for i, r := range flappers {
			if i%2 == 0 {
				_ = r.nc.Close() // breaks
			} else {
				r.write((&notification{code: codeCease, sub: ceaseShutdown}).marshal())
				_ = r.nc.Close()
			}
		}
		for _, r := range flappers {
			eventually(t, "down", func() bool { return n.peer(r.addr).State != "Established" })
		}
	}
	eventually(t, "their routes are gone", func() bool { return n.fibSize() == 2 })
	eventually(t, "nothing is left of them", func() bool { return runtime.NumGoroutine() <= goroutines+2 && fds() <= files+2 })
	if p := n.peer(stable); !kept() || p.Established != 1 {
		t.Errorf("the stable one was disturbed: %+v", p)
	}
}

// clean reports what a daemon says in its log about messages of ours.
func (r *neighbour) clean() {
	r.t.Helper()
	bad := regexp.MustCompile(`(?i)malformed|invalid|treat.?as.?withdraw|attribute (list|length|flags) error`)
	for _, f := range []string{"log", "out"} {
		text, _ := os.ReadFile(filepath.Join(r.dir, f))
		for line := range strings.Lines(string(text)) {
			if bad.MatchString(line) {
				r.t.Errorf("%s: %s", r.name, line)
			}
		}
	}
}

// thirdParty sends everything malformed to us from a third router; the daemon behind us
// must hear nothing of it.
func (x *interop) thirdParty() {
	a := x.raw("10.99.0.3", "10.99.0.1", 65001)
	x.exchanged()
	s := sender{ebgp: true, as4: true}
	list := badUpdates(x.t, s)
	for _, msg := range list {
		a.write(msg)
	}
	a.write(announce("10.60.0.0/24", s.well("10.60.0.0/24")))
	a.write(announce("fd60::/64", s.well("fd60::/64")))
	x.r.wait("10.60.0.0/24", "65001")
	x.r.wait("fd60::/64", "65001")
	for _, addr := range []netip.Addr{x.addr, a.addr} {
		if p := x.n.peer(addr); p.Established != 1 || p.State != "Established" {
			x.t.Errorf("needless reset: %+v", p)
		}
	}
	x.r.clean()
}
