// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Entries are what the devices of a design put into their tables, each kind of device once; alike is the one that
// stands for each. They follow from the formulas of the model, or, of a design after none, from the simulation:
// it fails if the design cannot be simulated, or does not come to rest.
func Entries(x *fabric.Index) (list []fabric.Entries, alike map[string]string, updates int, err error) {
	if list, updates, ok := x.Entries(); ok {
		return list, x.Alike(), updates, nil
	}
	var tables []*Tables
	for _, family := range x.Families {
		s, err := New(x.Design, family)
		if err != nil {
			return nil, nil, 0, err
		}
		t, err := s.Tables(Failure{})
		if err != nil {
			return nil, nil, 0, err
		}
		tables = append(tables, t)
	}
	list, alike, updates = EntriesOf(x, tables)
	return list, alike, updates, nil
}

// EntriesOf are those that follow from what was simulated: tables are those of each family of the design.
func EntriesOf(x *fabric.Index, tables []*Tables) (list []fabric.Entries, alike map[string]string, updates int) {
	alike = map[string]string{}
	first := map[string]string{}
	for i := range x.Devices {
		d := &x.Devices[i]
		key := fmt.Sprint(d.Platform, " ", x.NeighboursOf(d))
		for _, t := range tables {
			z, _ := t.Of(d.Name)
			key += fmt.Sprint(" ", z.Role, z.Peers, z.Paths, z.FIB, z.Endpoints, z.Hosts, z.Local)
		}
		if first[key] == "" {
			first[key] = d.Name
		}
		alike[d.Name] = first[key]
	}
	for _, t := range tables {
		updates = max(updates, t.Updates)
	}
	return x.Enter(alike, func(n int, d *fabric.Device) (fabric.Size, int) {
		t, _ := tables[n].Of(d.Name)
		other := t.FIB - t.Endpoints
		if d.Role != fabric.RoleServer { // what a switch has itself is in its table, too
			other += t.Local
		}
		return fabric.Size{Device: d.Name, Devices: 1, Role: d.Role, Peers: t.Peers, Paths: t.Paths, Routes: t.Endpoints, Hosts: t.Hosts,
			Other: other, Neighbours: x.NeighboursOf(d), Memory: fabric.MemoryOf(t.FIB+t.Local, t.Paths)}, x.Strays
	}), alike, updates
}
