// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package neighbour

import (
	"fmt"
	"net/netip"
	"runtime"
)

// socket is never open.
type socket struct {
	arrivals chan arrival
	failed   chan error
}

func open(func(func() error) error) (*socket, error) {
	return nil, fmt.Errorf("router advertisements cannot be received on %s", runtime.GOOS)
}

func (*socket) close() {}

func (*socket) join(int) {}

func (*socket) send([]byte, netip.Addr, *link) {}
