// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"bytes"
	"cmp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/muslin-net/muslin/internal/policy"
)

func (g *stager) putPolicies(pds []polDir) {
	for i, c := range g.renderPolicies(pds) {
		if c != nil {
			g.put(c).pol = pds[i]
		} else {
			g.remove(pds[i].chain())
		}
	}
}

// renderPolicies renders the chains of policies, nil for those that nobody
// uses. A renderer keeps nothing, so that all processors can render.
func (g *stager) renderPolicies(pds []polDir) []*chain {
	out := make([]*chain, len(pds))
	const share = 16 // not worth another goroutine below that
	parts := min(runtime.GOMAXPROCS(0), 1+len(pds)/share)
	var renderers sync.WaitGroup
	for part := range parts {
		renderers.Go(func() {
			for i := part * len(pds) / parts; i < (part+1)*len(pds)/parts; i++ {
				if pd := pds[i]; g.users[pd] > 0 {
					out[i] = g.r.policyChain(g.policies[pd.key], pd)
				}
			}
		})
	}
	renderers.Wait()
	return out
}

func (g *stager) takePolicies(ch *policy.Changes) {
	for key, p := range ch.Policies {
		if p == nil {
			continue // goes when nothing lists it any more
		}
		old := g.policies[key]
		g.policies[key] = p
		if old != nil && len(ch.Policies) > 1 && !sameRules(old, p) {
			g.changed++
		}
		for _, d := range directions {
			g.pol[polDir{key: key, dir: d}] = true
			if pd := (polDir{key, d, true}); g.users[pd] > 0 {
				g.pol[pd] = true
			}
			if old == nil || !shared(old, d) || !shared(p, d) {
				for id := range g.listedBy[key] {
					g.eff[id] = true
				}
			}
		}
	}
}

func sameRules(a, b *policy.Policy) bool {
	for _, d := range directions {
		if !slices.EqualFunc(rulesOf(a, d), rulesOf(b, d), func(x, y policy.Rule) bool {
			return bytes.Equal(appendRule(nil, &x), appendRule(nil, &y))
		}) {
			return false
		}
	}
	return true
}

var directions = []policy.Direction{policy.Ingress, policy.Egress}

func (g *stager) takeEffectives(ch *policy.Changes) {
	take := func(e *policy.Effective) {
		st := g.effectives[e.ID]
		if st == nil {
			st = &effState{}
			g.effectives[e.ID] = st
		}
		st.effective = e
		g.eff[e.ID] = true
	}
	for id, e := range ch.Effectives {
		if e != nil {
			take(e)
		} else if st := g.effectives[id]; st != nil {
			st.effective = nil
			g.eff[id] = true
		}
	}
	missing := func(e *policy.Effective) bool {
		return e != nil && (g.effectives[e.ID] == nil || g.effectives[e.ID].effective == nil)
	}
	for _, ep := range ch.Endpoints {
		if ep != nil && missing(ep.Effective) {
			take(ep.Effective)
		}
	}
	for _, h := range ch.Hosts {
		if h == nil {
			continue
		}
		for _, e := range h.Stages {
			if missing(e) {
				take(e)
			}
		}
	}
}

// renderEffective renders the chains of an effective policy, or removes those
// of one that left.
func (g *stager) renderEffective(id string) {
	st := g.effectives[id]
	was := *st
	st.chains, st.uses, st.lists = nil, nil, nil
	for _, k := range was.lists {
		delete(g.listedBy[k], id)
	}
	if st.effective == nil {
		delete(g.effectives, id)
	} else {
		lookup := func(p *policy.Policy) *policy.Policy {
			st.lists = append(st.lists, p.Key)
			if g.listedBy[p.Key] == nil {
				g.listedBy[p.Key] = map[string]struct{}{}
			}
			g.listedBy[p.Key][id] = struct{}{}
			if g.policies[p.Key] == nil {
				g.policies[p.Key] = p
			}
			return g.policies[p.Key]
		}
		for _, d := range directions {
			chains, uses := g.r.effective(st.effective, d, lookup)
			for _, c := range chains {
				st.chains = append(st.chains, c.name)
				g.put(c).eff = id
			}
			st.uses = append(st.uses, uses...)
		}
	}
	var entries, entered []setElem
	if st.entered = st.effective != nil && st.effective.Stage == policy.StageWorkload; st.entered {
		entries = g.r.entries(id)
	}
	if was.entered {
		entered = g.r.entries(id)
	}
	del, add := diffElems(entered, entries)
	g.out.entryDel = append(g.out.entryDel, del...)
	g.out.entryAdd = append(g.out.entryAdd, add...)
	for _, pd := range st.uses {
		g.use(pd, 1)
	}
	for _, pd := range was.uses {
		g.use(pd, -1)
	}
	for _, name := range was.chains {
		if !slices.Contains(st.chains, name) {
			g.remove(name)
		}
	}
	for _, k := range was.lists {
		g.forget(k)
	}
}

// use counts who uses a chain of a policy, and remembers whether anybody did before.
func (g *stager) use(pd polDir, d int) {
	if _, known := g.used[pd]; !known {
		g.used[pd] = g.users[pd] > 0
	}
	g.users[pd] += d
}

// settleUses has the chains of policies rendered that come into use, or leave it. That
// is known only of all effective policies together: what one of them passes on to
// another stays as it is.
func (g *stager) settleUses() {
	for pd, used := range g.used {
		if used != (g.users[pd] > 0) {
			g.pol[pd] = true
		}
		if g.users[pd] == 0 {
			delete(g.users, pd)
		}
	}
}

// forget drops a policy that nothing lists.
func (g *stager) forget(k policy.Key) {
	if len(g.listedBy[k]) == 0 {
		delete(g.listedBy, k)
		delete(g.policies, k)
	}
}

func comparePolDir(a, b polDir) int {
	host := 0 // what is for hosts comes last
	switch {
	case a.host && !b.host:
		host = 1
	case b.host && !a.host:
		host = -1
	}
	return cmp.Or(strings.Compare(a.key.Kind, b.key.Kind), strings.Compare(a.key.Namespace, b.key.Namespace),
		strings.Compare(a.key.Name, b.key.Name), int(a.dir)-int(b.dir), host)
}
