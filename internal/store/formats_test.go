// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestP08_Formats holds what a daemon leaves on disk for the next one, of whatever version,
// against files that were written once. They are read as they were meant, and what is written
// now is the same to the byte: who changes a format gives it another number, and adds files.
// A file of another number is none, however whole it is.
func TestP08_Formats(t *testing.T) {
	dir := filepath.Join("testdata", "formats")
	at := time.Unix(1_790_000_000, 0)
	snapshot := func(magic string) []byte {
		var b bytes.Buffer
		w := newSnapshotWriter(&b)
		for i := range 3 {
			w.object([]byte(setKey(i)), int64(100+i), setValue(i))
		}
		w.object([]byte(clusterKey), 200, []byte(`{"spec":{"clusterGUID":"c1"}}`))
		if err := w.end(0xfedcba9876543210, 300, at, "n1"); err != nil {
			t.Fatal(err)
		}
		body := append([]byte(magic), b.Bytes()[len(snapshotMagic):b.Len()-sha256.Size]...)
		sum := sha256.Sum256(body)
		return append(body, sum[:]...)
	}
	journal := func(magic string, saved []byte) []byte {
		sum := saved[len(saved)-sha256.Size:]
		b, end := append([]byte(magic), sum...), crc32.Checksum(sum, sums)
		b, end = appendRecord(b, appendUpdate(nil, 301, at.Add(time.Minute), []item{
			{key: setKey(1), deleted: true, rev: 301}, {key: setKey(3), rev: 301, raw: setValue(3)}}), end)
		b, _ = appendRecord(b, appendUpdate(nil, 301, at.Add(time.Hour), nil), end)
		return b
	}
	files := map[string][]byte{"snapshot-2": snapshot(snapshotMagic), "journal-1": journal(journalMagic, snapshot(snapshotMagic))}
	for name, now := range files {
		if was, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(was, now) {
			t.Errorf("%s: %v: written now is\n%q\nand was\n%q", name, err, now, was)
		}
	}

	s, err := NewJournal(filepath.Join(dir, "snapshot-2"), filepath.Join(dir, "journal-1")).Load()
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, it := range s.items {
		got += fmt.Sprintf("%s %d %s\n", it.key, it.rev, it.raw)
	}
	want := fmt.Sprintf("%s 100 %s\n%s 102 %s\n%s 200 %s\n%s 301 %s\n", setKey(0), setValue(0), setKey(2), setValue(2),
		clusterKey, `{"spec":{"clusterGUID":"c1"}}`, setKey(3), setValue(3))
	if got != want || s.Revision != 301 || !s.Taken.Equal(at.Add(time.Hour)) || s.Node != "n1" || s.ClusterGUID != "c1" || s.clusterID != 0xfedcba9876543210 {
		t.Errorf("read: revision %d, taken %v, by %q in cluster %q, %x:\n%swant\n%s", s.Revision, s.Taken, s.Node, s.ClusterGUID, s.clusterID, got, want)
	}

	other := t.TempDir()
	for _, c := range []struct{ snapshot, journal string }{
		{"muslin snapshot 1\n", journalMagic}, {"muslin snapshot 3\n", journalMagic},
		{snapshotMagic, "muslin journal 0\n"}, {snapshotMagic, "muslin journal 2\n"},
	} {
		saved := snapshot(c.snapshot)
		for name, b := range map[string][]byte{"saved": saved, "journal": journal(c.journal, saved)} {
			if err := os.WriteFile(filepath.Join(other, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if s, err := NewJournal(filepath.Join(other, "saved"), filepath.Join(other, "journal")).Load(); err == nil {
			t.Errorf("%q and %q are gone on with: %d objects", strings.TrimSpace(c.snapshot), strings.TrimSpace(c.journal), len(s.items))
		}
	}
}
