// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// ReleaseIPs gives addresses back and returns those that nobody had. The
// addresses of one block go together: if a guard of one does not hold, none
// of that block is released and the error, ErrGuard, says which. Failures of
// blocks are joined; the other blocks are done. A block without an owner that
// becomes empty is deleted; one with an owner stays.
func (a *Allocator) ReleaseIPs(ctx context.Context, list []Release) (unallocated []netip.Addr, err error) {
	byBlock := map[netip.Prefix][]Release{}
	var errs []error
	for _, r := range list {
		r.Addr = r.Addr.Unmap().WithZone("")
		cidr, ok, err := a.find(ctx, r.Addr, byBlock)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !ok:
			unallocated = append(unallocated, r.Addr)
		default:
			byBlock[cidr] = append(byBlock[cidr], r)
		}
	}
	for cidr, rs := range byBlock {
		none, err := a.put(ctx, cidr, rs)
		unallocated = append(unallocated, none...)
		errs = append(errs, err)
	}
	slices.SortFunc(unallocated, netip.Addr.Compare)
	return unallocated, errors.Join(errs...)
}

// find returns the block that has an address. The pool, and with it the block
// size, may be gone, so the possible sizes are tried, the usual one first.
func (a *Allocator) find(ctx context.Context, addr netip.Addr, known map[netip.Prefix][]Release) (netip.Prefix, bool, error) {
	if !addr.IsValid() {
		return netip.Prefix{}, false, errors.New("release: an address is not valid")
	}
	most := addr.BitLen()
	sizes := []int{most - 6}
	for bits := most; bits >= most-12; bits-- {
		if bits != most-6 {
			sizes = append(sizes, bits)
		}
	}
	for _, bits := range sizes {
		if cidr := netip.PrefixFrom(addr, bits).Masked(); known[cidr] != nil {
			return cidr, true, nil
		}
	}
	for _, bits := range sizes {
		cidr := netip.PrefixFrom(addr, bits).Masked()
		_, err := a.kv.Get(ctx, BlockKey(cidr))
		if err == nil {
			return cidr, true, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return netip.Prefix{}, false, fmt.Errorf("read block %s: %w", cidr, err)
		}
	}
	return netip.Prefix{}, false, nil
}

// put releases addresses of one block and lowers the handles' counts after.
func (a *Allocator) put(ctx context.Context, cidr netip.Prefix, rs []Release) (unallocated []netip.Addr, err error) {
	var freed map[string]int
	err = retry(ctx, fmt.Sprintf("release from block %s", cidr), func() error {
		freed, unallocated = nil, nil
		b, rev, err := a.block(ctx, cidr)
		if errors.Is(err, ErrNotFound) {
			for _, r := range rs {
				unallocated = append(unallocated, r.Addr)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if freed, unallocated, err = b.Put(rs); err != nil || len(freed) == 0 {
			return err
		}
		if b.Affinity == "" && b.Empty() {
			return lost(a.kv.Delete(ctx, BlockKey(cidr), rev))
		}
		return lost(a.writeBlock(ctx, b, rev))
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	for handle, n := range freed {
		if err := a.addToHandle(ctx, handle, cidr, -n); err != nil {
			// The addresses are free; the count is an upper bound.
			a.log.Warn("handle count is not lowered", "handle", handle, "block", cidr, "err", err)
		}
	}
	return unallocated, nil
}

// ReleaseByHandle gives back everything a handle has and removes the handle.
// It returns the addresses released; none, and no error, if there is no such
// handle. Failures of blocks are joined; the other blocks are done.
func (a *Allocator) ReleaseByHandle(ctx context.Context, id string) (released []netip.Addr, err error) {
	h, err := a.handle(ctx, id)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, cidr := range h.Sorted() {
		got, err := a.putHandle(ctx, cidr, id)
		released = append(released, got...)
		errs = append(errs, err)
	}
	return released, errors.Join(errs...)
}

// handle reads a handle; one that is not there has no blocks.
func (a *Allocator) handle(ctx context.Context, id string) (Handle, error) {
	key, err := HandleKey(id)
	if err != nil {
		return Handle{}, err
	}
	e, err := a.kv.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return Handle{}, nil
	}
	if err != nil {
		return Handle{}, fmt.Errorf("read handle %q: %w", id, err)
	}
	h, err := DecodeHandle(e.Value)
	if err != nil {
		return Handle{}, fmt.Errorf("%q: %w", id, err)
	}
	return h, nil
}

// putHandle releases a handle's addresses in one block and takes the block out
// of the handle, whatever its count was. The block is written even if the
// handle has nothing in it: a write of an allocation that is on its way, and
// that the count announced, then fails instead of coming after us.
func (a *Allocator) putHandle(ctx context.Context, cidr netip.Prefix, id string) (released []netip.Addr, err error) {
	err = retry(ctx, fmt.Sprintf("release handle %q from block %s", id, cidr), func() error {
		b, rev, err := a.block(ctx, cidr)
		if errors.Is(err, ErrNotFound) {
			released = nil
			return nil
		}
		if err != nil {
			return err
		}
		released = b.ByHandle(id)
		var rs []Release
		for _, addr := range released {
			rs = append(rs, Release{Addr: addr, Handle: id})
		}
		if _, _, err := b.Put(rs); err != nil {
			return err
		}
		if b.Affinity == "" && b.Empty() {
			return lost(a.kv.Delete(ctx, BlockKey(cidr), rev))
		}
		return lost(a.writeBlock(ctx, b, rev))
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	return released, a.editHandle(ctx, id, func(h *Handle) { delete(h.Blocks, cidr) })
}

// IPsByHandle returns the addresses a handle has, in order; none, and no
// error, if there is no such handle.
func (a *Allocator) IPsByHandle(ctx context.Context, id string) ([]netip.Addr, error) {
	h, err := a.handle(ctx, id)
	if err != nil {
		return nil, err
	}
	var list []netip.Addr
	for _, cidr := range h.Sorted() {
		b, _, err := a.block(ctx, cidr)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, b.ByHandle(id)...)
	}
	return list, nil
}
