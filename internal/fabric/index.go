// SPDX-License-Identifier: Apache-2.0

package fabric

import "net/netip"

// Index finds what a Design names. It is made once for all questions about a
// design, which must not change meanwhile.
type Index struct {
	*Design
	devices   map[string]*Device
	profiles  map[string]*Profile
	filters   map[string]*Filter
	segments  map[string]*Segment
	platforms map[string]*Platform
	on        map[string][]Attached // by segment
	meshes    map[string][]*Mesh    // by member
	perAS     map[*Mesh]map[uint32]int
	ends      map[end]*Session
}

// end is what tells one end of a session from all others.
type end struct{ device, peer, segment string }

// Attached is a device on a segment.
type Attached struct {
	Device    *Device
	Interface *Interface
}

// Index makes the index of a design.
func (g *Design) Index() *Index {
	x := &Index{Design: g, devices: map[string]*Device{}, profiles: map[string]*Profile{}, filters: map[string]*Filter{},
		segments: map[string]*Segment{}, platforms: map[string]*Platform{}, on: map[string][]Attached{},
		meshes: map[string][]*Mesh{}, perAS: map[*Mesh]map[uint32]int{}, ends: map[end]*Session{}}
	for i := range g.Profiles {
		x.profiles[g.Profiles[i].Name] = &g.Profiles[i]
	}
	for i := range g.Filters {
		x.filters[g.Filters[i].Name] = &g.Filters[i]
	}
	for i := range g.Segments {
		x.segments[g.Segments[i].Name] = &g.Segments[i]
	}
	for i := range g.Platforms {
		x.platforms[g.Platforms[i].Name] = &g.Platforms[i]
	}
	for i := range g.Devices {
		d := &g.Devices[i]
		x.devices[d.Name] = d
		for j := range d.Sessions {
			s := &d.Sessions[j]
			x.ends[end{d.Name, s.Peer, s.Segment}] = s
		}
		for j := range d.Interfaces {
			if s := d.Interfaces[j].Segment; s != "" {
				x.on[s] = append(x.on[s], Attached{d, &d.Interfaces[j]})
			}
		}
	}
	for i := range g.Meshes {
		m := &g.Meshes[i]
		x.perAS[m] = map[uint32]int{}
		for _, name := range m.Members {
			x.meshes[name] = append(x.meshes[name], m)
			x.perAS[m][x.devices[name].AS]++
		}
	}
	return x
}

// Device finds a device by its name, and returns nil for a name that is not there;
// Profile, Filter, Segment and Platform do so likewise.
func (x *Index) Device(name string) *Device     { return x.devices[name] }
func (x *Index) Profile(name string) *Profile   { return x.profiles[name] }
func (x *Index) Filter(name string) *Filter     { return x.filters[name] }
func (x *Index) Segment(name string) *Segment   { return x.segments[name] }
func (x *Index) Platform(name string) *Platform { return x.platforms[name] }

// On lists who is on a segment, in the order of devices.
func (x *Index) On(segment string) []Attached { return x.on[segment] }

// PlanesOf counts the planes that a device has a port on.
func (x *Index) PlanesOf(d *Device) (n int) {
	for _, i := range d.Interfaces {
		if s := x.segments[i.Segment]; s != nil && s.Kind == Plane {
			n++
		}
	}
	return n
}

// MeshesOf lists the meshes that a device is a member of.
func (x *Index) MeshesOf(d *Device) []*Mesh { return x.meshes[d.Name] }

// MeshPeers is with how many other members a member has a session.
func (x *Index) MeshPeers(m *Mesh, d *Device) int {
	same := x.perAS[m][d.AS]
	if m.Kind == MeshIBGP {
		return same - 1
	}
	return len(m.Members) - same
}

// Peers counts the adjacencies of a device, those of its meshes included. With
// two families, an adjacency that has addresses is two connections.
func (x *Index) Peers(d *Device) int {
	n := len(d.Sessions)
	for _, m := range x.meshes[d.Name] {
		n += x.MeshPeers(m, d)
	}
	return n
}

// End finds the other end of a session, or nil if the peer has none.
func (x *Index) End(d *Device, s *Session) *Session {
	return x.ends[end{s.Peer, d.Name, s.Segment}]
}

// Exceptions is how many endpoints that left their blocks a ToR may have a route to: 0
// unless the design has such routes.
func (x *Index) Exceptions() int {
	if p := x.profiles[torSpine]; p != nil && p.Import == exceptions {
		return p.MaxPrefix - 1
	}
	return 0
}

// Neighbour is one session of a device as the device knows it.
type Neighbour struct {
	Name    string
	AS      uint32
	Address []netip.Addr // one for each family; none if unnumbered
	Port    *Interface   // towards it; the loopback for a session between loopbacks
	Profile *Profile
}

// Neighbours are all sessions of a device: its own in their order, then those with
// the members of its meshes, told apart.
func (x *Index) Neighbours(d *Device) (list []Neighbour) {
	add := func(sessions []Session) {
		for _, s := range sessions {
			list = append(list, Neighbour{s.Peer, s.PeerAS, s.Address, d.port(s.Segment), x.profiles[s.Profile]})
		}
	}
	add(d.Sessions)
	for _, m := range x.meshes[d.Name] {
		add(x.MeshSessions(m, d))
	}
	return list
}

// MeshSessions are those of a member of a mesh with the others.
func (x *Index) MeshSessions(m *Mesh, d *Device) (list []Session) {
	for _, name := range m.Members {
		other := x.devices[name]
		if !m.Joins(d, other) {
			continue
		}
		s := Session{Peer: name, Segment: m.Segment, PeerAS: other.AS, Profile: m.Profile}
		for _, a := range other.port(m.Segment).Addresses {
			s.Address = append(s.Address, a.Addr())
		}
		list = append(list, s)
	}
	return list
}

// port is that on a segment. A session of a device that has none there is one of its loopback.
func (d *Device) port(segment string) *Interface {
	if i := d.Interface(segment); i != nil {
		return i
	}
	return &Interface{Name: "lo"}
}

// Interface is the port of a device on a segment, or nil.
func (d *Device) Interface(segment string) *Interface {
	for i := range d.Interfaces {
		if d.Interfaces[i].Segment == segment && segment != "" {
			return &d.Interfaces[i]
		}
	}
	return nil
}

// Loopback is the device's own address of a family; invalid if it has none.
func (d *Device) Loopback(family Family) netip.Addr {
	for i := range d.Interfaces {
		if d.Interfaces[i].Name != "lo" {
			continue
		}
		for _, a := range d.Interfaces[i].Addresses {
			if FamilyOf(a.Addr()) == family {
				return a.Addr()
			}
		}
	}
	return netip.Addr{}
}
