// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
)

var _ View = (*Index)(nil)

// Flush brings the View up to date and returns how it differs from what it was
// after the last Flush.
func (x *Index) Flush() Changes {
	ch := Changes{
		Endpoints:  map[EndpointID]*Endpoint{},
		Hosts:      map[string]*HostEndpoint{},
		Effectives: map[string]*Effective{},
		Policies:   map[Key]*Policy{},
		Sets:       map[SetID]*SetChange{},
	}
	x.assignHosts()
	x.regroup()
	x.flushGroups(ch.Effectives)
	x.flushRecs(ch.Policies)
	x.flushEndpoints(ch.Endpoints)
	x.flushHosts(ch.Hosts)
	x.sets.flush(ch.Sets)
	return ch
}

// flushGroups makes the effective policies anew whose parts or order differ.
// One that keeps its identity is not told, unless the chain of jumps must
// differ because a policy begins or ceases to pass.
func (x *Index) flushGroups(out map[string]*Effective) {
	for g := range x.dirtyGroups {
		for _, e := range g.effs {
			delete(x.byID, e.ID)
			out[e.ID] = nil
		}
	}
	for g := range x.dirtyGroups {
		old := g.effs
		g.effs = nil
		if g.classes.len() == 0 {
			continue
		}
		slices.SortFunc(g.policies, compareRecs)
		g.effs = g.effectives()
		for _, eff := range g.effs {
			for n := 0; ; n++ {
				eff.ID = g.identity(eff, n)
				if x.byID[eff.ID] == nil {
					break
				}
			}
			x.byID[eff.ID] = eff
			if _, had := out[eff.ID]; had && slices.ContainsFunc(old, func(o *Effective) bool { return samePasses(o, eff) }) {
				delete(out, eff.ID)
			} else {
				out[eff.ID] = eff
			}
		}
		for c := range g.classes.each {
			x.dirtyItems(c)
		}
	}
	clear(x.dirtyGroups)
}

// effectives makes the effective policies of a group from its sorted policies:
// one, or of host endpoints one for each stage in which there is any policy, and
// that of StageHost in any case.
func (g *group) effectives() []*Effective {
	if !g.key.host {
		return []*Effective{g.effective(StageWorkload)}
	}
	out := []*Effective{g.effective(StageHost)}
	for _, s := range []Stage{StageForward, StageUntracked, StagePreDNAT} {
		if eff := g.effective(s); len(eff.Tiers[Ingress])+len(eff.Tiers[Egress]) > 0 {
			out = append(out, eff)
		}
	}
	return out
}

// asks tells whether a policy that applies is asked in a stage and direction.
func (p *Policy) asks(s Stage, dir Direction) bool {
	if p.Staged && s != StageWorkload && s != StageHost {
		return false // where nothing is denied unless a policy says so, one that decides nothing is none
	}
	switch s {
	case StageForward:
		return p.Stage == StageWorkload && p.Forward
	case StageUntracked:
		return p.Stage == s
	case StagePreDNAT:
		return p.Stage == s && dir == Ingress // nothing is translated before it is sent
	}
	return p.Stage == StageWorkload
}

func (g *group) effective(s Stage) *Effective {
	eff := &Effective{Stage: s}
	for _, dir := range []Direction{Ingress, Egress} {
		var last *tier
		for _, r := range g.policies {
			if !r.types[dir] || !r.policy.asks(s, dir) {
				continue
			}
			if r.tier != last {
				last = r.tier
				eff.Tiers[dir] = append(eff.Tiers[dir], TierPolicies{Name: last.name, DefaultPass: last.defaultPass})
			}
			t := &eff.Tiers[dir][len(eff.Tiers[dir])-1]
			t.Policies = append(t.Policies, r.policy)
		}
		for i := range eff.Tiers[dir] {
			t := &eff.Tiers[dir][i]
			t.DefaultPass = t.DefaultPass || !t.enforced()
		}
	}
	if s == StageWorkload || s == StageHost {
		for _, r := range g.profiles {
			eff.Profiles = append(eff.Profiles, r.policy)
		}
	}
	return eff
}

// identity is Effective.ID. n is 0, or counts up if another identity has the
// same hash. Groups of host endpoints that differ in one stage differ in all.
func (g *group) identity(eff *Effective, n int) string {
	h := sha256.New()
	// Names come from the datastore: lengths keep them apart.
	put := func(kind byte, names ...string) {
		h.Write([]byte{kind})
		for _, s := range names {
			fmt.Fprintf(h, "%d:", len(s))
			io.WriteString(h, s)
		}
	}
	if g.key.host {
		put('h', fmt.Sprint(eff.Stage))
		for _, r := range g.policies {
			put('a', r.key.Kind, r.key.Namespace, r.key.Name)
		}
		for _, r := range g.profiles {
			put('b', r.key.Name)
		}
	}
	for _, tiers := range eff.Tiers {
		put('d')
		for _, t := range tiers {
			if t.DefaultPass {
				put('+', t.Name)
			} else {
				put('-', t.Name)
			}
			for _, p := range t.Policies {
				put('p', p.Key.Kind, p.Key.Namespace, p.Key.Name)
			}
		}
	}
	for _, p := range eff.Profiles {
		put('f', p.Key.Name)
	}
	if n > 0 {
		put('#', fmt.Sprint(n))
	}
	return hashName([sha256.Size]byte(h.Sum(nil)), 16)
}

// samePasses tells whether the policies of two effective policies of the same
// identity pass alike.
func samePasses(a, b *Effective) bool {
	if a.ID != b.ID {
		return false
	}
	for dir := range a.Tiers {
		for i, t := range a.Tiers[dir] {
			for j, p := range t.Policies {
				if p.HasPass != b.Tiers[dir][i].Policies[j].HasPass {
					return false
				}
			}
		}
	}
	for i, p := range a.Profiles {
		if p.HasPass != b.Profiles[i].HasPass {
			return false
		}
	}
	return true
}

// flushRecs takes policies and profiles into use, with their sets, and out of
// it.
func (x *Index) flushRecs(out map[Key]*Policy) {
	for r := range x.dirtyRecs {
		var now *Policy
		var held []*ipset
		if r.groups.len() > 0 {
			now = r.policy
			held = make([]*ipset, len(r.refs))
			for i, ref := range r.refs {
				held[i] = x.sets.acquire(ref)
			}
		} else if !r.present && (r.compiled == nil || r.key.Kind == kindProfile) {
			delete(x.recs, r.key)
		}
		for _, set := range r.held {
			x.sets.release(set)
		}
		r.held = held
		if now != r.published {
			out[r.key] = now
			r.published = now
		}
	}
	clear(x.dirtyRecs)
}

// flushEndpoints makes the local endpoints anew that may differ. One whose
// policies differ in their rules only is not told.
func (x *Index) flushEndpoints(out map[EndpointID]*Endpoint) {
	for id := range x.dirtyEndpoints {
		old := x.locals[id]
		e := x.endpoints[id]
		if e == nil || e.local == nil || e.local.class == nil {
			if old != nil {
				delete(x.locals, id)
				out[id] = nil
			}
			continue
		}
		l := e.local
		now := &Endpoint{ID: id, Interface: l.iface, MAC: l.mac, HasMAC: l.hasMAC, MACs: l.macs, Guest: l.guest, Process: l.process, Sources: l.sources, Floating: x.floatingOf(e), OpenStack: l.stack, Effective: l.class.val.group.effs[0]}
		for _, p := range e.member.nets {
			if x.owner(p.Addr()) == e {
				now.Addrs = append(now.Addrs, p.Addr())
			}
		}
		slices.SortFunc(now.Addrs, netip.Addr.Compare)
		x.locals[id] = now
		if old == nil || !old.sameBut(now) {
			out[id] = now
		}
	}
	clear(x.dirtyEndpoints)
}

// sameBut tells whether two endpoints differ at most in the rules of their
// policies.
func (e *Endpoint) sameBut(f *Endpoint) bool {
	return e.Interface == f.Interface && e.MAC == f.MAC && e.HasMAC == f.HasMAC && slices.Equal(e.MACs, f.MACs) && e.Guest == f.Guest && e.Process == f.Process &&
		e.Effective.ID == f.Effective.ID && slices.Equal(e.Addrs, f.Addrs) && slices.Equal(e.Sources, f.Sources) &&
		slices.Equal(e.Floating, f.Floating) && e.OpenStack == f.OpenStack
}

// Endpoints implements View.
func (x *Index) Endpoints() iter.Seq[*Endpoint] {
	return func(yield func(*Endpoint) bool) {
		for _, e := range x.locals {
			if !yield(e) {
				return
			}
		}
	}
}

// Effectives implements View.
func (x *Index) Effectives() iter.Seq[*Effective] {
	return func(yield func(*Effective) bool) {
		for _, e := range x.byID {
			if !yield(e) {
				return
			}
		}
	}
}

// Policies implements View.
func (x *Index) Policies() iter.Seq[*Policy] {
	return func(yield func(*Policy) bool) {
		for _, r := range x.recs {
			if r.published != nil && !yield(r.published) {
				return
			}
		}
	}
}

// Sets implements View.
func (x *Index) Sets() iter.Seq2[SetID, SetKind] {
	return func(yield func(SetID, SetKind) bool) {
		for id, s := range x.sets.byID {
			if !yield(id, s.kind) {
				return
			}
		}
	}
}

// Members implements View. Of a set that is not in use there are none.
func (x *Index) Members(id SetID) iter.Seq[Member] {
	if set := x.sets.byID[id]; set != nil {
		return x.sets.members(set)
	}
	return func(func(Member) bool) {}
}
