// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// netnsDir is where iproute2 looks for named namespaces.
const netnsDir = "/run/netns"

// Namespace is a named network namespace. All methods are safe for concurrent
// use; none changes the namespace of the calling goroutine.
type Namespace struct {
	name string

	mu      sync.Mutex
	file    *os.File // nil once deleted
	handle  *netlink.Handle
	closers map[ender]struct{} // processes, servers and flows to end first
}

// ender is something that lives in a namespace and must end before it.
type ender interface{ end() }

// NewNamespace creates a network namespace, brings its loopback up and pins it
// at /run/netns/NAME, where `ip netns` finds it. It fails if the name is taken.
// Delete must be called: the name outlives the process.
func NewNamespace(name string) (*Namespace, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return nil, fmt.Errorf("network namespace name %q: want one path element", name)
	}
	n := &Namespace{name: name, closers: map[ender]struct{}{}}
	if err := onThread(n.create); err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", name, err)
	}
	if err := n.LinkUp("lo"); err != nil {
		return nil, errors.Join(err, n.Delete())
	}
	return n, nil
}

// OpenNamespace opens the namespace NAME that somebody else made, such as
// `ip netns add`. Delete removes it.
func OpenNamespace(name string) (*Namespace, error) {
	f, err := os.Open(filepath.Join(netnsDir, name))
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", name, err)
	}
	return &Namespace{name: name, file: f, closers: map[ender]struct{}{}}, nil
}

// create runs on a thread of its own, which leaves its namespace for good.
func (n *Namespace) create() error {
	if err := sharedDir(); err != nil {
		return err
	}
	path := n.Path()
	pin, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0)
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s exists: delete it or choose another name: %w", path, fs.ErrExist)
		}
		return err
	}
	pin.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		os.Remove(path)
		return fmt.Errorf("unshare: %w (root is needed)", err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, ""); err != nil {
		os.Remove(path)
		return fmt.Errorf("bind mount at %s: %w", path, err)
	}
	if n.file, err = os.Open(path); err != nil {
		return errors.Join(err, Remove(n.name))
	}
	return nil
}

// sharedDir makes /run/netns a shared mount, so that namespaces made in one
// mount namespace are seen, and can be removed, in the others. The lock is the
// one that iproute2 takes: two concurrent binds would stack.
func sharedDir() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	d, err := os.Open(netnsDir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", netnsDir, err)
	}
	err = unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// Not a mount point yet.
	if err := unix.Mount(netnsDir, netnsDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", netnsDir, err)
	}
	return unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "")
}

// Remove deletes the name of a namespace, made by whomever. Processes inside
// it keep it alive until they end; none is signalled. A missing name is no error.
func Remove(name string) error {
	path := filepath.Join(netnsDir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil &&
		!errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Name returns the name under /run/netns.
func (n *Namespace) Name() string { return n.name }

// Path returns the file that stands for the namespace, for setns and --netns.
func (n *Namespace) Path() string { return filepath.Join(netnsDir, n.name) }

// Delete ends the processes, servers and flows that were started through n,
// and removes the namespace. It is idempotent.
func (n *Namespace) Delete() error {
	n.mu.Lock()
	live := make([]ender, 0, len(n.closers))
	for c := range n.closers {
		live = append(live, c)
	}
	n.mu.Unlock()
	for _, c := range live {
		c.end() // takes itself off the list
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file == nil {
		return nil
	}
	if n.handle != nil {
		n.handle.Close()
		n.handle = nil
	}
	n.file.Close()
	n.file = nil
	return Remove(n.name)
}

func (n *Namespace) adopt(c ender) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closers[c] = struct{}{}
}

func (n *Namespace) release(c ender) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.closers, c)
}

// Do runs f on a thread inside the namespace and returns its error. The
// thread ends with f; a goroutine that f starts runs outside the namespace,
// and a child that f starts with Pdeathsig set dies with the thread (use Start).
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return f()
	})
}

// enter moves the calling thread, which must be locked, into the namespace.
func (n *Namespace) enter() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file == nil {
		return fmt.Errorf("network namespace %s: %w", n.name, fs.ErrClosed)
	}
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", n.name, err)
	}
	return nil
}

// onThread runs f on a locked thread. The goroutine ends locked, so the
// runtime destroys the thread: one whose namespace changed is never reused.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// Handle returns a netlink handle for the namespace. It is shared: do not
// close it. It may be used from any goroutine.
func (n *Namespace) Handle() (*netlink.Handle, error) {
	n.mu.Lock()
	h := n.handle
	n.mu.Unlock()
	if h != nil {
		return h, nil
	}
	err := n.Do(func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.handle != nil || n.file == nil { // lost a race against another caller, or Delete
		h.Close()
		if n.handle == nil {
			return nil, fmt.Errorf("network namespace %s: %w", n.name, fs.ErrClosed)
		}
		return n.handle, nil
	}
	n.handle = h
	return h, nil
}

// SetSysctl writes a value under /proc/sys in the namespace. The key has
// slashes, because interface names may have dots: net/ipv4/ip_forward.
func (n *Namespace) SetSysctl(key, value string) error {
	return n.Do(func() error {
		if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil {
			return fmt.Errorf("%s: sysctl %s=%s: %w", n.name, key, value, err)
		}
		return nil
	})
}

// Sysctl reads a value under /proc/sys in the namespace.
func (n *Namespace) Sysctl(key string) (string, error) {
	var out string
	err := n.Do(func() error {
		b, err := os.ReadFile(filepath.Join("/proc/sys", key))
		if err != nil {
			return fmt.Errorf("%s: sysctl %s: %w", n.name, key, err)
		}
		out = strings.TrimSpace(string(b))
		return nil
	})
	return out, err
}
