// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"maps"
	"slices"

	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// tx is a transaction in the making. Its sections are sent in this order, so
// that every message finds what it refers to and nothing is removed that is
// still referred to. The kernel shows packets only the whole.
type tx struct {
	table     msgs // the table itself
	sets      msgs // new sets
	chains    msgs // new chains, empty
	members   msgs // elements of the sets that rules look up
	rules     msgs // chains flushed and refilled
	elements  msgs // elements that make endpoints live, out then in
	goneSets  msgs
	goneChain msgs
	setID     uint32
}

func (t *tx) sections() []*msgs {
	return []*msgs{&t.table, &t.sets, &t.chains, &t.members, &t.rules, &t.elements, &t.goneSets, &t.goneChain}
}

func (t *tx) empty() bool {
	return !slices.ContainsFunc(t.sections(), func(m *msgs) bool { return len(m.starts) > 0 })
}

func (t *tx) all() *msgs {
	sections := t.sections()
	var m msgs
	bytes, n := 0, 0
	for _, s := range sections {
		bytes, n = bytes+len(s.data), n+len(s.starts)
	}
	m.data, m.starts, m.owners = make(buf, 0, bytes), make([]int, 0, n), make([]string, 0, n)
	for _, s := range sections {
		m.append(s)
	}
	return &m
}

func (t *tx) newSet(s *set, es []elem) {
	if s.in != "" {
		t.members.elems(unix.NFT_MSG_NEWSETELEM, s.in, es)
		return
	}
	t.setID++
	t.sets.addSet(s, t.setID)
	t.members.elems(unix.NFT_MSG_NEWSETELEM, s.name, es)
}

func (t *tx) newChain(c *chain) {
	t.chains.addChain(c)
	for _, r := range c.rules {
		t.rules.addRule(c.owner, c.name, r)
	}
}

// refill replaces the rules of a chain that stays.
func (t *tx) refill(c *chain) {
	t.rules.flushChain(c.owner, c.name)
	for _, r := range c.rules {
		t.rules.addRule(c.owner, c.name, r)
	}
}

// dropChain empties a chain together with the rules that may jump to it, and
// removes it at the end.
func (t *tx) dropChain(name string) {
	t.rules.flushChain("", name)
	t.goneChain.delChain("", name)
}

// setElems writes the elements, which are grouped by set.
func setElems(m *msgs, typ uint16, es []setElem) {
	for i := 0; i < len(es); {
		var run []elem
		name := es[i].set
		for ; i < len(es) && es[i].set == name; i++ {
			run = append(run, es[i].elem)
		}
		m.elems(typ, name, run)
	}
}

// incremental makes the transaction for a change to a table that is as the
// state said before, and one that goes before it. Parts that nobody uses any
// more stay until it is in force (leftovers): a packet that is among the old
// rules then finds them whole. So does an effective policy that nobody has any
// more, because a packet may have looked it up just before.
//
// See early for what goes before.
func incremental(c *change, view policy.View, r *renderer, was epoch) (before, m *msgs) {
	var first, t tx
	// An effective policy that is new is made before an endpoint has it: a packet
	// that looks up the elements of after a commit finds of a new chain only what it
	// was before, nothing.
	made := &t
	if len(c.entryAdd) > 0 {
		made = &first
	}
	for _, s := range c.newSets {
		into := made
		if s.early() {
			into = &first
		}
		into.newSet(s, s.content(view, nil))
	}
	for _, ch := range c.chains {
		if c.isNew[ch.name] {
			made.newChain(ch)
		} else {
			t.refill(ch)
		}
	}
	setElems(&first.members, unix.NFT_MSG_DELSETELEM, c.earlyDel)
	setElems(&first.members, unix.NFT_MSG_NEWSETELEM, c.early)
	setElems(&t.members, unix.NFT_MSG_DELSETELEM, c.memberDel)
	setElems(&t.members, unix.NFT_MSG_NEWSETELEM, c.memberAdd)
	setElems(&t.elements, unix.NFT_MSG_DELSETELEM, c.elemDel)
	setElems(&first.elements, unix.NFT_MSG_NEWSETELEM, c.entryAdd)
	setElems(&t.elements, unix.NFT_MSG_NEWSETELEM, c.elemAdd)
	if len(c.entryDel) == 0 {
		t.dropGone(c)
	}
	if c.bothWays() {
		for _, ch := range r.again() {
			made.newChain(ch)
		}
	}
	if !t.empty() {
		t.bump(was, r.epoch, r)
	}
	return first.all(), t.all()
}

// early tells whether a set that is new must be there before the rules that look
// it up. What an interval set holds is published after the rules of its
// transaction (the kernel swaps the tree in when the generation has changed
// already): a denial that looks it up would match nothing for a moment.
func (s *set) early() bool { return s.in == "" && s.typ.flags&unix.NFT_SET_INTERVAL != 0 }

// leftovers makes the transaction that ends a change.
func leftovers(c *change, r *renderer) *msgs {
	var t tx
	setElems(&t.members, unix.NFT_MSG_DELSETELEM, c.gone)
	if c.bothWays() {
		t.endAgain(r.again())
	}
	if len(c.entryDel) > 0 {
		setElems(&t.elements, unix.NFT_MSG_DELSETELEM, c.entryDel)
		t.dropGone(c)
	}
	return t.all()
}

func (t *tx) dropGone(c *change) {
	for _, n := range c.goneSets {
		t.goneSets.delSet("", n)
	}
	for _, n := range c.goneChains {
		t.dropChain(n)
	}
}

// whole is the complete desired table.
type whole struct {
	chains []*chain
	sets   []*set
	elems  map[string][]elem // of static sets, by name
	room   []elem            // for content
}

// entire stages everything into a new state and collects the whole table.
// What the kernel has of a set may stay in its form, so that a restart
// after the last network left changes nothing.
func entire(r *renderer, view policy.View, have *actual) (*state, *whole) {
	st := newState()
	st.have, st.opts = have, r.opts
	defer func() { st.have = nil }()
	ch := everything(view)
	c := st.stage(r, view, &ch)
	w := &whole{chains: append(r.staticChains(), c.chains...), elems: map[string][]elem{}}
	w.sets = append(r.staticSets(), c.newSets...)
	for _, e := range slices.Concat(c.entryAdd, c.elemAdd) {
		w.elems[e.set] = append(w.elems[e.set], e.elem)
	}
	return st, w
}

// content returns the elements a set should have, until it is called again.
func (w *whole) content(s *set, view policy.View) []elem {
	if s.static && s.elems == nil {
		return w.elems[s.name]
	}
	es := s.content(view, w.room)
	if cap(es) > cap(w.room) && s.id != "" {
		w.room = es
	}
	return es
}

// repair makes the transaction that turns what is there into what should be, and
// one that goes before it, as incremental does; both are empty if nothing
// differs. ok is false if that takes more than a transaction may do to a table
// that stays: then they must be replaced. was is the epoch that the kernel is in;
// steady tells that it is, in all places. again tells that packets on their way are asked
// again (see again.go), which is to be ended.
func (w *whole) repair(a *actual, view policy.View, r *renderer, was epoch, steady bool) (before, m *msgs, again, ok bool) {
	var first, t tx
	asleep := false // then the kernel takes no new base chain
	for _, table := range tables {
		switch have := a.tables[table]; {
		case have == nil:
			t.table.addTable(table, r.flags)
		case have.foreign, have.persist != (r.flags&nftTablePersist != 0):
			return nil, nil, false, false
		case have.flags != 0, have.owner == 0 && r.flags&nftTableOwner != 0:
			t.table.addTable(table, r.flags) // dormant: wake it; an orphan: claim it
			asleep = asleep || have.flags != 0 && table == inetTable
		}
	}
	wanted := map[string]bool{}
	for _, s := range w.sets { // the static ones, which have parts, come first
		name := s.kernel()
		es := w.content(s, view)
		if steady && name == setAccepted {
			es = was.elems() // unless there is something to write
		}
		have := a.sets[name]
		if have == nil {
			into := &t
			if s.early() {
				into = &first
			}
			into.newSet(s, es)
			continue
		}
		if s.in == "" && !have.is(s.typ) {
			return nil, nil, false, false
		}
		wanted[name] = true
		into := &t.members
		if s.static {
			into = &t.elements
		}
		del, add := have.want(es)
		into.elems(unix.NFT_MSG_DELSETELEM, name, del)
		into.elems(unix.NFT_MSG_NEWSETELEM, name, add)
	}
	for _, n := range slices.Sorted(maps.Keys(a.sets)) {
		if wanted[n] {
			t.elements.elems(unix.NFT_MSG_DELSETELEM, n, a.sets[n].rest())
		} else {
			t.goneSets.delSet("", n)
		}
	}
	clear(wanted)
	var dirs [2]bool // as of a change
	write := func(c *chain, how func(*chain)) {
		how(c)
		for d, is := range c.dirs {
			dirs[d] = dirs[d] || is
		}
	}
	for _, c := range w.chains {
		wanted[c.name] = true
		have := a.chains[c.name]
		switch {
		case have == nil:
			write(c, t.newChain)
		case !have.is(c):
			return nil, nil, false, false
		default:
			if have.policy != nfAccept && c.hook != nil {
				t.chains.addChain(c)
			}
			if !have.holds(c) && !(steady && isEpoch(c.name)) {
				write(c, t.refill)
			}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(a.chains)) {
		if !wanted[n] {
			t.dropChain(n)
		}
	}
	if first.empty() && t.empty() {
		return &msgs{}, &msgs{}, false, true
	}
	if steady {
		t.bump(was, r.epoch, r)
	}
	if again = dirs[0] && dirs[1] && !asleep && a.chains[chainAgain] == nil; again {
		for _, c := range r.again() {
			t.newChain(c)
		}
	}
	return first.all(), t.all(), again, true
}
