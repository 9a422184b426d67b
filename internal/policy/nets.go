// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// parseNet reads a network, or an address as the network of just it. Host bits
// are masked off, and an IPv4-mapped IPv6 network becomes the IPv4 one it means.
func parseNet(s string) (netip.Prefix, error) {
	var p netip.Prefix
	if strings.Contains(s, "/") {
		var err error
		if p, err = netip.ParsePrefix(s); err != nil {
			return p, fmt.Errorf("network %q: want an address and a length such as 10.0.0.0/8 or 2001:db8::/32", s)
		}
	} else {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return p, fmt.Errorf("address %q: want an IPv4 or IPv6 address without zone", s)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// compareNets orders by family, address and length, so that a network comes
// before all that it covers and these follow it without a gap.
func compareNets(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// mergeNets sorts in place and drops repeats and networks covered by others.
func mergeNets(nets []netip.Prefix) []netip.Prefix {
	slices.SortFunc(nets, compareNets)
	out := nets[:0]
	for _, p := range nets {
		if n := len(out); n == 0 || !covers(out[n-1], p) {
			out = append(out, p)
		}
	}
	return out
}

// covers tells whether p holds all of q, itself included.
func covers(p, q netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) }

// netSet counts how often each network was added, and exposes those that no
// other one covers.
type netSet struct {
	count *bart.Table[uint32] // nil while nothing was added
	wide  int                 // distinct networks of more than one address
}

// add adds a network once. It reports by emit how what is exposed changes.
func (s *netSet) add(p netip.Prefix, emit func(p netip.Prefix, n int8)) {
	if s.count == nil {
		s.count = &bart.Table[uint32]{}
	}
	isNew := false
	s.count.Modify(p, func(n uint32, ok bool) (uint32, bool) {
		isNew = !ok
		return n + 1, false
	})
	if !isNew {
		return
	}
	if !p.IsSingleIP() {
		s.wide++
	}
	s.changed(p, 1, emit)
}

// remove undoes one add.
func (s *netSet) remove(p netip.Prefix, emit func(p netip.Prefix, n int8)) {
	if s.count == nil {
		return
	}
	isGone := false
	s.count.Modify(p, func(n uint32, ok bool) (uint32, bool) {
		isGone = ok && n == 1
		return n - 1, n <= 1
	})
	if !isGone {
		return
	}
	s.changed(p, -1, emit)
	if !p.IsSingleIP() {
		s.wide--
	}
}

// changed reports that p came (1) or went (-1): if it is exposed, the largest
// networks within it are so exactly when it is not there.
func (s *netSet) changed(p netip.Prefix, n int8, emit func(p netip.Prefix, n int8)) {
	if s.covered(p) {
		return
	}
	emit(p, n)
	if p.IsSingleIP() {
		return
	}
	var last netip.Prefix
	for q := range s.count.Subnets(p) {
		if q == p || last.IsValid() && covers(last, q) {
			continue
		}
		last = q
		emit(q, -n)
	}
}

// holds tells whether any network holds an address.
func (s *netSet) holds(a netip.Addr) bool { return s.count != nil && s.count.Contains(a) }

// covered tells whether a network larger than p holds it.
func (s *netSet) covered(p netip.Prefix) bool {
	if s.wide == 0 {
		return false
	}
	for q := range s.count.Supernets(p) {
		if q.Bits() < p.Bits() {
			return true
		}
	}
	return false
}

// exposed is an iterator over the networks that no other one covers.
func (s *netSet) exposed(yield func(netip.Prefix) bool) {
	if s.count == nil {
		return
	}
	for p := range s.count.All() {
		if !s.covered(p) && !yield(p) {
			return
		}
	}
}
