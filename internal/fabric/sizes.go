// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"fmt"
	"slices"
)

// Size is what a device of a healthy fabric holds for one family.
type Size struct {
	Device  string `json:"device"`  // the first of them
	Devices int    `json:"devices"` // that hold as much
	Role    Role   `json:"role"`
	Peers   int    `json:"peers"`
	// Paths to endpoints in the RIB, those of the device itself among them.
	Paths int `json:"paths"`
	// UpTo: tie-breaks by router ID or age decide, and Paths is the most there
	// can be.
	UpTo bool `json:"upTo,omitempty"`
	// Routes to endpoints in the forwarding table, host routes or blocks.
	Routes int `json:"routes"`
	Hosts  int `json:"hosts"` // of Routes, those to single addresses
	Other  int `json:"other"` // routes to routers and subnets, and the default route
	// Neighbours that the device resolves.
	Neighbours int `json:"neighbours"`
	// Memory of FRR's bgpd for the paths, extrapolated.
	Memory Bytes `json:"memory"`
}

// Sizes is what the devices of a design hold for one family.
type Sizes struct {
	Family  Family `json:"family"`
	Devices []Size `json:"devices"`
	// Updates are the UPDATE messages in all of the fabric for one endpoint
	// that comes or goes.
	Updates int `json:"updates"`
}

// bgpd of FRR, measured: at rest, for each prefix, and for each path of it.
const (
	bgpdIdle   = 15e6
	bgpdPrefix = 270
	bgpdPath   = 410
)

// counts is what the closed formulas for the models are made of.
type counts struct {
	x         *Index
	family    Family
	all       int            // endpoint routes
	blocks    bool           // of which are not one for each endpoint
	own       map[string]int // of them, by server
	rack      map[string]int // by rack, as its ToRs announce them
	inside    map[string]int // by rack, as its servers do
	tors      map[string]int // by rack
	loopbacks map[string]int // of servers, by rack
	racks     int
	torCount  int
	other     int // prefixes of routers and subnets
	spines    int
	planes    int
	defaults  bool
	reflector int  // that serve a client on one plane
	serves    int  // planes that a reflector serves
	oneWay    bool // machines without BGP in racks with two ToRs
	moved     int  // endpoints that left their blocks, as many as a ToR may know
}

// Sizes computes what each device holds, by the closed formulas for the model
// that the design is made after. A design after no model, or edited by hand, has none: ok is false.
func (x *Index) Sizes(family Family) (s Sizes, ok bool) {
	if !x.byFormula() {
		return s, false
	}
	c := x.counts(family)
	s.Family = family
	seen := map[Size]int{}
	for i := range x.Devices {
		d := &x.Devices[i]
		z := c.size(d)
		if at, same := seen[z]; same {
			s.Devices[at].Devices++
			continue
		}
		seen[z] = len(s.Devices)
		z.Device, z.Devices = d.Name, 1
		s.Devices = append(s.Devices, z)
	}
	s.Updates = c.updates()
	return s, true
}

// byFormula tells whether the closed formulas of a model hold for the design.
func (x *Index) byFormula() bool { return x.Model != "" && !x.Edited }

func (x *Index) counts(family Family) *counts {
	c := &counts{x: x, family: family, own: map[string]int{}, rack: map[string]int{}, inside: map[string]int{}, tors: map[string]int{}, loopbacks: map[string]int{}}
	c.moved = x.Exceptions()
	blocks := map[string]int{}
	for i := range x.Devices {
		d := &x.Devices[i]
		switch d.Role {
		case RoleSpine:
			c.spines++
		case RoleToR:
			c.tors[d.Rack]++
			c.torCount++
		case RoleReflector:
			c.serves = c.x.PlanesOf(d)
		}
		for _, o := range d.Originate {
			if FamilyOf(o.Prefix.Addr()) != family {
				continue
			}
			c.blocks = c.blocks || o.Kind == OriginBlock || o.Kind == OriginRack
			if o.Kind == OriginLoopback && d.Role != RoleToR {
				c.loopbacks[d.Rack] += o.Count
			}
			switch o.Kind {
			case OriginEndpoints, OriginBlock, OriginAnycast, OriginMoved, OriginStatic:
				c.own[d.Name] += o.Count
				c.inside[d.Rack] += o.Count
			case OriginRack:
				blocks[d.Rack] = o.Count
			case OriginDefault:
				c.defaults = true
			default:
				c.other += o.Count
			}
		}
	}
	for rack, n := range c.inside {
		c.rack[rack] = n
		if b, ok := blocks[rack]; ok {
			c.rack[rack] = b
		}
		c.all += c.rack[rack]
	}
	c.racks = len(c.inside)
	for i := range x.Devices {
		d := &x.Devices[i]
		c.oneWay = c.oneWay || len(d.Static) > 0 && c.tors[d.Rack] > 1
	}
	c.planes = x.Planes()
	c.reflector = c.reflectors()
	return c
}

// reflectors is from how many reflectors a server hears of each plane, or of
// its rack, if not from its ToR: from how many the first one does on its first port.
func (c *counts) reflectors() (n int) {
	first := slices.IndexFunc(c.x.Devices, func(d Device) bool { return d.Role == RoleServer })
	if first < 0 {
		return 0
	}
	d := &c.x.Devices[first]
	port := slices.IndexFunc(d.Interfaces, func(i Interface) bool { return i.Segment != "" })
	if port < 0 {
		return 0
	}
	for _, s := range d.Sessions {
		if s.Segment == d.Interfaces[port].Segment && c.x.Device(s.Peer).Role == RoleReflector {
			n++
		}
	}
	return n
}

// remote is the sum over racks but one of what a path count is for each.
func (c *counts) remote(but string, paths func(rack string) int) int {
	n := 0
	for rack := range c.rack {
		if rack != but {
			n += c.rack[rack] * paths(rack)
		}
	}
	return n
}

func (c *counts) size(d *Device) Size {
	z := Size{Role: d.Role, Peers: c.x.Peers(d), Neighbours: c.x.NeighboursOf(d)}
	prefixes := c.all
	switch {
	case d.Role == RoleServer, d.Role == RoleMachine:
		prefixes = c.server(d, &z)
	case d.Role == RoleToR:
		prefixes = c.tor(d, &z)
	case d.Role == RoleSpine:
		c.spine(d, &z)
	case d.Role == RoleBorder:
		z.Routes, z.Other = c.all, c.other
		z.Paths, z.UpTo = c.all*len(d.Sessions), true
	case d.Role == RoleReflector && c.x.Model == Ethernet:
		z.Paths = c.all * c.reflector
		if placed := c.x.PlanesOf(d); placed > 1 {
			z.Paths = c.all * c.passedOn(placed)
		}
	case d.Role == RoleReflector:
		z.Paths, z.UpTo = c.all*2, true
	}
	if c.oneWay { // what one ToR of two announces is counted as if both did
		z.UpTo = true
	}
	switch {
	case !c.blocks:
		z.Hosts = z.Routes
	case d.Role == RoleServer, d.Role == RoleToR:
		z.Hosts = c.moved
	}
	z.Memory = MemoryOf(prefixes, z.Paths)
	return z
}

// passedOn is how many paths of a prefix a reflector has that serves several
// planes: those of the client, and on each plane what the others pass on.
func (c *counts) passedOn(planes int) int {
	from := 1
	if c.addPath() {
		from = planes
	}
	return planes + (c.reflector-1)*planes*from
}

// server fills in a server, and returns how many prefixes it knows.
func (c *counts) server(d *Device, z *Size) int {
	own, up := c.own[d.Name], c.tors[d.Rack]
	if c.x.Model == DownwardDefault {
		z.Paths, z.Routes, z.Other = own+up*(1+c.moved), c.moved, 1
		return own + c.moved + 1
	}
	// In its rack a server hears of each server's routes, of other racks what
	// their ToRs announce.
	remote := c.inside[d.Rack] - own + c.all - c.rack[d.Rack]
	z.Routes, z.Other = remote, c.other
	switch {
	case c.x.Model == Ethernet && c.reflector == 0:
		up = c.planes
	case c.x.Model == Ethernet:
		up = c.planes * c.reflector
		if c.addPath() && c.serves > 1 {
			up *= c.passedOn(c.planes)
		}
	case c.reflector > 0 || c.rackReflectorsOnServers():
		up, z.UpTo = 2, true
	}
	z.Paths = own + remote*up
	return own + remote
}

// tor fills in a ToR.
func (c *counts) tor(d *Device, z *Size) int {
	n := c.inside[d.Rack]
	if c.x.Model == DownwardDefault && c.spines > 0 {
		z.Paths, z.Routes = n+c.spines*(1+c.moved), n+c.moved
		z.Other = 1 + c.loopbacks[d.Rack]
		return n + c.moved + 1
	}
	z.Routes, z.Other = n+c.all-c.rack[d.Rack], c.other
	switch {
	case c.spines > 0:
		z.Paths = n + c.remote(d.Rack, func(string) int { return c.spines })
		if c.twinTells(d) { // by way of the spines
			z.Paths, z.UpTo = z.Paths+n*c.spines, true
		}
	case c.transit():
		others := c.torCount - c.tors[d.Rack]
		if c.twinTells(d) {
			others = c.torCount - 1
			z.Paths, z.UpTo = n*others*c.planes, true
		}
		z.Paths += n + c.remote(d.Rack, func(string) int { return others * c.planes })
	default:
		z.Paths = n + c.remote(d.Rack, func(r string) int { return c.tors[r] * c.planes })
		if c.twinTells(d) {
			z.Paths += n * c.planes
		}
	}
	if c.x.Model == ASPerRack && (c.reflector > 0 || c.rackReflectorsOnServers()) {
		z.Paths += n - c.own[d.Name] // from either of the rack's reflectors
	}
	for j := range d.Sessions {
		if p := c.x.Device(d.Sessions[j].Peer); p.Role == RoleToR { // the link between the two of a rack
			z.Paths, z.UpTo = z.Paths+z.Routes, true
		}
	}
	return z.Routes
}

// spine fills in a spine.
func (c *counts) spine(d *Device, z *Size) {
	z.Routes, z.Other = c.all, c.other
	z.Paths = c.remote("", func(r string) int { return c.tors[r] })
	for j := range d.Sessions {
		if p := c.x.Device(d.Sessions[j].Peer); p.Role == RoleSpine {
			z.Paths += c.all // what each other spine selects
		}
	}
	if c.uniqueSpines() && c.x.Model != DownwardDefault && !c.roles() {
		// Each ToR tells of what it learned from its best spine: the others
		// hear of every route from every ToR.
		z.Paths, z.UpTo = c.all*c.torCount, true
	}
}

// updates counts the messages for one endpoint: those up, those between ToRs
// and those down again. What reflectors tell each other and pass on in a rack, and what machines are told, is not counted.
func (c *counts) updates() int {
	var racks, servers, tors int
	for i := range c.x.Devices {
		if c.x.Devices[i].Role == RoleServer {
			servers++
		}
	}
	racks = max(1, c.racks)
	tors = max(1, c.torCount/racks)
	inRack := servers / racks
	others := c.torCount - tors
	hear, retold := others, others-tors // who hears of a ToR, and on planes of what others tell: none in its AS
	if c.x.Model != ASPerRack {
		hear, retold = c.torCount-1, c.torCount-2
	}
	top := tors * c.spines
	switch {
	case c.x.Model == Ethernet && c.reflector == 0:
		return (servers - 1) * c.planes
	case c.x.Model == Ethernet:
		return servers * c.planes * c.reflector
	case c.x.Model == DownwardDefault && c.spines == 0:
		return tors + tors*hear*c.planes
	case c.x.Model == DownwardDefault:
		n := tors + top
		if c.interSpine() {
			n += c.spines * (c.spines - 1)
		}
		return n
	}
	n := tors + tors*(inRack-1) + others*inRack
	switch {
	case c.spines == 0 && c.transit():
		return n + tors*hear*c.planes + others*retold*c.planes
	case c.spines == 0:
		return n + tors*hear*c.planes
	case c.uniqueSpines() && !c.roles():
		return n + top + c.spines*others + others*(c.spines-1)
	}
	return n + top + c.spines*hear
}

// What a design is, as its sessions show.

func (c *counts) uniqueSpines() bool {
	first := uint32(0)
	for i := range c.x.Devices {
		if d := &c.x.Devices[i]; d.Role == RoleSpine {
			if first != 0 && d.AS != first {
				return true
			}
			first = d.AS
		}
	}
	return false
}

// roles tells whether ToRs are kept from carrying routes between what is above
// them (RFC 9234).
func (c *counts) roles() bool {
	for i := range c.x.Profiles {
		if p := &c.x.Profiles[i]; p.Name == torSpine || p.Name == torTor {
			return p.Role != ""
		}
	}
	return false
}

// transit tells whether ToRs on planes tell each other of the others' routes.
func (c *counts) transit() bool {
	for i := range c.x.Meshes {
		if m := &c.x.Meshes[i]; c.x.Segment(m.Segment).Kind == Plane {
			return m.Kind == MeshEBGP && !c.roles()
		}
	}
	return false
}

// twinTells tells whether there is another ToR in the rack, from which a ToR takes what both have from their servers.
// Where they and the servers are one AS, it refuses that.
func (c *counts) twinTells(d *Device) bool { return c.tors[d.Rack] > 1 && c.x.Model != ASPerRack }

func (c *counts) interSpine() bool { return c.x.Profile(spineSpine) != nil }

func (c *counts) addPath() bool {
	p := c.x.Profile(reflectorClient)
	return p != nil && p.AddPath != AddPathNone
}

// rackReflectorsOnServers tells whether servers of a rack reflect.
func (c *counts) rackReflectorsOnServers() bool {
	return c.x.Model == ASPerRack && c.x.Profile(reflectorClient) != nil
}

// NeighboursOf counts who is on a device's segments.
func (x *Index) NeighboursOf(d *Device) int {
	n := 0
	for _, i := range d.Interfaces {
		if i.Segment != "" {
			n += len(x.On(i.Segment)) - 1
		}
	}
	return n
}

// Alike is, of each device, the first on the same platform that holds as much in every family. A design after no model has none.
func (x *Index) Alike() map[string]string {
	of := map[string]string{}
	if !x.byFormula() {
		return of
	}
	var all []*counts
	for _, family := range x.Families {
		all = append(all, x.counts(family))
	}
	first := map[string]string{}
	for i := range x.Devices {
		d, key := &x.Devices[i], x.Devices[i].Platform
		for _, c := range all {
			key += fmt.Sprint(c.size(d))
		}
		if first[key] == "" {
			first[key] = d.Name
		}
		of[d.Name] = first[key]
	}
	return of
}

// Entries is what devices of a size put into hardware, for all families.
type Entries struct {
	Size            // of the first family; Paths, Routes and the like are of all together
	Platform string `json:"platform,omitempty"`
	Table    Table  `json:"table,omitempty"`  // where single addresses are, if that is known
	Used     int    `json:"used"`             // entries of it; a route of IPv6 takes two
	Holds    Count  `json:"holds,omitempty"`  // 0: not known
	Strays   int    `json:"strays,omitempty"` // of Used, endpoints that may be outside of their blocks
	Grown    int    `json:"grown,omitempty"`  // Used, when the growth is over
	// LPM are routes to blocks, in a table of prefixes beside that of hosts, which LPMHolds are the entries of.
	LPM      int   `json:"lpm,omitempty"`
	LPMHolds Count `json:"lpmHolds,omitempty"`
	RAM      Bytes `json:"ram,omitempty"`
}

// Entries are the sizes of a design as its hardware sees them. ok is false for
// a design after no model.
func (x *Index) Entries() (list []Entries, updates int, ok bool) {
	if !x.byFormula() {
		return nil, 0, false
	}
	var all []*counts
	for _, family := range x.Families {
		c := x.counts(family)
		all = append(all, c)
		updates = max(updates, c.updates())
	}
	return x.Enter(x.Alike(), func(n int, d *Device) (Size, int) { return all[n].size(d), all[n].strays(d) }), updates, true
}

// Enter makes sizes entries: size is what a device holds of the n-th family of the design, and how many endpoints outside
// of their blocks come to that. Of devices that are alike the first is asked.
func (x *Index) Enter(alike map[string]string, size func(n int, d *Device) (z Size, strays int)) (list []Entries) {
	at := map[string]int{}
	for i := range x.Devices {
		d := &x.Devices[i]
		if of := alike[d.Name]; of != d.Name {
			list[at[of]].Devices++
			continue
		}
		at[d.Name] = len(list)
		e := Entries{Size: Size{Device: d.Name, Devices: 1, Role: d.Role, Memory: bgpdIdle}, Platform: d.Platform}
		if p := x.Platform(d.Platform); p != nil {
			e.Table, e.RAM = p.HostRoutesIn, p.RAM
			if e.Table == "" && p.LPMTable == 0 && p.HostTable > 0 {
				e.Table = HostTable // the only one that is known
			}
			e.Holds = p.LPMTable
			if p.URPF { // the check takes the other half
				e.Holds /= 2
			}
			if e.Table == HostTable {
				e.Holds, e.LPMHolds = p.HostTable, e.Holds
			}
		}
		for n, family := range x.Families {
			z, strays := size(n, d)
			e.add(z, strays, family, x.Growth, n == 0)
		}
		list = append(list, e)
	}
	return list
}

// MemoryOf is what FRR's bgpd takes for so many prefixes and paths.
func MemoryOf(prefixes, paths int) Bytes {
	return Bytes(bgpdIdle + bgpdPrefix*prefixes + bgpdPath*paths)
}

// strays is to how many endpoints outside of their blocks a device has routes, if there are as many as may be: all,
// but under Downward Default servers to none, and ToRs to those in their rack, which are taken to be evenly spread.
func (c *counts) strays(d *Device) int {
	switch {
	case c.x.Model != DownwardDefault || d.Role == RoleSpine || d.Role == RoleBorder:
		return c.x.Strays
	case d.Role == RoleServer:
		return 0
	case c.spines > 0:
		return (c.x.Strays + c.racks - 1) / max(1, c.racks)
	}
	return c.x.Strays
}

// add adds what the device holds of a family.
func (e *Entries) add(z Size, strays int, family Family, growth Growth, first bool) {
	weight := 1
	if family == IPv6 {
		weight = 2
	}
	if first {
		e.Peers, e.Neighbours = z.Peers, z.Neighbours
	}
	e.UpTo = e.UpTo || z.UpTo
	e.Paths, e.Routes, e.Hosts, e.Other = e.Paths+z.Paths, e.Routes+z.Routes, e.Hosts+z.Hosts, e.Other+z.Other
	e.Memory += z.Memory - bgpdIdle
	e.Strays += strays
	hosts, other := z.Hosts+strays, z.Other+z.Routes-z.Hosts
	if e.Table == HostTable {
		// Neighbours are in the table of hosts, and subnets and blocks
		// are not. Loopbacks count as hosts; subnets are few.
		other = z.Other + z.Neighbours
		e.LPM += weight * (z.Routes - z.Hosts)
	}
	e.Used += weight * (hosts + other)
	e.Grown += weight * (growth.of(hosts) + other)
}
