// SPDX-License-Identifier: Apache-2.0

package fabric

import "slices"

// Scale makes the fabric smaller and keeps its plan: what is left has the
// names, addresses and AS numbers that it had. A number of 0 leaves that
// count as it is, and so does one that is larger than it. Anycast addresses
// lose the servers that are gone.
func (f *Fabric) Scale(racks, servers, endpoints int) *Fabric {
	out := *f
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
	s.Machines = slices.DeleteFunc(slices.Clone(s.Machines), func(m Machine) bool {
		for r := range s.Racks.Count {
			if out.rack(r).Name == m.Rack {
				return false
			}
		}
		return true
	})
	s.Anycast = nil
	for _, a := range f.Spec.Anycast {
		a.Servers = slices.DeleteFunc(slices.Clone(a.Servers), func(name string) bool {
			r, i, ok := f.serverNamed(name)
			return !ok || r >= s.Racks.Count || i >= out.rack(r).Servers
		})
		if len(a.Servers) > 0 {
			s.Anycast = append(s.Anycast, a)
		}
	}
	return &out
}
