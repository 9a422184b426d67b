// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
)

// key is a prefix as a small comparable value, because there may be half a
// million of them. The families differ in nothing else.
type key[K any] interface {
	comparable
	compare(o K) int // by address, then by length
	prefix() netip.Prefix
	bits() int
	put(b []byte) // writes the address, 4 or 16 bytes
}

// key4 is an IPv4 address and a prefix length.
type key4 [5]byte

func makeKey4(p netip.Prefix) key4 {
	a := p.Addr().As4()
	return key4{a[0], a[1], a[2], a[3], byte(p.Bits())}
}

func (k key4) prefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(k[:4])), int(k[4]))
}
func (k key4) compare(o key4) int {
	return cmp.Compare(uint64(binary.BigEndian.Uint32(k[:]))<<8|uint64(k[4]), uint64(binary.BigEndian.Uint32(o[:]))<<8|uint64(o[4]))
}
func (k key4) bits() int    { return int(k[4]) }
func (k key4) put(b []byte) { copy(b[:4], k[:4]) }

// key6 is an IPv6 address and a prefix length.
type key6 [17]byte

func makeKey6(p netip.Prefix) key6 {
	var k key6
	a := p.Addr().As16()
	copy(k[:], a[:])
	k[16] = byte(p.Bits())
	return k
}

func (k key6) prefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte(k[:16])), int(k[16]))
}
func (k key6) compare(o key6) int { return bytes.Compare(k[:], o[:]) }
func (k key6) bits() int          { return int(k[16]) }
func (k key6) put(b []byte)       { copy(b[:16], k[:16]) }
