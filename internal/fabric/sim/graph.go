// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/fabric"
)

// graph is a design as numbers, for one address family. Devices, segments and
// meshes are known by their place in it. It never changes.
type graph struct {
	design  *fabric.Design
	family  fabric.Family
	devices []device
	segs    []segment
	profs   []profile
	meshes  []mesh
	racks   []rack
	kinds   kinds
	classes []class
	// classesOf are those that a device originates.
	classesOf [][]int
	byBits    map[int][]int // classes by prefix length, in order

	deviceOf map[string]int
	segOf    map[string]int

	// problems are sessions that cannot come up, whatever is up.
	problems []string
}

// device is a router.
type device struct {
	*fabric.Device
	rack  int // in graph.racks; -1 for one that belongs to no rack
	slot  int // among the heads or the leaves of the rack
	leaf  bool
	on    int // the device that it runs on: mostly itself
	host  int // the device whose interfaces it uses: mostly itself
	ports []port
	halfs []half
	mesh  []int // that it is in
	// stands are the prefixes that it announces instead of what is in them.
	stands []netip.Prefix
	does   behaviour
}

// port attaches a device to a segment.
type port struct {
	seg    int
	addr   netip.Addr
	subnet netip.Prefix
}

// half is one end of a session that is named one by one.
type half struct {
	peer     int
	seg      int // -1 between loopbacks
	prof     int
	peerProf int
}

type segment struct {
	*fabric.Segment
	carrier int   // the device that fails with it; -1 for none
	members []int // devices with a port
	rack    int   // the one that all members are in; -1 if there is no such
}

type mesh struct {
	seg, prof int
	ebgp      bool // the sessions are between different AS numbers, else between equal ones
	members   []int
	rack      int // as of segment
}

// profile is the settings of one end, with what they mean to the engine.
type profile struct {
	*fabric.Profile
	imports, exports bgp.Policy
}

// class is prefixes that have one fate: they differ in nothing that any device looks at.
type class struct {
	prefix    netip.Prefix // the first
	count     int
	endpoints int // what it stands for, if it is a block
	kind      fabric.OriginKind
	origins   []int // devices
	// given: it is the default route that devices make for peers of theirs, whether
	// they have one or not.
	given bool
}

// isBlock tells whether it is one prefix for the endpoints of a server.
func (c *class) isBlock() bool { return c.kind == fabric.OriginBlock }

// last is the last prefix of the class.
func (c *class) last() netip.Prefix { return Nth(c.prefix, c.count-1) }

func newGraph(d *fabric.Design, family fabric.Family) (*graph, error) {
	g := &graph{design: d, family: family, deviceOf: map[string]int{}, segOf: map[string]int{}}
	filters := map[string]bgp.Policy{"": nil}
	for i := range d.Filters {
		filters[d.Filters[i].Name] = policyOf(&d.Filters[i])
	}
	profOf := map[string]int{}
	for i := range d.Profiles {
		p := &d.Profiles[i]
		profOf[p.Name] = i
		for _, name := range []string{p.Import, p.Export} {
			if _, ok := filters[name]; !ok {
				return nil, fmt.Errorf("profile %q: there is no filter %q", p.Name, name)
			}
		}
		g.profs = append(g.profs, profile{p, withLocalPref(filters[p.Import], p.LocalPref), exportOf(p, filters[p.Export])})
	}
	for i := range d.Segments {
		g.segOf[d.Segments[i].Name] = i
		g.segs = append(g.segs, segment{Segment: &d.Segments[i], carrier: -1})
	}
	for i := range d.Devices {
		x := &d.Devices[i]
		if _, twice := g.deviceOf[x.Name]; twice {
			return nil, fmt.Errorf("device %q is there twice", x.Name)
		}
		g.deviceOf[x.Name] = i
		g.devices = append(g.devices, device{Device: x, rack: -1, on: i, host: i, does: behaviours[x.Software]})
	}
	if err := g.attach(); err != nil {
		return nil, err
	}
	if err := g.peer(profOf); err != nil {
		return nil, err
	}
	g.findRacks()
	return g, g.findClasses()
}

// attach gives devices their ports, and segments their members.
func (g *graph) attach() error {
	for i := range g.devices {
		x := &g.devices[i]
		if x.Host != "" {
			h, ok := g.deviceOf[x.Host]
			if !ok {
				return fmt.Errorf("device %q: host %q does not exist", x.Name, x.Host)
			}
			x.on, x.host = h, h
		}
		for j := range x.Interfaces {
			f := &x.Interfaces[j]
			if f.Segment == "" {
				continue // the loopback
			}
			x.host = i
			s, ok := g.segOf[f.Segment]
			if !ok {
				return fmt.Errorf("device %q: interface %q: there is no segment %q", x.Name, f.Name, f.Segment)
			}
			p := port{seg: s, addr: unnumbered(g.family, i, j)}
			for _, a := range f.Addresses {
				if is(a.Addr(), g.family) {
					p.addr, p.subnet = a.Addr(), a.Masked()
					break
				}
			}
			x.ports = append(x.ports, p)
			g.segs[s].members = append(g.segs[s].members, i)
		}
		for _, o := range x.Originate {
			if o.Kind == fabric.OriginRack {
				x.stands = append(x.stands, o.Prefix)
			}
		}
	}
	for i := range g.segs {
		if d, ok := g.deviceOf[g.segs[i].Switch]; ok {
			g.segs[i].carrier = d
		}
	}
	return nil
}

// unnumbered stands for the link-local address of an interface: what counts is
// only that no two are equal.
func unnumbered(f fabric.Family, device, iface int) netip.Addr {
	n := uint32(device)<<8 | uint32(iface)&0xff
	if f == fabric.IPv4 {
		return netip.AddrFrom4([4]byte{100 + byte(n>>24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	b := [16]byte{0: 0x01, 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)} // 100::/64 of RFC 6666
	return netip.AddrFrom16(b)
}

func is(a netip.Addr, f fabric.Family) bool { return a.Is4() == (f == fabric.IPv4) }

// portOn is the port of a device on a segment.
func (g *graph) portOn(d, seg int) (port, bool) {
	for _, p := range g.devices[g.devices[d].host].ports {
		if p.seg == seg {
			return p, true
		}
	}
	return port{}, false
}

// peer reads the sessions: of those of this family, both ends must be there, and
// agree on AS numbers.
func (g *graph) peer(profOf map[string]int) error {
	type end struct{ from, to, seg int }
	type open struct {
		prof int
		s    *fabric.Session
	}
	ends := map[end]open{}
	read := func(i int, s *fabric.Session) (end, int, error) {
		to, ok := g.deviceOf[s.Peer]
		seg, known := g.segOf[s.Segment]
		prof, has := profOf[s.Profile]
		x := g.devices[i].Name
		switch {
		case !ok:
			return end{}, 0, fmt.Errorf("device %q: there is no peer %q", x, s.Peer)
		case s.Segment != "" && !known:
			return end{}, 0, fmt.Errorf("device %q: session with %q: there is no segment %q", x, s.Peer, s.Segment)
		case !has:
			return end{}, 0, fmt.Errorf("device %q: session with %q: there is no profile %q", x, s.Peer, s.Profile)
		}
		if s.Segment == "" {
			seg = -1
		}
		return end{i, to, seg}, prof, nil
	}
	carries := func(s *fabric.Session) bool {
		return len(s.Address) == 0 || slices.ContainsFunc(s.Address, func(a netip.Addr) bool { return is(a, g.family) })
	}
	for i := range g.devices {
		for j := range g.devices[i].Sessions {
			s := &g.devices[i].Sessions[j]
			e, prof, err := read(i, s)
			if err != nil {
				return err
			}
			if carries(s) {
				ends[e] = open{prof, s}
			}
		}
	}
	refused := map[end]bool{}
	for i := range g.devices {
		x := &g.devices[i]
		for j := range x.Sessions {
			s := &x.Sessions[j]
			e, prof, _ := read(i, s)
			if !carries(s) {
				continue
			}
			back, ok := ends[end{e.to, i, e.seg}]
			onSeg := func(d int) bool {
				_, ok := g.portOn(d, e.seg)
				return ok || e.seg < 0
			}
			switch peer := &g.devices[e.to]; {
			case e.to == i || !onSeg(i) || !onSeg(e.to):
				refused[e] = true
				g.problems = append(g.problems, fmt.Sprintf("%s and %s do not meet on %q", x.Name, s.Peer, s.Segment))
			case !ok:
				g.problems = append(g.problems, fmt.Sprintf("%s has a session with %s, which has none with it", x.Name, s.Peer))
			case s.PeerAS != peer.AS:
				refused[e] = true
				g.problems = append(g.problems, fmt.Sprintf("%s expects %s in AS %d, it is in AS %d", x.Name, s.Peer, s.PeerAS, peer.AS))
			default:
				if why := fabric.Mismatch(x.Device, peer.Device, s, back.s, &g.design.Profiles[prof], &g.design.Profiles[back.prof], g.family); why != "" {
					refused[e] = true
					g.problems = append(g.problems, fmt.Sprintf("%s and %s: %s", x.Name, s.Peer, why))
					continue
				}
				x.halfs = append(x.halfs, half{e.to, e.seg, prof, back.prof})
			}
		}
	}
	// What one end refuses does not exist at the other.
	for i := range g.devices {
		g.devices[i].halfs = slices.DeleteFunc(g.devices[i].halfs, func(h half) bool { return refused[end{h.peer, i, h.seg}] })
	}
	for i := range g.design.Meshes {
		m := &g.design.Meshes[i]
		seg, ok := g.segOf[m.Segment]
		prof, has := profOf[m.Profile]
		if !ok || !has {
			return fmt.Errorf("mesh %q: there is no segment %q or no profile %q", m.Name, m.Segment, m.Profile)
		}
		out := mesh{seg: seg, prof: prof, ebgp: m.Kind == fabric.MeshEBGP}
		for _, name := range m.Members {
			d, ok := g.deviceOf[name]
			if !ok {
				return fmt.Errorf("mesh %q: there is no device %q", m.Name, name)
			}
			if _, ok := g.portOn(d, seg); !ok {
				g.problems = append(g.problems, fmt.Sprintf("%s is in mesh %q, and not on %q", name, m.Name, m.Segment))
				continue
			}
			out.members = append(out.members, d)
			g.devices[d].mesh = append(g.devices[d].mesh, i)
		}
		g.meshes = append(g.meshes, out)
	}
	return nil
}
