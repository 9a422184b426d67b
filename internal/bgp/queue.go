// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/muslin-net/muslin/internal/prefixmap"
)

// prefixQueue is prefixes in the order in which they came, and since when each waits. One may be in it more
// than once: who takes it out looks at what it is then, and to look twice costs
// less than to look whether it is there each time. But what is added again and
// again while nobody takes does not make it grow. The zero value is empty.
type prefixQueue struct {
	pages [][]packedPrefix // all but the last are full
	first int              // of the first page, so many are taken
	n     int
	limit int // beyond it, and fewRepeats, repetitions are dropped
}

const (
	// queuePage is the size of a page: 96 KiB.
	queuePage = 4096
	// fewRepeats is how many may wait before it is worth to look for repetitions:
	// 12 MB.
	fewRepeats = 128 * queuePage
)

// packedPrefix is a prefix without a pointer that the collector would follow.
type packedPrefix struct {
	hi, lo uint64
	since  tick
	bits   uint8
	is4    bool
}

// tick is a time in the room that a packed prefix has left: so many ticks after
// the start of the engine, and from the beginning again after half a day. 0 is no time.
type tick uint32

const tickTime = 10 * time.Microsecond

// tickAt is the tick that is so long after the start.
func tickAt(d time.Duration) tick { return max(1, tick(d/tickTime)) }

// until is the time from t to a later tick, less than half a day.
func (t tick) until(now tick) time.Duration { return time.Duration(now-t) * tickTime }

func pack(p netip.Prefix, since tick) packedPrefix {
	a := p.Addr()
	if a.Is4() {
		b := a.As4()
		return packedPrefix{lo: uint64(binary.BigEndian.Uint32(b[:])), since: since, bits: uint8(p.Bits()), is4: true}
	}
	b := a.As16()
	return packedPrefix{hi: binary.BigEndian.Uint64(b[:8]), lo: binary.BigEndian.Uint64(b[8:]), since: since, bits: uint8(p.Bits())}
}

func (p packedPrefix) prefix() netip.Prefix {
	if p.is4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(p.lo))
		return netip.PrefixFrom(netip.AddrFrom4(b), int(p.bits))
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], p.hi)
	binary.BigEndian.PutUint64(b[8:], p.lo)
	return netip.PrefixFrom(netip.AddrFrom16(b), int(p.bits))
}

func (q *prefixQueue) len() int { return q.n }

func (q *prefixQueue) add(p netip.Prefix, since tick) {
	if q.n >= max(q.limit, fewRepeats) {
		q.thin()
		q.limit = 2 * q.n
	}
	last := len(q.pages) - 1
	if last < 0 || len(q.pages[last]) == queuePage {
		q.pages = append(q.pages, make([]packedPrefix, 0, queuePage))
		last++
	}
	q.pages[last] = append(q.pages[last], pack(p, since))
	q.n++
}

// take returns the first prefix of a queue that is not empty.
func (q *prefixQueue) take() (netip.Prefix, tick) {
	p := q.pages[0][q.first]
	q.first++
	q.n--
	switch {
	case q.n == 0:
		q.pages, q.first = append(q.pages[:0], q.pages[len(q.pages)-1][:0]), 0
	case q.first == queuePage:
		q.pages[0] = nil
		q.pages, q.first = q.pages[1:], 0
	}
	return p.prefix(), p.since
}

// thin drops what is in the queue a second time.
func (q *prefixQueue) thin() {
	var seen prefixmap.Map[struct{}]
	thinned := prefixQueue{limit: q.n} // has room for all
	for q.n > 0 {
		p, since := q.take()
		if _, had := seen.Slot(p); !had {
			thinned.add(p, since)
		}
	}
	q.pages, q.first, q.n = thinned.pages, 0, thinned.n
}
