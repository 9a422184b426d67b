// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"bytes"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// A rule is compared with the kernel's by content, never by handle or
// comment alone: an edit in place keeps both. What is compared is the
// attributes of every expression, all of them, so that nothing an editor
// could change goes unseen. They are normalised, because the kernel returns
// them in its own order, states some defaults and leaves out others.

// canonExprs appends the normalised form of the content of an
// NFTA_RULE_EXPRESSIONS attribute. It runs for every rule there is, twice at a
// start, and therefore allocates nothing.
func canonExprs(out, exprs []byte) []byte {
	for _, e, rest, ok := cutAttr(exprs); ok; _, e, rest, ok = cutAttr(rest) {
		out = canonExpr(out, e)
	}
	return out
}

func canonExpr(out, e []byte) []byte {
	var name, data []byte
	for typ, v, more, ok := cutAttr(e); ok; typ, v, more, ok = cutAttr(more) {
		switch typ {
		case unix.NFTA_EXPR_NAME:
			name = bytes.TrimRight(v, "\x00")
		case unix.NFTA_EXPR_DATA:
			data = v
		}
	}
	out = append(out, name...)
	out = append(out, '(')
	out = canonAttrs(out, data, exprKinds[string(name)])
	return append(out, ')')
}

// exprKind is what the attributes of one expression, or of a part of it, need.
type exprKind struct {
	zero    []uint16 // zero means the same as absence
	data    []uint16 // holds nft_data
	drop    uint16   // makes sense inside a transaction only
	verdict bool     // holds a verdict
	moves   bool     // changes with the traffic
	expr    uint16   // holds an expression
}

var exprKinds = map[string]*exprKind{
	"cmp":       {data: []uint16{unix.NFTA_CMP_DATA}},
	"immediate": {data: []uint16{unix.NFTA_IMMEDIATE_DATA}},
	"bitwise":   {data: []uint16{unix.NFTA_BITWISE_MASK, unix.NFTA_BITWISE_XOR}, zero: []uint16{6 /* NFTA_BITWISE_OP */}},
	"range":     {data: []uint16{unix.NFTA_RANGE_FROM_DATA, unix.NFTA_RANGE_TO_DATA}},
	"lookup":    {zero: []uint16{unix.NFTA_LOOKUP_FLAGS}, drop: unix.NFTA_LOOKUP_SET_ID},
	"payload":   {zero: []uint16{unix.NFTA_PAYLOAD_CSUM_TYPE, unix.NFTA_PAYLOAD_CSUM_OFFSET, unix.NFTA_PAYLOAD_CSUM_FLAGS}},
	"log":       {zero: []uint16{unix.NFTA_LOG_FLAGS}},
	"counter":   {moves: true},
	"dynset":    {zero: []uint16{unix.NFTA_DYNSET_FLAGS, unix.NFTA_DYNSET_PAD}, drop: unix.NFTA_DYNSET_SET_ID, expr: unix.NFTA_DYNSET_EXPR},
	"limit":     {zero: []uint16{unix.NFTA_LIMIT_TYPE, unix.NFTA_LIMIT_FLAGS}, drop: unix.NFTA_LIMIT_PAD},
}

var (
	plainKind = &exprKind{}
	dataKind  = &exprKind{verdict: true}
)

// canonAttrs appends attributes in the order of their types; those of equal
// type stay in the order they come in.
func canonAttrs(out, data []byte, k *exprKind) []byte {
	switch {
	case k == nil:
		k = plainKind
	case k.moves:
		return out
	}
	for next := 0; next >= 0; {
		typ := next
		next = -1
		for t, v, rest, ok := cutAttr(data); ok; t, v, rest, ok = cutAttr(rest) {
			if int(t) > typ && (next < 0 || int(t) < next) {
				next = int(t)
			}
			if int(t) != typ || k.drop != 0 && t == k.drop || slices.Contains(k.zero, t) && allZero(v) {
				continue
			}
			out = binary.BigEndian.AppendUint16(out, t)
			at := len(out)
			out = append(out, 0, 0)
			switch {
			case k.expr != 0 && t == k.expr:
				out = canonExpr(out, v)
			case slices.Contains(k.data, t):
				out = canonAttrs(out, v, dataKind)
			case k.verdict && t == unix.NFTA_DATA_VERDICT:
				out = canonAttrs(out, v, plainKind)
			default:
				out = append(out, v...)
			}
			binary.BigEndian.PutUint16(out[at:], uint16(len(out)-at-2))
		}
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
