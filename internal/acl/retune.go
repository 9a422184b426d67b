// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"maps"
	"reflect"
	"slices"

	"golang.org/x/sys/unix"
)

// Some options follow from the model, and change as often: what is translated, who
// speaks BGP, whose interface is enslaved, and whether anybody has a floating IP. No policy is rendered with them,
// so that a change of theirs concerns a few chains and sets of the table's own.

// light tells whether p differs from o in nothing but that.
func (o Options) light(p Options) bool {
	p.NAT, p.Speakers, p.SpeakerPort, p.Floating, p.Enslaved = o.NAT, o.Speakers, o.SpeakerPort, o.Floating, o.Enslaved
	return o.same(p)
}

func (o Options) same(p Options) bool { return reflect.DeepEqual(o, p) }

// takeOptions turns changed options into changed chains and elements. Where the
// kernel holds members by interval, whole networks come and go.
func (g *stager) takeOptions() {
	if g.opts.same(g.r.opts) {
		return
	}
	was := &renderer{opts: g.opts, noFrames: g.r.noFrames, bad: g.r.bad, epoch: g.r.epoch}
	floats := g.opts.Floating != g.r.opts.Floating
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

	if !floats {
		return
	}
	for _, e := range g.endpoints {
		if len(e.Floating) > 0 {
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
