// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/unread"
)

// Watch calls notify whenever somebody else changes our tables, or when it
// cannot be sure that nobody did, until the context ends (it then returns
// nil). Our own commits are never notified. notify must not block: what it
// does is ask the table's owner for a Resync. Watch may run once.
func (t *Table) Watch(ctx context.Context, notify func()) error {
	if err := t.subscribe(notify); err != nil {
		return fmt.Errorf("subscribe to nftables notifications: %w", err)
	}
	t.events.file.SetDeadline(time.Time{}) // a question of subscribe set one for its answer
	stop := context.AfterFunc(ctx, func() {
		t.events.file.SetDeadline(time.Unix(1, 0)) // wakes the reader
	})
	defer stop()
	touched := false // since the last end of a commit
	for {
		err := t.events.receive(func(typ, _ uint16, _, pid uint32, data []byte) error {
			if typ>>8 != unix.NFNL_SUBSYS_NFTABLES || pid == t.port.Load() || len(data) < 4 {
				return nil
			}
			if typ&0xff == unix.NFT_MSG_NEWGEN {
				// It follows what the commit did.
				if touched {
					notify()
				}
				touched = false
				return nil
			}
			touched = touched || slices.Contains(tables, data[0]) && tableOf(data[4:]) == TableName
			return nil
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			// Some notifications were lost; anything may have happened.
			if err := t.events.raw.Control(func(fd uintptr) { unread.Discard(int(fd)) }); err != nil {
				return fmt.Errorf("read nftables notifications: %w", err)
			}
			t.opts.Log.Warn("nftables notifications lost, comparing the whole table")
			touched = false
			notify()
		case err != nil:
			return fmt.Errorf("read nftables notifications: %w", err)
		}
	}
}

// subscription is whether the kernel tells us what changes.
type subscription struct {
	sync.Mutex
	missed func() // says that there may have been changes; nil while off
	gen    uint32 // the generation after our last unobserved commit, if nobody else made one meanwhile; 0 without one
}

// unobserved is the size in bytes from which on a transaction goes without
// notifications: the kernel makes one of each object and element, for us alone
// to throw away, which took as long as the rest of the commit. It still does for
// somebody who listens, in whichever network namespace.
const unobserved = 16 << 10

// subscribe turns notifications on. If somebody may have changed something
// since our last unobserved commit, it says so.
func (t *Table) subscribe(missed func()) error {
	t.sub.Lock()
	defer t.sub.Unlock()
	if err := t.events.join(unix.NFNLGRP_NFTABLES); err != nil {
		return err
	}
	t.sub.missed = missed
	if t.sub.gen == 0 {
		return nil
	}
	gen, err := t.events.generation()
	if gen != t.sub.gen {
		missed()
	}
	return err
}

// quietly runs a commit without notifications. Changes by others meanwhile are
// found by counting: ours is one generation.
func (t *Table) quietly(commit func() error) error {
	t.sub.Lock()
	defer t.sub.Unlock()
	before, err := t.sock.generation()
	if err != nil {
		return err
	}
	if t.sub.missed == nil {
		err = commit()
	} else {
		if err := t.events.leave(unix.NFNLGRP_NFTABLES); err != nil {
			return err
		}
		err = commit()
		if jerr := t.events.join(unix.NFNLGRP_NFTABLES); jerr != nil {
			return errors.Join(err, fmt.Errorf("subscribe to nftables notifications: %w", jerr))
		}
	}
	gen, gerr := t.sock.generation()
	t.sub.gen = before + 1
	if err != nil {
		t.sub.gen = before // nothing was committed
	}
	if t.sub.missed != nil && gen != t.sub.gen {
		t.sub.missed()
	}
	return errors.Join(err, gerr)
}

// tableOf is the name of the table an object is in, or that it is.
func tableOf(data []byte) (name string) {
	attrs(data, func(typ uint16, v []byte) bool {
		if typ == tableAttr {
			name = cstr(v)
		}
		return typ != tableAttr
	})
	return name
}
