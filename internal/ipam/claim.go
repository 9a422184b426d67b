// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// reclaimAge is how long a block must have been another node's, and be empty,
// before it may be taken away: a claim that was just made is about to be used.
const reclaimAge = time.Minute

// BlockAffinity is one affinity as stored.
type BlockAffinity struct {
	Owner Owner
	CIDR  netip.Prefix
	State State
}

// affinities lists an owner's affinities of one family in key order. One that
// cannot be read counts as pending: claiming it anew writes it in full.
func (a *Allocator) affinities(ctx context.Context, o Owner, f Family) ([]BlockAffinity, error) {
	p, err := o.prefix()
	if err != nil {
		return nil, err
	}
	list, err := a.kv.List(ctx, p+"/"+f.segment())
	if err != nil {
		return nil, fmt.Errorf("list affinities of %s: %w", o, err)
	}
	var out []BlockAffinity
	for _, e := range list {
		by, cidr, ok := ParseAffinityKey(e.Key)
		if !ok || by != o {
			continue
		}
		af, err := DecodeAffinity(e.Value)
		if err != nil || af.Deleted {
			af.State = Pending
		}
		out = append(out, BlockAffinity{o, cidr, af.State})
	}
	return out, nil
}

// Affinities lists what an owner has claimed, both families, in any state.
func (a *Allocator) Affinities(ctx context.Context, o Owner) ([]BlockAffinity, error) {
	v4, err := a.affinities(ctx, o, IPv4)
	if err != nil {
		return nil, err
	}
	v6, err := a.affinities(ctx, o, IPv6)
	return append(v4, v6...), err
}

// ClaimAffinity makes a block the owner's: the affinity is written as pending,
// then the block, then the affinity as confirmed. It is idempotent and takes
// up what a call that died left. ErrClaimConflict, a *ClaimError, means that
// the block is somebody else's. The caller vouches that the prefix is a block
// of a pool.
func (a *Allocator) ClaimAffinity(ctx context.Context, o Owner, cidr netip.Prefix) error {
	key, err := AffinityKey(o, cidr)
	if err != nil {
		return err
	}
	if cidr != cidr.Masked() || cidr.Addr().BitLen()-cidr.Bits() > maxBlockBits {
		return fmt.Errorf("claim block %s: want a prefix of at most %d addresses without host bits", cidr, 1<<maxBlockBits)
	}
	return retry(ctx, fmt.Sprintf("claim block %s", cidr), func() error {
		e, settled, err := a.beginClaim(ctx, key)
		if err != nil {
			return fmt.Errorf("claim block %s: %w", cidr, err)
		}
		if err := a.claimBlock(ctx, o, cidr, settled); err != nil {
			if errors.Is(err, ErrClaimConflict) {
				// What we wrote as pending, and a confirmation that the block
				// contradicts, are both wrong. Losing the race for the deletion
				// means that someone else is at work on it.
				if err := a.kv.Delete(ctx, key, e.Revision); err != nil && !raced(err) {
					return fmt.Errorf("withdraw the claim on block %s: %w", cidr, err)
				}
			}
			return err
		}
		if settled {
			return nil
		}
		_, err = a.setState(ctx, e, Confirmed)
		return err
	})
}

// beginClaim makes sure that the affinity is there: confirmed (settled) if it
// was, else pending.
func (a *Allocator) beginClaim(ctx context.Context, key string) (e Entry, settled bool, err error) {
	e, err = a.kv.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		e = Entry{Key: key}
		if e.Value, err = (Affinity{State: Pending}).Encode(); err != nil {
			return e, false, err
		}
		e.Revision, err = a.kv.Create(ctx, key, e.Value)
		return e, false, lost(err)
	}
	if err != nil {
		return e, false, err
	}
	af, err := DecodeAffinity(e.Value)
	if err == nil && af.State == Confirmed && !af.Deleted {
		return e, true, nil
	}
	e, err = a.setState(ctx, e, Pending)
	return e, false, err
}

// claimBlock creates the block, or finds that it is the owner's already.
// settled tells that the affinity was confirmed before.
func (a *Allocator) claimBlock(ctx context.Context, o Owner, cidr netip.Prefix, settled bool) error {
	b := NewBlock(cidr, o, a.now())
	v, err := b.Encode()
	if err != nil {
		return err
	}
	_, err = a.kv.Create(ctx, BlockKey(cidr), v)
	if !errors.Is(err, ErrExists) {
		if err != nil {
			return fmt.Errorf("create block %s: %w", cidr, err)
		}
		return nil
	}
	b, rev, err := a.block(ctx, cidr)
	switch {
	case errors.Is(err, ErrNotFound):
		return errLost // it was there a moment ago
	case err != nil:
		return err
	case b.Affinity != o:
		return &ClaimError{Block: cidr, Holder: b.Affinity}
	case settled:
		return nil
	}
	// Someone may be releasing this block at this moment, having found it
	// empty. Writing it makes that deletion fail, so that the affinity that is
	// confirmed next has its block.
	return lost(a.writeBlock(ctx, b, rev))
}

// reclaimable tells whether another node's block may be taken away.
func (s *search) reclaimable(b *Block) bool {
	_, host := b.Affinity.Node()
	return host && b.Affinity != s.owner && b.Empty() && s.now().Sub(b.ClaimTime) > reclaimAge
}

// ReleaseAffinity gives up a block: the affinity becomes pendingDeletion, an
// empty block is deleted and one in use loses its owner, then the affinity
// goes. With mustBeEmpty a block in use is left alone and the error is
// ErrBlockNotEmpty. It is no error if there is no such affinity.
func (a *Allocator) ReleaseAffinity(ctx context.Context, o Owner, cidr netip.Prefix, mustBeEmpty bool) error {
	return a.release(ctx, o, cidr, mustBeEmpty)
}

func (a *Allocator) release(ctx context.Context, o Owner, cidr netip.Prefix, mustBeEmpty bool) error {
	key, err := AffinityKey(o, cidr)
	if err != nil {
		return err
	}
	marked := int64(-1) // the revision at which we wrote pendingDeletion
	return retry(ctx, fmt.Sprintf("release block %s", cidr), func() error {
		e, err := a.kv.Get(ctx, key)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("release block %s: %w", cidr, err)
		}
		b, blockRev, err := a.block(ctx, cidr)
		switch {
		case errors.Is(err, ErrNotFound):
			b = nil
		case err != nil:
			return err
		case b.Affinity != o:
			b = nil // not ours any more: only the affinity is left to remove
		case mustBeEmpty && !b.Empty():
			if e.Revision == marked {
				// The block came into use after we began: it remains the owner's.
				if _, err := a.setState(ctx, e, Confirmed); err != nil {
					return err
				}
			}
			return fmt.Errorf("release block %s: %w", cidr, ErrBlockNotEmpty)
		}
		if e, err = a.setState(ctx, e, PendingDeletion); err != nil {
			return err
		}
		marked = e.Revision
		if b != nil {
			if err := a.disown(ctx, b, blockRev); err != nil {
				return err
			}
		}
		return lost(a.kv.Delete(ctx, key, e.Revision))
	})
}

// setState rewrites an affinity as read. What cannot be decoded is replaced.
func (a *Allocator) setState(ctx context.Context, e Entry, s State) (Entry, error) {
	af, err := DecodeAffinity(e.Value)
	if err != nil {
		af = Affinity{}
	}
	af.State, af.Deleted = s, false
	if e.Value, err = af.Encode(); err != nil {
		return e, err
	}
	e.Revision, err = a.kv.Update(ctx, e.Key, e.Value, e.Revision)
	return e, lost(err)
}

// disown takes a block's owner away, and the block with it if nothing is left.
func (a *Allocator) disown(ctx context.Context, b *Block, rev int64) error {
	if b.Empty() {
		err := a.kv.Delete(ctx, BlockKey(b.CIDR), rev)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return lost(err)
	}
	b.Affinity, b.ClaimTime = "", time.Time{}
	return lost(a.writeBlock(ctx, b, rev))
}

// ReleaseHostAffinities gives up all blocks of a node, both families.
// Failures are joined; the rest is done.
func (a *Allocator) ReleaseHostAffinities(ctx context.Context, node string, mustBeEmpty bool) error {
	list, err := a.Affinities(ctx, HostOwner(node))
	errs := []error{err}
	for _, af := range list {
		errs = append(errs, a.release(ctx, af.Owner, af.CIDR, mustBeEmpty))
	}
	return errors.Join(errs...)
}

// ReleasePoolAffinities gives up all blocks of a pool, whoever has them.
// Blocks in use stay, without an owner, until their addresses are released.
func (a *Allocator) ReleasePoolAffinities(ctx context.Context, pool *v3.IPPool) error {
	p, err := ParsePool(pool)
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range []string{HostPrefix, virtualPrefix} {
		list, err := a.kv.List(ctx, root)
		if err != nil {
			errs = append(errs, fmt.Errorf("list affinities: %w", err))
		}
		for _, e := range list {
			if o, cidr, ok := ParseAffinityKey(e.Key); ok && p.CIDR.Contains(cidr.Addr()) {
				errs = append(errs, a.release(ctx, o, cidr, false))
			}
		}
	}
	return errors.Join(errs...)
}

// RemoveHost forgets a node: its affinities and its marker. Addresses in use
// on it stay assigned; they are released by whoever owns them.
func (a *Allocator) RemoveHost(ctx context.Context, node string) error {
	if err := a.ReleaseHostAffinities(ctx, node, false); err != nil {
		return fmt.Errorf("remove node %s: %w", node, err)
	}
	key, err := HostOwner(node).prefix()
	if err != nil {
		return err
	}
	return retry(ctx, "remove node "+node, func() error {
		e, err := a.kv.Get(ctx, key)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return lost(a.kv.Delete(ctx, key, e.Revision))
	})
}
