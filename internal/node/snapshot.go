// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/muslin-net/muslin/internal/store"
)

// A server that boots while the datastore cannot be reached has nothing in force, and
// nobody to say what it should be. It goes on with what the datastore held when this
// node was last equal to it: its workloads keep their policy, and its neighbours their
// routes. What a daemon finds in force is left alone, for it may be newer than what
// was saved.

// snapshotFile, in the state directory, is what the datastore held.
const snapshotFile = "datastore.snapshot"

const (
	// snapshotEvery is how often it is saved, if anything has changed: a listing is
	// some work for the datastore, which all servers share.
	snapshotEvery = 10 * time.Minute
	// snapshotAtEnd bounds by how much it may delay the end of the daemon, when it is
	// saved, too: most reboots are announced.
	snapshotAtEnd = time.Second
)

// keepSnapshot saves what the datastore holds, now and then, and at the end. With an
// etcd of this daemon's own there is no need.
func (d *Daemon) keepSnapshot(ctx context.Context) error {
	if d.cfg.Embedded {
		return nil
	}
	var saved int64
	for pause(ctx, snapshotEvery) {
		saved = d.saveSnapshot(ctx, saved)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), snapshotAtEnd)
	defer cancel()
	d.saveSnapshot(ctx, saved)
	return nil
}

// saveSnapshot returns the revision that is saved. What is not in force here, or cannot
// be read, is not worth more than what was.
func (d *Daemon) saveSnapshot(ctx context.Context, saved int64) int64 {
	s, _ := d.board.read()
	if !s.Live || !s.Datastore.Connected || s.LiveRevision == saved {
		return saved
	}
	rev, err := d.store.Save(ctx, filepath.Join(d.cfg.StateDir, snapshotFile))
	if err != nil {
		d.log.Warn("a boot without the datastore would begin with what was saved before", "err", err)
		return saved
	}
	d.log.Debug("saved what the datastore holds", "revision", rev)
	return rev
}

// lastKnown is what to go on with while the datastore does not answer; nil to wait for it.
func (d *Daemon) lastKnown(ctx context.Context) *store.Snapshot {
	bare, err := false, error(nil)
	if d.cfg.Embedded || !d.loop.call(ctx, func() { bare, err = nothingInForce(d.acl) }) || !bare || err != nil {
		return nil
	}
	s, err := store.LoadSnapshot(filepath.Join(d.cfg.StateDir, snapshotFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		d.log.Error("what the datastore held cannot be used; workloads stay closed until it answers", "err", err)
		return nil
	}
	d.log.Warn("going on with what the datastore held", "at", s.Taken, "revision", s.Revision)
	d.loop.call(ctx, func() { d.loop.heldSince, d.loop.datastoreErr = s.Taken, "" })
	return s
}
