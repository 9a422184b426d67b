// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
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
		if !a.ibgp || a.profile.NextHopSelf != fabric.NextHopSelfNone {
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
	s.unreachable(func(a *adjacency, segment string) {
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

func nextHopByDefault(s *subject) {
	origin := ""
	for i := range s.Devices {
		if d := &s.Devices[i]; d.Originates(fabric.OriginDefault) {
			origin = d.Name
		}
	}
	if origin == "" {
		return
	}
	var t tally
	s.unreachable(func(a *adjacency, segment string) {
		t.add("", a.on.Name, "", "set next-hop-self on these sessions: see FAB-NH-001")
	})
	t.report(s, func(_ string, c *sameCase) string {
		return fmt.Sprintf("next hops that %s pass%s on resolve only through the default route of %s", names(c.devices), verb(len(c.devices), "es", ""), origin)
	})
}

func thirdParty(s *subject) {
	var t tally
	s.each(func(a *adjacency) {
		if !a.ibgp && !a.profile.OwnOnly && shared(a.segment) && a.profile.NextHopSelf != fabric.NextHopSelfAll && len(s.On(a.segment.Name)) > 2 {
			t.add(a.segment.Name, a.on.Name, "", "next-hop-self force on these sessions, if packets shall pass the router that told of the route")
		}
	})
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("next hops of third parties on %s: %d routers speak eBGP there", key, len(c.devices))
	})
}

func remotePeers(s *subject) {
	s.each(func(a *adjacency) {
		if a.peer == nil || a.peer.Host != "" && a.peer.Interface(a.session.Segment) == nil {
			return // FAB-RR-006 has that
		}
		for _, x := range a.on.Interfaces {
			if x.Segment != "" && a.peer.Interface(x.Segment) != nil {
				return
			}
		}
		s.report(fmt.Sprintf("%s and %s share no segment, and nothing tells them the way to each other", a.on.Name, a.peer.Name),
			[]string{a.on.Name, a.peer.Name}, "attach both to one segment, or add an IGP for their addresses")
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
