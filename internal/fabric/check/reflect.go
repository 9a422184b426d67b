// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
)

// clients are the devices that each reflector reflects to, by reflector.
func (s *subject) clients() map[*fabric.Device]map[*fabric.Device]bool {
	out := map[*fabric.Device]map[*fabric.Device]bool{}
	s.each(func(a *adjacency) {
		if a.ibgp && a.peer != nil && a.profile.ReflectorClient {
			if out[a.on] == nil {
				out[a.on] = map[*fabric.Device]bool{}
			}
			out[a.on][a.peer] = true
		}
	})
	return out
}

// reflectors are the keys of clients, in the order of devices.
func (s *subject) reflectors(clients map[*fabric.Device]map[*fabric.Device]bool) []*fabric.Device {
	var out []*fabric.Device
	for i := range s.Devices {
		if clients[&s.Devices[i]] != nil {
			out = append(out, &s.Devices[i])
		}
	}
	return out
}

// coverage: FAB-RR-001. In a connected piece of an AS those that are no
// client of a reflector have to be meshed. Two reflectors with the same clients
// can do without: what one learns the other has from the same client. Servers and
// machines under Downward Default can, too: a segment makes one piece of those of a
// rack, but they reach each other, as everything, by the default route of their ToR.
// So can borders of one AS: what the one is told the fabric tells the other. And so can the two ToRs of a rack that
// share no segment: each hears of the servers on its own. Of who is on one of them only, FAB-PHY-003 tells.
func coverage(s *subject) {
	clients := s.clients()
	isClient := map[*fabric.Device]bool{}
	for _, set := range clients {
		for c := range set {
			isClient[c] = true
		}
	}
	pieces := s.pieces()
	for _, as := range slices.Sorted(maps.Keys(pieces)) {
		for _, piece := range pieces[as] {
			var flat []*fabric.Device // neither clients nor all in one mesh
			for _, d := range piece {
				if !isClient[d] && !s.byDefault(d) {
					flat = append(flat, d)
				}
			}
			if len(flat) < 2 || s.meshed(flat) {
				continue
			}
			missing := s.missing(flat, clients)
			if len(missing) == 0 {
				continue
			}
			var devices []string
			for _, d := range flat {
				devices = append(devices, d.Name)
			}
			f := s.report(fmt.Sprintf("AS %d: %s routers, %s, %s missing and no reflector", as, fabric.Number(len(flat)),
				fabric.Amount(len(flat)*(len(flat)-1)/2, "iBGP pair"), fabric.Number(len(missing))), devices, "add the missing sessions, or a reflector that serves all of them")
			f.Evidence = missing[:min(len(missing), 5)]
		}
	}
}

// byDefault tells whether a server or machine is told of a default route and nothing else.
func (s *subject) byDefault(d *fabric.Device) bool {
	switch {
	case d.Role != fabric.RoleServer && d.Role != fabric.RoleMachine:
		return false
	case s.Model == fabric.DownwardDefault:
		return true
	}
	more := func(x fabric.Session) bool {
		end := s.End(d, &x)
		return end == nil || s.passesSpecific(s.Profile(end.Profile).Export) && s.passesSpecific(s.Profile(x.Profile).Import)
	}
	return len(d.Sessions) > 0 && len(s.MeshesOf(d)) == 0 && !slices.ContainsFunc(d.Sessions, more)
}

// meshed tells whether one iBGP mesh holds all of the devices.
func (s *subject) meshed(list []*fabric.Device) bool {
	for _, m := range s.MeshesOf(list[0]) {
		if m.Kind == fabric.MeshIBGP && len(m.Members) >= len(list) {
			members := map[string]bool{}
			for _, name := range m.Members {
				members[name] = true
			}
			if !slices.ContainsFunc(list, func(d *fabric.Device) bool { return !members[d.Name] }) {
				return true
			}
		}
	}
	return false
}

// missing lists the pairs without a session.
func (s *subject) missing(list []*fabric.Device, clients map[*fabric.Device]map[*fabric.Device]bool) []string {
	var out []string
	for i, a := range list {
		peers := map[string]bool{}
		for j := range a.Sessions {
			peers[a.Sessions[j].Peer] = true
		}
		for _, m := range s.MeshesOf(a) {
			for _, name := range m.Members {
				peers[name] = m.Kind == fabric.MeshIBGP || peers[name]
			}
		}
		for _, b := range list[i+1:] {
			if a.Role == fabric.RoleBorder && b.Role == fabric.RoleBorder || s.twins(a, b) {
				continue
			}
			if clients[a] != nil && clients[b] != nil && !s.meet(a, b) {
				continue // reflectors of different planes, of which each tells of what is there
			}
			if !peers[b.Name] && !(s.hears(b, a, clients) && s.hears(a, b, clients)) {
				out = append(out, a.Name+"–"+b.Name)
			}
		}
	}
	return out
}

// twins tells whether two devices are ToRs of a rack without a segment that both are on.
func (s *subject) twins(a, b *fabric.Device) bool {
	return a.Role == fabric.RoleToR && b.Role == fabric.RoleToR && a.Rack == b.Rack && a.Rack != "" &&
		!slices.ContainsFunc(a.Interfaces, func(x fabric.Interface) bool { return x.Segment != "" && b.Interface(x.Segment) != nil })
}

// hears tells whether a reflector learns of the clients of another without a session with it: from the same client, or
// from a third reflector that has the client, too.
func (s *subject) hears(b, a *fabric.Device, clients map[*fabric.Device]map[*fabric.Device]bool) bool {
	if clients[a] == nil || maps.Equal(clients[a], clients[b]) {
		return clients[a] != nil
	}
	var others []map[*fabric.Device]bool // clients of reflectors that tell b
	for i := range b.Sessions {
		if r := s.Device(b.Sessions[i].Peer); r.AS == b.AS && clients[r] != nil {
			others = append(others, clients[r])
		}
	}
	for c := range clients[a] {
		if !clients[b][c] && !slices.ContainsFunc(others, func(set map[*fabric.Device]bool) bool { return set[c] }) {
			return false
		}
	}
	return true
}

// onPlanes counts, for each client and plane, the reflectors it has there.
func (s *subject) onPlanes(visit func(client *fabric.Device, plane string, reflectors []string)) {
	count := map[*fabric.Device]map[string][]string{}
	s.each(func(a *adjacency) {
		if a.ibgp && a.peer != nil && a.profile.ReflectorClient && a.segment != nil && a.segment.Kind == fabric.Plane {
			if count[a.peer] == nil {
				count[a.peer] = map[string][]string{}
			}
			count[a.peer][a.segment.Name] = append(count[a.peer][a.segment.Name], a.on.Name)
		}
	})
	for i := range s.Devices {
		d := &s.Devices[i]
		for _, plane := range slices.Sorted(maps.Keys(count[d])) {
			visit(d, plane, count[d][plane])
		}
	}
}

func oneReflector(s *subject) {
	var t tally
	s.onPlanes(func(client *fabric.Device, plane string, reflectors []string) {
		if len(reflectors) == 1 {
			t.add(fmt.Sprintf("%s is the only reflector on %s", reflectors[0], plane), client.Name, "", "routeReflectors: {perPlane: 2}")
		}
	})
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("%s: if it dies, %s %s all remote routes there", key, names(c.devices), verb(len(c.devices), "loses", "lose"))
	})
}

func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// severalPaths tells whether a device sends several paths of a prefix, and its peer takes them (RFC 7911 section 4).
func (s *subject) severalPaths(a *adjacency) bool {
	end := s.End(a.on, a.session)
	return a.profile.AddPath.Sends() && end != nil && s.Profile(end.Profile).AddPath.Receives()
}

func allPlanes(s *subject) {
	planes := map[*fabric.Device]map[string]bool{}
	var list []string
	s.each(func(a *adjacency) {
		if a.peer == nil || !a.profile.ReflectorClient || a.segment == nil || a.segment.Kind != fabric.Plane || s.severalPaths(a) {
			return
		}
		if planes[a.on] == nil {
			planes[a.on] = map[string]bool{}
		}
		planes[a.on][a.segment.Name] = true
		if len(planes[a.on]) == 2 && !slices.Contains(list, a.on.Name) {
			list = append(list, a.on.Name)
		}
	})
	if len(list) > 0 {
		s.report(fmt.Sprintf("%s serve%s several planes without ADD-PATH: one failed port of a server isolates it completely", names(list), verb(len(list), "s", "")), list,
			"routeReflectors: {placement: per-plane}", "routeReflectors: {placement: all-planes, addPath: true}     # or this")
	}
}

func manyClients(s *subject) {
	clients := s.clients()
	var t tally
	for _, d := range s.reflectors(clients) {
		if n := len(clients[d]); n > 500 {
			t.add(fabric.Number(n), d.Name, "", "more reflectors, each with a part of the clients")
		}
	}
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("%s clients of %s; tens to hundreds are usual", key, names(c.devices))
	})
}

// lacks tells whether something of a set is not in another.
func lacks(set, of map[*fabric.Device]bool) bool {
	for d := range of {
		if !set[d] {
			return true
		}
	}
	return false
}

func clusterID(s *subject) {
	clients := s.clients()
	by := map[string]*fabric.Device{}
	for _, d := range s.reflectors(clients) {
		id := d.Cluster()
		key := fmt.Sprint(d.AS, id)
		first := by[key]
		if first == nil {
			by[key] = d
			continue
		}
		// Whoever is a client of both hears of those that one of them lacks from the other.
		if lacks(clients[first], clients[d]) && lacks(clients[d], clients[first]) {
			s.report(fmt.Sprintf("%s and %s share the cluster ID %s, and each has clients that the other lacks: routes between these are lost", first.Name, d.Name, id),
				[]string{first.Name, d.Name}, fmt.Sprintf("bgp cluster-id %s                 ! on %s: its router ID", d.RouterID, d.Name))
		}
	}
}

func behindVRouter(s *subject) {
	for _, d := range s.reflectors(s.clients()) {
		attached := slices.ContainsFunc(d.Interfaces, func(x fabric.Interface) bool { return x.Segment != "" })
		if d.Host != "" && !attached {
			s.report(fmt.Sprintf("reflector %s runs on %s, and is reachable through the vRouter there only", d.Name, d.Host), []string{d.Name, d.Host},
				"attach it to the segment or plane itself")
		}
	}
}

// sharedFate: FAB-RR-007.
func sharedFate(s *subject) {
	clients := s.clients()
	groups := map[string][]*fabric.Device{}
	s.onPlanes(func(client *fabric.Device, plane string, reflectors []string) {
		key := plane + " " + strings.Join(reflectors, " ")
		if groups[key] == nil && len(reflectors) > 1 {
			for _, name := range reflectors {
				groups[key] = append(groups[key], s.Device(name))
			}
		}
	})
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		host := groups[key][0].Host
		if host == "" || slices.ContainsFunc(groups[key], func(d *fabric.Device) bool { return d.Host != host || clients[d] == nil }) {
			continue
		}
		plane, _, _ := strings.Cut(key, " ")
		s.report(fmt.Sprintf("all reflectors of %s run on %s, and die with it", plane, host), []string{host}, "give each a host, and each host a rack of its own")
	}
}

func reflectorSubnets(s *subject) {
	for _, d := range s.reflectors(s.clients()) {
		if d.Role == fabric.RoleToR {
			continue // a ToR announces its rack's segment
		}
		for _, o := range d.Originate {
			if o.Kind == fabric.OriginSubnet {
				s.report(fmt.Sprintf("reflector %s announces %s, a subnet that it is on", d.Name, o.Prefix), []string{d.Name}, "export where source = RTS_BGP;    # BIRD")
				break
			}
		}
	}
}
