// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"fmt"
	"net/netip"
	"slices"
)

// asPerServer: every server is an AS, and so is every ToR, or all ToRs
// together. Every session is eBGP, but for ToRs that share an AS, which planes
// keep in one piece.
func (b *builder) asPerServer() {
	s := &b.f.Spec
	tor, server := Profile{}, Profile{}
	if b.roles() {
		tor.Role, server.Role = Provider, Customer
	}
	if b.f.dualToRs() && s.BGP.Roles != Off {
		// Else a server tells each of its ToRs what it has from the other, and is a way between the two. It marks and
		// withholds such routes by itself: the ToR need not know of roles (RFC 9234 section 4.2).
		server.Role = Customer
	}
	b.serverProfiles(tor, server)
	b.servers(func(tor, server port) { session(tor, server, torServer, serverTor) })
	b.rackBlocks()
	switch {
	case s.Spine.Kind == L2 && s.ToRs.AS == Shared:
		b.onPlanes(MeshIBGP, Profile{NextHopSelf: NextHopSelfEBGP}, Profile{})
	case s.Spine.Kind == L2:
		b.onPlanes(MeshEBGP, Profile{}, Profile{})
	default:
		b.underSpines(Profile{}, Profile{})
		b.aboveSpines(Profile{}, Profile{})
	}
}

// downwardDefault: servers share an AS, ToRs share another and spines a third.
// Everything is told upwards, and downwards nothing but the default route; that
// routers of one AS would refuse each other's routes does not matter then.
func (b *builder) downwardDefault() {
	s := &b.f.Spec
	down, tor := onlyDefault, Profile{}
	if s.Downward.ASOverride {
		down, tor.ASOverride = onlyDown, true
	}
	tor.Export = down
	server, uplink := Profile{Import: down}, Profile{Import: down, Export: noDefault}
	if s.Downward.Exceptions > 0 {
		b.exceptions(&tor, &server, &uplink)
	}
	if s.Downward.Origin == FromToR {
		tor.Default = AlwaysDefault
	}
	if b.roles() {
		tor.Role, server.Role = Provider, Customer
	}
	b.serverProfiles(tor, server)
	b.servers(func(tor, server port) { session(tor, server, torServer, serverTor) })
	b.rackBlocks()
	if s.Spine.Kind == L2 {
		// No router is above the ToRs: each has all routes from the others.
		b.onPlanes(MeshIBGP, Profile{NextHopSelf: NextHopSelfEBGP, Import: noDefault, Export: noDefault}, Profile{})
		// But a border may tell of the way out.
		for i := range b.out.Profiles {
			if p := &b.out.Profiles[i]; p.Name == torBorder {
				p.Import, p.Export = "", noDefault
			}
		}
		return
	}
	// A ToR hands on the default route that it has, and has none when its
	// uplinks are gone. It tells no spine of one: it would send there what
	// another spine cannot place, and get it back.
	spine := Profile{Import: noDefault, Export: down, ASOverride: s.Downward.ASOverride}
	if s.Downward.Origin == FromSpine {
		spine.Default = AlwaysDefault
	}
	b.underSpines(uplink, spine)
	b.aboveSpines(Profile{Export: noDefault}, Profile{})
	if s.Downward.Fallback == InterSpine {
		b.acrossSpines()
	}
}

// exceptions has an endpoint that left its block be known where the block leads: in the rack that it left, or at
// the server. Everywhere else the default route leads to a spine, which knows where it is. Such a route has been
// below another ToR and another server, of the same AS numbers: each accepts its own once.
func (b *builder) exceptions(tor, server, uplink *Profile) {
	s := &b.f.Spec
	uplink.Import, uplink.AllowOwnAS = exceptions, 1
	// The default route is one more. To end the session over one too many would be worse.
	uplink.MaxPrefix, uplink.MaxPrefixAction = s.Downward.Exceptions+1, MaxPrefixWarning
	// The server drops what is left of its block, and a route to one address goes before that.
	tor.Export, server.Import, server.AllowOwnAS = exceptions, exceptions, 1
	if !slices.ContainsFunc(b.out.Advanced, func(a Advanced) bool { return a.Name == "allowas-in" }) {
		b.out.Advanced = append(slices.Clone(b.out.Advanced), Advanced{Name: "allowas-in", Reason: "exceptions for moved endpoints"})
	}
}

// acrossSpines links every spine with every other, for packets that reach a
// spine whose link to their rack is gone. Exceptions stay away: when one goes, each spine would take it from another
// for a moment, send packets there, and tell the rack that it came from, which accepts it. Without it packets go where
// the block leads, and whoever is there knows it from the spines that have the link. The default route of a border goes
// across: a spine tells ToRs of one whether it has it or not, and gets what is to leave the fabric.
func (b *builder) acrossSpines() {
	pass := noDefault
	if b.f.leadsOut() {
		pass = ""
	}
	if b.f.Spec.Downward.Exceptions > 0 && !b.machinesOneByOne() {
		pass = noExceptions
	}
	b.profile(Profile{Name: spineSpine, NextHopSelf: NextHopSelfEBGP, Import: pass, Export: pass}, b.f.Spec.BGP.BFD.Links)
	for j, y := range b.spines {
		for i, x := range b.spines[:j] {
			p, q := b.link(x, y, fmt.Sprintf("spine%d", j), fmt.Sprintf("spine%d", i),
				func(pool netip.Prefix) int { return betweenSpines(pool, i, j) })
			session(p, q, spineSpine, spineSpine)
		}
	}
}

// ethernet: ToRs and spines are switches, and only servers route. A server has
// a port on each plane, and announces its endpoints on each with its address
// there.
func (b *builder) ethernet() {
	b.planeProfiles()
	reflectors := b.planeReflectors()
	for p := range b.f.Spec.Spine.Count {
		on := b.onPlane(p, reflectors[p])
		if len(on.reflectors) > 0 {
			on.reflected()
		} else {
			b.out.Meshes = append(b.out.Meshes, on.meshed())
		}
	}
}

// planeProfiles makes those of sessions on planes. Reflectors keep routes for their own time while they restart.
func (b *builder) planeProfiles() {
	s := &b.f.Spec
	bfd, vrouter, rr := s.BGP.BFD.Planes, s.BGP.GracefulRestart.VRouter, s.BGP.GracefulRestart.RR
	both := AddPathNone
	if s.Reflectors.AddPath {
		both = AddPathBoth
	}
	toBorder := Profile{Name: planeBorder, GracefulRestart: rr}
	if s.Reflectors.Placement == NoReflectors {
		// Every server tells a border of what it has. Told of what others have, too, a border would spread
		// packets over all servers, which send them on.
		toBorder.GracefulRestart, toBorder.OwnOnly = vrouter, true
	}
	for _, p := range []Profile{
		{Name: serverServer, GracefulRestart: vrouter},
		{Name: clientReflector, GracefulRestart: vrouter, AddPath: both},
		{Name: reflectorClient, ReflectorClient: true, GracefulRestart: rr, AddPath: both},
		{Name: reflectorReflector, GracefulRestart: rr, AddPath: both},
		toBorder,
		{Name: borderPlane},
	} {
		b.profile(p, bfd)
	}
}

// onPlane is the ports of those that are on a plane.
type onPlane struct {
	plane                        Segment
	servers, borders, reflectors []port
}

// onPlane makes the n-th plane with the ports on it.
func (b *builder) onPlane(n int, reflectors []*Device) *onPlane {
	on := &onPlane{plane: b.plane(n)}
	for i, d := range b.borders {
		on.borders = append(on.borders, attach(d, on.plane.Name, on.plane, planeBorders+i))
	}
	for i, d := range reflectors {
		on.reflectors = append(on.reflectors, attach(d, on.plane.Name, on.plane, planeReflectors+i))
	}
	for r, rack := range b.racks {
		for i, d := range rack.servers {
			host := planeReserved + r*b.f.Spec.Plan.ServersPerRack + rack.places[i]
			on.servers = append(on.servers, attach(d, fmt.Sprintf("eth%d", n), on.plane, host))
		}
	}
	return on
}

// reflected gives every reflector a session with all others on the plane.
func (on *onPlane) reflected() {
	for i, rr := range on.reflectors {
		for _, c := range on.servers {
			session(rr, c, reflectorClient, clientReflector)
		}
		for _, other := range on.reflectors[:i] {
			session(rr, other, reflectorReflector, reflectorReflector)
		}
		for _, x := range on.borders {
			session(rr, x, planeBorder, borderPlane)
		}
	}
}

// meshed is the full mesh of the servers; each has sessions with the borders, too.
func (on *onPlane) meshed() Mesh {
	m := Mesh{Name: on.plane.Name, Kind: MeshIBGP, Segment: on.plane.Name, Profile: serverServer}
	for _, c := range on.servers {
		m.Members = append(m.Members, c.on.Name)
		for _, x := range on.borders {
			session(c, x, planeBorder, borderPlane)
		}
	}
	return m
}

// planeReflectors makes the reflectors, and tells which serve a plane: a group
// for each, or one group that serves all. On servers, they are spread over the
// racks, and attached to the plane themselves.
func (b *builder) planeReflectors() [][]*Device {
	s := &b.f.Spec
	planes := make([][]*Device, s.Spine.Count)
	reflector := func(name string, n int) *Device {
		d := b.device(name, RoleReflector, b.as.start, reflectorLoopbacks+n)
		d.Software = Muslin
		if s.Reflectors.Hosts == OnServers {
			d.Host = b.racks[n%len(b.racks)].servers[0].Name
		}
		b.reflectors = append(b.reflectors, d)
		return d
	}
	switch s.Reflectors.Placement {
	case PerPlane:
		for p := range planes {
			for i := range s.Reflectors.PerPlane {
				planes[p] = append(planes[p], reflector(fmt.Sprintf("plane%d-rr%d", p, i), p*s.Reflectors.PerPlane+i))
			}
		}
	case AllPlanes:
		var all []*Device
		for i := range s.Reflectors.PerPlane {
			all = append(all, reflector(fmt.Sprintf("rr%d", i), i))
		}
		for p := range planes {
			planes[p] = all
		}
	}
	return planes
}
