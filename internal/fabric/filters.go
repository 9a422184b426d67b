// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"net/netip"
	"slices"
)

// The filters of designs, by name.
const (
	onlyEndpoints = "endpoints"     // from servers: what lies in the pools
	onlyDefault   = "default"       // the default route
	noDefault     = "no-default"    // everything else
	onlyDown      = "down"          // what servers are told with AS override: default route and anycast
	exceptions    = "exceptions"    // the default route, and moved endpoints one by one
	noExceptions  = "no-exceptions" // everything else than those
)

// filters makes all of them; those that no profile names are left out in the end.
func (b *builder) filters() {
	s := &b.f.Spec
	servers, down := Filter{Name: onlyEndpoints}, Filter{Name: onlyDown}
	def, other := Filter{Name: onlyDefault}, Filter{Name: noDefault}
	for _, family := range s.Families {
		d := family.Default()
		bits := d.Addr().BitLen()
		def.Rules = append(def.Rules, FilterRule{Permit: true, Within: d})
		down.Rules = append(down.Rules, FilterRule{Permit: true, Within: d})
		other.Rules = append(other.Rules, FilterRule{Permit: true, Within: d, Min: 1})
		for _, p := range s.Pools.Endpoints {
			if FamilyOf(p.CIDR.Addr()) != family {
				continue
			}
			block := b.f.endpointsOf(family, 0, 0).Bits()
			if s.Endpoints.Announce == OneByOne {
				block = bits
			}
			servers.Rules = append(servers.Rules, FilterRule{Permit: true, Within: p.CIDR, Min: block})
		}
		loopbacks, _ := ofFamily(s.Pools.Loopbacks, family)
		servers.Rules = append(servers.Rules, FilterRule{Permit: true, Within: loopbacks, Min: bits})
	}
	for _, m := range s.Machines {
		for _, p := range m.Prefixes {
			servers.Rules = append(servers.Rules, FilterRule{Permit: true, Within: p})
		}
	}
	for _, p := range s.Pools.Endpoints { // of machines, where servers announce blocks
		if b.machinesOneByOne() && s.Endpoints.Announce != OneByOne {
			servers.Rules = append(servers.Rules, FilterRule{Permit: true, Within: p.CIDR, Min: p.CIDR.Addr().BitLen()})
		}
	}
	for _, a := range s.Anycast {
		one := FilterRule{Permit: true, Within: netip.PrefixFrom(a.IP, a.IP.BitLen())}
		for _, x := range []*Filter{&servers, &down} {
			x.Rules = append(x.Rules, one)
		}
	}
	b.out.Filters = append([]Filter{servers, def, other, down}, b.exceptionFilters(def, other)...)
}

// machinesOneByOne tells whether machines announce addresses of the pools, each on its own.
func (b *builder) machinesOneByOne() bool {
	return slices.ContainsFunc(b.f.Spec.Machines, func(m Machine) bool { return m.Routing == ByBGP && m.Addresses > 0 })
}

// exceptionFilters let pass, beside the default route, endpoints one by one: those of all blocks, and for each
// rack those of its own, which is as far as they need to be known. One lets pass all but these and the default route.
func (b *builder) exceptionFilters(def, other Filter) []Filter {
	s := &b.f.Spec
	if s.Downward.Exceptions == 0 {
		return nil
	}
	all, none := Filter{Name: exceptions, Rules: slices.Clone(def.Rules)}, Filter{Name: noExceptions}
	for _, a := range s.Anycast {
		none.Rules = append(none.Rules, FilterRule{Permit: true, Within: netip.PrefixFrom(a.IP, a.IP.BitLen())})
	}
	for _, p := range s.Pools.Endpoints {
		one := FilterRule{Permit: true, Within: p.CIDR, Min: p.CIDR.Addr().BitLen()}
		all.Rules = append(all.Rules, one)
		one.Permit = false
		none.Rules = append(none.Rules, one)
	}
	none.Rules = append(none.Rules, other.Rules...)
	if b.f.leadsOut() {
		none.Rules = append(none.Rules, def.Rules...)
	}
	list := []Filter{all, none}
	for r := range s.Racks.Count {
		x := Filter{Name: exceptionsOf(b.f.rack(r).Name), Rules: slices.Clone(def.Rules)}
		for _, family := range s.Families {
			p := b.f.rackBlock(family, r)
			x.Rules = append(x.Rules, FilterRule{Permit: true, Within: p, Min: p.Addr().BitLen()})
		}
		list = append(list, x)
	}
	return list
}

// leadsOut tells whether a border announces a default route.
func (f *Fabric) leadsOut() bool {
	return slices.ContainsFunc(f.Spec.Borders, func(b Border) bool { return b.Default })
}

func exceptionsOf(rack string) string { return exceptions + "-" + rack }

// Permits tells what a filter decides about a prefix.
func (x *Filter) Permits(p netip.Prefix) bool {
	for _, r := range x.Rules {
		if r.matches(p) {
			return r.Permit
		}
	}
	return false
}

// matches tells whether a rule speaks of a prefix.
func (r FilterRule) matches(p netip.Prefix) bool {
	low, high := r.Lengths()
	return r.Within.Contains(p.Addr()) && p.Bits() >= low && p.Bits() <= high
}

// Lengths are those of the shortest and the longest prefix that a rule matches.
func (r FilterRule) Lengths() (low, high int) {
	low, high = max(r.Min, r.Within.Bits()), r.Max
	switch {
	case r.Max == 0 && r.Min == 0:
		high = r.Within.Bits()
	case r.Max == 0:
		high = r.Within.Addr().BitLen()
	}
	return low, high
}
