// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
)

// cut parts a key of two words.
func cut(key string) (string, string, bool) { return strings.Cut(key, "\x00") }

// attracts visits the sessions on which a device tells a peer of a role of a default
// route that it makes itself, for the peer or for everybody.
func (s *subject) attracts(from, to fabric.Role, visit func(a *adjacency)) {
	s.each(func(a *adjacency) {
		if a.on.Role == from && a.peer != nil && a.peer.Role == to && (a.profile.Default == fabric.AlwaysDefault || a.on.Originates(fabric.OriginDefault) && s.passesDefault(a.profile.Export)) {
			visit(a)
		}
	})
}

// blackHole: FAB-DD-001. Besides another spine or a border that leads back, two
// ToRs in every rack are a way around.
func blackHole(s *subject) {
	tors, spines := s.torsIn(), 0
	s.ofRole(fabric.RoleSpine, func(*fabric.Device) { spines++ })
	escapes := func(d *fabric.Device) bool {
		for j := range d.Sessions {
			p := s.Device(d.Sessions[j].Peer)
			if p.Role == fabric.RoleSpine {
				return true
			}
			if p.Role == fabric.RoleBorder && p.Originates(fabric.OriginDefault) && s.passesDefault(s.Profile(d.Sessions[j].Profile).Import) {
				return true
			}
		}
		return false
	}
	var t tally
	racks := map[string]bool{}
	s.attracts(fabric.RoleSpine, fabric.RoleToR, func(a *adjacency) {
		if tors[a.peer.Rack] < 2 && spines > 1 && !escapes(a.on) {
			racks[a.peer.Rack] = true
			t.add("", a.on.Name, "", "downwardDefault: {fallback: inter-spine}", "racks: {tors: 2}     # or this")
		}
	})
	t.report(s, func(_ string, c *sameCase) string {
		return fmt.Sprintf("one link between a spine and a ToR down: %d %% of the traffic for that rack is dropped at the spine until the repair (%s, %s)",
			100/spines, fabric.Amount(len(racks), "rack"), names(c.devices))
	})
}

// torDefault: FAB-DD-002. With a second ToR there is somebody who would do
// better. On planes no router is above a ToR whose default route it could hand
// on, unless a border tells of one, and it takes the loss of every plane: there
// it is a warning.
func torDefault(s *subject) {
	tors := s.torsIn()
	const alone, planes = "", "; on planes only a border has one to hand on"
	var t tally
	s.attracts(fabric.RoleToR, fabric.RoleServer, func(a *adjacency) {
		switch {
		case tors[a.on.Rack] < 2:
		case s.PlanesOf(a.on) > 0:
			t.add(planes, a.on.Name, "", "downwardDefault: {origin: border}     # with the next line", "border: [{name: b1, as: 64999, default: true}, {name: b2, as: 64998, default: true}]", "spine: {kind: l3}     # or this")
		default:
			t.add(alone, a.on.Name, "", fmt.Sprintf("no neighbor %s default-originate", a.address()), "downwardDefault: {origin: spine}     # in the file")
		}
	})
	found := t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("%s make%s the default route unconditionally: without uplinks half of the traffic of the servers is lost%s", names(c.devices), verb(len(c.devices), "s", ""), key)
	})
	for i, key := range t.keys {
		if key == planes {
			found[i].Severity = Warning
		}
	}
}

// defaultUp: FAB-DD-003.
func defaultUp(s *subject) {
	made := map[uint32]bool{}
	s.attracts(fabric.RoleSpine, fabric.RoleToR, func(a *adjacency) { made[a.on.AS] = true })
	if len(made) < 2 {
		return // one AS: a spine refuses what another spine began
	}
	var t tally
	s.each(func(a *adjacency) {
		if a.on.Role == fabric.RoleToR && a.peer != nil && a.peer.Role == fabric.RoleSpine && a.profile.Role == "" && s.passesDefault(a.profile.Export) {
			if end := s.End(a.on, a.session); end != nil && s.passesDefault(s.Profile(end.Profile).Import) {
				t.add("", a.on.Name, "", fmt.Sprintf("neighbor %s prefix-list NODEFAULT out", a.address()), "spine: {as: shared}     # in the file")
			}
		}
	})
	t.report(s, func(_ string, c *sameCase) string {
		return fmt.Sprintf("%s tell spines of the default route of other spines: what no endpoint has loops between them", names(c.devices))
	})
}

// noRelief: FAB-DD-004.
func noRelief(s *subject) {
	var list []string
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.Role != fabric.RoleToR || s.Model != fabric.DownwardDefault {
			continue
		}
		for _, m := range s.MeshesOf(d) {
			if seg := s.Segment(m.Segment); seg.Kind == fabric.Plane {
				list = append(list, d.Name)
				break
			}
		}
	}
	if len(list) > 0 {
		s.report(fmt.Sprintf("the spine is l2: %s hold every route of the fabric, as with any other model", names(list)), list, "spine: {kind: l3}")
	}
}

// spineDiscard: FAB-DD-005.
func spineDiscard(s *subject) {
	var t tally
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.Role != fabric.RoleSpine {
			continue
		}
		for _, x := range d.Discard {
			for _, p := range s.Pools {
				if x.Overlaps(p.CIDR) {
					t.add(x.String(), d.Name, "", fmt.Sprintf("no ip route %s blackhole", x))
				}
			}
		}
	}
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("%s discard%s %s: packets for a rack whose link is gone end there", names(c.devices), verb(len(c.devices), "s", ""), key)
	})
}

// specificsDown: FAB-DD-006. Where the peers of one role that a device tells of
// the others' routes share an AS, a specific route arrives at both tiers only
// if the number is replaced.
func specificsDown(s *subject) {
	if s.Model != fabric.DownwardDefault && s.Model != "" {
		return // where specific routes travel down to everybody: FAB-AS-002
	}
	shared := map[fabric.Role]map[uint32]map[string]bool{} // racks of each AS
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.Role != fabric.RoleToR && d.Role != fabric.RoleServer {
			continue
		}
		if shared[d.Role] == nil {
			shared[d.Role] = map[uint32]map[string]bool{}
		}
		if shared[d.Role][d.AS] == nil {
			shared[d.Role][d.AS] = map[string]bool{}
		}
		shared[d.Role][d.AS][d.Rack] = true
	}
	var t tally
	s.each(func(a *adjacency) {
		down := a.on.Role == fabric.RoleSpine && a.peer != nil && a.peer.Role == fabric.RoleToR || a.on.Role == fabric.RoleToR && a.peer != nil && a.peer.Role == fabric.RoleServer
		if !down || a.ibgp || a.profile.ASOverride || len(shared[a.peer.Role][a.peer.AS]) < 2 {
			return
		}
		end := s.End(a.on, a.session)
		if end == nil || s.Profile(end.Profile).AllowOwnAS > 0 || !s.passesSpecific(a.profile.Export) {
			return
		}
		t.add(fmt.Sprintf("%s\x00%d", a.peer.Role, a.peer.AS), a.on.Name, "", fmt.Sprintf("neighbor %s as-override", a.address()), "downwardDefault: {asOverride: true}     # in the file: both tiers")
	})
	t.report(s, func(key string, c *sameCase) string {
		role, as, _ := cut(key)
		return fmt.Sprintf("specific routes that %s tell%s downwards are refused by every %s, all AS %s", names(c.devices), verb(len(c.devices), "s", ""), role, as)
	})
}

// passesSpecific tells whether a filter lets more pass than default routes.
func (s *subject) passesSpecific(name string) bool {
	f := s.filter(name)
	if f == nil {
		return true
	}
	for _, r := range f.Rules {
		if r.Permit && (r.Within.Bits() > 0 || r.Min > 0 || r.Max > 0) {
			return true
		}
	}
	return false
}
