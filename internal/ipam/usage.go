// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// PoolUse is how full a pool is.
type PoolUse struct {
	Name   string
	CIDR   netip.Prefix
	Blocks []BlockUse // in address order
}

// BlockUse is how full a block is: Size = InUse + Cooling + Free + Lost.
type BlockUse struct {
	CIDR    netip.Prefix
	Owner   Owner // empty if nobody's
	Size    int
	InUse   int
	Cooling int // released, but not free yet
	Free    int
	Lost    int // neither allocated nor in the queue of free ones
}

// Utilisation reports every pool, in the order given. Blocks and pools that
// cannot be read are left out and named in the error, which comes beside the
// result for the rest.
func (a *Allocator) Utilisation(ctx context.Context, pools []*v3.IPPool) ([]PoolUse, error) {
	var errs []error
	all := map[netip.Prefix]*Block{}
	for _, f := range []Family{IPv4, IPv6} {
		good, bad, err := a.blocks(ctx, f)
		errs = append(errs, err)
		for _, err := range bad {
			errs = append(errs, err)
		}
		maps.Copy(all, good)
	}
	order := slices.SortedFunc(maps.Keys(all), netip.Prefix.Compare)
	var out []PoolUse
	for _, raw := range pools {
		p, err := ParsePool(raw)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		u := PoolUse{Name: p.Name, CIDR: p.CIDR}
		for _, cidr := range order {
			if p.CIDR.Contains(cidr.Addr()) {
				u.Blocks = append(u.Blocks, all[cidr].use())
			}
		}
		out = append(out, u)
	}
	return out, errors.Join(errs...)
}

func (b *Block) use() BlockUse {
	u := BlockUse{CIDR: b.CIDR, Owner: b.Affinity, Size: len(b.Allocations), Free: len(b.Unallocated)}
	for _, o := range b.All() {
		if o.Cooling {
			u.Cooling++
		} else {
			u.InUse++
		}
	}
	u.Lost = u.Size - u.InUse - u.Cooling - u.Free
	return u
}
