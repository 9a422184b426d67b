// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// journaled is a journal of a datastore, and what a watch of it has delivered since.
type journaled struct {
	*Journal
	t *testing.T
}

func newJournaled(t *testing.T) *journaled {
	dir := t.TempDir()
	return &journaled{NewJournal(filepath.Join(dir, "saved"), filepath.Join(dir, "journal")), t}
}

// loaded is what a daemon that starts now would go on with.
func (j *journaled) loaded() map[string]string {
	j.t.Helper()
	s, err := NewJournal(j.snapshot, j.path).Load()
	if err != nil {
		j.t.Fatal(err)
	}
	m := map[string]string{}
	for _, it := range s.items {
		m[it.key] = string(it.raw)
	}
	return m
}

func (j *journaled) append(rev int64, changes ...Change) error {
	return j.Append(Update{InSync: true, Revision: rev, Changes: changes})
}

func written(i int, rev int64) Change {
	return Change{Key: setKey(i), Kind: "GlobalNetworkSet", Revision: rev, Raw: setValue(i)}
}

// TestJournal saves a datastore, takes changes, and finds them at the next start, which takes more,
// and at the one after. A restored datastore has the same keys at lower revisions. What comes while it is saved anew is
// there afterwards, once.
func TestJournal(t *testing.T) {
	c, _ := newStore(t)
	ctx := t.Context()
	j := newJournaled(t)
	if _, err := j.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing was saved: %v", err)
	}
	for i := range 5 {
		must[int64](t)(c.Put(ctx, setKey(i), setValue(i)))
	}
	if !j.Due() {
		t.Error("nothing is saved, and it is not due")
	}
	rev := must[int64](t)(j.Save(ctx, c, "n1"))
	if j.Due() {
		t.Error("due again")
	}
	want := map[string]string{}
	for i := range 5 {
		want[setKey(i)] = string(setValue(i))
	}
	check := func(when string) {
		t.Helper()
		if got := j.loaded(); !maps.Equal(got, want) {
			t.Errorf("%s: %d objects, want %d: %q", when, len(got), len(want), slices.Sorted(maps.Keys(got)))
		}
	}
	check("saved")

	other := written(1, rev+1)
	other.Raw = setValue(11)
	gone := Change{Key: setKey(2), Kind: "GlobalNetworkSet", Revision: rev + 2, Deleted: true}
	block := Change{Key: "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26", Kind: KindBlock, Revision: rev + 2, Raw: []byte("{}")}
	if err := errors.Join(j.append(rev+1, other), j.append(rev+2, gone, written(7, rev+2), block)); err != nil {
		t.Fatal(err)
	}
	want[setKey(1)], want[setKey(7)] = string(setValue(11)), string(setValue(7))
	delete(want, setKey(2))
	check("changed")

	s := must[*Snapshot](t)(j.Load())
	if s.Revision != rev+2 || time.Since(s.Taken) > time.Minute {
		t.Errorf("revision %d, %s ago", s.Revision, time.Since(s.Taken))
	}
	f := must[*os.File](t)(os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0))
	torn, _ := appendRecord(nil, make([]byte, 1<<16), j.end.sum)
	must[int](t)(f.Write(torn[:len(torn)-1])) // what was being written, and is longer than what comes next
	f.Close()
	check("torn")
	next := NewJournal(j.snapshot, j.path)
	if err := next.Continue(must[*Snapshot](t)(next.Load())); err != nil {
		t.Fatal(err)
	}
	older := written(1, rev-1)
	j.Journal = next
	if err := j.append(rev+3, written(8, rev+3)); err != nil {
		t.Fatal(err)
	}
	if err := j.append(rev-1, older); err != nil { // restored
		t.Fatal(err)
	}
	want[setKey(8)], want[setKey(1)] = string(setValue(8)), string(setValue(1))
	check("continued")

	// A change that comes while it is saved, of which the listing has one.
	j.saving, j.since = true, nil
	if err := errors.Join(j.append(rev+5, written(20, rev)), j.append(rev+6, written(21, rev+6))); err != nil {
		t.Fatal(err)
	}
	if err := j.restart(rev); err != nil {
		t.Fatal(err)
	}
	clear(want)
	for i := range 5 {
		want[setKey(i)] = string(setValue(i))
	}
	want[setKey(21)] = string(setValue(21))
	check("saved anew")
	if left, _ := filepath.Glob(j.path + ".*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestJournalIsWhole: whatever is bent in the file, or missing before its end, is noticed, and one
// of another snapshot is none. What is cut off its end is as if it had not come.
func TestJournalIsWhole(t *testing.T) {
	c, _ := newStore(t)
	j := newJournaled(t)
	must[int64](t)(c.Put(t.Context(), setKey(0), setValue(0)))
	rev := must[int64](t)(j.Save(t.Context(), c, "n1"))
	ends := map[int64]bool{j.end.size: true}
	for i := range int64(4) {
		if err := j.append(rev+1+i, written(int(i)+1, rev+1+i)); err != nil {
			t.Fatal(err)
		}
		ends[j.end.size] = true
	}
	whole := must[[]byte](t)(os.ReadFile(j.path))
	saved := must[[]byte](t)(os.ReadFile(j.snapshot))
	load := func(b []byte) (*Snapshot, error) {
		s := must[*Snapshot](t)(parseSnapshot(saved))
		return s, s.replay(b)
	}
	for at := range whole {
		bent := slices.Clone(whole)
		bent[at] ^= 0x10
		if _, err := load(bent); err == nil {
			t.Fatalf("bent at %d of %d: no error", at, len(whole))
		}
		s, err := load(whole[:at])
		if at < len(journalMagic)+32 {
			if err == nil {
				t.Fatalf("cut at %d: no error", at)
			}
			continue
		}
		if err != nil || s.end.size > int64(at) || !ends[s.end.size] || len(s.items) != len(ends)-after(ends, int64(at)) {
			t.Fatalf("cut at %d: %d objects, whole up to %d, %v", at, len(s.items), s.end.size, err)
		}
	}
	must[int64](t)(c.Put(t.Context(), setKey(9), setValue(9)))
	must[int64](t)(c.Save(t.Context(), j.snapshot, "n1"))
	if _, err := j.Load(); err == nil {
		t.Error("a journal of another snapshot")
	}
	if err := j.Forget(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Load(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a snapshot without its journal: %v", err)
	}
}

// TestJournalConfirmed: what has not changed for long is as young as the last word that it has not, and
// no other.
func TestJournalConfirmed(t *testing.T) {
	c, _ := newStore(t)
	j := newJournaled(t)
	must[int64](t)(c.Put(t.Context(), setKey(0), setValue(0)))
	rev := must[int64](t)(j.Save(t.Context(), c, "n1"))
	age := func(want time.Duration) {
		t.Helper()
		s := must[*Snapshot](t)(j.Load())
		if got := time.Since(s.Taken); got < want || got > want+time.Minute || s.Revision != rev || len(s.items) != 1 {
			t.Errorf("%d objects of revision %d are %s old, want 1 of %d, %s", len(s.items), s.Revision, got, rev, want)
		}
	}
	age(0)
	if err := j.write(appendUpdate(nil, rev+3, time.Now().Add(-time.Hour), nil)); err != nil {
		t.Fatal(err)
	}
	age(time.Hour)
	if err := j.Confirm(); err != nil {
		t.Fatal(err)
	}
	age(0)
}

// after counts the ends beyond a place.
func after(ends map[int64]bool, at int64) (n int) {
	for end := range ends {
		if end > at {
			n++
		}
	}
	return n
}

// TestJournalBounds: what cannot be written, for want of room or because it would be too long, makes
// what was saved worth nothing until it is saved anew, and is an error once.
func TestJournalBounds(t *testing.T) {
	c, _ := newStore(t)
	must[int64](t)(c.Put(t.Context(), setKey(0), setValue(0)))
	for name, bound := range map[string]func(*Journal){
		"too long": func(j *Journal) { j.max = j.end.size },
		"full disk": func(j *Journal) {
			j.file.Close()
			j.file = must[*os.File](t)(os.OpenFile("/dev/full", os.O_WRONLY, 0))
		},
	} {
		j := newJournaled(t)
		rev := must[int64](t)(j.Save(t.Context(), c, "n1"))
		bound(j.Journal)
		if err := j.append(rev+1, written(1, rev+1)); err == nil {
			t.Errorf("%s: no error", name)
		}
		if err := j.append(rev+2, written(2, rev+2)); err != nil {
			t.Errorf("%s: again: %v", name, err)
		}
		if _, err := j.Load(); err == nil {
			t.Errorf("%s: what was saved before is gone on with", name)
		}
		j.max = maxJournal
		if !j.Due() {
			t.Errorf("%s: not due", name)
		}
		must[int64](t)(j.Save(t.Context(), c, "n1"))
		if got := j.loaded(); len(got) != 1 {
			t.Errorf("%s: %d objects", name, len(got))
		}
	}
}

// FuzzJournal: whatever is in the file, it is what was written, up to a record, or an error.
func FuzzJournal(f *testing.F) {
	update := appendUpdate(nil, 7, time.Unix(1e9, 0), []item{{key: "/calico/x", rev: 7, raw: []byte("{}")}, {key: "/calico/y", rev: 6, deleted: true}})
	record, _ := appendRecord(nil, update, 1)
	f.Add(record, update)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1}, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, file, body []byte) {
		head := append([]byte(journalMagic), make([]byte, 32)...)
		s := &Snapshot{Revision: 1}
		if err := s.replay(append(slices.Clone(head), file...)); err == nil && s.Revision <= 0 {
			t.Error("a journal of no revision")
		}
		s = &Snapshot{Revision: 1, items: []item{{key: "/calico/y", rev: 1}}}
		start := &Snapshot{}
		if err := start.replay(head); err != nil {
			t.Fatal(err)
		}
		b, end := appendRecord(head, body, start.end.sum)
		err := s.replay(b)
		if err != nil {
			return
		}
		if s.end != (ending{int64(len(b)), end}) {
			t.Fatal("a whole record is not taken")
		}
		rev, at, changes, err := parseUpdate(body)
		if err != nil || rev != s.Revision {
			t.Fatal(fmt.Errorf("revision %d, taken %d: %w", rev, s.Revision, err))
		}
		again := appendUpdate(nil, rev, at, changes)
		if r, _, c, err := parseUpdate(again); err != nil || r != rev || len(c) != len(changes) || !bytes.Equal(appendUpdate(nil, r, at, c), again) {
			t.Fatal("not the same when written again", err)
		}
	})
}
