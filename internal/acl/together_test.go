// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

var floodCommits = flag.Int("flood.commits", 40, "changes of each kind that TestI4_Together makes, and TestT14_AtomicCommits at least")

// TestI4_Together floods b with forbidden and allowed packets, of which the
// allowed ones begin a new flow each, while several objects change in one
// transaction of the datastore, between two models that agree about both. What
// both forbid is never delivered, what both allow is never lost.
func TestI4_Together(t *testing.T) {
	for _, kind := range togetherKinds {
		t.Run(kind.name, func(t *testing.T) {
			r := newRig(t)
			must(t, r.host.SetSysctl("net/netfilter/nf_conntrack_udp_timeout", "1"))
			put := kind.setup(r)
			put(false)
			r.apply()
			for _, v := range []int{4, 6} { // neighbours known
				r.expect(false, lab.UDP, "a", "b", 80, v)
			}
			in := newArrivals(t, r.wl["b"], forbiddenPort, allowedPort)
			in.dropAll(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var work sync.WaitGroup
			var sent [2]atomic.Uint64
			var gate sync.RWMutex
			for _, v := range []int{4, 6} {
				c, err := r.wl["a"].Dial(ctx, "udp", netip.AddrPortFrom(addrOf(v, "b"), forbiddenPort).String())
				must(t, err)
				defer c.Close()
				work.Go(func() { flood(ctx, c, &gate, &sent[0], forbiddenRate) })
				work.Go(func() { newFlows(ctx, t, r, v, &gate, &sent[1]) })
			}
			begin := time.Now()
			for n := range *floodCommits {
				put(n%2 == 0)
				r.apply()
				time.Sleep(time.Millisecond)
			}
			stop()
			work.Wait()
			perSecond := float64(sent[0].Load()+sent[1].Load()) / time.Since(begin).Seconds()
			var passed, got uint64
			for range 500 { // until all that was under way has arrived
				passed, got = in.count(t, 0), in.count(t, 1)
				if got == sent[1].Load() {
					break
				}
				time.Sleep(2 * time.Millisecond)
			}
			t.Logf("%d changes: %d of %d forbidden packets passed, %d of %d allowed lost; %.0f packets a second",
				*floodCommits, passed, sent[0].Load(), int64(sent[1].Load())-int64(got), sent[1].Load(), perSecond)
			if passed != 0 || got != sent[1].Load() {
				t.Errorf("forbidden packets passed, or allowed ones were lost")
			}
		})
	}
}

// newFlows sends datagrams of a flow each to allowedPort.
func newFlows(ctx context.Context, t *testing.T, r *rig, v int, gate *sync.RWMutex, sent *atomic.Uint64) {
	to := netip.AddrPortFrom(addrOf(v, "b"), allowedPort).String()
	pause := time.NewTicker(500 * time.Microsecond)
	defer pause.Stop()
	for ctx.Err() == nil {
		<-pause.C
		// A socket has a new port each time.
		c, err := r.wl["a"].Dial(context.Background(), "udp", to)
		if err != nil {
			t.Error(err)
			return
		}
		gate.RLock()
		if _, err := c.Write([]byte("flood")); err == nil {
			sent.Add(1)
		}
		gate.RUnlock()
		c.Close()
	}
}

// togetherKind is two models that change places. Both forbid what is sent to
// forbiddenPort, and both allow what is sent to allowedPort, for reasons that
// differ.
type togetherKind struct {
	name  string
	setup func(r *rig) (put func(second bool))
}

// either picks the value of one of two models.
func either[T any](second bool, a, b T) T {
	if second {
		return b
	}
	return a
}

func deny(changes ...func(*policy.Rule)) policy.Rule { return with(policy.Deny, changes...) }

func from(id policy.SetID) func(*policy.Rule) {
	return func(r *policy.Rule) { r.Src.Sets = []policy.SetID{id} }
}

var (
	toForbidden = toPort(udp, port(forbiddenPort))
	toAllowed   = toPort(udp, port(allowedPort))
	toBoth      = toPort(udp, port(forbiddenPort), port(allowedPort))
)

// ingressOf gives b an effective policy of these policies, and a one that lets
// all out.
func (r *rig) ingressOf(ps ...*policy.Policy) {
	r.endpoint("a", r.allowAllEffective())
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "togethertogether", Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, ps...)}}}))
}

// member puts a into a set, or leaves it out; wide ones hold networks.
func (r *rig) member(id policy.SetID, isIn, wide bool) {
	list := []string{"10.65.0.9/32", "fd65::9/128"}
	if wide {
		list = append(list, "10.99.0.0/16", "fd99::/32")
	}
	if isIn {
		list = append(list, "10.65.0.1/32", "fd65::1/128")
	}
	r.v.set(id, policy.SetNets, netMembers(list...)...)
}

func moves(wide bool) func(r *rig) func(bool) {
	return func(r *rig) func(bool) {
		p := r.v.policy(gnp("p", []policy.Rule{
			deny(toForbidden, from("x")), deny(toForbidden, from("y")), allow(toBoth, from("p")), allow(toBoth, from("q")),
		}, nil))
		r.ingressOf(p)
		return func(second bool) {
			for _, s := range []policy.SetID{"x", "p"} {
				r.member(s, !second, wide)
			}
			for _, s := range []policy.SetID{"y", "q"} {
				r.member(s, second, wide)
			}
		}
	}
}

var togetherKinds = []togetherKind{
	{"an address moves between sets", moves(false)},
	{"an address moves between sets of networks", moves(true)},
	{"an address comes into a denial and a permission", func(r *rig) func(bool) {
		p := r.v.policy(gnp("p", []policy.Rule{allow(toAllowed), deny(toForbidden, from("x")), allow(toForbidden, from("p"))}, nil))
		r.ingressOf(p)
		return func(second bool) {
			r.member("x", second, false)
			r.member("p", second, false)
		}
	}},
	{"an address comes into a permission and a denial", func(r *rig) func(bool) {
		p := r.v.policy(gnp("p", []policy.Rule{deny(toForbidden), allow(toAllowed, from("p")), deny(toAllowed, from("x")), allow(toAllowed)}, nil))
		r.ingressOf(p)
		return func(second bool) {
			r.member("x", second, false)
			r.member("p", second, false)
		}
	}},
	{"an address comes into a set that a denial and a permission ask", func(r *rig) func(bool) {
		p := r.v.policy(gnp("p", []policy.Rule{allow(toAllowed), deny(toForbidden, from("x")), allow(from("x"))}, nil))
		r.ingressOf(p)
		return func(second bool) { r.member("x", second, false) }
	}},
	{"an address comes into a denial, a permission and a denial", func(r *rig) func(bool) {
		p := r.v.policy(gnp("p", []policy.Rule{allow(toAllowed), deny(toForbidden, from("x")), allow(toForbidden, from("p")), deny(from("x"))}, nil))
		r.ingressOf(p)
		return func(second bool) {
			r.member("x", second, false)
			r.member("p", second, false)
		}
	}},
	{"an address comes into a rule that passes and a denial behind it", func(r *rig) func(bool) {
		p := r.v.policy(gnp("p", []policy.Rule{allow(toAllowed), with(policy.Pass, from("x"))}, nil))
		q := r.v.policy(gnp("q", []policy.Rule{deny(toForbidden, from("y")), allow(toForbidden)}, nil))
		r.endpoint("a", r.allowAllEffective())
		r.endpoint("b", r.v.effective(&policy.Effective{ID: "togethertogether",
			Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("first", false, p), tier("second", false, q)}}}))
		return func(second bool) {
			r.member("x", second, false)
			r.member("y", second, false)
		}
	}},
	{"both ends move, and egress opens as ingress closes", func(r *rig) func(bool) {
		to := func(rule *policy.Rule) { rule.Dst.Sets = []policy.SetID{"x"} }
		out := r.v.policy(gnp("out", nil, []policy.Rule{allow(toAllowed), allow(toForbidden, to)}))
		in := r.v.policy(gnp("in", []policy.Rule{allow(toAllowed), allow(toForbidden, from("y"))}, nil))
		r.endpoint("a", r.v.effective(&policy.Effective{ID: "egressegressegre", Tiers: [2][]policy.TierPolicies{policy.Egress: {tier("default", false, out)}}}))
		r.endpoint("b", r.v.effective(&policy.Effective{ID: "togethertogether", Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, in)}}}))
		return func(second bool) {
			r.v.set("x", policy.SetNets, netMembers(either(second, "10.65.0.9/32", "10.65.0.2/32"), either(second, "fd65::9/128", "fd65::2/128"))...)
			r.member("y", !second, false)
		}
	}},
	{"an address moves between sets as rules change places", func(r *rig) func(bool) {
		put := func(second bool) *policy.Policy {
			x, y := policy.SetID(either(second, "y", "x")), policy.SetID(either(second, "x", "y"))
			return r.v.policy(gnp("p", []policy.Rule{deny(toForbidden, from(x)), allow(toAllowed, from(x)), allow(toForbidden, from(y)), deny(from(y)), allow(toForbidden)}, nil))
		}
		r.ingressOf(put(false))
		return func(second bool) {
			put(second)
			r.member("x", second, false)
			r.member("y", !second, false)
		}
	}},
	{"a port moves between groups of denials", func(r *rig) func(bool) {
		r.member("x", true, false)
		r.member("y", true, false)
		q := r.v.policy(gnp("q", []policy.Rule{allow(toBoth)}, nil))
		rules := func(second bool) []policy.Rule {
			x, y := port(either(second, uint16(forbiddenPort), 1)), port(either(second, uint16(1), forbiddenPort))
			return []policy.Rule{deny(toPort(udp, x, port(2)), from("x")), deny(toPort(udp, y, port(2)), from("y"))}
		}
		r.ingressOf(r.v.policy(gnp("p", rules(false), nil)), q)
		return func(second bool) { r.v.policy(gnp("p", rules(second), nil)) }
	}},
	{"a port moves between groups of permissions", func(r *rig) func(bool) {
		r.member("x", true, false)
		r.member("y", true, false)
		rules := func(second bool) []policy.Rule {
			x, y := port(either(second, uint16(allowedPort), 1)), port(either(second, uint16(1), allowedPort))
			return []policy.Rule{allow(toPort(udp, x, port(2)), from("x")), allow(toPort(udp, y, port(2)), from("y"))}
		}
		r.ingressOf(r.v.policy(gnp("p", rules(false), nil)))
		return func(second bool) { r.v.policy(gnp("p", rules(second), nil)) }
	}},
	{"a port comes into a denial and a permission of another policy", func(r *rig) func(bool) {
		rules := func(second bool) []policy.PortRange {
			return []policy.PortRange{port(either(second, uint16(1), forbiddenPort)), port(2)}
		}
		put := func(second bool) []*policy.Policy {
			return []*policy.Policy{
				r.v.policy(gnp("p", []policy.Rule{deny(toPort(udp, rules(second)...))}, nil)),
				r.v.policy(gnp("q", []policy.Rule{allow(toPort(udp, append(rules(second), port(allowedPort))...))}, nil)),
			}
		}
		r.ingressOf(put(false)...)
		return func(second bool) { put(second) }
	}},
	{"a rule begins to deny by networks that a member joins", func(r *rig) func(bool) {
		rules := func(second bool) []policy.Rule {
			if second {
				return []policy.Rule{allow(toAllowed), deny(toForbidden, from("w")), allow(toForbidden)}
			}
			return []policy.Rule{deny(toForbidden), allow(toPort(tcp, port(1)), from("w")), allow(toAllowed)}
		}
		r.member("w", false, true)
		r.ingressOf(r.v.policy(gnp("p", rules(false), nil)))
		return func(second bool) {
			r.member("w", second, true)
			r.v.policy(gnp("p", rules(second), nil))
		}
	}},
	{"the last user of a policy leaves", func(r *rig) func(bool) {
		q := r.v.policy(gnp("q", []policy.Rule{allow(toBoth)}, nil))
		var effs []*policy.Effective
		for i := range 2 {
			r.member(policy.SetID(fmt.Sprint("s", i)), true, false)
			p := r.v.policy(gnp(fmt.Sprint("p", i), []policy.Rule{deny(toForbidden, from(policy.SetID(fmt.Sprint("s", i))))}, nil))
			effs = append(effs, r.v.effective(&policy.Effective{ID: fmt.Sprintf("lastuserlastuse%d", i),
				Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, p, q)}}}))
		}
		r.endpoint("a", r.allowAllEffective())
		return func(second bool) {
			now, gone := effs[0], effs[1]
			if second {
				now, gone = gone, now
			}
			delete(r.v.effectives, gone.ID)
			r.v.ch.Effectives[gone.ID] = nil
			r.v.effective(now)
			r.endpoint("b", now)
		}
	}},
	{"a rule goes into and out of a merged set", func(r *rig) func(bool) {
		list := func(action policy.Action, p uint16) []policy.Rule {
			rules := many(minMerged)
			for i := range rules {
				rules[i].Action = action
			}
			rules[3].Proto, rules[3].Dst.Ports, rules[3].Src.Nets = udp, []policy.PortRange{port(p)}, nets("10.65.0.0/24", "fd65::/64")
			return rules
		}
		rules := func(second bool) (out []policy.Rule) {
			for _, l := range [][]policy.Rule{list(policy.Deny, forbiddenPort), list(policy.Allow, allowedPort)} {
				if second { // too few to be merged
					l = l[1:]
				}
				out = append(out, l...)
			}
			return append(out, allow(toPort(udp, port(forbiddenPort))))
		}
		r.ingressOf(r.v.policy(gnp("p", rules(false), nil)))
		return func(second bool) { r.v.policy(gnp("p", rules(second), nil)) }
	}},
	{"another port in a merged set", func(r *rig) func(bool) {
		rules := func(second bool) []policy.Rule {
			out := many(3 * minMerged)
			for i := range out[:2*minMerged] {
				out[i].Action = policy.Deny
			}
			out[5].Proto, out[5].Src.Nets = udp, nets("10.65.0.0/24", "fd65::/64")
			out[5].Dst.Ports = []policy.PortRange{{Min: either(second, uint16(forbiddenPort), forbiddenPort-5), Max: forbiddenPort}}
			out[20].Proto, out[20].Src.Nets = udp, nets("10.65.0.0/24", "fd65::/64")
			out[20].Dst.Ports = []policy.PortRange{{Min: forbiddenPort, Max: either(second, uint16(allowedPort), allowedPort+5)}}
			return out
		}
		r.ingressOf(r.v.policy(gnp("p", rules(false), nil)))
		return func(second bool) { r.v.policy(gnp("p", rules(second), nil)) }
	}},
	{"egress opens as ingress closes", func(r *rig) func(bool) {
		rules := func(open bool) []policy.Rule {
			if open {
				return []policy.Rule{allow(toBoth)}
			}
			return []policy.Rule{allow(toAllowed)}
		}
		out, in := gnp("out", nil, rules(false)), gnp("in", rules(true), nil)
		r.endpoint("a", r.v.effective(&policy.Effective{ID: "egressegressegre", Tiers: [2][]policy.TierPolicies{policy.Egress: {tier("default", false, r.v.policy(out))}}}))
		r.endpoint("b", r.v.effective(&policy.Effective{ID: "togethertogether", Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, r.v.policy(in))}}}))
		return func(second bool) {
			r.v.policy(gnp("out", nil, rules(second)))
			r.v.policy(gnp("in", rules(!second), nil))
		}
	}},
	{"egress opens as ingress closes by the lists of one policy", func(r *rig) func(bool) {
		list := func(closed bool) policy.Rule {
			return allow(toPort(udp, port(either(closed, uint16(1), forbiddenPort)), port(allowedPort)))
		}
		put := func(second bool) *policy.Policy {
			return r.v.policy(gnp("p", []policy.Rule{list(second)}, []policy.Rule{list(!second)}))
		}
		e := r.v.effective(&policy.Effective{ID: "togethertogether", Tiers: both(tier("default", false, put(false)))})
		r.endpoint("a", e)
		r.endpoint("b", e)
		return func(second bool) { put(second) }
	}},
	{"egress opens as ingress closes by policies that are new", func(r *rig) func(bool) {
		open, closed := []policy.Rule{allow(toBoth)}, []policy.Rule{allow(toAllowed)}
		var was [2]string
		return func(second bool) {
			for i, name := range []string{"a", "b"} {
				rules := either(second == (i == 0), closed, open)
				p, d := gnp(fmt.Sprint("ingress", second), rules, nil), policy.Ingress
				if name == "a" {
					p, d = gnp(fmt.Sprint("egress", second), nil, rules), policy.Egress
				}
				e := &policy.Effective{ID: either(second, "firstpolicyof00", "secndpolicyof00") + name}
				e.Tiers[d] = []policy.TierPolicies{tier("default", false, r.v.policy(p))}
				if was[i] != "" && was[i] != e.ID {
					delete(r.v.effectives, was[i])
					r.v.ch.Effectives[was[i]] = nil
				}
				was[i] = e.ID
				r.endpoint(name, r.v.effective(e))
			}
		}
	}},
}
