// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bfdd

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// user is who the process is once it has what it needs: a number that belongs
// to nobody, in a range that Debian keeps free (policy 9.2.2), so that no other process
// without rights can send it a signal. Without user 0 it has no capabilities:
// its ports are above 1024, and its sockets need none.
const user = 53784

// realTime has the calling thread scheduled before ordinary ones, so that 100
// ms × 3 holds under load. What the thread starts is ordinary again.
func realTime() error {
	err := unix.SchedSetAttr(0, &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Flags: unix.SCHED_FLAG_RESET_ON_FORK, Priority: 10,
	}, 0)
	if err == nil {
		return nil
	}
	if nice := unix.Setpriority(unix.PRIO_PROCESS, 0, -15); nice != nil {
		return fmt.Errorf("no real-time scheduling: %w", err)
	}
	return fmt.Errorf("no real-time scheduling, nice -15 instead: %w", err)
}

// settle gives up everything that root has, for good, and then asks for real time for the calling thread, which must be
// locked. The other order would stop the machine: to change the user, Go signals every thread of the process and
// turns in a loop until all have answered, and before ordinary threads it would keep the processor from one of those
// until the kernel stops real-time threads, after nearly a second (sched(7), sched_rt_runtime_us). So this
// thread alone keeps what it may have, for as long as it takes to ask.
func settle() (rt, given error) {
	if os.Geteuid() != 0 {
		return realTime(), nil
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		rt = fmt.Errorf("keep capabilities: %w", err)
	}
	given = drop()
	if err := capabilities(1 << unix.CAP_SYS_NICE); err == nil {
		rt = realTime()
	} else if rt == nil {
		rt = fmt.Errorf("no real-time scheduling: %w", err)
	}
	if err := errors.Join(capabilities(0), unix.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0)); err != nil {
		given = errors.Join(given, fmt.Errorf("give up capabilities: %w", err))
	}
	return rt, given
}

// drop has all threads be of user, who has no capabilities but what the calling thread keeps.
func drop() error {
	if err := errors.Join(
		os.Chdir("/"),
		syscall.Setgroups(nil),
		syscall.Setresgid(user, user, user),
		syscall.Setresuid(user, user, user),
	); err != nil {
		return fmt.Errorf("give up rights: %w", err)
	}
	// Nothing that it could execute would give any back.
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); errno != 0 {
		return fmt.Errorf("no_new_privs: %w", errno)
	}
	return nil
}

// capabilities sets those of the calling thread, as bits of the first 32.
func capabilities(set uint32) error {
	data := [2]unix.CapUserData{{Effective: set, Permitted: set}}
	return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
}

// rights says in words what came of both.
func rights(realTime, drop error) string {
	words := []string{"real-time", fmt.Sprintf("user %d without capabilities", user)}
	if realTime != nil {
		words[0] = realTime.Error()
	}
	if drop != nil {
		words[1] = drop.Error()
	} else if os.Geteuid() != user {
		words[1] = fmt.Sprintf("user %d", os.Geteuid())
	}
	return strings.Join(words, "; ")
}
