// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// Snapshot is what the datastore held at one revision. A node that starts while etcd
// cannot be reached goes on with it (WatchFrom), and what has changed since (Journal).
type Snapshot struct {
	Taken       time.Time
	Revision    int64
	Node        string // who saved it
	ClusterGUID string // of its ClusterInformation; empty if that is not known
	clusterID   uint64
	items       []item
	sum         [sha256.Size]byte // of the file
	end         ending            // of its journal
}

// A snapshot's file is this line, the objects, an empty key with what the listing
// said of itself and who took it, and the SHA-256 of all that. Numbers are of variable length, those
// of lengths before what they are of.
const snapshotMagic = "muslin snapshot 2\n"

// Save lists what a Watch delivers, at one revision, into a file of a node, in place of the
// one that was there: a crash leaves that or the new one. The file is root's alone.
// It holds one page of the listing at a time.
func (c *Client) Save(ctx context.Context, path, node string) (rev int64, err error) {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, fmt.Errorf("save the datastore: %w", err)
	}
	defer os.Remove(path + ".new") // unless it has its name
	defer f.Close()
	w := newSnapshotWriter(f)
	taken := time.Now()
	var clusterID uint64
	for _, prefix := range listed {
		h, err := c.pages(ctx, prefix, rev, func(kvs []*mvccpb.KeyValue) error {
			for _, kv := range kvs {
				if _, ok := refOf(string(kv.Key)); ok {
					w.object(kv.Key, kv.ModRevision, kv.Value)
				}
			}
			return w.err
		})
		if err != nil {
			return 0, fmt.Errorf("save the datastore: %w", err)
		}
		rev, clusterID = h.Revision, h.ClusterId
	}
	if err = errors.Join(w.end(clusterID, rev, taken, node), f.Sync()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return 0, fmt.Errorf("save the datastore: %w", err)
	}
	return rev, nil
}

// snapshotWriter remembers its first error.
type snapshotWriter struct {
	out *bufio.Writer
	sum hash.Hash
	buf []byte
	err error
}

func newSnapshotWriter(to io.Writer) *snapshotWriter {
	w := &snapshotWriter{out: bufio.NewWriter(to), sum: sha256.New()}
	w.write([]byte(snapshotMagic))
	return w
}

func (w *snapshotWriter) write(b []byte) {
	w.sum.Write(b)
	if w.err == nil {
		_, w.err = w.out.Write(b)
	}
}

func (w *snapshotWriter) object(key []byte, rev int64, value []byte) {
	b := binary.AppendUvarint(w.buf[:0], uint64(len(key)))
	b = append(b, key...)
	b = binary.AppendUvarint(b, uint64(rev))
	b = binary.AppendUvarint(b, uint64(len(value)))
	w.write(b)
	w.write(value)
	w.buf = b
}

func (w *snapshotWriter) end(clusterID uint64, rev int64, taken time.Time, node string) error {
	b := binary.AppendUvarint(w.buf[:0], 0)
	b = binary.AppendUvarint(b, clusterID)
	b = binary.AppendUvarint(b, uint64(rev))
	b = binary.AppendUvarint(b, uint64(taken.Unix()))
	b = append(binary.AppendUvarint(b, uint64(len(node))), node...)
	w.write(b)
	if w.err == nil {
		_, w.err = w.out.Write(w.sum.Sum(nil))
	}
	return errors.Join(w.err, w.out.Flush())
}

// LoadSnapshot reads what Save has written. The error is fs.ErrNotExist if nothing was
// saved; a file that is not whole is none.
func LoadSnapshot(path string) (*Snapshot, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s, err := parseSnapshot(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove it", path, err)
	}
	return s, nil
}

// EachResource hands every resource to f, as Client.EachResource does.
func (s *Snapshot) EachResource(f func(Change)) {
	for _, it := range s.items {
		if !isResource(it.key) {
			continue
		}
		if ch, ok := it.change(); ok {
			f(ch)
		}
	}
}

var errSnapshot = errors.New("not a whole snapshot of a datastore")

func parseSnapshot(b []byte) (*Snapshot, error) {
	body, ok := bytes.CutPrefix(b, []byte(snapshotMagic))
	if !ok || len(body) < sha256.Size {
		return nil, errSnapshot
	}
	at := len(b) - sha256.Size
	sum := sha256.Sum256(b[:at])
	if !bytes.Equal(sum[:], b[at:]) {
		return nil, errSnapshot
	}
	d := decoder{body: body[:len(body)-sha256.Size], ok: true}
	s := &Snapshot{sum: sum}
	for key := d.text(); d.ok && len(key) > 0; key = d.text() {
		s.items = append(s.items, item{key: string(key), rev: int64(d.number()), raw: d.text(), fresh: true})
	}
	s.clusterID, s.Revision, s.Taken = d.number(), int64(d.number()), time.Unix(int64(d.number()), 0)
	s.Node = string(d.text())
	if !d.ok || len(d.body) > 0 || s.Revision <= 0 {
		return nil, errSnapshot
	}
	s.ClusterGUID = guidIn(s.items)
	return s, nil
}

// decoder reads numbers, and texts with their lengths before them, until ok is false.
type decoder struct {
	body []byte
	ok   bool
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.body)
	if size <= 0 {
		d.ok = false
		return 0
	}
	d.body = d.body[size:]
	return n
}

func (d *decoder) text() (t []byte) {
	n := d.number()
	if n > uint64(len(d.body)) {
		d.ok = false
		return nil
	}
	t, d.body = d.body[:n:n], d.body[n:]
	return t
}

var clusterKey = v3.Key("ClusterInformation", "", "default")

// guidIn is the clusterGUID of the ClusterInformation among the items; empty if it has
// none, or is not there.
func guidIn(items []item) string {
	i := slices.IndexFunc(items, func(it item) bool { return it.key == clusterKey && !it.deleted })
	if i < 0 {
		return ""
	}
	var c v3.ClusterInformation
	_ = json.Unmarshal(items[i].raw, &c) // what cannot be read says nothing
	return c.Spec.ClusterGUID
}

// WatchFrom is a Watch that begins with a snapshot, if it is not nil, as with a
// listing that is long ago: it delivers that at once, not connected, and when etcd
// can be reached the difference, with the care of any listing. If that turns out to be
// another cluster, nothing of the snapshot is worth any care.
func (c *Client) WatchFrom(ctx context.Context, s *Snapshot, deliver func(Update)) error {
	return c.watch(ctx, s, deliver, defaultTuning())
}

// begin takes a snapshot for what was delivered last.
func (w *watcher) begin(s *Snapshot) {
	for _, it := range s.items {
		w.keys[it.key] = &known{rev: it.rev, sum: sumOf(it.raw)}
		w.pend.add(it)
	}
	w.rev, w.sure, w.clusterID, w.savedGUID = s.Revision, s.Revision, s.clusterID, s.ClusterGUID
	w.inSync, w.told, w.changed = true, true, true
	signal(w.news)
}
