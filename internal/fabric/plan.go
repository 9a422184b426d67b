// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
)

// The plan gives each thing its addresses by its place: rack, number in the
// rack, spine. (AS numbers: asplan.go.) Nothing depends on how many others there are, so
// that a fabric that grows keeps what it has.
//
//	loopbacks  64 spines, 64 borders, 128 reflectors, then for each rack 2
//	           ToRs, 2 reflectors, 4 spare and the planned servers
//	links      the lower half: for each rack 8 addresses a planned server and
//	           512 at least, for segments or ports, and for uplinks;
//	           the upper half: 16 planes in the first half of it, then the
//	           links between spines and those to borders. An Ethernet fabric
//	           has nothing but planes: each is a 16th of the pool
//	endpoints  for each rack the planned servers, each with the planned
//	           endpoints: powers of two, so that both are prefixes
const (
	spineLoopbacks     = 0
	borderLoopbacks    = 64
	reflectorLoopbacks = 128
	rackLoopbacks      = 256
	rackOverhead       = 8 // loopbacks of a rack that are not servers'
	planeReserved      = 64
	slots              = 64 // of links from one device to spines
)

// size is how many addresses a pool has, and never more than anything needs.
func size(pool netip.Prefix) int {
	return 1 << min(pool.Addr().BitLen()-pool.Bits(), 40)
}

// subnet is the prefix of size addresses, a power of two, that begins at the
// n-th address of a pool.
func subnet(pool netip.Prefix, n, size int) netip.Prefix {
	return netip.PrefixFrom(addr(pool, n), pool.Addr().BitLen()-bits.Len(uint(size-1)))
}

// rackLinks is how many addresses of the links a rack has: a half for servers,
// a half for uplinks.
func (f *Fabric) rackLinks() int { return max(8*f.Spec.Plan.ServersPerRack, 4*2*slots) }

// rackEndpoints is how many endpoint addresses a rack has.
func (f *Fabric) rackEndpoints() int {
	return f.Spec.Plan.ServersPerRack * f.Spec.Plan.EndpointsPerServer
}

// planeSize is how many addresses a plane's subnet has.
func (f *Fabric) planeSize(pool netip.Prefix) int {
	if f.Spec.Model == Ethernet {
		return size(pool) / 16
	}
	return size(pool) / 64
}

// planeMembers is how many addresses of a plane's subnet are in use.
func (f *Fabric) planeMembers() int {
	if f.Spec.Model == Ethernet {
		return planeReserved + f.Spec.Racks.Count*f.Spec.Plan.ServersPerRack
	}
	return planeReserved + 2*f.Spec.Racks.Count
}

// rackLoopback is where the n-th loopback of a rack is: those of servers are behind rackOverhead.
func (f *Fabric) rackLoopback(rack, n int) int {
	return rackLoopbacks + rack*(f.Spec.Plan.ServersPerRack+rackOverhead) + n
}

// endpointsNeeded, loopbacksNeeded and rackLinksNeeded are what pools have to hold.
func (f *Fabric) endpointsNeeded() int { return f.Spec.Racks.Count * f.rackEndpoints() }

func (f *Fabric) loopbacksNeeded() int {
	return f.rackLoopback(f.Spec.Racks.Count, 0)
}

func (f *Fabric) rackLinksNeeded() int { return f.Spec.Racks.Count * f.rackLinks() }

// holdsEndpoints, holdsLoopbacks and holdsLinks tell whether the plan fits into one pool.
func (f *Fabric) holdsEndpoints(pool netip.Prefix) bool { return size(pool) >= f.endpointsNeeded() }

func (f *Fabric) holdsLoopbacks(pool netip.Prefix) bool { return size(pool) >= f.loopbacksNeeded() }

func (f *Fabric) holdsLinks(pool netip.Prefix) bool {
	return (f.Spec.Model == Ethernet || size(pool)/2 >= f.rackLinksNeeded()) && (f.Spec.Spine.Kind == L3 || f.planeSize(pool) >= f.planeMembers())
}

// checkSizes holds the pools against the plan (rule FAB-ADR-003).
func (f *Fabric) checkSizes(e *faults) {
	p := &f.Spec.Pools
	small := func(field string, pool netip.Prefix, has, need int, what, other string) {
		if has >= need {
			return
		}
		want, unit := "want fewer racks, or a smaller plan: no pool of the family is that large", has
		if has == 0 { // not one rack
			unit = size(pool)
		}
		if n := pool.Bits() - bits.Len(uint((need-1)/unit)); n > 0 {
			want = fmt.Sprintf("want a /%d or more%s", n, other)
		}
		e.add(field, want,
			"FAB-ADR-003: %s%s holds %s %s, the plan needs %s", pool, f.whose(pool), Number(has), what, Number(need))
	}
	for _, family := range f.Spec.Families {
		var held int
		last := 0
		for i, c := range p.Endpoints {
			if FamilyOf(c.CIDR.Addr()) == family {
				held += size(c.CIDR) / f.rackEndpoints()
				last = i
			}
		}
		plan := fmt.Sprintf(", in one pool or several, or a smaller spec.plan: it keeps %d servers × %d endpoints for a rack", f.Spec.Plan.ServersPerRack, f.Spec.Plan.EndpointsPerServer)
		small(fmt.Sprintf("spec.pools.endpoints[%d].cidr", last), p.Endpoints[last].CIDR, held*f.rackEndpoints(), f.endpointsNeeded(), "endpoint addresses in whole racks", plan)
	}
	for i, pool := range p.Loopbacks {
		small(fmt.Sprintf("spec.pools.loopbacks[%d]", i), pool, size(pool), f.loopbacksNeeded(), "loopbacks", "")
	}
	for i, pool := range p.Links {
		field := fmt.Sprintf("spec.pools.links[%d]", i)
		if f.Spec.Model != Ethernet {
			small(field, pool, size(pool)/2, f.rackLinksNeeded(), "addresses of links inside racks", "")
			// Links between spines and to borders: the last quarter.
			small(field, pool, size(pool)/4, 4*slots*slots, "addresses of links between spines and to borders", "")
		}
		if f.Spec.Spine.Kind == L2 {
			small(field, pool, f.planeSize(pool), f.planeMembers(), "addresses in a plane", "")
		}
	}
}

// whose says of a pool that the file does not name where it is from.
func (f *Fabric) whose(pool netip.Prefix) string {
	named := &f.given.Pools
	if slices.Contains(named.Loopbacks, pool) || slices.Contains(named.Links, pool) ||
		slices.ContainsFunc(named.Endpoints, func(p EndpointPool) bool { return p.CIDR == pool }) {
		return ""
	}
	return ", the pool where the file names none,"
}

// segmentOf is where in a rack's part of the links the segment of a ToR is.
func (f *Fabric) segmentOf(rack, tor int) int {
	return rack*f.rackLinks() + tor*2*f.Spec.Plan.ServersPerRack
}

// portOf is where the port of a ToR to a server is.
func (f *Fabric) portOf(rack, tor, server int) int {
	return f.segmentOf(rack, tor) + 2*server
}

// uplinkOf is where the link of a ToR to a spine is. The last slot of the first
// ToR is the link to the second.
func (f *Fabric) uplinkOf(rack, tor, spine int) int {
	return rack*f.rackLinks() + f.rackLinks()/2 + 2*(tor*slots+spine)
}

const islSlot = slots - 1

// planeOf is where a plane's subnet is.
func (f *Fabric) planeOf(pool netip.Prefix, plane int) int {
	if f.Spec.Model == Ethernet {
		return plane * f.planeSize(pool)
	}
	return size(pool)/2 + plane*f.planeSize(pool)
}

// Hosts of a plane's subnet: borders from 1, reflectors from 17, then ToRs or
// servers.
const (
	planeBorders    = 1
	planeReflectors = 17
)

// betweenSpines and toBorder are where the links at the top are.
func betweenSpines(pool netip.Prefix, i, j int) int { return size(pool)*3/4 + 2*(slots*i+j) }

func toBorder(pool netip.Prefix, border, spine int) int {
	return size(pool)*3/4 + 2*slots*slots + 2*(slots*border+spine)
}

// rackBlock is what the endpoints of a rack lie in.
func (f *Fabric) rackBlock(family Family, rack int) netip.Prefix {
	return subnet(f.endpointsOf(family, rack, 0), 0, f.rackEndpoints())
}

// endpointsOf is the block of a server's endpoints. Pools of the family are
// used up one after the other, in whole racks.
func (f *Fabric) endpointsOf(family Family, rack, server int) netip.Prefix {
	for _, p := range f.Spec.Pools.Endpoints {
		if FamilyOf(p.CIDR.Addr()) != family {
			continue
		}
		if held := size(p.CIDR) / f.rackEndpoints(); rack >= held {
			rack -= held
			continue
		}
		return subnet(p.CIDR, rack*f.rackEndpoints()+server*f.Spec.Plan.EndpointsPerServer, f.Spec.Plan.EndpointsPerServer)
	}
	return netip.Prefix{} // not reached: checkSizes has refused the file
}
