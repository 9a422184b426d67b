// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Detach runs cmd in the namespace and leaves it alone: it outlives this
// program, and Delete. Its input and output are the caller's to set, and must
// be files. [EndInside] ends it.
func (n *Namespace) Detach(cmd *exec.Cmd) (pid int, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := n.Do(cmd.Start); err != nil {
		return 0, fmt.Errorf("start %s in %s: %w", cmd.Path, n.name, err)
	}
	pid = cmd.Process.Pid
	go func() { _ = cmd.Wait() }() // as long as this program lives, no zombie is left
	return pid, nil
}

// inode is what tells one namespace from all others.
type inode struct{ dev, ino uint64 }

func inodeOf(path string) (inode, bool) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return inode{uint64(st.Dev), st.Ino}, err == nil
}

// spaces are those of the named namespaces that exist.
func spaces(names []string) map[inode]bool {
	out := map[inode]bool{}
	for _, name := range names {
		if f, ok := inodeOf(filepath.Join(netnsDir, name)); ok {
			out[f] = true
		}
	}
	return out
}

func isInside(pid int, in map[inode]bool) bool {
	f, ok := inodeOf(fmt.Sprintf("/proc/%d/ns/net", pid))
	return ok && in[f]
}

// Inside lists the processes whose network namespace is one of those named,
// but for this one, whose first thread may have been borrowed by [Namespace.Do].
// Names that do not exist are left out.
func Inside(names ...string) (pids []int, err error) {
	in := spaces(names)
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() && isInside(pid, in) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// EndInside kills every process in the namespaces named, whoever started it, and waits
// until none is left.
func EndInside(names ...string) error {
	in := spaces(names)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		pids, err := Inside(names...)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("processes %v do not end", pids)
		}
		for _, pid := range pids {
			if err := killInside(pid, in); err != nil {
				return err
			}
		}
	}
}

// killInside kills a process if it is still inside once it is held by a
// descriptor: the number may have gone to another one meanwhile.
func killInside(pid int, in map[inode]bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // gone, or a zombie's thread
		return nil
	} else if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if !isInside(pid, in) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end process %d: %w", pid, err)
	}
	return nil
}
