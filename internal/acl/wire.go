// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"cmp"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Attributes and flags of linux/netfilter/nf_tables.h that x/sys/unix lacks.
const (
	nftaTableOwner    = 7  // NFTA_TABLE_OWNER
	nftaChainFlags    = 10 // NFTA_CHAIN_FLAGS
	nftaChainUserdata = 12 // NFTA_CHAIN_USERDATA
	nftaSetElemKeyEnd = 10 // NFTA_SET_ELEM_KEY_END
	nftTableOwner     = 0x2
	setConcat         = 0x80 // NFT_SET_CONCAT
	setDescConcat     = 2    // NFTA_SET_DESC_CONCAT
	setFieldLen       = 1    // NFTA_SET_FIELD_LEN

	nlaTypeMask = 0x3fff // NLA_TYPE_MASK
	maxElems    = 60000  // bytes of elements per message: an attribute holds < 64 KiB
)

// Types of records in the user data of chains, rules and sets, as nft(8) writes
// and shows them.
const (
	udataComment      = 0
	udataSetByteOrder = 0
	udataSetComment   = 7
)

// buf builds netlink attributes in place. Numbers are big endian, as nf_tables
// wants them.
type buf []byte

// begin opens a nested attribute and returns the place to pass to end.
func (b *buf) begin(typ uint16) int {
	at := len(*b)
	b.head(typ|unix.NLA_F_NESTED, 0)
	return at
}

// end closes the attribute opened at the place.
func (b *buf) end(at int) {
	binary.NativeEndian.PutUint16((*b)[at:], uint16(len(*b)-at))
}

// head begins an attribute of n bytes.
func (b *buf) head(typ uint16, n int) {
	*b = binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(*b, uint16(4+n)), typ)
}

func (b *buf) attr(typ uint16, data []byte) {
	b.head(typ, len(data))
	*b = append(*b, data...)
	b.pad()
}

func (b *buf) pad() {
	for len(*b)%4 != 0 {
		*b = append(*b, 0)
	}
}

func (b *buf) str(typ uint16, s string) {
	b.head(typ, len(s)+1)
	*b = append(append(*b, s...), 0)
	b.pad()
}

func (b *buf) u32(typ uint16, v uint32) {
	b.head(typ, 4)
	*b = binary.BigEndian.AppendUint32(*b, v)
}

// attrs calls f for each attribute in data until f returns false. Malformed
// data ends the walk: the kernel is trusted to frame what it sends.
func attrs(data []byte, f func(typ uint16, v []byte) bool) {
	for typ, v, rest, ok := cutAttr(data); ok && f(typ, v); typ, v, rest, ok = cutAttr(rest) {
	}
}

// attr is the first attribute of a type, nil if there is none.
func attr(data []byte, typ uint16) (found []byte) {
	attrs(data, func(t uint16, v []byte) bool {
		if t == typ {
			found = v
		}
		return found == nil
	})
	return found
}

// cutAttr takes the first attribute off data.
func cutAttr(data []byte) (typ uint16, v, rest []byte, ok bool) {
	if len(data) < 4 {
		return 0, nil, nil, false
	}
	n := int(binary.NativeEndian.Uint16(data))
	if n < 4 || n > len(data) {
		return 0, nil, nil, false
	}
	return binary.NativeEndian.Uint16(data[2:]) & nlaTypeMask, data[4:n], data[min((n+3)&^3, len(data)):], true
}

// cstr is the text of a string attribute, which may end in NUL.
func cstr(v []byte) string {
	for len(v) > 0 && v[len(v)-1] == 0 {
		v = v[:len(v)-1]
	}
	return string(v)
}

func beU32(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

// msgs is a run of netlink messages, each remembered with the object on whose
// behalf it is sent, so that a refusal by the kernel can be blamed.
type msgs struct {
	table  string // the name of the table, if it is not TableName
	data   buf
	starts []int
	owners []string
}

// nfnl header: nlmsghdr (16) and nfgenmsg (4).
const hdrLen = 20

// begin opens a message of an nf_tables type about one of our tables; close it
// with end.
func (m *msgs) begin(owner string, table byte, typ uint16, flags uint16) {
	m.header(owner, unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags, table, 0)
}

// about opens a message about a chain or a set, of which nameAttr is the name.
func (m *msgs) about(owner, name string, typ, flags, nameAttr uint16) {
	table, name := home(name)
	m.begin(owner, table, typ, flags)
	m.data.str(tableAttr, cmp.Or(m.table, TableName))
	m.data.str(nameAttr, name)
}

// tableAttr is the name of the table, in messages about every kind of object.
const tableAttr = 1

func (m *msgs) header(owner string, typ, flags uint16, family byte, resID uint16) {
	at := len(m.data)
	m.starts = append(m.starts, at)
	m.owners = append(m.owners, owner)
	m.data = append(m.data, make([]byte, hdrLen)...)
	h := m.data[at:]
	binary.NativeEndian.PutUint16(h[4:], typ)
	binary.NativeEndian.PutUint16(h[6:], flags|unix.NLM_F_REQUEST)
	h[16] = family
	binary.BigEndian.PutUint16(h[18:], resID)
}

func (m *msgs) end() {
	at := m.starts[len(m.starts)-1]
	binary.NativeEndian.PutUint32(m.data[at:], uint32(len(m.data)-at))
}

func (m *msgs) append(o *msgs) {
	off := len(m.data)
	m.data = append(m.data, o.data...)
	for _, s := range o.starts {
		m.starts = append(m.starts, s+off)
	}
	m.owners = append(m.owners, o.owners...)
}

func (m *msgs) addTable(table byte, flags uint32) {
	m.begin("", table, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	m.data.str(tableAttr, TableName)
	m.data.u32(unix.NFTA_TABLE_FLAGS, flags)
	m.end()
}

func (m *msgs) delTable(table byte) {
	m.begin("", table, unix.NFT_MSG_DELTABLE, 0)
	m.data.str(tableAttr, TableName)
	m.end()
}

// kind is the type of a base chain.
func (h *hook) kind() string {
	if h.nat {
		return "nat"
	}
	return "filter"
}

func (m *msgs) addChain(c *chain) {
	m.about(c.owner, c.name, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, unix.NFTA_CHAIN_NAME)
	if h := c.hook; h != nil {
		at := m.data.begin(unix.NFTA_CHAIN_HOOK)
		m.data.u32(unix.NFTA_HOOK_HOOKNUM, h.num)
		m.data.u32(unix.NFTA_HOOK_PRIORITY, uint32(h.priority))
		h.putDevice(&m.data)
		m.data.end(at)
		m.data.u32(unix.NFTA_CHAIN_POLICY, nfAccept)
		m.data.str(unix.NFTA_CHAIN_TYPE, h.kind())
	}
	if c.comment != "" {
		m.data.attr(nftaChainUserdata, userdata(udataComment, c.comment))
	}
	m.end()
}

func (m *msgs) chainVerb(owner, name string, typ, nameAttr uint16) {
	m.about(owner, name, typ, 0, nameAttr)
	m.end()
}

func (m *msgs) delChain(owner, name string) {
	m.chainVerb(owner, name, unix.NFT_MSG_DELCHAIN, unix.NFTA_CHAIN_NAME)
}

// flushChain deletes every rule of the chain.
func (m *msgs) flushChain(owner, name string) {
	m.chainVerb(owner, name, unix.NFT_MSG_DELRULE, unix.NFTA_RULE_CHAIN)
}

func (m *msgs) addRule(owner, chain string, r *rule) {
	m.about(owner, chain, unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, unix.NFTA_RULE_CHAIN)
	at := m.data.begin(unix.NFTA_RULE_EXPRESSIONS)
	m.data = append(m.data, r.exprs...)
	m.data.end(at)
	if r.comment != "" {
		m.data.attr(unix.NFTA_RULE_USERDATA, userdata(udataComment, r.comment))
	}
	m.end()
}

func (m *msgs) addSet(s *set, id uint32) {
	m.about(s.owner(), s.name, unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, unix.NFTA_SET_NAME)
	m.data.u32(unix.NFTA_SET_FLAGS, s.typ.flags)
	m.data.u32(unix.NFTA_SET_KEY_TYPE, s.typ.keyType)
	m.data.u32(unix.NFTA_SET_KEY_LEN, s.typ.keyLen)
	if s.typ.flags&unix.NFT_SET_MAP != 0 {
		m.data.u32(unix.NFTA_SET_DATA_TYPE, s.typ.dataType)
		if s.typ.dataType != typeVerdict {
			m.data.u32(unix.NFTA_SET_DATA_LEN, s.typ.dataLen())
		}
	}
	if s.typ.size > 0 {
		desc := m.data.begin(unix.NFTA_SET_DESC)
		m.data.u32(unix.NFTA_SET_DESC_SIZE, s.typ.size)
		m.data.end(desc)
	}
	if s.typ.flags&setConcat != 0 {
		desc := m.data.begin(unix.NFTA_SET_DESC)
		list := m.data.begin(setDescConcat)
		for _, n := range fieldLengths(s.typ.keyType) {
			at := m.data.begin(unix.NFTA_LIST_ELEM)
			m.data.u32(setFieldLen, n)
			m.data.end(at)
		}
		m.data.end(list)
		m.data.end(desc)
	}
	m.data.u32(unix.NFTA_SET_ID, id)
	var data []byte
	if s.typ.keyType == typeIfname {
		data = append(data, udataSetByteOrder, 4)
		data = binary.NativeEndian.AppendUint32(data, 1) // the host's: nft(8) then shows names
	}
	if s.comment != "" {
		data = append(data, userdata(udataSetComment, s.comment)...)
	}
	if data != nil {
		m.data.attr(unix.NFTA_SET_USERDATA, data)
	}
	m.end()
}

func (m *msgs) delSet(owner, name string) {
	m.about(owner, name, unix.NFT_MSG_DELSET, 0, unix.NFTA_SET_NAME)
	m.end()
}

// elems writes messages of the type (NFT_MSG_NEWSETELEM or NFT_MSG_DELSETELEM)
// for the elements, as many as their size needs.
func (m *msgs) elems(typ uint16, set string, es []elem) {
	verdicts := leadsIn(set)
	flags := uint16(0)
	if typ == unix.NFT_MSG_NEWSETELEM {
		flags = unix.NLM_F_CREATE
	}
	for i := 0; i < len(es); {
		owner := es[i].owner
		m.about(owner, set, typ, flags, unix.NFTA_SET_ELEM_LIST_SET)
		list := m.data.begin(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		for ; i < len(es) && es[i].owner == owner && len(m.data)-list < maxElems; i++ {
			e := &es[i]
			at := m.data.begin(unix.NFTA_LIST_ELEM)
			k := m.data.begin(unix.NFTA_SET_ELEM_KEY)
			m.data.attr(unix.NFTA_DATA_VALUE, []byte(e.key))
			m.data.end(k)
			if e.last != "" {
				k := m.data.begin(nftaSetElemKeyEnd)
				m.data.attr(unix.NFTA_DATA_VALUE, []byte(e.last))
				m.data.end(k)
			}
			if e.end {
				m.data.u32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
			}
			if e.target != "" && typ == unix.NFT_MSG_NEWSETELEM {
				d := m.data.begin(unix.NFTA_SET_ELEM_DATA)
				if verdicts {
					m.data.verdict(nftJump, e.target)
				} else {
					m.data.attr(unix.NFTA_DATA_VALUE, []byte(e.target))
				}
				m.data.end(d)
			}
			if e.note != "" && typ == unix.NFT_MSG_NEWSETELEM {
				m.data.attr(unix.NFTA_SET_ELEM_USERDATA, userdata(udataComment, e.note))
			}
			m.data.end(at)
		}
		m.data.end(list)
		m.end()
	}
}

func (b *buf) verdict(code int32, chain string) {
	at := b.begin(unix.NFTA_DATA_VERDICT)
	b.u32(unix.NFTA_VERDICT_CODE, uint32(code))
	if chain != "" {
		b.str(unix.NFTA_VERDICT_CHAIN, chain)
	}
	b.end(at)
}

// userdata is one type-length-value record holding a comment.
func userdata(typ byte, comment string) []byte {
	out := make([]byte, 0, len(comment)+3)
	out = append(out, typ, byte(len(comment)+1))
	out = append(out, comment...)
	return append(out, 0)
}

// commentOf finds the comment in user data.
func commentOf(typ byte, data []byte) string {
	for len(data) >= 2 {
		n := int(data[1])
		if len(data) < 2+n {
			return ""
		}
		if data[0] == typ {
			return cstr(data[2 : 2+n])
		}
		data = data[2+n:]
	}
	return ""
}
