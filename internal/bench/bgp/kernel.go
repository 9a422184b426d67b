// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
)

// The kernel's side of the router, read by nobody's code but this.

// fibStat is how many IPv4 prefixes a namespace routes and what they occupy,
// from /proc/net/fib_triestat: leaves, inner nodes and aliases of the main
// table. (The local table is listed as well, and is the same tree where no rule
// parts them.)
func fibStat(ns *lab.Namespace) (prefixes int, bytes int64, err error) {
	err = ns.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/fib_triestat")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if key == "Local" {
				break
			}
			if key != "Prefixes" && key != "Total size" {
				continue
			}
			n, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				return fmt.Errorf("fib_triestat: %q", line)
			}
			if key == "Prefixes" {
				prefixes += int(n)
			} else {
				bytes += n << 10
			}
		}
		return nil
	})
	return prefixes, bytes, err
}

// monitor notes when IPv4 host routes come into and go out of the kernel.
type monitor struct {
	fd   int
	done sync.WaitGroup

	mu   sync.Mutex
	came map[uint32]time.Time
	gone map[uint32]time.Time
	err  error // the socket failed, or notifications were lost
}

func startMonitor(ns *lab.Namespace) (*monitor, error) {
	m := &monitor{came: map[uint32]time.Time{}, gone: map[uint32]time.Time{}}
	err := ns.Do(func() (err error) {
		if m.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE); err != nil {
			return err
		}
		_ = unix.SetsockoptInt(m.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		// So that close is noticed.
		_ = unix.SetsockoptTimeval(m.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
		return unix.Bind(m.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.RTNLGRP_IPV4_ROUTE - 1)})
	})
	if err != nil {
		return nil, fmt.Errorf("route notifications: %w", err)
	}
	m.done.Go(m.run)
	return m, nil
}

var errClosed = errors.New("closed")

func (m *monitor) run() {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(m.fd, buf, 0)
		at := time.Now()
		m.mu.Lock()
		switch {
		case m.err != nil:
			m.mu.Unlock()
			return
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case err != nil:
			m.err = fmt.Errorf("route notifications: %w", err)
		default:
			m.take(buf[:n], at)
		}
		m.mu.Unlock()
	}
}

func (m *monitor) take(b []byte, at time.Time) {
	ne := binary.NativeEndian
	for len(b) >= unix.SizeofNlMsghdr {
		n := int(ne.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return
		}
		msg := b[:n]
		b = b[min((n+3)&^3, len(b)):]
		typ := ne.Uint16(msg[4:])
		attrs := msg[unix.SizeofNlMsghdr:]
		if typ != unix.RTM_NEWROUTE && typ != unix.RTM_DELROUTE || len(attrs) < unix.SizeofRtMsg || attrs[1] != 32 {
			continue
		}
		for attrs = attrs[unix.SizeofRtMsg:]; len(attrs) >= 4; {
			l := int(ne.Uint16(attrs))
			if l < 4 || l > len(attrs) {
				break
			}
			if ne.Uint16(attrs[2:]) == unix.RTA_DST && l == 8 {
				dst := binary.BigEndian.Uint32(attrs[4:])
				into := m.came
				if typ == unix.RTM_DELROUTE {
					into = m.gone
				}
				if _, twice := into[dst]; !twice {
					into[dst] = at
				}
			}
			attrs = attrs[min((l+3)&^3, len(attrs)):]
		}
	}
}

// forget empties what was noted.
func (m *monitor) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.came)
	clear(m.gone)
}

// counts tells how many routes came and went since.
func (m *monitor) counts() (came, gone int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.came), len(m.gone), m.err
}

func (m *monitor) close() {
	m.mu.Lock()
	if m.err == nil {
		m.err = errClosed
	}
	m.mu.Unlock()
	m.done.Wait()
	_ = unix.Close(m.fd)
}
