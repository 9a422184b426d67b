// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
)

// findClasses turns what devices originate into classes: prefixes of one length that the same
// devices originate. Where two ranges overlap they are cut, so that an
// endpoint that has moved out of the middle of its server's range is a class
// of its own.
func (g *graph) findClasses() error {
	type piece struct {
		first, end uint64 // in units of a prefix, behind high
		device     int
		o          *fabric.Origin
	}
	type shelf struct {
		bits int
		high uint64 // the upper half of IPv6 addresses
	}
	shelves := map[shelf][]piece{}
	for i := range g.devices {
		x := &g.devices[i]
		for j := range x.Originate {
			o := &x.Originate[j]
			if fabric.FamilyOf(o.Prefix.Addr()) != g.family {
				continue
			}
			high, first, ok := unit(o.Prefix)
			if !ok || o.Count < 1 {
				return fmt.Errorf("device %q: %s × %d cannot be originated", x.Name, o.Prefix, o.Count)
			}
			s := shelf{o.Prefix.Bits(), high}
			shelves[s] = append(shelves[s], piece{first, first + uint64(o.Count), i, o})
		}
	}
	for s, list := range shelves {
		slices.SortFunc(list, func(a, b piece) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.device, b.device)) })
		for i := 0; i < len(list); {
			// list[i:n] overlap, one with another.
			n, end := i+1, list[i].end
			for ; n < len(list) && list[n].first < end; n++ {
				end = max(end, list[n].end)
			}
			var cuts []uint64
			for _, p := range list[i:n] {
				cuts = append(cuts, p.first, p.end)
			}
			slices.Sort(cuts)
			cuts = slices.Compact(cuts)
			for k := range len(cuts) - 1 {
				c := class{prefix: ofUnit(g.family, s.bits, s.high, cuts[k]), count: int(cuts[k+1] - cuts[k])}
				for _, p := range list[i:n] {
					if p.first <= cuts[k] && cuts[k] < p.end {
						c.kind, c.endpoints = p.o.Kind, p.o.Endpoints
						c.origins = append(c.origins, p.device)
					}
				}
				if len(c.origins) > 0 {
					g.classes = append(g.classes, c)
				}
			}
			i = n
		}
	}
	g.addDefault()
	slices.SortFunc(g.classes, func(a, b class) int {
		return a.prefix.Compare(b.prefix)
	})
	g.classesOf = make([][]int, len(g.devices))
	g.byBits = map[int][]int{}
	for i := range g.classes {
		g.byBits[g.classes[i].prefix.Bits()] = append(g.byBits[g.classes[i].prefix.Bits()], i)
		for _, d := range g.classes[i].origins {
			g.classesOf[d] = append(g.classesOf[d], i)
		}
	}
	return nil
}

// addDefault adds the default route that devices make for peers.
func (g *graph) addDefault() {
	given := slices.ContainsFunc(g.profs, func(p profile) bool { return p.Default == fabric.AlwaysDefault })
	if !given {
		return
	}
	everything := g.family.Default()
	for i := range g.classes {
		if g.classes[i].prefix == everything {
			g.classes[i].given = true
			return
		}
	}
	g.classes = append(g.classes, class{prefix: everything, count: 1, kind: fabric.OriginDefault, given: true})
}

// over are the classes that packets to p can follow, longest prefix first.
func (g *graph) over(p netip.Prefix) (list []int) {
	for bits := p.Bits(); bits >= 0; bits-- {
		in := g.byBits[bits]
		at := netip.PrefixFrom(p.Addr(), bits).Masked()
		n, _ := slices.BinarySearchFunc(in, at.Addr(), func(c int, a netip.Addr) int {
			return cmp.Or(g.classes[c].prefix.Addr().Compare(a), -1) // the first one behind
		})
		if n > 0 && at.Addr().Compare(g.classes[in[n-1]].last().Addr()) <= 0 {
			list = append(list, in[n-1])
		}
	}
	return list
}

// unit is the place of a prefix among those of its length: all prefixes of an
// IPv6 range have one upper half.
func unit(p netip.Prefix) (high, n uint64, ok bool) {
	if p != p.Masked() {
		return 0, 0, false
	}
	if p.Addr().Is4() {
		a := p.Addr().As4()
		return 0, uint64(binary.BigEndian.Uint32(a[:])) >> (32 - p.Bits()), true
	}
	a := p.Addr().As16()
	high, low := binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
	if p.Bits() <= 64 {
		if p.Bits() == 0 {
			return 0, 0, true
		}
		return 0, high >> (64 - p.Bits()), true
	}
	return high, low >> (128 - p.Bits()), true
}

func ofUnit(f fabric.Family, bits int, high, n uint64) netip.Prefix {
	if f == fabric.IPv4 {
		var a [4]byte
		if bits > 0 {
			binary.BigEndian.PutUint32(a[:], uint32(n<<(32-bits)))
		}
		return netip.PrefixFrom(netip.AddrFrom4(a), bits)
	}
	var a [16]byte
	switch {
	case bits == 0:
	case bits <= 64:
		binary.BigEndian.PutUint64(a[:8], n<<(64-bits))
	default:
		binary.BigEndian.PutUint64(a[:8], high)
		binary.BigEndian.PutUint64(a[8:], n<<(128-bits))
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), bits)
}
