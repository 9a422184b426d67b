// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// claim claims the network namespace.
func (l *Locks) claim() error {
	sock, err := net.ListenUnix("unix", &net.UnixAddr{Name: l.kind.Socket, Net: "unix"})
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return &ErrHeld{Kind: l.kind, What: "this network namespace", PID: socketHolder(l.kind.Socket)}
		}
		return fmt.Errorf("claim the network namespace: %w", err)
	}
	l.sock = sock
	go l.answer()
	return nil
}

func socketHolder(name string) int {
	c, err := net.DialTimeout("unix", name, 500*time.Millisecond)
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

// answer accepts and closes, so that a second process can read our pid from
// the credentials of its connection.
func (l *Locks) answer() {
	for {
		c, err := l.sock.Accept()
		if err != nil {
			return
		}
		c.Close()
	}
}
