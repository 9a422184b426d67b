// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"fmt"
	"net/netip"
)

// asPerRack: the ToRs and servers of a rack are one AS (RFC 7938, with the
// servers taken into the AS of their ToR). Inside is iBGP on a segment,
// everything between racks is eBGP.
func (b *builder) asPerRack() {
	s := &b.f.Spec
	reflects := s.InRack.Sessions == RackReflector && s.InRack.Reflector == OnToR
	// What a ToR learns by eBGP has a next hop that servers do not reach (RFC
	// 4271 section 5.1.3: iBGP passes it on). What it reflects has one that they do
	// reach, and keeps it, so that traffic inside the rack does not take a
	// detour by way of the ToR.
	b.serverProfiles(Profile{ReflectorClient: reflects, NextHopSelf: NextHopSelfEBGP}, Profile{})
	for i := range b.out.Profiles[:2] { // machines with an AS number of their own
		p := b.out.Profiles[i]
		p.Name = map[string]string{torServer: torMachine, serverTor: machineTor}[p.Name]
		p.ReflectorClient, p.NextHopSelf = false, NextHopSelfNone
		b.out.Profiles = append(b.out.Profiles, p)
	}
	b.inRack()
	if s.ToRs.ISL {
		b.betweenToRs()
	}
	b.rackBlocks()
	if s.Spine.Kind == L2 {
		b.onPlanes(MeshEBGP, Profile{}, Profile{})
		return
	}
	b.underSpines(Profile{}, Profile{})
	b.aboveSpines(Profile{}, Profile{})
}

// inRack attaches the servers and makes the iBGP sessions of each rack.
func (b *builder) inRack() {
	s := &b.f.Spec
	segment := Profile{Name: serverServer, GracefulRestart: s.BGP.GracefulRestart.VRouter}
	client := Profile{Name: reflectorClient, ReflectorClient: true, GracefulRestart: s.BGP.GracefulRestart.RR}
	switch {
	case s.InRack.Sessions == RackMesh:
		b.profile(segment, s.BGP.BFD.Segment)
		b.servers(toServer)
		for _, rack := range b.racks {
			for _, tor := range rack.tors {
				m := Mesh{Name: tor.Name + "--rack", Kind: MeshIBGP, Segment: tor.Name + "--rack", Profile: serverServer}
				for _, d := range rack.servers {
					if d.AS == tor.AS && d.Interface(m.Segment) != nil {
						m.Members = append(m.Members, d.Name)
					}
				}
				b.out.Meshes = append(b.out.Meshes, m)
			}
		}
	case s.InRack.Reflector == OnToR:
		b.servers(toServer)
	default:
		// Two reflectors on the segment itself: a reflector that is reached
		// through a vRouter would depend on routes that it has to tell.
		b.profile(segment, s.BGP.BFD.Segment)
		b.profile(client, s.BGP.BFD.Segment)
		b.rackReflectors()
	}
}

// toServer connects a ToR with a server, or with a machine that may have an AS number of its own.
func toServer(tor, server port) {
	if tor.on.AS != server.on.AS {
		session(tor, server, torMachine, machineTor)
		return
	}
	session(tor, server, torServer, serverTor)
}

// rackReflectors has two reflectors in each rack, which are its first two
// servers or stand alone. ToR and servers are their clients.
func (b *builder) rackReflectors() {
	ports := map[*Device][]port{} // of reflectors and servers, by ToR
	tors := map[*Device]port{}
	b.servers(func(tor, server port) {
		if tor.on.AS != server.on.AS {
			toServer(tor, server)
			return
		}
		ports[tor.on] = append(ports[tor.on], server)
		tors[tor.on] = tor
	})
	for r, rack := range b.racks {
		tor := rack.tors[0]
		clients := ports[tor]
		var reflectors []port
		if b.f.Spec.InRack.Reflector == OnServer {
			n := min(2, b.f.rack(r).Servers)
			reflectors, clients = clients[:n], clients[n:]
		} else {
			for i := range 2 {
				d := b.device(fmt.Sprintf("%s-rr%d", b.f.rack(r).Name, i), RoleReflector, tor.AS, b.f.rackLoopback(r, 2+i))
				d.Rack, d.Software = b.f.rack(r).Name, Muslin
				reflectors = append(reflectors, attach(d, "eth0", tors[tor].at, 2+i))
				b.reflectors = append(b.reflectors, d)
			}
		}
		for i, rr := range reflectors {
			session(rr, tors[tor], reflectorClient, torServer)
			for _, c := range clients {
				session(rr, c, reflectorClient, serverServer)
			}
			for _, other := range reflectors[:i] {
				session(rr, other, serverServer, serverServer)
			}
		}
	}
}

// betweenToRs links the two ToRs of a rack. A route by way of the other ToR is
// worse than any other, LOCAL_PREF 90, and so never equal to one: were it equal,
// each ToR would send a part of the traffic to the other, and the other back.
func (b *builder) betweenToRs() {
	b.profile(Profile{Name: isl, NextHopSelf: NextHopSelfAll, LocalPref: 90}, b.f.Spec.BGP.BFD.Links)
	for r, rack := range b.racks {
		if len(rack.tors) == 2 {
			x, y := b.link(rack.tors[0], rack.tors[1], "isl", "isl", func(netip.Prefix) int { return b.f.uplinkOf(r, 0, islSlot) })
			session(x, y, isl, isl)
		}
	}
}
