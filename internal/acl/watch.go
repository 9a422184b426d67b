// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Watch calls notify whenever somebody else changes our table, or when it
// cannot be sure that nobody did, until the context ends (it then returns
// nil). Our own commits are never notified. notify must not block: what it
// does is ask the table's owner for a Resync. Watch may run once.
func (t *Table) Watch(ctx context.Context, notify func()) error {
	if err := t.events.conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return fmt.Errorf("subscribe to nftables notifications: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		t.events.conn.SetDeadline(time.Unix(1, 0)) // wakes the reader
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
			touched = touched || data[0] == unix.NFPROTO_INET && tableOf(data[4:]) == TableName
			return nil
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			// Some notifications were lost; anything may have happened.
			t.opts.Log.Warn("nftables notifications lost, comparing the whole table")
			touched = false
			notify()
		case err != nil:
			return fmt.Errorf("read nftables notifications: %w", err)
		}
	}
}

// tableOf is the name of the table an object is in, or that it is: the first
// attribute in every kind.
func tableOf(data []byte) (name string) {
	attrs(data, func(typ uint16, v []byte) bool {
		if typ == 1 {
			name = cstr(v)
		}
		return typ != 1
	})
	return name
}
