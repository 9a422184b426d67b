// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"iter"
	"net/netip"
	"time"
)

// Long walks in short steps. A table of half a million prefixes cannot be
// listed while the loop waits, and a copy of it would cost as much as the table.
// So it is read page by page, each a turn of the loop, and the next page is
// found by where the last one ended: what comes and goes meanwhile is seen or
// not, and every prefix that stays is seen once.

// ordered is a table that can be walked in order.
type ordered[V any] interface {
	All() iter.Seq2[netip.Prefix, V]
	All6() iter.Seq2[netip.Prefix, V]
	Within(netip.Prefix) iter.Seq2[netip.Prefix, V]
}

// cursor is a place in a table's order, which is that of All: IPv4
// before IPv6, by address, the shorter of two prefixes first.
type cursor struct {
	within netip.Prefix // only what is inside; invalid: everything
	last   netip.Prefix // seen already; invalid: at the beginning
	done   bool
}

// pageTime is for how long a page may keep the loop from its work, and
// pageStep how often the time is looked at.
const (
	pageTime = time.Millisecond
	pageStep = 64
)

// page calls visit with the next prefixes of t until limit of them were
// visited, or the time is up.
func page[V any](t ordered[V], c *cursor, limit int, visit func(netip.Prefix, V)) {
	start := time.Now()
	n := 0
	for prefix, v := range following(t, c.within, c.last) {
		visit(prefix, v)
		c.last = prefix
		if n++; n >= limit || n%pageStep == 0 && time.Since(start) > pageTime {
			return
		}
	}
	c.done = true
}

// following yields what comes after last inside of within.
func following[V any](t ordered[V], within, last netip.Prefix) iter.Seq2[netip.Prefix, V] {
	if !last.IsValid() {
		if within.IsValid() {
			return t.Within(within)
		}
		return t.All()
	}
	top := 0
	if within.IsValid() {
		top = within.Bits()
	}
	return func(yield func(netip.Prefix, V) bool) {
		for prefix, v := range t.Within(last) {
			if prefix != last && !yield(prefix, v) {
				return
			}
		}
		// What else follows is in the right halves on the way up: they are
		// disjoint, and none has a supernet that was not passed already.
		for bits := last.Bits(); bits > top; bits-- {
			right, ok := sibling(last.Addr(), bits)
			if !ok {
				continue
			}
			for prefix, v := range t.Within(right) {
				if !yield(prefix, v) {
					return
				}
			}
		}
		if last.Addr().Is4() && !within.IsValid() {
			for prefix, v := range t.All6() {
				if !yield(prefix, v) {
					return
				}
			}
		}
	}
}

// sibling is the right half of the network around a that is one bit wider than
// bits; not ok when a is in it.
func sibling(a netip.Addr, bits int) (netip.Prefix, bool) {
	raw := a.AsSlice()
	i, bit := (bits-1)/8, byte(0x80)>>((bits-1)%8)
	if raw[i]&bit != 0 {
		return netip.Prefix{}, false
	}
	raw[i] |= bit
	right, _ := netip.AddrFromSlice(raw)
	return netip.PrefixFrom(right, bits).Masked(), true
}
