// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"net"
	"net/netip"
	"strconv"
)

// Listen is net.Listen inside the namespace. The address must be numeric.
func (n *Namespace) Listen(network, address string) (net.Listener, error) {
	var out net.Listener
	err := n.Do(func() (err error) {
		out, err = net.Listen(network, address)
		return err
	})
	return out, err
}

// ListenPacket is net.ListenPacket inside the namespace. The address must be
// numeric.
func (n *Namespace) ListenPacket(network, address string) (net.PacketConn, error) {
	var out net.PacketConn
	err := n.Do(func() (err error) {
		out, err = net.ListenPacket(network, address)
		return err
	})
	return out, err
}

// Dial connects from inside the namespace. The address must be numeric, since
// a resolver would leave the thread, hence the namespace.
func (n *Namespace) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return n.dial(ctx, &net.Dialer{}, network, address)
}

func (n *Namespace) dial(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	// Several connection attempts would be made from several goroutines.
	d.FallbackDelay = -1
	var out net.Conn
	err := n.Do(func() (err error) {
		out, err = d.DialContext(ctx, network, address)
		return err
	})
	return out, err
}

// zoned replaces the zone of a link-local address by the interface's number.
// Package net remembers names for the whole process, and the same name stands
// for different interfaces in different namespaces.
func (n *Namespace) zoned(a netip.Addr) (netip.Addr, error) {
	if a.Zone() == "" {
		return a, nil
	}
	if _, err := strconv.Atoi(a.Zone()); err == nil {
		return a, nil
	}
	i, err := n.LinkIndex(a.Zone())
	if err != nil {
		return a, err
	}
	return a.WithZone(strconv.Itoa(i)), nil
}
