// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
)

// oneSided: FAB-SES-001, sessions that never come up. What the ends make of each other's AS number is FAB-AS-005.
func oneSided(s *subject) {
	var t tally
	s.each(func(a *adjacency) {
		if a.session == nil || a.peer == nil {
			return
		}
		back := s.End(a.on, a.session)
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
}

// usualPeers is what a device can take, where nothing is known of it.
const usualPeers = 1000

func manyPeers(s *subject) {
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

// relax: FAB-ECMP-001. Towards another rack there is one path by way of each
// spine or each neighbour above, and these have different AS numbers.
func relax(s *subject) {
	var t tally
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.MultipathRelax || d.Multipath < 2 {
			continue
		}
		above := map[uint32]bool{}
		for j := range d.Sessions {
			x := &d.Sessions[j]
			if p := s.Device(x.Peer); p != nil && x.PeerAS != d.AS && (p.Role == fabric.RoleSpine && d.Role == fabric.RoleToR || p.Role == fabric.RoleToR && d.Role == fabric.RoleServer) {
				above[x.PeerAS] = true
			}
		}
		if len(above) > 1 {
			t.add(fmt.Sprintf("1 of %d uplinks is used", len(above)), d.Name, "", "bgp bestpath as-path multipath-relax")
		}
	}
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("%s: paths differ in AS numbers only, and multipath-relax is off: %s", names(c.devices), key)
	})
}

// width: FAB-ECMP-002.
func width(s *subject) {
	several := map[string]bool{} // reflectors that tell of one path for several planes
	seen := map[string]string{}
	s.each(func(a *adjacency) {
		if a.profile.ReflectorClient && a.segment != nil && a.segment.Kind == fabric.Plane && a.profile.AddPath == fabric.AddPathNone {
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
			t.add(fmt.Sprint(planes), d.Name, "", "routeReflectors: {placement: per-plane}, and multipath on the servers")
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
		if a.profile.LocalPref == 0 && s.Profile(other.Profile).LocalPref == 0 {
			s.report(fmt.Sprintf("%s and %s send a part of the traffic for the same destinations to each other: a loop for some flows, for ever", a.on.Name, a.peer.Name),
				[]string{a.on.Name, a.peer.Name}, "route-map ISL permit 10", " set local-preference 90", fmt.Sprintf("neighbor %s route-map ISL in", a.address()))
		}
	})
}

func noBFD(s *subject) {
	var t tally
	s.each(func(a *adjacency) {
		if shared(a.segment) && !a.profile.BFD.On() {
			hold := "after the hold time"
			if a.profile.Hold.On() {
				hold = "after " + a.profile.Hold.String()
			}
			t.many(a.n, string(a.segment.Kind)+"\x00"+hold, a.on.Name, "", fmt.Sprintf("neighbor %s bfd", a.address()), "bfd: {segment: 100ms, planes: 100ms}     # in the file")
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
			t.many(a.n, hold.String()+said, a.on.Name, "", "hold 9")
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
			t.many(a.n, string(a.on.Role), a.on.Name, "", "graceful restart on;                # BIRD", "gracefulRestart: {vrouter: 120s, rr: 120s}     # in the file")
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
