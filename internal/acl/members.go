// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"maps"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/policy"
)

// form tells how one family of a set is held: as networks if any member is more
// than a single address. Once it was it stays so while the set is in use, and under the
// name that it has in the kernel.
func (s *state) form(view policy.View, id policy.SetID, f *family) form {
	k := setFamily{id, f.v}
	s.forming.Lock()
	defer s.forming.Unlock()
	if as, known := s.forms[k]; known {
		return as
	}
	as := asHosts
	if s.have != nil {
		as = s.have.form(id, f)
	}
	if !as.nets() {
		for m := range view.Members(id) {
			if isNetwork(m) && familyOf(m.Net.Addr()) == f {
				as = asNets
				break
			}
		}
	}
	s.forms[k] = as
	return as
}

// form is that in which the kernel has a set, asHosts if it has none.
func (a *actual) form(id policy.SetID, f *family) (as form) {
	for _, denial := range []bool{false, true} {
		for _, nets := range []form{asNets, asNetsToo} {
			if a.sets[memberSet(id, f, nets, denial).name] != nil {
				as = nets
			}
		}
		if as == asHosts && (a.asked[memberSet(id, f, asHostsToo, denial).part] || a.sets[portSet(id, f, asHostsToo, denial).name] != nil) {
			as = asHostsToo
		}
	}
	return as
}

func isNetwork(m policy.Member) bool { return m.Net.IsValid() && !m.Net.IsSingleIP() }

// Bounds of what is replaced as a whole: members of sets, and chains that ask these. A
// chain takes longer, because its rules are rendered, counted and validated anew.
const (
	maxCopied = 4096
	maxAsking = 64
)

// reform finds sets that must be held in another form, and renders what uses
// them anew. One that gets its first network becomes an interval set. Those whose
// change in place could be seen in part are replaced as a whole, by ones of the other
// name that no rule has asked so far (see torn). So are interval sets when
// policies change with them: in place they change shortly after the rules of the transaction.
func (g *stager) reform(view policy.View, ch *policy.Changes) {
	torn := g.torn(ch)
	copied := (torn || len(ch.Policies) > 0) && g.few(view, ch)
	users := map[string]bool{}
	for id, sc := range ch.Sets {
		if len(g.byID[id]) == 0 { // not in use: what was known may be old
			delete(g.forms, setFamily{id, 4})
			delete(g.forms, setFamily{id, 6})
		}
		for _, f := range []*family{ipv4, ipv6} {
			k := setFamily{id, f.v}
			was, known := g.forms[k]
			of := func(m policy.Member) bool { return familyOf(m.Net.Addr()) == f }
			now := was
			switch {
			case !known:
			case !was.nets() && slices.ContainsFunc(sc.Added, func(m policy.Member) bool { return of(m) && isNetwork(m) }):
				now = asNets
			case copied && (torn || was.nets()) && (slices.ContainsFunc(sc.Added, of) || slices.ContainsFunc(sc.Removed, of)):
				now = was.other()
			}
			if now != was {
				g.forms[k] = now
				for _, name := range g.byID[id] {
					users[name] = users[name] || g.sets[name].set.fam == f
				}
			}
		}
	}
	g.renderUsers(users)
}

// few tells whether the sets in use that change have few members together, and few chains ask them.
func (g *stager) few(view policy.View, ch *policy.Changes) bool {
	n := 0
	for id := range ch.Sets {
		if len(g.byID[id]) == 0 {
			continue
		}
		for range view.Members(id) {
			if n++; n > maxCopied {
				return false
			}
		}
	}
	asking := 0
	for _, c := range g.chains {
		if g.concerned(c, ch) {
			asking++
		}
	}
	return asking <= maxAsking
}

// renderUsers renders the chains anew that look up sets.
func (g *stager) renderUsers(sets map[string]bool) {
	for _, c := range g.chains {
		switch {
		case !slices.ContainsFunc(c.sets, func(name string) bool { return sets[name] }):
		case c.eff != "":
			g.eff[c.eff] = true
		default:
			g.pol[c.pol] = true
		}
	}
}

// takeMembers turns changed members into changed elements of the kernel sets
// that stay. A set that is new is filled as a whole.
func (g *stager) takeMembers(ch *policy.Changes) {
	var dels, adds [2][]setElem // of what permissions ask, and of what denials ask
	for id, sc := range ch.Sets {
		for _, name := range g.byID[id] {
			st := g.sets[name]
			if !st.live || st.refs == 0 {
				continue
			}
			if sc.New {
				g.out.lost = true
			}
			var del, add []elem
			owner := st.set.owner()
			for _, m := range sc.Removed {
				del = st.set.memberElems(del, m, owner)
			}
			for _, m := range sc.Added {
				add = st.set.memberElems(add, m, owner)
			}
			of := askedBy(st.set.denial)
			dels[of] = append(dels[of], inSet(st.set.kernel(), del)...)
			adds[of] = append(adds[of], inSet(st.set.kernel(), add)...)
		}
	}
	if g.inTwoSteps(ch, &dels, &adds) {
		return
	}
	g.out.memberDel = slices.Concat(g.out.memberDel, dels[0], dels[1])
	g.out.memberAdd = slices.Concat(g.out.memberAdd, adds[0], adds[1])
	if len(g.out.memberDel) > 0 && len(g.out.memberAdd) > 0 && (g.oneMoves(ch) || g.onlyLists(ch)) {
		gone := map[setPlace]bool{}
		for _, e := range g.out.memberDel {
			gone[setPlace{e.set, e.place()}] = true
		}
		// One that stays with another value must go before it comes.
		stays := func(e setElem) bool { return gone[setPlace{e.set, e.place()}] }
		g.out.early = slices.DeleteFunc(slices.Clone(g.out.memberAdd), stays)
		g.out.memberAdd = slices.DeleteFunc(g.out.memberAdd, func(e setElem) bool { return !stays(e) })
	}
	g.sortMembers()
}

// sortMembers groups elements by set.
func (g *stager) sortMembers() {
	bySet := func(a, b setElem) int { return strings.Compare(a.set, b.set) }
	for _, list := range [][]setElem{g.out.memberDel, g.out.memberAdd, g.out.early, g.out.earlyDel} {
		slices.SortStableFunc(list, bySet)
	}
}

// setPlace identifies an element among those of all sets.
type setPlace struct {
	set string
	place
}

func inSet(name string, es []elem) (out []setElem) {
	for _, e := range es {
		out = append(out, setElem{name, e})
	}
	return out
}

func (g *stager) settleSets(view policy.View, ch *policy.Changes) {
	for _, name := range slices.Sorted(maps.Keys(g.touch)) {
		st := g.sets[name]
		switch {
		case st.refs > 0 && !st.live:
			st.live = true
			g.out.newSets = append(g.out.newSets, st.set)
		case st.refs == 0:
			switch {
			case st.live && st.set.in != "":
				g.out.gone = append(g.out.gone, inSet(st.set.in, st.set.before(view, ch))...)
			case st.live:
				g.out.goneSets = append(g.out.goneSets, name)
			}
			delete(g.sets, name)
			if id := st.set.id; id != "" {
				g.byID[id] = slices.DeleteFunc(g.byID[id], func(n string) bool { return n == name })
				if len(g.byID[id]) == 0 {
					delete(g.byID, id)
					delete(g.forms, setFamily{id, 4})
					delete(g.forms, setFamily{id, 6})
				}
			}
		}
	}
	clear(g.touch)
}

// before returns the elements that a part had before the change.
func (s *set) before(view policy.View, ch *policy.Changes) (out []elem) {
	sc := ch.Sets[s.id]
	if s.id == "" || sc == nil {
		return s.content(view, nil)
	}
	added := make(map[policy.Member]bool, len(sc.Added))
	for _, m := range sc.Added {
		added[m] = true
	}
	owner := s.owner()
	for m := range view.Members(s.id) {
		if !added[m] {
			out = s.memberElems(out, m, owner)
		}
	}
	for _, m := range sc.Removed {
		out = s.memberElems(out, m, owner)
	}
	return out
}
