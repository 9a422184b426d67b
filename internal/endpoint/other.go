// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package endpoint

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
)

// What a port to another system writes instead. Here all is refused, and nothing is
// learnt of interfaces: nobody asks where there is no data plane.

func unsupported(what string) error { return fmt.Errorf("%s: not on %s", what, runtime.GOOS) }

// Links is never open.
type Links struct{}

// Watcher is never made.
type Watcher struct{}

// Open refuses.
func Open(Options) (*Links, error) { return nil, unsupported("prepare interfaces of workloads") }

// Close does nothing, as all that follow.
func (*Links) Close() {}

// Set takes no wish.
func (*Links) Set(string, Config) bool { return false }

// Remove has nothing to remove.
func (*Links) Remove(string) error { return nil }

// Prune has nothing to prune.
func (*Links) Prune() error { return nil }

// Sync prepares nothing.
func (*Links) Sync(string) Status { return Status{} }

// Status is that of an interface that is not there.
func (*Links) Status(string) Status { return Status{} }

// Enslaved reads nothing.
func (*Links) Enslaved() (map[string]bool, error) { return nil, nil }

// Survey reads nothing.
func (*Links) Survey() (end func()) { return func() {} }

// Watch refuses.
func (*Links) Watch() (*Watcher, error) { return nil, unsupported("watch interfaces of workloads") }

// Run returns at once.
func (*Watcher) Run(context.Context, func([]string)) error { return nil }

// Attach refuses.
func Attach(_ context.Context, a Attachment) (Attached, error) {
	return Attached{}, unsupported("attach " + a.Host)
}

// SyncLoopback refuses.
func SyncLoopback(_, _ []netip.Addr) (writes int, left []netip.Addr, err error) {
	return 0, nil, unsupported("give lo addresses")
}

// Detach refuses.
func Detach(host string, _ []netip.Addr) error { return unsupported("detach " + host) }

// ForgetFlows refuses.
func ForgetFlows([]netip.Addr) error { return unsupported("forget flows") }

// CheckNamespace refuses.
func CheckNamespace(path string) error { return fmt.Errorf("%s is %w", path, ErrNamespace) }

// Inject refuses.
func Inject(string, net.HardwareAddr, []byte) error { return unsupported("send as a workload") }

// Emit refuses.
func Emit([]byte, net.IP) error { return unsupported("send a packet") }

// ConfigureHost refuses.
func ConfigureHost([]string) ([]string, error) { return nil, unsupported("make this host a router") }

// HostLinkOf refuses.
func HostLinkOf(name string) (HostLink, error) {
	return HostLink{Name: name}, unsupported("interface " + name)
}

// WatchHostLinks refuses.
func WatchHostLinks(context.Context, func()) error { return unsupported("watch interfaces") }

// WatchHostAddrs refuses.
func WatchHostAddrs(context.Context, func()) error { return unsupported("watch addresses") }

// HostAddrs refuses: which address others reach this host by depends on its routes.
func HostAddrs(func(string) bool) (v4, v6 netip.Prefix, err error) {
	return v4, v6, unsupported("find this host's addresses")
}

// Uplinks refuses.
func Uplinks([]netip.Addr) ([]string, error) { return nil, unsupported("find uplinks") }

// Workloads refuses.
func Workloads([]string) ([]Workload, error) { return nil, unsupported("list interfaces") }

// Exists knows of none.
func Exists(string) bool { return false }

// InterfaceAddrs refuses.
func InterfaceAddrs() (map[string][]netip.Addr, error) { return nil, unsupported("list addresses") }

// HostSubnets knows of none.
func HostSubnets() []netip.Prefix { return nil }

// AllAddrs refuses.
func AllAddrs() (map[netip.Addr]bool, error) { return nil, unsupported("list addresses") }

// HasAddr does not doubt it.
func HasAddr(netip.Addr) bool { return true }

// OnLink tells whether an address is a link-local one; of subnets nothing is known.
func OnLink(ip netip.Addr) bool { return ip.IsLinkLocalUnicast() }
