// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"fmt"
	"net/netip"
	"slices"
)

// Design works the fabric out. It is a pure function of the file.
func (f *Fabric) Design() *Design {
	b := &builder{f: f, as: f.as(), out: &Design{
		APIVersion: APIVersion, Kind: KindDesign, Metadata: f.Metadata, Model: f.Spec.Model,
		Families: f.Spec.Families, Pools: f.Spec.Pools.Endpoints, Growth: f.Spec.Endpoints.Growth, Strays: f.Spec.Endpoints.Strays, Advanced: f.Spec.BGP.Advanced,
	}}
	b.filters()
	b.top()
	b.rackParts()
	switch f.Spec.Model {
	case ASPerRack:
		b.asPerRack()
	case ASPerServer:
		b.asPerServer()
	case DownwardDefault:
		b.downwardDefault()
	case Ethernet:
		b.ethernet()
	}
	return b.finish()
}

// builder holds a design while it is made. The parts that every model has are
// made first; the model then connects them.
type builder struct {
	f   *Fabric
	as  asPlan
	out *Design

	spines     []*Device // none if the spine is l2
	borders    []*Device
	reflectors []*Device
	racks      []rackParts
}

type rackParts struct {
	tors, servers []*Device // machines with BGP are among the servers, behind them
	places        []int     // of servers in the plan of the rack
}

// port is an interface of a device, as a session sees it.
type port struct {
	on    *Device
	at    Segment
	addrs []netip.Addr
}

// segment makes a segment with size addresses at a place of the links that at
// tells for each pool. With a size of 0 it has no addresses.
func (b *builder) segment(name string, kind SegmentKind, carrier string, size int, at func(pool netip.Prefix) int) Segment {
	s := Segment{Name: name, Kind: kind, Switch: carrier}
	if size > 0 {
		for _, family := range b.f.Spec.Families {
			pool, _ := ofFamily(b.f.Spec.Pools.Links, family)
			s.Subnets = append(s.Subnets, subnet(pool, at(pool), size))
		}
	}
	b.out.Segments = append(b.out.Segments, s)
	return s
}

// attach gives a device an interface on a segment, with the n-th address of it.
func attach(d *Device, name string, s Segment, n int) port {
	i := Interface{Name: name, Segment: s.Name}
	p := port{on: d, at: s}
	for _, net := range s.Subnets {
		a := addr(net, n)
		i.Addresses = append(i.Addresses, netip.PrefixFrom(a, net.Bits()))
		p.addrs = append(p.addrs, a)
	}
	d.Interfaces = append(d.Interfaces, i)
	return p
}

// link makes a cable between two devices; the first has the even address.
func (b *builder) link(x, y *Device, xPort, yPort string, at func(pool netip.Prefix) int) (port, port) {
	s := b.segment(x.Name+"--"+y.Name, Link, "", 2, at)
	return attach(x, xPort, s, 0), attach(y, yPort, s, 1)
}

// session makes both ends of a session, with a profile for each.
func session(x, y port, xProfile, yProfile string) {
	x.on.Sessions = append(x.on.Sessions, Session{Peer: y.on.Name, Segment: x.at.Name, PeerAS: y.on.AS, Address: y.addrs, Profile: xProfile})
	y.on.Sessions = append(y.on.Sessions, Session{Peer: x.on.Name, Segment: x.at.Name, PeerAS: x.on.AS, Address: x.addrs, Profile: yProfile})
}

// profile adds a profile, with what holds for all sessions.
func (b *builder) profile(p Profile, bfd Duration) {
	s := &b.f.Spec.BGP
	p.Hold, p.Authentication = s.Timers.Hold, s.Authentication
	if bfd.On() {
		p.BFD = bfd
	}
	b.out.Profiles = append(b.out.Profiles, p)
}

// device makes a router with its n-th loopback.
func (b *builder) device(name string, role Role, as uint32, loopback int) *Device {
	pool, _ := ofFamily(b.f.Spec.Pools.Loopbacks, IPv4)
	d := &Device{Name: name, Role: role, AS: as, RouterID: addr(pool, loopback), Multipath: multipath}
	lo := Interface{Name: "lo"}
	for _, family := range b.f.Spec.Families {
		pool, _ := ofFamily(b.f.Spec.Pools.Loopbacks, family)
		a := addr(pool, loopback)
		lo.Addresses = append(lo.Addresses, netip.PrefixFrom(a, a.BitLen()))
	}
	d.Interfaces = append(d.Interfaces, lo)
	return d
}

// multipath is how many equal paths a router uses at most.
const multipath = 64

// announceLoopback makes the device reachable by its own address.
func announceLoopback(d *Device) {
	for _, a := range d.Interfaces[0].Addresses {
		d.Originate = append(d.Originate, Origin{Kind: OriginLoopback, Prefix: a, Count: 1})
	}
}

// top makes spines and borders.
func (b *builder) top() {
	s := &b.f.Spec
	tor, spine := s.Switches.ToR.platform("tor"), s.Switches.Spine.platform("spine")
	b.out.Platforms = []Platform{tor, spine}
	if s.Spine.Kind == L3 {
		for i := range s.Spine.Count {
			d := b.device(fmt.Sprintf("spine%d", i), RoleSpine, b.as.spine(i), spineLoopbacks+i)
			d.Software, d.Platform, d.MultipathRelax = s.Switches.Spine.Software, spine.Name, true
			announceLoopback(d)
			b.spines = append(b.spines, d)
		}
	}
	for i, x := range s.Borders {
		d := b.device(x.Name, RoleBorder, x.AS, borderLoopbacks+i)
		d.Software, d.MultipathRelax = s.Switches.Spine.Software, true
		announceLoopback(d)
		if x.Default {
			for _, family := range s.Families {
				d.Originate = append(d.Originate, Origin{Kind: OriginDefault, Prefix: family.Default(), Count: 1})
			}
		}
		// What is no endpoint does not leave the site and come back.
		for _, p := range s.Pools.Endpoints {
			d.Discard = append(d.Discard, p.CIDR)
		}
		b.borders = append(b.borders, d)
	}
}

// rackParts makes the ToRs and servers, and what servers announce.
func (b *builder) rackParts() {
	s := &b.f.Spec
	anycast := map[[2]int][]netip.Addr{}
	for _, a := range s.Anycast {
		for _, name := range a.Servers {
			r, i, _ := b.f.serverNamed(name)
			anycast[[2]int{r, i}] = append(anycast[[2]int{r, i}], a.IP)
		}
	}
	for r := range s.Racks.Count {
		rack, parts := b.f.rack(r), rackParts{}
		if s.Model != Ethernet {
			tor := "tor"
			if rack.ToR != "" {
				tor = b.silicon(rack.ToR, &s.Switches.ToR)
			}
			for t := range rack.ToRs {
				d := b.device(fmt.Sprintf("%s-t%d", rack.Name, t), RoleToR, b.as.tor(r, t), b.f.rackLoopback(r, t))
				d.Rack, d.Software, d.Platform, d.MultipathRelax = rack.Name, s.Switches.ToR.Software, tor, true
				announceLoopback(d)
				parts.tors = append(parts.tors, d)
			}
		}
		for i := range rack.Servers {
			d := b.device(fmt.Sprintf("%s-s%d", rack.Name, i), RoleServer, b.as.server(r, i), b.f.rackLoopback(r, rackOverhead+i))
			d.Rack, d.Software, d.MultipathRelax = rack.Name, Muslin, true
			d.VRouter = &VRouter{PreferLocal: true, LocalGateway: true, IgnoreLinkDown: true}
			b.endpoints(d, r, i, anycast[[2]int{r, i}])
			parts.servers, parts.places = append(parts.servers, d), append(parts.places, i)
		}
		b.machines(r, &parts)
		b.racks = append(b.racks, parts)
	}
}

// endpoints makes what a server announces.
func (b *builder) endpoints(d *Device, rack, server int, anycast []netip.Addr) {
	s := &b.f.Spec
	for _, family := range s.Families {
		block := b.f.endpointsOf(family, rack, server)
		o := Origin{Kind: OriginEndpoints, Prefix: netip.PrefixFrom(block.Addr(), block.Addr().BitLen()), Count: s.Endpoints.PerServer}
		if s.Endpoints.Announce != OneByOne {
			o = Origin{Kind: OriginBlock, Prefix: block, Count: 1, Endpoints: s.Endpoints.PerServer}
			// Else the default route and the ToR send each other what no
			// endpoint has.
			d.Discard = append(d.Discard, block)
		}
		d.Originate = append(d.Originate, o)
	}
	for _, a := range anycast {
		d.Originate = append(d.Originate, Origin{Kind: OriginAnycast, Prefix: netip.PrefixFrom(a, a.BitLen()), Count: 1})
	}
	// On a segment the ToR announces the subnet that servers are in.
	if s.Servers.Uplinks == Routed || s.Servers.Uplinks == Unnumbered {
		announceLoopback(d)
	}
}

// finish puts the devices in order: from the top to the servers.
func (b *builder) finish() *Design {
	add := func(list []*Device) {
		for _, d := range list {
			b.out.Devices = append(b.out.Devices, *d)
		}
	}
	n := len(b.spines) + len(b.borders) + len(b.reflectors)
	for _, r := range b.racks {
		n += len(r.tors) + len(r.servers)
	}
	b.out.Devices = make([]Device, 0, n)
	add(b.spines)
	add(b.borders)
	add(b.reflectors)
	for _, r := range b.racks {
		add(r.tors)
		add(r.servers)
	}
	b.rates()
	b.override()
	// A profile or filter that this fabric has no use for is left out.
	used := map[string]bool{}
	for i := range b.out.Devices {
		for _, s := range b.out.Devices[i].Sessions {
			used[s.Profile] = true
		}
	}
	for _, m := range b.out.Meshes {
		used[m.Profile] = true
	}
	b.out.Profiles = slices.DeleteFunc(b.out.Profiles, func(p Profile) bool { return !used[p.Name] })
	filters := map[string]bool{}
	for _, p := range b.out.Profiles {
		filters[p.Import], filters[p.Export] = true, true
	}
	b.out.Filters = slices.DeleteFunc(b.out.Filters, func(x Filter) bool { return !filters[x.Name] })
	return b.out
}

// silicon is the platform of switches that are another entry of the catalogue than the others of their kind. What is no
// table holds for them, too.
func (b *builder) silicon(catalog string, of *SwitchSpec) string {
	if !slices.ContainsFunc(b.out.Platforms, func(p Platform) bool { return p.Name == catalog }) {
		other := SwitchSpec{Catalog: catalog, RAM: of.RAM, Peers: of.Peers, ECMP: of.ECMP}
		b.out.Platforms = append(b.out.Platforms, other.platform(catalog))
	}
	return catalog
}

// platform is what a switch of a spec can hold: what the spec says, and for the
// rest what the catalogue does.
func (s *SwitchSpec) platform(name string) Platform {
	p, _ := silicon(s.Catalog)
	p.Name = name
	for _, x := range []struct {
		field *Count
		said  Count
	}{{&p.HostTable, s.HostTable}, {&p.LPMTable, s.LPMTable}, {&p.Peers, s.Peers}, {&p.ECMP, s.ECMP}} {
		if x.said != 0 {
			*x.field = x.said
		}
	}
	if s.HostRoutesIn != "" {
		p.HostRoutesIn = s.HostRoutesIn
	}
	p.RAM = s.RAM
	return p
}
