// SPDX-License-Identifier: Apache-2.0

// Package lock makes a process the only one of its kind in a network namespace
// and in the directories that it uses. The kernel frees what it took, however
// the process ends; nothing has to be cleaned up.
package lock

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is a kind of process, and what there is one of each of.
type Kind struct {
	What string // for people
	// Socket is an abstract unix socket: its name is scoped to the network
	// namespace, and the kernel frees it with its holder.
	Socket string
	File   string // in each directory; the holder's process id stands in it
}

// ErrHeld is returned when another process holds what this one needs.
type ErrHeld struct {
	Kind Kind
	What string // the directory, or "this network namespace"
	PID  int    // 0 if it could not be learnt
}

func (e *ErrHeld) Error() string {
	who := "another " + e.Kind.What
	if e.PID > 0 {
		who = fmt.Sprintf("another %s (pid %d)", e.Kind.What, e.PID)
	}
	return fmt.Sprintf("%s is in use by %s: stop it first, or give this one its own", e.What, who)
}

// Locks are held for the life of the process and freed by its end.
type Locks struct {
	kind  Kind
	sock  *net.UnixListener
	files []*os.File
}

// Take claims the network namespace and the directories, which it makes
// if they are missing. It does not wait.
func Take(kind Kind, dirs ...string) (*Locks, error) {
	l := &Locks{kind: kind}
	if err := l.claim(); err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		if err := l.lockDir(dir); err != nil {
			l.Release()
			return nil, err
		}
	}
	return l, nil
}

func (l *Locks) lockDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("directory %s: %w", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, l.kind.File), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("directory %s: %w", dir, err)
	}
	if l.has(f) {
		return f.Close() // one directory for two purposes
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return &ErrHeld{Kind: l.kind, What: "directory " + dir, PID: readPID(f)}
		}
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	// Who holds the lock is said by the lock; the pid in it is for people.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	l.files = append(l.files, f)
	return nil
}

// has tells whether a file is locked by these locks already.
func (l *Locks) has(f *os.File) bool {
	is, err := f.Stat()
	return err == nil && slices.ContainsFunc(l.files, func(o *os.File) bool {
		other, err := o.Stat()
		return err == nil && os.SameFile(is, other)
	})
}

// Release frees everything.
func (l *Locks) Release() {
	if l.sock != nil {
		l.sock.Close()
	}
	for _, f := range l.files {
		f.Close()
	}
}

// Holder tells whether a process of a kind has locked a directory, and which;
// its pid is 0 if that could not be learnt.
func (k Kind) Holder(dir string) (pid int, held bool) {
	f, err := os.Open(filepath.Join(dir, k.File))
	if err != nil {
		return 0, false
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, false // ours for a moment; closing frees it
	}
	return readPID(f), true
}

func readPID(f *os.File) int {
	b := make([]byte, 16)
	n, _ := f.ReadAt(b, 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	return pid
}
