// SPDX-License-Identifier: Apache-2.0

package fabriclab

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab"
)

var (
	moves    = flag.Int("fabric.moves", 0, "how many endpoints move under Downward Default; 0 is a few, or 500 with -fabric.full")
	together = flag.Int("fabric.together", 4, "how many of them move at once")
	seed     = flag.Uint64("fabric.seed", 1, "which moves")
)

// maxGap is how long an endpoint that moves may be without packets, where it is measured.
const maxGap = 200 * time.Millisecond

// TestMoves: under Downward Default endpoints move among servers of all racks with the addresses that they have,
// several at once, and packets follow. Announced one by one, no ToR ever has a route of its own to an endpoint of another
// rack, since none was asked for; with blocks it has one to those that left its rack, and at no moment to more than it
// is planned for. With an uplink down nobody is cut off. In the end all tables are as simulated, and so they are when
// everybody is home, and no such route is left.
func TestMoves(t *testing.T) {
	const blocks = downward + ", endpoints: {perServer: 4, announce: server-block}, downwardDefault: {exceptions: 3}"
	dual := strings.Replace(blocks, "exceptions: 3", "exceptions: 3, fallback: dual-tor", 1) + ", racks: {count: 3, tors: 2}"
	for _, c := range []struct {
		name, spec string
		daemon     fabric.Software
		budget     int
		short      bool
	}{
		{"one by one", downward, fabric.FRR, 0, true},
		{"blocks", blocks, fabric.FRR, 3, false},
		{"blocks on BIRD", blocks, fabric.BIRD, 3, true},
		{"blocks and two ToRs", dual, fabric.FRR, 3, false},
		{"blocks and two ToRs on BIRD", dual, fabric.BIRD, 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.short && !*full && *moves == 0 {
				t.Skip("make test-fabric moves them")
			}
			g := design(t, c.spec)
			SetDaemon(g, c.daemon)
			l := boot(t, g)
			settled(t, l)
			m := &mover{lab: l, budget: c.budget, random: rand.New(rand.NewPCG(*seed, 1)), busy: map[string]bool{}, routes: followRoutes(t, l, c.budget)}
			m.movesAround(t)
			settled(t, l)
			uplinkDown(t, m)
			everybodyHome(t, m)
		})
	}
}

// mover has endpoints move. The first of each server stays, and sends.
type mover struct {
	lab    *Lab
	budget int
	routes *routeLog

	mu      sync.Mutex
	random  *rand.Rand
	busy    map[string]bool
	left    int
	gaps    []time.Duration
	longest string // gap, with what happened meanwhile
	refused int
}

// movesAround has as many move as there are to, and tells how long they were without packets.
func (m *mover) movesAround(t *testing.T) {
	if m.left = *moves; m.left == 0 {
		m.left = 6
		if *full {
			m.left = 500
		}
	}
	count := m.left
	var wait sync.WaitGroup
	for range *together {
		wait.Go(func() {
			for t.Context().Err() == nil && m.one(t) {
			}
		})
	}
	wait.Wait()
	slices.Sort(m.gaps)
	if t.Failed() || len(m.gaps) == 0 {
		t.FailNow()
	}
	over := len(m.gaps) - slices.IndexFunc(append(slices.Clone(m.gaps), 1<<62), func(g time.Duration) bool { return g > maxGap })
	t.Logf("%d moves, %d at once: gaps of %v in the middle, %v of 99 in 100, %v at most; %d of %d over %v", count, *together, m.gaps[len(m.gaps)/2].Round(time.Millisecond),
		m.gaps[len(m.gaps)*99/100].Round(time.Millisecond), m.gaps[len(m.gaps)-1].Round(time.Millisecond), over, len(m.gaps), maxGap)
	t.Logf("the longest: %s", m.longest)
	if *full && over > 0 {
		t.Errorf("%d gaps over %v", over, maxGap)
	}
	most := m.routes.check(t)
	if m.budget > 0 && most == 0 || m.refused > 0 && most < m.budget {
		t.Errorf("no ToR had more than %d routes to endpoints that left its rack, and %d more were refused", most, m.refused)
	}
	t.Logf("%d exceptions on a ToR at most, of %d; %d more moves would have been one too many", most, m.budget, m.refused)
}

// one moves an endpoint to a server of another rack, and tells whether there was one to move.
func (m *mover) one(t *testing.T) bool {
	e, to, from, ok := m.next()
	if !ok {
		return false
	}
	list, err := m.lab.WatchMove(t.Context(), e.Name, to, from)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.busy, e.Name)
	if err != nil {
		m.left++
		if m.budget > 0 && strings.Contains(err.Error(), "cannot leave") {
			m.refused++
			return true
		}
		t.Errorf("%s from %s to %s: %v", e.Name, e.Server, to, err)
		return false
	}
	for _, g := range list {
		longest := len(m.gaps) == 0 || g.Gap > slices.Max(m.gaps)
		if m.gaps = append(m.gaps, g.Gap); !longest && g.Gap <= maxGap {
			continue
		}
		what := fmt.Sprintf("%s from %s to %s: %s, from %s, lost %d of %d packets, gap %v until %s:%s", e.Name, e.Server, to, g.Addr, g.From, g.Lost, g.Sent,
			g.Gap.Round(time.Millisecond), g.End.Format("15:04:05.000"), m.routes.around(g))
		if longest {
			m.longest = what
		}
		if g.Gap > maxGap {
			t.Log(what)
		}
	}
	return true
}

// next chooses an endpoint that does not move yet, a server of another rack for it, and who sends to it meanwhile.
func (m *mover) next() (e Endpoint, to, from string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		return e, "", "", false
	}
	m.left--
	var stay, move []Endpoint
	for _, e := range m.lab.Endpoints() {
		switch {
		case strings.HasSuffix(e.Name, "-e0"):
			stay = append(stay, e)
		case !m.busy[e.Name]:
			move = append(move, e)
		}
	}
	e = move[m.random.IntN(len(move))]
	m.busy[e.Name] = true
	for to = e.Server; m.lab.x.Device(to).Rack == m.lab.x.Device(e.Server).Rack; {
		to = stay[m.random.IntN(len(stay))].Server
	}
	sender := e
	for sender.Server == e.Server || sender.Server == to {
		sender = stay[m.random.IntN(len(stay))]
	}
	return e, to, sender.Name, true
}

// uplinkDown: while endpoints are in other racks, one that left and one that came among them, a link to a spine is
// cut. All packets reach them, and everybody else.
func uplinkDown(t *testing.T, m *mover) {
	t.Helper()
	l := m.lab
	for name, to := range map[string]string{"r0-s0-e1": "r1-s0", "r1-s1-e1": "r0-s1"} {
		if l.Moved[name] != "" {
			continue
		}
		if err := l.Move(t.Context(), name, to); err != nil && !strings.Contains(err.Error(), "cannot leave") {
			t.Fatal(err)
		}
	}
	settled(t, l)
	if m.budget > 0 && m.routes.now() == 0 {
		t.Error("no ToR has an exception while an uplink is cut")
	}
	stop := flowsToMoved(t, l)
	e, err := l.Watch(t.Context(), "spine0-r0-t0 down", func() error { return l.Fail(Failed{"spine0-r0-t0", ByCarrier}) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d endpoints in other places, %d exceptions: %s; settled after %v", len(l.Moved), m.routes.now(), e.Summary(), e.Settled.Round(10*time.Millisecond))
	stop()
	for _, d := range e.Differences {
		t.Error(d)
	}
	if r, err := l.Probe(t.Context()); err != nil || len(r.Unreached) > 0 || r.Apart > 0 {
		t.Errorf("with an uplink down: %v, %+v", err, r)
	}
	if err := l.Heal(t.Context(), "spine0-r0-t0"); err != nil {
		t.Fatal(err)
	}
	settled(t, l)
}

// flowsToMoved sends to all that moved, from each rack, until it is told to stop, and then wants packets to arrive.
func flowsToMoved(t *testing.T, l *Lab) (stop func()) {
	t.Helper()
	var flows []*lab.Flow
	var names []string
	port := uint16(flowPort + 1000)
	for _, e := range l.Endpoints() {
		if _, moved := l.Moved[e.Name]; !moved {
			continue
		}
		for _, from := range []string{"r0-s0-e0", "r1-s0-e0", "r2-s0-e0"} {
			for _, a := range e.Addrs {
				port++
				f, err := l.startFlow(from, e.Name, netip.AddrPortFrom(a, port), flowRate)
				if err != nil {
					t.Fatal(err)
				}
				flows, names = append(flows, f), append(names, fmt.Sprintf("%s to %s, %s on %s", from, e.Name, a, e.Server))
			}
		}
	}
	for i, f := range flows {
		if err := f.WaitDelivered(t.Context(), 5); err != nil {
			t.Fatalf("%s: %v", names[i], err)
		}
		f.Mark()
	}
	return func() {
		t.Helper()
		longest, hit := time.Duration(0), 0
		for i, f := range flows {
			n := f.Report().Delivered
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if err := f.WaitDelivered(ctx, n+flowRate/5); err != nil {
				t.Errorf("%s does not go on: %v", names[i], err)
			}
			cancel()
		}
		for _, f := range flows {
			r := f.Stop(300 * time.Millisecond)
			if longest = max(longest, r.MaxGap); r.Lost > 0 {
				hit++
			}
		}
		t.Logf("of %d flows to endpoints that moved %d lost packets, gap %v at most", len(flows), hit, longest.Round(time.Millisecond))
	}
}

// everybodyHome: no exception is left when all are where they were.
func everybodyHome(t *testing.T, m *mover) {
	t.Helper()
	l := m.lab
	for name := range maps.Clone(l.Moved) {
		home, _, _ := strings.Cut(name, "-e")
		if err := l.Move(t.Context(), name, home); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.Moved) > 0 {
		t.Errorf("not home: %v", l.Moved)
	}
	settled(t, l)
	for _, rack := range []string{"r0", "r1", "r2"} {
		known, err := l.exceptionsIn(t.Context(), rack)
		if err != nil {
			t.Fatal(err)
		}
		for a := range known {
			if m.routes.endpoints[a] {
				t.Errorf("a ToR of %s has a route to %s upwards, which is home", rack, a)
			}
		}
	}
	m.routes.check(t)
	if n := m.routes.now(); n > 0 {
		t.Errorf("%d exceptions are left", n)
	}
	for _, w := range warnings(t, l) {
		t.Error(w)
	}
}

// slow is what is told of: BFD takes two seconds to come up (RFC 5880 section 6.8.3), and BGP up to five to call again.
const slow = 7 * time.Second

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
		start := time.Now()
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
		if d := time.Since(start); d > slow {
			t.Logf("%s: settled after %v only", what, d.Round(100*time.Millisecond))
		}
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
		same(what + " up")
	}
	t.Logf("%d failures, %d of them of two things, in %v: %d paths and %d routes compared", len(cases), doubles, time.Since(start).Round(time.Second), paths, routes)
}
