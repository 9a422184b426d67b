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
	}{
		{"between denials", []policy.Rule{deny(from("x")), deny(from("y"))}, "x", "y", "!x > !x !y > !y", "!y > !x !y > !x"},
		{"between permissions", []policy.Rule{allow(from("x")), allow(from("y"))}, "x", "y", "x > x y > y", "y > x y > x"},
		{"a denial alone", []policy.Rule{deny(from("x")), allow(from("y"))}, "", "x", " > !x", "!x > "},
		{"a denial before a permission", []policy.Rule{deny(from("x")), allow(from("y"))}, "", "x y", " > !x > !x y", "!x y > !x > "},
		{"a permission before a denial", []policy.Rule{allow(from("x")), never, deny(from("y"))}, "", "x y", " > x > !y x", "!y x > x > "},
		{"one set", []policy.Rule{deny(toForbidden, from("x")), allow(from("x"))}, "", "x", " > !x > !x x", "!x x > !x > "},
		{"no order", []policy.Rule{deny(from("x")), allow(from("y")), deny(from("z"))}, "", "x y z", " > !x !z y", "!x !z y > "},
		{"no order for coming and going", []policy.Rule{deny(from("x")), allow(from("y"))}, "x", "y", "!x > !x y > y", "y > !x y > !x"},
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

// holding lists the sets that the kernel has the address of a in; those of denials with "!".
func holding(a *actual, f *family) (out []string) {
	for p := range a.sets[map[*family]string{ipv4: setHosts4, ipv6: setHosts6}[f]].elems {
		for _, id := range []policy.SetID{"x", "y", "z"} {
			for _, denial := range []bool{false, true} {
				if p.key == memberSet(id, f, asHosts, denial).part+string(addrOf(f.v, "a").AsSlice()) {
					out = append(out, either(denial, string(id), "!"+string(id)))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}
