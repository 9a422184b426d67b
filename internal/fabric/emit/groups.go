// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Sessions with one profile and one family are a group, where a program has such: FRR, EOS, Junos and NX-OS.

// familyName is how a family is called: in routes and addresses, in address families, and at the end of names.
type familyName struct{ ip, unicast, number string }

var familyNames = map[fabric.Family]familyName{fabric.IPv4: {"ip", "ipv4", "4"}, fabric.IPv6: {"ipv6", "ipv6", "6"}}

// called is how the family of an address is called.
func called(a netip.Addr) familyName { return familyNames[fabric.FamilyOf(a)] }

// group is the name of a profile's sessions in a family; unnumbered ones carry both.
func group(p *fabric.Profile, number string) string { return p.Name + "-" + number }

// unnumbered is the number of sessions without addresses.
const unnumbered = "x"

// numbers are the kinds of groups that there may be.
func (e *Emitter) numbers() []string {
	var list []string
	for _, family := range e.x.Families {
		list = append(list, familyNames[family].number)
	}
	return append(list, unnumbered)
}

// in are the kinds of groups that have routes of a family.
func in(family fabric.Family) []string { return []string{familyNames[family].number, unnumbered} }

// uses tells whether a profile has a session of a group.
func uses(p *fabric.Profile, number string, peers []peer) bool {
	return slices.ContainsFunc(peers, func(x peer) bool {
		_, ok := targets(x)[number]
		return ok && x.Profile == p
	})
}

// eachGroup visits those that have a session, of some kinds.
func eachGroup(profiles []*fabric.Profile, numbers []string, peers []peer, visit func(p *fabric.Profile, number string)) {
	for _, p := range profiles {
		for _, n := range numbers {
			if uses(p, n, peers) {
				visit(p, n)
			}
		}
	}
}

// targets are how the neighbour is called in each kind of group.
func targets(p peer) map[string]string {
	if len(p.Address) == 0 {
		return map[string]string{unnumbered: p.Port.Name}
	}
	out := map[string]string{}
	for _, a := range p.Address {
		out[called(a).number] = a.String()
	}
	return out
}

// eachTarget visits those of a neighbour.
func (e *Emitter) eachTarget(p peer, visit func(number, name string)) {
	targets := targets(p)
	for _, n := range e.numbers() {
		if name, ok := targets[n]; ok {
			visit(n, name)
		}
	}
}

// seesInside tells whether those with a profile are told what the block of the rack stands for elsewhere: they are in it.
func (e *Emitter) seesInside(d *fabric.Device, p *fabric.Profile, peers []peer) bool {
	return stands(d) && slices.ContainsFunc(peers, func(x peer) bool { return x.Profile == p && e.x.Device(x.Name).Rack == d.Rack })
}

// stands tells whether a device announces the block of its rack, instead of what is in it.
func stands(d *fabric.Device) bool {
	return slices.ContainsFunc(d.Originate, func(o fabric.Origin) bool { return o.Kind == fabric.OriginRack })
}

// hides tells whether those with a profile are told the block of the rack alone, where nothing takes back summary-only for
// some neighbours: what the block stands for is kept from the others.
func (e *Emitter) hides(d *fabric.Device, p *fabric.Profile, peers []peer) bool {
	return stands(d) && !e.seesInside(d, p, peers)
}

// outsideOf is the name of the filter for those outside of the rack.
func outsideOf(p *fabric.Profile) string { return "outside-" + p.Name }

// outside is the filter of what a profile's sessions are told outside of the rack.
func (e *Emitter) outside(d *fabric.Device, p *fabric.Profile) *fabric.Filter {
	f := &fabric.Filter{Name: outsideOf(p)}
	for _, o := range d.Originate {
		if bits := o.Prefix.Bits(); o.Kind == fabric.OriginRack && bits < o.Prefix.Addr().BitLen() {
			f.Rules = append(f.Rules, fabric.FilterRule{Within: o.Prefix, Min: bits + 1, Max: o.Prefix.Addr().BitLen()})
		}
	}
	if export := e.x.Filter(p.Export); export != nil {
		f.Rules = append(f.Rules, export.Rules...)
		return f
	}
	for _, family := range e.x.Families {
		all := family.Default()
		f.Rules = append(f.Rules, fabric.FilterRule{Permit: true, Within: all, Max: all.Addr().BitLen()})
	}
	return f
}
