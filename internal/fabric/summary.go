// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"fmt"
	"strings"
)

// Summary says in one line what a design is.
func (g *Design) Summary() string {
	roles, racks, spineAS := map[Role]int{}, map[string]bool{}, map[uint32]bool{}
	endpoints, static := map[Family]int{}, map[string]bool{}
	for i := range g.Devices {
		d := &g.Devices[i]
		roles[d.Role]++
		if d.Rack != "" {
			racks[d.Rack] = true
		}
		if d.Role == RoleSpine {
			spineAS[d.AS] = true
		}
		for _, r := range d.Static {
			static[r.Machine] = true
		}
		for _, o := range d.Originate {
			switch o.Kind {
			case OriginEndpoints, OriginMoved, OriginStatic:
				endpoints[FamilyOf(o.Prefix.Addr())] += o.Count
			case OriginBlock:
				endpoints[FamilyOf(o.Prefix.Addr())] += o.Endpoints
			}
		}
	}
	model := string(g.Model)
	if model == "" {
		model = "after no model"
	}
	if g.Edited {
		model += ", edited by hand"
	}
	parts := []string{fmt.Sprintf("%s: %s", g.Metadata.Name, model), Amount(len(racks), "rack"), Amount(roles[RoleServer], "server"),
		Amount(max(endpoints[IPv4], endpoints[IPv6]), "endpoint")}
	if n := roles[RoleSpine]; n > 0 {
		how := "one AS"
		if len(spineAS) > 1 {
			how = "an AS each"
		}
		parts = append(parts, Amount(n, "spine")+" with "+how)
	}
	for _, x := range []struct {
		n    int
		what string
	}{{g.Planes(), "plane"}, {roles[RoleReflector], "reflector"}, {roles[RoleMachine] + len(static), "machine"}, {roles[RoleBorder], "border"}} {
		if x.n > 0 {
			parts = append(parts, Amount(x.n, x.what))
		}
	}
	var families []string
	for _, f := range g.Families {
		families = append(families, string(f))
	}
	return strings.Join(append(parts, strings.Join(families, " and ")), ", ")
}

// Planes counts the planes of a design.
func (g *Design) Planes() (n int) {
	for i := range g.Segments {
		if g.Segments[i].Kind == Plane {
			n++
		}
	}
	return n
}

// Number writes a number with commas between thousands.
func Number(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Amount is a number of things, of which one has no s: 1 session, 1,000 sessions.
func Amount(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return Number(n) + " " + what
}

// UpdateCost says what a number of UPDATE messages is for: an endpoint in a block costs none.
func (x *Index) UpdateCost(messages int) string {
	unit := "endpoint"
	for i := range x.Devices {
		if x.Devices[i].Originates(OriginBlock) {
			unit = "block"
			break
		}
	}
	return fmt.Sprintf("%s UPDATE messages in all of the fabric for one %s that comes or goes", Number(messages), unit)
}

// Sessions counts the adjacencies of a design.
func (x *Index) Sessions() int {
	n := 0
	for i := range x.Devices {
		n += x.Peers(&x.Devices[i])
	}
	return n / 2
}
