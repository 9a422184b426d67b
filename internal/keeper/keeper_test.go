// SPDX-License-Identifier: Apache-2.0

package keeper_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/keeper"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// runDir in the environment makes this program a keeper.
const runDir = "MUSLIN_TEST_KEEPER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(runDir); dir != "" {
		if err := keeper.Run(dir, keeper.Descriptor); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// start starts a keeper in a namespace, of a netlink socket of that namespace, and returns the
// cookie of the socket.
func start(t *testing.T, ns *lab.Namespace, dir string) (*lab.Process, uint64) {
	t.Helper()
	var socket *os.File
	err := ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		socket = os.NewFile(uintptr(fd), "netlink")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	which := cookie(t, socket)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), runDir+"="+dir), []*os.File{socket}
	cmd.Stderr = os.Stderr
	p, err := ns.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return p, which
}

// cookie tells sockets apart, whoever has a descriptor of them.
func cookie(t *testing.T, f *os.File) uint64 {
	t.Helper()
	n, err := unix.GetsockoptUint64(int(f.Fd()), unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// take takes the socket, as soon as the keeper is there.
func take(t *testing.T, dir string) *os.File {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		f, err := keeper.Take(dir)
		if err != nil || f == nil && time.Now().After(limit) {
			t.Fatalf("%v, %v", f, err)
		}
		if f != nil {
			t.Cleanup(func() { f.Close() })
			return f
		}
	}
}

// TestKeeper: whoever asks gets the socket that the keeper was given, also after SIGTERM. One that is stopped is named,
// instead of being waited for, or passed over, and hands it out when it goes on. It ends when it is told to.
func TestKeeper(t *testing.T) {
	ns, dir := labtest.Namespace(t, labtest.New(t), "host"), t.TempDir()
	if f, err := keeper.Take(dir); f != nil || err != nil {
		t.Errorf("there is no keeper: %v, %v", f, err)
	}
	p, want := start(t, ns, dir)
	same := func(when string) {
		t.Helper()
		if got := cookie(t, take(t, dir)); got != want {
			t.Errorf("%s: socket %d, want %d", when, got, want)
		}
	}
	same("at first")
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := p.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(unix.SIGTERM)
	same("told to end by a signal")
	signal(unix.SIGSTOP)
	if f, err := keeper.Take(dir); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", p.Pid())) {
		t.Errorf("one that is stopped: %v, %v, want an error that names pid %d", f, err, p.Pid())
	}
	signal(unix.SIGCONT)
	same("going on")
	if was, err := keeper.End(dir); !was || err != nil {
		t.Errorf("end: %v, %v", was, err)
	}
	if f, err := keeper.Take(dir); f != nil || err != nil {
		t.Errorf("after its end: %v, %v", f, err)
	}
}

// TestForeignSocket: a socket that is of another network namespace changes the tables there, and is refused.
func TestForeignSocket(t *testing.T) {
	l := labtest.New(t)
	here, there, dir := labtest.Namespace(t, l, "here"), labtest.Namespace(t, l, "there"), t.TempDir()
	start(t, there, dir)
	open := func(ns *lab.Namespace) error {
		kept := take(t, dir)
		return ns.Do(func() error {
			tab, err := acl.Open(acl.Options{Prefixes: []string{"cali"}, Own: true, Socket: kept})
			if err == nil {
				err = tab.Close()
			}
			return err
		})
	}
	if err := open(here); err == nil || !strings.Contains(err.Error(), "another network namespace") {
		t.Errorf("in another namespace: %v", err)
	}
	if err := open(there); err != nil {
		t.Errorf("in its own: %v", err)
	}
}
