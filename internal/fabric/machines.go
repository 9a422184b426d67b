// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// A machine has the place of a server in the plan of its rack, counted from the
// end: its loopback, its address on the segment or its link to a ToR, its AS number and
// its addresses are those that a server in this place would have. Servers that are
// added meet machines only when the plan is full.

// fillMachines sets what the file leaves out of machines.
func (f *Fabric) fillMachines() {
	s := &f.Spec
	for i := range s.Machines {
		m := &s.Machines[i]
		if s.Model != Ethernet {
			at := ToPort
			if s.Servers.Uplinks == OnSegment {
				at = ToSegment
			}
			orElse(&m.Attach, at)
		}
		orElse(&m.Routing, ByBGP)
		if m.Routing == ByBGP {
			orElse(&m.Runs, FRR)
		}
		if len(m.Prefixes) == 0 {
			orElse(&m.Addresses, 1)
		}
	}
}

// machinesOf are those of a rack with their places, in the order of the file.
func (f *Fabric) machinesOf(rack int, each func(m *Machine, place int)) {
	name, n := f.rack(rack).Name, 0
	for i := range f.Spec.Machines {
		if m := &f.Spec.Machines[i]; m.Rack == name {
			n++
			each(m, f.Spec.Plan.ServersPerRack-n)
		}
	}
}

// checkMachines refuses what has no place.
func (f *Fabric) checkMachines(e *faults) {
	s := &f.Spec
	count, racks, names := map[string]int{}, map[string]int{}, places{}
	var taken []netip.Prefix // by what is no pool
	for _, a := range s.Anycast {
		taken = append(taken, netip.PrefixFrom(a.IP, a.IP.BitLen()))
	}
	for r := range s.Racks.Count {
		racks[f.rack(r).Name] = r
	}
	for i := range s.Borders {
		names[s.Borders[i].Name] = fmt.Sprintf("spec.border[%d]", i)
	}
	for i := range s.Machines {
		m, at := &s.Machines[i], fmt.Sprintf("spec.machines[%d]", i)
		f.checkDeviceName(e, at, m.Name, names)
		r, ok := racks[m.Rack]
		if !ok {
			e.add(at+".rack", "want the name of a rack, such as "+f.rack(0).Name, "%q", clip(m.Rack))
			continue
		}
		count[m.Rack]++
		if has := f.rack(r).Servers + count[m.Rack]; has > s.Plan.ServersPerRack {
			e.add(at, fmt.Sprintf("say spec.plan.serversPerRack: %d", powerOfTwo(has)), "%s has %d servers and machines, and room for %d", m.Rack, has, s.Plan.ServersPerRack)
		}
		if m.Addresses < 0 || m.Addresses > min(64, s.Plan.EndpointsPerServer) {
			e.add(at+".addresses", fmt.Sprintf("want 0 to %d addresses", min(64, s.Plan.EndpointsPerServer)), "%d", m.Addresses)
		}
		f.checkAttached(e, at, m)
		for j, p := range m.Prefixes {
			here := fmt.Sprintf("%s.prefixes[%d]", at, j)
			switch {
			case !p.IsValid() || p != p.Masked() || p.Bits() == 0 || !f.has(FamilyOf(p.Addr())):
				e.add(here, "want a prefix of a family that is routed, such as 203.0.113.0/28, without bits behind its length", "%s", p)
			case slices.ContainsFunc(f.allPools(), p.Overlaps):
				e.add(here, "addresses of pools come by their number: say addresses: N", "%s overlaps a pool", p)
			case reserved(p).IsValid():
				e.add(here, wantUsable, "%s overlaps %s", p, reserved(p))
			case slices.ContainsFunc(taken, p.Overlaps):
				e.add(here, "want one that is nobody's", "%s overlaps %s of another machine or of spec.anycast", p, taken[slices.IndexFunc(taken, p.Overlaps)])
			}
			taken = append(taken, p)
		}
	}
	for n, r := range racks {
		if ports := f.machinePorts(r); s.Model != Ethernet && s.Servers.Uplinks == OnSegment && s.Spine.Count+ports > islSlot {
			e.add("spec.machines", fmt.Sprintf("want %d machines on ports in a rack with %d spines, the others on the segment", islSlot-s.Spine.Count, s.Spine.Count), "%s has %d", n, ports)
		}
	}
}

// checkAttached refuses ways to attach a machine that the model does not have.
func (f *Fabric) checkAttached(e *faults, at string, m *Machine) {
	s := &f.Spec
	switch {
	case s.Model == Ethernet && m.Attach != "":
		e.add(at+".attach", "leave it out: it has a port on each plane, as servers have", "%s", m.Attach)
	case s.Model == Ethernet && m.Routing == ByStatic:
		e.add(at+".routing", "want bgp: switches announce nothing for it", "static")
	case m.Attach == ToSegment && s.Servers.Uplinks != OnSegment:
		e.add(at+".attach", "want port, or spec.servers.uplinks: segment", "the racks have no segment")
	case m.Routing == ByStatic && m.AS != 0:
		e.add(at+".as", "leave it out: only BGP has AS numbers", "%d", m.AS)
	case m.Routing == ByStatic && m.Runs != "":
		e.add(at+".software", "leave it out: nothing is configured on it", "%s", m.Runs)
	case m.Routing == ByStatic:
	case m.Runs != FRR && m.Runs != BIRD:
		e.add(at+".software", "want frr or bird: servers that run muslin are servers", "%s", m.Runs)
	case m.AS == 0 && s.Model == ASPerServer && s.Pools.AS.Style == TwoByte,
		m.AS == 0 && s.Model == ASPerRack && m.Attach == ToPort && s.Pools.AS.Style == TwoByte:
		e.add(at+".as", "want an AS number of its own: those of two octets are counted one after the other", "missing")
	}
}

func (f *Fabric) allPools() []netip.Prefix {
	list := slices.Concat(f.Spec.Pools.Loopbacks, f.Spec.Pools.Links)
	for _, p := range f.Spec.Pools.Endpoints {
		list = append(list, p.CIDR)
	}
	return list
}

// machinePorts is how many ports of its ToRs machines of a rack take.
func (f *Fabric) machinePorts(rack int) (n int) {
	f.machinesOf(rack, func(m *Machine, _ int) {
		if m.Attach == ToPort {
			n++
		}
	})
	return n
}

// machinePort is where the link of a ToR to a machine is in a rack whose servers are on a segment, which takes the
// links for servers: in the slots of uplinks, from the end.
func (f *Fabric) machinePort(rack, tor, place int) int {
	n := 0
	f.machinesOf(rack, func(m *Machine, at int) {
		if m.Attach == ToPort && at >= place {
			n++
		}
	})
	return f.uplinkOf(rack, tor, islSlot-n)
}

// machines makes the machines of a rack that speak BGP. They are attached and connected
// as servers are.
func (b *builder) machines(rack int, parts *rackParts) {
	s := &b.f.Spec
	b.f.machinesOf(rack, func(m *Machine, place int) {
		if m.Routing != ByBGP {
			return
		}
		as := b.as.server(rack, place)
		if s.Model == ASPerRack && m.Attach == ToPort {
			// It reaches no server of the rack without the ToR, and iBGP would have it.
			as = b.as.start + serverASOffset + uint32(rack*s.Plan.ServersPerRack+place)
		}
		d := b.device(m.Name, RoleMachine, cmp.Or(m.AS, as), b.f.rackLoopback(rack, rackOverhead+place))
		d.Rack, d.Software, d.MultipathRelax = b.f.rack(rack).Name, m.Runs, true
		if m.Attach == ToPort {
			announceLoopback(d)
		}
		for _, o := range b.f.addressesOf(m, rack, place, OriginEndpoints) {
			d.Originate = append(d.Originate, o)
			if o.Prefix.IsSingleIP() { // they are the machine's own
				d.Interfaces[0].Addresses = slices.AppendSeq(d.Interfaces[0].Addresses, o.Each())
			} else { // else it sends the fabric what nobody behind it has
				d.Discard = append(d.Discard, o.Prefix)
			}
		}
		parts.servers, parts.places = append(parts.servers, d), append(parts.places, place)
	})
}

// addressesOf is what a machine has, as origins of a kind.
func (f *Fabric) addressesOf(m *Machine, rack, place int, kind OriginKind) (list []Origin) {
	for _, family := range f.Spec.Families {
		if m.Addresses > 0 {
			a := f.endpointsOf(family, rack, place).Addr()
			list = append(list, Origin{Kind: kind, Prefix: netip.PrefixFrom(a, a.BitLen()), Count: m.Addresses})
		}
	}
	for _, p := range m.Prefixes {
		list = append(list, Origin{Kind: kind, Prefix: p, Count: 1})
	}
	return list
}

// onPort tells whether a device is a machine with a port of its own in a rack with a segment.
func (b *builder) onPort(d *Device) bool {
	return d.Role == RoleMachine && slices.ContainsFunc(b.f.Spec.Machines, func(m Machine) bool { return m.Name == d.Name && m.Attach == ToPort })
}

// staticMachines attaches the machines of a rack that speak no BGP to its first ToR, which
// has routes to them and announces these.
func (b *builder) staticMachines(rack, t int) {
	if t > 0 {
		return // who speaks no BGP cannot tell that one of two ways is gone
	}
	tor := b.racks[rack].tors[t]
	b.f.machinesOf(rack, func(m *Machine, place int) {
		if m.Routing != ByStatic {
			return
		}
		var hops []netip.Addr
		if m.Attach == ToSegment {
			for i := range b.out.Segments {
				if s := &b.out.Segments[i]; s.Name == tor.Name+"--rack" {
					for _, net := range s.Subnets {
						hops = append(hops, addr(net, firstServerHost+place))
					}
				}
			}
		} else {
			at := func(netip.Prefix) int { return b.f.portOf(rack, t, place) }
			if b.f.Spec.Servers.Uplinks == OnSegment {
				at = func(netip.Prefix) int { return b.f.machinePort(rack, t, place) }
			}
			s := b.segment(tor.Name+"--"+m.Name, Link, "", 2, at)
			attach(tor, fmt.Sprintf("server%d", place), s, 0)
			for _, net := range s.Subnets {
				hops = append(hops, addr(net, 1))
			}
		}
		for _, o := range b.f.addressesOf(m, rack, place, OriginStatic) {
			tor.Originate = append(tor.Originate, o)
			for _, a := range hops {
				if FamilyOf(a) == FamilyOf(o.Prefix.Addr()) {
					tor.Static = append(tor.Static, StaticRoute{o.Prefix, o.Count, a, m.Name})
				}
			}
		}
	})
}
