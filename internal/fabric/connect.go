// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"fmt"
	"net/netip"
)

// What models have in common: racks on a segment or on ports, ToRs below spines
// or on planes, borders.

// Names of profiles: whose end it is, and of which session.
const (
	torServer    = "tor-server"
	serverTor    = "server-tor"
	torSpine     = "tor-spine"
	spineTor     = "spine-tor"
	torTor       = "tor-tor"
	isl          = "isl"
	spineSpine   = "spine-spine"
	spineBorder  = "spine-border"
	borderSpine  = "border-spine"
	torBorder    = "tor-border"
	borderTor    = "border-tor"
	torMachine   = "tor-machine" // where it is eBGP, and that of servers is not
	machineTor   = "machine-tor"
	serverServer = "server-server"

	reflectorClient    = "reflector-client"
	clientReflector    = "client"
	reflectorReflector = "reflector-reflector"
	planeBorder        = "to-border" // of a reflector or server of an Ethernet fabric
	borderPlane        = "border"
)

// Of a rack's segment: the ToR is 1, reflectors are 2 and 3.
const firstServerHost = 11

// servers attaches the servers of all racks to their ToRs, and hands each
// server's pairs of ports to connect.
func (b *builder) servers(connect func(tor, server port)) {
	plan, uplinks := b.f.Spec.Plan.ServersPerRack, b.f.Spec.Servers.Uplinks
	for r, rack := range b.racks {
		for t, tor := range rack.tors {
			if uplinks == OnSegment {
				s := b.segment(fmt.Sprintf("%s--rack", tor.Name), RackSegment, tor.Name, 2*plan,
					func(netip.Prefix) int { return b.f.segmentOf(r, t) })
				up := attach(tor, "rack", s, 1)
				for _, net := range s.Subnets {
					tor.Originate = append(tor.Originate, Origin{Kind: OriginSubnet, Prefix: net, Count: 1})
				}
				for i, server := range rack.servers {
					if b.onPort(server) {
						continue
					}
					connect(up, attach(server, fmt.Sprintf("eth%d", t), s, firstServerHost+rack.places[i]))
				}
			}
			for i, server := range rack.servers {
				place := rack.places[i]
				at, size := func(netip.Prefix) int { return b.f.portOf(r, t, place) }, 2
				switch {
				case uplinks == OnSegment && !b.onPort(server):
					continue
				case uplinks == OnSegment:
					at = func(netip.Prefix) int { return b.f.machinePort(r, t, place) }
				case uplinks == Unnumbered:
					size = 0
				}
				s := b.segment(tor.Name+"--"+server.Name, Link, "", size, at)
				connect(attach(tor, fmt.Sprintf("server%d", place), s, 0), attach(server, fmt.Sprintf("eth%d", t), s, 1))
			}
			b.staticMachines(r, t)
		}
	}
}

// serverProfiles are the two ends of the sessions between ToRs and servers.
func (b *builder) serverProfiles(tor, server Profile) {
	s := &b.f.Spec
	bfd := s.BGP.BFD.Links
	if s.Servers.Uplinks == OnSegment {
		bfd = s.BGP.BFD.Segment
	}
	tor.Name, server.Name = torServer, serverTor
	orElse(&tor.Import, onlyEndpoints)
	if s.BGP.MaxPrefix != MaxPrefixOff {
		// Half as much again as there will be, and room for the server itself.
		tor.MaxPrefix = s.Endpoints.grown(s.Endpoints.PerServer)*3/2 + 10 + len(s.Anycast)
		tor.MaxPrefixAction = s.BGP.MaxPrefix
	}
	server.GracefulRestart = s.BGP.GracefulRestart.VRouter
	b.profile(tor, bfd)
	b.profile(server, bfd)
}

// underSpines connects every ToR with every spine.
func (b *builder) underSpines(tor, spine Profile) {
	tor.Name, spine.Name = torSpine, spineTor
	if b.roles() {
		tor.Role, spine.Role = Customer, Provider
	}
	b.profile(tor, b.f.Spec.BGP.BFD.Links)
	b.profile(spine, b.f.Spec.BGP.BFD.Links)
	toRack := func(int) string { return spineTor }
	if b.f.Spec.Downward.Exceptions > 0 {
		toRack = func(r int) string { return spineTor + "-" + b.f.rack(r).Name }
		b.out.Profiles = b.out.Profiles[:len(b.out.Profiles)-1]
		for r := range b.racks {
			spine.Name, spine.Export = toRack(r), exceptionsOf(b.f.rack(r).Name)
			b.profile(spine, b.f.Spec.BGP.BFD.Links)
		}
	}
	for p, up := range b.spines {
		for r, rack := range b.racks {
			for t, down := range rack.tors {
				x, y := b.link(up, down, fmt.Sprintf("down%d", 2*r+t), fmt.Sprintf("up%d", p),
					func(netip.Prefix) int { return b.f.uplinkOf(r, t, p) })
				session(x, y, toRack(r), torSpine)
			}
		}
	}
}

// onPlanes connects every ToR with every other on each plane, and with the
// borders there.
func (b *builder) onPlanes(kind MeshKind, tor, border Profile) {
	tor.Name, border.Name = torTor, borderTor
	if b.roles() {
		tor.Role = PeerPeer
	}
	bfd := b.f.Spec.BGP.BFD.Planes
	b.profile(tor, bfd)
	b.profile(border, bfd)
	toBorder := tor
	toBorder.Name = torBorder
	// eBGP sets it by itself, unless the ToR that has a route is on the plane, too: then the border sends straight to that.
	toBorder.NextHopSelf = NextHopSelfNone
	b.profile(toBorder, bfd)
	for p := range b.f.Spec.Spine.Count {
		s := b.plane(p)
		mesh := Mesh{Name: s.Name, Kind: kind, Segment: s.Name, Profile: torTor}
		var edge []port
		for i, d := range b.borders {
			edge = append(edge, attach(d, s.Name, s, planeBorders+i))
		}
		for r, rack := range b.racks {
			for t, d := range rack.tors {
				mesh.Members = append(mesh.Members, d.Name)
				x := attach(d, s.Name, s, planeReserved+2*r+t)
				for _, y := range edge {
					session(x, y, torBorder, borderTor)
				}
			}
		}
		b.out.Meshes = append(b.out.Meshes, mesh)
	}
}

// plane makes the segment of a plane.
func (b *builder) plane(p int) Segment {
	name := fmt.Sprintf("plane%d", p)
	s := Segment{Name: name, Kind: Plane, Switch: fmt.Sprintf("spine%d", p)}
	for _, family := range b.f.Spec.Families {
		pool, _ := ofFamily(b.f.Spec.Pools.Links, family)
		s.Subnets = append(s.Subnets, subnet(pool, b.f.planeOf(pool, p), b.f.planeSize(pool)))
	}
	b.out.Segments = append(b.out.Segments, s)
	return s
}

// aboveSpines connects every border with every spine.
func (b *builder) aboveSpines(spine, border Profile) {
	if len(b.borders) == 0 {
		return
	}
	spine.Name, border.Name = spineBorder, borderSpine
	if b.roles() {
		spine.Role, border.Role = Customer, Provider
	}
	b.profile(spine, b.f.Spec.BGP.BFD.Links)
	b.profile(border, b.f.Spec.BGP.BFD.Links)
	for i, up := range b.borders {
		for p, down := range b.spines {
			x, y := b.link(up, down, fmt.Sprintf("spine%d", p), fmt.Sprintf("border%d", i),
				func(pool netip.Prefix) int { return toBorder(pool, i, p) })
			session(x, y, borderSpine, spineBorder)
		}
	}
}

// roles tells whether sessions have roles (RFC 9234). Left to the design, they
// keep ToRs from carrying routes between spines that have AS numbers of their
// own; one AS for all spines does that by itself.
func (b *builder) roles() bool {
	s := &b.f.Spec
	return s.BGP.Roles == On || s.BGP.Roles == Auto && s.Spine.AS == Unique && s.Model != DownwardDefault
}

// rackBlocks makes the ToRs announce the block of their rack instead of what is
// in it, if the file says so.
func (b *builder) rackBlocks() {
	s := &b.f.Spec
	if s.Endpoints.Announce != RackBlock {
		return
	}
	for r, rack := range b.racks {
		for _, tor := range rack.tors {
			for _, family := range s.Families {
				block := b.f.rackBlock(family, r)
				tor.Originate = append(tor.Originate, Origin{Kind: OriginRack, Prefix: block, Count: 1, Endpoints: b.f.rack(r).Servers * s.Endpoints.PerServer})
				tor.Discard = append(tor.Discard, block)
			}
		}
	}
}
