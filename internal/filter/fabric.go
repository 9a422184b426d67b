// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
)

// Bindings is what the data model says of prefixes; see package guard. Its
// answers may change while policies are in use; whoever changes them has the
// routes concerned looked at again.
type Bindings interface {
	// Bound tells whether a prefix is some node's own, one that all announce,
	// or one that this node may.
	Bound(netip.Prefix) bool
	// Owned tells whether a prefix lies in a block of this node.
	Owned(netip.Prefix) bool
}

// Fabric is what holds for every session of a node. Make one with NewFabric; it
// never changes.
type Fabric struct {
	id       string
	closed   bart.Table[string]    // pools with disableBGPExport, and their names
	open     bart.Lite             // the other pools, and addresses of services
	tags     bart.Table[*bgp.Edit] // of prefixAdvertisements
	priority [2]uint32             // LOCAL_PREF of an ordinary route of each family
	bindings Bindings
}

// Input is what a Fabric is made of.
type Input struct {
	Pools  []*v3.IPPool
	Global *v3.BGPConfiguration // nil when absent, as Node
	Node   *v3.BGPConfiguration
	// Priority4 and Priority6 are the priorities of ordinary routes.
	Priority4, Priority6 int
	Bindings             Bindings
}

// NewFabric makes a Fabric. Each error names a field of a BGPConfiguration or a
// pool; what it concerns is left out.
func NewFabric(in Input) (*Fabric, []error) {
	f := &Fabric{bindings: in.Bindings}
	var errs []error
	id := newIdentity("fabric")
	for i, p := range []int{in.Priority4, in.Priority6} {
		f.priority[i] = uint32(MaxPriority - p)
		id.add(p)
	}
	pools := slices.Clone(in.Pools)
	slices.SortFunc(pools, func(a, b *v3.IPPool) int { return strings.Compare(a.Metadata.Name, b.Metadata.Name) })
	for _, p := range pools {
		n, err := v3.ParseNetwork(p.Spec.CIDR)
		if err != nil {
			errs = append(errs, fmt.Errorf("IPPool %s: spec.cidr: %w", p.Metadata.Name, err))
			continue
		}
		id.add(p.Metadata.Name, n, p.Spec.DisableBGPExport)
		if p.Spec.DisableBGPExport {
			f.closed.Insert(n, p.Metadata.Name)
		} else {
			f.open.Insert(n)
		}
	}
	if in.Global != nil {
		for _, n := range Services(in.Global) {
			f.open.Insert(n)
			id.add(n)
		}
	}
	errs = append(errs, f.tag(in, id)...)
	f.id = id.sum()
	return f, errs
}

// Services are the prefixes of a configuration from which every node announces
// addresses of services.
func Services(c *v3.BGPConfiguration) (list []netip.Prefix) {
	for _, blocks := range [][]v3.CIDRBlock{c.Spec.ServiceClusterIPs, c.Spec.ServiceExternalIPs, c.Spec.ServiceLoadBalancerIPs} {
		for _, b := range blocks {
			if n, err := v3.ParseNetwork(b.CIDR); err == nil {
				list = append(list, n)
			}
		}
	}
	return list
}

// tag compiles prefixAdvertisements: those of the node replace those of the
// cluster. A route gets the communities of every one that it lies in.
func (f *Fabric) tag(in Input, id *identity) (errs []error) {
	values := map[string]string{}
	var list []v3.PrefixAdvertisement
	owner := ""
	for _, c := range []*v3.BGPConfiguration{in.Global, in.Node} {
		if c == nil {
			continue
		}
		for _, n := range c.Spec.Communities {
			values[n.Name] = n.Value
		}
		if len(c.Spec.PrefixAdvertisements) > 0 {
			list, owner = c.Spec.PrefixAdvertisements, c.Metadata.Name
		}
	}
	own := map[netip.Prefix]*bgp.Edit{}
	for i, a := range list {
		n, err := v3.ParseNetwork(a.CIDR)
		if err != nil {
			errs = append(errs, fmt.Errorf("BGPConfiguration %s: spec.prefixAdvertisements[%d].cidr: %w", owner, i, err))
			continue
		}
		if own[n] == nil {
			own[n] = &bgp.Edit{}
		}
		for j, text := range a.Communities {
			if v, named := values[text]; named {
				text = v
			}
			c, err := v3.ParseCommunity(text)
			if err != nil {
				errs = append(errs, fmt.Errorf("BGPConfiguration %s: spec.prefixAdvertisements[%d].communities[%d]: %w", owner, i, j, err))
				continue
			}
			addCommunity(own[n], v3.AnyCommunity{Values: c})
			id.add(n, c)
		}
	}
	for n, e := range own {
		sum := *e
		for m, wider := range own {
			if m.Bits() < n.Bits() && m.Contains(n.Addr()) {
				sum.Communities = append(slices.Clip(sum.Communities), wider.Communities...)
				sum.Large = append(slices.Clip(sum.Large), wider.Large...)
			}
		}
		sortEdit(&sum)
		f.tags.Insert(n, &sum)
	}
	return errs
}

// sortEdit makes the order of communities independent of that of maps.
func sortEdit(e *bgp.Edit) {
	slices.Sort(e.Communities)
	e.Communities = slices.Compact(e.Communities)
	slices.SortFunc(e.Large, func(a, b [3]uint32) int { return slices.Compare(a[:], b[:]) })
	e.Large = slices.Compact(e.Large)
}

// export is what happens to a route that no rule of a filter matches.
func (f *Fabric) export(r *bgp.Route) bgp.Verdict {
	if pool, ok := f.closed.LookupPrefix(r.Prefix); ok {
		return bgp.Verdict{Refused: bgp.RefusedFilter, Detail: "IP pool " + pool + " has disableBGPExport"}
	}
	edit, _ := f.tags.LookupPrefix(r.Prefix)
	normal := f.priority[0]
	if r.Prefix.Addr().Is6() {
		normal = f.priority[1]
	}
	switch {
	case r.Local:
	case f.bindings != nil && f.bindings.Owned(r.Prefix) && !(r.HasLocalPref && r.LocalPref > normal):
		// Only an address that is on its way to another node says more than
		// the block around it.
		return bgp.Verdict{Refused: bgp.RefusedFilter, Detail: "it lies in a block of this node, which is announced as one"}
	case f.open.LookupPrefix(r.Prefix), f.bindings != nil && f.bindings.Bound(r.Prefix):
	default:
		return bgp.Verdict{Refused: bgp.RefusedFilter, Detail: "it lies outside every IP pool"}
	}
	return bgp.Verdict{Edit: edit}
}
