// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/store"
)

// A value that cannot be read leaves its last good version in force (invariant I9),
// and a daemon that starts again would not know that any more. So it comes with that
// version, which is written down as soon as there is a need for it; if it was not,
// because the value was written while no daemon ran here, etcd may have it still.

// lastGoodFile, in the state directory, holds the last good versions of values that
// cannot be read.
const lastGoodFile = "last-good.json"

const (
	// maxLastGood bounds how many of them there are. What is beyond is absent, as what
	// never had a good version.
	maxLastGood = 1000
	// maxEarlier bounds how many versions of a value are looked at.
	maxEarlier = 16
	// earlierWithin bounds how long an update waits for all of its earlier versions.
	earlierWithin = 2 * time.Second
)

// goodVersion is what a value was before it could not be read.
type goodVersion struct {
	Key   string `json:"key"`
	Bad   int64  `json:"unreadable"` // the revision of the value that cannot be read
	Value []byte `json:"value"`
	seen  bool   // in a listing
}

// lastGood belongs to the goroutine that the datastore is followed in.
type lastGood struct {
	dir     string
	log     *slog.Logger
	before  func(ctx context.Context, key string, rev int64) (store.KV, error)
	kept    map[string]goodVersion
	inSync  bool // all that there is has been seen
	changed bool
}

// openLastGood reads what was written down. A file that cannot be read is as none.
func openLastGood(dir string, log *slog.Logger, before func(context.Context, string, int64) (store.KV, error)) *lastGood {
	g := &lastGood{dir: dir, log: log, before: before, kept: map[string]goodVersion{}}
	b, err := os.ReadFile(filepath.Join(dir, lastGoodFile))
	var list []goodVersion
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("the last good versions of what cannot be read are not known; remove the file", "file", filepath.Join(dir, lastGoodFile), "err", err)
	}
	for _, v := range list {
		g.kept[v.Key] = v
	}
	return g
}

// join adds to what cannot be read its last good version.
func (g *lastGood) join(ctx context.Context, u update) update {
	ctx, cancel := context.WithTimeout(ctx, earlierWithin)
	defer cancel()
	for i := range u.changes {
		c := &u.changes[i]
		if !c.unreadable() {
			g.forget(c.Key)
			continue
		}
		v, ok := g.version(ctx, c)
		if !ok {
			g.forget(c.Key)
			continue
		}
		if good, ok := readVersion(store.KV{Key: v.Key, Value: v.Value}); ok {
			c.last = &good
		}
	}
	if u.InSync && !g.inSync {
		g.inSync = true
		maps.DeleteFunc(g.kept, func(_ string, v goodVersion) bool {
			g.changed = g.changed || !v.seen // deleted while nobody looked
			return !v.seen
		})
	}
	g.save()
	return u
}

// version returns the last good version of a value that cannot be read.
func (g *lastGood) version(ctx context.Context, c *change) (goodVersion, bool) {
	v, had := g.kept[c.Key]
	switch {
	case !had && len(g.kept) >= maxLastGood:
		return v, false
	case had && (v.Bad == c.Revision || g.inSync): // while it is followed, no version is missed
	default:
		value, err := g.earlier(ctx, c, v)
		switch {
		case err == nil:
			v.Value = value
		case errors.Is(err, store.ErrNotFound), !had: // it was made like this
			return v, false
		} // or etcd does not say, and what was in force here is the best there is
	}
	g.changed = g.changed || !had || v.Bad != c.Revision
	v.Key, v.Bad, v.seen = c.Key, c.Revision, true
	g.kept[c.Key] = v
	return v, true
}

// earlier asks etcd for the newest version that can be read, and returns its value.
// What was the last good one of a version is that of all bad ones after it, too.
func (g *lastGood) earlier(ctx context.Context, c *change, old goodVersion) ([]byte, error) {
	rev := c.Revision
	for range maxEarlier {
		kv, err := g.before(ctx, c.Key, rev)
		if err != nil {
			return nil, err
		}
		if kv.Revision == old.Bad {
			return old.Value, nil
		}
		if good, ok := readVersion(kv); ok && !good.unreadable() {
			return kv.Value, nil
		}
		rev = kv.Revision
	}
	return nil, fmt.Errorf("none of %d earlier versions can be read", maxEarlier)
}

// readVersion reads a value as an update's is read.
func readVersion(kv store.KV) (change, bool) {
	kv.Value = slices.Clone(kv.Value) // reading takes it
	c, ok := store.ChangeOf(kv)
	return read(store.Update{Changes: []store.Change{c}}).changes[0], ok
}

func (g *lastGood) forget(key string) {
	if _, ok := g.kept[key]; ok {
		delete(g.kept, key)
		g.changed = true
	}
}

// save writes down what has changed.
func (g *lastGood) save() {
	if !g.changed {
		return
	}
	list := slices.SortedFunc(maps.Values(g.kept), func(a, b goodVersion) int { return cmp.Compare(a.Key, b.Key) })
	if err := writeState(g.dir, lastGoodFile, list); err != nil {
		g.log.Warn("a restart would not know the last good versions of what cannot be read", "err", fmt.Errorf("%s: %w", lastGoodFile, err))
		return
	}
	g.changed = false
}

// unreadable tells whether a change leaves what is in force as it is because its value
// cannot be read.
func (c *change) unreadable() bool {
	switch {
	case c.Deleted || c.Kind == "":
		return false
	case c.Kind == store.KindBlockAffinity && c.Name != "":
		_, err := ipam.DecodeAffinity(c.Raw)
		return err != nil
	}
	return c.Err != nil || c.policy.Bad()
}
