// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/store"
)

// A daemon that starts while the datastore cannot be reached, or says that nothing new is to
// be programmed, goes on with what an earlier one had in force last, as if the datastore
// had gone away just now: its workloads keep their policy, which is repaired, and its
// neighbours their routes. That is what was saved of the datastore, and a
// journal of what was taken since. What is not whole, what another node saved, or this one of
// another cluster than the one that it was in last, is nothing to go on with.

const (
	// snapshotFile, in the state directory, is what the datastore held, and journalFile
	// what has changed since.
	snapshotFile = "datastore.snapshot"
	journalFile  = "datastore.journal"
	// clusterFile, beside it, is the cluster that this node was in last. It is written as
	// soon as that is in force, the snapshot some time later.
	clusterFile = "cluster.json"
)

// ofCluster is what clusterFile holds.
type ofCluster struct {
	GUID string `json:"clusterGUID"`
}

// noteCluster writes down which cluster this node is in. What was held before counts for nothing.
func (l *loop) noteCluster() {
	c := l.model.cluster
	if l.d.cfg.Embedded || !l.connected || !l.heldSince.IsZero() || c == nil || c.Spec.ClusterGUID == "" || c.Spec.ClusterGUID == l.clusterGUID {
		return
	}
	if err := writeState(l.d.cfg.StateDir, clusterFile, ofCluster{c.Spec.ClusterGUID}); err != nil {
		l.d.log.Warn("a boot without the datastore would not know which cluster it is in", "err", err)
		return
	}
	l.clusterGUID = c.Spec.ClusterGUID
}

// lastCluster is the clusterGUID that was written down; empty if none was.
func lastCluster(stateDir string) (string, error) {
	var c ofCluster
	b, err := os.ReadFile(filepath.Join(stateDir, clusterFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return "", fmt.Errorf("which cluster this node is in: %w", err)
	}
	return c.GUID, nil
}

const (
	// snapshotEvery is how often it is saved, if anything has changed: a listing is
	// some work for the datastore, which all servers share.
	snapshotEvery = 10 * time.Minute
	// snapshotSoon is how often a daemon looks whether it has to be sooner, as after a
	// start, and snapshotAgain after how long it tries again.
	snapshotSoon  = time.Second
	snapshotAgain = time.Minute
	// snapshotAtEnd bounds by how much it may delay the end of the daemon, if there is
	// nothing to go on with yet.
	snapshotAtEnd = time.Second
)

// keepSnapshot saves what the datastore holds, soon after a start and now and then. With an
// etcd of this daemon's own there is no need.
func (d *Daemon) keepSnapshot(ctx context.Context) error {
	if d.cfg.Embedded {
		return nil
	}
	var saved int64
	var tried time.Time
	for pause(ctx, snapshotSoon/2+rand.N(snapshotSoon)) {
		since := time.Since(tried)
		due := since > snapshotAgain && d.journal.Due()
		s, _ := d.board.read()
		if !s.Live || !s.Datastore.Connected || !due && since < snapshotEvery {
			continue
		}
		tried = time.Now()
		if !due && s.LiveRevision == saved {
			d.confirm()
			continue
		}
		saved = d.saveSnapshot(ctx, saved)
	}
	if s, _ := d.board.read(); s.Live && s.Datastore.Connected && d.journal.Due() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), snapshotAtEnd)
		defer cancel()
		d.saveSnapshot(ctx, saved)
	}
	return nil
}

// saveSnapshot returns the revision that is saved.
func (d *Daemon) saveSnapshot(ctx context.Context, saved int64) int64 {
	rev, err := d.journal.Save(ctx, d.store, d.cfg.Node)
	if err != nil {
		d.log.Warn("a start without the datastore would not know what is in force", "err", err)
		return saved
	}
	d.log.Debug("saved what the datastore holds", "revision", rev)
	return rev
}

// confirm keeps what was saved from growing old while nothing changes.
func (d *Daemon) confirm() {
	if err := d.journal.Confirm(); err != nil {
		d.log.Warn("a start without the datastore would not know what is in force, until it is saved again", "err", err)
	}
}

// maxAge is how old what is gone on with may be while the datastore does not answer; 0 for any age. A daemon
// that finds what an earlier one has in force opens nothing by it. After a boot it does: an address may be
// allowed that has gone to others since.
func (d *Daemon) maxAge() time.Duration {
	if d.restarting {
		return 0
	}
	return d.cfg.SnapshotMaxAge
}

// lastKnown is what to go on with while the datastore does not answer, or says that nothing
// new is to be programmed; nil to wait for it. What is older than maxAge is none, if that is not 0.
func (d *Daemon) lastKnown(ctx context.Context, maxAge time.Duration) *store.Snapshot {
	if d.cfg.Embedded {
		return nil
	}
	s, err := loadKnown(d.cfg.StateDir, d.cfg.Node)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		d.log.Error("what the datastore held cannot be used; what is enforced stays, and is not repaired until it answers", "err", err)
		return nil
	case maxAge > 0 && time.Since(s.Taken) > maxAge:
		d.log.Error("what the datastore held is older than --snapshot-max-age; workloads stay closed until it answers", "at", s.Taken, "limit", maxAge)
		return nil
	}
	d.log.Warn("going on with what the datastore held", "at", s.Taken, "revision", s.Revision)
	d.loop.call(ctx, func() { d.loop.heldSince, d.loop.datastoreErr = s.Taken, "" })
	return s
}

// onHold is what to go on with if the datastore says that nothing new is to be programmed.
func (d *Daemon) onHold(ctx context.Context) *store.Snapshot {
	if _, err := os.Stat(filepath.Join(d.cfg.StateDir, snapshotFile)); d.cfg.Embedded || err != nil {
		return nil
	}
	kv, err := d.store.Get(ctx, v3.Key("ClusterInformation", "", "default"))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if c, ok := store.ChangeOf(kv); err == nil && ok && saysReady(c) {
		return nil
	}
	return d.lastKnown(ctx, 0)
}

// saysReady tells whether a ClusterInformation lets nodes program what is new.
func saysReady(c store.Change) bool {
	info, ok := c.Object.(*v3.ClusterInformation)
	return ok && (&model{cluster: info}).ready()
}

// journalOf is the journal of a state directory.
func journalOf(stateDir string) *store.Journal {
	return store.NewJournal(filepath.Join(stateDir, snapshotFile), filepath.Join(stateDir, journalFile))
}

// loadKnown reads what was in force last, if that is this node's and of its cluster.
func loadKnown(stateDir, node string) (*store.Snapshot, error) {
	path := filepath.Join(stateDir, snapshotFile)
	s, err := journalOf(stateDir).Load()
	if err != nil {
		return nil, err
	}
	guid, err := lastCluster(stateDir)
	switch {
	case err != nil:
		return nil, err
	case s.Node != node:
		return nil, fmt.Errorf("%s was saved by node %s, and this is %s; remove it", path, s.Node, node)
	case guid != "" && s.ClusterGUID != guid:
		return nil, fmt.Errorf("%s is of another cluster (%s) than this node was in last (%s); remove it", path, s.ClusterGUID, guid)
	}
	return s, nil
}
