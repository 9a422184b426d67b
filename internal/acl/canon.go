// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// A rule is compared with the kernel's by content, never by handle or
// comment alone: an edit in place keeps both. What is compared is the
// attributes of every expression, all of them, so that nothing an editor
// could change goes unseen. They are normalised, because the kernel returns
// them in its own order, states some defaults and leaves out others.

// dataAttrs names the attributes of each expression that hold nft_data.
var dataAttrs = map[string][]uint16{
	"cmp":       {unix.NFTA_CMP_DATA},
	"immediate": {unix.NFTA_IMMEDIATE_DATA},
	"bitwise":   {unix.NFTA_BITWISE_MASK, unix.NFTA_BITWISE_XOR},
	"range":     {unix.NFTA_RANGE_FROM_DATA, unix.NFTA_RANGE_TO_DATA},
}

// Attributes whose value of zero means the same as their absence, and the
// attribute that only makes sense inside a transaction.
var zeroAttrs = map[string][]uint16{
	"lookup":  {unix.NFTA_LOOKUP_FLAGS},
	"bitwise": {6 /* NFTA_BITWISE_OP */},
	"payload": {unix.NFTA_PAYLOAD_CSUM_FLAGS},
	"log":     {unix.NFTA_LOG_FLAGS},
}

// canonExprs appends the normalised form of the content of an
// NFTA_RULE_EXPRESSIONS attribute.
func canonExprs(out, exprs []byte) []byte {
	attrs(exprs, func(_ uint16, e []byte) bool {
		var name string
		var data []byte
		attrs(e, func(typ uint16, v []byte) bool {
			switch typ {
			case unix.NFTA_EXPR_NAME:
				name = cstr(v)
			case unix.NFTA_EXPR_DATA:
				data = v
			}
			return true
		})
		out = append(out, name...)
		out = append(out, '(')
		out = canonAttrs(out, data, name)
		out = append(out, ')')
		return true
	})
	return out
}

type rawAttr struct {
	typ uint16
	v   []byte
}

func canonAttrs(out, data []byte, name string) []byte {
	var list []rawAttr
	attrs(data, func(typ uint16, v []byte) bool {
		if name == "lookup" && typ == unix.NFTA_LOOKUP_SET_ID {
			return true
		}
		if slices.Contains(zeroAttrs[name], typ) && allZero(v) {
			return true
		}
		list = append(list, rawAttr{typ, v})
		return true
	})
	slices.SortStableFunc(list, func(a, b rawAttr) int { return int(a.typ) - int(b.typ) })
	for _, a := range list {
		v := a.v
		if slices.Contains(dataAttrs[name], a.typ) {
			v = canonAttrs(nil, v, "data")
		} else if name == "data" && a.typ == unix.NFTA_DATA_VERDICT {
			v = canonAttrs(nil, v, "verdict")
		}
		out = binary.BigEndian.AppendUint16(out, a.typ)
		out = binary.BigEndian.AppendUint16(out, uint16(len(v)))
		out = append(out, v...)
	}
	return out
}

func allZero(v []byte) bool {
	for _, b := range v {
		if b != 0 {
			return false
		}
	}
	return true
}
