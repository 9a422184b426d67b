// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"encoding/binary"

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
