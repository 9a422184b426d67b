// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"
)

// What the endpoints of all nodes say of where addresses are: for judging by
// which node an address may be announced. It needs no Flush.

// Rebound returns the addresses that an endpoint claims, or has ceased to
// claim, since the last call.
func (x *Index) Rebound() []netip.Addr {
	if len(x.rebound) == 0 {
		return nil
	}
	out := make([]netip.Addr, 0, len(x.rebound))
	for a := range x.rebound {
		out = append(out, a)
	}
	x.rebound = map[netip.Addr]struct{}{} // a map never shrinks
	return out
}

// ReboundIn calls yield with the addresses inside of p that the next Rebound will return.
func (x *Index) ReboundIn(p netip.Prefix, yield func(netip.Addr)) {
	for a := range x.rebound {
		if p.Contains(a) {
			yield(a)
		}
	}
}

// NodesOf returns the nodes that have an endpoint with an address, its own or a
// floating one, each once. They are several while a machine moves, or by mistake.
func (x *Index) NodesOf(a netip.Addr) []string {
	var out []string
	for _, e := range slices.Concat(x.claimants(a), x.floats[a]) {
		out = append(out, e.node.Value())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ClaimedIn calls yield with every address inside of p that an endpoint claims.
// It costs as much as there are such addresses.
func (x *Index) ClaimedIn(p netip.Prefix, yield func(netip.Addr)) {
	for host := range x.owners.Within(p.Masked()) {
		yield(host.Addr())
	}
}
