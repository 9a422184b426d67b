// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockSocket is an abstract unix socket: its name is scoped to the network
// namespace, and the kernel frees it when the holder ends, however it ends.
const lockSocket = "@muslin-agent"

// ErrHeld is returned when another daemon holds what this one needs.
type ErrHeld struct {
	What string // the directory, or "this network namespace"
	PID  int    // 0 if it could not be learnt
}

func (e *ErrHeld) Error() string {
	who := "another muslin daemon"
	if e.PID > 0 {
		who = fmt.Sprintf("another muslin daemon (pid %d)", e.PID)
	}
	return fmt.Sprintf("%s is in use by %s: stop it first, or give this one its own", e.What, who)
}

// locks are held for the life of the process and freed by its end.
type locks struct {
	sock  *net.UnixListener
	files []*os.File
}

// takeLocks claims the network namespace and the directories, which it makes
// if they are missing. It does not wait.
func takeLocks(dirs ...string) (*locks, error) {
	l := &locks{}
	sock, err := net.ListenUnix("unix", &net.UnixAddr{Name: lockSocket, Net: "unix"})
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, &ErrHeld{What: "this network namespace", PID: socketHolder()}
		}
		return nil, fmt.Errorf("claim the network namespace: %w", err)
	}
	l.sock = sock
	go l.answer()
	for _, dir := range dirs {
		if err := l.lockDir(dir); err != nil {
			l.release()
			return nil, err
		}
	}
	return l, nil
}

// answer accepts and closes, so that a second daemon can read our pid from
// the credentials of its connection.
func (l *locks) answer() {
	for {
		c, err := l.sock.Accept()
		if err != nil {
			return
		}
		c.Close()
	}
}

func (l *locks) lockDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("directory %s: %w", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "muslin.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("directory %s: %w", dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			b := make([]byte, 16)
			n, _ := f.ReadAt(b, 0)
			pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
			return &ErrHeld{What: "directory " + dir, PID: pid}
		}
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	// Who holds the lock is said by the lock; the pid in it is for people.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	l.files = append(l.files, f)
	return nil
}

func (l *locks) release() {
	if l.sock != nil {
		l.sock.Close()
	}
	for _, f := range l.files {
		f.Close()
	}
}

func socketHolder() int {
	c, err := net.DialTimeout("unix", lockSocket, 500*time.Millisecond)
	if err != nil {
		return 0
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}
