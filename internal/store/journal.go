// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Journal is a Snapshot on disk and, in a file beside it, what a Watch has delivered since.
// Together they are what a node had in force last: what was saved alone may allow what has
// been forbidden since, and counts for nothing without its journal. Safe for
// concurrent use.
type Journal struct {
	snapshot, path string
	max            int64

	mu     sync.Mutex
	file   *os.File // nil while there is none
	end    ending
	rev    int64 // that of the last update
	saving bool
	since  [][]byte // updates since saving began
	odd    bool     // one of them has changes that are older than an update before
	flush  bool     // the file is being, or about to be, written to the disk
	dirty  bool     // and there is more
}

// A journal's file is this line, the SHA-256 at the end of the snapshot that it belongs
// to, and a record for each update: its length, a sum of that, the update, a sum of that. Each
// sum goes on from the one before, the first from the SHA-256. So a record that the file
// ends in was being written when the daemon was killed, and is none yet; whatever
// else is not as it was written is damage.
const journalMagic = "muslin journal 1\n"

const (
	// maxJournal bounds the file: a snapshot has to be saved before it is as long.
	maxJournal = 64 << 20
	// longJournal is from where a snapshot should be saved soon.
	longJournal = maxJournal / 4
)

// ending is where a journal's file ends, and what its sums have come to.
type ending struct {
	size int64
	sum  uint32
}

var (
	errJournal = errors.New("not a whole journal of what has changed since the snapshot was saved")
	sums       = crc32.MakeTable(crc32.Castagnoli)
)

// NewJournal is that of two files, of which neither is touched before the first call.
func NewJournal(snapshot, journal string) *Journal {
	return &Journal{snapshot: snapshot, path: journal, max: maxJournal}
}

// Load reads what was in force last. The error is fs.ErrNotExist if nothing was saved;
// what is not whole is none.
func (j *Journal) Load() (*Snapshot, error) {
	s, err := LoadSnapshot(j.snapshot)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: what has changed since it was saved is not known: there is no %s", j.snapshot, j.path)
	}
	if err == nil {
		err = s.replay(b)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove it", j.path, err)
	}
	return s, nil
}

// replay puts into s what a journal's file says.
func (s *Snapshot) replay(b []byte) error {
	head := append([]byte(journalMagic), s.sum[:]...)
	rest, ok := bytes.CutPrefix(b, head)
	if !ok {
		return errJournal
	}
	at := make(map[string]int, len(s.items))
	for i, it := range s.items {
		at[it.key] = i
	}
	s.end = ending{int64(len(head)), crc32.Checksum(s.sum[:], sums)}
	for {
		body, n, sum, err := record(rest, s.end.sum)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if err := s.take(body, at); err != nil {
			return err
		}
		rest, s.end = rest[n:], ending{s.end.size + int64(n), sum}
	}
	kept := s.items[:0]
	for _, it := range s.items {
		if !it.deleted {
			kept = append(kept, it)
		}
	}
	s.items = kept
	s.ClusterGUID = guidIn(s.items)
	return nil
}

// record cuts the first record off, which takes n bytes; n is 0 if there is no more.
func record(b []byte, sum uint32) (body []byte, n int, next uint32, err error) {
	const number = 4
	if len(b) < 2*number {
		return nil, 0, sum, nil
	}
	be := binary.BigEndian
	size := int64(be.Uint32(b))
	sum = crc32.Update(sum, sums, b[:number])
	if be.Uint32(b[number:]) != sum {
		return nil, 0, 0, errJournal
	}
	if b = b[2*number:]; int64(len(b)) < size+number {
		return nil, 0, sum, nil
	}
	body = b[:size:size]
	sum = crc32.Update(sum, sums, body)
	if be.Uint32(b[size:]) != sum {
		return nil, 0, 0, errJournal
	}
	return body, 3*number + int(size), sum, nil
}

func appendRecord(b, body []byte, sum uint32) ([]byte, uint32) {
	be := binary.BigEndian
	size := be.AppendUint32(nil, uint32(len(body)))
	sum = crc32.Update(sum, sums, size)
	b = be.AppendUint32(append(b, size...), sum)
	sum = crc32.Update(sum, sums, body)
	return be.AppendUint32(append(b, body...), sum), sum
}

// An update is its revision, the time, and changes: the key, the revision, 1 and the value, or 0 if it
// is gone. Numbers and texts are as in a snapshot. One without changes says that at that time the datastore
// held nothing else.

func appendUpdate(b []byte, rev int64, at time.Time, changes []item) []byte {
	b = binary.AppendUvarint(b, uint64(rev))
	b = binary.AppendUvarint(b, uint64(at.Unix()))
	for _, it := range changes {
		b = append(binary.AppendUvarint(b, uint64(len(it.key))), it.key...)
		b = binary.AppendUvarint(b, uint64(it.rev))
		if it.deleted {
			b = append(b, 0)
			continue
		}
		b = binary.AppendUvarint(append(b, 1), uint64(len(it.raw)))
		b = append(b, it.raw...)
	}
	return b
}

func parseUpdate(b []byte) (rev int64, at time.Time, changes []item, err error) {
	d := decoder{body: b, ok: true}
	rev, at = int64(d.number()), time.Unix(int64(d.number()), 0)
	for d.ok && len(d.body) > 0 {
		it := item{key: string(d.text()), rev: int64(d.number()), fresh: true}
		switch d.number() {
		case 0:
			it.deleted = true
		case 1:
			it.raw = d.text()
		default:
			d.ok = false
		}
		d.ok = d.ok && it.key != ""
		changes = append(changes, it)
	}
	if !d.ok || rev <= 0 {
		return 0, at, nil, errJournal
	}
	return rev, at, changes, nil
}

// take puts an update into s; at says where each key is.
func (s *Snapshot) take(body []byte, at map[string]int) error {
	rev, taken, changes, err := parseUpdate(body)
	if err != nil {
		return err
	}
	for _, it := range changes {
		if i, ok := at[it.key]; ok {
			s.items[i] = it
		} else {
			at[it.key] = len(s.items)
			s.items = append(s.items, it)
		}
	}
	if s.Taken = taken; len(changes) > 0 {
		s.Revision = rev
	}
	return nil
}

// Continue goes on with the files that s was loaded from.
func (j *Journal) Continue(s *Snapshot) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	f, err := os.OpenFile(j.path, os.O_WRONLY, 0)
	if err == nil {
		err = f.Truncate(s.end.size) // what was being written
	}
	if err == nil {
		_, err = f.Seek(s.end.size, 0)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("journal of the datastore: %w", err), j.forget())
	}
	j.file, j.end, j.rev = f, s.end, s.Revision
	return nil
}

// Append takes an update, before it is in force. What cannot be written makes all that was
// saved worth nothing, until there is another snapshot. Blocks of allocations, which no node acts
// upon, are left out.
func (j *Journal) Append(u Update) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []item
	for _, c := range u.Changes {
		if c.Kind == KindBlock || c.Kind == KindIPAMConfig {
			continue
		}
		j.odd = j.odd || c.Revision <= j.rev
		list = append(list, item{key: c.Key, raw: c.Raw, rev: c.Revision, deleted: c.Deleted})
	}
	j.rev = u.Revision
	if len(list) == 0 || j.rev <= 0 || j.file == nil && !j.saving {
		return nil
	}
	body := appendUpdate(nil, u.Revision, time.Now(), list)
	if j.saving {
		j.since = append(j.since, body)
	}
	return j.write(body)
}

// Confirm writes down that the datastore holds nothing else now, so that what was saved is no
// older than that. It is not for calls while it is being saved.
func (j *Journal) Confirm() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.write(appendUpdate(nil, max(j.rev, 1), time.Now(), nil))
}

// write writes an update, if there is a file. It needs mu.
func (j *Journal) write(body []byte) error {
	if j.file == nil {
		return nil
	}
	b, sum := appendRecord(nil, body, j.end.sum)
	if j.end.size+int64(len(b)) > j.max {
		return errors.Join(fmt.Errorf("journal of the datastore: more than %d bytes", j.max), j.forget())
	}
	if _, err := j.file.Write(b); err != nil {
		return errors.Join(fmt.Errorf("journal of the datastore: %w", err), j.forget())
	}
	j.end = ending{j.end.size + int64(len(b)), sum}
	j.sync()
	return nil
}

// sync has what was written brought to the disk, soon: nobody waits for it, and what is
// written meanwhile goes together. It needs mu.
func (j *Journal) sync() {
	if j.dirty = true; j.flush {
		return
	}
	j.flush = true
	go func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		for j.dirty && j.file != nil {
			j.dirty = false
			f := j.file
			j.mu.Unlock()
			_ = f.Sync() // of what the power takes away no more can be had
			j.mu.Lock()
		}
		j.flush = false
	}()
}

// Due tells whether a snapshot should be saved soon.
func (j *Journal) Due() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file == nil || j.end.size > longJournal
}

// Save saves what the datastore holds, as Client.Save does, and begins the journal anew, with
// what has been delivered since. It is not for concurrent calls.
func (j *Journal) Save(ctx context.Context, c *Client, node string) (rev int64, err error) {
	j.mu.Lock()
	j.saving, j.since, j.odd = true, nil, false
	j.mu.Unlock()
	rev, err = c.Save(ctx, j.snapshot, node)
	j.mu.Lock()
	defer j.mu.Unlock()
	defer func() { j.saving, j.since = false, nil }()
	if err != nil {
		return 0, err
	}
	if j.odd {
		return 0, errors.Join(errors.New("save the datastore: it was restored meanwhile"), j.forget())
	}
	if err := j.restart(rev); err != nil {
		return 0, errors.Join(fmt.Errorf("journal of the datastore: %w", err), j.forget())
	}
	return rev, nil
}

// restart writes a journal for the snapshot of a revision that is on disk now.
func (j *Journal) restart(rev int64) error {
	sum, err := snapshotSum(j.snapshot)
	if err != nil {
		return err
	}
	b, end := append([]byte(journalMagic), sum[:]...), crc32.Checksum(sum[:], sums)
	for _, body := range j.since {
		r, at, changes, err := parseUpdate(body)
		if err != nil {
			return err
		}
		var later []item
		for _, it := range changes {
			if it.rev > rev {
				later = append(later, it)
			}
		}
		if len(later) > 0 {
			b, end = appendRecord(b, appendUpdate(nil, r, at, later), end)
		}
	}
	f, err := os.OpenFile(j.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(j.path + ".new") // unless it has its name
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync()); err == nil {
		err = os.Rename(j.path+".new", j.path)
	}
	if err != nil {
		f.Close()
		return err
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.end = f, ending{int64(len(b)), end}
	return nil
}

// Forget makes what was saved worth nothing.
func (j *Journal) Forget() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.forget()
}

func (j *Journal) forget() error {
	if j.file != nil {
		j.file.Close()
		j.file = nil
	}
	if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// snapshotSum is what a snapshot's file ends in.
func snapshotSum(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	if _, err := f.Seek(-sha256.Size, 2); err != nil {
		return sum, err
	}
	_, err = io.ReadFull(f, sum[:])
	return sum, err
}
