// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Verdict codes of linux/netfilter.h and nf_tables.h.
const (
	nfDrop    = 0
	nfAccept  = 1
	nftJump   = -3
	nftGoto   = -4
	nftReturn = -5
)

// Registers. The first 16 byte register holds the first part of a key; the
// parts of a concatenation follow each other in steps of four bytes, which
// have names of their own where they do not start a 16 byte register.
const (
	reg1 = unix.NFT_REG_1
	reg2 = unix.NFT_REG_2 // 16 bytes after reg1: behind an interface name or an IPv6 address
)

// register is the name of one by its distance from the first, in fours of bytes, as the
// kernel shows it.
func register(at uint32) uint32 {
	if at%4 == 0 {
		return unix.NFT_REG_1 + at/4
	}
	return unix.NFT_REG32_00 + at
}

// Bits of ct state, in host byte order.
const (
	ctInvalid     = 1
	ctEstablished = 2
	ctRelated     = 4
	ctUntracked   = 64
)

// rule is a rule ready to be sent.
type rule struct {
	exprs   []byte // content of NFTA_RULE_EXPRESSIONS
	comment string
	text    string // nft-like, when it was asked for
	sum     sum
	from    origin
}

// sum identifies the content of a rule: its normalised expressions and comment.
type sum [16]byte

func ruleSum(exprs []byte, comment string) sum {
	room := sumRooms.Get().(*[]byte)
	*room = append(canonExprs((*room)[:0], exprs), comment...)
	full := sha256.Sum256(*room)
	sumRooms.Put(room)
	return sum(full[:16])
}

// sumRooms are used again: a change renders hundreds of rules, and the garbage that
// these made was most of what the slowest changes waited for.
var sumRooms = sync.Pool{New: func() any { return new([]byte) }}

// rb builds one rule: its expressions and, if wanted, its text. A method that
// matches ends the rule for a packet that does not.
type rb struct {
	b     buf
	words []string
	text  bool
}

func (r *rb) say(format string, args ...any) *rb {
	if r.text {
		r.words = append(r.words, fmt.Sprintf(format, args...))
	}
	return r
}

func (r *rb) done(comment string) *rule {
	return &rule{exprs: r.b, comment: comment, text: strings.Join(r.words, " "), sum: ruleSum(r.b, comment)}
}

// expr appends one expression whose attributes f writes.
func (r *rb) expr(name string, f func(b *buf)) {
	at := r.b.begin(unix.NFTA_LIST_ELEM)
	r.b.str(unix.NFTA_EXPR_NAME, name)
	d := r.b.begin(unix.NFTA_EXPR_DATA)
	f(&r.b)
	r.b.end(d)
	r.b.end(at)
}

func (b *buf) value(typ uint16, v []byte) {
	at := b.begin(typ)
	b.attr(unix.NFTA_DATA_VALUE, v)
	b.end(at)
}

func (r *rb) load(key expr.MetaKey, reg uint32) {
	r.expr("meta", func(b *buf) {
		b.u32(unix.NFTA_META_DREG, reg)
		b.u32(unix.NFTA_META_KEY, uint32(key))
	})
}

func (r *rb) payload(base expr.PayloadBase, off, n, reg uint32) {
	r.expr("payload", func(b *buf) {
		b.u32(unix.NFTA_PAYLOAD_DREG, reg)
		b.u32(unix.NFTA_PAYLOAD_BASE, uint32(base))
		b.u32(unix.NFTA_PAYLOAD_OFFSET, off)
		b.u32(unix.NFTA_PAYLOAD_LEN, n)
	})
}

func (r *rb) cmp(op expr.CmpOp, data []byte) {
	r.expr("cmp", func(b *buf) {
		b.u32(unix.NFTA_CMP_SREG, reg1)
		b.u32(unix.NFTA_CMP_OP, uint32(op))
		b.value(unix.NFTA_CMP_DATA, data)
	})
}

func (r *rb) mask(mask []byte) {
	r.expr("bitwise", func(b *buf) {
		b.u32(unix.NFTA_BITWISE_SREG, reg1)
		b.u32(unix.NFTA_BITWISE_DREG, reg1)
		b.u32(unix.NFTA_BITWISE_LEN, uint32(len(mask)))
		b.value(unix.NFTA_BITWISE_MASK, mask)
		b.value(unix.NFTA_BITWISE_XOR, make([]byte, len(mask)))
	})
}

func (r *rb) in(set string, not bool) {
	r.expr("lookup", func(b *buf) {
		b.str(unix.NFTA_LOOKUP_SET, bare(set))
		b.u32(unix.NFTA_LOOKUP_SREG, reg1)
		if not {
			b.u32(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV)
		}
	})
}

func (r *rb) verdict(code int32, chain string) {
	r.expr("immediate", func(b *buf) {
		b.u32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		at := b.begin(unix.NFTA_IMMEDIATE_DATA)
		b.verdict(code, bare(chain))
		b.end(at)
	})
}

func (r *rb) accept() *rb       { r.verdict(nfAccept, ""); return r.say("accept") }
func (r *rb) drop() *rb         { r.verdict(nfDrop, ""); return r.say("drop") }
func (r *rb) ret() *rb          { r.verdict(nftReturn, ""); return r.say("return") }
func (r *rb) jump(c string) *rb { r.verdict(nftJump, c); return r.say("jump %s", bare(c)) }
func (r *rb) goTo(c string) *rb { r.verdict(nftGoto, c); return r.say("goto %s", bare(c)) }

// counter counts the packets that get so far.
func (r *rb) counter() *rb {
	r.expr("counter", func(*buf) {})
	return r.say("counter")
}

// prefixed matches interfaces whose name starts with the prefix. key is
// MetaKeyIIFNAME or MetaKeyOIFNAME.
func (r *rb) prefixed(key expr.MetaKey, prefix string) *rb {
	r.load(key, reg1)
	r.cmp(expr.CmpOpEq, []byte(prefix))
	return r.say("%s \"%s*\"", ifWord(key), prefix)
}

func ifWord(key expr.MetaKey) string {
	if key == expr.MetaKeyOIFNAME {
		return "oifname"
	}
	return "iifname"
}

func (r *rb) iifIn(set string) *rb { return r.ifIn(expr.MetaKeyIIFNAME, set) }

func (r *rb) ifIn(key expr.MetaKey, set string) *rb {
	r.load(key, reg1)
	r.in(set, false)
	return r.say("%s @%s", ifWord(key), set)
}

// dispatch goes to the chain that the map has for the effective policy of the
// interface; a packet of an interface without one continues.
//
// What setPolicy leads to is 32 bytes, of which the second half, in reg2, is
// looked up in turn. The interface is loaded into reg2 before only for nft(8)
// 1.0.6, which dies listing a lookup of what a lookup gave; it takes this for
// a lookup of the interface.
func (r *rb) dispatch(key expr.MetaKey, set string) *rb {
	r.load(key, reg1)
	r.load(key, reg2)
	r.lookup(setPolicy, reg1, reg1)
	r.lookup(set, reg2, unix.NFT_REG_VERDICT)
	return r.say("%s map @%s vmap @%s", ifWord(key), setPolicy, set)
}

func (r *rb) lookup(set string, key, into uint32) {
	r.expr("lookup", func(b *buf) {
		b.str(unix.NFTA_LOOKUP_SET, bare(set))
		b.u32(unix.NFTA_LOOKUP_SREG, key)
		b.u32(unix.NFTA_LOOKUP_DREG, into)
	})
}

// family is what differs between IPv4 and IPv6.
type family struct {
	v        int    // 4 or 6
	proto    byte   // NFPROTO_*
	word     string // ip or ip6
	bytes    uint32 // length of an address
	src, dst uint32 // offsets in the header
	next     uint32 // that of the protocol that follows
	nextWord string
	icmp     uint8
	icmpWord string
	addrType uint32 // nft's data type
}

var (
	ipv4 = &family{4, unix.NFPROTO_IPV4, "ip", 4, 12, 16, 9, "protocol", unix.IPPROTO_ICMP, "icmp", typeIPv4}
	ipv6 = &family{6, unix.NFPROTO_IPV6, "ip6", 16, 8, 24, 6, "nexthdr", unix.IPPROTO_ICMPV6, "icmpv6", typeIPv6}
)

func familyOf(a netip.Addr) *family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

// is matches the packets of the family.
func (r *rb) is(f *family) *rb {
	r.load(expr.MetaKeyNFPROTO, reg1)
	r.cmp(expr.CmpOpEq, []byte{f.proto})
	return r.say("meta nfproto ipv%d", f.v)
}

// version matches the packets of the family by their headers: these are looked into in
// place, where the kernel calls a function for is.
func (r *rb) version(f *family) *rb {
	r.payload(expr.PayloadBaseNetworkHeader, 0, 4, reg1)
	r.mask([]byte{0xf0, 0, 0, 0})
	r.cmp(expr.CmpOpEq, []byte{byte(f.v) << 4, 0, 0, 0})
	return r.say("%s version %d", f.word, f.v)
}

func (r *rb) l4proto(op expr.CmpOp, proto uint8) *rb {
	r.load(expr.MetaKeyL4PROTO, reg1)
	r.cmp(op, []byte{proto})
	return r.say("meta l4proto %s%d", opWord(op), proto)
}

func opWord(op expr.CmpOp) string {
	if op == expr.CmpOpNeq {
		return "!= "
	}
	return ""
}

func cmpOp(not bool) expr.CmpOp {
	if not {
		return expr.CmpOpNeq
	}
	return expr.CmpOpEq
}

func notWord(not bool) string { return opWord(cmpOp(not)) }

// end is one end of a packet.
type end struct {
	word string // saddr or daddr
	port string // sport or dport
	src  bool
}

var (
	source      = end{"saddr", "sport", true}
	destination = end{"daddr", "dport", false}
)

func (e end) addrOff(f *family) uint32 {
	if e.src {
		return f.src
	}
	return f.dst
}

func (e end) portOff() uint32 {
	if e.src {
		return 0
	}
	return 2
}

// addrIn matches an address in a set of its family.
func (r *rb) addrIn(f *family, e end, s *set, not bool) *rb {
	reg := uint32(reg1)
	if s.in != "" {
		r.name(s.part)
		reg = reg2
	}
	r.payload(expr.PayloadBaseNetworkHeader, e.addrOff(f), f.bytes, reg)
	r.in(s.kernel(), not)
	if !r.text { // which is made of parts, for each rule there is
		return r
	}
	return r.say("%s%s %s %s@%s", s.prefix(), f.word, e.word, notWord(not), s.kernel())
}

// name loads the 16 bytes that the elements of a part begin with.
func (r *rb) name(part string) {
	r.expr("immediate", func(b *buf) {
		b.u32(unix.NFTA_IMMEDIATE_DREG, reg1)
		b.value(unix.NFTA_IMMEDIATE_DATA, []byte(part))
	})
}

// addr matches an address within a prefix of at least one bit.
func (r *rb) addr(f *family, e end, p netip.Prefix, not bool) *rb {
	a := p.Masked().Addr().AsSlice()
	n := uint32(p.Bits()+7) / 8
	r.payload(expr.PayloadBaseNetworkHeader, e.addrOff(f), n, reg1)
	if rest := p.Bits() % 8; rest != 0 {
		m := make([]byte, n)
		for i := range m {
			m[i] = 0xff
		}
		m[n-1] = 0xff << (8 - rest)
		r.mask(m)
	}
	r.cmp(cmpOp(not), a[:n])
	return r.say("%s %s %s%s", f.word, e.word, notWord(not), p)
}

// bothEnds loads source and destination, as pairs of addresses are looked up by.
func (r *rb) bothEnds(f *family) {
	r.payload(expr.PayloadBaseNetworkHeader, f.src, f.bytes, reg1)
	second := uint32(unix.NFT_REG32_01) // an IPv4 address fills a quarter of reg1
	if f == ipv6 {
		second = reg2
	}
	r.payload(expr.PayloadBaseNetworkHeader, f.dst, f.bytes, second)
}

// portIn matches a port in a set of ports.
func (r *rb) portIn(e end, set string, not bool) *rb {
	r.payload(expr.PayloadBaseTransportHeader, e.portOff(), 2, reg1)
	r.in(set, not)
	return r.say("th %s %s@%s", e.port, notWord(not), set)
}

// portRange matches a port between two, which may be equal.
func (r *rb) portRange(e end, lo, hi uint16, not bool) *rb {
	r.payload(expr.PayloadBaseTransportHeader, e.portOff(), 2, reg1)
	if lo == hi {
		r.cmp(cmpOp(not), binary.BigEndian.AppendUint16(nil, lo))
		return r.say("th %s %s%d", e.port, notWord(not), lo)
	}
	r.between(binary.BigEndian.AppendUint16(nil, lo), binary.BigEndian.AppendUint16(nil, hi), not)
	return r.say("th %s %s%d-%d", e.port, notWord(not), lo, hi)
}

func (r *rb) between(lo, hi []byte, not bool) {
	op := uint32(unix.NFT_RANGE_EQ)
	if not {
		op = unix.NFT_RANGE_NEQ
	}
	r.expr("range", func(b *buf) {
		b.u32(unix.NFTA_RANGE_SREG, reg1)
		b.u32(unix.NFTA_RANGE_OP, op)
		b.value(unix.NFTA_RANGE_FROM_DATA, lo)
		b.value(unix.NFTA_RANGE_TO_DATA, hi)
	})
}

// endIn matches (address, protocol, port) of one end in a set of such.
func (r *rb) endIn(f *family, e end, set string, not bool) *rb {
	// The address fills one or four registers of four bytes; protocol and
	// port follow in one each.
	proto, port := uint32(unix.NFT_REG32_01), uint32(unix.NFT_REG32_02)
	if f.v == 6 {
		proto, port = reg2, unix.NFT_REG32_05
	}
	r.payload(expr.PayloadBaseNetworkHeader, e.addrOff(f), f.bytes, reg1)
	r.load(expr.MetaKeyL4PROTO, proto)
	r.payload(expr.PayloadBaseTransportHeader, e.portOff(), 2, port)
	r.in(set, not)
	return r.say("%s %s . meta l4proto . th %s %s@%s", f.word, e.word, e.port, notWord(not), set)
}

// portsNot matches a port that is none of a few. Comparisons of what is loaded once cost
// less than a lookup.
func (r *rb) portsNot(e end, ports []uint16) *rb {
	r.payload(expr.PayloadBaseTransportHeader, e.portOff(), 2, reg1)
	for _, p := range ports {
		r.cmp(expr.CmpOpNeq, binary.BigEndian.AppendUint16(nil, p))
		r.say("th %s != %d", e.port, p)
	}
	return r
}

// protoIn matches the transport protocol in a set.
func (r *rb) protoIn(set string) *rb {
	r.load(expr.MetaKeyL4PROTO, reg1)
	r.in(set, false)
	return r.say("meta l4proto @%s", set)
}

// icmpBytes compares the bytes at the start of the ICMP header.
func (r *rb) icmpBytes(f *family, off uint32, data []byte, not bool) *rb {
	r.payload(expr.PayloadBaseTransportHeader, off, uint32(len(data)), reg1)
	r.cmp(cmpOp(not), data)
	what := "type"
	switch {
	case len(data) == 2:
		return r.say("%s type . code %s%d . %d", f.icmpWord, notWord(not), data[0], data[1])
	case off == 1:
		what = "code"
	}
	return r.say("%s %s %s%d", f.icmpWord, what, notWord(not), data[0])
}

// icmpTypeIn matches the ICMP type in a set.
func (r *rb) icmpTypeIn(f *family, set string) *rb {
	r.payload(expr.PayloadBaseTransportHeader, 0, 1, reg1)
	r.in(set, false)
	return r.say("%s type @%s", f.icmpWord, set)
}

// iifAnd matches (input interface, source) in a set of such. The source is
// read by off and n from the header.
func (r *rb) iifAnd(base expr.PayloadBase, off, n uint32, word, set string) *rb {
	r.load(expr.MetaKeyIIFNAME, reg1)
	r.payload(base, off, n, reg2)
	r.in(set, false)
	return r.say("iifname . %s @%s", word, bare(set))
}

func (r *rb) hopLimit(n byte) *rb {
	r.payload(expr.PayloadBaseNetworkHeader, 7, 1, reg1)
	r.cmp(expr.CmpOpEq, []byte{n})
	return r.say("ip6 hoplimit %d", n)
}

func (r *rb) ctState(mask uint32, words string) *rb {
	r.expr("ct", func(b *buf) {
		b.u32(unix.NFTA_CT_DREG, reg1)
		b.u32(unix.NFTA_CT_KEY, uint32(expr.CtKeySTATE))
	})
	r.mask(binary.NativeEndian.AppendUint32(nil, mask))
	r.cmp(expr.CmpOpNeq, make([]byte, 4))
	return r.say("ct state %s", words)
}

// ctReply matches packets that go the other way than the first of their connection.
func (r *rb) ctReply() *rb {
	r.expr("ct", func(b *buf) {
		b.u32(unix.NFTA_CT_DREG, reg1)
		b.u32(unix.NFTA_CT_KEY, uint32(expr.CtKeyDIRECTION))
	})
	r.cmp(expr.CmpOpEq, []byte{1})
	return r.say("ct direction reply")
}

func (r *rb) loadMark() {
	r.expr("ct", func(b *buf) {
		b.u32(unix.NFTA_CT_DREG, reg1)
		b.u32(unix.NFTA_CT_KEY, uint32(expr.CtKeyMARK))
	})
}

// ctMarkIs matches connections by the bits of their mark that are in a mask.
func (r *rb) ctMarkIs(mask, bits uint32, not bool) *rb {
	r.loadMark()
	r.mask(binary.NativeEndian.AppendUint32(nil, mask))
	r.cmp(cmpOp(not), binary.NativeEndian.AppendUint32(nil, bits))
	return r.say("ct mark & %#08x %s %#08x", mask, map[bool]string{false: "==", true: "!="}[not], bits)
}

// ctMarkIn matches connections by the bits of their mark that are in a mask, in
// a set of such.
func (r *rb) ctMarkIn(mask uint32, set string) *rb {
	r.loadMark()
	r.mask(binary.NativeEndian.AppendUint32(nil, mask))
	r.in(set, false)
	return r.say("ct mark & %#08x @%s", mask, set)
}

// ctSetMark leaves the bits of the mark that are in keep as they are, and sets
// others.
func (r *rb) ctSetMark(keep, bits uint32) *rb {
	r.loadMark()
	r.expr("bitwise", func(b *buf) {
		b.u32(unix.NFTA_BITWISE_SREG, reg1)
		b.u32(unix.NFTA_BITWISE_DREG, reg1)
		b.u32(unix.NFTA_BITWISE_LEN, 4)
		b.value(unix.NFTA_BITWISE_MASK, binary.NativeEndian.AppendUint32(nil, keep))
		b.value(unix.NFTA_BITWISE_XOR, binary.NativeEndian.AppendUint32(nil, bits))
	})
	r.expr("ct", func(b *buf) {
		b.u32(unix.NFTA_CT_KEY, uint32(expr.CtKeyMARK))
		b.u32(unix.NFTA_CT_SREG, reg1)
	})
	return r.say("ct mark set ct mark & %#08x | %#08x", keep, bits)
}

// reversePath matches packets whose source is routed to where they came from.
func (r *rb) reversePath() *rb {
	r.expr("fib", func(b *buf) {
		b.u32(unix.NFTA_FIB_DREG, reg1)
		b.u32(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_OIF)
		b.u32(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_SADDR|unix.NFTA_FIB_F_IIF|unix.NFTA_FIB_F_PRESENT)
	})
	r.cmp(expr.CmpOpEq, []byte{1})
	return r.say("fib saddr . iif oif exists")
}

// log writes the packet to the kernel's log at level notice and goes on.
func (r *rb) log(prefix string) *rb {
	r.expr("log", func(b *buf) {
		b.str(unix.NFTA_LOG_PREFIX, prefix)
		b.u32(unix.NFTA_LOG_LEVEL, 5)
	})
	return r.say("log prefix %q level notice", prefix)
}
