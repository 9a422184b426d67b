// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/muslin-net/muslin/internal/secret"
)

// lockedBuffer collects a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// B13, RFC 2385: a session with the same password at both ends, whoever
// dials, over both families; none with another one, or with one at one end only, and
// the reason says so; a change of the password while the session is up; and
// nothing that prints the password.
func TestB13_RFC2385_Passwords(t *testing.T) {
	needBird(t) // for a namespace
	const canary = "correct-horse-battery"
	long := strings.Repeat("x", MaxPassword)
	for _, c := range []struct {
		name, a, b string
		up         bool
	}{
		{"same", canary, canary, true},
		{"80 octets", long, long, true},
		{"other", canary, canary + "2", false},
		{"one end only", canary, "", false},
		{"the other end only", "", canary, false},
	} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/v6=%v", c.name, v6), func(t *testing.T) {
				t.Parallel()
				testPasswords(t, v6, c.a, c.b, c.up)
			})
		}
	}
}

func testPasswords(t *testing.T, v6 bool, pwA, pwB string, wantUp bool) {
	sp := newSpace(t, "10.99.0.1/32", "10.99.0.2/32", "fd99::1/128", "fd99::2/128")
	addrs := []netip.Addr{netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")}
	if v6 {
		addrs = []netip.Addr{netip.MustParseAddr("fd99::1"), netip.MustParseAddr("fd99::2")}
	}
	var log lockedBuffer
	conf := func(i int, password string, passive bool) Config {
		id := []string{"10.99.0.1", "10.99.0.2"}[i]
		return Config{ASN: 64512, RouterID: netip.MustParseAddr(id), NextHop4: netip.MustParseAddr(id),
			Listen: []netip.AddrPort{addrPort(addrs[i])},
			Peers:  []PeerConfig{{Name: "peer", Addr: addrPort(addrs[1-i]), LocalAddr: addrs[i], ASN: 64512, Password: secret.New(password), Passive: passive}}}
	}
	start := func(i int, password string) *node {
		opt := sp.options()
		opt.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		n := startNode(t, conf(i, password, i == 0), opt)
		n.OriginationsComplete()
		return n
	}
	a, b := start(0, pwA), start(1, pwB)
	a.originate("10.1.0.0/24")
	if wantUp {
		b.waitUp(addrs[0])
		b.waitHops("10.1.0.0/24", "10.99.0.1")

		// Another password, first at one end: routes are kept while the ends
		// disagree.
		kept := always(b, "10.1.0.0/24")
		if err := b.SetConfig(conf(1, "changed", false)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the session ends", func() bool { return b.peer(addrs[0]).State != "Established" })
		if err := a.SetConfig(conf(0, "changed", true)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a session with the new password", func() bool {
			return b.peer(addrs[0]).State == "Established" && b.peer(addrs[0]).Established == 2
		})
		if !kept() {
			t.Error("the routes were gone for a moment")
		}
	} else {
		eventually(t, "the reason is said", func() bool { return strings.Contains(b.peer(addrs[0]).LastError, "password") })
		eventually(t, "and by the end that waits", func() bool { return strings.Contains(a.peer(addrs[1]).LastError, "password") })
		if st := b.peer(addrs[0]); st.Established != 0 {
			t.Errorf("there was a session: %+v", st)
		}
	}
	text := log.String() + fmt.Sprintf("%+v %#v %v %+v", a.Peers(), b.Peers(), a.cfg, b.cfg)
	for _, pw := range []string{pwA, pwB} {
		if pw != "" && strings.Contains(text, pw) {
			t.Errorf("the password is printed:\n%s", text)
		}
	}
}

// Too long a password is refused, without being shown.
func TestRFC2385_TooLong(t *testing.T) {
	pw := strings.Repeat("y", MaxPassword+1)
	err := PeerConfig{Name: "p", Addr: addrPort(netip.MustParseAddr("10.0.0.1")), ASN: 1, Password: secret.New(pw)}.Validate()
	if err == nil || strings.Contains(err.Error(), pw) {
		t.Errorf("error %v", err)
	}
}
