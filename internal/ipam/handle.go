// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Handle is the value of a handle key: how many addresses its owner holds in
// each block. A count is an upper bound: it is raised before the block is
// written and lowered after, and a writer may die in between.
type Handle struct {
	Blocks  map[netip.Prefix]int
	Deleted bool
	// unread keeps entries whose key is not a prefix.
	unread map[string]int
	others members
}

// DecodeHandle reads the value of a handle key.
func DecodeHandle(b []byte) (Handle, error) {
	h := Handle{Blocks: map[netip.Prefix]int{}}
	m, err := decodeObject(b)
	if err != nil {
		return Handle{}, fmt.Errorf("handle: %w", err)
	}
	var counts map[string]int
	take(m, "block", &counts, &err)
	take(m, "deleted", &h.Deleted, &err)
	if err != nil {
		return Handle{}, fmt.Errorf("handle: %w", err)
	}
	for text, n := range counts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			if h.unread == nil {
				h.unread = map[string]int{}
			}
			h.unread[text] = n
			continue
		}
		h.Blocks[p.Masked()] += n
	}
	h.others = m
	return h, nil
}

// Encode returns the JSON to store.
func (h Handle) Encode() ([]byte, error) {
	counts := make(map[string]int, len(h.Blocks)+len(h.unread))
	maps.Copy(counts, h.unread)
	for p, n := range h.Blocks {
		counts[p.String()] = n
	}
	var o object
	o.set("block", counts)
	o.set("deleted", h.Deleted)
	return o.end(h.others)
}

// Add changes the count of a block by n. A count never goes below zero; at
// zero the block leaves the handle.
func (h *Handle) Add(cidr netip.Prefix, n int) {
	if h.Blocks == nil {
		h.Blocks = map[netip.Prefix]int{}
	}
	if h.Blocks[cidr] += n; h.Blocks[cidr] <= 0 {
		delete(h.Blocks, cidr)
	}
}

// Empty tells whether no block is left, so that the key should go.
func (h Handle) Empty() bool { return len(h.Blocks)+len(h.unread) == 0 }

// Sorted returns the blocks in address order.
func (h Handle) Sorted() []netip.Prefix {
	return slices.SortedFunc(maps.Keys(h.Blocks), netip.Prefix.Compare)
}
