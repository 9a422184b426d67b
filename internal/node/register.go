// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// mergeNode sets on n what this daemon owns, in the order: explicit flag, the
// stored value, autodetection. Everything else is kept. It tells whether
// anything changed.
func mergeNode(n *v3.Node, explicit4, explicit6, auto4, auto6 netip.Prefix) bool {
	if n.Spec.BGP == nil {
		n.Spec.BGP = &v3.NodeBGP{}
	}
	changed := false
	set := func(field *string, explicit, auto netip.Prefix) {
		want := *field
		switch {
		case explicit.IsValid():
			want = explicit.String()
		case *field == "" && auto.IsValid():
			want = auto.String()
		}
		if want != *field {
			*field, changed = want, true
		}
	}
	set(&n.Spec.BGP.IPv4Address, explicit4, auto4)
	set(&n.Spec.BGP.IPv6Address, explicit6, auto6)
	if *n.Spec.BGP == (v3.NodeBGP{}) {
		n.Spec.BGP = nil // an empty object is not valid
	}
	for _, a := range nodeIPs(n) {
		if !slices.ContainsFunc(n.Spec.Addresses, func(x v3.NodeAddress) bool { return x.Address == a }) {
			n.Spec.Addresses = append(n.Spec.Addresses, v3.NodeAddress{Address: a, Type: "CalicoNodeIP"})
			changed = true
		}
	}
	// Addresses that were ours and are not any more.
	before := len(n.Spec.Addresses)
	n.Spec.Addresses = slices.DeleteFunc(n.Spec.Addresses, func(x v3.NodeAddress) bool {
		return x.Type == "CalicoNodeIP" && !slices.Contains(nodeIPs(n), x.Address)
	})
	return changed || before != len(n.Spec.Addresses)
}

func nodeIPs(n *v3.Node) (ips []string) {
	if n.Spec.BGP == nil {
		return nil
	}
	for _, a := range []string{n.Spec.BGP.IPv4Address, n.Spec.BGP.IPv6Address} {
		if a != "" {
			ips = append(ips, a)
		}
	}
	return ips
}
