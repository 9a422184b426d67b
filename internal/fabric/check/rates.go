// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
)

// way is a port upwards: of a server towards a ToR or plane, of a ToR towards a spine or plane.
type way struct {
	to   string      // the device or switch that it goes down with
	rate fabric.Rate // 0 if it is not known
}

// ways are those of a device.
func (s *subject) ways(d *fabric.Device) (list []way) {
	above := map[fabric.Role]fabric.Role{fabric.RoleServer: fabric.RoleToR, fabric.RoleToR: fabric.RoleSpine}
	for _, i := range d.Interfaces {
		g := s.Segment(i.Segment)
		if g == nil { // the loopback
			continue
		}
		if g.Kind == fabric.Plane {
			list = append(list, way{g.Switch, g.Rate})
			continue
		}
		for _, a := range s.On(g.Name) {
			if a.Device.Role == above[d.Role] {
				list = append(list, way{a.Device.Name, g.Rate})
			}
		}
	}
	return list
}

// left are the ways that go on with a thing down.
func left(list []way, down string) []way {
	return slices.DeleteFunc(slices.Clone(list), func(w way) bool { return w.to == down })
}

// burden is what a device is to send upwards, and the ports that it has for it.
type burden struct {
	down  string // what is down; empty for nothing
	load  fabric.Rate
	ports int
	holds fabric.Rate // all of the ports together; 0 if that is not known, or there is none: that cuts off, and is no overload
}

// tooMuch tells whether the ports do not hold it.
func (b burden) tooMuch() bool { return b.holds > 0 && b.load > b.holds }

// heavier tells whether more of the ports is used than with another burden.
func (b burden) heavier(than burden) bool {
	return float64(b.load)*float64(than.holds) > float64(than.load)*float64(b.holds)
}

// climb is what a rack's servers and ToRs are to send with a thing down: servers in equal parts by their ToRs or planes,
// ToRs by theirs. A ToR that has lost all its ways has no routes, and servers do not use it.
func (s *subject) climb(servers []*fabric.Device, ways map[string][]way, down string) map[string]burden {
	sent := map[string]burden{}
	add := func(name string, load fabric.Rate, on []way) {
		b := burden{down: down, load: sent[name].load + load, ports: len(on)}
		if !slices.ContainsFunc(on, func(w way) bool { return w.rate == 0 }) {
			for _, w := range on {
				b.holds += w.rate
			}
		}
		sent[name] = b
	}
	for _, d := range servers {
		up := slices.DeleteFunc(left(ways[d.Name], down), func(w way) bool { return len(ways[w.to]) > 0 && len(left(ways[w.to], down)) == 0 })
		add(d.Name, d.Load, up)
		for _, w := range up {
			if len(ways[w.to]) > 0 {
				add(w.to, d.Load/fabric.Rate(len(up)), left(ways[w.to], down))
			}
		}
	}
	return sent
}

// overloaded: FAB-WI-003. Of each device the worst is told, or what is too much with nothing down.
func overloaded(s *subject) {
	racks := map[string][]*fabric.Device{}
	var order []string
	s.ofRole(fabric.RoleServer, func(d *fabric.Device) {
		if d.Load == 0 {
			return
		}
		if racks[d.Rack] == nil {
			order = append(order, d.Rack)
		}
		racks[d.Rack] = append(racks[d.Rack], d)
	})
	if len(order) == 0 {
		return
	}
	ways := map[string][]way{}
	for i := range s.Devices {
		if d := &s.Devices[i]; d.Role == fabric.RoleServer || d.Role == fabric.RoleToR {
			ways[d.Name] = s.ways(d)
		}
	}
	var t tally
	for _, rack := range order {
		worst := s.climb(racks[rack], ways, "")
		above := fallible(racks[rack], ways)
		for _, down := range above {
			for name, b := range s.climb(racks[rack], ways, down) {
				if w := worst[name]; !w.tooMuch() && b.tooMuch() || w.down != "" && b.heavier(w) {
					worst[name] = b
				}
			}
		}
		for _, name := range above {
			s.addBurden(&t, s.Device(name), worst[name])
		}
		for _, d := range racks[rack] {
			s.addBurden(&t, d, worst[d.Name])
		}
	}
	t.report(s, func(key string, c *sameCase) string { return names(c.devices) + ": " + key })
}

// fallible is what a rack's ways upwards go down with, from the top.
func fallible(servers []*fabric.Device, ways map[string][]way) (list []string) {
	seen := map[string]bool{}
	visit := func(of []way, then func(way)) {
		for _, w := range of {
			if !seen[w.to] {
				seen[w.to] = true
				then(w)
				list = append(list, w.to)
			}
		}
	}
	for _, d := range servers {
		visit(ways[d.Name], func(w way) { visit(ways[w.to], func(way) {}) })
	}
	return list
}

// addBurden counts a device if it is to send more than it can.
func (s *subject) addBurden(t *tally, d *fabric.Device, b burden) {
	if !b.tooMuch() {
		return
	}
	what := fmt.Sprintf("%s to send by %d uplink%s of %s together: %d %%", b.load, b.ports, verb(b.ports, "", "s"), b.holds, int(100*float64(b.load)/float64(b.holds)+0.5))
	torDown := false
	if b.down != "" {
		x, down := s.Device(b.down), b.down
		if torDown = x != nil && x.Role == fabric.RoleToR; torDown {
			down = "a ToR of the rack"
		}
		what = "with " + down + " down, " + what
	}
	t.add(what, d.Name, "", s.burdenFix(d, b, torDown)...)
}

// burdenFix is what carries a burden, one spine or plane being down or not: faster ports, or more of them.
func (s *subject) burdenFix(d *fabric.Device, b burden, torDown bool) []string {
	field, ports, spines := "uplink", b.ports, int((b.load*fabric.Rate(b.ports)+b.holds-1)/b.holds)
	if d.Role == fabric.RoleServer {
		field = "server"
	}
	if b.down == "" && ports > 1 {
		ports--
	}
	if !torDown {
		spines++
	}
	fix := []string{fmt.Sprintf("rates: {%s: %s}     # or faster", field, (b.load+fabric.Rate(ports)-1)/fabric.Rate(ports))}
	if d.Role == fabric.RoleToR || s.PlanesOf(d) > 0 {
		fix = append(fix, fmt.Sprintf("spine: {count: %d}     # or this", spines))
	}
	return fix
}
