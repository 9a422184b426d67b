// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// maxBlockBits bounds a block to 2^16 addresses, well above the largest one a
// pool may ask for, so that a stored value cannot make us allocate at will.
const maxBlockBits = 16

// blockBits are the lengths that the prefix of a block may have; Calico's are the same.
func blockBits(a netip.Addr) (least, most int) { return a.BitLen() - 12, a.BitLen() }

// CheckBlock says why a prefix can be no block; nil if it can.
func CheckBlock(p netip.Prefix) error {
	if least, most := blockBits(p.Addr()); p.Bits() < least || p.Bits() > most {
		return fmt.Errorf("%s can be no block: want a prefix of /%d–/%d", p, least, most)
	}
	return nil
}

// Block is the value of a block key: the state of all addresses of one prefix.
// Addresses are known by ordinal: their distance from the first. Every
// address may be handed out, the first and last included, because an endpoint
// is routed to and has no subnet. A Block is not safe for concurrent use.
type Block struct {
	CIDR     netip.Prefix
	Affinity Owner // who claims addresses here; empty is nobody
	// ClaimTime is when the affinity began; zero if unknown.
	ClaimTime time.Time
	// Allocations has one entry per ordinal: an index into Records, or free.
	Allocations []int
	// Unallocated is the queue of free ordinals: taken at the head, returned
	// at the tail, so that an address rests as long as possible.
	Unallocated []int
	Records     []Record
	// Sequence grows by one with every write of the block.
	Sequence uint64
	// AllocatedAt is, by ordinal in decimal, the Sequence at allocation.
	AllocatedAt map[string]uint64
	Deleted     bool
	others      members
}

// free is the entry of an ordinal without an owner.
const free = -1

// Record says to whom an address belongs. Several ordinals may share one.
type Record struct {
	Handle    string // empty if the owner gave none
	Secondary map[string]string
	// ReleasedAt is set while an address is out of use but not yet free.
	ReleasedAt time.Time
	others     members
}

// NewBlock returns an empty block that belongs to an owner from now on.
func NewBlock(cidr netip.Prefix, o Owner, now time.Time) *Block {
	b := &Block{
		CIDR: cidr, Affinity: o, ClaimTime: now.UTC().Truncate(time.Second),
		Sequence: uint64(now.UnixNano()), AllocatedAt: map[string]uint64{},
	}
	n := 1 << (cidr.Addr().BitLen() - cidr.Bits())
	b.Allocations, b.Unallocated = make([]int, n), make([]int, n)
	for i := range n {
		b.Allocations[i], b.Unallocated[i] = free, i
	}
	return b
}

// DecodeBlock reads the value of a block key and checks that its parts agree:
// a block that contradicts itself must not hand out addresses.
func DecodeBlock(v []byte) (*Block, error) {
	b, err := decodeBlock(v)
	if err != nil {
		if b != nil && b.CIDR.IsValid() {
			return nil, fmt.Errorf("block %s: %w", b.CIDR, err)
		}
		return nil, fmt.Errorf("block: %w", err)
	}
	return b, nil
}

func decodeBlock(v []byte) (*Block, error) {
	m, err := decodeObject(v)
	if err != nil {
		return nil, err
	}
	b := &Block{AllocatedAt: map[string]uint64{}}
	var cidr, legacyHost string
	var allocations []*int
	var records []json.RawMessage
	take(m, "cidr", &cidr, &err)
	if err == nil {
		b.CIDR, err = netip.ParsePrefix(cidr)
	}
	take(m, "affinity", &b.Affinity, &err)
	take(m, "hostAffinity", &legacyHost, &err)
	takeTime(m, "affinity_claim_time", &b.ClaimTime, &err)
	take(m, "allocations", &allocations, &err)
	take(m, "unallocated", &b.Unallocated, &err)
	take(m, "attributes", &records, &err)
	take(m, "sequenceNumber", &b.Sequence, &err)
	take(m, "sequenceNumberForAllocation", &b.AllocatedAt, &err)
	take(m, "deleted", &b.Deleted, &err)
	if err != nil {
		return b, err
	}
	b.others = m
	if b.Affinity == "" && legacyHost != "" {
		b.Affinity = HostOwner(legacyHost)
	}
	for i, raw := range records {
		r, err := decodeRecord(raw)
		if err != nil {
			return b, fmt.Errorf("member \"attributes\"[%d]: %w", i, err)
		}
		b.Records = append(b.Records, r)
	}
	b.Allocations = make([]int, len(allocations))
	for i, p := range allocations {
		b.Allocations[i] = free
		if p != nil {
			b.Allocations[i] = *p
		}
	}
	return b, b.check()
}

// check verifies what every operation relies on.
func (b *Block) check() error {
	host := b.CIDR.Addr().BitLen() - b.CIDR.Bits()
	switch {
	case b.CIDR != b.CIDR.Masked() || b.CIDR.Addr().Is4In6():
		return fmt.Errorf("member \"cidr\": want a prefix without host bits")
	case host > maxBlockBits:
		return fmt.Errorf("member \"cidr\": more than %d addresses", 1<<maxBlockBits)
	case len(b.Allocations) != 1<<host:
		return fmt.Errorf("member \"allocations\": %d entries for %d addresses", len(b.Allocations), 1<<host)
	}
	for i, r := range b.Allocations {
		if r != free && (r < 0 || r >= len(b.Records)) {
			return fmt.Errorf("member \"allocations\"[%d]: no attribute %d", i, r)
		}
	}
	seen := make([]bool, len(b.Allocations))
	for i, n := range b.Unallocated {
		switch {
		case n < 0 || n >= len(seen):
			return fmt.Errorf("member \"unallocated\"[%d]: no address %d", i, n)
		case seen[n]:
			return fmt.Errorf("member \"unallocated\"[%d]: address %d is there twice", i, n)
		case b.Allocations[n] != free:
			return fmt.Errorf("member \"unallocated\"[%d]: address %d is allocated", i, n)
		}
		seen[n] = true
	}
	return nil
}

func decodeRecord(raw []byte) (Record, error) {
	var r Record
	m, err := decodeObject(raw)
	if err != nil {
		return r, err
	}
	take(m, "handle_id", &r.Handle, &err)
	take(m, "secondary", &r.Secondary, &err)
	takeTime(m, "releasedAt", &r.ReleasedAt, &err)
	r.others = m
	return r, err
}

func (r Record) encode() ([]byte, error) {
	var o object
	if r.Handle != "" {
		o.set("handle_id", r.Handle)
	}
	if len(r.Secondary) != 0 {
		o.set("secondary", r.Secondary)
	}
	o.setTime("releasedAt", r.ReleasedAt)
	return o.end(r.others)
}

// Encode returns the JSON to store.
func (b *Block) Encode() ([]byte, error) {
	allocations := make([]*int, len(b.Allocations))
	for i := range b.Allocations {
		if b.Allocations[i] != free {
			allocations[i] = &b.Allocations[i]
		}
	}
	records := make([]json.RawMessage, len(b.Records))
	for i, r := range b.Records {
		raw, err := r.encode()
		if err != nil {
			return nil, fmt.Errorf("block %s: attribute %d: %w", b.CIDR, i, err)
		}
		records[i] = raw
	}
	var o object
	o.set("cidr", b.CIDR)
	if b.Affinity == "" {
		o.set("affinity", nil)
	} else {
		o.set("affinity", b.Affinity)
	}
	o.setTime("affinity_claim_time", b.ClaimTime)
	o.set("allocations", allocations)
	o.set("unallocated", nonNil(b.Unallocated))
	o.set("attributes", records)
	o.set("sequenceNumber", b.Sequence)
	o.set("sequenceNumberForAllocation", b.AllocatedAt)
	o.set("deleted", b.Deleted)
	v, err := o.end(b.others)
	if err != nil {
		return nil, fmt.Errorf("block %s: %w", b.CIDR, err)
	}
	return v, nil
}

func nonNil(s []int) []int {
	if s == nil {
		return []int{}
	}
	return s
}

// Addr returns the address with an ordinal of the block.
func (b *Block) Addr(ordinal int) netip.Addr {
	raw := b.CIDR.Addr().As16()
	// A block has at most 2^16 addresses and its base has that many zero bits
	// at the end, so there is no carry.
	raw[15] |= byte(ordinal)
	raw[14] |= byte(ordinal >> 8)
	a := netip.AddrFrom16(raw)
	if b.CIDR.Addr().Is4() {
		return a.Unmap()
	}
	return a
}

// Ordinal is the inverse of Addr; it is false for an address outside.
func (b *Block) Ordinal(a netip.Addr) (int, bool) {
	if !b.CIDR.Contains(a) {
		return 0, false
	}
	raw := a.As16()
	return (int(raw[14])<<8 | int(raw[15])) & (len(b.Allocations) - 1), true
}
