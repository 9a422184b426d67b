// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"encoding/binary"
	"net/netip"
)

// note is the name of something that changed.
type note struct {
	kind uint8
	peer uint16
	ref  pathRef
}

const (
	noteSession  uint8 = iota // of peer; the event itself is kept beside
	noteReceived              // the path ref of peer
	noteSelected              // ref.prefix
)

// notes is a queue of notes in few octets: a host route of a peer takes seven
// for IPv4 and nineteen for IPv6, so that a table of 500,000 fits. The zero
// value is empty.
type notes struct {
	blocks [][]byte // the first one is read, the last one written
	read   int      // in the first block
	size   int      // octets in all blocks
}

const (
	// maxNotes bounds the octets that wait for one who does not read.
	maxNotes  = 16 << 20
	noteBlock = 32 << 10
	maxNote   = 1 + 3 + 5 + 1 + 16
)

func (q *notes) empty() bool { return len(q.blocks) == 0 }

// push reports false, and does nothing, when the queue is full.
func (q *notes) push(n note) bool {
	if q.size+maxNote > maxNotes {
		return false
	}
	if last := len(q.blocks) - 1; last < 0 || len(q.blocks[last])+maxNote > noteBlock {
		// The first block stays small: most queues never hold more than that.
		size := noteBlock
		if last < 0 {
			size = 512
		}
		q.blocks = append(q.blocks, make([]byte, 0, size))
	}
	last := len(q.blocks) - 1
	b := q.blocks[last]
	was := len(b)
	kind := n.kind << 1
	if n.kind != noteSession && n.ref.prefix.Addr().Is6() {
		kind |= 1
	}
	b = append(b, kind)
	if n.kind != noteSelected {
		b = binary.AppendUvarint(b, uint64(n.peer))
	}
	if n.kind == noteReceived {
		b = binary.AppendUvarint(b, uint64(n.ref.id))
	}
	if n.kind != noteSession {
		b = appendPrefix(b, n.ref.prefix)
	}
	q.blocks[last] = b
	q.size += len(b) - was
	return true
}

// pop takes the oldest note; there must be one.
func (q *notes) pop() (n note) {
	b := q.blocks[0][q.read:]
	was := len(b)
	n.kind = b[0] >> 1
	six := b[0]&1 != 0
	b = b[1:]
	uvarint := func() uint64 {
		v, l := binary.Uvarint(b)
		b = b[l:]
		return v
	}
	if n.kind != noteSelected {
		n.peer = uint16(uvarint())
	}
	if n.kind == noteReceived {
		n.ref.id = uint32(uvarint())
	}
	if n.kind != noteSession {
		bits := int(b[0])
		l := (bits + 7) / 8
		var a netip.Addr
		if six {
			var raw [16]byte
			copy(raw[:], b[1:1+l])
			a = netip.AddrFrom16(raw)
		} else {
			var raw [4]byte
			copy(raw[:], b[1:1+l])
			a = netip.AddrFrom4(raw)
		}
		n.ref.prefix = netip.PrefixFrom(a, bits)
		b = b[1+l:]
	}
	q.size -= was - len(b)
	q.read += was - len(b)
	if q.read == len(q.blocks[0]) {
		q.blocks, q.read = q.blocks[1:], 0
		if len(q.blocks) == 0 {
			q.blocks = nil
		}
	}
	return n
}
