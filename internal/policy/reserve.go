// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"
)

// Reserve says which addresses no endpoint of any node can have, each with the
// name of its owner, such as "Node n1", for Problems. It is the whole set, in
// place of what an earlier call said; nil frees all. Addresses are IPv4 or
// IPv6; v4-mapped ones count as IPv4, and zones do not count. The Index keeps no
// reference to owners.
//
// An endpoint that claims a reserved address loses it, as one does whose
// address belongs to an older endpoint, and moreover is no member of any set
// with it. Both come back with the address: a workload must not capture the
// traffic of a node, however long ago it was created. The work follows what
// differs from the last call. The View changes with the next Flush.
func (x *Index) Reserve(owners map[netip.Addr]string) {
	old := x.reserved
	x.reserved = make(map[netip.Addr]string, len(owners))
	for a, owner := range owners {
		// Two spellings of one address: the same owner, whatever the order.
		if p := plain(a); x.reserved[p] == "" || owner < x.reserved[p] {
			x.reserved[p] = owner
		}
	}
	for a := range x.reserved {
		if _, ok := old[a]; !ok {
			x.reclaim(a)
		}
	}
	for a := range old {
		if _, ok := x.reserved[a]; !ok {
			x.reclaim(a)
		}
	}
}

// plain is an address as endpoints claim it.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// reclaim makes what endpoints contribute anew after one of their addresses
// became reserved, or ceased to be.
func (x *Index) reclaim(a netip.Addr) {
	x.touchFloating(a)
	for _, e := range x.claimants(a) {
		old := e.member
		e.member = &member{nets: x.unreserved(e.claims), ports: old.ports}
		x.sets.replace(old, e.member, old.class.own, old.class.parentNames())
		x.touch(e)
	}
}

// claimants returns all endpoints that claim an address, the oldest first.
func (x *Index) claimants(a netip.Addr) []*endpoint {
	if list := x.rivals[a]; list != nil {
		return list
	}
	if e := x.owner(a); e != nil {
		return []*endpoint{e}
	}
	return nil
}

// unreserved returns the addresses that are not reserved: claims itself if
// that is all of them.
func (x *Index) unreserved(claims []netip.Prefix) []netip.Prefix {
	taken := func(p netip.Prefix) bool {
		_, ok := x.reserved[p.Addr()]
		return ok
	}
	if !slices.ContainsFunc(claims, taken) {
		return claims
	}
	return slices.DeleteFunc(slices.Clone(claims), taken)
}
