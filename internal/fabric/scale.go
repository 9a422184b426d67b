// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"cmp"
	"slices"
)

// Scale makes the fabric smaller and keeps its plan: what is left has the
// names, addresses and AS numbers that it had. A number of 0 leaves that
// count as it is, and so does one that is larger than it. Machines of racks that are
// gone go with them, and anycast addresses lose the servers that are.
func (f *Fabric) Scale(racks, servers, endpoints int) *Fabric {
	out := *f
	out.whole = cmp.Or(f.whole, f)
	s := &out.Spec
	less := func(n *int, to int) {
		if to > 0 {
			*n = min(*n, to)
		}
	}
	less(&s.Racks.Count, racks)
	less(&s.Servers.PerRack, servers)
	less(&s.Endpoints.PerServer, endpoints)
	if s.Racks.List != nil {
		s.Racks.List = slices.Clone(s.Racks.List[:s.Racks.Count])
		for i := range s.Racks.List {
			less(&s.Racks.List[i].Servers, servers)
		}
	}
	s.Machines, s.Anycast = out.present()
	return &out
}

// present are the machines and anycast addresses as far as their racks and servers are there.
func (f *Fabric) present() (machines []Machine, anycast []Anycast) {
	racks := map[string]bool{}
	for r := range f.Spec.Racks.Count {
		racks[f.rack(r).Name] = true
	}
	for _, m := range f.Spec.Machines {
		if racks[m.Rack] {
			machines = append(machines, m)
		}
	}
	for _, a := range f.Spec.Anycast {
		a.Servers = slices.DeleteFunc(slices.Clone(a.Servers), func(name string) bool {
			_, _, ok := f.serverNamed(name)
			return !ok
		})
		if len(a.Servers) > 0 {
			anycast = append(anycast, a)
		}
	}
	return machines, anycast
}
