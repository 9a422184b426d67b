// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/muslin-net/muslin/internal/policy"
)

// frames renders a shot for a link, as the first packet of a flow, with a mark
// after the transport header: one frame, or two fragments of which the second
// carries the mark again.
func frames(l link, s *shot, mark []byte) [][]byte {
	body := transport(s.Packet, mark)
	if !s.split {
		return [][]byte{frame(l, s.Packet, body, 0, 0, false)}
	}
	for len(body)%8 != 0 { // the offset of a fragment counts units of 8 bytes
		body = append(body, 0)
	}
	cut := len(body)
	body = append(body, mark...)
	binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
	body = summed(s.Packet, body, 6)
	id := binary.BigEndian.Uint32(mark[len(mark)-4:])<<1 | 1
	return [][]byte{frame(l, s.Packet, body[:cut], id, 0, true), frame(l, s.Packet, body[cut:], id, cut, false)}
}

// transport renders a transport header and what follows it.
func transport(p policy.Packet, mark []byte) []byte {
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, p.SrcPort), p.DstPort)
	switch p.Proto {
	case tcp: // a SYN
		h := append(ports, 0, 0, 0, 1, 0, 0, 0, 0, 5<<4, 2, 255, 255, 0, 0, 0, 0)
		return summed(p, append(h, mark...), 16)
	case udp:
		h := append(ports, 0, byte(8+len(mark)), 0, 0)
		return summed(p, append(h, mark...), 6)
	case sctp: // an INIT with its checksum (RFC 9260), and the mark as a parameter
		pad := slices.Grow(slices.Clone(mark), 4)
		for len(pad)%4 != 0 {
			pad = append(pad, 0)
		}
		init := append([]byte{1, 0, 0, byte(24 + len(pad)), 0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9, 0x80, 8, 0, byte(4 + len(mark))}, pad...)
		h := append(append(ports, 0, 0, 0, 0, 0, 0, 0, 0), init...)
		binary.LittleEndian.PutUint32(h[8:], crc32.Checksum(h, crc32.MakeTable(crc32.Castagnoli)))
		return h
	case icmp, icmp6:
		if p.Proto == icmp == p.Src.Is4() {
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
	if p.Proto != icmp { // the pseudo header
		add(p.Src.AsSlice())
		add(p.Dst.AsSlice())
		sum += uint32(p.Proto) + uint32(len(b))
	}
	add(b)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	if sum == 0xffff && p.Proto != tcp { // zero would mean that there is none
		sum = 0
	}
	binary.BigEndian.PutUint16(b[at:], ^uint16(sum))
	return b
}

// frame renders an Ethernet frame. With an id it is a fragment, of which off
// is the place, and more tells that others follow.
func frame(l link, p policy.Packet, body []byte, id uint32, off int, more bool) []byte {
	be := binary.BigEndian
	f := append(append([]byte{}, l.hmac...), l.mac...)
	flag := uint32(0)
	if p.Src.Is4() {
		if more {
			flag = 0x2000
		}
		f = be.AppendUint16(f, 0x0800)
		h := be.AppendUint16([]byte{0x45, 0}, uint16(20+len(body)))
		h = be.AppendUint16(h, uint16(id))
		h = be.AppendUint16(h, uint16(flag|uint32(off/8)))
		h = append(h, 64, p.Proto, 0, 0)
		h = append(append(h, p.Src.AsSlice()...), p.Dst.AsSlice()...)
		return append(append(f, summed(policy.Packet{Proto: icmp}, h, 10)...), body...)
	}
	f = be.AppendUint16(f, 0x86dd)
	next := p.Proto
	if id != 0 {
		if more {
			flag = 1
		}
		fragment := be.AppendUint16([]byte{p.Proto, 0}, uint16(uint32(off)|flag)) // RFC 8200, section 4.5
		body = append(be.AppendUint32(fragment, id), body...)
		next = 44
	}
	f = append(f, 0x60, 0, 0, 0)
	f = be.AppendUint16(f, uint16(len(body)))
	f = append(f, next, 64)
	return append(append(append(f, p.Src.AsSlice()...), p.Dst.AsSlice()...), body...)
}
