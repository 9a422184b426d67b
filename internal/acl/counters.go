// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/policy"
)

// Every kernel rule that decides for a rule of the model counts what it decides.
// A counter is state of the kernel and no part of what a rule should be: it is
// left out of every comparison, so that none is ever rewritten for it.
//
// Chains are shared, and a rule of the kernel may stand for a run of rules of the
// model: those are counted together. What a rule has counted is forgotten when
// its policy is changed. When its chain is rewritten or goes for another reason,
// because an endpoint comes to have one more policy, say, the Table keeps it.

// origin is what a kernel rule stands for: rules of a policy, by their places
// in its list, or the end of a tier or of all policy.
type origin struct {
	policy *policy.Policy
	dir    policy.Direction
	text   string // places, such as 0-2,7; of the others, what they are
}

// standFor says what the rules from a place on stand for.
func (c *chain) standFor(at int, o origin) {
	for _, r := range c.rules[at:] {
		r.from = o
	}
}

func (c *chain) origins() []origin {
	out := make([]origin, len(c.rules))
	for i, r := range c.rules {
		out[i] = r.from
	}
	return out
}

// places lists the rules of a group.
func (g *group) places() string {
	if len(g.indexes) == 1 {
		return strconv.Itoa(g.indexes[0])
	}
	var b strings.Builder
	for i := 0; i < len(g.indexes); {
		j := i
		for j+1 < len(g.indexes) && g.indexes[j+1] == g.indexes[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(g.indexes[i]))
		if j > i {
			b.WriteString("-" + strconv.Itoa(g.indexes[j]))
		}
		i = j + 1
	}
	return b.String()
}

func (h Hits) plus(o Hits) Hits { return Hits{h.Packets + o.Packets, h.Bytes + o.Bytes} }

// hitsOf identifies what counts: an origin, whatever version its policy has.
type hitsOf struct {
	key  policy.Key
	dir  policy.Direction
	text string
}

func (o origin) id() hitsOf {
	h := hitsOf{dir: o.dir, text: o.text}
	if o.policy != nil {
		h.key = o.policy.Key
	}
	return h
}

// Ledger is what the chains stood for at one moment. It may be read beside the
// Table.
type Ledger struct {
	netns  int
	chains map[string]*chainState
	kept   map[hitsOf]Hits
}

// Ledger notes what the chains stand for now.
func (t *Table) Ledger() *Ledger {
	l := &Ledger{netns: t.opts.NetNS, chains: map[string]*chainState{}, kept: map[hitsOf]Hits{}}
	if t.state != nil {
		for name, st := range t.state.chains { // chain states never change
			l.chains[name] = st
		}
	}
	for k, h := range t.kept {
		l.kept[k] = h
	}
	return l
}

// Read reads the counters from the kernel, sorted by policy, direction and rule.
// Chains that have been rewritten since the Ledger was made are left out.
func (l *Ledger) Read() ([]Counted, error) {
	s, err := openSocket(l.netns)
	if err != nil {
		return nil, err
	}
	defer s.close()
	rules, err := s.counters("")
	if err != nil {
		return nil, err
	}
	total, from := map[hitsOf]Hits{}, map[hitsOf]origin{}
	for name, st := range l.chains {
		if hits, ok := st.match(rules[name]); ok {
			for i, o := range st.from {
				if o.text != "" {
					total[o.id()] = total[o.id()].plus(hits[i])
					from[o.id()] = o
				}
			}
		}
	}
	var out []Counted
	for id, o := range from {
		c := Counted{Policy: o.policy, Direction: o.dir, Hits: total[id].plus(l.kept[id])}
		if o.policy != nil {
			c.Rules = o.text
		} else {
			c.End = o.text
		}
		out = append(out, c)
	}
	slices.SortFunc(out, compareCounted)
	return out, nil
}

// counted is one rule of the kernel.
type counted struct {
	sum    sum
	handle uint64
	note   string
	hits   Hits
}

// match returns what each rule of a chain has counted, if the kernel has the
// chain as it was.
func (st *chainState) match(rules []counted) ([]Hits, bool) {
	if len(rules) != len(st.sums) {
		return nil, false
	}
	hits := make([]Hits, len(rules))
	for i, r := range rules {
		if r.sum != st.sums[i] {
			return nil, false
		}
		hits[i] = r.hits
	}
	return hits, true
}

// counters reads the rules of a chain, or of all chains, by chain.
func (s *socket) counters(chain string) (map[string][]counted, error) {
	out := map[string][]counted{}
	for range 10 {
		clear(out)
		err := s.dump(inetTable, unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(b *buf) {
			ours(b)
			if chain != "" {
				b.str(unix.NFTA_RULE_CHAIN, chain)
			}
		}, func(data []byte) {
			r := readRule(data)
			if r.table == TableName && (chain == "" || r.chain == chain) {
				out[r.chain] = append(out[r.chain], counted{ruleSum(r.exprs, r.note), r.handle, r.note, hitsIn(r.exprs)})
			}
		})
		switch {
		case err == nil:
			return out, nil
		case errors.Is(err, unix.ENOENT):
			return nil, nil
		case !errors.Is(err, errInterrupted):
			return nil, fmt.Errorf("read counters of table inet %s: %w", TableName, err)
		}
	}
	return nil, fmt.Errorf("read counters of table inet %s: the ruleset keeps changing: %w", TableName, errInterrupted)
}

// hitsIn finds the counter among the expressions of a rule.
func hitsIn(exprs []byte) (h Hits) {
	attrs(exprs, func(_ uint16, e []byte) bool {
		h = h.plus(counterHits(e))
		return true
	})
	return h
}

// counterHits reads an expression, if it is a counter.
func counterHits(e []byte) (h Hits) {
	name := ""
	attrs(e, func(typ uint16, v []byte) bool {
		switch {
		case typ == unix.NFTA_EXPR_NAME:
			name = cstr(v)
		case typ == unix.NFTA_EXPR_DATA && name == "counter":
			attrs(v, func(typ uint16, v []byte) bool {
				switch typ {
				case unix.NFTA_COUNTER_PACKETS:
					h.Packets = beU64(v)
				case unix.NFTA_COUNTER_BYTES:
					h.Bytes = beU64(v)
				}
				return true
			})
		}
		return true
	})
	return h
}

func beU64(v []byte) uint64 {
	if len(v) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// keepHits saves what chains have counted that a change rewrites or removes,
// and forgets what the rules of changed policies have. It is as exact as the
// moment between reading and committing allows.
func (t *Table) keepHits(c *change, ch *policy.Changes) {
	for id := range t.kept {
		if _, changed := ch.Policies[id.key]; changed {
			delete(t.kept, id)
		}
	}
	lasting := func(o origin) bool {
		_, changed := ch.Policies[o.id().key]
		return o.text != "" && !changed
	}
	var names []string
	for name, st := range c.was {
		if slices.ContainsFunc(st.from, lasting) {
			names = append(names, name)
		}
	}
	all, err := t.sock.countersOf(names)
	if err != nil {
		t.opts.Log.Debug("counters of chains that change are lost", "err", err)
		return
	}
	for _, name := range names {
		hits, ok := c.was[name].match(all[name])
		for i, o := range c.was[name].from {
			if ok && lasting(o) && hits[i].Packets > 0 {
				if t.kept == nil {
					t.kept = map[hitsOf]Hits{}
				}
				t.kept[o.id()] = t.kept[o.id()].plus(hits[i])
			}
		}
	}
}

// countersOf reads chains one by one, or, of many, all at once.
func (s *socket) countersOf(names []string) (map[string][]counted, error) {
	const many = 16
	if len(names) > many {
		return s.counters("")
	}
	out := map[string][]counted{}
	for _, name := range names {
		one, err := s.counters(name)
		if err != nil {
			return nil, err
		}
		out[name] = one[name]
	}
	return out, nil
}

func compareCounted(a, b Counted) int {
	if (a.Policy == nil) != (b.Policy == nil) {
		if a.Policy != nil {
			return -1
		}
		return 1
	}
	if a.Policy != nil {
		if c := comparePolDir(polDir{key: a.Policy.Key, dir: a.Direction}, polDir{key: b.Policy.Key, dir: b.Direction}); c != 0 {
			return c
		}
		first := func(s string) int { // place of the first rule; of what is quarantined, none
			n, _ := strconv.Atoi(strings.FieldsFunc(s, func(r rune) bool { return r == '-' || r == ',' })[0])
			return n
		}
		return first(a.Rules) - first(b.Rules)
	}
	return strings.Compare(a.End+dirLetter(a.Direction), b.End+dirLetter(b.Direction))
}
