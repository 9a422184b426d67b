// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/policy"
)

// A flow that policy has accepted says so in its connection's mark: by which
// direction of policy, and in which epoch of the table. What has the mark of the
// present epoch is accepted by that one lookup, whatever the state of the
// connection: a one-way flow never becomes established, and would ask policy for
// each packet. Every commit begins another epoch, so that such a flow asks again
// at once; one that both ends know goes on as established until it is reviewed,
// and is cut if it is denied now (Flows). So a mark never outlives what it was
// given for, and no flow asks for each packet.
//
// The epoch is a constant of the one rule in chainEpoch, which every walk through
// policy begins with, and two elements of setAccepted. A packet is among the
// rules of one commit from the begin of a walk to its end, so that what old rules
// accept has the old number, however late. To replace that rule and these
// elements makes the kernel validate nothing: the rule has no verdict.
//
// Numbers come again when markEpoch has gone round. A one-way flow that
// was silent meanwhile has been reviewed, and cut if need be: the bit for that
// is part of what is looked up.
const (
	markCut   = 1 << 31 // policy has come to deny it
	markOut   = 1 << 30 // accepted by the egress policy of where it comes from
	markIn    = 1 << 29 // accepted by the ingress policy of where it goes to
	markEpoch = 0x1ff << 20
)

// epoch is the number of one, from 0 to 511.
type epoch uint32

func (e epoch) bits() uint32 { return uint32(e) << 20 & markEpoch }
func (e epoch) next() epoch  { return (e + 1) % (markEpoch>>20 + 1) }

// anyEpoch is where a table begins: flows may have marks of one that was
// removed.
func anyEpoch() epoch {
	return epoch(rand.Uint32N(markEpoch>>20 + 1))
}

const (
	chainEpoch  = "epoch"
	setAccepted = "accepted"
)

func markOf(d policy.Direction) uint32 {
	if d == policy.Ingress {
		return markIn
	}
	return markOut
}

// elems are what marks of the generation are looked up as.
func (e epoch) elems() (out []elem) {
	for _, d := range directions {
		out = append(out, elem{key: string(binary.NativeEndian.AppendUint32(nil, markOf(d)|e.bits()))})
	}
	return out
}

// rule gives a flow the epoch, accepted by nobody yet, unless it has it.
func (e epoch) rule(r *renderer) *rule {
	return r.rule().ctMarkIs(markEpoch, e.bits(), true).ctSetMark(^uint32(markEpoch|markOut|markIn), e.bits()).done("")
}

func (r *renderer) acceptChains() []*chain {
	begin := &chain{name: chainEpoch, comment: "of what has been accepted"}
	begin.add(r.epoch.rule(r))
	out := []*chain{begin}
	for _, d := range directions {
		c := &chain{name: Acceptor(d)}
		c.add(r.rule().ctSetMark(^markOf(d), markOf(d)).done(""))
		c.add(r.rule().accept().done(""))
		out = append(out, c)
	}
	return out
}

// bump begins another epoch in a transaction.
func (t *tx) bump(was, now epoch, r *renderer) {
	t.rules.flushChain("", chainEpoch)
	t.rules.addRule("", chainEpoch, now.rule(r))
	t.elements.elems(unix.NFT_MSG_DELSETELEM, setAccepted, was.elems())
	t.elements.elems(unix.NFT_MSG_NEWSETELEM, setAccepted, now.elems())
}

// epoch reads what the kernel has; not ok if that is not one epoch in all places.
func (a *actual) epoch(r *renderer) (e epoch, ok bool) {
	set, c := a.sets[setAccepted], a.chains[chainEpoch]
	if set == nil || c == nil || len(set.elems) != len(directions) {
		return 0, false
	}
	for p := range set.elems {
		if len(p.key) == 4 {
			e = epoch(binary.NativeEndian.Uint32([]byte(p.key)) & markEpoch >> 20)
		}
	}
	for _, x := range e.elems() {
		if value, known := set.elems[x.place()]; !known || value != "" {
			return 0, false
		}
	}
	return e, slices.Equal(c.rules, []sum{e.rule(r).sum})
}
