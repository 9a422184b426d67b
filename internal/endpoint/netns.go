// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// openNamespace opens a network namespace by its path, such as /run/netns/NAME
// or /proc/PID/ns/net, and refuses everything else: what is not a namespace,
// a namespace of another kind, and the one that the caller is in, which is the
// host's. Symbolic links are followed, because those in /proc are, and what
// they lead to is judged.
func openNamespace(path string) (*os.File, error) {
	// Without O_NONBLOCK, opening a FIFO would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		var at *os.PathError
		if errors.As(err, &at) {
			err = at.Err
		}
		return nil, fmt.Errorf("%s is %w: %w", path, ErrNamespace, err)
	}
	if err := checkNamespace(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is %w: %w", path, ErrNamespace, err)
	}
	return f, nil
}

// CheckNamespace tells, before anything is done, whether a path is the network
// namespace of a workload. The error is ErrNamespace.
func CheckNamespace(path string) error {
	f, err := openNamespace(path)
	if err != nil {
		return err
	}
	return f.Close()
}

func checkNamespace(f *os.File) error {
	fd := int(f.Fd())
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		return errors.New("the file is not a namespace; is it still mounted?")
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return fmt.Errorf("namespace type: %w", err)
	}
	if kind != unix.CLONE_NEWNET {
		return errors.New("the file is a namespace of another kind")
	}
	var own, got unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &own); err != nil {
		return fmt.Errorf("own namespace: %w", err)
	}
	if err := unix.Fstat(fd, &got); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if own.Dev == got.Dev && own.Ino == got.Ino {
		return errors.New("it is the host's own")
	}
	return nil
}

// inside runs f on a thread that enters the namespace and ends with f: no
// other goroutine ever runs on a thread that has been elsewhere.
func inside(ns *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the runtime ends the thread
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}
