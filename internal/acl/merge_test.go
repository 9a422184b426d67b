// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/muslin-net/muslin/internal/policy"
)

// TestDisjoint holds what is left of boxes that overlap against the boxes.
func TestDisjoint(t *testing.T) {
	points := addrs("10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5")
	crossed, whole := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		net := func(what string) netip.Prefix {
			return netip.PrefixFrom(rapid.SampledFrom(points).Draw(t, what), rapid.IntRange(29, 32).Draw(t, "bits")).Masked()
		}
		two := rapid.Bool().Draw(t, "both ends")
		in := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) box {
			b := box{src: net("from"), proto: rapid.SampledFrom([]byte{tcp, udp}).Draw(t, "protocol")}
			if two {
				b.dst = net("to")
			}
			b.ports.Min = rapid.Uint16Range(1, 6).Draw(t, "port")
			b.ports.Max = b.ports.Min + rapid.Uint16Range(0, 3).Draw(t, "more")
			return b
		}), 1, 12).Draw(t, "boxes")
		out, ok := disjoint(in)
		if !ok {
			if !two {
				t.Fatal("networks at one end cross")
			}
			crossed++
			return
		}
		whole++
		for i, a := range out {
			for _, b := range out[:i] {
				if a.src.Overlaps(b.src) && (!two || a.dst.Overlaps(b.dst)) && a.proto == b.proto && a.ports.Min <= b.ports.Max && b.ports.Min <= a.ports.Max {
					t.Fatalf("%v and %v overlap, of %v", a, b, in)
				}
			}
		}
		for _, src := range points {
			for _, dst := range points {
				for _, proto := range []byte{tcp, udp} {
					for port := uint16(0); port < 12; port++ {
						want, got := false, 0
						for _, b := range in {
							want = want || b.holds(src, dst, proto, port, true)
						}
						for _, b := range out {
							if b.holds(src, dst, proto, port, true) {
								got++
							}
						}
						if want && got != 1 || !want && got != 0 {
							t.Fatalf("%v to %v, %d %d: in %d boxes of %v, of which %v were made", src, dst, proto, port, got, out, in)
						}
					}
				}
			}
		}
	})
	if crossed == 0 || whole == 0 {
		t.Errorf("%d crossed, %d not: the boxes are too poor", crossed, whole)
	}
}

// many is a run of rules of equal shape, each from a network to a port.
func many(n int) (rules []policy.Rule) {
	for i := range n {
		rules = append(rules, allow(func(r *policy.Rule) {
			toPort(tcp, port(uint16(1000+i)))(r)
			r.Src.Nets = nets(fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255), fmt.Sprintf("fd00:%x::/32", i))
		}))
	}
	return rules
}

// TestMerge shows which rules become one lookup, and which twins of them do not.
func TestMerge(t *testing.T) {
	twin := func(f func(*policy.Rule)) []policy.Rule {
		rules := many(minMerged)
		f(&rules[3])
		return rules
	}
	eight := minMerged
	for _, x := range []struct {
		what   string
		rules  []policy.Rule
		merged []int // how many model rules each group stands for
	}{
		{"a run", many(eight), []int{eight}},
		{"a thousand", many(1000), []int{512, 488}},
		{"too few", many(eight - 1), nil},
		{"another action in between", twin(func(r *policy.Rule) { r.Action = policy.Deny }), nil},
		{"a log in between", twin(func(r *policy.Rule) { r.Action = policy.Log }), nil},
		{"two runs", append(many(eight), func() []policy.Rule {
			d := many(eight + 1)
			for i := range d {
				d[i].Action = policy.Deny
			}
			return d
		}()...), []int{eight, eight + 1}},
		{"ipVersion", append(twin(func(r *policy.Rule) { r.IPVersion = 4 }), many(eight + 1)[eight]), []int{eight}},
		{"a negation", append(twin(func(r *policy.Rule) { r.Src.NotNets = nets("10.0.0.0/24") }), many(eight + 1)[eight]), []int{eight}},
		{"no ports", append(twin(func(r *policy.Rule) { r.Dst.Ports = nil }), many(eight + 1)[eight]), []int{eight}},
		{"ICMP", append(twin(func(r *policy.Rule) { r.Proto, r.Dst.Ports, r.ICMP = 1, nil, &policy.ICMPMatch{Type: 8, Code: -1} }), many(eight + 1)[eight]), []int{eight}},
		{"a named port", append(twin(func(r *policy.Rule) { r.Dst.PortSets = []policy.SetID{"named"} }), many(eight + 1)[eight]), []int{eight}},
		{"a selector", append(twin(func(r *policy.Rule) { r.Src.Sets = []policy.SetID{"web"} }), many(eight + 1)[eight]), []int{eight}},
		{"ranges, UDP, SCTP and any", twin(func(r *policy.Rule) {
			r.Dst.Ports, r.HasProto = []policy.PortRange{{Min: 1, Max: 1000}}, false
		}), []int{eight}},
	} {
		var got []int
		for _, g := range merge(groups(x.rules)) {
			if len(g.parts) > 0 {
				got = append(got, g.rules)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(x.merged) {
			t.Errorf("%s: merged %v, want %v", x.what, got, x.merged)
		}
	}
}

// TestMergedRuleChanges has one rule of a merged run change: the table differs by
// a set and the rules that look it up, and the set is there before the rules.
func TestMergedRuleChanges(t *testing.T) {
	inNetns(t)
	v := newView()
	p := v.policy(gnp("p", many(500), nil))
	v.effective(&policy.Effective{ID: "e", Tiers: both(tier("default", false, p))})
	tab := openTable(t)
	must(t, tab.Apply(v, v.flush()))
	quiet(t, tab, v)
	if n := len(tab.state.chains[policyChain(p.Key, policy.Ingress)].sums); n != 2 {
		t.Errorf("500 rules are %d, want one for each family", n)
	}
	rules := many(500)
	rules[100].Dst.Ports = []policy.PortRange{{Min: 7, Max: 9}}
	v.policy(gnp("p", rules, nil))
	before := tab.Stats().Commits
	must(t, tab.Apply(v, v.flush()))
	if n := tab.Stats().Commits - before; n != 2 {
		t.Errorf("%d commits, want one for the sets and one for the rules", n)
	}
	quiet(t, tab, v)
}

// BenchmarkMergedRuleChanges is one rule of a thousand that changes.
func BenchmarkMergedRuleChanges(b *testing.B) {
	inNetns(b)
	v := newView()
	p := v.policy(gnp("p", many(1000), nil))
	v.effective(&policy.Effective{ID: "e", Tiers: both(tier("default", false, p))})
	tab := openTable(b)
	must(b, tab.Apply(v, v.flush()))
	for i := 0; b.Loop(); i++ {
		rules := many(1000)
		rules[100].Dst.Ports[0].Max += uint16(i%1000 + 1)
		v.policy(gnp("p", rules, nil))
		must(b, tab.Apply(v, v.flush()))
	}
}
