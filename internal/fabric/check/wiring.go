// SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

func routerID(s *subject) {
	seen := map[netip.Addr]*fabric.Device{}
	for i := range s.Devices {
		d := &s.Devices[i]
		if first := seen[d.RouterID]; first != nil {
			s.report(fmt.Sprintf("router ID %s is used by %s and %s", d.RouterID, first.Name, d.Name), []string{first.Name, d.Name}, "bgp router-id, of its own on each: the loopback's address")
			continue
		}
		seen[d.RouterID] = d
	}
}

func twice(s *subject) {
	type place struct{ device, segment string }
	seen := map[netip.Addr]place{}
	for i := range s.Devices {
		d := &s.Devices[i]
		for _, x := range d.Interfaces {
			for _, a := range x.Addresses {
				if was, ok := seen[a.Addr()]; ok {
					s.report(fmt.Sprintf("%s is on %s and on %s", a.Addr(), was.device, d.Name), []string{was.device, d.Name}, "give each interface an address of its own")
					continue
				}
				seen[a.Addr()] = place{d.Name, x.Segment}
			}
		}
	}
	s.endpointTwice()
	at := slices.SortedFunc(maps.Keys(seen), netip.Addr.Compare)
	for i := range s.Devices {
		d := &s.Devices[i]
		for _, o := range d.Originate {
			if o.Kind != fabric.OriginEndpoints && o.Kind != fabric.OriginAnycast {
				continue
			}
			first := o.Prefix.Masked().Addr()
			for n, _ := slices.BinarySearchFunc(at, first, netip.Addr.Compare); n < len(at) && at[n].Compare(o.Last()) <= 0 && at[n].Is4() == first.Is4(); n++ {
				if was := seen[at[n]]; was.device != d.Name {
					s.report(fmt.Sprintf("%s is on %s, and an endpoint of %s", at[n], was.device, d.Name), []string{was.device, d.Name}, "give each interface and endpoint an address of its own")
				}
			}
		}
	}
	type subnet struct {
		net  netip.Prefix
		name string
	}
	var all []subnet
	for _, x := range s.Segments {
		for _, n := range x.Subnets {
			all = append(all, subnet{n, x.Name})
		}
	}
	slices.SortStableFunc(all, func(a, b subnet) int { return a.net.Addr().Compare(b.net.Addr()) })
	for i := 1; i < len(all); i++ {
		if a, b := all[i-1], all[i]; a.net.Overlaps(b.net) {
			s.report(fmt.Sprintf("%s of %s overlaps %s of %s", b.net, b.name, a.net, a.name), nil, "give each segment a subnet of its own")
		}
	}
}

// endpointTwice finds endpoints of two devices that are no anycast address: runs of prefixes that overlap.
func (s *subject) endpointTwice() {
	type run struct {
		first, last netip.Addr
		device      string
	}
	var all []run
	for i := range s.Devices {
		for _, o := range s.Devices[i].Originate {
			if o.Kind == fabric.OriginEndpoints || o.Kind == fabric.OriginBlock || o.Kind == fabric.OriginStatic {
				all = append(all, run{o.Prefix.Masked().Addr(), o.Last(), s.Devices[i].Name})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b run) int { return a.first.Compare(b.first) })
	for i := 1; i < len(all); i++ {
		if a, b := all[i-1], &all[i]; b.first.Compare(a.last) <= 0 && a.first.Is4() == b.first.Is4() {
			if a.device != b.device { // a machine's prefix may lie in one of its own
				s.report(fmt.Sprintf("%s is an endpoint of %s and of %s", b.first, a.device, b.device), []string{a.device, b.device}, "give each its own, or announce it as anycast on all that have it")
			}
			if b.last.Less(a.last) {
				b.last = a.last
			}
		}
	}
}

func sharedPlane(s *subject) {
	seen := map[string]string{}
	for i := range s.Segments {
		x := &s.Segments[i]
		if x.Kind != fabric.Plane || x.Switch == "" {
			continue
		}
		if first := seen[x.Switch]; first != "" {
			s.report(fmt.Sprintf("%s and %s share an Ethernet, that of %s", first, x.Name, x.Switch), []string{x.Switch}, "a switch of its own for each plane")
			continue
		}
		seen[x.Switch] = x.Name
	}
}

func poolOverlap(s *subject) {
	check := func(net netip.Prefix, of string) {
		for _, p := range s.Pools {
			if p.CIDR.Overlaps(net) {
				s.report(fmt.Sprintf("endpoint pool %s overlaps %s of %s", p.CIDR, net, of), nil, "give endpoints addresses of their own")
			}
		}
	}
	for i := range s.Segments {
		for _, n := range s.Segments[i].Subnets {
			check(n, s.Segments[i].Name)
		}
	}
	for i := range s.Devices {
		for _, x := range s.Devices[i].Interfaces {
			if x.Segment == "" {
				for _, a := range x.Addresses {
					host := netip.PrefixFrom(a.Addr(), a.Addr().BitLen())
					if !isOwn(&s.Devices[i], host) {
						check(host, s.Devices[i].Name)
					}
				}
			}
		}
	}
}

// isOwn tells whether an address is an endpoint of the device that has it: of a machine.
func isOwn(d *fabric.Device, p netip.Prefix) bool {
	for _, o := range d.Originate {
		for x := range o.Each() {
			if o.Kind == fabric.OriginEndpoints && d.Role == fabric.RoleMachine && x == p {
				return true
			}
		}
	}
	return false
}

// missingSpine: FAB-PHY-001, of ToRs below spines, and of whoever is on planes.
func missingSpine(s *subject) {
	s.missingPlane()
	var spines []string
	s.ofRole(fabric.RoleSpine, func(d *fabric.Device) { spines = append(spines, d.Name) })
	s.ofRole(fabric.RoleToR, func(d *fabric.Device) {
		above := map[string]bool{}
		for j := range d.Sessions {
			above[d.Sessions[j].Peer] = true
		}
		for _, name := range spines {
			if !above[name] {
				s.report(fmt.Sprintf("%s is not connected to %s: %d %% less, and its routes differ from other racks'", d.Name, name, 100/len(spines)), []string{d.Name, name},
					fmt.Sprintf("add the link and the session %s–%s", d.Name, name))
			}
		}
	})
}

// missingPlane finds ToRs, or servers where those are on planes, that are on some and not on all.
func (s *subject) missingPlane() {
	var planes []string
	on := map[string]map[fabric.Role]bool{}
	for i := range s.Segments {
		if x := &s.Segments[i]; x.Kind == fabric.Plane {
			planes = append(planes, x.Name)
			on[x.Name] = map[fabric.Role]bool{}
			for _, at := range s.On(x.Name) {
				on[x.Name][at.Device.Role] = true
			}
		}
	}
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.Role != fabric.RoleToR && d.Role != fabric.RoleServer {
			continue
		}
		var missing []string
		for _, name := range planes {
			if on[name][d.Role] && d.Interface(name) == nil {
				missing = append(missing, name)
			}
		}
		if len(missing) < len(planes) || d.Role == fabric.RoleToR {
			for _, name := range missing {
				s.report(fmt.Sprintf("%s is not connected to %s: %d %% less, and its routes differ from those of others", d.Name, name, 100/len(planes)), []string{d.Name},
					fmt.Sprintf("add the port and the sessions of %s on %s", d.Name, name))
			}
		}
	}
}

func spineCount(s *subject) {
	n, what := 0, "spine"
	s.ofRole(fabric.RoleSpine, func(*fabric.Device) { n++ })
	if n == 0 {
		n, what = s.Planes(), "plane"
	}
	if n == 1 || n > 16 {
		s.report(fmt.Sprintf("%d %s%s", n, what, verb(n, "", "s")), nil, "spine: {count: 2}     # to 16")
	}
}

// oneOfTwo: FAB-PHY-003. Under Downward Default the other ToR has a default route, which leads there.
func oneOfTwo(s *subject) {
	tors := map[string][]*fabric.Device{}
	s.ofRole(fabric.RoleToR, func(d *fabric.Device) { tors[d.Rack] = append(tors[d.Rack], d) })
	single := map[string][]string{} // devices by their only ToR
	for i := range s.Devices {
		d := &s.Devices[i]
		for _, r := range d.Static { // machines without BGP
			if list := single[d.Name]; d.Role == fabric.RoleToR && r.Machine != "" && !slices.Contains(list, r.Machine) {
				single[d.Name] = append(list, r.Machine)
			}
		}
		if d.Role != fabric.RoleServer && d.Role != fabric.RoleMachine || len(tors[d.Rack]) != 2 {
			continue
		}
		above := map[string]bool{}
		for j := range d.Sessions {
			if p := s.Device(d.Sessions[j].Peer); p.Role == fabric.RoleToR {
				above[p.Name] = true
			}
		}
		if len(above) == 1 {
			for name := range above {
				single[name] = append(single[name], d.Name)
			}
		}
	}
	for _, rack := range slices.Sorted(maps.Keys(tors)) {
		pair := tors[rack]
		if len(pair) != 2 || pair[0].AS != pair[1].AS {
			continue
		}
		talk := false
		for j := range pair[0].Sessions {
			talk = talk || pair[0].Sessions[j].Peer == pair[1].Name
		}
		for i, d := range pair {
			if list := single[d.Name]; len(list) > 0 && !talk {
				other := pair[1-i].Name
				if list = slices.DeleteFunc(list, func(name string) bool { return s.arrives(other, d, name) }); len(list) == 0 {
					continue
				}
				s.report(fmt.Sprintf("rack %s: %s and %s share AS %d and do not speak with each other, and %s %s on %s only: %s cannot reach it", rack, pair[0].Name, pair[1].Name,
					d.AS, names(list), verb(len(list), "is", "are"), d.Name, other), append([]string{other}, list...), "tors: {isl: true}", "or attach the device to both ToRs")
			}
		}
	}
}

// arrives tells whether what a ToR sends to a device, or to a machine that another ToR has routes to, gets there.
func (s *subject) arrives(from string, tor *fabric.Device, to string) bool {
	for i := range s.simulated {
		x := &s.simulated[i]
		if x.err != nil {
			return false
		}
		a, ok := x.sim.Endpoint(to)
		for _, r := range tor.Static {
			if r.Machine == to && fabric.FamilyOf(r.Prefix.Addr()) == x.family {
				a, ok = r.Prefix.Addr(), true
			}
		}
		if !ok {
			continue
		}
		if p, err := x.sim.Path(from, a, sim.Failure{}); err != nil || p.Lost > 0 {
			return false
		}
	}
	return len(s.simulated) > 0
}

// usualMTU is that of Ethernet, of a segment that says none.
const usualMTU = 1500

func mtu(s *subject) {
	by := map[int]string{}
	for i := range s.Segments {
		if x := &s.Segments[i]; by[cmp.Or(x.MTU, usualMTU)] == "" {
			by[cmp.Or(x.MTU, usualMTU)] = x.Name
		}
	}
	if len(by) < 2 {
		return
	}
	text := ""
	for _, size := range slices.Sorted(maps.Keys(by)) {
		text += fmt.Sprintf(", %d on %s", size, by[size])
	}
	s.report("MTU "+text[2:], nil, "one MTU for the whole fabric")
}

func oneToR(s *subject) {
	tors := s.torsIn()
	var list []string
	s.ofRole(fabric.RoleServer, func(d *fabric.Device) {
		if tors[d.Rack] == 1 {
			list = append(list, d.Name)
		}
	})
	if len(list) > 0 {
		s.report(fmt.Sprintf("%s servers have one ToR: when it fails, their rack is off", fabric.Number(len(list))), list)
	}
}

func strays(s *subject) {
	var n, endpoints int
	var list []string
	for i := range s.Devices {
		for _, o := range s.Devices[i].Originate {
			if o.Kind == fabric.OriginBlock {
				n++
				endpoints += o.Endpoints
				if len(list) == 0 || list[len(list)-1] != s.Devices[i].Name {
					list = append(list, s.Devices[i].Name)
				}
			}
		}
	}
	if n > 0 && s.Strays == 0 {
		s.report(fmt.Sprintf("%s routes stand for %s endpoints; each endpoint that moves out of its block is one more, and none is planned for", fabric.Number(n), fabric.Number(endpoints)), list,
			fmt.Sprintf("endpoints: {strays: %d}     # as many as may be outside of their blocks: tables are checked with them", max(1, endpoints/100)),
			"endpoints: {announce: one-by-one}     # or this")
	}
}

func urpf(s *subject) {
	for i := range s.Platforms {
		if p := &s.Platforms[i]; p.URPF && p.LPMTable > 0 {
			s.report(fmt.Sprintf("strict uRPF on %s: %s of %s LPM entries are left", p.Name, fabric.Number(int(p.LPMTable)/2), fabric.Number(int(p.LPMTable))), nil,
				"check sources on the servers, which Muslin does, and not on the switch")
		}
	}
}

// kernelNeighbours is gc_thresh3 of Linux, unless it is changed.
const kernelNeighbours = 1024

// neighbours: FAB-CAP-007. The kernel has one table of them for all ports, in each family.
func neighbours(s *subject) {
	var t tally
	for i := range s.Devices {
		d := &s.Devices[i]
		n, ports := s.NeighboursOf(d), 0
		for _, x := range d.Interfaces {
			if x.Segment != "" {
				ports++
			}
		}
		if n > kernelNeighbours && !s.inSilicon(d) {
			var fix []string
			for _, f := range s.Families {
				fix = append(fix, fmt.Sprintf("sysctl -w net.%s.neigh.default.gc_thresh3=%d", f, 4*n))
			}
			t.add(fmt.Sprintf("%s neighbours on %s", fabric.Number(n), fabric.Amount(ports, "port")), d.Name, "", fix...)
		}
	}
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("%s: %s; Linux keeps %s", names(c.devices), key, fabric.Number(kernelNeighbours))
	})
}

// inSilicon tells whether a device is of a platform whose tables are known.
func (s *subject) inSilicon(d *fabric.Device) bool {
	p := s.Platform(d.Platform)
	return p != nil && (p.HostTable > 0 || p.LPMTable > 0)
}

// polarised: FAB-WI-005. A spine has equal ways where a rack has two ToRs, and gets from a
// ToR what that one's hash chose among spines.
func polarised(s *subject) {
	inRack := s.torsIn()
	var t tally
	s.ofRole(fabric.RoleSpine, func(d *fabric.Device) {
		own := s.Platform(d.Platform)
		if own == nil || own.Hash == "" || d.Multipath < 2 {
			return
		}
		for j := range d.Sessions {
			tor := s.Device(d.Sessions[j].Peer)
			below := s.Platform(tor.Platform)
			if tor.Role == fabric.RoleToR && inRack[tor.Rack] > 1 && tor.Multipath > 1 && below != nil && below.Hash == own.Hash {
				t.add(own.Hash, d.Name, tor.Name+" and "+d.Name+" hash by "+own.Hash, "another seed or other inputs of the hash on spines than on ToRs")
				return
			}
		}
	})
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("%s hash%s by %s, as ToRs below do: what a ToR sends takes one of two ways to a rack", names(c.devices), verb(len(c.devices), "es", ""), key)
	})
}

// ecmpWidth: FAB-CAP-009. How wide groups are is simulated, or, without that, taken to be the ways up.
func ecmpWidth(s *subject) {
	var t tally
	for i := range s.Devices {
		d := &s.Devices[i]
		p := s.Platform(d.Platform)
		if p == nil || p.ECMP == 0 {
			continue
		}
		if wide := s.widest(d); wide > int(p.ECMP) {
			t.add(fmt.Sprintf("%d-way groups, %d are needed", p.ECMP, wide), d.Name, "", "fewer spines, or other silicon")
		}
	}
	t.report(s, func(key string, c *sameCase) string { return "hardware ECMP of " + names(c.devices) + ": " + key })
}

// widest is how many next hops the widest group of a device has.
func (s *subject) widest(d *fabric.Device) (n int) {
	known := len(s.simulated) > 0
	for i := range s.simulated {
		if s.simulated[i].tables == nil {
			known = false
			break
		}
		row, _ := s.simulated[i].tables.Of(d.Name)
		n = max(n, row.Width)
	}
	if known {
		return n
	}
	n = 0
	for j := range d.Sessions {
		if d.Role == fabric.RoleToR && s.Device(d.Sessions[j].Peer).Role == fabric.RoleSpine {
			n++
		}
	}
	return n
}
