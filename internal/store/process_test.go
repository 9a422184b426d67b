// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// serveArg makes the test program the process of StartProcess.
const serveArg = "serve-etcd"

func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == serveArg {
		Serve(EmbeddedConfig{Dir: os.Args[3], ListenClient: strings.Split(os.Args[5], ","), UnsafeNoFsync: true}, os.Stdin, os.Stdout)
		return
	}
	os.Exit(m.Run())
}

func startProcess(t *testing.T, dir, listen string) (*Process, error) {
	t.Helper()
	p, err := StartProcess(context.Background(), ProcessConfig{Command: []string{"/proc/self/exe", serveArg}, Dir: dir, ListenClient: []string{listen}, Log: testLog(t)})
	if err == nil {
		t.Cleanup(func() { p.Close() })
	}
	return p, err
}

// holder is the process that has a data directory.
func holder(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(dir + "/etcd.lock")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestProcessIsStartedAgain kills etcd: it is back at the same address with what was written,
// and what it said of its end is gone once it lives.
func TestProcessIsStartedAgain(t *testing.T) {
	dir := t.TempDir()
	p := must[*Process](t)(startProcess(t, dir, "http://127.0.0.1:0"))
	c := openClient(t, p.URLs()...)
	r := startWatch(t, c, nil)
	r.synced(t)
	fill(t, c, 0, 3)
	for range 2 {
		pid := holder(t, dir)
		if pid == os.Getpid() {
			t.Fatal("etcd has no process of its own")
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		labtest.Poll(t, 5*time.Second, func() error {
			if err := p.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
				return fmt.Errorf("its end is said to be %v", err)
			}
			return nil
		})
		answers(t, c)
		labtest.Poll(t, 10*time.Second, p.Err)
	}
	rev := fill(t, c, 3, 4)
	r.at(t, rev)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.holds(t, c); err != nil || len(r.state) != 4 {
		t.Errorf("%d objects, %v", len(r.state), err)
	}
}

// TestProcessEndsInOrder: who closes it can have the directory and the address at once.
func TestProcessEndsInOrder(t *testing.T) {
	dir := t.TempDir()
	p := must[*Process](t)(startProcess(t, dir, "http://127.0.0.1:0"))
	pid, began := holder(t, dir), time.Now()
	p.Close()
	t.Logf("closed after %v", time.Since(began))
	if err := syscall.Kill(pid, 0); err == nil {
		t.Error("the process lives on")
	}
	startServer(t, dir, p.URLs()[0])
}

// TestProcessWaitsForTheOneBefore: the process of an agent that was killed may hold the
// directory for a moment longer than that agent does.
func TestProcessWaitsForTheOneBefore(t *testing.T) {
	dir := t.TempDir()
	before := startServer(t, dir, "http://127.0.0.1:0")
	time.AfterFunc(time.Second, func() { before.Close() })
	began := time.Now()
	p := must[*Process](t)(startProcess(t, dir, "http://127.0.0.1:0"))
	if time.Since(began) < 500*time.Millisecond {
		t.Error("it did not wait")
	}
	answers(t, openClient(t, p.URLs()...))
}

// TestProcessRefusal: what is wrong with the first start is said as if etcd ran inside.
func TestProcessRefusal(t *testing.T) {
	e := startServer(t, t.TempDir(), "http://127.0.0.1:0")
	for listen, want := range map[string]string{e.URLs()[0]: "--etcd-listen", "https://127.0.0.1:1": "TLS", "http://192.0.2.1:0": "192.0.2.1"} {
		dir := t.TempDir()
		_, err := startProcess(t, dir, listen)
		_, inside := StartEmbedded(context.Background(), EmbeddedConfig{Dir: dir, ListenClient: []string{listen}})
		if err == nil || inside == nil || err.Error() != inside.Error() || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, inside %v", listen, err, inside)
		}
	}
}
