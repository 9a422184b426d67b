// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"errors"
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
// The number of the epoch is a constant of two rules, by which all walks through
// policy end that accept, and two elements of setAccepted. A packet is among the
// rules of one commit from the begin of a walk to its end, so that what old rules
// accept has the old number, however late it is written, and whatever the new ones
// write beside: a direction has bits of its own, and of the other's a rule writes only
// what it has read there. To replace these rules and elements makes the kernel
// validate nothing: the rules have no verdict.
//
// Numbers come again when there are no more. A one-way flow that was silent meanwhile
// has been reviewed, and cut if need be: the bit for that is part of what is
// looked up.
const (
	markCut  = 1 << 31 // policy has come to deny it
	shiftOut = 22      // in which epoch the egress policy of where it comes from has accepted it
	shiftIn  = 13      // in which the ingress policy of where it goes to has
	epochs   = 511     // numbers of nine bits; 0 is never
)

// epoch is the number of one, from 1.
type epoch uint32

func (e epoch) next() epoch { return e%epochs + 1 }

func anyEpoch() epoch { return 1 + epoch(rand.Uint32N(epochs)) }

// freshEpoch is where a table begins, from start on: flows may have marks of one that was
// removed, or of one of another version, whose marks meant something else. No flow has
// its mark, in whatever direction; if each has been used, few have. Without connection
// tracking to be read it is start.
func (t *Table) freshEpoch(start epoch) epoch {
	var m msgs
	m.header("", ctMsgGet, unix.NLM_F_DUMP, unix.AF_UNSPEC, 0)
	m.end()
	var flows [epochs + 1]int
	err := t.sock.request(&m, true, func(data []byte) {
		attrs(data, func(typ uint16, v []byte) bool {
			if typ == ctaMark && len(v) == 4 {
				for _, d := range directions {
					flows[beU32(v)&markOf(d)>>shiftOf(d)]++
				}
			}
			return true
		})
	}, func() error { return nil })
	if err != nil && !errors.Is(err, errInterrupted) {
		t.opts.Log.Warn("which marks connections have is not known: one in a few hundred may pass until it is reviewed", "err", err)
	}
	best := start
	for e := start.next(); e != start; e = e.next() {
		if flows[e] < flows[best] {
			best = e
		}
	}
	return best
}

func shiftOf(d policy.Direction) int {
	if d == policy.Ingress {
		return shiftIn
	}
	return shiftOut
}

// markOf is the bits of a direction.
func markOf(d policy.Direction) uint32 { return epochs << shiftOf(d) }

// bits are those of a direction that has accepted in the epoch.
func (e epoch) bits(d policy.Direction) uint32 { return uint32(e) << shiftOf(d) }

const setAccepted = "accepted"

// chainEpoch is the chain in which a direction writes the epoch.
func chainEpoch(d policy.Direction) string {
	return "epoch-" + map[policy.Direction]string{policy.Egress: "out", policy.Ingress: "in"}[d]
}

func isEpoch(chain string) bool {
	return chain == chainEpoch(policy.Egress) || chain == chainEpoch(policy.Ingress)
}

// elems are what marks of the epoch are looked up as.
func (e epoch) elems() (out []elem) {
	for _, d := range directions {
		out = append(out, elem{key: string(binary.NativeEndian.AppendUint32(nil, e.bits(d)))})
	}
	return out
}

// rule gives a flow the epoch, accepted by a direction.
func (e epoch) rule(r *renderer, d policy.Direction) *rule {
	return r.rule().ctSetMark(^markOf(d), e.bits(d)).done("")
}

func (r *renderer) acceptChains() (out []*chain) {
	for _, d := range directions {
		mark := &chain{name: chainEpoch(d), comment: "of what has been accepted"}
		mark.add(r.epoch.rule(r, d))
		c := &chain{name: Acceptor(d)}
		c.add(r.rule().jump(mark.name).done(""))
		c.add(r.rule().accept().done(""))
		out = append(out, mark, c)
	}
	return out
}

// bump begins another epoch in a transaction.
func (t *tx) bump(was, now epoch, r *renderer) {
	for _, d := range directions {
		t.rules.flushChain("", chainEpoch(d))
		t.rules.addRule("", chainEpoch(d), now.rule(r, d))
	}
	t.elements.elems(unix.NFT_MSG_DELSETELEM, setAccepted, was.elems())
	t.elements.elems(unix.NFT_MSG_NEWSETELEM, setAccepted, now.elems())
}

// epoch reads what the kernel has; not ok if that is not one epoch in all places.
func (a *actual) epoch(r *renderer) (e epoch, ok bool) {
	set := a.sets[setAccepted]
	if set == nil || len(set.elems) != len(directions) {
		return 0, false
	}
	for p := range set.elems {
		if len(p.key) == 4 {
			e = max(e, epoch(binary.NativeEndian.Uint32([]byte(p.key))&markOf(policy.Egress)>>shiftOut))
		}
	}
	for _, x := range e.elems() {
		if value, known := set.elems[x.place()]; !known || value != "" {
			return 0, false
		}
	}
	for _, d := range directions {
		if c := a.chains[chainEpoch(d)]; c == nil || !slices.Equal(c.rules, []sum{e.rule(r, d).sum}) {
			return 0, false
		}
	}
	return e, e > 0
}
