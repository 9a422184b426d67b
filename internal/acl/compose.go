// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/policy"
)

// Compose renders an IP packet that begins a flow: of TCP a SYN, of SCTP an INIT
// (RFC 9260), of ICMP what its type says. The identifier is that of an ICMP
// message. Its checksums are right: connection tracking would else call it invalid.
func Compose(p policy.Packet, id uint16) []byte {
	be := binary.BigEndian
	body := transport(p, be.AppendUint16([]byte("muslin"), id))
	if p.Src.Is4() { // RFC 791 section 3.1
		h := be.AppendUint16([]byte{0x45, 0}, uint16(20+len(body)))
		h = be.AppendUint16(h, id)
		h = append(h, 0, 0, 64, p.Proto, 0, 0)
		h = append(append(h, p.Src.AsSlice()...), p.Dst.AsSlice()...)
		return append(summed(policy.Packet{Proto: protoICMP}, h, 10), body...)
	}
	h := be.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(body))) // RFC 8200 section 3
	h = append(h, p.Proto, 64)
	return append(append(append(h, p.Src.AsSlice()...), p.Dst.AsSlice()...), body...)
}

// The protocols whose first packet is made here.
const (
	protoICMP   = unix.IPPROTO_ICMP
	protoTCP    = unix.IPPROTO_TCP
	protoUDP    = unix.IPPROTO_UDP
	protoICMPv6 = unix.IPPROTO_ICMPV6
	protoSCTP   = unix.IPPROTO_SCTP
)

// transport renders the transport header of the first packet of a flow and what
// follows it, which ends in a mark. The last two octets of the mark are the
// identifier of an ICMP message.
func transport(p policy.Packet, mark []byte) []byte {
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, p.SrcPort), p.DstPort)
	switch p.Proto {
	case protoTCP: // a SYN
		h := append(ports, 0, 0, 0, 1, 0, 0, 0, 0, 5<<4, 2, 255, 255, 0, 0, 0, 0)
		return summed(p, append(h, mark...), 16)
	case protoUDP:
		h := append(ports, 0, byte(8+len(mark)), 0, 0)
		return summed(p, append(h, mark...), 6)
	case protoSCTP: // an INIT with its checksum (RFC 9260), and the mark as a parameter
		pad := slices.Grow(slices.Clone(mark), 4)
		for len(pad)%4 != 0 {
			pad = append(pad, 0)
		}
		init := append([]byte{1, 0, 0, byte(24 + len(pad)), 0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9, 0x80, 8, 0, byte(4 + len(mark))}, pad...)
		h := append(append(ports, 0, 0, 0, 0, 0, 0, 0, 0), init...)
		binary.LittleEndian.PutUint32(h[8:], crc32.Checksum(h, crc32.MakeTable(crc32.Castagnoli)))
		return h
	case protoICMP, protoICMPv6:
		if p.Proto == protoICMP == p.Src.Is4() {
			h := append([]byte{p.ICMPType, p.ICMPCode, 0, 0}, mark[len(mark)-2:]...) // an identifier of its own
			return summed(p, append(append(h, 0, 0), mark...), 2)
		}
	}
	return append(make([]byte, 8), mark...)
}

// summed puts the checksum of a message in its place (RFC 1071).
func summed(p policy.Packet, b []byte, at int) []byte {
	b[at], b[at+1] = 0, 0
	var sum uint32
	add := func(b []byte) {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		if len(b)%2 == 1 {
			sum += uint32(b[len(b)-1]) << 8
		}
	}
	if p.Proto != protoICMP { // the pseudo header
		add(p.Src.AsSlice())
		add(p.Dst.AsSlice())
		sum += uint32(p.Proto) + uint32(len(b))
	}
	add(b)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	if sum == 0xffff && p.Proto != protoTCP { // zero would mean that there is none
		sum = 0
	}
	binary.BigEndian.PutUint16(b[at:], ^uint16(sum))
	return b
}
