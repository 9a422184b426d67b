// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What only the chains of host endpoints match and do.

// dnat matches connections whose destination was translated, or, with not, those
// whose was not. A packet of no connection matches neither.
func (r *rb) dnat(not bool) *rb {
	op := expr.CmpOpNeq
	if not {
		op = expr.CmpOpEq
	}
	r.expr("ct", func(b *buf) {
		b.u32(unix.NFTA_CT_DREG, reg1)
		b.u32(unix.NFTA_CT_KEY, uint32(expr.CtKeySTATUS))
	})
	r.mask(binary.NativeEndian.AppendUint32(nil, statusDNAT))
	r.cmp(op, make([]byte, 4))
	return r.say("ct status %sdnat", notWord(not))
}

// setMark sets, or clears, bits of the packet's mark.
func (r *rb) setMark(bits uint32, on bool) *rb {
	r.load(expr.MetaKeyMARK, reg1)
	xor := uint32(0)
	word := "& ~"
	if on {
		xor, word = bits, "| "
	}
	r.expr("bitwise", func(b *buf) {
		b.u32(unix.NFTA_BITWISE_SREG, reg1)
		b.u32(unix.NFTA_BITWISE_DREG, reg1)
		b.u32(unix.NFTA_BITWISE_LEN, 4)
		b.value(unix.NFTA_BITWISE_MASK, binary.NativeEndian.AppendUint32(nil, ^bits))
		b.value(unix.NFTA_BITWISE_XOR, binary.NativeEndian.AppendUint32(nil, xor))
	})
	r.expr("meta", func(b *buf) {
		b.u32(unix.NFTA_META_KEY, uint32(expr.MetaKeyMARK))
		b.u32(unix.NFTA_META_SREG, reg1)
	})
	return r.say("meta mark set meta mark %s%#08x", word, bits)
}

// marked matches packets whose mark has all bits of a mask.
func (r *rb) marked(mask uint32) *rb {
	r.load(expr.MetaKeyMARK, reg1)
	r.mask(binary.NativeEndian.AppendUint32(nil, mask))
	r.cmp(expr.CmpOpEq, binary.NativeEndian.AppendUint32(nil, mask))
	return r.say("meta mark & %#08x == %#08x", mask, mask)
}

// forwarded matches, after routing, packets that came in by an interface.
func (r *rb) forwarded() *rb {
	r.load(expr.MetaKeyIIF, reg1)
	r.cmp(expr.CmpOpNeq, make([]byte, 4))
	return r.say("meta iif != 0")
}

// on matches an interface by its name.
func (r *rb) on(key expr.MetaKey, name string) *rb {
	r.load(key, reg1)
	r.cmp(expr.CmpOpEq, []byte(ifKey(name)))
	return r.say("%s %q", ifWord(key), name)
}

func (r *rb) notrack() *rb {
	r.expr("notrack", func(*buf) {})
	return r.say("notrack")
}

// servicePort matches protocol and port of one end in a set of services.
func (r *rb) servicePort(e end, set string) *rb {
	r.load(expr.MetaKeyL4PROTO, reg1)
	r.payload(expr.PayloadBaseTransportHeader, e.portOff(), 2, unix.NFT_REG32_01)
	r.in(set, false)
	return r.say("meta l4proto . th %s @%s", e.port, set)
}
