// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// foreign lists the segments on which a device learns by eBGP.
func (s *subject) foreign(d *fabric.Device) []string {
	var out []string
	add := func(segment string) {
		if segment != "" && !slices.Contains(out, segment) {
			out = append(out, segment)
		}
	}
	for i := range d.Sessions {
		if x := &d.Sessions[i]; x.PeerAS != d.AS {
			add(x.Segment)
		}
	}
	for _, m := range s.MeshesOf(d) {
		if m.Kind == fabric.MeshEBGP {
			add(m.Segment)
		}
	}
	return out
}

// unreachable visits the iBGP sessions that carry next hops which the peer does
// not have on a segment: those learned by eBGP on another one.
func (s *subject) unreachable(visit func(a *adjacency, segment string)) {
	learned := map[*fabric.Device][]string{}
	for i := range s.Devices {
		learned[&s.Devices[i]] = s.foreign(&s.Devices[i])
	}
	type at struct {
		mesh    *fabric.Mesh
		segment string
	}
	onAll := map[at]bool{} // whether all members of a mesh are on a segment, as far as it was asked
	everybody := func(m *fabric.Mesh, segment string) bool {
		k := at{m, segment}
		if _, known := onAll[k]; !known {
			onAll[k] = !slices.ContainsFunc(m.Members, func(name string) bool { return s.Device(name).Interface(segment) == nil })
		}
		return onAll[k]
	}
	s.each(func(a *adjacency) {
		if !a.ibgp || a.profile.NextHopSelf != fabric.NextHopSelfNone || a.profile.OwnOnly {
			return
		}
		for _, segment := range learned[a.on] {
			if a.peer != nil && a.peer.Interface(segment) == nil || a.peer == nil && !everybody(a.mesh, segment) {
				visit(a, segment)
				return
			}
		}
	})
}

func nextHop(s *subject) {
	var t tally
	reached := s.everyHop()
	s.unreachable(func(a *adjacency, segment string) {
		if a.profile.Export != "" && reached {
			return // the filter keeps back what would not be
		}
		who := "one of the others on its mesh"
		if a.peer != nil {
			who = a.peer.Name
		}
		t.add(string(a.on.Role), a.on.Name, fmt.Sprintf("%s learns by eBGP on %s, and %s has no port there", a.on.Name, segment, who),
			fmt.Sprintf("neighbor %s next-hop-self        ! FRR, without force", a.address()), "next hop self ebgp;                  # BIRD")
	})
	t.report(s, func(_ string, c *sameCase) string {
		return fmt.Sprintf("%s pass%s next hops on by iBGP that its peers cannot reach, on %s", names(c.devices), verb(len(c.devices), "es", ""), fabric.Amount(c.n, "session"))
	})
}

// everyHop tells whether every next hop is reached, and nothing is lost after one failure.
func (s *subject) everyHop() bool {
	for i := range s.simulated {
		x := &s.simulated[i]
		if x.err != nil || x.tables == nil || !whole(x) || slices.ContainsFunc(x.tables.Devices, func(t sim.Table) bool { return t.Unusable > 0 }) {
			return false
		}
	}
	return len(s.simulated) > 0
}

// nextHopByDefault: FAB-NH-003. The peer has a default route that it can use itself.
func nextHopByDefault(s *subject) {
	var t tally
	s.unreachable(func(a *adjacency, segment string) {
		peer := a.peer
		if peer == nil {
			peer = s.Device(a.mesh.Members[slices.IndexFunc(a.mesh.Members, func(name string) bool { return s.Device(name).Interface(segment) == nil })])
		}
		if slices.Contains(t.keys, "") && slices.Contains(t.cases[""].devices, a.on.Name) || !s.byDefaultOnly(peer, segment) {
			return
		}
		t.add("", a.on.Name, peer.Name+" has no other route to "+segment, "set next-hop-self on these sessions: see FAB-NH-001")
	})
	t.report(s, func(_ string, c *sameCase) string {
		return fmt.Sprintf("next hops that %s pass%s on resolve only through the default route of the peer", names(c.devices), verb(len(c.devices), "es", ""))
	})
}

// byDefaultOnly tells whether a device sends packets to the routers on a segment by a default route.
func (s *subject) byDefaultOnly(d *fabric.Device, segment string) bool {
	for i := range s.simulated {
		x := &s.simulated[i]
		if x.err != nil {
			continue
		}
		for _, at := range s.On(segment) {
			for _, a := range at.Interface.Addresses {
				if fabric.FamilyOf(a.Addr()) != x.family {
					continue
				}
				if p, err := x.sim.Path(d.Name, a.Addr(), sim.Failure{}); err == nil && len(p.Branches) > 0 {
					if hops := p.Branches[0].Hops; len(hops) > 1 && hops[0].Prefix == x.family.Default() {
						return true
					}
				}
			}
		}
	}
	return false
}

func thirdParty(s *subject) {
	var t tally
	s.each(func(a *adjacency) {
		if a.profile.Role == fabric.Customer || a.profile.Role == fabric.PeerPeer {
			return // it tells nobody there of what it has from others there (RFC 9234 section 5)
		}
		if !a.ibgp && !a.profile.OwnOnly && shared(a.segment) && a.profile.NextHopSelf != fabric.NextHopSelfAll && len(s.On(a.segment.Name)) > 2 {
			t.add(a.segment.Name, a.on.Name, "", "next-hop-self force on these sessions, if packets shall pass the router that told of the route")
		}
	})
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("next hops of third parties on %s: %s speak%s eBGP there", key, fabric.Amount(len(c.devices), "router"), verb(len(c.devices), "s", ""))
	})
}

// remotePeers: FAB-NH-005, sessions between routers without a segment that both are on, and between loopbacks, whoever
// they are of: no design has a route that leads there. A reflector behind its host is FAB-RR-006.
func remotePeers(s *subject) {
	s.each(func(a *adjacency) {
		switch {
		case a.peer == nil || hosted(a.peer, a.session.Segment) || hosted(a.on, a.session.Segment):
			return
		case s.End(a.on, a.session) != nil && a.on.Name > a.peer.Name:
			return // told of the other end
		case a.session.Segment != "" && s.meet(a.on, a.peer):
			return
		case a.session.Segment == "" && len(a.session.Address) > 0 && !slices.ContainsFunc(a.session.Address, func(x netip.Addr) bool { return !onSubnet(a.on, x) }):
			return
		}
		what, fix := "share no segment", "attach both to one segment, or add an IGP for their addresses"
		if s.meet(a.on, a.peer) {
			what, fix = "speak between addresses that are on no segment of both", "say the segment of the session, and the addresses there, or add an IGP for these"
		}
		s.report(fmt.Sprintf("%s and %s %s, and nothing tells them the way to each other", a.on.Name, a.peer.Name, what), []string{a.on.Name, a.peer.Name}, fix)
	})
}

// hosted tells whether a device runs on another, and has no port of its own on a segment.
func hosted(d *fabric.Device, segment string) bool {
	return d.Host != "" && d.Interface(segment) == nil
}

// meet tells whether two devices are on one segment.
func (s *subject) meet(x, y *fabric.Device) bool {
	return slices.ContainsFunc(x.Interfaces, func(i fabric.Interface) bool { return i.Segment != "" && y.Interface(i.Segment) != nil })
}

// onSubnet tells whether an address is in a subnet of one of the device's ports.
func onSubnet(d *fabric.Device, a netip.Addr) bool {
	return slices.ContainsFunc(d.Interfaces, func(i fabric.Interface) bool {
		return i.Segment != "" && slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Masked().Contains(a) })
	})
}

func detour(s *subject) {
	var t tally
	s.each(func(a *adjacency) {
		if a.ibgp && a.profile.NextHopSelf == fabric.NextHopSelfAll && a.profile.ReflectorClient && shared(a.segment) {
			t.add("", a.on.Name, "", fmt.Sprintf("neighbor %s next-hop-self        ! FRR, without force", a.address()), "next hop self ebgp;                  # BIRD")
		}
	})
	t.report(s, func(_ string, c *sameCase) string {
		return fmt.Sprintf("next-hop-self for all routes on %s of %s: packets between servers of a rack pass the ToR's router", fabric.Amount(c.n, "session"), names(c.devices))
	})
}
