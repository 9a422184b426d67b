// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// actual is our tables as the kernel has them. Other tables are never read.
type actual struct {
	gen    uint32 // the generation that this is
	tables map[byte]*actualTable
	chains map[string]*actualChain
	sets   map[string]*actualSet
	asked  map[string]bool // parts of sets that rules look up, by what their elements begin with
}

// actualTable is one of our tables, without what is in it.
type actualTable struct {
	table   byte
	owner   uint32 // netlink port that owns the table, 0 for none
	persist bool
	flags   uint32 // without owner and persist
	foreign bool   // it holds objects of kinds that we never make
}

type actualChain struct {
	base    bool
	hook    hook
	policy  uint32
	typ     string
	flags   uint32
	comment string
	rules   []sum
}

// is compares what cannot be changed while the chain stays.
func (a *actualChain) is(c *chain) bool {
	if a.base != (c.hook != nil) || a.comment != c.comment || a.flags&^1 /* NFT_CHAIN_BASE */ != 0 {
		return false
	}
	return c.hook == nil || a.hook.at(c.hook) && a.typ == c.hook.kind()
}

func (a *actualChain) holds(c *chain) bool {
	if len(a.rules) != len(c.rules) {
		return false
	}
	for i, r := range c.rules {
		if r.sum != a.rules[i] {
			return false
		}
	}
	return true
}

type actualSet struct {
	flags, keyType, keyLen, dataType uint32
	size                             uint32
	timeout                          bool
	elems                            map[place]string // value of each; kept, once it is known to be wanted
	shown                            int              // elements in the dump, some perhaps twice
}

func (a *actualSet) is(t *setType) bool {
	return a.flags == t.flags && a.keyType == t.keyType && a.keyLen == t.keyLen && a.dataType == t.dataType && a.size == t.size && !a.timeout
}

// kept stands for the value of an element that is as it should be.
const kept = "\x00kept"

// want returns what to delete from the set and to add to it so that it holds
// es, and remembers that these are wanted.
func (a *actualSet) want(es []elem) (del, add []elem) {
	for i := range es {
		e := &es[i]
		p := e.place()
		value, ok := a.elems[p]
		switch {
		case value == kept:
			continue
		case !ok:
			add = append(add, *e)
		case value != e.value():
			del = append(del, elem{key: p.key, end: p.end, last: p.last})
			add = append(add, *e)
		}
		a.elems[p] = kept
	}
	return del, add
}

// rest returns the elements that nobody wants.
func (a *actualSet) rest() (del []elem) {
	for p, value := range a.elems {
		if value != kept {
			del = append(del, elem{key: p.key, end: p.end, last: p.last})
		}
	}
	return del
}

// read dumps the table. The result is of one generation: it is read again if
// somebody commits meanwhile.
func (s *socket) read() (*actual, error) {
	var err error
	for range 10 {
		var before, after uint32
		if before, err = s.generation(); err != nil {
			return nil, err
		}
		var a *actual
		a, err = s.readOnce()
		if errors.Is(err, errInterrupted) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if after, err = s.generation(); err != nil {
			return nil, err
		}
		if before == after {
			a.gen = after
			return a, nil
		}
		err = errInterrupted
	}
	return nil, fmt.Errorf("read nftables tables %s: the ruleset keeps changing: %w", TableName, err)
}

func ours(b *buf) { b.str(tableAttr, TableName) }

func (s *socket) readOnce() (*actual, error) {
	a := &actual{tables: map[byte]*actualTable{}, chains: map[string]*actualChain{}, sets: map[string]*actualSet{}, asked: map[string]bool{}}
	for _, table := range tables {
		if err := s.readTable(a, table); err != nil {
			return nil, err
		}
	}
	for name, set := range a.sets {
		if set.flags&unix.NFT_SET_EVAL != 0 {
			continue // its elements are the traffic's
		}
		if err := s.readElems(name, set); err != nil {
			return nil, fmt.Errorf("read elements of set %s: %w", bare(name), err)
		}
	}
	return a, nil
}

// readTable reads one of our tables, if it is there, but for elements of sets.
func (s *socket) readTable(a *actual, table byte) error {
	t := &actualTable{table: table}
	err := s.dump(table, unix.NFT_MSG_GETTABLE, 0, ours, t.take)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read table %s: %w", tableWord(table), err)
	}
	a.tables[table] = t
	steps := []struct {
		what string
		typ  uint16
		f    func(*actualTable, []byte)
	}{
		{"chains", unix.NFT_MSG_GETCHAIN, a.takeChain},
		{"rules", unix.NFT_MSG_GETRULE, a.takeRule},
		{"sets", unix.NFT_MSG_GETSET, a.takeSet},
		{"objects", unix.NFT_MSG_GETOBJ, a.takeForeign},
		{"flow tables", unix.NFT_MSG_GETFLOWTABLE, a.takeForeign},
	}
	for _, st := range steps {
		if err := s.dump(table, st.typ, unix.NLM_F_DUMP, ours, func(data []byte) { st.f(t, data) }); err != nil {
			return fmt.Errorf("read %s of table %s: %w", st.what, tableWord(table), err)
		}
	}
	return nil
}

func (t *actualTable) take(data []byte) {
	attrs(data, func(typ uint16, v []byte) bool {
		switch typ {
		case unix.NFTA_TABLE_FLAGS:
			t.flags = beU32(v)
		case nftaTableOwner:
			t.owner = beU32(v)
		}
		return true
	})
	if t.flags&nftTableOwner == 0 {
		t.owner = 0
	}
	t.persist = t.flags&nftTablePersist != 0
	t.flags &= 1 // NFT_TABLE_F_DORMANT
}

// readElems reads the elements of a set. After a commit the kernel moves those
// of a hash table to a larger one in the background, and each part of a dump
// skips as many as the parts before it showed: an element that moves meanwhile
// may be shown twice, and another not at all in its stead. So a dump is
// complete if it has no element twice, and is read again otherwise.
func (s *socket) readElems(name string, set *actualSet) error {
	table, bare := home(name)
	for range 10 {
		set.shown, set.elems = 0, make(map[place]string, len(set.elems))
		err := s.dump(table, unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, func(b *buf) {
			ours(b)
			b.str(unix.NFTA_SET_ELEM_LIST_SET, bare)
		}, set.take)
		if err != nil || set.shown == len(set.elems) {
			return err
		}
	}
	return errInterrupted
}

func (a *actual) takeForeign(t *actualTable, data []byte) {
	t.foreign = t.foreign || tableOf(data) == TableName
}

func (a *actual) takeChain(t *actualTable, data []byte) {
	c := &actualChain{policy: nfAccept}
	var table, name string
	attrs(data, func(typ uint16, v []byte) bool {
		switch typ {
		case unix.NFTA_CHAIN_TABLE:
			table = cstr(v)
		case unix.NFTA_CHAIN_NAME:
			name = cstr(v)
		case unix.NFTA_CHAIN_HOOK:
			c.base = true
			attrs(v, func(typ uint16, v []byte) bool {
				switch typ {
				case unix.NFTA_HOOK_HOOKNUM:
					c.hook.num = beU32(v)
				case unix.NFTA_HOOK_PRIORITY:
					c.hook.priority = int32(beU32(v))
				case nftaHookDevs:
					c.hook.device = deviceText(v)
				}
				return true
			})
		case unix.NFTA_CHAIN_POLICY:
			c.policy = beU32(v)
		case unix.NFTA_CHAIN_TYPE:
			c.typ = cstr(v)
		case nftaChainFlags:
			c.flags = beU32(v)
		case nftaChainUserdata:
			c.comment = commentOf(udataComment, v)
		}
		return true
	})
	if table == TableName { // the kernel may ignore the filter and dump every table's
		a.chains[in(t.table, name)] = c
	}
}

func (a *actual) takeRule(t *actualTable, data []byte) {
	r := readRule(data)
	if c := a.chains[in(t.table, r.chain)]; r.table == TableName && c != nil {
		c.rules = append(c.rules, ruleSum(r.exprs, r.note))
		a.takeAsked(r.exprs)
	}
}

// takeAsked notes which parts of sets a rule looks up: what it loads with name.
func (a *actual) takeAsked(exprs []byte) {
	attrs(exprs, func(_ uint16, e []byte) bool {
		if string(attr(e, unix.NFTA_EXPR_NAME)) == "immediate\x00" {
			part := attr(attr(attr(e, unix.NFTA_EXPR_DATA), unix.NFTA_IMMEDIATE_DATA), unix.NFTA_DATA_VALUE)
			if len(part) == 16 && !a.asked[string(part)] {
				a.asked[string(part)] = true
			}
		}
		return true
	})
}

// shownRule is a rule as the kernel shows it.
type shownRule struct {
	table, chain string
	handle       uint64
	exprs        []byte // content of NFTA_RULE_EXPRESSIONS
	note         string // comment
}

func readRule(data []byte) (r shownRule) {
	attrs(data, func(typ uint16, v []byte) bool {
		switch typ {
		case unix.NFTA_RULE_TABLE:
			r.table = cstr(v)
		case unix.NFTA_RULE_CHAIN:
			r.chain = cstr(v)
		case unix.NFTA_RULE_HANDLE:
			r.handle = beU64(v)
		case unix.NFTA_RULE_EXPRESSIONS:
			r.exprs = v
		case unix.NFTA_RULE_USERDATA:
			r.note = commentOf(udataComment, v)
		}
		return true
	})
	return r
}

func (a *actual) takeSet(t *actualTable, data []byte) {
	s := &actualSet{}
	var table, name string
	attrs(data, func(typ uint16, v []byte) bool {
		switch typ {
		case unix.NFTA_SET_TABLE:
			table = cstr(v)
		case unix.NFTA_SET_NAME:
			name = cstr(v)
		case unix.NFTA_SET_FLAGS:
			s.flags = beU32(v)
		case unix.NFTA_SET_KEY_TYPE:
			s.keyType = beU32(v)
		case unix.NFTA_SET_KEY_LEN:
			s.keyLen = beU32(v)
		case unix.NFTA_SET_DATA_TYPE:
			s.dataType = beU32(v)
		case unix.NFTA_SET_DESC:
			attrs(v, func(typ uint16, v []byte) bool {
				if typ == unix.NFTA_SET_DESC_SIZE {
					s.size = beU32(v)
				}
				return true
			})
		case unix.NFTA_SET_TIMEOUT:
			s.timeout = !allZero(v)
		}
		return true
	})
	if table == TableName {
		a.sets[in(t.table, name)] = s
	}
}

func (a *actualSet) take(data []byte) {
	attrs(data, func(typ uint16, v []byte) bool {
		if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return true
		}
		attrs(v, func(_ uint16, v []byte) bool {
			a.takeElem(v)
			a.shown++
			return true
		})
		return true
	})
}

// takeElem reads one element. Anything on it that we never put there, such as
// a timeout or another verdict than jump, makes its target differ.
func (a *actualSet) takeElem(data []byte) {
	var p place
	var target, note string
	attrs(data, func(typ uint16, v []byte) bool {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			attrs(v, func(_ uint16, v []byte) bool {
				p.key = string(v)
				return true
			})
		case nftaSetElemKeyEnd:
			attrs(v, func(_ uint16, v []byte) bool {
				p.last = string(v)
				return true
			})
		case unix.NFTA_SET_ELEM_FLAGS:
			p.end = beU32(v)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_DATA:
			attrs(v, func(typ uint16, v []byte) bool {
				if typ == unix.NFTA_DATA_VERDICT {
					target = verdictText(v)
				} else {
					target = string(v)
				}
				return true
			})
		case unix.NFTA_SET_ELEM_USERDATA:
			note = commentOf(udataComment, v)
		case unix.NFTA_SET_ELEM_PAD:
		default:
			target += "?"
		}
		return true
	})
	a.elems[p] = elemValue(target, note)
}

// verdictText is the chain of a jump, or what shows that it is none.
func verdictText(data []byte) string {
	code, chain := readVerdict(data)
	if code != nftJump {
		return fmt.Sprintf("verdict %d %s", code, chain)
	}
	return chain
}

// readVerdict reads a verdict, and the chain that it leads to, if it does.
func readVerdict(data []byte) (code int32, chain string) {
	attrs(data, func(typ uint16, v []byte) bool {
		switch typ {
		case unix.NFTA_VERDICT_CODE:
			code = int32(beU32(v))
		case unix.NFTA_VERDICT_CHAIN:
			chain = cstr(v)
		}
		return true
	})
	return code, chain
}
