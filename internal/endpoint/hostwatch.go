// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/unread"
)

// WatchHostAddrs calls changed, from this goroutine, when a global address of
// this host, the network namespace of the caller, may have come, become usable or
// gone. It should only take note. It returns nil when ctx ends.
func WatchHostAddrs(ctx context.Context, changed func()) error {
	return watchHost(ctx, "addresses", changed, hasGlobal, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
}

// watchHost calls changed for notifications of some groups that concern somebody.
func watchHost(ctx context.Context, what string, changed func(), concern func([]syscall.NetlinkMessage) bool, groups ...uint) error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return fmt.Errorf("watch this host's %s: %w", what, err)
	}
	stop := context.AfterFunc(ctx, s.Close)
	defer func() {
		if stop() {
			s.Close()
		}
	}()
	for {
		msgs, from, err := s.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			unread.Discard(s.GetFd())
			changed() // some are lost
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case err != nil:
			return fmt.Errorf("watch this host's %s: %w", what, err)
		case from.Pid == nl.PidKernel && concern(msgs):
			changed()
		}
	}
}

// hasGlobal tells whether one of the notifications is about an address that
// others could use: of all the world, or, on lo, of a process of this host. The gateways
// on workload interfaces have link scope.
func hasGlobal(msgs []syscall.NetlinkMessage) bool {
	for _, m := range msgs {
		address := m.Header.Type == unix.RTM_NEWADDR || m.Header.Type == unix.RTM_DELADDR
		if address && len(m.Data) >= unix.SizeofIfAddrmsg && (m.Data[3] == unix.RT_SCOPE_UNIVERSE || m.Data[3] == unix.RT_SCOPE_HOST) {
			return true
		}
	}
	return false
}
