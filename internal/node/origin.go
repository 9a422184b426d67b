// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
)

// maxPriority is what LOCAL_PREF and route metric add up to in Calico's scheme:
// every node of the cluster derives one from the other.
const maxPriority = 2147483647

// originInput is all that decides what this node announces.
type originInput struct {
	blocks      []netip.Prefix // confirmed affinities of this node
	addrs       []netip.Addr   // of local endpoints that are routed here
	pools       map[string]*v3.IPPool
	workloadIPs bool
	metric4     int
	metric6     int
}

// origin is what this node says to the rest: prefixes to announce, and blocks
// for which it drops what no endpoint claims.
type origin struct {
	announce   []bgp.Origination
	blackholes []netip.Prefix
}

// originate computes what the node originates: its confirmed blocks, and every
// endpoint address outside them, whether or not a pool contains it; with
// workloadIPs every address on its own. Pools with disableBGPExport keep
// theirs at home. Pure; the result is sorted.
func originate(in originInput) origin {
	closed, owned := new(bart.Lite), new(bart.Lite)
	for _, p := range in.pools {
		if n, err := netip.ParsePrefix(p.Spec.CIDR); err == nil && p.Spec.DisableBGPExport {
			closed.Insert(n.Masked())
		}
	}
	var out origin
	announce := func(p netip.Prefix) {
		if closed.LookupPrefix(p) {
			return
		}
		metric := in.metric4
		if p.Addr().Is6() {
			metric = in.metric6
		}
		out.announce = append(out.announce, bgp.Origination{Prefix: p, LocalPref: uint32(maxPriority - metric)})
	}
	for _, b := range in.blocks {
		if b.IsSingleIP() {
			continue // an endpoint's address announces itself
		}
		out.blackholes = append(out.blackholes, b)
		if !in.workloadIPs {
			owned.Insert(b)
			announce(b)
		}
	}
	for _, a := range in.addrs {
		if !owned.Contains(a) {
			announce(netip.PrefixFrom(a, a.BitLen()))
		}
	}
	slices.SortFunc(out.announce, func(a, b bgp.Origination) int { return comparePrefix(a.Prefix, b.Prefix) })
	out.announce = slices.Compact(out.announce)
	slices.SortFunc(out.blackholes, comparePrefix)
	return out
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
