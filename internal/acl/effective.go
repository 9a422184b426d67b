// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"fmt"
	"slices"

	"github.com/muslin-net/muslin/internal/policy"
)

// polDir is one direction of a policy, as workload endpoints use it or as host
// endpoints do: what these accept has no mark, which says that the policy of a
// workload has accepted it.
type polDir struct {
	key  policy.Key
	dir  policy.Direction
	host bool
}

// effective renders the chains of one direction of an effective policy: the
// first is the one that the verdict map goes to. A new chain starts after each
// tier in which some policy passes, because Pass goes there.
// lookup returns the current version of a policy; uses collects the shared
// policy chains that the chains jump to.
func (r *renderer) effective(e *policy.Effective, d policy.Direction, lookup func(*policy.Policy) *policy.Policy) (chains []*chain, uses []polDir) {
	owner := effectiveOwner(e.ID)
	n := 0
	start := func() *chain {
		n++
		c := &chain{name: nthChain(e.ID, d, n), owner: owner, comment: "effective " + dirWord(d), stage: e.Stage}
		c.dirs[d] = e.Stage == policy.StageWorkload
		chains = append(chains, c)
		return c
	}
	if !asked(e, d) {
		return nil, nil
	}
	c := start()
	if e.Stage != policy.StageUntracked {
		c.add(r.rule().ctMarkIs(markCut, markCut, false).drop().done("cut when policy changed"))
		c.add(r.acceptEstablished())
		c.add(r.rule().ctState(ctInvalid, "invalid").drop().done(""))
	}
	if failsafes := failsafeChain(e.Stage, d); failsafes != "" {
		c.add(r.rule().jump(failsafes).done("failsafe ports"))
	}
	if r.bad[owner] != nil {
		c.rules = slices.DeleteFunc(c.rules, func(*rule) bool { return e.Stage == policy.StageWorkload })
		c.add(r.rule().drop().done("quarantined"))
		return chains, nil
	}
	for i := range e.Tiers[d] {
		t := &e.Tiers[d][i]
		passes, endPasses := false, t.DefaultPass || e.Stage > policy.StageForward
		for _, p := range t.Policies {
			p = lookup(p)
			if shared(p, d) {
				pd := polDir{p.Key, d, e.Stage != policy.StageWorkload}
				uses = append(uses, pd)
				c.add(r.rule().jump(pd.chain()).done(comment(displayName(p))))
				continue
			}
			passes = true
			r.rules(c, p, d, nthChain(e.ID, d, n+1))
		}
		if !endPasses {
			c.add(r.deny(r.rule().counter()).done(comment("end of tier " + t.Name)))
			c.standFor(len(c.rules)-1, origin{dir: d, text: "end of tier " + t.Name})
			if !passes {
				return chains, uses // nothing gets beyond this tier
			}
		}
		if passes {
			if endPasses {
				c.add(r.rule().goTo(nthChain(e.ID, d, n+1)).done(comment("end of tier " + t.Name)))
			}
			c = start()
		}
	}
	if e.Stage >= policy.StageForward {
		c.add(r.rule().accept().done("no rule matched"))
		return chains, uses
	}
	for _, p := range e.Profiles {
		p = lookup(p)
		pd := polDir{p.Key, d, e.Stage != policy.StageWorkload}
		uses = append(uses, pd)
		c.add(r.rule().jump(pd.chain()).done(comment(displayName(p))))
	}
	c.add(r.deny(r.rule().counter()).done(NoProfile))
	c.standFor(len(c.rules)-1, origin{dir: d, text: NoProfile})
	return chains, uses
}

func nthChain(id string, d policy.Direction, n int) string {
	if n == 1 {
		return effectiveChain(id, d)
	}
	return fmt.Sprintf("%s-%d", effectiveChain(id, d), n)
}

func effectiveOwner(id string) string { return "effective policy " + id }

func endpointOwner(id policy.EndpointID) string {
	return "WorkloadEndpoint " + id.Namespace + "/" + id.Name
}
