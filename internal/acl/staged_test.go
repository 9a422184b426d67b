// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"testing"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestStaged: staged policies that would deny, pass and log stand before what is in
// force, alone in a tier and among others: each packet that comes to them is
// counted, and none fares otherwise.
func TestStaged(t *testing.T) {
	r := newRig(t)
	everyone := r.allowAllEffective()
	r.endpoint("a", everyone)
	staged := func(name string, rules ...policy.Rule) *policy.Policy {
		p := gnp(name, rules, nil)
		p.Key.Kind, p.Staged, p.HasPass = "StagedGlobalNetworkPolicy", true, [2]bool{}
		return r.v.policy(p)
	}
	alone := staged("alone", with(policy.Log), with(policy.Deny))
	before := staged("before", with(policy.Deny, toPort(udp, port(80))), with(policy.Pass))
	after := staged("after", with(policy.Deny))
	p := r.v.policy(gnp("web", []policy.Rule{allow(toPort(udp, port(80)))}, nil))
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "stagedstagedstag", Tiers: [2][]policy.TierPolicies{
		policy.Ingress: {tier("first", true, alone), tier("default", false, before, p, after)}}}))
	r.apply()
	r.expect(true, lab.UDP, "a", "b", 80)
	r.expect(false, lab.UDP, "a", "b", 81)
	quiet(t, r.tab, r.v)
	var list []Counted
	must(t, r.host.Do(func() (err error) {
		list, err = r.tab.Ledger().Read()
		return err
	}))
	count := func(name, rules string) uint64 {
		for _, c := range list {
			if c.Policy != nil && c.Policy.Name == name && c.Rules == rules {
				return c.Packets
			}
		}
		t.Errorf("%s %s is not counted", name, rules)
		return 0
	}
	allowed, denied := count("web", "0"), count("after", "0")
	if allowed < 2 || denied < 2 || count("before", "0") != allowed || count("before", "1") != denied ||
		count("alone", "0") != allowed+denied || count("alone", "1") != allowed+denied {
		t.Errorf("counted %+v", list)
	}

	// What the kernel refuses of a staged policy denies nobody either.
	r.tab.bad = map[string]error{policyOwner(before.Key): errNone}
	c := (&renderer{opts: r.tab.opts, bad: r.tab.bad}).policyChain(before, polDir{key: before.Key, dir: policy.Ingress})
	if len(c.rules) != 0 {
		t.Errorf("a staged policy in quarantine has %d rules", len(c.rules))
	}
}
