// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"
)

const (
	// maxTries is how often a lost race is run again.
	maxTries = 100
	// maxPause bounds the wait between two tries. It is random, so that
	// writers that collided once do not go on in step.
	maxPause = 20 * time.Millisecond
	// cleanupTime is what undoing may take after the caller's context ended.
	cleanupTime = 5 * time.Second
)

// Allocator works on the address datastore. It holds no state of its own: any
// number of them, in any number of processes, may work on one datastore. It
// is safe for concurrent use, with one exception that concerns the caller's
// own order of events: addresses must not be assigned to a handle while
// another call releases that same handle.
type Allocator struct {
	kv  KV
	now func() time.Time
	log *slog.Logger
}

// New returns an allocator. now is the clock, for claim times and sequence
// numbers of new blocks.
func New(kv KV, now func() time.Time, log *slog.Logger) *Allocator {
	return &Allocator{kv: kv, now: now, log: log}
}

// errLost tells retry that another writer was faster.
var errLost = errors.New("lost a race")

// raced tells whether a write did not take place because of another writer.
func raced(err error) bool {
	return errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrExists)
}

// lost replaces the error of a write that lost a race.
func lost(err error) error {
	if raced(err) {
		return errLost
	}
	return err
}

// retry runs f until it does not lose. f reads everything anew each time.
func retry(ctx context.Context, what string, f func() error) error {
	for try := range maxTries {
		if err := f(); !errors.Is(err, errLost) {
			return err
		}
		limit := min(time.Duration(try+1)*time.Millisecond, maxPause)
		t := time.NewTimer(rand.N(limit))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
	}
	return fmt.Errorf("%s: %w, %d times", what, ErrContention, maxTries)
}

// cleanup returns a context for undoing what a cancelled call began.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}

// Config returns the stored configuration, or DefaultConfig if none is.
func (a *Allocator) Config(ctx context.Context) (Config, error) {
	e, err := a.kv.Get(ctx, ConfigKey)
	if errors.Is(err, ErrNotFound) {
		return DefaultConfig(), nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read %s: %w", ConfigKey, err)
	}
	return DecodeConfig(e.Value)
}

// SetConfig stores a configuration; unknown members of the stored one stay.
// An equal one is not written again.
func (a *Allocator) SetConfig(ctx context.Context, c Config) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("%s: %w", ConfigKey, err)
	}
	return retry(ctx, "write "+ConfigKey, func() error {
		e, err := a.kv.Get(ctx, ConfigKey)
		absent := errors.Is(err, ErrNotFound)
		if err != nil && !absent {
			return err
		}
		if !absent {
			old, err := DecodeConfig(e.Value)
			if err != nil {
				return err
			}
			c.others = old.others
		}
		v, err := c.Encode()
		if err != nil {
			return err
		}
		if absent {
			_, err = a.kv.Create(ctx, ConfigKey, v)
		} else if !bytes.Equal(v, e.Value) {
			_, err = a.kv.Update(ctx, ConfigKey, v, e.Revision)
		}
		return lost(err)
	})
}

// block reads a block. It returns ErrNotFound for one that is marked deleted,
// after removing what is left of it.
func (a *Allocator) block(ctx context.Context, cidr netip.Prefix) (*Block, int64, error) {
	e, err := a.kv.Get(ctx, BlockKey(cidr))
	if err != nil {
		return nil, 0, fmt.Errorf("read block %s: %w", cidr, err)
	}
	b, err := blockAt(cidr, e.Value)
	if err != nil {
		return nil, 0, err
	}
	if b.Deleted {
		if err := a.kv.Delete(ctx, e.Key, e.Revision); err != nil && !raced(err) {
			return nil, 0, fmt.Errorf("remove block %s, which is marked deleted: %w", cidr, err)
		}
		return nil, 0, fmt.Errorf("read block %s: %w", cidr, ErrNotFound)
	}
	return b, e.Revision, nil
}

// badBlock marks the error of a block whose value cannot be used. It concerns
// that block alone.
type badBlock struct{ error }

func (b *badBlock) Unwrap() error { return b.error }

// blockAt decodes the value of a block's key; the error is a *badBlock.
func blockAt(cidr netip.Prefix, value []byte) (*Block, error) {
	b, err := DecodeBlock(value)
	if err == nil && b.CIDR != cidr {
		err = fmt.Errorf("member \"cidr\" is %s", b.CIDR)
	}
	if err != nil {
		return nil, &badBlock{fmt.Errorf("%s: %w", BlockKey(cidr), err)}
	}
	return b, nil
}

// writeBlock stores a block that was read at a revision.
func (a *Allocator) writeBlock(ctx context.Context, b *Block, rev int64) error {
	b.Sequence++
	v, err := b.Encode()
	if err != nil {
		return err
	}
	_, err = a.kv.Update(ctx, BlockKey(b.CIDR), v, rev)
	if err != nil && !raced(err) {
		return fmt.Errorf("write block %s: %w", b.CIDR, err)
	}
	return err
}

// blocks lists the blocks of a family. One that cannot be read is in bad with
// the reason; its prefix still counts as taken.
func (a *Allocator) blocks(ctx context.Context, f Family) (good map[netip.Prefix]*Block, bad map[netip.Prefix]error, err error) {
	list, err := a.kv.List(ctx, BlockListPrefix(f))
	if err != nil {
		return nil, nil, fmt.Errorf("list %s blocks: %w", f, err)
	}
	good, bad = map[netip.Prefix]*Block{}, map[netip.Prefix]error{}
	for _, e := range list {
		cidr, ok := ParseBlockKey(e.Key)
		if !ok {
			continue // not ours to judge; it cannot be a block of any pool
		}
		b, err := blockAt(cidr, e.Value)
		if err != nil {
			bad[cidr] = err
		} else if !b.Deleted {
			good[cidr] = b
		}
	}
	return good, bad, nil
}

// addToHandle changes the count of a block in a handle. An empty handle
// counts nothing. A count that would become zero goes, and so does a handle
// without blocks.
func (a *Allocator) addToHandle(ctx context.Context, id string, cidr netip.Prefix, n int) error {
	if id == "" || n == 0 {
		return nil
	}
	return a.editHandle(ctx, id, func(h *Handle) { h.Add(cidr, n) })
}

// editHandle reads a handle, changes it and writes it back; edit may run
// several times.
func (a *Allocator) editHandle(ctx context.Context, id string, edit func(*Handle)) error {
	key, err := HandleKey(id)
	if err != nil {
		return err
	}
	return retry(ctx, fmt.Sprintf("write handle %q", id), func() error {
		var h Handle
		e, err := a.kv.Get(ctx, key)
		absent := errors.Is(err, ErrNotFound)
		if err != nil && !absent {
			return fmt.Errorf("read handle %q: %w", id, err)
		}
		if !absent {
			if h, err = DecodeHandle(e.Value); err != nil {
				return fmt.Errorf("%q: %w", id, err)
			}
			if h.Deleted {
				h = Handle{} // what was marked deleted starts over
			}
		}
		edit(&h)
		switch {
		case h.Empty() && absent:
			return nil
		case h.Empty():
			err = a.kv.Delete(ctx, key, e.Revision)
		default:
			err = a.writeHandle(ctx, key, h, absent, e.Revision)
		}
		if err != nil && !raced(err) {
			return fmt.Errorf("write handle %q: %w", id, err)
		}
		return lost(err)
	})
}

func (a *Allocator) writeHandle(ctx context.Context, key string, h Handle, absent bool, rev int64) error {
	v, err := h.Encode()
	if err != nil {
		return err
	}
	if absent {
		_, err = a.kv.Create(ctx, key, v)
	} else {
		_, err = a.kv.Update(ctx, key, v, rev)
	}
	return err
}
