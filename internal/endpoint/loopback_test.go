// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// TestSyncLoopbackLeft: what could not be taken off lo is named, and goes the next time.
func TestSyncLoopbackLeft(t *testing.T) {
	s := newServer(t, labtest.New(t))
	s.do(func() error {
		_, _, err := SyncLoopback(addrA, addrA)
		return err
	})
	var left []netip.Addr
	var refused error
	s.do(func() error {
		back, err := dropCapability(unix.CAP_NET_ADMIN)
		if err != nil {
			return err
		}
		_, left, refused = SyncLoopback(nil, nil)
		return back()
	})
	slices.SortFunc(left, netip.Addr.Compare)
	if !errors.Is(refused, unix.EPERM) || !slices.Equal(left, addrA) {
		t.Errorf("left %v, error %v; want %v and EPERM", left, refused, addrA)
	}
	s.do(func() error {
		writes, left, err := SyncLoopback(nil, nil)
		if writes != 2 || len(left) > 0 {
			t.Errorf("%d writes, left %v", writes, left)
		}
		return err
	})
}

// dropCapability takes a capability from the calling thread; back gives it again.
func dropCapability(c int) (back func() error, err error) {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var was [2]unix.CapUserData
	if err := unix.Capget(&h, &was[0]); err != nil {
		return nil, err
	}
	now := was
	now[c/32].Effective &^= 1 << (c % 32)
	return func() error { return unix.Capset(&h, &was[0]) }, unix.Capset(&h, &now[0])
}
