// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package unread throws away what waits in a netlink socket.
package unread

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Discard reads all that waits in a netlink socket, and keeps nothing of it. It does not wait.
//
// Who listens has to do it after ENOBUFS, and only then look at everything: once a
// notification did not fit, the kernel delivers no more of them until the last that waits
// is read, and says so no second time (netlink_overrun). What changes in between would
// be in neither.
func Discard(fd int) {
	for {
		_, _, err := unix.Recvfrom(fd, nil, unix.MSG_TRUNC|unix.MSG_DONTWAIT)
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
