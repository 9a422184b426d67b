// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// A service manager that asks for it is told that the daemon is up and, again and again, that its
// loop comes round: one that is stuck is ended and started anew, and the data plane stays as it
// is meanwhile. See sd_notify(3) and sd_watchdog_enabled(3).

// serviceManager is who is told; its zero value is nobody.
type serviceManager struct {
	socket string
	within time.Duration // no word for so long means that the daemon is stuck; 0 for never
}

// serviceManagerOf reads the environment.
func serviceManagerOf(env func(string) string) serviceManager {
	m := serviceManager{socket: env("NOTIFY_SOCKET")}
	usec, err := strconv.ParseInt(env("WATCHDOG_USEC"), 10, 64)
	if pid := env("WATCHDOG_PID"); err == nil && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		m.within = time.Duration(usec) * time.Microsecond
	}
	return m
}

// tell sends one word, and does not wait for a manager that does not read.
func (m serviceManager) tell(word string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager %s: %w", word, err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(word))
	return err
}

// report tells the service manager, from the first time that the loop comes round.
func (d *Daemon) report(ctx context.Context, m serviceManager) {
	if m.socket == "" {
		return
	}
	tell := func(word string) {
		if err := m.tell(word); err != nil {
			d.log.Warn("the service manager does not know how this daemon is", "err", err)
		}
	}
	if !d.loop.call(ctx, func() {}) {
		return
	}
	tell("READY=1")
	if m.within <= 0 {
		return
	}
	for pause(ctx, m.within/3) && d.loop.call(ctx, func() {}) {
		tell("WATCHDOG=1")
	}
}
