// SPDX-License-Identifier: Apache-2.0

package policy

import (
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
	rapid.Check(t, func(t *rapid.T) {
		objects := map[Key]v3.Resource{}
		for range rapid.IntRange(5, 40).Draw(t, "objects") {
			k := Key(policytest.DrawKey(t))
			objects[k] = policytest.DrawObject(t, policytest.Key(k), true)
		}
		w := &World{Reserved: policytest.Reserved(t)}
		late := rapid.Bool().Draw(t, "reserved late")
		views := map[string]*interp{}
		for _, node := range policytest.Nodes {
			x := NewIndex(node)
			if !late {
				x.Reserve(w.Reserved)
			}
			for k, r := range objects {
				x.Set(k, r, nil)
			}
			x.Reserve(w.Reserved)
			x.Flush()
			views[node] = newInterp(x)
		}
		for k, r := range objects {
			w.Put(k, r, nil)
		}
		for range 60 {
			f := w.FlowOf(Packet(policytest.DrawPacket(t)))
			trace := Evaluate(w, f)
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
				nets, _ := openEndpoint(e)
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
	for _, r := range []Reason{ByPolicy, ByProfile, EndOfTier, NoMatch, Unselected, MissingProfile, BadPolicy, Closed} {
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

// step is a change of an object, or of the reservations if these are not nil.
type step struct {
	key      Key
	r        v3.Resource
	reserved map[netip.Addr]string
}

func drawSteps(t *rapid.T, low, high int) []step {
	steps := make([]step, rapid.IntRange(low, high).Draw(t, "steps"))
	for i := range steps {
		if policytest.Chance(t, "reserve", 6) {
			steps[i].reserved = policytest.Reserved(t)
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

func fresh(state map[Key]v3.Resource, reserved map[netip.Addr]string) *Index {
	x := NewIndex(policytest.Nodes[0])
	x.Reserve(reserved)
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
		var reserved map[netip.Addr]string
		for i, s := range drawSteps(t, 1, 60) {
			if s.reserved != nil {
				reserved = s.reserved
				x.Reserve(reserved)
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
			same := fresh(state, reserved)
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
		x.Reserve(nil)
		x.Flush()
		if n := len(x.recs); dump(x) != "" || n != 1 || len(x.endpoints)+len(x.members)+x.owners.Len()+len(x.rivals)+len(x.reserved)+len(x.ifaces)+
			len(x.groups)+len(x.tiers)+len(x.sets.byID) != 0 || !indexEmpty(x.local) || !indexEmpty(x.sets.index) {
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
		var reserved map[netip.Addr]string
		for _, s := range drawSteps(t, 1, 40) {
			if s.reserved != nil {
				reserved = s.reserved
			} else if s.r != nil {
				state[s.key] = s.r
			}
		}
		var steps []step
		for k, r := range state {
			steps = append(steps, step{key: k, r: r})
		}
		slices.SortFunc(steps, func(a, b step) int { return compareKeys(a.key, b.key) })
		want := dump(fresh(state, reserved))
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		try := func(name string, flushEach, empties bool) {
			x := NewIndex(policytest.Nodes[0])
			for i, s := range steps {
				if i == len(steps)/2 {
					x.Reserve(reserved)
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
