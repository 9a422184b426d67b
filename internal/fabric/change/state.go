// SPDX-License-Identifier: Apache-2.0

package change

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
)

// mix is the two designs, of which each device is by one or the other.
type mix struct {
	a, b *fabric.Index
	base fabric.Design // what does not depend on the moment
	// same are the meshes that are in both, with the same members, settings, addresses and AS numbers.
	same map[string]bool
	// rename gives profiles of the two the names that they have in base.
	rename [2]map[string]string
}

// maxSessions bounds those of meshes that are not the same in both.
const maxSessions = 250_000

func newMix(a, b *fabric.Index) (*mix, error) {
	m := &mix{a: a, b: b, same: map[string]bool{}}
	m.base = fabric.Design{APIVersion: b.APIVersion, Kind: b.Kind, Metadata: b.Metadata, Segments: slices.Clone(b.Segments)}
	for _, f := range a.Families {
		if slices.Contains(b.Families, f) {
			m.base.Families = append(m.base.Families, f)
		}
	}
	for _, s := range a.Segments {
		if b.Segment(s.Name) == nil {
			m.base.Segments = append(m.base.Segments, s)
		}
	}
	if len(m.base.Families) == 0 {
		return nil, fmt.Errorf("the first routes %s and the second %s: nothing would reach anything on the way: go by way of a file with both families", a.Families[0], b.Families[0])
	}
	m.profiles(0, a)
	m.profiles(1, b)
	return m, m.meshes()
}

// servers is how many are in both.
func (m *mix) servers() (n int) {
	for i := range m.a.Devices {
		if d := m.b.Device(m.a.Devices[i].Name); d != nil && d.Role == fabric.RoleServer {
			n++
		}
	}
	return n
}

// profiles puts those of a version into base, with their filters: under their own names, but for one of the
// second version that has other settings than its namesake in the first.
func (m *mix) profiles(version int, x *fabric.Index) {
	m.rename[version] = map[string]string{}
	for _, p := range x.Profiles {
		m.rename[version][p.Name] = p.Name
		if version == 1 && m.a.Profile(p.Name) != nil {
			if settings(m.a, p.Name) == settings(m.b, p.Name) {
				continue
			}
			m.rename[version][p.Name] = "new " + p.Name
		}
		p.Name = m.rename[version][p.Name]
		for _, name := range []*string{&p.Import, &p.Export} {
			if *name == "" {
				continue
			}
			f := *x.Filter(*name)
			f.Name = fmt.Sprintf("%d %s", version, f.Name)
			*name = f.Name
			if !slices.ContainsFunc(m.base.Filters, func(o fabric.Filter) bool { return o.Name == f.Name }) {
				m.base.Filters = append(m.base.Filters, f)
			}
		}
		m.base.Profiles = append(m.base.Profiles, p)
	}
}

// meshes puts those that are the same in both into base. The sessions of the others are made one by one, which
// must not be too many.
func (m *mix) meshes() error {
	for i := range m.b.Meshes {
		if x := m.b.Meshes[i]; m.sameMesh(&x) {
			m.same[x.Name] = true
			x.Profile = m.rename[1][x.Profile]
			m.base.Meshes = append(m.base.Meshes, x)
		}
	}
	ends := 0 // of either version
	for _, list := range [][]fabric.Mesh{m.a.Meshes, m.b.Meshes} {
		n := 0
		for _, x := range list {
			if !m.same[x.Name] {
				n += len(x.Members) * len(x.Members)
			}
		}
		ends = max(ends, n)
	}
	if ends > 2*maxSessions {
		return fmt.Errorf("a full mesh changes that has %s sessions: a change is simulated session by session, up to %s: ask about fewer racks", fabric.Number(ends/2), fabric.Number(maxSessions))
	}
	return nil
}

func (m *mix) sameMesh(x *fabric.Mesh) bool {
	for i := range m.a.Meshes {
		o := &m.a.Meshes[i]
		if o.Name != x.Name {
			continue
		}
		if o.Kind != x.Kind || o.Segment != x.Segment || !slices.Equal(o.Members, x.Members) || m.rename[1][x.Profile] != o.Profile {
			return false
		}
		for _, name := range x.Members {
			if p, q := m.a.Device(name), m.b.Device(name); p.AS != q.AS || addresses(p, x.Segment) != addresses(q, x.Segment) {
				return false
			}
		}
		return true
	}
	return false
}

// at is the design when some devices have what they are to have in the end.
func (m *mix) at(done map[string]bool) *fabric.Design {
	g := m.base
	here := map[string]*fabric.Device{}
	var order []string
	for i := range m.a.Devices {
		d := &m.a.Devices[i]
		if done[d.Name] {
			d = m.b.Device(d.Name)
		}
		if d != nil {
			here[d.Name], order = d, append(order, d.Name)
		}
	}
	for i := range m.b.Devices {
		if d := &m.b.Devices[i]; done[d.Name] && m.a.Device(d.Name) == nil {
			here[d.Name], order = d, append(order, d.Name)
		}
	}
	for _, name := range order {
		d := *here[name]
		x, version := m.a, 0
		if done[name] {
			x, version = m.b, 1
		}
		d.Platform = ""
		d.Sessions = m.sessions(x, version, &d, here)
		if m.a.Device(name) == nil || m.b.Device(name) == nil {
			// It has endpoints only when all is done, or no more.
			d.Originate = slices.DeleteFunc(slices.Clone(d.Originate), func(o fabric.Origin) bool {
				return o.Kind == fabric.OriginEndpoints || o.Kind == fabric.OriginBlock || o.Kind == fabric.OriginAnycast
			})
		}
		if here[d.Host] == nil {
			d.Host = ""
		}
		g.Devices = append(g.Devices, d)
	}
	return &g
}

// sessions are those of a device whose other end is, at the moment, what the device expects.
func (m *mix) sessions(x *fabric.Index, version int, d *fabric.Device, here map[string]*fabric.Device) (list []fabric.Session) {
	add := func(s fabric.Session) {
		peer := here[s.Peer]
		if peer == nil || peer.AS != s.PeerAS {
			return
		}
		if s.Segment != "" && len(s.Address) > 0 {
			s.Address = slices.DeleteFunc(slices.Clone(s.Address), func(a netip.Addr) bool { return !has(peer, s.Segment, a) })
			if len(s.Address) == 0 {
				return
			}
		}
		if s.Segment != "" && (d.Interface(s.Segment) != nil) && peer.Interface(s.Segment) == nil {
			return
		}
		s.Profile = m.rename[version][s.Profile]
		list = append(list, s)
	}
	for _, s := range d.Sessions {
		add(s)
	}
	mine := x.Device(d.Name)
	for _, mesh := range x.MeshesOf(mine) {
		if m.same[mesh.Name] {
			continue
		}
		for _, s := range x.MeshSessions(mesh, mine) {
			add(s)
		}
	}
	return list
}

// has tells whether an address is the device's on a segment.
func has(d *fabric.Device, segment string, a netip.Addr) bool {
	i := d.Interface(segment)
	return i != nil && slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
}
