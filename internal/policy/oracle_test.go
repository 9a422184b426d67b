// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/policy/policytest"
)

// TestQ01_IndexAgreesWithEvaluator compares the compiled policy of random
// worlds, read as a data plane reads it, with the verdict evaluator.
func TestQ01_IndexAgreesWithEvaluator(t *testing.T) {
	verdicts := map[string]int{}
	if err := flag.Set("rapid.checks", "500"); err != nil { // the rarest reasons come in one world of a hundred
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		objects := map[Key]v3.Resource{}
		for range rapid.IntRange(5, 40).Draw(t, "objects") {
			k := Key(policytest.DrawKey(t))
			objects[k] = policytest.DrawObject(t, policytest.Key(k), true)
		}
		w := &World{Reserved: policytest.Reserved(t), Interfaces: policytest.Addresses(t), Failsafes: failsafes(t), AnySource: rapid.Bool().Draw(t, "any source")}
		late := rapid.Bool().Draw(t, "reserved late")
		views := map[string]*interp{}
		for _, node := range policytest.Nodes {
			x := NewIndex(node)
			if !late {
				x.Reserve(w.Reserved)
				x.HostInterfaces(w.Interfaces)
				x.AllowSources(w.AnySource)
			}
			for k, r := range objects {
				x.Set(k, r, nil)
			}
			x.Reserve(w.Reserved)
			x.HostInterfaces(w.Interfaces)
			x.AllowSources(w.AnySource)
			x.Flush()
			views[node] = newInterp(x)
		}
		for k, r := range objects {
			w.Put(k, r, nil)
		}
		for range 60 {
			f := w.FlowOf(Packet(policytest.DrawPacket(t)))
			f.Via = drawPassage(t)
			trace := Evaluate(w, f)
			views[f.Via.Node].passes(t, f, trace)
			denies := slices.ContainsFunc(slices.Concat(trace.In, trace.Out), func(d Decision) bool { return !d.Allowed })
			if r := views[f.Via.Node].index.JudgePassage(f.Via, &f.Packet, &f.Packet, w.Failsafes); r.Allowed == denies {
				t.Fatalf("%+v: judged %+v, the evaluator says %+v and %+v", f, r, trace.In, trace.Out)
			} else if denies && !slices.ContainsFunc(slices.Concat(trace.In, trace.Out), func(d Decision) bool {
				return !d.Allowed && d.Host == r.Host && d.Direction == r.Direction
			}) {
				t.Fatalf("%+v: %v of %q denies it, the evaluator says %+v and %+v", f, r.Direction, r.Host, trace.In, trace.Out)
			}
			for _, d := range slices.Concat(trace.In, trace.Out) {
				verdicts[string(d.Reason)+stageWords[d.Stage]]++
			}
			if f.From == f.To && w.IsProcess(f.From) { // what a process sends to itself is its own matter
				if trace.Egress != nil || trace.Ingress != nil {
					t.Fatalf("%+v: a process is asked about what it sends to itself: %+v", f, trace)
				}
				continue
			}
			if f.From != (EndpointID{}) {
				compare(t, w, views, f, *trace.Egress)
				verdicts[string(trace.Egress.Reason)]++
			}
			if f.To != (EndpointID{}) {
				compare(t, w, views, f, *trace.Ingress)
				verdicts[string(trace.Ingress.Reason)]++
			}
		}
		for id, e := range w.Endpoints {
			if got := views[e.Spec.Node].eps[id] == nil; got != w.closed(id) {
				t.Fatalf("endpoint %s: closed is %v in the index, %v in the evaluator", id, got, w.closed(id))
			}
			if in := views[e.Spec.Node].eps[id]; in != nil {
				nets, _ := w.openEndpoint(e)
				for _, p := range nets {
					owner, _ := w.Owner(p.Addr())
					if at := views[e.Spec.Node].index.LocalAt(p.Addr()); (at == in) != (owner == id) {
						t.Fatalf("%s is at %+v in the index; the evaluator says that %s has it", p, at, owner)
					}
					if has := slices.Contains(in.Addrs, p.Addr()); has != (owner == id) {
						t.Fatalf("endpoint %s has %s: %v in the index; the evaluator says that %s has it", id, p.Addr(), has, owner)
					}
				}
			}
		}
	})
	t.Log(verdicts)
	for _, r := range []Reason{ByPolicy, ByProfile, EndOfTier, NoMatch, Unselected, MissingProfile, BadPolicy, Closed,
		"policy rule (forwarded)", "policy rule (not tracked)", "policy rule (before DNAT)", "no rule matched (before DNAT)", NoForward + " (forwarded)"} {
		if verdicts[string(r)] == 0 && !testing.Short() {
			t.Errorf("no packet was decided for the reason %q: the worlds are too poor", r)
		}
	}
}

func compare(t *rapid.T, w *World, views map[string]*interp, f Flow, d Decision) {
	in := views[w.Endpoints[d.Endpoint].Spec.Node]
	e := in.eps[d.Endpoint]
	if e == nil {
		if d.Reason != Closed {
			t.Fatalf("%+v: %s is closed in the index; the evaluator says: %s", f, d.Endpoint, d)
		}
		return
	}
	got := in.decide(t, e, d.Direction, &f.Packet)
	if r := in.index.Judge(e, d.Direction, &f.Packet); r.Allowed != got.allowed || (r.Rule == nil) != (got.kind == "end" || got.kind == "none") || r.Rule != nil && r.Rule.Index != got.rule {
		t.Fatalf("%+v at %s, direction %d: judged %+v, read as a data plane does %+v", f, d.Endpoint, d.Direction, r, got)
	}
	want := outcome{allowed: d.Allowed}
	switch d.Reason {
	case ByPolicy, BadPolicy:
		want.kind, want.tier, want.key, want.rule = "tier", d.Tier, d.Policy.Key, max(d.Rule, 0)
	case ByProfile, MissingProfile:
		want.kind, want.key, want.rule = "profile", d.Policy.Key, max(d.Rule, 0)
	case EndOfTier:
		want.kind, want.tier = "end", d.Tier
	default:
		want.kind = "none"
	}
	if got != want {
		t.Fatalf("%+v at %s, direction %d:\nindex     %+v\nevaluator %+v: %s", f, d.Endpoint, d.Direction, got, want, d)
	}
}

func failsafes(t *rapid.T) (out [2][]Failsafe) {
	for d := range out {
		for _, f := range policytest.Failsafes(t) {
			out[d] = append(out[d], Failsafe(f))
		}
	}
	return out
}

// drawPassage draws a way through a server, which need not lead from and to
// where the packet's addresses are.
func drawPassage(t *rapid.T) Passage {
	all := append([]string{"", "cali0", "other"}, policytest.HostInterfaces...)
	p := Passage{Node: policytest.Pick(t, "node", policytest.Nodes), In: policytest.Pick(t, "in", all), Out: policytest.Pick(t, "out", all)}
	p.FromWorkload, p.ToWorkload = p.In == "cali0", p.Out == "cali0"
	return p
}

// passes compares what the host endpoints of a View do with a packet with what
// the evaluator says.
func (in *interp) passes(t *rapid.T, f Flow, trace Trace) {
	host := func(iface string, workload bool, s Stage) (found *HostEndpoint) {
		for _, h := range in.hosts {
			if h.Rest && found == nil && s != StageUntracked || slices.Contains(h.Interfaces, iface) && !workload {
				found = h
			}
		}
		return found
	}
	side := func(said []Decision, dir Direction, iface string, workload bool, stages ...Stage) {
		for _, s := range stages {
			h := host(iface, workload, s)
			if h == nil {
				continue
			}
			eff := h.At(s)
			if s > StageForward && (eff == nil || len(eff.Tiers[dir]) == 0) {
				continue // not asked
			}
			if len(said) == 0 || said[0].Host != h.Name || said[0].Stage != s || said[0].Direction != dir {
				t.Fatalf("%+v: host endpoint %s is asked in stage %d; the evaluator says %v", f, h.Name, s, said)
			}
			d := said[0]
			said = said[1:]
			if d.Reason == ByFailsafe || d.Reason == ByNeighbours {
				continue
			}
			got := outcome{allowed: true, kind: "none"}
			if eff != nil && (s != StageForward || len(eff.Tiers[dir]) > 0) {
				got = in.ask(t, eff, dir, &f.Packet)
			}
			if got.allowed != d.Allowed || got.key != d.Policy.Key || got.rule != max(d.Rule, 0) {
				t.Fatalf("%+v at host endpoint %s, stage %d, direction %d: the index says %+v, the evaluator %s", f, h.Name, s, dir, got, d)
			}
			if s > StageForward && got.kind == "tier" && got.allowed {
				break // allowed on this side
			}
		}
		if len(said) > 0 {
			t.Fatalf("%+v: the evaluator says besides: %v", f, said)
		}
	}
	var stages []Stage
	p := f.Via
	if p.In != "" {
		stages = append(stages, StageUntracked, StagePreDNAT)
	}
	switch {
	case p.In != "" && p.Out != "":
		stages = append(stages, StageForward)
	case p.In != "" && !p.FromWorkload:
		stages = append(stages, StageHost)
	}
	side(trace.In, Ingress, p.In, p.FromWorkload, stages...)
	stages = nil
	switch {
	case p.Out == "":
	case p.In != "":
		stages = []Stage{StageForward}
	case p.ToWorkload:
		stages = []Stage{StageUntracked}
	default:
		stages = []Stage{StageUntracked, StageHost}
	}
	side(trace.Out, Egress, p.Out, p.ToWorkload, stages...)
}

// step is a change of an object, or of the reservations or the addresses of
// interfaces if these are not nil.
type step struct {
	key      Key
	r        v3.Resource
	reserved map[netip.Addr]string
	ifaces   map[string][]netip.Addr
}

// told is what an Index is told beside the objects.
type told struct {
	reserved map[netip.Addr]string
	ifaces   map[string][]netip.Addr
}

// take notes what a step tells, and whether it told anything.
func (o *told) take(s step) bool {
	if s.reserved != nil {
		o.reserved = s.reserved
	}
	if s.ifaces != nil {
		o.ifaces = s.ifaces
	}
	return s.reserved != nil || s.ifaces != nil
}

func (o *told) tell(x *Index) {
	x.Reserve(o.reserved)
	x.HostInterfaces(o.ifaces)
}

func drawSteps(t *rapid.T, low, high int) []step {
	steps := make([]step, rapid.IntRange(low, high).Draw(t, "steps"))
	for i := range steps {
		if policytest.Chance(t, "reserve", 6) {
			steps[i].reserved = policytest.Reserved(t)
			continue
		}
		if policytest.Chance(t, "readdress", 6) {
			steps[i].ifaces = policytest.Addresses(t)
			continue
		}
		k := Key(policytest.DrawKey(t))
		steps[i].key = k
		if !policytest.Chance(t, "delete", 4) {
			steps[i].r = policytest.DrawObject(t, policytest.Key(k), false)
		}
	}
	return steps
}

func fresh(state map[Key]v3.Resource, o told) *Index {
	x := NewIndex(policytest.Nodes[0])
	o.tell(x)
	for k, r := range state {
		x.Set(k, r, nil)
	}
	x.Flush()
	return x
}

// TestQ08_EveryPrefix stops after each step of a random history: the View must
// be that of an Index which saw only the state, and a follower of Changes must
// hold the same.
func TestQ08_EveryPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, f, state := NewIndex(policytest.Nodes[0]), newFollower(), map[Key]v3.Resource{}
		var o told
		for i, s := range drawSteps(t, 1, 60) {
			if o.take(s) {
				o.tell(x)
			} else {
				x.Set(s.key, s.r, nil)
				delete(state, s.key)
				if s.r != nil {
					state[s.key] = s.r
				}
			}
			if i%3 == 1 {
				continue // several changes in one flush
			}
			if err := f.apply(x.Flush()); err != nil {
				t.Fatal(err)
			}
			same := fresh(state, o)
			if diff := cmp.Diff(problemTexts(same), problemTexts(x)); diff != "" {
				t.Fatalf("problems after step %d, %v: (-fresh +grown)\n%s", i, s.key, diff)
			}
			want := dump(same)
			if diff := cmp.Diff(want, dump(x)); diff != "" {
				t.Fatalf("after step %d, %v: (-fresh +grown)\n%s", i, s.key, diff)
			}
			if diff := cmp.Diff(want, f.dump()); diff != "" {
				t.Fatalf("after step %d, %v: (-fresh +followed)\n%s", i, s.key, diff)
			}
		}
		ch := x.Flush()
		for range 2 {
			ch = x.Flush()
		}
		if !ch.Empty() {
			t.Fatalf("changes without a change: %+v", ch)
		}
		// Undone, nothing remains.
		for k := range state {
			x.Set(k, nil, nil)
		}
		(&told{}).tell(x)
		x.Flush()
		if n := len(x.recs); dump(x) != "" || n != 1 || len(x.endpoints)+len(x.members)+x.owners.Len()+len(x.rivals)+len(x.reserved)+len(x.ifaces)+
			len(x.groups)+len(x.tiers)+len(x.sets.byID)+len(x.hosts.all)+len(x.hosts.active)+len(x.hosts.public) != 0 || x.hosts.index != nil || !indexEmpty(x.local) || !indexEmpty(x.sets.index) {
			t.Fatalf("something remains: %s %+v", dump(x), x)
		}
		if p := slices.Collect(x.Problems()); len(p) > 0 {
			t.Fatalf("problems remain: %v", p)
		}
	})
}

func problemTexts(x *Index) (texts []string) {
	for p := range x.Problems() {
		texts = append(texts, p.String())
	}
	return texts
}

func indexEmpty[I comparable, C, Q any](x *labelIndex[I, C, Q]) bool {
	return len(x.classes)+len(x.parents)+len(x.queries)+x.size+len(x.names)+x.free.len()+len(x.ofLabel)+len(x.ofName) == 0
}

// TestQ08_Orders gives the same end state in other ways: shuffled, reversed,
// squashed into one flush, and with every object absent once more in between.
func TestQ08_Orders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := map[Key]v3.Resource{}
		var o told
		for _, s := range drawSteps(t, 1, 40) {
			if !o.take(s) && s.r != nil {
				state[s.key] = s.r
			}
		}
		var steps []step
		for k, r := range state {
			steps = append(steps, step{key: k, r: r})
		}
		slices.SortFunc(steps, func(a, b step) int { return compareKeys(a.key, b.key) })
		want := dump(fresh(state, o))
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		try := func(name string, flushEach, empties bool) {
			x := NewIndex(policytest.Nodes[0])
			for i, s := range steps {
				if i == len(steps)/2 {
					o.tell(x)
				}
				x.Set(s.key, s.r, nil)
				if empties {
					x.Flush()
					x.Set(s.key, nil, nil)
				}
				if flushEach {
					x.Flush()
				}
				x.Set(s.key, s.r, nil)
			}
			x.Flush()
			if diff := cmp.Diff(want, dump(x)); diff != "" {
				t.Fatalf("%s, flush each %v, empties %v: (-want +got)\n%s", name, flushEach, empties, diff)
			}
		}
		for _, flushEach := range []bool{false, true} {
			try("sorted", flushEach, false)
			try("sorted", flushEach, true)
			slices.Reverse(steps)
			try("reversed", flushEach, false)
			rnd.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
			try("shuffled", flushEach, true)
		}
	})
}
