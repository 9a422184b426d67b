// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/filter"
	"github.com/muslin-net/muslin/internal/store"
)

// originInput is all that decides what this node announces.
type originInput struct {
	blocks      []netip.Prefix // confirmed affinities of this node
	addrs       []localAddr    // of local endpoints that are routed here
	own         []netip.Addr   // of this server itself, as far as it has them
	ignored     []string       // patterns of interfaces whose addresses stay here
	pools       map[string]*v3.IPPool
	workloadIPs bool
	left        map[netip.Prefix]bool // blocks of which an address is an endpoint's of another node
	metric4     int
	metric6     int

	infrastructure *infrastructure
}

// localAddr is an address and the interface it is behind.
type localAddr struct {
	addr   netip.Addr
	iface  string
	shared sharing
}

// origin is what this node says to the rest: prefixes to announce, and blocks
// for which it drops what no endpoint claims.
type origin struct {
	announce   []bgp.Origination
	blackholes []netip.Prefix
	left       map[netip.Prefix]bool // as it was given
	problems   []problem             // blocks that are neither announced nor dropped
}

// originate computes what the node originates: its confirmed blocks, and every
// endpoint address outside them, whether or not a pool contains it, or that another node announces on its own, too, or did a
// moment ago; with
// workloadIPs every address on its own; and what the Node names of its own addresses. Nobody sends here what is in
// a block that is not announced: if an endpoint left it with its address, the default route may be the way there,
// and the block is not dropped. A block with infrastructure in it counts for nothing: its endpoints are announced
// each on its own. Pools with disableBGPExport keep
// theirs at home, and so do ignored interfaces what is outside the blocks. Pure;
// the result is sorted.
func originate(in originInput) origin {
	closed, owned := new(bart.Lite), new(bart.Lite)
	for _, p := range in.pools {
		if n, err := netip.ParsePrefix(p.Spec.CIDR); err == nil && p.Spec.DisableBGPExport {
			closed.Insert(n.Masked())
		}
	}
	out := origin{left: in.left}
	announce := func(p netip.Prefix, iface string, noExport bool) {
		if closed.LookupPrefix(p) {
			return
		}
		metric := in.metric4
		if p.Addr().Is6() {
			metric = in.metric6
		}
		out.announce = append(out.announce, bgp.Origination{Prefix: p, LocalPref: uint32(filter.MaxPriority - metric), Interface: iface, NoExport: noExport})
	}
	for _, b := range in.blocks {
		if b.IsSingleIP() {
			continue // an endpoint's address announces itself
		}
		if what := in.infrastructure.in(b); what != "" {
			out.problems = append(out.problems, in.around(b, what))
			continue
		}
		if !in.workloadIPs || !in.left[b] {
			out.blackholes = append(out.blackholes, b)
		}
		if !in.workloadIPs {
			owned.Insert(b)
			announce(b, "", false)
		}
	}
	for _, a := range in.addrs {
		ignore := slices.ContainsFunc(in.ignored, func(pattern string) bool { return filter.Glob(pattern, a.iface) })
		covered := owned.Contains(a.addr)
		if !ignore && (a.shared != alone || !covered) {
			announce(netip.PrefixFrom(a.addr, a.addr.BitLen()), a.iface, covered && a.shared == aloneAgain)
		}
	}
	for _, a := range in.own {
		announce(netip.PrefixFrom(a, a.BitLen()), "", false)
	}
	slices.SortFunc(out.announce, func(a, b bgp.Origination) int {
		return cmp.Or(comparePrefix(a.Prefix, b.Prefix), cmp.Compare(a.Interface, b.Interface))
	})
	out.announce = slices.CompactFunc(out.announce, func(a, b bgp.Origination) bool { return a.Prefix == b.Prefix })
	slices.SortFunc(out.blackholes, comparePrefix)
	slices.SortFunc(out.problems, func(a, b problem) int { return cmp.Compare(a.text, b.text) })
	return out
}

// around is the problem that a block has infrastructure in it.
func (in *originInput) around(b netip.Prefix, what string) problem {
	p := problem{object: store.KindBlockAffinity + " " + b.String()}
	for name, pool := range in.pools {
		if n, err := netip.ParsePrefix(pool.Spec.CIDR); err == nil && n.Contains(b.Addr()) {
			p.object, p.field = "IPPool "+name, "spec.cidr"
		}
	}
	p.text = fmt.Sprintf("block %s of this server has %s, in it: to drop or announce it would cut that off, so its endpoints are announced one by one; use a pool of another range, and give this one disabled: true", b, what)
	return p
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// difference tells what to add and remove to get from old to new; both sorted.
func difference(old, new []bgp.Origination) (add []bgp.Origination, remove []netip.Prefix) {
	i, j := 0, 0
	for i < len(old) || j < len(new) {
		var c int
		switch {
		case i == len(old):
			c = 1
		case j == len(new):
			c = -1
		default:
			c = comparePrefix(old[i].Prefix, new[j].Prefix)
		}
		switch {
		case c < 0:
			remove = append(remove, old[i].Prefix)
			i++
		case c > 0:
			add = append(add, new[j])
			j++
		default:
			if old[i] != new[j] {
				add = append(add, new[j])
			}
			i++
			j++
		}
	}
	return add, remove
}
