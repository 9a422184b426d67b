// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"testing"
	"time"
)

var soakTime = flag.Duration("soak", 3*time.Second, "how long TestB21_Soak runs with each daemon")

// Routes come and go for hours, tables are repeated and asked for, and every so often
// both ends are held against each other: the other has exactly what we announce, we have
// what it does, the session has never ended, and nobody took anything for malformed. Over
// IPv6 with ADD-PATH both ways. make soak SOAK=24h.
func TestB21_Soak(t *testing.T) {
	for _, d := range daemons {
		for _, tr := range []struct{ name, ours, theirs string }{
			{"v4", "10.99.0.1", "10.99.0.2"},
			{"v6", "fd99::1", "fd99::2"},
		} {
			t.Run(d.name+"/"+tr.name, func(t *testing.T) {
				t.Parallel()
				d.need(t)
				f := together{name: "soak", check: (*interop).soak}
				s := setting{ours: tr.ours, theirs: tr.theirs, as: 64512, hold: 9}
				if tr.name == "v6" {
					s.addPath = true
					f.cfg = func(c *Config, _ *interop) { c.Peers[0].AddPathReceive, c.Peers[0].AddPathSend = true, 4 }
				}
				testInterop(t, d, f, s)
			})
		}
	}
}

// ours matches what is announced in a soak.
var ours = regexp.MustCompile(`(10\.1\.\d+\.0/26|fd00:1:[0-9a-f]+::/122)`)

func (x *interop) soak() {
	x.t.Helper()
	x.exchanged()
	x.n.withdraw("10.1.0.0/26", "fd00:1::/122")
	var all []string
	for i := range 40 {
		all = append(all, fmt.Sprintf("10.1.%d.0/26", i+1), fmt.Sprintf("fd00:1:%x::/122", i+1))
	}
	seed := rand.Uint64()
	x.t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(21, seed))
	announced := map[string]bool{}
	churn := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			for range 1 + rng.IntN(8) {
				p := all[rng.IntN(len(all))]
				if announced[p] {
					x.n.withdraw(p)
					delete(announced, p)
				} else {
					x.n.Originate([]Origination{{Prefix: netip.MustParsePrefix(p), LocalPref: 100 + rng.Uint32N(2)}}, nil)
					announced[p] = true
				}
			}
			switch rng.IntN(40) {
			case 0:
				x.n.Reset(x.addr, ResetIn, "")
			case 1:
				x.n.Reset(x.addr, ResetOut, "")
			case 2:
				if x.r.refresh != nil {
					for _, words := range x.r.refresh(x.r.set.ours) {
						x.r.ask(words...)
					}
				}
			}
		}
	}
	end := time.Now().Add(*soakTime)
	for round := 1; time.Now().Before(end); round++ {
		churn(min(time.Until(end), time.Duration(1+rng.IntN(30))*time.Second))
		want := slices.Sorted(maps.Keys(announced))
		within(x.t, 60*time.Second, fmt.Sprintf("%s has what we announce, round %d", x.r.name, round), func() bool {
			has := map[string]bool{}
			for _, words := range x.r.dump {
				for _, p := range ours.FindAllString(x.r.ask(words...), -1) {
					has[p] = true
				}
			}
			return slices.Equal(slices.Sorted(maps.Keys(has)), want)
		})
		within(x.t, 60*time.Second, "we have what it announces", func() bool {
			return x.n.hops("192.0.2.0/24") != "" && x.n.hops("198.51.100.0/24") != "" && x.n.hops(own6) != "" && x.n.fibSize() == 3
		})
		if p := x.n.peer(x.addr); p.Established != 1 || p.Errors.Withdrawn > 0 {
			x.t.Fatalf("round %d: the session was up %d times, %+v; %s", round, p.Established, p.Errors, p.LastError)
		}
	}
}
