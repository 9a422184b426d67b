// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestBetweenTransactions moves an address from one set to another, between two models
// that both forbid what it sends, and looks at the packets before each transaction of
// the kernel: neither model may seem to be in force in part.
func TestBetweenTransactions(t *testing.T) {
	notFrom := func(id policy.SetID) func(*policy.Rule) {
		return func(r *policy.Rule) { r.Src.NotSets = []policy.SetID{id} }
	}
	pass := func(changes ...func(*policy.Rule)) policy.Rule { return with(policy.Pass, changes...) }
	for _, kind := range []struct {
		name  string
		tiers func(v *memView) [2][]policy.TierPolicies // egress of a and ingress of b
	}{
		{"through a tier and out of it", func(v *memView) [2][]policy.TierPolicies {
			first := v.policy(gnp("first", []policy.Rule{allow(toAllowed), pass(from("x"))}, nil))
			second := v.policy(gnp("second", []policy.Rule{allow(toForbidden, from("y"))}, nil))
			return [2][]policy.TierPolicies{policy.Ingress: {tier("first", false, first), tier("second", false, second)}}
		}},
		{"in one and not in the other", func(v *memView) [2][]policy.TierPolicies {
			p := v.policy(gnp("p", []policy.Rule{deny(toForbidden, notFrom("x")), allow(toAllowed, notFrom("y")), allow(toForbidden, from("y")), allow(toAllowed)}, nil))
			return [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, p)}}
		}},
		{"out of one end and into the other", func(v *memView) [2][]policy.TierPolicies {
			out := v.policy(gnp("out", nil, []policy.Rule{allow(toAllowed), allow(toForbidden, from("x"))}))
			in := v.policy(gnp("in", []policy.Rule{allow(toAllowed), allow(toForbidden, from("y"))}, nil))
			return [2][]policy.TierPolicies{policy.Egress: {tier("default", false, out)}, policy.Ingress: {tier("default", false, in)}}
		}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			r := newRig(t)
			tiers := kind.tiers(r.v)
			r.endpoint("a", r.allowAllEffective())
			if out := tiers[policy.Egress]; out != nil {
				r.endpoint("a", r.v.effective(&policy.Effective{ID: "outofoutofoutofo", Tiers: [2][]policy.TierPolicies{policy.Egress: out}}))
			}
			r.endpoint("b", r.v.effective(&policy.Effective{ID: "betweenbetweenbe", Tiers: [2][]policy.TierPolicies{policy.Ingress: tiers[policy.Ingress]}}))
			put := func(second bool) {
				r.member("x", !second, false)
				r.member("y", second, false)
				r.apply()
			}
			put(false)
			in := newArrivals(t, r.wl["b"], forbiddenPort, allowedPort)
			in.dropAll(t)
			var to []net.Conn
			for _, v := range []int{4, 6} {
				r.expect(false, lab.UDP, "a", "b", 80, v) // neighbours known
				for _, port := range []uint16{forbiddenPort, allowedPort} {
					c, err := r.wl["a"].Dial(t.Context(), "udp", netip.AddrPortFrom(addrOf(v, "b"), port).String())
					must(t, err)
					defer c.Close()
					to = append(to, c)
				}
			}
			look := func(when string) {
				t.Helper()
				forbidden, allowed := in.count(t, 0), in.count(t, 1)
				for _, c := range to {
					_, err := c.Write([]byte("between"))
					must(t, err)
				}
				for end := time.Now().Add(5 * time.Second); in.count(t, 1) < allowed+2; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%s: of 2 packets that both models allow %d arrived", when, in.count(t, 1)-allowed)
					}
				}
				if n := in.count(t, 0) - forbidden; n > 0 {
					t.Errorf("%s: %d packets passed that both models forbid", when, n)
				}
			}
			for _, second := range []bool{true, false} {
				n := 0
				r.tab.refuse = func(*msgs) error {
					look(fmt.Sprintf("second %v, before transaction %d", second, n))
					n++
					return nil
				}
				put(second)
				r.tab.refuse = nil
				look(fmt.Sprintf("second %v, after %d transactions", second, n))
				if n == 0 {
					t.Error("nothing was written")
				}
				quiet(t, r.tab, r.v)
			}
		})
	}
}

// TestClosedEndpointBringsPolicy: an effective policy comes with an endpoint that is
// closed because of its interface's name, and so is in use by nobody. The next endpoint
// that has it is in force.
func TestClosedEndpointBringsPolicy(t *testing.T) {
	r := newRig(t)
	r.endpoint("a", r.allowAllEffective())
	r.apply()
	quiet(t, r.tab, r.v)
	p := r.v.policy(gnp("p", []policy.Rule{allow(func(r *policy.Rule) { r.Src.Nets = nets("10.65.0.0/16", "fd65::/16") })}, nil))
	e := r.v.effective(&policy.Effective{ID: "closedbringsitco", Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, p)}}})
	r.v.endpoint(&policy.Endpoint{ID: policy.EndpointID{Namespace: "ns", Name: "odd"}, Interface: "eth9", Addrs: addrs("10.65.0.9"), Effective: e})
	must(t, r.tab.Apply(r.v, r.v.flush()))
	if len(r.tab.Problems()) != 1 {
		t.Errorf("problems: %v, want one for the interface", r.tab.Problems())
	}
	r.endpoint("b", e)
	must(t, r.tab.Apply(r.v, r.v.flush()))
	r.expect(true, lab.UDP, "a", "b", 80)
	quiet(t, r.tab, r.v)
}
