// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strconv"
)

// nodeAttr is the record member that says on which node an address is used.
const nodeAttr = "node"

// ErrAssigned is what an *AssignedError is.
var ErrAssigned = errors.New("address is already assigned")

// AssignedError tells who holds an address that was asked for by name.
type AssignedError struct {
	Addr   netip.Addr
	Handle string // empty if the holder gave none
	// Cooling is true when nobody holds it but it was released only lately.
	Cooling bool
}

func (e *AssignedError) Error() string {
	switch {
	case e.Cooling:
		return fmt.Sprintf("address %s was released a short time ago and is not free yet", e.Addr)
	case e.Handle == "":
		return fmt.Sprintf("address %s is already assigned, without a handle; release the address itself first", e.Addr)
	}
	return fmt.Sprintf("address %s is already assigned to handle %q; release that first", e.Addr, e.Handle)
}

// Is makes errors.Is(err, ErrAssigned) true.
func (e *AssignedError) Is(target error) bool { return target == ErrAssigned }

// Release names one address to give back. A Handle or a Sequence guards
// against releasing what has been given to another owner meanwhile.
type Release struct {
	Addr     netip.Addr
	Handle   string  // "" does not check
	Sequence *uint64 // nil does not check; else the Sequence at allocation
}

// Owned is one address that is not free, as a block has it.
type Owned struct {
	Addr      netip.Addr
	Handle    string
	Secondary map[string]string
	Sequence  uint64 // of the block at allocation
	Cooling   bool   // released, but not free yet
}

// Take allocates up to n addresses from the head of the queue and returns
// them; fewer when fewer are free.
func (b *Block) Take(n int, handle string, attrs map[string]string) []netip.Addr {
	n = min(n, len(b.Unallocated))
	if n <= 0 {
		return nil
	}
	rec := b.record(handle, attrs)
	got := make([]netip.Addr, 0, n)
	for _, ord := range b.Unallocated[:n] {
		b.set(ord, rec)
		got = append(got, b.Addr(ord))
	}
	b.Unallocated = append([]int(nil), b.Unallocated[n:]...)
	return got
}

// TakeAddr allocates one address by name. The error is an *AssignedError if
// somebody has it.
func (b *Block) TakeAddr(a netip.Addr, handle string, attrs map[string]string) error {
	ord, ok := b.Ordinal(a)
	if !ok {
		return fmt.Errorf("address %s is not in block %s", a, b.CIDR)
	}
	if r := b.Allocations[ord]; r != free {
		rec := b.Records[r]
		return &AssignedError{Addr: a, Handle: rec.Handle, Cooling: !rec.ReleasedAt.IsZero()}
	}
	b.Unallocated = deleteOrdinal(b.Unallocated, ord)
	b.set(ord, b.record(handle, attrs))
	return nil
}

// HandOver gives an address that one handle has to another, and tells whether it was not that one's already. The
// error is an *AssignedError if neither has it, and if nobody does it is taken as TakeAddr does.
func (b *Block) HandOver(a netip.Addr, from, to string, attrs map[string]string) (changed bool, err error) {
	o, held := b.Owned(a)
	switch {
	case !held:
		return true, b.TakeAddr(a, to, attrs)
	case o.Cooling || o.Handle != from && o.Handle != to:
		return false, &AssignedError{Addr: a, Handle: o.Handle, Cooling: o.Cooling}
	case o.Handle == to:
		return false, nil
	}
	ord, _ := b.Ordinal(a)
	b.set(ord, b.record(to, attrs))
	b.prune()
	return true, nil
}

func (b *Block) set(ord, rec int) {
	b.Allocations[ord] = rec
	if b.AllocatedAt == nil {
		b.AllocatedAt = map[string]uint64{}
	}
	b.AllocatedAt[strconv.Itoa(ord)] = b.Sequence
}

func deleteOrdinal(s []int, ord int) []int {
	out := make([]int, 0, len(s))
	for _, o := range s {
		if o != ord {
			out = append(out, o)
		}
	}
	return out
}

// record returns the index of the record of an owner, adding it if no equal
// one is there. A record with members that others added is not shared.
func (b *Block) record(handle string, attrs map[string]string) int {
	for i, r := range b.Records {
		if r.Handle == handle && r.ReleasedAt.IsZero() && len(r.others) == 0 && maps.Equal(r.Secondary, attrs) {
			return i
		}
	}
	b.Records = append(b.Records, Record{Handle: handle, Secondary: maps.Clone(attrs)})
	return len(b.Records) - 1
}

// Put gives addresses back. It returns how many each handle lost (the empty
// handle included) and the addresses that nobody had. If a guard does not
// hold, nothing is released at all and the error, a *GuardError, says which.
func (b *Block) Put(list []Release) (lost map[string]int, unallocated []netip.Addr, err error) {
	var ords []int
	for _, r := range list {
		o, ok := b.Owned(r.Addr)
		if !ok || o.Cooling {
			unallocated = append(unallocated, r.Addr)
			continue
		}
		if r.Handle != "" && r.Handle != o.Handle {
			return nil, nil, &GuardError{Addr: r.Addr, Holder: o.Handle, BadHandle: true}
		}
		if r.Sequence != nil && *r.Sequence != o.Sequence {
			return nil, nil, &GuardError{Addr: r.Addr, Holder: o.Handle}
		}
		ord, _ := b.Ordinal(r.Addr)
		ords = append(ords, ord)
	}
	lost = map[string]int{}
	for _, ord := range ords {
		if b.Allocations[ord] == free {
			continue // named twice
		}
		lost[b.Records[b.Allocations[ord]].Handle]++
		b.Allocations[ord] = free
		delete(b.AllocatedAt, strconv.Itoa(ord))
		b.Unallocated = append(b.Unallocated, ord)
	}
	b.prune()
	return lost, unallocated, nil
}

// ErrGuard is what a *GuardError is.
var ErrGuard = errors.New("address has another owner now")

// GuardError tells that an address was not released because it belongs to
// somebody else than the caller believes.
type GuardError struct {
	Addr      netip.Addr
	Holder    string // handle of the present owner
	BadHandle bool   // else the sequence number differs
}

func (e *GuardError) Error() string {
	what := "sequence number"
	if e.BadHandle {
		what = "handle"
	}
	return fmt.Sprintf("address %s is not released: %s differs, it belongs to handle %q now", e.Addr, what, e.Holder)
}

// Is makes errors.Is(err, ErrGuard) true.
func (e *GuardError) Is(target error) bool { return target == ErrGuard }

// prune drops records that no ordinal refers to and renumbers the others.
func (b *Block) prune() {
	to := make([]int, len(b.Records))
	for i := range to {
		to[i] = free
	}
	for _, r := range b.Allocations {
		if r != free {
			to[r] = 0
		}
	}
	var kept []Record
	for i := range to {
		if to[i] != free {
			to[i] = len(kept)
			kept = append(kept, b.Records[i])
		}
	}
	for i, r := range b.Allocations {
		if r != free {
			b.Allocations[i] = to[r]
		}
	}
	b.Records = kept
}

// Owned returns who has an address; false if it is free or outside.
func (b *Block) Owned(a netip.Addr) (Owned, bool) {
	ord, ok := b.Ordinal(a)
	if !ok || b.Allocations[ord] == free {
		return Owned{}, false
	}
	return b.owned(ord), true
}

func (b *Block) owned(ord int) Owned {
	r := b.Records[b.Allocations[ord]]
	return Owned{
		Addr: b.Addr(ord), Handle: r.Handle, Secondary: r.Secondary,
		Sequence: b.AllocatedAt[strconv.Itoa(ord)], Cooling: !r.ReleasedAt.IsZero(),
	}
}

// All returns every address that is not free, in order, those that cool down
// included.
func (b *Block) All() []Owned {
	var all []Owned
	for ord, r := range b.Allocations {
		if r != free {
			all = append(all, b.owned(ord))
		}
	}
	return all
}

// ByHandle returns the addresses a handle has, in order.
func (b *Block) ByHandle(handle string) []netip.Addr {
	var list []netip.Addr
	for _, o := range b.All() {
		if o.Handle == handle && !o.Cooling {
			list = append(list, o.Addr)
		}
	}
	return list
}

// Empty tells whether no address is in use or cools down.
func (b *Block) Empty() bool {
	for _, r := range b.Allocations {
		if r != free {
			return false
		}
	}
	return true
}
