// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	enc "encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// This page stops a daemon, as it is built, at each of its writes to the kernel and to its
// files: the kernel asks us before it does these system calls (seccomp user
// notification, Linux 5.19), and we let it, kill the daemon, or have the call fail.

// tracedEnv makes this program install the filter and become the one that it names.
const tracedEnv = "E2E_TRACED"

// tracedCalls are those that write.
var tracedCalls = map[uint32]string{
	unix.SYS_SENDTO: "send", unix.SYS_SENDMSG: "send", unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "write",
	unix.SYS_FSYNC: "sync", unix.SYS_FDATASYNC: "sync", unix.SYS_RENAMEAT: "rename", unix.SYS_UNLINKAT: "remove",
}

// runTraced becomes a program whose traced calls wait for whoever has the filter's descriptor.
// It returns if that fails.
func runTraced(program string) error {
	runtime.LockOSThread()
	f := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the call's number
	left := len(tracedCalls)
	for nr := range tracedCalls {
		f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jt: uint8(left)})
		left--
	}
	f = append(f, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	unix.Unlinkat(unix.AT_FDCWD, "", 0) // waits until somebody has the descriptor, which the next line closes
	env := []string{}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, tracedEnv+"=") {
			env = append(env, e)
		}
	}
	return unix.Exec(program, append([]string{program}, os.Args[1:]...), env)
}

// notification is struct seccomp_notif of linux/seccomp.h.
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

// answer is struct seccomp_notif_resp.
type answer struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

// tracer is asked about the writes of a daemon.
type tracer struct {
	pid  int
	fd   int
	done chan struct{}

	mu    sync.Mutex
	at    int        // the write that it stops at, counted from 1; 0 for none
	errno unix.Errno // what that fails with; 0 kills the daemon
	seen  []string   // writes since arm
	hit   chan struct{}
}

// startTraced starts the daemon of a server so that its writes are asked about.
func startTraced(t *testing.T, n *cluster.Node) *tracer {
	t.Helper()
	if n.Daemon == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		n.Daemon = self
		n.Env = append(n.Env, tracedEnv+"="+binary)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	tr := &tracer{pid: n.Process().Pid(), done: make(chan struct{}), hit: make(chan struct{})}
	pidfd, err := unix.PidfdOpen(tr.pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	eventually(t, 10*time.Second, func() error {
		dir := fmt.Sprintf("/proc/%d/fd", tr.pid)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if link, _ := os.Readlink(filepath.Join(dir, e.Name())); link == "anon_inode:seccomp notify" {
				var fd int
				if _, err := fmt.Sscan(e.Name(), &fd); err != nil {
					return err
				}
				tr.fd, err = unix.PidfdGetfd(pidfd, fd, 0)
				return err
			}
		}
		return errors.New("no filter yet: " + n.Log())
	})
	go tr.serve()
	t.Cleanup(func() {
		n.Kill()
		<-tr.done
	})
	return tr
}

// serve answers until all processes of the daemon have ended.
func (tr *tracer) serve() {
	defer close(tr.done)
	defer unix.Close(tr.fd)
	for {
		p := []unix.PollFd{{Fd: int32(tr.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err != nil && err != unix.EINTR {
			return
		}
		if p[0].Revents&unix.POLLIN == 0 {
			if p[0].Revents != 0 {
				return
			}
			continue
		}
		var n notification
		if tr.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)) != nil {
			continue // it was killed meanwhile
		}
		a := answer{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if stop, errno := tr.judge(&n); stop && errno == 0 {
			unix.Kill(tr.pid, unix.SIGKILL)
			continue
		} else if stop {
			a.flags, a.errno = 0, -int32(errno)
		}
		_ = tr.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&a)) // fails if it was killed meanwhile
	}
}

func (tr *tracer) ioctl(req uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(tr.fd), req, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// judge counts what writes, and tells whether this is where the daemon stops.
func (tr *tracer) judge(n *notification) (stop bool, errno unix.Errno) {
	what := tr.what(n)
	if what == "" {
		return false, 0
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.seen = append(tr.seen, what)
	if len(tr.seen) != tr.at {
		return false, 0
	}
	close(tr.hit)
	return true, tr.errno
}

// arm stops the daemon at its at-th write from now on; at 0 counts only.
func (tr *tracer) arm(at int, errno unix.Errno) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.at, tr.errno, tr.seen, tr.hit = at, errno, nil, make(chan struct{})
}

// reached waits until the daemon stops, or has nothing more to do.
func (tr *tracer) reached(done func() bool) bool {
	tr.mu.Lock()
	hit := tr.hit
	tr.mu.Unlock()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		select {
		case <-hit:
			return true
		case <-time.After(10 * time.Millisecond):
			if done() {
				return false
			}
		}
	}
	return false
}

// writes are those since arm.
func (tr *tracer) writes() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return append([]string(nil), tr.seen...)
}

// what names a call that writes to the kernel or to a file; "" is any other.
func (tr *tracer) what(n *notification) string {
	call := tracedCalls[uint32(n.nr)]
	switch call {
	case "write", "sync":
		link, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tr.pid, n.args[0]))
		if i := strings.Index(link, "/state/"); i >= 0 {
			return call + " " + link[i+1:]
		}
		if name, ok := strings.CutPrefix(link, "/proc/sys/"); ok {
			return call + " " + name
		}
	case "rename", "remove":
		if path := tr.text(n.args[1]); strings.Contains(path, "/state/") {
			return call + " " + filepath.Base(path)
		}
	case "send":
		if uint32(n.nr) == unix.SYS_SENDTO {
			return routeWrites[tr.messageType(n.args[1])]
		}
		if iov := tr.read(n.args[1]+16, 8); iov != nil { // msg_iov of struct msghdr
			if base := tr.read(enc.NativeEndian.Uint64(iov), 8); base != nil {
				return filterWrites[tr.messageType(enc.NativeEndian.Uint64(base))]
			}
		}
	}
	return ""
}

// routeWrites and filterWrites are the types of netlink messages that change something.
var (
	routeWrites = map[uint16]string{
		unix.RTM_NEWLINK: "make a link", unix.RTM_DELLINK: "remove a link", unix.RTM_SETLINK: "set a link",
		unix.RTM_NEWADDR: "add an address", unix.RTM_DELADDR: "remove an address",
		unix.RTM_NEWROUTE: "add a route", unix.RTM_DELROUTE: "remove a route",
		unix.RTM_NEWNEIGH: "add a neighbour", unix.RTM_DELNEIGH: "remove a neighbour",
		unix.RTM_NEWNEXTHOP: "add a next hop", unix.RTM_DELNEXTHOP: "remove a next hop",
	}
	filterWrites = map[uint16]string{
		unix.NFNL_MSG_BATCH_BEGIN:       "a transaction of nftables",
		unix.NFNL_SUBSYS_CTNETLINK << 8: "mark a flow", unix.NFNL_SUBSYS_CTNETLINK<<8 | 2: "end a flow",
	}
)

func (tr *tracer) messageType(at uint64) uint16 {
	if h := tr.read(at, 6); h != nil {
		return enc.NativeEndian.Uint16(h[4:])
	}
	return 0
}

func (tr *tracer) text(at uint64) string {
	s, _, _ := strings.Cut(string(tr.read(at, 256)), "\x00")
	return s
}

// read reads the daemon's memory, as far as it goes.
func (tr *tracer) read(at uint64, n int) []byte {
	b := make([]byte, n)
	got, err := unix.ProcessVMReadv(tr.pid, []unix.Iovec{{Base: &b[0], Len: uint64(n)}}, []unix.RemoteIovec{{Base: uintptr(at), Len: n}}, 0)
	if err != nil {
		return nil
	}
	return b[:got]
}
