// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	enc "encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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

// fate is what becomes of something that a daemon is about to do.
type fate int

const (
	fateNone      fate = iota // it is done
	fateFails                 // it is told that it cannot be done
	fateKilled                // the daemon is killed before it is done
	fateForgotten             // and this: it is done, and the daemon killed before it knows
)

func (f fate) String() string {
	return [...]string{"done", "failing", "killed before", "killed after"}[f]
}

// counter counts what a daemon does, in all its lives, and says where that meets
// another fate. It is safe for concurrent use.
type counter struct {
	mu   sync.Mutex
	at   int // the one that does, counted from 1; 0 for none
	fate fate
	seen []string // since arm
	hit  chan struct{}
}

// arm begins to count anew.
func (c *counter) arm(at int, f fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.fate, c.seen, c.hit = at, f, nil, make(chan struct{})
}

// next counts one, and returns its fate.
func (c *counter) next(what string) fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, what)
	if len(c.seen) != c.at {
		return fateNone
	}
	close(c.hit)
	return c.fate
}

// counted are those since arm.
func (c *counter) counted() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.seen)
}

// reached waits until the daemon comes to where it was armed, or has nothing more to do.
func (c *counter) reached(idle func() bool) bool {
	c.mu.Lock()
	hit := c.hit
	c.mu.Unlock()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		select {
		case <-hit:
			return true
		case <-time.After(10 * time.Millisecond):
			if idle() {
				return false
			}
		}
	}
	return false
}

// tracer is asked about the writes of a daemon.
type tracer struct {
	kernel, files *counter
	pid           int
	fd            int
	done          chan struct{}
}

// startTraced starts the daemon of a server so that its writes are counted, and ends with it.
func startTraced(t *testing.T, n *cluster.Node, kernel, files *counter) {
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
	tr := &tracer{kernel: kernel, files: files, pid: n.Process().Pid(), done: make(chan struct{})}
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
		switch f, errno := tr.judge(&n); f {
		case fateKilled:
			unix.Kill(tr.pid, unix.SIGKILL)
			continue
		case fateFails:
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

// judge counts what writes, and tells what becomes of it.
func (tr *tracer) judge(n *notification) (fate, unix.Errno) {
	where, errno, what := tr.what(n)
	if what == "" {
		return fateNone, 0
	}
	return where.next(what), errno
}

// what names a call that writes to the kernel or to a file, where it is counted and how it
// fails; "" is any other.
func (tr *tracer) what(n *notification) (where *counter, errno unix.Errno, what string) {
	call := tracedCalls[uint32(n.nr)]
	switch call {
	case "write", "sync":
		link, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tr.pid, n.args[0]))
		if i := strings.Index(link, "/state/"); i >= 0 {
			return tr.files, unix.ENOSPC, call + " " + link[i+1:]
		}
		if name, ok := strings.CutPrefix(link, "/proc/sys/"); ok {
			return tr.kernel, unix.EPERM, call + " " + name
		}
	case "rename", "remove":
		if path := tr.text(n.args[1]); strings.Contains(path, "/state/") {
			return tr.files, unix.ENOSPC, call + " " + filepath.Base(path)
		}
	case "send":
		return tr.kernel, unix.ENOBUFS, tr.message(n)
	}
	return nil, 0, ""
}

// message names the first message that a call sends to the kernel, if it changes something.
func (tr *tracer) message(n *notification) string {
	if uint32(n.nr) == unix.SYS_SENDTO {
		return routeWrites[tr.messageType(n.args[1])]
	}
	if iov := tr.read(n.args[1]+16, 8); iov != nil { // msg_iov of struct msghdr
		if base := tr.read(enc.NativeEndian.Uint64(iov), 8); base != nil {
			return filterWrites[tr.messageType(enc.NativeEndian.Uint64(base))]
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
