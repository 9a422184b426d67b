// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"pgregory.net/rapid"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/policy/policytest"
)

var histories = flag.Int("histories", 8, "random histories that TestI4_Histories plays")

// perState is how many packets are sent into each state of the kernel.
const perState = 50

// TestI4_Histories plays a random history of changes to a model, and then the same
// in other ways: undone, reversed, squashed into one, split into parts with each
// object absent in between, and two halves of it interleaved. However it went, the
// kernel ends in the same state. And after each transaction of every change a
// packet that the models before and after the change both forbid is not
// delivered, and one that both allow is.
func TestI4_Histories(t *testing.T) {
	w := newWires(t)
	tab := w.table(t)
	checks := flag.Lookup("rapid.checks").Value.String()
	must(t, flag.Set("rapid.checks", fmt.Sprint(*histories)))
	defer flag.Set("rapid.checks", checks)
	p := &player{w: w, tab: tab, tally: map[string]int{}}
	tab.refuse = func(*msgs) error { p.between(); return nil }
	defer func() { tab.refuse = nil }()
	rapid.Check(t, func(t *rapid.T) {
		p.t, p.rnd = t, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "packets"), 1))
		// Nothing of the last history stays, wherever that ended.
		p.x, p.now, p.shots = policy.NewIndex(policytest.Nodes[0]), model{}, nil
		check(t, tab.Resync(p.x))
		base := model{}
		for range rapid.IntRange(10, 25).Draw(t, "objects") {
			k := drawHistoryKey(t)
			base[k] = policytest.Workload(policytest.DrawObject(t, policytest.Key(k), false))
		}
		p.to(base)
		start := p.dump()
		var steps []historyStep
		end := maps.Clone(base)
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			s := drawHistoryStep(t, end)
			steps = append(steps, s)
			end.take(s)
		}

		for _, s := range steps {
			p.apply(s)
		}
		want := p.dump()
		for i := len(steps) - 1; i >= 0; i-- { // undone
			p.to(base.after(steps[:i]...))
		}
		p.same("undone", start)

		p.apply(steps...)
		p.same("squashed", want)
		p.to(base)
		p.same("squashed and undone", start)

		last := end.differs(base)
		slices.Reverse(last)
		for _, s := range last {
			p.apply(s)
		}
		p.same("reversed", want)
		p.to(base)

		for _, s := range steps {
			p.apply(historyStep{key: s.key})
			p.apply(s)
		}
		p.same("split", want)
		p.to(base)

		for _, part := range interleave(p.rnd, last) {
			p.apply(part...)
		}
		p.same("interleaved", want)
	})
	t.Logf("%v", p.tally)
	for _, k := range []string{"changes", "inside a change", "forbidden by both", "allowed by both", "dumps equal"} {
		// A few random models may allow nothing that the next ones allow, too.
		if p.tally[k] == 0 && (k != "allowed by both" || *histories > 20) {
			t.Errorf("%s: none; the histories are too poor", k)
		}
	}
}

// model is what is stored.
type model map[policy.Key]v3.Resource

// historyStep is a change of one object, which goes if r is nil.
type historyStep struct {
	key policy.Key
	r   v3.Resource
}

func (m model) take(s historyStep) {
	if delete(m, s.key); s.r != nil {
		m[s.key] = s.r
	}
}

func (m model) after(steps ...historyStep) model {
	m = maps.Clone(m)
	for _, s := range steps {
		m.take(s)
	}
	return m
}

// differs returns what leads from another model to this, sorted by key.
func (m model) differs(from model) (steps []historyStep) {
	for k := range from {
		if m[k] == nil {
			steps = append(steps, historyStep{key: k})
		}
	}
	for k, r := range m {
		if from[k] != r {
			steps = append(steps, historyStep{k, r})
		}
	}
	slices.SortFunc(steps, func(a, b historyStep) int { return strings.Compare(fmt.Sprint(a.key), fmt.Sprint(b.key)) })
	return steps
}

func (m model) world() *policy.World {
	w := &policy.World{}
	for k, r := range m {
		w.Put(k, r, nil)
	}
	return w
}

func drawHistoryKey(t *rapid.T) policy.Key {
	for {
		if k := policytest.DrawKey(t); k.Kind != "HostEndpoint" {
			return policy.Key(k)
		}
	}
}

// drawHistoryStep changes an object that is there, more often than not: its labels,
// its interface's policy, all of it, or that it is there.
func drawHistoryStep(t *rapid.T, m model) historyStep {
	k := drawHistoryKey(t)
	if len(m) > 0 && !policytest.Chance(t, "another", 3) {
		k = policytest.Pick(t, "which", slices.SortedFunc(maps.Keys(m), func(a, b policy.Key) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }))
	}
	old, is := m[k].(*v3.WorkloadEndpoint)
	switch {
	case m[k] != nil && policytest.Chance(t, "remove", 4):
		return historyStep{key: k}
	case is && policytest.Chance(t, "labels alone", 2):
		e := *old
		e.Metadata.Labels = policytest.DrawObject(t, policytest.Key(k), false).Meta().Labels
		return historyStep{k, &e}
	}
	return historyStep{k, policytest.Workload(policytest.DrawObject(t, policytest.Key(k), false))}
}

// interleave deals steps to two hands and merges these in an order by chance, up to
// three at a time.
func interleave(rnd *rand.Rand, steps []historyStep) (out [][]historyStep) {
	var hands [2][]historyStep
	for i, s := range steps {
		hands[i%2] = append(hands[i%2], s)
	}
	for len(hands[0])+len(hands[1]) > 0 {
		h := rnd.IntN(2)
		if len(hands[h]) == 0 {
			h = 1 - h
		}
		n := min(1+rnd.IntN(3), len(hands[h]))
		out = append(out, hands[h][:n])
		hands[h] = hands[h][n:]
	}
	return out
}

// player brings a kernel from model to model.
type player struct {
	t     *rapid.T
	w     *wires
	tab   *Table
	x     *policy.Index
	rnd   *rand.Rand
	now   model
	tally map[string]int

	views  [2]*crossing // of before and after the change under way; nil if there is none
	routes map[netip.Addr]string
	shots  []*shot
	sent   int // transactions of the change
}

// to goes to a model at once.
func (p *player) to(m model) { p.apply(m.differs(p.now)...) }

// apply puts steps in force as one change.
func (p *player) apply(steps ...historyStep) {
	old := p.now
	p.now = old.after(steps...)
	for _, s := range p.now.differs(old) {
		p.x.Set(s.key, s.r, nil)
	}
	for i, m := range []model{old, p.now} {
		p.views[i] = &crossing{world: m.world(), w: p.w, owners: map[netip.Addr]policy.EndpointID{}, rnd: p.rnd}
	}
	p.sent = 0
	p.aim()
	check(p.t, p.tab.Apply(p.x, p.x.Flush()))
	for _, pr := range p.tab.Problems() {
		p.t.Fatalf("problem: %s: %v", pr.Object, pr.Err)
	}
	p.send("after a change")
	p.shots = nil
	p.tally["changes"]++
}

// between sends into the state before a transaction, if that is not the one before
// the change.
func (p *player) between() {
	if p.sent++; p.sent > 1 && len(p.shots) > 0 {
		p.tally["inside a change"]++
		p.send("inside a change")
	}
}

// aim draws packets about which both models agree, and sends addresses where
// either has them.
func (p *player) aim() {
	p.routes = map[netip.Addr]string{}
	for _, v4 := range []bool{true, false} {
		for i := range policytest.Addrs {
			a := policytest.Addr(v4, i)
			p.routes[a] = p.views[0].home(a)
			if p.routes[a] == "" {
				p.routes[a] = p.views[1].home(a)
			}
		}
	}
	p.w.route(p.t, func(a netip.Addr) string { return p.routes[a] })
	flows := map[string]bool{}
	for tries := 0; len(p.shots) < perState && tries < 20*perState; tries++ {
		s := &shot{Packet: p.views[0].packet(), out: -1}
		k := flowOf(s.Packet)
		if s.Src == s.Dst || flows[k] || isOwn(s.Src) || isOwn(s.Dst) || !begins(s.Packet) || p.routes[s.Src]+p.routes[s.Dst] == "" || p.taken(s.Dst) {
			continue
		}
		before, why := p.allows(0, s)
		after, andWhy := p.allows(1, s)
		if before != after {
			continue
		}
		flows[k] = true
		s.in, s.expected = p.w.place[uplink], why+"; then "+andWhy
		if iface := p.routes[s.Src]; iface != "" {
			s.in = p.w.place[iface]
		}
		if before {
			s.out = p.w.place[uplink]
			if iface := p.routes[s.Dst]; iface != "" {
				s.out = p.w.place[iface]
			}
		}
		p.shots = append(p.shots, s)
	}
}

// taken tells whether in one of the models the interface that an address is routed
// to is one of an endpoint that does not have the address: what goes there is up
// to that endpoint's policy.
func (p *player) taken(a netip.Addr) bool {
	for _, c := range p.views {
		for _, e := range c.world.Endpoints {
			if e.Spec.Node == policytest.Nodes[0] && e.Spec.InterfaceName == p.routes[a] && c.home(a) != p.routes[a] {
				return true
			}
		}
	}
	return false
}

// allows tells what one of the models says of a packet that goes the way of
// routes. An address that is not where they say is nobody's there.
func (p *player) allows(i int, s *shot) (bool, string) {
	c := p.views[i]
	for _, a := range []netip.Addr{s.Src, s.Dst} {
		if c.home(a) != p.routes[a] {
			return false, fmt.Sprintf("%s is not on %s", a, p.routes[a])
		}
	}
	in, out := p.routes[s.Src], p.routes[s.Dst]
	f := policy.Flow{Packet: s.Packet, From: c.local(s.Src), To: c.local(s.Dst),
		Via: policy.Passage{Node: policytest.Nodes[0], In: in, Out: out, FromWorkload: in != "", ToWorkload: out != ""}}
	if in == "" {
		f.Via.In = uplink
	}
	if out == "" {
		f.Via.Out = uplink
	}
	trace := policy.Evaluate(c.world, f)
	return trace.Allowed, reasons(trace)
}

func (p *player) send(when string) {
	check(p.t, p.w.conntrack.ConntrackTableFlush(netlink.ConntrackTable))
	for _, s := range p.shots {
		s.came = nil
	}
	p.w.fire(p.t, p.shots)
	for _, s := range p.shots {
		var want []int
		word := "forbidden by both"
		if s.out >= 0 {
			want, word = []int{s.out}, "allowed by both"
		}
		p.tally[word]++
		if !slices.Equal(s.came, want) {
			p.t.Fatalf("%s, in transaction %d: %+v, in on %s, came out on %v, want %v: %s",
				when, p.sent, s.Packet, p.w.links[s.in].host, p.w.names(s.came), p.w.names(want), s.expected)
		}
	}
}

// dumped is the kernel's state: what it should be by the model, without
// a memory of how it came, what it is, and in which form sets are.
type dumped struct{ wanted, is, forms string }

func (p *player) dump() dumped {
	left := 0
	_, _, err := p.tab.compare(p.x, func(m *msgs) { left += len(m.starts) })
	check(p.t, err)
	if left > 0 {
		p.t.Fatalf("%d messages lead from what the kernel has to what the model wants", left)
	}
	a, err := p.tab.sock.read()
	check(p.t, err)
	var lines []string
	for name, c := range a.chains {
		if !isEpoch(name) { // its number counts the changes
			lines = append(lines, fmt.Sprintf("chain %s: %x", name, c.rules))
		}
	}
	for name, s := range a.sets {
		if name == setAccepted { // the same
			continue
		}
		for at, value := range s.elems {
			lines = append(lines, fmt.Sprintf("set %s: %+v %q", name, at, value))
		}
	}
	slices.Sort(lines)
	o := p.tab.opts
	words := strings.FieldsFunc(text(&renderer{opts: o, text: true}, p.x), func(r rune) bool { return r == '\n' || r == ',' })
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	slices.Sort(words)
	return dumped{strings.Join(words, "\n"), strings.Join(lines, "\n"), fmt.Sprint(p.tab.state.forms)}
}

// same fails unless the kernel is in a state again. A set that has had networks
// stays one of networks while it is in use: what the kernel has is compared where
// no set differs in that.
func (p *player) same(how string, want dumped) {
	got := p.dump()
	if got.wanted != want.wanted {
		p.t.Fatalf("%s: the model wants\n%s\nnot\n%s", how, got.wanted, want.wanted)
	}
	if got.forms != want.forms {
		p.tally["dumps with sets of another form"]++
		return
	}
	p.tally["dumps equal"]++
	if got.is != want.is {
		p.t.Fatalf("%s: the kernel has\n%s\nnot\n%s", how, got.is, want.is)
	}
}
