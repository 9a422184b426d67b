// SPDX-License-Identifier: Apache-2.0

package neighbour

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// The story of a link: what is sent when, and who is the neighbour, second by
// second.
func TestLink(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	var now time.Time
	var l *link
	var said strings.Builder
	// until runs the link for some seconds, a tenth at a time.
	until := func(seconds float64) {
		for end := start.Add(time.Duration(seconds * float64(time.Second))); !now.After(end); now = now.Add(100 * time.Millisecond) {
			if l.wake().After(now) {
				continue
			}
			at := now.Sub(start).Seconds()
			switch advertise, solicit := l.due(now); {
			case advertise && solicit:
				fmt.Fprintf(&said, " %v?", at)
			case solicit:
				fmt.Fprintf(&said, " ?%v", at)
			case advertise:
				fmt.Fprintf(&said, " %v", at)
			}
		}
		now = now.Add(-100 * time.Millisecond)
	}
	hear := func(a string) { l.advertised(netip.MustParseAddr(a), now) }
	expect := func(messages, neighbour, second string) {
		t.Helper()
		f := l.found(now)
		show := func(a netip.Addr) string { return strings.TrimSuffix(a.String(), "%eth1") }
		if got := strings.TrimSpace(said.String()); got != messages || show(f.Neighbour) != neighbour || show(f.Second) != second {
			t.Errorf("at %v: sent %q, neighbour %s, second %s; want %q, %s, %s", now.Sub(start), got, f.Neighbour, f.Second, messages, neighbour, second)
		}
		said.Reset()
	}
	const none = "invalid IP"
	begin := func() {
		now = start
		l = newLink(Link{Name: "eth1", Index: 2, Addr: netip.MustParseAddr("fe80::1")}, now)
		said.Reset()
	}

	// Who is there is asked at once, and hears of us when the link has settled: also
	// if it asks or tells before.
	begin()
	until(0.3)
	hear("fe80::2")
	until(0.6)
	l.solicited(now)
	until(4.5)
	expect("?0 1 2 3 4", "fe80::2", none)
	begin()
	for range 8 {
		l.solicited(now)
		until(now.Sub(start).Seconds() + 0.1)
	}
	hear("fe80::2")
	hear("fe80::3")
	until(0.9)
	expect("?0 ?0.7", "fe80::2", "fe80::3")
	// Nobody is there: advertisements and questions, first fast, then slowly.
	begin()
	until(25)
	expect("?0 1? 2? 3? 4? 14? 24?", none, none)
	// A router comes: it hears of us at once, and is asked for no more.
	hear("fe80::2")
	until(30)
	expect("25 26 27 28", "fe80::2", none)
	hear("fe80::2")
	until(60)
	expect("38 48 58", "fe80::2", none)
	// Our own address from elsewhere is nobody's.
	hear("fe80::1")
	expect("", "fe80::2", none)
	// Questions are answered at once, and those of a flood once a second.
	l.solicited(now)
	until(60.4)
	expect("60", "fe80::2", none)
	for range 20 {
		l.solicited(now)
		until(now.Sub(start).Seconds() + 0.1)
	}
	until(65)
	expect("61 62 63", "fe80::2", none)

	// Another router: the neighbour is asked, and answers. It stays, and the other one
	// is named for as long as it is heard.
	hear("fe80::3")
	until(65.5)
	expect("65?", "fe80::2", "fe80::3")
	hear("fe80::2")
	until(100)
	expect("66 76 86 96", "fe80::2", "fe80::3")
	until(160)
	expect("106 116 126 136 146 156", "fe80::2", none)
	// It does not answer: the other one is the neighbour from then on, and hears of us.
	hear("fe80::3")
	until(163.9)
	expect("160? 161? 162? 163?", "fe80::2", "fe80::3")
	hear("fe80::3")
	until(170)
	expect("164 165 166 167", "fe80::3", none)

	// One message is lost, a question or the answer: the next one is answered.
	hear("fe80::2")
	until(171.5)
	hear("fe80::3")
	until(180)
	expect("170? 171? 172", "fe80::3", "fe80::2")
	// A flood of others: one of them is named, and who comes last is taken if the neighbour is gone.
	for i := range 100 {
		hear(fmt.Sprintf("fe80::a:%x", i))
	}
	until(181)
	expect("180? 181?", "fe80::3", "fe80::2")
	until(184)
	expect("182? 183? 184", "fe80::a:63", none)
}

// RFC 4861 section 6.1: what a message must be like, and every way in which it may not.
func TestRFC4861_6_1(t *testing.T) {
	ll, global, none := netip.MustParseAddr("fe80::2"), netip.MustParseAddr("fd00::2"), netip.IPv6Unspecified()
	mac := [6]byte{2, 0, 0, 0, 0, 1}
	ra, rs := advertisement(mac), solicitation(mac)
	change := func(b []byte, at int, v byte) []byte {
		b = append([]byte(nil), b...)
		b[at] = v
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		from netip.Addr
		hops int
		typ  uint8
	}{
		{"an advertisement", ra, ll, 255, typeAdvertisement},
		{"without options", ra[:16], ll, 255, typeAdvertisement},
		{"with a lifetime", change(ra, 7, 30), ll, 255, typeAdvertisement},
		{"with an option that nobody knows", append(change(ra, 16, 200), []byte{201, 2, 15: 0}...), ll, 255, typeAdvertisement},
		{"a solicitation", rs, ll, 255, typeSolicitation},
		{"from a global address", rs, global, 255, typeSolicitation},
		{"from nobody yet", rs[:8], none, 255, typeSolicitation},
		{"a hop limit of 254", ra, ll, 254, 0},
		{"a hop limit of 254", rs, ll, 254, 0},
		{"a hop limit that is not known", ra, ll, -1, 0},
		{"from a global address", ra, global, 255, 0},
		{"from nobody", ra, none, 255, 0},
		{"a link-layer address of nobody", rs, none, 255, 0},
		{"code 1", change(ra, 1, 1), ll, 255, 0},
		{"code 1", change(rs, 1, 1), ll, 255, 0},
		{"an option of length 0", change(ra, 17, 0), ll, 255, 0},
		{"an option of length 0", change(rs, 9, 0), ll, 255, 0},
		{"an option that is cut off", change(ra, 17, 2), ll, 255, 0},
		{"half an option", ra[:17], ll, 255, 0},
		{"cut off", ra[:15], ll, 255, 0},
		{"cut off", rs[:7], ll, 255, 0},
		{"nothing", nil, ll, 255, 0},
		{"a neighbour solicitation", change(rs, 0, 135), ll, 255, 0},
	} {
		if typ, err := check(c.b, c.from, c.hops); typ != c.typ || (err == nil) != (c.typ != 0) {
			t.Errorf("%s: type %d, %v", c.name, typ, err)
		}
	}
	if len(advertisement([6]byte{})) != 16 || len(solicitation([6]byte{})) != 8 {
		t.Error("a link-layer address where there is none")
	}
}

// No message panics, and what is taken is what the rules say, told otherwise: the
// options fill the message exactly.
func FuzzCheck(f *testing.F) {
	mac := [6]byte{2, 0, 0, 0, 0, 1}
	f.Add(advertisement(mac), true, 255)
	f.Add(solicitation(mac), false, 255)
	f.Add(advertisement([6]byte{}), true, 254)
	f.Add([]byte{typeAdvertisement, 0, 15: 0, 16: 3, 17: 1}, true, 255)
	f.Fuzz(func(t *testing.T, b []byte, known bool, hops int) {
		from := netip.IPv6Unspecified()
		if known {
			from = netip.MustParseAddr("fe80::2")
		}
		typ, err := check(b, from, hops)
		if (err == nil) != (typ != 0) {
			t.Fatalf("type %d, %v", typ, err)
		}
		if err != nil {
			return
		}
		at := map[uint8]int{typeSolicitation: 8, typeAdvertisement: 16}[b[0]]
		for at < len(b) {
			if b[at] == optionSource && !known {
				t.Errorf("%x is taken from nobody", b)
			}
			at += 8 * int(b[at+1])
		}
		if typ != b[0] || b[1] != 0 || hops != 255 || at != len(b) || at == 0 || typ == typeAdvertisement && !known {
			t.Errorf("%x with hop limit %d is taken", b, hops)
		}
	})
}
