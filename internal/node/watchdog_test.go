// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestWatchdog: the service manager hears that the daemon is up when the loop comes round, then that it
// still does, and nothing while it is stuck, or after the end.
func TestWatchdog(t *testing.T) {
	dir, err := os.MkdirTemp("", "notify") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	addr := &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"}
	manager, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	hears := func(want string, limit time.Duration) {
		t.Helper()
		b := make([]byte, 64)
		if err := manager.SetReadDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		if n, _ := manager.Read(b); string(b[:n]) != want {
			t.Errorf("heard %q, want %q", b[:n], want)
		}
	}
	const within = 60 * time.Millisecond
	env := map[string]string{"NOTIFY_SOCKET": addr.Name, "WATCHDOG_USEC": strconv.Itoa(int(within.Microseconds())), "WATCHDOG_PID": strconv.Itoa(os.Getpid())}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	l := &loop{calls: make(chan func())}
	d := &Daemon{log: slog.New(slog.DiscardHandler), loop: l}
	done := make(chan struct{})
	go func() {
		d.report(ctx, serviceManagerOf(func(name string) string { return env[name] }))
		close(done)
	}()
	hears("", 4*within) // the loop does not run yet
	for i := range 5 {
		(<-l.calls)()
		hears(map[bool]string{true: "READY=1", false: "WATCHDOG=1"}[i == 0], 10*time.Second)
	}
	hears("", 4*within) // it is stuck
	(<-l.calls)()
	hears("WATCHDOG=1", 10*time.Second)
	end()
	<-done
	hears("", 4*within)
}

// TestServiceManager: what the environment of a daemon says, which is not about it if it names another process.
func TestServiceManager(t *testing.T) {
	me := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		env  map[string]string
		want serviceManager
	}{
		{nil, serviceManager{}},
		{map[string]string{"NOTIFY_SOCKET": "/s"}, serviceManager{socket: "/s"}},
		{map[string]string{"NOTIFY_SOCKET": "@s", "WATCHDOG_USEC": "25000000"}, serviceManager{"@s", 25 * time.Second}},
		{map[string]string{"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "25000000", "WATCHDOG_PID": me}, serviceManager{"/s", 25 * time.Second}},
		{map[string]string{"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "25000000", "WATCHDOG_PID": me + "0"}, serviceManager{socket: "/s"}},
		{map[string]string{"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "often"}, serviceManager{socket: "/s"}},
	} {
		if got := serviceManagerOf(func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.env, got, c.want)
		}
	}
}

// TestUnit: the unit asks for both, and what is stopped or stuck is gone within 30 s.
func TestUnit(t *testing.T) {
	text, err := os.ReadFile("../../packaging/muslin.service")
	if err != nil {
		t.Fatal(err)
	}
	seconds := func(name string) int {
		_, rest, _ := strings.Cut(string(text), "\n"+name+"=")
		line, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.Atoi(line)
		if err != nil || n <= 0 {
			t.Errorf("%s=%s: want seconds", name, line)
		}
		return n
	}
	if n := seconds("WatchdogSec") + seconds("TimeoutAbortSec"); n > 30 || !strings.Contains(string(text), "\nType=notify\n") {
		t.Errorf("what is stuck ends after %d s, want 30 at most, and Type=notify", n)
	}
}
