// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestEmbeddedDirectoryIsLocked(t *testing.T) {
	dir := t.TempDir()
	startServer(t, dir, "http://127.0.0.1:0")
	began := time.Now()
	_, err := StartEmbedded(context.Background(), EmbeddedConfig{Dir: dir, ListenClient: []string{"http://127.0.0.1:0"}})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("got %v", err)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("took %v", d)
	}
}

func TestEmbeddedPortInUse(t *testing.T) {
	e := startServer(t, t.TempDir(), "http://127.0.0.1:0")
	dir := t.TempDir()
	_, err := StartEmbedded(context.Background(), EmbeddedConfig{Dir: dir, ListenClient: e.URLs()})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("got %v", err)
	}
	// The failed attempt holds nothing.
	startServer(t, dir, "http://127.0.0.1:0")
}

func TestEmbeddedListenAddresses(t *testing.T) {
	for _, bad := range []string{"127.0.0.1:2379", "https://127.0.0.1:0", "http://example.org:0", "http://127.0.0.1:0/x", "http://192.0.2.1:0"} {
		_, err := StartEmbedded(context.Background(), EmbeddedConfig{Dir: t.TempDir(), ListenClient: []string{bad}})
		if err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	sock := "unix://" + filepath.Join(t.TempDir(), "e.sock")
	e, err := StartEmbedded(context.Background(), EmbeddedConfig{Dir: t.TempDir(), UnsafeNoFsync: true,
		ListenClient: []string{"http://127.0.0.1:0", "http://[::1]:0", sock}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if len(e.URLs()) != 3 {
		t.Fatal(e.URLs())
	}
	for _, u := range e.URLs() {
		c := openClient(t, u)
		if err := c.Ping(context.Background()); err != nil {
			t.Errorf("%s: %v", u, err)
		}
		raw, err := c.DialRaw(context.Background())
		if err != nil {
			t.Errorf("%s: %v", u, err)
			continue
		}
		// The tunnel: a client whose every connection is a raw one of another.
		raw.Close()
		through, err := Open(context.Background(), Config{Endpoints: []string{"http://local-daemon:2379"},
			Dial: func(ctx context.Context, _ string) (net.Conn, error) { return c.DialRaw(ctx) }}, testLog(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := through.Ping(context.Background()); err != nil {
			t.Errorf("through %s: %v", u, err)
		}
		through.Close()
	}
}

func TestEmbeddedDamagedData(t *testing.T) {
	dir := t.TempDir()
	e := startServer(t, dir, "http://127.0.0.1:0")
	e.Close()
	if err := os.WriteFile(filepath.Join(dir, "etcd", "member", "snap", "db"), []byte(strings.Repeat("damaged!", 8192)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := StartEmbedded(context.Background(), EmbeddedConfig{Dir: dir, ListenClient: []string{"http://127.0.0.1:0"}, UnsafeNoFsync: true})
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Fatalf("got %v", err)
	}
	t.Log(err)
}

func TestEmbeddedDatabaseHeldByAnother(t *testing.T) {
	dir := t.TempDir()
	startServer(t, dir, "http://127.0.0.1:0").Close()
	db, err := os.Open(filepath.Join(dir, "etcd", "member", "snap", "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := unix.Flock(int(db.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = StartEmbedded(context.Background(), EmbeddedConfig{Dir: dir, ListenClient: []string{"http://127.0.0.1:0"}})
	if err == nil || !strings.Contains(err.Error(), "in use") || time.Since(began) > time.Second {
		t.Fatalf("after %v: %v", time.Since(began), err)
	}
}

func TestEmbeddedClosesQuicklyUnderWatch(t *testing.T) {
	c, e := newStore(t)
	r := startWatch(t, c, nil)
	r.synced(t)
	began := time.Now()
	e.Close()
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("closing took %v", d)
	}
}
