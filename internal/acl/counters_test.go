// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestCounters sends packets and reads who decided: rules alone, rules that the
// kernel has as one, rules that pass, the end of a tier. Then policy changes,
// once of others and once of its own.
func TestCounters(t *testing.T) {
	r := newRig(t)
	everyone := r.allowAllEffective()
	r.endpoint("a", everyone)
	r.endpoint("c", everyone)
	p := r.v.policy(gnp("web", []policy.Rule{
		allow(toPort(udp, port(80))),
		allow(toPort(udp, port(81))),
		with(policy.Deny, toPort(udp, port(83))),
		allow(func(r *policy.Rule) { r.HasNotProto, r.NotProto = true, udp }),
	}, nil))
	q := r.v.policy(gnp("first.pass", []policy.Rule{with(policy.Deny, toPort(udp, port(1005))), with(policy.Pass)}, nil))
	tiers := func(last ...*policy.Policy) [2][]policy.TierPolicies {
		return [2][]policy.TierPolicies{policy.Ingress: {tier("first", false, q), tier("default", false, last...)}}
	}
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "countcountcount1", Tiers: tiers(p), Profiles: everyone.Profiles}))
	r.apply()

	read := func() map[string]uint64 {
		t.Helper()
		var list []Counted
		must(t, r.host.Do(func() (err error) {
			list, err = r.tab.Ledger().Read()
			return err
		}))
		got := map[string]uint64{}
		for _, c := range list {
			if c.Packets*20 > c.Bytes { // an IPv4 header, at least
				t.Errorf("%d packets of %d bytes: %+v", c.Packets, c.Bytes, c)
			}
			if c.Policy != nil {
				got[fmt.Sprintf("%s %s %s", c.Policy.Name, dirWord(c.Direction), c.Rules)] = c.Packets
			} else {
				got[c.End+" "+dirWord(c.Direction)] = c.Packets
			}
		}
		return got
	}
	type want map[string]uint64
	check := func(when string, want want) {
		t.Helper()
		got := read()
		for k, n := range want {
			if have, ok := got[k]; !ok || have != n {
				t.Errorf("%s: %q has counted %d, want %d; all: %v", when, k, have, n, got)
			}
		}
	}
	once := func(proto lab.Proto, port uint16, reached bool) {
		t.Helper()
		for _, v := range []int{4, 6} {
			timeout := 150 * time.Millisecond // each sends one packet, so that it counts once
			if reached {
				timeout = 10 * time.Second
			}
			if o := r.probe(v, proto, "a", "b", port, timeout); (o.Verdict == lab.Reached) != reached {
				t.Errorf("IPv%d %v port %d: %v, want reached %v", v, proto, port, o.Verdict, reached)
			}
		}
	}
	check("at first", want{"web ingress 0-1": 0, "web ingress 2": 0, "web ingress 3": 0, "first.pass ingress 0": 0, "first.pass ingress 1": 0,
		"end of tier default ingress": 0, "end of tier first ingress": 0})
	once(lab.UDP, 80, true)
	once(lab.UDP, 81, true)
	once(lab.UDP, 83, false)
	once(lab.ICMP, 0, true)
	once(lab.UDP, 82, false)
	once(lab.UDP, 1005, false)
	all := want{"web ingress 0-1": 4, "web ingress 2": 2, "web ingress 3": 2, "first.pass ingress 0": 2, "first.pass ingress 1": 10,
		"end of tier default ingress": 2, "end of tier first ingress": 0}
	check("after twelve flows", all)
	quiet(t, r.tab, r.v) // no rule is rewritten for a counter that moved

	// Others change: c comes under the same policies, b gets one more, an unrelated one comes.
	r.endpoint("c", r.v.effectives["countcountcount1"])
	r.v.policy(gnp("other", allowAll, allowAll))
	more := r.v.policy(gnp("more", []policy.Rule{allow(toPort(udp, port(82)))}, nil))
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "countcountcount2", Tiers: tiers(p, more), Profiles: everyone.Profiles}))
	r.apply()
	check("after changes of others", all)
	r.endpoint("c", everyone)
	delete(r.v.effectives, "countcountcount1")
	r.v.ch.Effectives["countcountcount1"] = nil
	r.apply()
	check("when the chains are gone", all)
	once(lab.UDP, 80, true)
	all["web ingress 0-1"] += 2
	all["first.pass ingress 1"] += 2
	check("after two flows more", all)
	quiet(t, r.tab, r.v)

	// Its own rules change: they count anew, and nobody else's do.
	r.v.policy(gnp("web", []policy.Rule{allow(toPort(udp, port(80))), with(policy.Deny, toPort(udp, port(83)))}, nil))
	r.v.effective(&policy.Effective{ID: "countcountcount2", Tiers: [2][]policy.TierPolicies{policy.Ingress: {
		tier("first", false, q), tier("default", false, r.v.policies[p.Key], more)}}, Profiles: everyone.Profiles})
	r.apply()
	delete(all, "web ingress 0-1")
	delete(all, "web ingress 2")
	delete(all, "web ingress 3")
	all["web ingress 0"], all["web ingress 1"] = 0, 0
	check("after its own change", all)
}
