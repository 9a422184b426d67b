// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"maps"
	"slices"

	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// Tables that are not there are made in several transactions, so that the kernel
// takes the policies of one while those of the next are rendered: each is half
// of it. The first is the table of a node without endpoints, as Guard makes it,
// and closes every workload. Nothing leads to what comes next, until the last
// transaction leads effective policies into their chains. If one is refused, or the process ends on the
// way, the workloads stay closed, and the next comparison finds what is missing.
//
// The last has nothing else in it, because an interval set is empty until all of its
// transaction is in force, and a denial by it matches nothing.

// partOf is how many chains of policies go into a transaction. Each has to wait for
// the grace of the one before, and is not worth it with few.
const partOf = 64

// create gives the transactions that make the tables, others than that for inet
// being there or not.
func (t *Table) create(a *actual, view policy.View, r *renderer, give func(*msgs)) *state {
	w := &whole{chains: r.staticChains(), sets: r.staticSets(), elems: map[string][]elem{}}
	var closed tx
	for _, table := range tables {
		if a.tables[table] != nil {
			closed.table.delTable(table)
		}
		closed.table.addTable(table, t.flags)
	}
	closed.fill(w.chains, w.sets, func(s *set) []elem { return s.elems })
	give(closed.all())

	st := newState()
	st.opts, st.epoch = r.opts, r.epoch
	setID := closed.setID
	part := func(chains []*chain, sets []*set) *tx {
		part := tx{setID: setID}
		part.fill(chains, sets, func(s *set) []elem { return w.content(s, view) })
		setID = part.setID
		return &part
	}
	st.part = func(chains []*chain, sets []*set) { give(part(chains, sets).all()) }
	ch := everything(view)
	c := st.stage(r, view, &ch)
	st.part = nil

	rest, last := part(c.chains, c.newSets), &tx{}
	for _, e := range slices.Concat(c.entryAdd, c.elemAdd) {
		w.elems[e.set] = append(w.elems[e.set], e.elem)
	}
	for _, name := range slices.Sorted(maps.Keys(w.elems)) {
		into := rest
		if leadsIn(name) {
			into = last
		}
		into.elements.elems(unix.NFT_MSG_NEWSETELEM, name, w.elems[name])
	}
	t.await()
	give(rest.all())
	give(last.all())
	return st
}

// replace gives the transactions that make tables anew which somebody else has bent
// out of shape. All but the last are one, so that workloads are closed, and lose
// what is on its way, for no longer than from that to the last.
func (t *Table) replace(a *actual, view policy.View, r *renderer, give func(*msgs)) *state {
	var list []*msgs
	st := t.create(a, view, r, func(m *msgs) { list = append(list, m) })
	var one msgs
	for _, m := range list[:len(list)-1] {
		one.append(m)
	}
	give(&one)
	give(list[len(list)-1])
	return st
}

// fill adds new sets with their elements, and new chains.
func (t *tx) fill(chains []*chain, sets []*set, content func(*set) []elem) {
	bytes := 0
	for _, c := range chains {
		for _, r := range c.rules {
			bytes += hdrLen + ruleFrame + len(c.name) + len(r.exprs) + len(r.comment)
		}
	}
	t.rules.data = make(buf, 0, bytes)
	for _, s := range sets {
		t.newSet(s, content(s))
	}
	for _, c := range chains {
		t.newChain(c)
	}
}

// ruleFrame is what a rule's message has beside names, expressions and comment,
// at most.
const ruleFrame = 48
