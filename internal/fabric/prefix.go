// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"encoding/binary"
	"iter"
	"math/big"
	"math/bits"
	"net/netip"
)

// FamilyOf is the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// ofFamily is the first prefix of a family.
func ofFamily(list []netip.Prefix, family Family) (netip.Prefix, bool) {
	for _, p := range list {
		if FamilyOf(p.Addr()) == family {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// Nth is the prefix n places behind another, of its length.
func Nth(p netip.Prefix, n int) netip.Prefix {
	b, free := p.Addr().As16(), p.Addr().BitLen()-p.Bits()
	high, low := uint64(n)>>(64-min(free, 64)), uint64(n)<<free
	if free > 64 {
		high = uint64(n) << (free - 64)
	}
	low, carry := bits.Add64(binary.BigEndian.Uint64(b[8:]), low, 0)
	high, _ = bits.Add64(binary.BigEndian.Uint64(b[:8]), high, carry)
	binary.BigEndian.PutUint64(b[:8], high)
	binary.BigEndian.PutUint64(b[8:], low)
	if p.Addr().Is4() {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(b[12:])), p.Bits())
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), p.Bits())
}

// addr is the n-th address of a pool.
func addr(pool netip.Prefix, n int) netip.Addr {
	return Nth(netip.PrefixFrom(pool.Addr(), pool.Addr().BitLen()), n).Addr()
}

// Consecutive lists count prefixes of one length, from the first on.
func Consecutive(first netip.Prefix, count int) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for n := range count {
			if !yield(Nth(first, n)) {
				return
			}
		}
	}
}

// last is the last address of count consecutive prefixes; there is none if the addresses end before.
func last(first netip.Prefix, count int) (netip.Addr, bool) {
	free := first.Addr().BitLen() - first.Bits()
	n := new(big.Int).SetBytes(first.Masked().Addr().AsSlice())
	n.Add(n, new(big.Int).Lsh(big.NewInt(int64(count)), uint(free))).Sub(n, big.NewInt(1))
	if n.BitLen() > first.Addr().BitLen() {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(n.FillBytes(make([]byte, first.Addr().BitLen()/8)))
}
