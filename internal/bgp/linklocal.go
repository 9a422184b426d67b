// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net"
	"net/netip"
)

// Sessions between link-local addresses: with the router at the other end of an
// interface that needs no address of its own ("unnumbered"). The engine is told
// where that router is, and which address is ours there. What follows:
//
//   - An address counts together with its interface, the zone. Sockets are bound
//     to it, so that its number need not be known and may change.
//   - Our next hop is our link-local address, alone, in 16 octets. What others send
//     is read in each form: alone, behind a global address (RFC 2545 section 3),
//     behind the unspecified address, and twice.
//   - A link-local next hop must be the neighbour's own address, and goes to
//     nobody else: it means nothing on another link.
//   - IPv4 has no other next hop than an IPv6 one (RFC 8950).

// linkLocal tells whether a session runs between link-local addresses.
func (p PeerConfig) linkLocal() bool { return isLinkLocal(p.Addr.Addr()) }

func isLinkLocal(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

// neighbour is the link-local address of the peer, with its zone; invalid if the session
// has others.
func (p PeerConfig) neighbour() netip.Addr {
	if !p.linkLocal() {
		return netip.Addr{}
	}
	return p.Addr.Addr()
}

// nextHopFrom reads the next hop of MP_REACH_NLRI: a global address, one with a
// link-local one behind it (RFC 2545 section 3), or link-local ones alone.
// neighbour is valid on a session between link-local addresses: there its own
// address is the next hop where it is among them.
func nextHopFrom(v []byte, neighbour netip.Addr) netip.Addr {
	nh, _ := netip.AddrFromSlice(v[:min(len(v), 16)])
	if !neighbour.IsValid() {
		return nh
	}
	if len(v) == 32 && netip.AddrFrom16([16]byte(v[16:])).WithZone(neighbour.Zone()) == neighbour {
		return neighbour
	}
	if isLinkLocal(nh) {
		nh = nh.WithZone(neighbour.Zone())
	}
	return nh
}

// endsOf are the addresses of a connection's ends, IPv4 unmapped, link-local
// ones with their zone. The standard library's zones are not used: it remembers
// names of interfaces, also when they are gone.
func endsOf(nc net.Conn) (remote, local netip.Addr) {
	remote, local = addrPortOf(nc.RemoteAddr()).Addr(), addrPortOf(nc.LocalAddr()).Addr()
	if isLinkLocal(remote) {
		device := deviceOf(nc)
		remote, local = remote.WithZone(device), local.WithZone(device)
	}
	return remote, local
}
