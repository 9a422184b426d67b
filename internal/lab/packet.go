// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Ethertypes and protocol numbers that a capture names.
const (
	EtherIPv4 = 0x0800
	EtherARP  = 0x0806
	EtherIPv6 = 0x86dd

	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)

// Frame is an Ethernet frame with what a simple decoder finds in it. Fields
// that do not apply are zero.
type Frame struct {
	Outgoing  bool // sent by the host that captures
	Data      []byte
	SrcMAC    net.HardwareAddr
	DstMAC    net.HardwareAddr
	EtherType uint16
	Src, Dst  netip.Addr
	TTL       uint8 // hop limit in IPv6
	Proto     uint8 // the protocol after fixed headers; extension headers are not followed
	SrcPort   uint16
	DstPort   uint16
	ICMPType  uint8  // of ICMP and ICMPv6
	Payload   []byte // after the UDP, TCP or ICMP header, without padding
}

// String renders the frame in one line.
func (f Frame) String() string {
	s := fmt.Sprintf("%s > %s type %#04x", f.SrcMAC, f.DstMAC, f.EtherType)
	if f.Src.IsValid() {
		s += fmt.Sprintf(" %s > %s ttl %d proto %d", f.Src, f.Dst, f.TTL, f.Proto)
	}
	if f.Proto == ProtoTCP || f.Proto == ProtoUDP {
		s += fmt.Sprintf(" port %d > %d", f.SrcPort, f.DstPort)
	}
	return s
}

// Decode reads Ethernet, IPv4, IPv6, ARP, TCP, UDP and ICMP headers. It never
// fails: a header that is cut short leaves its fields zero.
func Decode(b []byte) Frame {
	f := Frame{Data: b}
	if len(b) < 14 {
		return f
	}
	f.DstMAC, f.SrcMAC, f.EtherType = b[0:6], b[6:12], binary.BigEndian.Uint16(b[12:])
	b = b[14:]
	switch f.EtherType {
	case EtherIPv4:
		if len(b) < 20 {
			return f
		}
		head, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
		f.TTL, f.Proto = b[8], b[9]
		f.Src, f.Dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		if head < 20 || total < head || total > len(b) {
			return f
		}
		b = b[head:total]
	case EtherIPv6:
		if len(b) < 40 {
			return f
		}
		f.Proto, f.TTL = b[6], b[7]
		f.Src, f.Dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		total := 40 + int(binary.BigEndian.Uint16(b[4:]))
		if total > len(b) {
			return f
		}
		b = b[40:total]
	case EtherARP:
		if len(b) >= 28 && b[4] == 6 && b[5] == 4 {
			f.Src, f.Dst = netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:]))
		}
		return f
	default:
		return f
	}
	f.transport(b)
	return f
}

func (f *Frame) transport(b []byte) {
	head := 8
	switch {
	case f.Proto == ProtoTCP && len(b) >= 20:
		head = int(b[12]>>4) * 4
		fallthrough
	case f.Proto == ProtoUDP && len(b) >= 8:
		f.SrcPort, f.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case (f.Proto == ProtoICMP || f.Proto == ProtoICMPv6) && len(b) >= 8:
		f.ICMPType = b[0]
	default:
		return
	}
	if head <= len(b) {
		f.Payload = b[head:]
	}
}

// Packet is a frame to be sent with whatever it claims: any source address,
// any MAC. Proto is ProtoUDP, ProtoTCP (a SYN), ProtoICMP or ProtoICMPv6 (an
// echo request). Src and Dst are of one family. A TTL of 0 is sent as 64.
type Packet struct {
	SrcMAC, DstMAC   net.HardwareAddr
	Src, Dst         netip.Addr
	TTL              uint8
	Proto            uint8
	SrcPort, DstPort uint16
	ICMPType         uint8 // of ICMP and ICMPv6, other than an echo request
	Payload          []byte
}

// Frame renders the packet with correct lengths and checksums.
func (p Packet) Frame() ([]byte, error) {
	if p.Src.Is4() != p.Dst.Is4() || !p.Src.IsValid() || len(p.SrcMAC) != 6 || len(p.DstMAC) != 6 {
		return nil, fmt.Errorf("packet %v > %v: want two addresses of one family and two 6-byte MACs", p.Src, p.Dst)
	}
	ttl := p.TTL
	if ttl == 0 {
		ttl = 64
	}
	be := binary.BigEndian
	var l4 []byte
	sumAt := 2
	switch p.Proto {
	case ProtoUDP:
		l4 = make([]byte, 8, 8+len(p.Payload))
		be.PutUint16(l4[4:], uint16(8+len(p.Payload)))
		sumAt = 6
	case ProtoTCP:
		l4 = make([]byte, 20, 20+len(p.Payload))
		l4[12], l4[13] = 5<<4, 2 // header length, SYN
		be.PutUint16(l4[14:], 65535)
		sumAt = 16
	case ProtoICMP:
		l4 = []byte{icmp4EchoRequest, 0, 0, 0, 0, 1, 0, 1}
	case ProtoICMPv6:
		l4 = []byte{icmp6EchoRequest, 0, 0, 0, 0, 1, 0, 1}
	default:
		return nil, fmt.Errorf("packet: protocol %d: want UDP, TCP, ICMP or ICMPv6", p.Proto)
	}
	if p.ICMPType != 0 && (p.Proto == ProtoICMP || p.Proto == ProtoICMPv6) {
		l4[0] = p.ICMPType
	}
	if p.Proto == ProtoUDP || p.Proto == ProtoTCP {
		be.PutUint16(l4[0:], p.SrcPort)
		be.PutUint16(l4[2:], p.DstPort)
	}
	l4 = append(l4, p.Payload...)

	// The pseudo header (RFC 768, RFC 8200 section 8.1) is in every checksum but ICMPv4's.
	var pseudo uint32
	if p.Proto != ProtoICMP {
		for _, a := range [][]byte{p.Src.AsSlice(), p.Dst.AsSlice()} {
			for i := 0; i < len(a); i += 2 {
				pseudo += uint32(be.Uint16(a[i:]))
			}
		}
		pseudo += uint32(p.Proto) + uint32(len(l4))
	}
	be.PutUint16(l4[sumAt:], checksum(pseudo, l4))

	f := append(append(make([]byte, 0, 54+len(l4)), p.DstMAC...), p.SrcMAC...)
	if p.Src.Is4() {
		f = be.AppendUint16(f, EtherIPv4)
		h := make([]byte, 20)
		h[0], h[8], h[9] = 0x45, ttl, p.Proto
		be.PutUint16(h[2:], uint16(20+len(l4)))
		copy(h[12:], p.Src.AsSlice())
		copy(h[16:], p.Dst.AsSlice())
		be.PutUint16(h[10:], checksum(0, h))
		f = append(f, h...)
	} else {
		f = be.AppendUint16(f, EtherIPv6)
		h := make([]byte, 8)
		h[0], h[6], h[7] = 0x60, p.Proto, ttl
		be.PutUint16(h[4:], uint16(len(l4)))
		f = append(append(append(f, h...), p.Src.AsSlice()...), p.Dst.AsSlice()...)
	}
	return append(f, l4...), nil
}

// SendFrame puts a frame on a link as it is, past routing and the local
// firewall's output chain.
func (n *Namespace) SendFrame(link string, frame []byte) error {
	idx, err := n.LinkIndex(link)
	if err != nil {
		return err
	}
	return n.Do(func() error {
		// Protocol 0: this socket receives nothing.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: packet socket: %w", n.name, err)
		}
		defer unix.Close(fd)
		if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: idx}); err != nil {
			return fmt.Errorf("%s: send %d bytes on %s: %w", n.name, len(frame), link, err)
		}
		return nil
	})
}

// SendPacket renders p and puts it on a link. A nil SrcMAC is the link's own.
func (n *Namespace) SendPacket(link string, p Packet) error {
	if p.SrcMAC == nil {
		mac, err := n.MAC(link)
		if err != nil {
			return err
		}
		p.SrcMAC = mac
	}
	f, err := p.Frame()
	if err != nil {
		return err
	}
	return n.SendFrame(link, f)
}
