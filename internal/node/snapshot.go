// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/muslin-net/muslin/internal/store"
)

// A server that boots while the datastore cannot be reached has nothing in force, and
// nobody to say what it should be. It goes on with what the datastore held when this
// node was last equal to it: its workloads keep their policy, and its neighbours their
// routes. What a daemon finds in force is left alone, for it may be newer than what
// was saved. What another node saved, or this one of another cluster than the one that
// it was in last, is nothing to go on with.

const (
	// snapshotFile, in the state directory, is what the datastore held.
	snapshotFile = "datastore.snapshot"
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
	rev, err := d.store.Save(ctx, filepath.Join(d.cfg.StateDir, snapshotFile), d.cfg.Node)
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
	s, err := loadKnown(d.cfg.StateDir, d.cfg.Node)
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

// loadKnown reads what the datastore held, if that is this node's and of its cluster.
func loadKnown(stateDir, node string) (*store.Snapshot, error) {
	path := filepath.Join(stateDir, snapshotFile)
	s, err := store.LoadSnapshot(path)
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
