// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"slices"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/policy"
)

// TestOneSetAfterTheOther looks at the sets that an address is in before each transaction
// of the kernel, and behind the last one, as it comes and as it goes.
func TestOneSetAfterTheOther(t *testing.T) {
	never := deny(toForbidden)
	for _, k := range []struct {
		name        string
		rules       []policy.Rule
		was, now    string // the sets that the address is in
		there, back string // what the kernel has, one state after the other
		host        bool   // what the host lets through changes with it
	}{
		{"between denials", []policy.Rule{deny(from("x")), deny(from("y"))}, "x", "y", "!x > !x !y > !y", "!y > !x !y > !x", false},
		{"between permissions", []policy.Rule{allow(from("x")), allow(from("y"))}, "x", "y", "x > x y > y", "y > x y > x", false},
		{"a denial alone", []policy.Rule{deny(from("x")), allow(from("y"))}, "", "x", " > !x", "!x > ", false},
		{"a denial before a permission", []policy.Rule{deny(from("x")), allow(from("y"))}, "", "x y", " > !x > !x y", "!x y > !x > ", false},
		{"a permission before a denial", []policy.Rule{allow(from("x")), never, deny(from("y"))}, "", "x y", " > x > !y x", "!y x > x > ", false},
		{"one set", []policy.Rule{deny(toForbidden, from("x")), allow(from("x"))}, "", "x", " > !x > !x x", "!x x > !x > ", false},
		{"no order", []policy.Rule{deny(from("x")), allow(from("y")), deny(from("z"))}, "", "x y z", " > !x' !z' y'", "!x' !z' y' > ", false},
		{"no order for coming and going", []policy.Rule{deny(from("x")), allow(from("y"))}, "x", "y", "!x > !x y > y", "y > !x y > !x", false},
		{"together with the host", []policy.Rule{allow(from("x")), allow(from("y"))}, "x", "y", "x > x y' > y'", "y' > x y' > x", true},
	} {
		t.Run(k.name, func(t *testing.T) {
			inNetns(t)
			v, tab := newView(), openTable(t)
			put := func(in string) {
				for _, id := range []policy.SetID{"x", "y", "z"} {
					members := netMembers("10.65.0.9/32", "fd65::9/128")
					if strings.Contains(in, string(id)) {
						members = append(members, netMembers("10.65.0.1/32", "fd65::1/128")...)
					}
					v.set(id, policy.SetNets, members...)
				}
				if k.host {
					v.host(&policy.HostEndpoint{Name: "h", Interfaces: []string{"up0" + in}})
				}
			}
			v.effective(&policy.Effective{ID: "oneaftertheother", Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, v.policy(gnp("p", k.rules, nil)))}}})
			put(k.was)
			must(t, tab.Apply(v, v.flush()))
			for _, way := range []struct{ to, want string }{{k.now, k.there}, {k.was, k.back}} {
				var seen [2][]string
				look := func(*msgs) error {
					a := mustRead(t, tab)
					for i, f := range []*family{ipv4, ipv6} {
						seen[i] = append(seen[i], strings.Join(holding(a, f), " "))
					}
					return nil
				}
				put(way.to)
				tab.refuse = look
				must(t, tab.Apply(v, v.flush()))
				tab.refuse = nil
				must(t, look(nil))
				for i, v := range []int{4, 6} {
					if got := strings.Join(slices.Compact(seen[i]), " > "); got != way.want {
						t.Errorf("IPv%d, into %q: %q, want %q", v, way.to, got, way.want)
					}
				}
				quiet(t, tab, v)
			}
		})
	}
}

// holding lists the sets that the kernel has the address of a in: those of denials with "!", those that
// are in the place of another with "'".
func holding(a *actual, f *family) (out []string) {
	for p := range a.sets[map[*family]string{ipv4: setHosts4, ipv6: setHosts6}[f]].elems {
		for _, id := range []policy.SetID{"x", "y", "z"} {
			for _, denial := range []bool{false, true} {
				for _, as := range []form{asHosts, asHostsToo} {
					if p.key == memberSet(id, f, as, denial).part+string(addrOf(f.v, "a").AsSlice()) {
						out = append(out, either(denial, "", "!")+string(id)+either(as == asHosts, "'", ""))
					}
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestListsInTwoSteps: a port that moves between lists of one policy comes before it goes,
// unless what the host lets through changes with it.
func TestListsInTwoSteps(t *testing.T) {
	inNetns(t)
	v, tab := newView(), openTable(t)
	rules := func(x, y uint16) []policy.Rule {
		return []policy.Rule{deny(toPort(udp, port(x), port(9)), from("x")), deny(toPort(udp, port(y), port(9)), from("y"))}
	}
	v.set("x", policy.SetNets, netMembers("10.65.0.1/32", "fd65::1/128")...)
	v.set("y", policy.SetNets, netMembers("10.65.0.1/32", "fd65::1/128")...)
	v.effective(&policy.Effective{ID: "oneaftertheother", Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, v.policy(gnp("p", rules(1, 2), nil)))}}})
	v.host(&policy.HostEndpoint{Name: "h", Interfaces: []string{"eth0"}})
	must(t, tab.Apply(v, v.flush()))
	commits := func() int {
		t.Helper()
		before := tab.Stats().Commits
		must(t, tab.Apply(v, v.flush()))
		return tab.Stats().Commits - before
	}
	v.policy(gnp("p", rules(2, 1), nil))
	if n := commits(); n != 2 {
		t.Errorf("alone: %d transactions, want 2", n)
	}
	v.policy(gnp("p", rules(1, 2), nil))
	v.host(&policy.HostEndpoint{Name: "h", Interfaces: []string{"up0"}})
	if n := commits(); n != 1 {
		t.Errorf("with the host: %d transactions, want 1", n)
	}
	quiet(t, tab, v)
}

// TestRestartFindsForms: an agent that starts anew writes nothing, whichever name each family of a set
// has, and whether it has members or not.
func TestRestartFindsForms(t *testing.T) {
	inNetns(t)
	v, tab := newView(), openTable(t)
	rules := []policy.Rule{deny(toForbidden, from("x")), allow(from("x")), deny(from("x"))}
	v.effective(&policy.Effective{ID: "oneaftertheother", Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, v.policy(gnp("p", rules, nil)))}}})
	v.set("x", policy.SetNets)
	must(t, tab.Apply(v, v.flush()))
	for _, members := range [][]string{{"10.65.0.1/32"}, {"fd65::1/128"}, {"10.65.0.2/32"}, {}} {
		v.set("x", policy.SetNets, netMembers(members...)...)
		before := tab.state.forms[setFamily{"x", 4}]
		must(t, tab.Apply(v, v.flush()))
		if after := tab.state.forms[setFamily{"x", 4}]; after == before {
			t.Errorf("%v: the IPv4 set is still in form %d", members, after)
		}
		must(t, tab.Close())
		tab = openTable(t)
		quiet(t, tab, v)
	}
}
