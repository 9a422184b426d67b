// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package endpoint

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
)

// What a port to another system writes instead. What can be learnt of interfaces
// in a portable way is learnt here; nothing is written.

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

// Detach refuses.
func Detach(host string, _ []netip.Addr) error { return unsupported("detach " + host) }

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

// Workloads lists the interfaces whose names begin with one of the prefixes.
func Workloads(prefixes []string) (list []Workload, err error) {
	links, err := net.Interfaces()
	for _, l := range links {
		if hasPrefix(l.Name, prefixes) {
			list = append(list, Workload{Name: l.Name})
		}
	}
	return list, err
}

// Exists tells whether this host has an interface of that name.
func Exists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}

// InterfaceAddrs returns the addresses of each interface of this host, sorted.
func InterfaceAddrs() (map[string][]netip.Addr, error) {
	links, err := net.Interfaces()
	out := map[string][]netip.Addr{}
	for _, l := range links {
		nets, err := l.Addrs()
		if err != nil {
			return nil, fmt.Errorf("addresses of interface %s: %w", l.Name, err)
		}
		for _, p := range prefixes(nets) {
			out[l.Name] = append(out[l.Name], p.Addr())
		}
		slices.SortFunc(out[l.Name], netip.Addr.Compare)
	}
	return out, err
}

func prefixes(nets []net.Addr) (list []netip.Prefix) {
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			list = append(list, p)
		}
	}
	return list
}

func hostPrefixes() []netip.Prefix {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	return prefixes(nets)
}

// HostSubnets returns the subnets that this host is in.
func HostSubnets() (list []netip.Prefix) {
	for _, p := range hostPrefixes() {
		if !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			list = append(list, p.Masked())
		}
	}
	return list
}

// AllAddrs returns the addresses of this host's interfaces.
func AllAddrs() (map[netip.Addr]bool, error) {
	all := map[netip.Addr]bool{}
	for _, p := range hostPrefixes() {
		all[p.Addr()] = true
	}
	return all, nil
}

// HasAddr tells whether an address is one of this host's own.
func HasAddr(ip netip.Addr) bool {
	return slices.ContainsFunc(hostPrefixes(), func(p netip.Prefix) bool { return p.Addr() == ip })
}

// OnLink tells whether an address is a neighbour's on a link of this host: a
// link-local one, or one in the subnet of an interface.
func OnLink(ip netip.Addr) bool {
	return ip.IsLinkLocalUnicast() || slices.ContainsFunc(hostPrefixes(), func(p netip.Prefix) bool { return p.Contains(ip) })
}
