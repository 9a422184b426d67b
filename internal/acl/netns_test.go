// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"log/slog"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
)

func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("MUSLIN_REQUIRE_ROOT") == "1" {
		tb.Fatal("must be root")
	}
	tb.Skip("must be root to make network namespaces")
}

// inNetns moves the test to a new network namespace of its own, which ends
// with it.
func inNetns(tb testing.TB) netns.NsHandle {
	tb.Helper()
	needRoot(tb)
	runtime.LockOSThread()
	old, err := netns.Get()
	if err != nil {
		tb.Fatal(err)
	}
	ns, err := netns.New()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		netns.Set(old)
		old.Close()
		ns.Close()
		runtime.UnlockOSThread()
	})
	return ns
}

func openTable(tb testing.TB, change ...func(*Options)) *Table {
	tb.Helper()
	o := Options{Log: slog.New(slog.NewTextHandler(testWriter{tb}, nil)), Prefixes: []string{"cali"}}
	for _, f := range change {
		f(&o)
	}
	t, err := Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { t.Close() })
	return t
}

type testWriter struct{ testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.Logf("%s", p)
	return len(p), nil
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func generation(tb testing.TB, t *Table) uint32 {
	tb.Helper()
	g, err := t.sock.generation()
	must(tb, err)
	return g
}

// quiet fails if a Resync with the view finds anything to write.
func quiet(tb testing.TB, t *Table, v *memView) {
	tb.Helper()
	before, n := generation(tb, t), t.Stats().Commits
	must(tb, t.Resync(v))
	if after := generation(tb, t); after != before || t.Stats().Commits != n {
		m := 0
		_, _, err := t.compare(v, func(one *msgs) { m += len(one.starts) })
		tb.Fatalf("resync wrote although nothing differs: generation %d to %d (now %d messages, %v)", before, after, m, err)
	}
}
