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
	// reflectsRouters: it is a vRouter that reflects, and has sessions with one that is none, be they up or not.
	reflectsRouters bool
	does            behaviour
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
	*fabric.Mesh
	seg, prof int
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
func (c *class) last() netip.Prefix { return fabric.Nth(c.prefix, c.count-1) }

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
	g.findReflectors()
	g.findRacks()
	return g, g.findClasses()
}

// findReflectors finds the vRouters that reflect for routers.
func (g *graph) findReflectors() {
	for i := range g.devices {
		x := &g.devices[i]
		if x.Software != fabric.Muslin {
			continue
		}
		client, router := false, false
		end := func(prof, peer int) {
			client = client || g.profs[prof].ReflectorClient
			router = router || g.devices[peer].Software != fabric.Muslin
		}
		for _, h := range x.halfs {
			end(h.prof, h.peer)
		}
		for _, m := range x.mesh {
			if !g.profs[g.meshes[m].prof].ReflectorClient {
				continue
			}
			for _, d := range g.meshes[m].members {
				end(g.meshes[m].prof, d)
			}
		}
		x.reflectsRouters = client && router
	}
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
				if fabric.FamilyOf(a.Addr()) == g.family {
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
	ends, order, err := g.ends(profOf)
	if err != nil {
		return err
	}
	refused := map[end]bool{}
	for _, e := range order {
		why, both := g.refusal(e, ends)
		switch {
		case why == "":
			g.devices[e.from].halfs = append(g.devices[e.from].halfs, half{e.to, e.seg, ends[e].prof, ends[e.back()].prof})
			continue
		case both:
			refused[e] = true
		}
		g.problems = append(g.problems, why)
	}
	// What one end refuses does not exist at the other.
	for i := range g.devices {
		g.devices[i].halfs = slices.DeleteFunc(g.devices[i].halfs, func(h half) bool { return refused[end{h.peer, i, h.seg}] })
	}
	return g.readMeshes(profOf)
}

// end is what one end of a session is known by: devices, and the segment, -1 between loopbacks.
type end struct{ from, to, seg int }

func (e end) back() end { return end{e.to, e.from, e.seg} }

// open is an end as its device is configured.
type open struct {
	prof int
	s    *fabric.Session
}

// ends reads those whose sessions carry the family, and in which order they are configured. A name that leads nowhere
// is an error.
func (g *graph) ends(profOf map[string]int) (ends map[end]open, order []end, err error) {
	ends = map[end]open{}
	for i := range g.devices {
		for j := range g.devices[i].Sessions {
			s := &g.devices[i].Sessions[j]
			name := g.devices[i].Name
			to, ok := g.deviceOf[s.Peer]
			seg, known := g.segOf[s.Segment]
			prof, has := profOf[s.Profile]
			switch {
			case !ok:
				return nil, nil, fmt.Errorf("device %q: there is no peer %q", name, s.Peer)
			case s.Segment != "" && !known:
				return nil, nil, fmt.Errorf("device %q: session with %q: there is no segment %q", name, s.Peer, s.Segment)
			case !has:
				return nil, nil, fmt.Errorf("device %q: session with %q: there is no profile %q", name, s.Peer, s.Profile)
			}
			if s.Segment == "" {
				seg = -1
			}
			if len(s.Address) == 0 || slices.ContainsFunc(s.Address, func(a netip.Addr) bool { return fabric.FamilyOf(a) == g.family }) {
				e := end{i, to, seg}
				ends[e] = open{prof, s}
				order = append(order, e)
			}
		}
	}
	return ends, order, nil
}

// refusal is why an end has no session; empty if it has. both: the other end, which may have found nothing wrong, has
// none either.
func (g *graph) refusal(e end, ends map[end]open) (why string, both bool) {
	x, peer := &g.devices[e.from], &g.devices[e.to]
	mine := ends[e]
	back, ok := ends[e.back()]
	onSeg := func(d int) bool {
		_, ok := g.portOn(d, e.seg)
		return ok || e.seg < 0
	}
	switch {
	case e.to == e.from || !onSeg(e.from) || !onSeg(e.to):
		return fmt.Sprintf("%s and %s do not meet on %q", x.Name, peer.Name, mine.s.Segment), true
	case !ok:
		return fmt.Sprintf("%s has a session with %s, which has none with it", x.Name, peer.Name), false
	case mine.s.PeerAS != peer.AS:
		return fmt.Sprintf("%s expects %s in AS %d, it is in AS %d", x.Name, peer.Name, mine.s.PeerAS, peer.AS), true
	}
	if why := fabric.Mismatch(x.Device, peer.Device, mine.s, back.s, &g.design.Profiles[mine.prof], &g.design.Profiles[back.prof], g.family); why != "" {
		return fmt.Sprintf("%s and %s: %s", x.Name, peer.Name, why), true
	}
	return "", false
}

// readMeshes reads the full meshes, whose members are on their segments.
func (g *graph) readMeshes(profOf map[string]int) error {
	for i := range g.design.Meshes {
		m := &g.design.Meshes[i]
		seg, ok := g.segOf[m.Segment]
		prof, has := profOf[m.Profile]
		if !ok || !has {
			return fmt.Errorf("mesh %q: there is no segment %q or no profile %q", m.Name, m.Segment, m.Profile)
		}
		out := mesh{Mesh: m, seg: seg, prof: prof}
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
