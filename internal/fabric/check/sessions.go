// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// oneSided: FAB-SES-001, sessions that never come up. What the ends make of each other's AS number is FAB-AS-005.
func oneSided(s *subject) {
	var t, away tally
	s.each(func(a *adjacency) {
		if a.mesh != nil {
			if a.on.Interface(a.mesh.Segment) == nil && !s.hostOn(a.on, a.mesh.Segment) {
				away.many(a.n, "mesh "+a.mesh.Name+"\x00"+a.mesh.Segment, a.on.Name, "", "attach it to "+a.mesh.Segment+", or take it out of the mesh")
			}
			return
		}
		if a.session == nil || a.peer == nil {
			return
		}
		back := s.End(a.on, a.session)
		if on := a.session.Segment; back != nil && on != "" && s.meet(a.on, a.peer) { // else FAB-NH-005 has it
			for _, d := range []*fabric.Device{a.on, a.peer} {
				if d.Interface(on) == nil && !s.hostOn(d, on) {
					away.add("sessions\x00"+on, d.Name, a.on.Name+" has one with "+a.peer.Name, "name the segment that both are on")
					return
				}
			}
		}
		if back == nil {
			s.report(fmt.Sprintf("the session of %s with %s exists on one side only", a.on.Name, a.peer.Name), []string{a.on.Name, a.peer.Name},
				fmt.Sprintf("%s: {peer: %s, segment: %s, peerAS: %d}", a.peer.Name, a.on.Name, a.session.Segment, a.on.AS))
			return
		}
		before := ""
		for _, family := range s.Families {
			why := fabric.Mismatch(a.on, a.peer, a.session, back, a.profile, s.Profile(back.Profile), family)
			if why != "" && why != before {
				t.add(why, a.on.Name, "", "one address, authentication and role that fit on both ends")
			}
			before = why
		}
	})
	t.report(s, func(why string, c *sameCase) string {
		return fmt.Sprintf("sessions of %s never come up: %s", names(c.devices), why)
	})
	away.report(s, func(key string, c *sameCase) string {
		of, segment, _ := cut(key)
		return fmt.Sprintf("%s of %s never come up: no port on %s", of, names(c.devices), segment)
	})
}

// hostOn tells whether a device without ports of its own uses one of its host on a segment.
func (s *subject) hostOn(d *fabric.Device, segment string) bool {
	h := s.Device(d.Host)
	return h != nil && h.Interface(segment) != nil && !slices.ContainsFunc(d.Interfaces, func(x fabric.Interface) bool { return x.Segment != "" })
}

// usualPeers is what a device can take, where nothing is known of it.
const usualPeers = 1000

// Routers in a full mesh of iBGP, at which something is said: each knows all others.
const (
	meshWarns = 100
	meshEnds  = 1000
)

func manyPeers(s *subject) {
	s.largeMeshes()
	var t tally
	for i := range s.Devices {
		d := &s.Devices[i]
		limit := usualPeers
		if p := s.Platform(d.Platform); p != nil && p.Peers > 0 {
			limit = int(p.Peers)
		}
		if n := s.Peers(d); n > limit {
			t.add(fmt.Sprintf("%s peers, where %s are the limit", fabric.Number(n), fabric.Number(limit)), d.Name, "", "reflectors instead of a mesh, routers instead of planes, or fewer in a rack")
		}
	}
	t.report(s, func(key string, c *sameCase) string { return names(c.devices) + ": " + key })
}

// largeMeshes finds full meshes of iBGP that are large, or too large.
func (s *subject) largeMeshes() {
	alike := map[int][]string{} // by how many are in them
	for i := range s.Meshes {
		if m := &s.Meshes[i]; m.Kind == fabric.MeshIBGP && len(m.Members) > meshWarns {
			alike[len(m.Members)] = append(alike[len(m.Members)], m.Name)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(alike)) {
		f := s.report(fmt.Sprintf("%s %s of %s routers: one more is a session more on each", names(alike[n]), verb(len(alike[n]), "is a mesh", "are meshes"), fabric.Number(n)), nil,
			"routeReflectors: {placement: per-plane}     # in the file")
		if n > meshEnds {
			f.Severity = Error
		}
	}
}

func noPolicy(s *subject) {
	var t tally
	s.each(func(a *adjacency) {
		if a.on.Software == fabric.FRR && a.on.Traditional && !a.ibgp && (a.profile.Import == "" || a.profile.Export == "") {
			t.add("", a.on.Name, "", "frr defaults datacenter", "no bgp ebgp-requires-policy")
		}
	})
	t.report(s, func(_ string, c *sameCase) string {
		return fmt.Sprintf("%s: frr defaults traditional, and no policy on %s: up, and no routes (Policy)", names(c.devices), fabric.Amount(c.n, "session"))
	})
}

// relax: FAB-ECMP-001. Which paths are equal but for their AS numbers, is simulated; without that, a device that has
// routers with several AS numbers above it is taken to have such paths.
func relax(s *subject) {
	var t tally
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.MultipathRelax || d.Multipath < 2 || d.Role == fabric.RoleReflector {
			continue
		}
		above := map[uint32]bool{}
		for j := range d.Sessions {
			x := &d.Sessions[j]
			if p := s.Device(x.Peer); p != nil && x.PeerAS != d.AS && (p.Role == fabric.RoleSpine && d.Role == fabric.RoleToR || p.Role == fabric.RoleToR && d.Role == fabric.RoleServer) {
				above[x.PeerAS] = true
			}
		}
		prefixes, known := s.uneven(d)
		switch {
		case known && prefixes == 0:
		case len(above) > 1:
			t.add(fmt.Sprintf("1 of %d uplinks is used", len(above)), d.Name, "", "bgp bestpath as-path multipath-relax")
		case known:
			t.add(fmt.Sprintf("routes to which not all ways are used: %s", fabric.Number(prefixes)), d.Name, "", "bgp bestpath as-path multipath-relax")
		}
	}
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("%s: paths differ in AS numbers only, and multipath-relax is off: %s", names(c.devices), key)
	})
}

// uneven is to how many prefixes a device has paths that are equal but for their AS numbers, where the design is simulated.
func (s *subject) uneven(d *fabric.Device) (prefixes int, known bool) {
	for i := range s.simulated {
		if s.simulated[i].tables == nil {
			return 0, false
		}
		row, _ := s.simulated[i].tables.Of(d.Name)
		prefixes = max(prefixes, row.Uneven)
	}
	return prefixes, len(s.simulated) > 0
}

// width: FAB-ECMP-002.
func width(s *subject) {
	several := map[string]bool{} // reflectors that tell of one path for several planes
	seen := map[string]string{}
	s.each(func(a *adjacency) {
		if a.peer != nil && a.profile.ReflectorClient && a.segment != nil && a.segment.Kind == fabric.Plane && !s.severalPaths(a) {
			if was, ok := seen[a.on.Name]; ok && was != a.segment.Name {
				several[a.on.Name] = true
			}
			seen[a.on.Name] = a.segment.Name
		}
	})
	var t tally
	for i := range s.Devices {
		d := &s.Devices[i]
		one := d.Multipath < 2
		for j := range d.Sessions {
			one = one || several[d.Sessions[j].Peer]
		}
		if planes := s.PlanesOf(d); d.Role == fabric.RoleServer && planes > 1 && one {
			fix := "routeReflectors: {placement: per-plane}     # in the file"
			if d.Multipath < 2 {
				fix = "merge paths on;                     # BIRD, in protocol kernel; multipath: 64 of a design"
			}
			t.add(fmt.Sprint(planes), d.Name, "", fix)
		}
	}
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("%s: one path over %s planes", names(c.devices), key)
	})
}

// islLoop: FAB-LOOP-001.
func islLoop(s *subject) {
	s.each(func(a *adjacency) {
		if a.peer == nil || !a.ibgp || a.on.Role != fabric.RoleToR || a.peer.Role != fabric.RoleToR || a.on.Rack != a.peer.Rack || a.on.Name > a.peer.Name {
			return
		}
		other := s.End(a.on, a.session)
		if other == nil || a.on.Multipath < 2 || a.profile.NextHopSelf != fabric.NextHopSelfAll {
			return
		}
		if a.profile.LocalPref == 0 && s.Profile(other.Profile).LocalPref == 0 && s.mayLoop() {
			s.report(fmt.Sprintf("%s and %s send a part of the traffic for the same destinations to each other: a loop for some flows, for ever", a.on.Name, a.peer.Name),
				[]string{a.on.Name, a.peer.Name}, "route-map ISL permit 10", " set local-preference 90", fmt.Sprintf("neighbor %s route-map ISL in", a.address()))
		}
	})
}

// mayLoop tells whether flows loop, healthy or after one failure, as far as it is known.
func (s *subject) mayLoop() bool {
	for i := range s.simulated {
		x := &s.simulated[i]
		if x.err != nil || x.whatIf.Healthy.Looping > 0 || slices.ContainsFunc(x.whatIf.Cases, func(r sim.Reach) bool { return r.Looping > 0 }) {
			return true
		}
	}
	return len(s.simulated) == 0
}

func noBFD(s *subject) {
	var t tally
	s.each(func(a *adjacency) {
		if shared(a.segment) && !a.profile.BFD.On() {
			hold := "after the hold time"
			if a.profile.Hold.On() {
				hold = "after " + a.profile.Hold.String()
			}
			t.many(a.n, string(a.segment.Kind)+"\x00"+hold, a.on.Name, "", fmt.Sprintf("neighbor %s bfd", a.address()), "bgp: {bfd: {segment: 100ms, planes: 100ms}}     # in the file")
		}
	})
	t.report(s, func(key string, c *sameCase) string {
		kind, hold, _ := cut(key)
		return fmt.Sprintf("%s of %s on a %s without BFD: a dead link is noticed %s instead of 0.36 s", fabric.Amount((c.n+1)/2, "session"), names(c.devices), kind, hold)
	})
}

// longest is the hold time above which recovery is slow whatever else is done.
const longest = fabric.Duration(30 * time.Second)

func longHold(s *subject) {
	var t tally
	s.each(func(a *adjacency) {
		hold, said := a.profile.Hold, ""
		if !hold.On() {
			switch a.on.Software {
			case fabric.BIRD:
				hold, said = fabric.Duration(240*time.Second), ", BIRD's own"
			case fabric.FRR:
				if a.on.Traditional {
					hold, said = fabric.Duration(180*time.Second), ", FRR's traditional"
				}
			}
		}
		if hold > longest {
			t.many(a.n, hold.String()+said, a.on.Name, "", "timers bgp 3 9                      ! FRR", "hold time 9;                        # BIRD", "bgp: {timers: {hold: 9s}}     # in the file")
		}
	})
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("hold time %s on %s of sessions of %s", key, fabric.Amount(c.n, "end"), names(c.devices))
	})
}

// softwareBFD is how many packets a second a daemon sends without being late.
const softwareBFD = 2000

func muchBFD(s *subject) {
	rate := map[*fabric.Device]float64{}
	count := map[*fabric.Device]int{}
	s.each(func(a *adjacency) {
		if a.profile.BFD.On() {
			n := a.n * max(1, len(s.Families))
			rate[a.on] += float64(n) * float64(time.Second) / float64(a.profile.BFD)
			count[a.on] += n
		}
	})
	var t tally
	for i := range s.Devices {
		d := &s.Devices[i]
		if rate[d] > softwareBFD {
			t.add(fmt.Sprintf("%s of BFD, %s packets a second each way", fabric.Amount(count[d], "session"), fabric.Number(int(rate[d]))), d.Name, "", "100ms to 300ms, BFD in hardware, or fewer sessions")
		}
	}
	t.report(s, func(key string, c *sameCase) string { return names(c.devices) + ": " + key + " in software" })
}

func noGR(s *subject) {
	var t tally
	s.each(func(a *adjacency) {
		if (a.on.Role == fabric.RoleServer || a.on.Role == fabric.RoleReflector) && !a.profile.GracefulRestart.On() {
			t.many(a.n, string(a.on.Role), a.on.Name, "", "graceful restart on;                # BIRD", "bgp: {gracefulRestart: {vrouter: 120s, rr: 120s}}     # in the file")
		}
	})
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("no graceful restart on %s of %s: a restart withdraws every endpoint", fabric.Amount(c.n, "session"), names(c.devices))
	})
}

func noticed(s *subject) {
	kinds := map[string]int{}
	var order []string
	s.each(func(a *adjacency) {
		how := "carrier, 0.12s"
		if a.profile.BFD.On() {
			how = fmt.Sprintf("BFD, %s", time.Duration(3*a.profile.BFD)+60*time.Millisecond)
		} else if shared(a.segment) || a.segment == nil {
			how = "hold time, " + a.profile.Hold.String()
		}
		kind := "loopbacks"
		if a.segment != nil {
			kind = string(a.segment.Kind)
		}
		key := kind + ": " + how
		if kinds[key] == 0 {
			order = append(order, key)
		}
		kinds[key] += a.n
	})
	slices.Sort(order)
	for _, k := range order {
		s.report(fmt.Sprintf("a dead path is noticed on a %s (%s)", k, fabric.Amount((kinds[k]+1)/2, "session")), nil)
	}
}
