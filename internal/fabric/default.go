// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"time"
)

// Where addresses come from if the file does not say: the first that the plan fits into,
// else the last.
var (
	defaultEndpoints = map[Family][]string{IPv4: {"10.64.0.0/10", "10.128.0.0/9"}, IPv6: {"fd00:64::/48"}}
	defaultLoopbacks = map[Family][]string{IPv4: {"172.31.0.0/16", "172.24.0.0/13"}, IPv6: {"fd00:31::/64"}}
	defaultLinks     = map[Family][]string{IPv4: {"172.20.0.0/14", "10.0.0.0/10"}, IPv6: {"fd00:20::/64"}}
)

// firstThatHolds is the first of some pools that is large enough, or the last.
func firstThatHolds(pools []string, holds func(netip.Prefix) bool) (p netip.Prefix) {
	for _, text := range pools {
		if p = netip.MustParsePrefix(text); holds(p) {
			break
		}
	}
	return p
}

// Private AS numbers (RFC 6996 section 5).
const (
	first2, last2 = 64512, 65534
	first4, last4 = 4200000000, 4294967294
)

// PrivateAS tells whether an AS number is one of these.
func PrivateAS(as uint32) bool { return as >= first2 && as <= last2 || as >= first4 && as <= last4 }

// orElse sets what the file leaves out.
func orElse[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// fill sets everything that the file leaves out and that the model has. What
// it sets depends on the model and on other fields, but not on the number of
// racks, so that a fabric does not change its numbers when it grows; unless it grows out
// of the pools (hundreds of racks), which are larger ones then.
func (f *Fabric) fill() {
	s := &f.Spec
	// What the file says is kept beside it (given), and shares these.
	s.Machines = slices.Clone(s.Machines)
	p := &s.Pools
	p.Endpoints, p.Loopbacks, p.Links = slices.Clone(p.Endpoints), slices.Clone(p.Loopbacks), slices.Clone(p.Links)
	orElse(&s.Racks.ToRs, 1)
	orElse(&s.Spine.Count, 2)
	if s.Model == Ethernet {
		orElse(&s.Spine.Kind, L2)
		orElse(&s.Reflectors.Placement, PerPlane)
		if s.Reflectors.Placement != NoReflectors {
			orElse(&s.Reflectors.PerPlane, 2)
			orElse(&s.Reflectors.Hosts, Dedicated)
		}
	} else {
		orElse(&s.Spine.Kind, L3)
		if s.Model == ASPerRack {
			orElse(&s.Servers.Uplinks, OnSegment)
			orElse(&s.InRack.Sessions, RackReflector)
			if s.InRack.Sessions == RackReflector {
				orElse(&s.InRack.Reflector, OnToR)
			}
		}
		orElse(&s.Servers.Uplinks, Routed)
	}
	if s.Spine.Kind == L3 {
		orElse(&s.Spine.AS, Shared)
	}
	switch {
	case s.Model == ASPerServer:
		orElse(&s.ToRs.AS, Unique)
	case s.Model == DownwardDefault && s.Spine.Kind == L3:
		orElse(&s.Downward.Origin, FromSpine)
		orElse(&s.Downward.Fallback, InterSpine)
	case s.Model == DownwardDefault:
		orElse(&s.Downward.Origin, FromToR)
		orElse(&s.Downward.Fallback, NoFallback)
	}
	f.fillMachines()
	orElse(&s.Endpoints.Announce, OneByOne)
	orElse(&s.Plan.ServersPerRack, max(64, powerOfTwo(f.mostServers())))
	orElse(&s.Plan.EndpointsPerServer, max(64, powerOfTwo(s.Endpoints.grown(s.Endpoints.PerServer))))
	f.fillPools()
	f.fillBGP()
	orElse(&s.Switches.ToR.Software, FRR)
	orElse(&s.Switches.Spine.Software, FRR)
}

func (f *Fabric) fillPools() {
	s := &f.Spec
	if len(s.Families) == 0 {
		for _, family := range []Family{IPv4, IPv6} {
			if len(s.Pools.Endpoints) == 0 && family == IPv4 || f.hasPool(family) {
				s.Families = append(s.Families, family)
			}
		}
	}
	for _, family := range s.Families {
		if !f.hasPool(family) {
			s.Pools.Endpoints = append(s.Pools.Endpoints, EndpointPool{CIDR: firstThatHolds(defaultEndpoints[family], f.holdsEndpoints)})
		}
		if _, ok := ofFamily(s.Pools.Links, family); !ok {
			s.Pools.Links = append(s.Pools.Links, firstThatHolds(defaultLinks[family], f.holdsLinks))
		}
	}
	for i := range s.Pools.Endpoints {
		orElse(&s.Pools.Endpoints[i].External, NAT)
	}
	// Router IDs are IPv4 addresses even where no IPv4 is routed.
	for _, family := range []Family{IPv4, IPv6} {
		if _, ok := ofFamily(s.Pools.Loopbacks, family); !ok && (family == IPv4 || f.has(family)) {
			s.Pools.Loopbacks = append(s.Pools.Loopbacks, firstThatHolds(defaultLoopbacks[family], f.holdsLoopbacks))
		}
	}
	// Two octets are enough for one or three AS numbers, and read better.
	few := s.Model == Ethernet || s.Model == DownwardDefault
	if few || s.Pools.AS.Start >= first2 && s.Pools.AS.Start <= last2 {
		orElse(&s.Pools.AS.Style, TwoByte)
	}
	orElse(&s.Pools.AS.Style, FourByte)
	if s.Pools.AS.Style == TwoByte {
		orElse(&s.Pools.AS.Start, first2)
	}
	orElse(&s.Pools.AS.Start, first4)
}

func (f *Fabric) fillBGP() {
	b := &f.Spec.BGP
	orElse(&b.Timers.Hold, Duration(9*time.Second))
	// Behind a switch a dead link has no carrier to tell of it.
	orElse(&b.BFD.Segment, Duration(100*time.Millisecond))
	orElse(&b.BFD.Planes, Duration(100*time.Millisecond))
	orElse(&b.BFD.Links, NoDuration)
	orElse(&b.GracefulRestart.VRouter, Duration(120*time.Second))
	orElse(&b.GracefulRestart.RR, Duration(120*time.Second))
	orElse(&b.Roles, Auto)
	orElse(&b.Authentication, NoAuthentication)
	orElse(&b.MaxPrefix, MaxPrefixWarning)
}

// has tells whether the fabric routes a family.
func (f *Fabric) has(family Family) bool {
	return slices.Contains(f.Spec.Families, family)
}

// hasPool tells whether the file gives endpoint addresses of a family.
func (f *Fabric) hasPool(family Family) bool {
	for _, p := range f.Spec.Pools.Endpoints {
		if FamilyOf(p.CIDR.Addr()) == family {
			return true
		}
	}
	return false
}

// mostServers is the number of servers in the fullest rack.
func (f *Fabric) mostServers() int {
	most := f.Spec.Servers.PerRack
	for _, r := range f.Spec.Racks.List {
		most = max(most, r.Servers)
	}
	return most + f.mostMachines()
}

// mostMachines is the number of machines in the rack that has most.
func (f *Fabric) mostMachines() (most int) {
	in := map[string]int{}
	for _, m := range f.Spec.Machines {
		in[m.Rack]++
		most = max(most, in[m.Rack])
	}
	return most
}

// grown is what n will be when the growth is over.
func (e *Endpoints) grown(n int) int { return e.Growth.of(n) }

// of applies the growth to a number.
func (g Growth) of(n int) int {
	return int(math.Ceil(float64(n) * math.Pow(1+float64(g.PercentPerYear)/100, float64(g.Years))))
}

func powerOfTwo(n int) int { return 1 << bits.Len(uint(max(n, 1)-1)) }
