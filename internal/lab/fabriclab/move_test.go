// SPDX-License-Identifier: Apache-2.0

package fabriclab

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
)

var moves = flag.Int("fabric.moves", 0, "how many endpoints move under Downward Default; 0 is a few, or 500 with -fabric.full")

// maxGap is how long an endpoint that moves may be without packets, where it is measured.
const maxGap = 200 * time.Millisecond

// TestMoves: under Downward Default endpoints move among servers of all racks with the addresses that they have, and
// packets follow. Announced one by one, no ToR ever has a route of its own to an endpoint of another rack, since none
// was asked for; with blocks it has one to those that left its rack, and to no more than it is planned for. In the
// end all tables are as simulated, and so they are when everybody is home, and no such route is left. With an uplink
// down nobody is cut off.
func TestMoves(t *testing.T) {
	const blocks = downward + ", endpoints: {perServer: 4, announce: server-block}, downwardDefault: {exceptions: 3}"
	for _, c := range []struct {
		name, spec string
		daemon     fabric.Software
		budget     int
		short      bool
	}{
		{"one by one", downward, fabric.FRR, 0, true},
		{"blocks", blocks, fabric.FRR, 3, false},
		{"blocks on BIRD", blocks, fabric.BIRD, 3, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.short && !*full && *moves == 0 {
				t.Skip("make test-fabric moves them")
			}
			g := design(t, c.spec)
			SetDaemon(g, c.daemon)
			movesAround(t, boot(t, g), c.budget)
		})
	}
}

// movesAround is that of one design, with so many exceptions on a ToR at most.
func movesAround(t *testing.T, l *Lab, budget int) {
	settled(t, l)
	count := *moves
	if count == 0 {
		count = 6
		if *full {
			count = 500
		}
	}
	var servers []string
	for i := range l.Design.Devices {
		if d := &l.Design.Devices[i]; d.Role == fabric.RoleServer {
			servers = append(servers, d.Name)
		}
	}
	random := rand.New(rand.NewPCG(1, uint64(count)))
	var gaps []time.Duration
	refused, most := 0, 0
	for n := 0; n < count; {
		all := l.Endpoints()
		e := all[random.IntN(len(all))]
		to := e.Server
		for l.x.Device(to).Rack == l.x.Device(e.Server).Rack {
			to = servers[random.IntN(len(servers))]
		}
		list, err := l.WatchMove(t.Context(), e.Name, to)
		if err != nil && budget > 0 && strings.Contains(err.Error(), "cannot leave") {
			refused++
			if most < budget {
				t.Fatalf("move %d: %v, and no ToR has more than %d", n, err, most)
			}
			continue
		}
		if n++; err != nil {
			t.Fatalf("move %d: %v", n, err)
		}
		for _, g := range list {
			gaps = append(gaps, g.Gap)
			if g.Gap > maxGap {
				t.Logf("move %d: %s from %s to %s: %s lost %d of %d packets, gap %v", n, e.Name, e.Server, to, g.Addr, g.Lost, g.Sent, g.Gap.Round(time.Millisecond))
			}
		}
		most = max(most, exceptions(t, l, budget))
	}
	if budget > 0 && most == 0 {
		t.Error("no ToR had a route to an endpoint that left its rack")
	}
	t.Logf("%d exceptions on a ToR at most, of %d; %d more moves would have been one too many", most, budget, refused)
	slices.Sort(gaps)
	over := len(gaps) - slices.IndexFunc(append(slices.Clone(gaps), 1<<62), func(g time.Duration) bool { return g > maxGap })
	t.Logf("%d moves: gaps of %v in the middle, %v of 99 in 100, %v at most; %d of %d over %v", count, gaps[len(gaps)/2].Round(time.Millisecond),
		gaps[len(gaps)*99/100].Round(time.Millisecond), gaps[len(gaps)-1].Round(time.Millisecond), over, len(gaps), maxGap)
	if *full && over > 0 {
		t.Errorf("%d gaps over %v", over, maxGap)
	}
	settled(t, l)
	e, err := l.Watch(t.Context(), "spine0-r0-t0 down", func() error { return l.Fail(Failed{"spine0-r0-t0", ByCarrier}) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s; settled after %v", e.Summary(), e.Settled.Round(10*time.Millisecond))
	for _, d := range e.Differences {
		t.Error(d)
	}
	if r, err := l.Probe(t.Context()); err != nil || len(r.Unreached) > 0 || r.Apart > 0 {
		t.Errorf("with an uplink down: %v, %+v", err, r)
	}
	if err := l.Heal(t.Context(), "spine0-r0-t0"); err != nil {
		t.Fatal(err)
	}
	for name := range l.Moved {
		home, _, _ := strings.Cut(name, "-e")
		if err := l.Move(t.Context(), name, home); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.Moved) > 0 {
		t.Errorf("not home: %v", l.Moved)
	}
	settled(t, l)
	exceptions(t, l, 0)
}

// exceptions are how many endpoints a ToR sends packets to upwards by a route to that endpoint alone, in one family,
// where it does so with most. It fails if they are too many.
func exceptions(t *testing.T, l *Lab, budget int) (most int) {
	t.Helper()
	endpoints := map[netip.Addr]bool{}
	for _, e := range l.Endpoints() {
		for _, a := range e.Addrs {
			endpoints[a] = true
		}
	}
	for i := range l.Design.Devices {
		d := &l.Design.Devices[i]
		if d.Role != fabric.RoleToR {
			continue
		}
		for _, family := range l.Design.Families {
			table, err := l.actual(t.Context(), d, family)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for p, e := range table {
				if endpoints[p.Addr()] && p.IsSingleIP() && slices.ContainsFunc(e.Via, func(v string) bool { return strings.HasPrefix(v, "spine") }) {
					if n++; n > budget {
						t.Errorf("%s has a route to %s upwards, its number %d of %d: %v", d.Name, p, n, budget, e.Via)
					}
				}
			}
			most = max(most, n)
		}
	}
	return most
}

// doubles is how many pairs of failures are tried in each variant.
const doubles = 5

// everyFailure: each thing fails by itself, and some two at a time; every table is what the simulation says with
// that, and after the repair.
func everyFailure(t *testing.T, l *Lab) {
	t.Helper()
	things := l.Things()
	if len(things) < 8 {
		t.Fatalf("only %v fail", things)
	}
	var cases [][]string
	for _, x := range things {
		cases = append(cases, []string{x})
	}
	random := rand.New(rand.NewPCG(2, uint64(len(things))))
	for range doubles {
		pair := random.Perm(len(things))[:2]
		cases = append(cases, []string{things[pair[0]], things[pair[1]]})
	}
	start, paths, routes := time.Now(), 0, 0
	same := func(what string) {
		t.Helper()
		c, err := l.Settle(t.Context(), time.Minute)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for i, d := range c.Differences {
			if i == 5 {
				t.Errorf("%s: and %d more", what, len(c.Differences)-i)
				break
			}
			t.Errorf("%s: %s", what, d)
		}
		paths, routes = paths+c.Paths, routes+c.Routes
	}
	for _, c := range cases {
		what := strings.Join(c, " + ")
		for _, x := range c {
			if err := l.Fail(Failed{x, ByCarrier}); err != nil {
				t.Fatal(err)
			}
		}
		same(what + " down")
		for _, x := range c {
			if err := l.Heal(t.Context(), x); err != nil {
				t.Fatal(err)
			}
		}
	}
	same("all up")
	t.Logf("%d failures, %d of them of two things, in %v: %d paths and %d routes compared", len(cases), doubles, time.Since(start).Round(time.Second), paths, routes)
}
