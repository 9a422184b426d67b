// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net"
	"net/netip"
	"slices"
)

// sourceTo is where to connect from to a peer for which that is not configured. Invalid is the kernel's choice. While a port
// is down, that is another port with a default route behind it: the peer knows its address as that of another session,
// and takes the connection for its restart. So who is on a link of ours is called from there, or not at all.
func sourceTo(peer netip.Addr) netip.Addr {
	own := addressesBeside(peer)
	if len(own) == 0 {
		return netip.Addr{}
	}
	c, err := net.Dial("udp", netip.AddrPortFrom(peer, 179).String()) // which sends nothing
	if err != nil {
		return own[0]
	}
	defer c.Close()
	if slices.Contains(own, addrPortOf(c.LocalAddr()).Addr()) {
		return netip.Addr{}
	}
	return own[0]
}

// addressesBeside are those of this host in whose subnets another address is.
func addressesBeside(peer netip.Addr) (list []netip.Addr) {
	all, _ := net.InterfaceAddrs() // without them the kernel chooses
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Contains(peer) {
			list = append(list, p.Addr())
		}
	}
	return list
}
