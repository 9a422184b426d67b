// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ParseNetwork reads a network as lists of the model write it: a CIDR, or a
// bare address, which stands for itself alone. Bits beyond the length are
// cleared, and an IPv4-mapped IPv6 address becomes IPv4. Zones are refused.
func ParseNetwork(s string) (netip.Prefix, error) {
	p, err := ParseInterface(s)
	return p.Masked(), err
}

// ParseInterface reads an address with the subnet that it is in, such as
// "10.0.0.2/24"; a bare address is in a subnet of its own. Unlike that of
// ParseNetwork, the result keeps the address.
func ParseInterface(s string) (netip.Prefix, error) {
	var a netip.Addr
	bits := -1
	text, length, isPrefix := strings.Cut(s, "/")
	a, err := netip.ParseAddr(text)
	if err == nil && isPrefix {
		// netip.ParsePrefix is the judge of the length; it knows leading zeros.
		var p netip.Prefix
		p, err = netip.ParsePrefix(s)
		bits = p.Bits()
	}
	switch {
	case err != nil && isPrefix && !a.IsValid():
		return netip.Prefix{}, fmt.Errorf("network %q: want a CIDR such as 10.0.0.0/24 or 2001:db8::/64, or an address", s)
	case err != nil && isPrefix:
		return netip.Prefix{}, fmt.Errorf("network %q: prefix length %q: want 0–%d", s, length, a.BitLen())
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("network %q: want an address or a CIDR such as 10.0.0.0/24 or 2001:db8::/64", s)
	case a.Zone() != "":
		return netip.Prefix{}, fmt.Errorf("network %q: an address here has no zone", s)
	case a.Is4In6():
		a = a.Unmap()
		if bits >= 0 {
			if bits -= 96; bits < 0 {
				return netip.Prefix{}, fmt.Errorf("network %q: want plain IPv4 notation", s)
			}
		}
	}
	if bits < 0 {
		bits = a.BitLen()
	}
	return netip.PrefixFrom(a, bits), nil
}

// ParseAddr reads one address, without length and zone. An IPv4-mapped IPv6
// address becomes IPv4.
func ParseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("address %q: want an IPv4 or IPv6 address such as 10.0.0.1 or 2001:db8::1", s)
	}
	return a.Unmap(), nil
}

// ParsePeerIP reads the peerIP of a BGPPeer: IP, IP:port or [IPv6]:port. The
// port is 0 when none is given.
func ParsePeerIP(s string) (netip.Addr, uint16, error) {
	if a, err := ParseAddr(s); err == nil {
		return a, 0, nil
	}
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Addr().Zone() == "" && ap.Port() != 0 {
		return ap.Addr().Unmap(), ap.Port(), nil
	}
	return netip.Addr{}, 0, fmt.Errorf("peer address %q: want IP, IPv4:port or [IPv6]:port", s)
}

// ParseMAC reads a 48-bit MAC address.
func ParseMAC(s string) ([6]byte, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return [6]byte{}, fmt.Errorf("MAC address %q: want six octets such as 00:11:22:33:44:55", s)
	}
	return [6]byte(hw), nil
}

// Addrs returns the node's own address of each family with its subnet length,
// and the zero Prefix for a family that it has none of: those of spec.bgp,
// else the first InternalIP, else the first ExternalIP. What does not parse, or
// is of the other family, counts as absent.
func (n *Node) Addrs() (v4, v6 netip.Prefix) {
	set := func(s string) {
		p, err := ParseInterface(s)
		switch {
		case err != nil:
		case p.Addr().Is4() && !v4.IsValid():
			v4 = p
		case p.Addr().Is6() && !v6.IsValid():
			v6 = p
		}
	}
	if b := n.Spec.BGP; b != nil {
		if p, err := ParseInterface(b.IPv4Address); err == nil && p.Addr().Is4() {
			v4 = p
		}
		if p, err := ParseInterface(b.IPv6Address); err == nil && p.Addr().Is6() {
			v6 = p
		}
	}
	for _, kind := range []string{"InternalIP", "ExternalIP"} {
		for _, a := range n.Spec.Addresses {
			if a.Type == kind {
				set(a.Address)
			}
		}
	}
	return v4, v6
}

// ParseCommunity reads a BGP community: aa:nn (RFC 1997) has two parts of 16
// bits, aa:nn:mm (RFC 8092) three of 32.
func ParseCommunity(s string) ([]uint32, error) {
	parts := strings.Split(s, ":")
	size := map[int]int{2: 16, 3: 32}[len(parts)]
	values := make([]uint32, len(parts))
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, max(size, 1))
		if size == 0 || err != nil {
			return nil, fmt.Errorf("community %q: want aa:nn (each 0–65535) or aa:nn:mm (each 0–4294967295)", s)
		}
		values[i] = uint32(n)
	}
	return values, nil
}

// ParseDSCP reads a differentiated-services code point: 0–63, or DF, EF, AFxy
// or CSx (RFC 2474, 2597, 3246).
func ParseDSCP(s string) (uint8, error) {
	if n, err := strconv.ParseUint(s, 10, 8); err == nil && n < 64 {
		return uint8(n), nil
	}
	switch {
	case s == "DF":
		return 0, nil
	case s == "EF":
		return 46, nil
	case len(s) == 3 && s[:2] == "CS" && '0' <= s[2] && s[2] <= '6':
		return (s[2] - '0') * 8, nil
	case len(s) == 4 && s[:2] == "AF" && '1' <= s[2] && s[2] <= '4' && '1' <= s[3] && s[3] <= '3':
		return (s[2]-'0')*8 + (s[3]-'0')*2, nil
	}
	return 0, fmt.Errorf("DSCP %q: want 0–63, DF, EF, AF11–AF43 or CS0–CS6", s)
}
