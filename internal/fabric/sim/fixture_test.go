// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
)

// plan writes designs by hand, with no more in them than BGP looks at. It is not
// the designer of package fabric: what the simulator says of a model is to be
// true for whoever wrote it down, and of designs that no designer would make.
type plan struct {
	model         string // rack, server, down, ether
	l2            bool
	racks, hosts  int // hosts in a rack
	each          int // endpoints of a host
	spines, tors  int
	sharedSpine   bool
	roles         bool   // RFC 9234 between ToR and spine, or valley-free between ToRs
	segment       bool   // hosts on a segment, else on ports
	keepNextHop   bool   // ToRs do not set it towards their hosts
	isl           string // "", lp90, force
	interSpine    bool
	borderDefault bool
	torDefault    bool // the ToR makes the default route
	reflectors    int  // in each plane; 0 is a mesh
	allPlanes     bool // reflectors serve all planes
	addPath       bool
	noRelax       bool
	override      bool // as-override at both tiers
}

// writer is a design in the making.
type writer struct {
	plan
	d     *fabric.Design
	links int
}

func v4(a, b, c, d int) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(a), byte(b), byte(c), byte(d)})
}
func v6(a, b, c, d int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd00:%x:%x:%x::%x", a, b, c, d))
}

func (p plan) design() *fabric.Design {
	w := &writer{plan: p, d: &fabric.Design{APIVersion: fabric.APIVersion, Kind: fabric.KindDesign, Families: []fabric.Family{fabric.IPv4, fabric.IPv6}}}
	w.d.Metadata.Name = fmt.Sprintf("%+v", p)
	everywhere := func(permit bool, within string, min, max int) fabric.FilterRule {
		return fabric.FilterRule{Permit: permit, Within: netip.MustParsePrefix(within), Min: min, Max: max}
	}
	w.d.Filters = []fabric.Filter{
		{Name: "default", Rules: []fabric.FilterRule{everywhere(true, "0.0.0.0/0", 0, 0), everywhere(true, "::/0", 0, 0)}},
		{Name: "specific", Rules: []fabric.FilterRule{everywhere(true, "0.0.0.0/0", 1, 32), everywhere(true, "::/0", 1, 128)}},
		{Name: "all", Rules: []fabric.FilterRule{everywhere(true, "0.0.0.0/0", 0, 32), everywhere(true, "::/0", 0, 128)}},
	}
	add := func(name string, set func(p *fabric.Profile)) {
		prof := fabric.Profile{Name: name}
		set(&prof)
		w.d.Profiles = append(w.d.Profiles, prof)
	}
	add("plain", func(*fabric.Profile) {})
	down := p.model == "down"
	add("host-up", func(x *fabric.Profile) {})
	add("tor-host", func(x *fabric.Profile) {
		x.ReflectorClient = p.model == "rack"
		x.NextHopSelf = fabric.NextHopSelfEBGP
		if p.keepNextHop {
			x.NextHopSelf = fabric.NextHopSelfNone
		}
		if down {
			x.Import, x.Export = "specific", "default"
			if p.override {
				x.Export, x.ASOverride = "all", true
			}
			if p.l2 || p.torDefault {
				x.Default = fabric.AlwaysDefault
			}
		}
	})
	add("tor-spine", func(x *fabric.Profile) {
		if p.roles {
			x.Role = fabric.Customer
		}
		if down {
			x.Export = "specific"
		}
	})
	add("spine-tor", func(x *fabric.Profile) {
		if p.roles {
			x.Role = fabric.Provider
		}
		if down {
			x.Import, x.Export = "specific", "default"
			if p.override {
				x.Export, x.ASOverride = "all", true
			}
			x.Default = fabric.AlwaysDefault
		}
	})
	add("plane", func(x *fabric.Profile) {
		if p.roles {
			x.Role = fabric.PeerPeer
		}
		if down {
			x.NextHopSelf, x.Import = fabric.NextHopSelfAll, "specific"
		}
	})
	add("isl", func(x *fabric.Profile) {
		x.NextHopSelf = fabric.NextHopSelfAll
		if p.isl == "lp90" {
			x.LocalPref = 90
		}
	})
	add("inter-spine", func(x *fabric.Profile) { x.NextHopSelf, x.Import = fabric.NextHopSelfAll, "specific" })
	add("reflector", func(x *fabric.Profile) {
		x.ReflectorClient = true
		if p.addPath {
			x.AddPath = fabric.AddPathBoth
		}
	})
	add("client", func(x *fabric.Profile) {
		if p.addPath {
			x.AddPath = fabric.AddPathBoth
		}
	})
	w.core()
	for r := range p.racks {
		w.rack(r)
	}
	if p.model == "ether" {
		w.ether()
	}
	return w.d
}

// device adds a router; the result is its place.
func (w *writer) device(name string, role fabric.Role, rack string, as uint32, id netip.Addr, soft fabric.Software) int {
	w.d.Devices = append(w.d.Devices, fabric.Device{Name: name, Role: role, Rack: rack, Software: soft, AS: as, RouterID: id,
		Multipath: 64, MultipathRelax: !w.noRelax})
	i := len(w.d.Devices) - 1
	if role != fabric.RoleReflector {
		w.originate(i, fabric.OriginLoopback, id, netip.AddrFrom16(v6(0x31, 0, 0, 0).As16()), i+1, 1)
	}
	return i
}

func (w *writer) originate(i int, kind fabric.OriginKind, a4, a6 netip.Addr, n, count int) {
	b := a6.As16()
	b[12], b[13], b[14], b[15] = byte(n>>16), byte(n>>8), byte(n), 0
	d := &w.d.Devices[i]
	d.Originate = append(d.Originate,
		fabric.Origin{Kind: kind, Prefix: netip.PrefixFrom(a4, 32), Count: count},
		fabric.Origin{Kind: kind, Prefix: netip.PrefixFrom(netip.AddrFrom16(b), 128), Count: count})
}

func (w *writer) plug(i int, seg string, a ...netip.Prefix) {
	d := &w.d.Devices[i]
	d.Interfaces = append(d.Interfaces, fabric.Interface{Name: fmt.Sprint("eth", len(d.Interfaces)), Segment: seg, Addresses: a})
}

// address is that of a device on a segment.
func (w *writer) address(i int, seg string) (list []netip.Addr) {
	for _, f := range w.d.Devices[i].Interfaces {
		if f.Segment == seg {
			for _, a := range f.Addresses {
				list = append(list, a.Addr())
			}
		}
	}
	return list
}

func (w *writer) session(a, b int, seg, profA, profB string) {
	add := func(x, y int, prof string) {
		d := &w.d.Devices[x]
		d.Sessions = append(d.Sessions, fabric.Session{Peer: w.d.Devices[y].Name, Segment: seg, PeerAS: w.d.Devices[y].AS,
			Address: w.address(y, seg), Profile: prof})
	}
	add(a, b, profA)
	add(b, a, profB)
}

// cable connects two devices, with a session.
func (w *writer) cable(a, b int, profA, profB string) {
	n := w.links
	w.links++
	seg := w.d.Devices[a].Name + "~" + w.d.Devices[b].Name
	w.d.Segments = append(w.d.Segments, fabric.Segment{Name: seg, Kind: fabric.Link})
	for side, i := range []int{a, b} {
		w.plug(i, seg, netip.PrefixFrom(v4(172, 21, n>>7, n<<1&0xff|side), 31), netip.PrefixFrom(v6(0x21, n>>16, n&0xffff, side), 127))
	}
	w.session(a, b, seg, profA, profB)
}

func (w *writer) core() {
	p := w.plan
	for i := range p.spines {
		if p.l2 {
			w.d.Segments = append(w.d.Segments, fabric.Segment{Name: fmt.Sprint("plane", i), Kind: fabric.Plane, Switch: fmt.Sprint("spine", i)})
			continue
		}
		as := uint32(64600)
		if !p.sharedSpine {
			as += uint32(i) + 1
		}
		w.device(fmt.Sprint("spine", i), fabric.RoleSpine, "", as, v4(172, 31, 255, i+1), fabric.FRR)
	}
	if p.interSpine {
		for i := range p.spines {
			for j := range i {
				w.cable(j, i, "inter-spine", "inter-spine")
			}
		}
	}
	if p.borderDefault {
		b := w.device("border", fabric.RoleBorder, "", 64999, v4(172, 31, 254, 1), fabric.FRR)
		d := &w.d.Devices[b]
		d.Originate = append(d.Originate,
			fabric.Origin{Kind: fabric.OriginDefault, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Count: 1},
			fabric.Origin{Kind: fabric.OriginDefault, Prefix: netip.MustParsePrefix("::/0"), Count: 1})
		for i := range p.spines {
			w.cable(i, b, "plain", "plain")
		}
	}
	switch {
	case p.model == "ether":
	case p.l2:
		for i := range p.spines {
			m := fabric.Mesh{Name: fmt.Sprint("plane", i), Kind: fabric.MeshEBGP, Segment: fmt.Sprint("plane", i), Profile: "plane"}
			if p.model == "down" {
				m.Kind = fabric.MeshIBGP
			}
			for r := range p.racks {
				for t := range p.tors {
					m.Members = append(m.Members, fmt.Sprintf("t%d.%d", r, t))
				}
			}
			w.d.Meshes = append(w.d.Meshes, m)
		}
	}
}

func (w *writer) rack(r int) {
	p := w.plan
	rack := fmt.Sprint("r", r)
	var tors []int
	torAS, hostAS := uint32(65001+r), uint32(65001+r)
	switch p.model {
	case "down":
		torAS, hostAS = 65000, 64512
	case "server":
		torAS = 4200000000 + uint32(r)*2
	case "ether":
		hostAS = 64512
	}
	if p.model != "ether" {
		for t := range p.tors {
			as := torAS
			if p.model == "server" {
				as += uint32(t)
			}
			i := w.device(fmt.Sprintf("t%d.%d", r, t), fabric.RoleToR, rack, as, v4(172, 31, r, 250+t), fabric.FRR)
			tors = append(tors, i)
			for s := range p.spines {
				if p.l2 {
					w.plug(i, fmt.Sprint("plane", s), netip.PrefixFrom(v4(172, 20, s*8+r>>6, r*4&0xff+t+1), 21), netip.PrefixFrom(v6(0x20, s, 0, r*4+t+1), 64))
				} else {
					w.cable(i, s, "tor-spine", "spine-tor")
				}
			}
			if p.segment {
				seg := fmt.Sprintf("rack%d.%d", r, t)
				w.d.Segments = append(w.d.Segments, fabric.Segment{Name: seg, Kind: fabric.RackSegment, Switch: w.d.Devices[i].Name})
				w.plug(i, seg, netip.PrefixFrom(v4(172, 16, r, t*128+1), 25), netip.PrefixFrom(v6(0x16, r, t, 1), 64))
			}
		}
		if p.isl != "" {
			w.cable(tors[0], tors[1], "isl", "isl")
		}
	}
	for h := range p.hosts {
		as := hostAS
		if p.model == "server" {
			as = 4200100000 + uint32(r*1000+h)
		}
		i := w.device(fmt.Sprintf("s%d.%d", r, h), fabric.RoleServer, rack, as, v4(172, 31, r, h+1), fabric.Muslin)
		w.d.Devices[i].VRouter = &fabric.VRouter{PreferLocal: true, LocalGateway: true, IgnoreLinkDown: true}
		n := (r*p.hosts + h) * 16
		w.originate(i, fabric.OriginEndpoints, v4(10, 65+n>>16, n>>8&0xff, n&0xff), v6(0x64, 0, 0, 0), n+1, p.each)
		for t, tor := range tors {
			if p.segment {
				seg := fmt.Sprintf("rack%d.%d", r, t)
				w.plug(i, seg, netip.PrefixFrom(v4(172, 16, r, t*128+11+h), 25), netip.PrefixFrom(v6(0x16, r, t, 11+h), 64))
				w.session(i, tor, seg, "host-up", "tor-host")
			} else {
				w.cable(i, tor, "host-up", "tor-host")
			}
		}
		if p.model == "ether" {
			for s := range p.spines {
				w.plug(i, fmt.Sprint("plane", s), netip.PrefixFrom(v4(172, 20, s*8+r>>2, r<<6&0xff+h+1), 21), netip.PrefixFrom(v6(0x20, s, r, h+1), 48))
			}
		}
	}
}

// ether adds the sessions of an Ethernet fabric.
func (w *writer) ether() {
	p := w.plan
	var hosts []int
	for i := range w.d.Devices {
		hosts = append(hosts, i)
	}
	if p.reflectors == 0 {
		for s := range p.spines {
			m := fabric.Mesh{Name: fmt.Sprint("plane", s), Kind: fabric.MeshIBGP, Segment: fmt.Sprint("plane", s), Profile: "client"}
			for _, h := range hosts {
				m.Members = append(m.Members, w.d.Devices[h].Name)
			}
			w.d.Meshes = append(w.d.Meshes, m)
		}
		return
	}
	planes := make([][]int, p.spines) // reflectors of each
	for s := range p.spines {
		if p.allPlanes && s > 0 {
			planes[s] = planes[0]
			continue
		}
		for k := range p.reflectors {
			planes[s] = append(planes[s], w.device(fmt.Sprintf("rr%d.%d", s, k), fabric.RoleReflector, "", 64512, v4(172, 31, 253, s*8+k+1), fabric.BIRD))
		}
	}
	for s, list := range planes {
		seg := fmt.Sprint("plane", s)
		for _, rr := range list {
			n := int(w.d.Devices[rr].RouterID.As4()[3])
			w.plug(rr, seg, netip.PrefixFrom(v4(172, 20, s*8+7, 200+n), 21), netip.PrefixFrom(v6(0x20, s, 0xffff, n), 48))
		}
		for k, rr := range list {
			for _, other := range list[:k] {
				if !p.addPath && (!p.allPlanes || s == 0) { // with ADD-PATH each would repeat all of the other's paths
					w.session(other, rr, seg, "client", "client")
				}
			}
			for _, h := range hosts {
				w.session(h, rr, seg, "client", "reflector")
			}
		}
	}
}

// onlyEndpoints leaves out what devices announce of themselves.
func onlyEndpoints(d *fabric.Design) {
	for i := range d.Devices {
		x := &d.Devices[i]
		x.Originate = slices.DeleteFunc(x.Originate, func(o fabric.Origin) bool { return o.Kind == fabric.OriginLoopback })
	}
}
