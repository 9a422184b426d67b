// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"maps"
	"reflect"
	"slices"

	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// Most options concern a few chains and sets: those of the table's own, of host
// endpoints, or of policies that log. A change of theirs is as large as these, however
// many policies there are. Others are in each policy, or say which endpoints there may be.

// light tells whether p differs from o in nothing but the former. The others are what
// workloads' interfaces are called, whether flows of an interface are apart, which each
// effective policy asks, and whether denied packets are logged at all, which each denial
// does.
func (o Options) light(p Options) bool {
	logs := func(o Options) bool { return o.Denied.Packets > 0 }
	return slices.Equal(o.Prefixes, p.Prefixes) && o.AnySource == p.AnySource && logs(o) == logs(p) &&
		o.withoutRPF == p.withoutRPF && o.withoutSources == p.withoutSources
}

func (o Options) same(p Options) bool { return reflect.DeepEqual(o, p) }

// retuned tells whether the options are others than those in force, as which they count
// from takeOptions on.
func (g *stager) retuned() bool { return !g.opts.same(g.r.opts) }

// relog has the policies rendered anew that log, if that is to be done otherwise.
func (g *stager) relog() {
	if g.opts.LogPrefix == g.r.opts.LogPrefix && g.opts.LogLimit == g.r.opts.LogLimit {
		return
	}
	for _, p := range g.policies {
		for _, d := range directions {
			if slices.ContainsFunc(rulesOf(p, d), func(ru policy.Rule) bool { return ru.Action == policy.Log }) {
				g.renderAnew(p, d)
			}
		}
	}
}

// renderAnew has a direction of a policy rendered in all places where it is.
func (g *stager) renderAnew(p *policy.Policy, d policy.Direction) {
	for _, host := range []bool{false, true} {
		if pd := (polDir{p.Key, d, host}); g.users[pd] > 0 {
			g.pol[pd] = true
		}
	}
	if !shared(p, d) {
		for id := range g.listedBy[p.Key] {
			g.eff[id] = true
		}
	}
}

// takeOptions turns changed options into changed chains and elements. Where the
// kernel holds members by interval, whole networks come and go.
func (g *stager) takeOptions() {
	if !g.retuned() {
		return
	}
	was := &renderer{opts: g.opts, noFrames: g.r.noFrames, bad: g.r.bad, epoch: g.r.epoch}
	enslaved := slices.Concat(g.opts.Enslaved, g.r.opts.Enslaved)
	g.opts = g.r.opts
	for _, iface := range enslaved {
		if len(g.claims[iface]) > 0 {
			g.settleInterface(iface)
		}
	}

	old := map[string]*chain{}
	for _, c := range was.staticChains() {
		old[c.name] = c
	}
	for _, c := range g.r.staticChains() {
		have := old[c.name]
		delete(old, c.name)
		if have == nil {
			g.out.isNew[c.name] = true
		} else if slices.Equal(have.sums(), c.sums()) {
			continue
		}
		g.out.chains = append(g.out.chains, c)
	}
	g.out.goneChains = append(g.out.goneChains, slices.Sorted(maps.Keys(old))...)

	oldSets := map[string]*set{}
	for _, s := range was.staticSets() {
		oldSets[s.name] = s
	}
	for _, s := range g.r.staticSets() {
		have := oldSets[s.name]
		delete(oldSets, s.name)
		if have == nil {
			g.out.newSets = append(g.out.newSets, s)
			continue
		}
		diff := diffElems
		if s.typ.flags&unix.NFT_SET_INTERVAL != 0 {
			diff = wholeIntervals
		}
		del, add := diff(inSet(s.name, have.elems), inSet(s.name, s.elems))
		g.out.elemDel, g.out.elemAdd = append(g.out.elemDel, del...), append(g.out.elemAdd, add...)
	}
	g.out.goneSets = append(g.out.goneSets, slices.Sorted(maps.Keys(oldSets))...)

	floats, processes := was.opts.Floating != g.opts.Floating, was.opts.Processes != g.opts.Processes
	if !floats && !processes {
		return
	}
	for _, e := range g.endpoints {
		if floats && len(e.Floating) > 0 || processes && e.Process {
			g.settleInterface(e.Interface)
		}
	}
}

// wholeIntervals is diffElems for lists of intervals, each a start and the end after
// it, if it has one: of one that differs in its end the start goes and comes too.
func wholeIntervals(old, want []setElem) (del, add []setElem) {
	split := func(list []setElem) map[[2]string][]setElem {
		m := map[[2]string][]setElem{}
		for i := 0; i < len(list); {
			n := 1
			if i+1 < len(list) && list[i+1].end {
				n = 2
			}
			m[[2]string{list[i].key, list[i+n-1].key}] = list[i : i+n]
			i += n
		}
		return m
	}
	a, b := split(old), split(want)
	for k, es := range a {
		if b[k] == nil {
			del = append(del, es...)
		}
	}
	for k, es := range b {
		if a[k] == nil {
			add = append(add, es...)
		}
	}
	return del, add
}
