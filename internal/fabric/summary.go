// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"fmt"
	"strings"
)

// Summary says in one line what a design is.
func (g *Design) Summary() string {
	roles, racks, spineAS := map[Role]int{}, map[string]bool{}, map[uint32]bool{}
	endpoints, planes := map[Family]int{}, 0
	for i := range g.Devices {
		d := &g.Devices[i]
		roles[d.Role]++
		if d.Rack != "" {
			racks[d.Rack] = true
		}
		if d.Role == RoleSpine {
			spineAS[d.AS] = true
		}
		for _, o := range d.Originate {
			switch o.Kind {
			case OriginEndpoints, OriginMoved:
				endpoints[familyOf(o.Prefix.Addr())] += o.Count
			case OriginBlock:
				endpoints[familyOf(o.Prefix.Addr())] += o.Endpoints
			}
		}
	}
	for i := range g.Segments {
		if g.Segments[i].Kind == Plane {
			planes++
		}
	}
	model := string(g.Model)
	if model == "" {
		model = "after no model"
	}
	parts := []string{fmt.Sprintf("%s: %s, %s racks, %s servers, %s endpoints", g.Metadata.Name, model, Number(len(racks)),
		Number(roles[RoleServer]), Number(max(endpoints[IPv4], endpoints[IPv6])))}
	if n := roles[RoleSpine]; n > 0 {
		how := "one AS"
		if len(spineAS) > 1 {
			how = "an AS each"
		}
		parts = append(parts, fmt.Sprintf("%d spines with %s", n, how))
	}
	if planes > 0 {
		parts = append(parts, fmt.Sprintf("%d planes", planes))
	}
	if n := roles[RoleReflector]; n > 0 {
		parts = append(parts, fmt.Sprintf("%s reflectors", Number(n)))
	}
	if n := roles[RoleBorder]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d borders", n))
	}
	var families []string
	for _, f := range g.Families {
		families = append(families, string(f))
	}
	return strings.Join(append(parts, strings.Join(families, " and ")), ", ")
}

// Sessions counts the adjacencies of a design.
func (x *Index) Sessions() int {
	n := 0
	for i := range x.Devices {
		n += x.Peers(&x.Devices[i])
	}
	return n / 2
}
