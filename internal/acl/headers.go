// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/policy"
)

// parsePacket reads the headers of an IP packet, of which the end may be cut off,
// as rules see them. What it was sent by is nobody's friend: it is ok if the
// addresses and the protocol are there, and ports are 0 where there are none, as
// in later fragments.
func parsePacket(b []byte) (p policy.Packet, ok bool) {
	if len(b) == 0 {
		return p, false
	}
	var rest []byte
	fragment := false
	switch b[0] >> 4 {
	case 4: // RFC 791 section 3.1
		if len(b) < 20 || b[0]&15 < 5 {
			return p, false
		}
		p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		p.Proto = b[9]
		fragment = binary.BigEndian.Uint16(b[6:])&0x1fff != 0
		rest = b[min(int(b[0]&15)*4, len(b)):]
	case 6: // RFC 8200 section 3
		if len(b) < 40 {
			return p, false
		}
		p.Src, p.Dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		p.Proto, rest, fragment = upperLayer(b[6], b[40:])
	default:
		return p, false
	}
	switch {
	case fragment:
	case policy.HasPorts(p.Proto) && len(rest) >= 4:
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	case (p.Proto == unix.IPPROTO_ICMP && p.Src.Is4() || p.Proto == unix.IPPROTO_ICMPV6 && p.Src.Is6()) && len(rest) >= 2:
		p.ICMPType, p.ICMPCode = rest[0], rest[1]
	}
	return p, true
}

// upperLayer walks the extension headers of RFC 8200 section 4.
func upperLayer(next byte, b []byte) (proto byte, rest []byte, fragment bool) {
	for {
		n := 0
		switch next {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			if len(b) < 8 {
				return next, nil, false
			}
			n = 8 + 8*int(b[1])
		case unix.IPPROTO_FRAGMENT:
			if len(b) < 8 {
				return next, nil, false
			}
			n = 8
			fragment = fragment || binary.BigEndian.Uint16(b[2:])&^7 != 0
		default:
			return next, b, fragment
		}
		next, b = b[0], b[min(n, len(b)):]
	}
}
