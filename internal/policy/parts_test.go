// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"testing"

	"pgregory.net/rapid"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/policy/policytest"
)

// TestNetSet compares the merged set with one that is computed anew, and its
// reports with the difference.
func TestNetSet(t *testing.T) {
	texts := []string{"0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "10.1.2.4/32",
		"11.0.0.0/8", "::/0", "2001:db8::/32", "2001:db8::1/128", "::/1"}
	rapid.Check(t, func(t *rapid.T) {
		var s netSet
		var held []netip.Prefix
		told := map[netip.Prefix]int8{}
		emit := func(p netip.Prefix, n int8) { told[p] += n }
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(held) > 0 && rapid.Bool().Draw(t, "remove") {
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				s.remove(held[i], emit)
				held = slices.Delete(held, i, i+1)
			} else {
				p := netip.MustParsePrefix(policytest.Pick(t, "net", texts))
				s.add(p, emit)
				held = append(held, p)
			}
			want := mergeNets(slices.Clone(held))
			got := slices.SortedFunc(s.exposed, compareNets)
			if !slices.Equal(got, want) {
				t.Fatalf("of %v exposed are %v; want %v", held, got, want)
			}
			var said []netip.Prefix
			for p, n := range told {
				if n == 1 {
					said = append(said, p)
				} else if n != 0 {
					t.Fatalf("%s was told %d times", p, n)
				}
			}
			slices.SortFunc(said, compareNets)
			if !slices.Equal(said, want) {
				t.Fatalf("of %v told are %v; want %v", held, said, want)
			}
		}
	})
}

// TestMergeNets compares with the definition.
func TestMergeNets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var nets []netip.Prefix
		for range rnd.IntN(8) {
			a := netip.AddrFrom4([4]byte{10, byte(rnd.IntN(2)), byte(rnd.IntN(2)) << 7, byte(rnd.IntN(4))})
			nets = append(nets, netip.PrefixFrom(a, 8*rnd.IntN(5)).Masked())
		}
		var want []netip.Prefix
		for _, p := range nets {
			if !slices.ContainsFunc(nets, func(q netip.Prefix) bool { return q.Bits() < p.Bits() && q.Contains(p.Addr()) }) && !slices.Contains(want, p) {
				want = append(want, p)
			}
		}
		slices.SortFunc(want, compareNets)
		if got := mergeNets(slices.Clone(nets)); !slices.Equal(got, want) {
			t.Fatalf("%v merge to %v; want %v", nets, got, want)
		}
	}
}

func TestBag(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b bag[int]
		want := map[int]bool{}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			v := rapid.IntRange(1, 31).Draw(t, "v")
			if rapid.IntRange(0, 2).Draw(t, "remove") == 0 {
				if b.remove(v) != want[v] {
					t.Fatalf("remove(%d) is wrong", v)
				}
				delete(want, v)
			} else {
				if b.add(v) == want[v] {
					t.Fatalf("add(%d) is wrong", v)
				}
				want[v] = true
			}
			got := slices.Sorted(b.each)
			if len(got) != len(want) || b.len() != len(want) || slices.ContainsFunc(got, func(v int) bool { return !want[v] || !b.has(v) }) {
				t.Fatalf("holds %v; want %v", got, want)
			}
		}
	})
}

// TestEffectiveSelectors holds the rewriting of selectors against their text.
func TestEffectiveSelectors(t *testing.T) {
	const ns, sa = "projectcalico.org/namespace", "projectcalico.org/serviceaccount"
	for _, c := range []struct {
		namespace string
		spec      v3.GlobalPolicySpec
		want      string
	}{
		{"", v3.GlobalPolicySpec{}, `all()`},
		{"N", v3.GlobalPolicySpec{}, ns + ` == "N"`},
		{"N", v3.GlobalPolicySpec{PolicySpec: v3.PolicySpec{Selector: "a == 'b'"}}, `(a == "b" && ` + ns + ` == "N")`},
		{"N", v3.GlobalPolicySpec{PolicySpec: v3.PolicySpec{ServiceAccountSelector: "all() || x == 'pcsa.x'"}}, `(` + ns + ` == "N" && (all() || pcsa.x == "pcsa.x"))`},
		{"", v3.GlobalPolicySpec{PolicySpec: v3.PolicySpec{ServiceAccountSelector: "all()"}}, `has(` + sa + `)`},
		{"", v3.GlobalPolicySpec{NamespaceSelector: "all()"}, `has(` + ns + `)`},
		{"", v3.GlobalPolicySpec{PolicySpec: v3.PolicySpec{Selector: "a == 'b'"}, NamespaceSelector: "has(t) && !all()"}, `(a == "b" && (has(pcns.t) && !has(` + ns + `)))`},
	} {
		s, err := policySelector(c.namespace, &c.spec.PolicySpec, c.spec.NamespaceSelector)
		if err != nil || s.String() != c.want {
			t.Errorf("%q %+v: %v, %v; want %s", c.namespace, c.spec, s, err, c.want)
		}
	}
	for _, c := range []struct {
		namespace string
		e         v3.EntityRule
		pos, neg  string
	}{
		{"", v3.EntityRule{}, "", ""},
		{"N", v3.EntityRule{Nets: []string{"10.0.0.0/8"}}, "", ""},
		{"N", v3.EntityRule{Selector: "a == 'b'"}, `(` + ns + ` == "N" && a == "b")`, ""},
		{"", v3.EntityRule{Selector: "a == 'b'"}, `a == "b"`, ""},
		{"", v3.EntityRule{NotSelector: "a == 'b'"}, "", `a == "b"`},
		{"N", v3.EntityRule{NotSelector: "a == 'b'"}, `(` + ns + ` == "N" && !a == "b")`, ""},
		{"N", v3.EntityRule{ServiceAccounts: &v3.ServiceAccounts{}}, ns + ` == "N"`, ""},
		{"N", v3.EntityRule{NamespaceSelector: "all()"}, `has(` + ns + `)`, ""},
		{"N", v3.EntityRule{NamespaceSelector: "global()", Selector: "a == 'b'"}, `(!has(` + ns + `) && a == "b")`, ""},
		{"", v3.EntityRule{ServiceAccounts: &v3.ServiceAccounts{Names: []string{"y", "x"}, Selector: "all() || r == 's'"}}, `(` + sa + ` in {"x", "y"} && (all() || pcsa.r == "s"))`, ""},
	} {
		pos, neg, err := entitySelectors(c.namespace, "f", &c.e)
		if err != nil {
			t.Errorf("%+v: %v", c.e, err)
			continue
		}
		var p, n string
		if pos != nil {
			p = pos.String()
		}
		if neg != nil {
			n = neg.String()
		}
		if p != c.pos || n != c.neg {
			t.Errorf("%q %+v: %q, %q; want %q, %q", c.namespace, c.e, p, n, c.pos, c.neg)
		}
	}
}

func TestDisplayName(t *testing.T) {
	for _, c := range []struct{ key, name, tier, annotation, want string }{
		{"default.a", "default.a", "", "", "a"},
		{"default.a", "a", "default", "", "a"},
		{"default.a", "default.a", "default", `{"name":"default.a"}`, "default.a"},
		{"a", "a", "default", `{"name":"a"}`, "a"},
		{"default.a", "default.a", "other", "", "default.a"},
		{"a", "", "default", "nonsense", "a"},
	} {
		m := &v3.ObjectMeta{Name: c.name, Annotations: map[string]string{}}
		if c.annotation != "" {
			m.Annotations["projectcalico.org/metadata"] = c.annotation
		}
		if got := displayName(Key{Name: c.key}, m, c.tier); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// TestChanges_Narrow asserts that what is named follows the change.
func TestChanges_Narrow(t *testing.T) {
	s := newScene(t)
	one := func(action string) v3.Rule {
		return rule(action, func(r *v3.Rule) { r.Source.Selector = "name == 'a'" })
	}
	s.global("p", ingress(one("Allow")))
	ch := s.x.Flush()
	if len(ch.Endpoints) != 2 || len(ch.Effectives) != 2 || len(ch.Policies) != 1 || len(ch.Sets) != 1 {
		t.Errorf("at first: %+v", ch)
	}
	names := regexp.MustCompile(`^[a-z0-9]{24}$`)
	for id, c := range ch.Sets {
		if !names.MatchString(string(id)) || !c.New || len(c.Added) != 2 {
			t.Errorf("set %q: %+v", id, c)
		}
	}
	var before *Effective
	for id, e := range ch.Effectives {
		if !regexp.MustCompile(`^[a-z0-9]{16}$`).MatchString(id) {
			t.Errorf("effective %q", id)
		}
		if len(e.Tiers[Ingress]) > 0 {
			before = e
		}
	}
	expect := func(what string, eps, effs, pols, sets int) {
		t.Helper()
		ch := s.x.Flush()
		if len(ch.Endpoints) != eps || len(ch.Effectives) != effs || len(ch.Policies) != pols || len(ch.Sets) != sets {
			t.Errorf("%s: %d endpoints, %d effectives, %d policies, %d sets; want %d, %d, %d, %d", what,
				len(ch.Endpoints), len(ch.Effectives), len(ch.Policies), len(ch.Sets), eps, effs, pols, sets)
		}
	}
	s.global("p", ingress(one("Allow")))
	expect("nothing differs", 0, 0, 0, 0)
	s.global("p", ingress(one("Deny")))
	expect("a rule differs", 0, 0, 1, 0)
	for e := range s.x.Effectives() {
		if e.ID == before.ID && (e == before || before.Tiers[Ingress][0].Policies[0].Ingress[0].Action != Allow) {
			t.Error("an effective policy was changed in place")
		}
	}
	s.global("p", ingress(one("Pass")))
	expect("a rule passes", 0, 1, 1, 0)
	s.endpoint("c", 3, func(w *v3.WorkloadEndpoint) { w.Spec.Node = "beta" })
	expect("another node's endpoint", 0, 0, 0, 0)
	s.endpoint("c", 3, func(w *v3.WorkloadEndpoint) { w.Spec.Node = "beta"; w.Metadata.Labels["name"] = "a" })
	expect("that becomes a member", 0, 0, 0, 1)
	s.set(Key{Kind: kindTier, Name: "default"}, &v3.Tier{Spec: v3.TierSpec{DefaultAction: "Pass"}})
	expect("the tier passes", 1, 2, 0, 0)
	s.set(globalKey("p"), nil)
	expect("the policy goes", 1, 1, 1, 1)
}

// TestTrace says in words why.
func TestTrace(t *testing.T) {
	s := newScene(t)
	b := EndpointID{"red", "b"}
	says := func(want string) {
		t.Helper()
		if got := s.decide(b, Ingress, tcp("10.0.0.1", 80)).String(); got != want {
			t.Errorf("%s; want %s", got, want)
		}
	}
	says("denied ingress to red/b: no policy or profile")
	s.global("default.none", ingress())
	says("denied ingress to red/b: no rule matched in tier default, where it is selected by GlobalNetworkPolicy none")
	s.set(Key{kindPolicy, "red", "p"}, &v3.NetworkPolicy{Spec: v3.PolicySpec{Ingress: []v3.Rule{{Action: "Log"}, rule("Allow", func(r *v3.Rule) { r.Source.Selector = "name == 'a'" })}}})
	says("allowed ingress to red/b: NetworkPolicy red/p, ingress rule 1, tier default")
	trace := Evaluate(s.w, s.w.FlowOf(tcp("10.0.0.1", 80)))
	if trace.Allowed || trace.Egress.Reason != EndOfTier || !trace.Ingress.Allowed {
		t.Errorf("a to b: %+v %s %s", trace, trace.Egress, trace.Ingress)
	}
}
