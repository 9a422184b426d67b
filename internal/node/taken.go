// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"

	"github.com/muslin-net/muslin/internal/store"
)

// taken writes down what the loop takes, before it is in force: changes that it sets
// aside, because the datastore says that nothing new is to be programmed, only when it takes
// them. It belongs to the goroutine that the datastore is followed in.
type taken struct {
	journal *store.Journal
	log     *slog.Logger
	known   *store.Snapshot // what was gone on with, until that has been delivered
	begun   bool            // what is on disk is of what is in force, or is nothing
	ready   bool
	aside   map[string]store.Change
}

// newTaken begins with what is gone on with; nil with a listing.
func newTaken(j *store.Journal, log *slog.Logger, known *store.Snapshot) *taken {
	t := &taken{journal: j, log: log, known: known, aside: map[string]store.Change{}}
	if known != nil {
		t.begun, t.ready = true, true
		t.failed(j.Continue(known))
	}
	return t
}

// failed says that a start without the datastore will have nothing to go on with. A disk
// that is full takes nothing away from what is in force.
func (t *taken) failed(err error) {
	if err != nil {
		t.log.Warn("a start without the datastore would not know what is in force, until it is saved again", "err", err)
	}
}

// take takes an update, before it is in force.
func (t *taken) take(u update) {
	if s := t.known; s != nil {
		t.known = nil
		if !u.Connected && u.Revision == s.Revision {
			return // that is s
		}
		t.failed(t.journal.Forget()) // what it says beyond that cannot be told
	}
	var changes []store.Change
	for _, c := range u.changes {
		if c.Kind == "ClusterInformation" && c.Name == "default" {
			t.ready = c.saysReady(t.ready)
		}
		changes = append(changes, c.Change)
	}
	switch {
	case !t.begun && u.InSync:
		t.begun = true
		t.failed(t.journal.Forget()) // what an earlier daemon had in force
	case !t.begun:
	case t.ready:
		u.Changes = append(t.fromAside(), changes...)
		t.failed(t.journal.Append(u.Update))
	default:
		t.setAside(changes)
	}
}

// saysReady tells whether a ClusterInformation lets nodes program what is new; one that
// cannot be read says what was said before.
func (c *change) saysReady(before bool) bool {
	switch {
	case c.Err != nil && c.last != nil:
		return c.last.saysReady(before)
	case c.Err != nil:
		return before
	}
	return saysReady(c.Change)
}

func (t *taken) setAside(changes []store.Change) {
	for _, c := range changes {
		if c.Kind != "ClusterInformation" {
			t.aside[c.Key] = c
		}
	}
}

// fromAside are the changes that were set aside, the oldest first.
func (t *taken) fromAside() []store.Change {
	list := slices.SortedFunc(maps.Values(t.aside), func(a, b store.Change) int { return cmp.Compare(a.Revision, b.Revision) })
	clear(t.aside)
	return list
}
