// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/store"
)

// An answer of explain is about objects that are stored. What is in force may be of
// others: an object that cannot be read has its last good version, and a datastore
// that is not ready or does not answer tells nothing new. The answer says so.

// listTime bounds the listing for an answer, and offlineTime that of a datastore with
// which there is no connection.
const (
	listTime    = 5 * time.Second
	offlineTime = time.Second
)

// reading is how the objects of an answer were come by.
type reading struct {
	note    string // about that
	differs bool   // what is in force is of another revision
	// suspects are what the datastore holds of objects with which something is wrong.
	suspects map[policy.Key]policy.Object
}

// world reads the objects that matter to verdicts.
func (d *Daemon) world(ctx context.Context) (*world, reading, error) {
	w := &world{World: policy.World{Node: d.cfg.Node, Reserved: map[netip.Addr]string{}}, nodes: map[string]bool{}}
	wrong, r := map[policy.Key]bool{}, reading{suspects: map[policy.Key]policy.Object{}}
	d.loop.call(ctx, func() {
		w.AnySource, w.FloatingIPs = d.loop.settings.anySource, d.loop.settings.floatingIPs
		for p := range d.loop.model.index.Problems() {
			wrong[p.Key] = true
		}
	})
	var reader policy.Reader
	err := d.eachStored(ctx, &r, func(c store.Change) {
		if k := (policy.Key{Kind: c.Kind, Namespace: c.Namespace, Name: c.Name}); wrong[k] {
			r.suspects[k] = reader.Read(k, c.Object, c.Err)
		}
		w.take(d.cfg.Node, c)
	})
	return w, r, err
}

// eachStored hands out every resource of the datastore or, while it does not answer,
// those that were saved of it.
func (d *Daemon) eachStored(ctx context.Context, r *reading, f func(store.Change)) error {
	s, _ := d.board.read()
	limit := listTime
	if !s.Datastore.Connected {
		limit = offlineTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := d.store.EachResource(ctx, f)
	if !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var listing *store.Error
	if errors.As(err, &listing) {
		err = listing.Err // the key of the listing says nothing to who asked
	}
	saved, serr := loadKnown(d.cfg.StateDir, d.cfg.Node)
	if serr != nil {
		return fmt.Errorf("explain reads the objects in the datastore, and %w. What is in force stays; ask again when etcd answers, or read `muslin acl show`", err)
	}
	at := saved.Taken.Format(time.RFC3339)
	r.note = fmt.Sprintf("%s; this is about what it held on %s, which is in force", err, at)
	if r.differs = saved.Revision != s.LiveRevision; r.differs {
		r.note = fmt.Sprintf("%s; this is about what it held on %s, at revision %d, and what is in force is of revision %d", err, at, saved.Revision, s.LiveRevision)
	}
	saved.EachResource(f)
	return nil
}

// differences tells why what is enforced may not be what was read, and whether it is
// known to be something else. It runs in the loop.
func (l *loop) differences(r reading) (notes []string, differs bool) {
	if differs = r.differs; r.note != "" {
		notes = append(notes, r.note)
	}
	if !l.model.ready() {
		notes = append(notes, "the datastore is not ready (ClusterInformation default), so what is enforced may be older than what it holds")
		differs = differs || len(l.held) > 0 || l.live == 0
	}
	for p := range l.model.index.Problems() {
		if o, ok := r.suspects[p.Key]; ok && l.model.index.InForce(p.Key) && !l.readable(p.Key, o) {
			notes = append(notes, fmt.Sprintf("%s: what is in force is its last good version", p))
			differs = true
			continue
		}
		notes = append(notes, p.String())
	}
	return notes, differs
}

// readable tells whether an object would come into force if there were none before it.
func (l *loop) readable(k policy.Key, o policy.Object) bool {
	alone := policy.NewIndex(l.d.cfg.Node)
	alone.Put(o)
	return alone.InForce(k)
}
