// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
)

// pieces are the groups of devices of each AS that are connected without
// leaving it, in the order of devices.
func (s *subject) pieces() map[uint32][][]*fabric.Device {
	parent := map[*fabric.Device]*fabric.Device{}
	root := func(d *fabric.Device) *fabric.Device {
		for parent[d] != nil {
			if up := parent[parent[d]]; up != nil {
				parent[d] = up
			}
			d = parent[d]
		}
		return d
	}
	join := func(a, b *fabric.Device) {
		if a, b = root(a), root(b); a != b {
			parent[b] = a
		}
	}
	for i := range s.Segments {
		first := map[uint32]*fabric.Device{}
		for _, at := range s.On(s.Segments[i].Name) {
			if f := first[at.Device.AS]; f != nil {
				join(f, at.Device)
			} else {
				first[at.Device.AS] = at.Device
			}
		}
	}
	groups := map[*fabric.Device][]*fabric.Device{}
	var roots []*fabric.Device
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.Host != "" && len(d.Interfaces) < 2 { // it is where its host is
			if h := s.Device(d.Host); h != nil && h.AS == d.AS {
				join(h, d)
			}
		}
	}
	for i := range s.Devices {
		r := root(&s.Devices[i])
		if groups[r] == nil {
			roots = append(roots, r)
		}
		groups[r] = append(groups[r], &s.Devices[i])
	}
	out := map[uint32][][]*fabric.Device{}
	for _, r := range roots {
		out[r.AS] = append(out[r.AS], groups[r])
	}
	return out
}

// continuity: FAB-AS-001. Spines of one AS need no way to each other, and what
// Downward Default tells servers and ToRs has no path in which they would find
// themselves, whoever wrote the design: both are told, as information.
func continuity(s *subject) {
	pieces := s.pieces()
	for _, as := range slices.Sorted(maps.Keys(pieces)) {
		groups := pieces[as]
		if len(groups) < 2 {
			continue
		}
		var heads, all []string
		legal := true
		for _, g := range groups {
			name := g[0].Name
			if g[0].Rack != "" && len(g) > 1 {
				name = "rack " + g[0].Rack
			}
			heads = append(heads, name)
			for _, d := range g {
				all = append(all, d.Name)
				legal = legal && (d.Role == fabric.RoleSpine || d.Role == fabric.RoleBorder || s.Model == fabric.DownwardDefault && d.Role != fabric.RoleReflector)
			}
		}
		message := fmt.Sprintf("AS %d is used by %d groups of routers that reach each other only through other ASes: %s", as, len(groups), names(heads))
		if legal || s.apart(groups) {
			f := s.report(message+"; nothing needs them to", all)
			f.Severity = Info
			continue
		}
		s.report(message+"; their routes to each other will be refused", all,
			fmt.Sprintf("give %s an AS number of its own, or connect the groups directly and let them speak iBGP", heads[len(heads)-1]))
	}
}

// apart tells whether no group is told of routes, other than a default route, that
// have been in another group of the same AS: then none is refused. Of each device it
// follows which groups' routes it has; of more than two, two are enough to find one
// that is not the group's own. What a device has already, it may refuse elsewhere.
func (s *subject) apart(groups [][]*fabric.Device) bool {
	type label struct {
		of    any // a device or a mesh
		group int
	}
	group, labels := map[*fabric.Device]int{}, map[any]int{}
	seen := map[label]bool{} // it has routes of the group
	first := func(x any, n int) bool {
		if seen[label{x, n}] || labels[x] == 2 {
			return false
		}
		seen[label{x, n}] = true
		labels[x]++
		return true
	}
	var queue []label
	for n, g := range groups {
		for _, d := range g {
			group[d] = n + 1
			first(d, n+1)
			queue = append(queue, label{d, n + 1})
		}
	}
	told := func(from, to *fabric.Device, n int, sent, taken *fabric.Profile) bool {
		if !s.passesSpecific(sent.Export) || !s.passesSpecific(taken.Import) {
			return true
		}
		if g := group[to]; g != 0 && g != n && !seen[label{to, n}] && from.AS != to.AS && !sent.ASOverride && taken.AllowOwnAS == 0 {
			return false
		}
		if first(to, n) {
			queue = append(queue, label{to, n})
		}
		return true
	}
	for len(queue) > 0 {
		d, n := queue[0].of.(*fabric.Device), queue[0].group
		queue = queue[1:]
		for j := range d.Sessions {
			x := &d.Sessions[j]
			if end := s.End(d, x); end != nil && !told(d, s.Device(x.Peer), n, s.Profile(x.Profile), s.Profile(end.Profile)) {
				return false
			}
		}
		for _, m := range s.MeshesOf(d) {
			if !first(m, n) {
				continue
			}
			p := s.Profile(m.Profile)
			for _, name := range m.Members {
				if to := s.Device(name); m.Joins(d, to) && !told(d, to, n, p, p) {
					return false
				}
			}
		}
	}
	return true
}

func reservedAS(s *subject) {
	var t tally
	for i := range s.Devices {
		d := &s.Devices[i]
		switch {
		case d.AS == 0 || d.AS == 23456 || d.AS == 65535 || d.AS == 4294967295:
			t.add(fmt.Sprintf("AS %d is reserved", d.AS), d.Name, "", "take one of 64512 to 65534 or 4200000000 to 4294967294")
		case !fabric.PrivateAS(d.AS) && d.Role != fabric.RoleBorder:
			t.add(fmt.Sprintf("AS %d is no private number", d.AS), d.Name, "", "take one of 64512 to 65534 or 4200000000 to 4294967294")
		}
	}
	t.report(s, func(key string, c *sameCase) string { return key + ": " + names(c.devices) })
}

func wrongAS(s *subject) {
	s.each(func(a *adjacency) {
		if a.peer != nil && a.peer.AS != a.session.PeerAS {
			s.report(fmt.Sprintf("%s says that its neighbour %s is AS %d, which is %d: its OPEN will be refused", a.on.Name, a.peer.Name, a.session.PeerAS, a.peer.AS),
				[]string{a.on.Name, a.peer.Name}, fmt.Sprintf("neighbor %s remote-as %d", a.address(), a.peer.AS))
		}
	})
}

// acknowledged tells whether the file gives a reason for a setting.
func (s *subject) acknowledged(setting string) bool {
	for _, x := range s.Advanced {
		if strings.EqualFold(x.Name, setting) && x.Reason != "" {
			return true
		}
	}
	return false
}

func loopCheck(s *subject) {
	var t tally
	s.each(func(a *adjacency) {
		for _, x := range []struct {
			name string
			set  bool
		}{{"allowas-in", a.profile.AllowOwnAS > 0}, {"as-override", a.profile.ASOverride}, {"remove-private-as", a.profile.RemovePrivateAS}} {
			if x.set && !s.acknowledged(x.name) {
				t.add(x.name, a.on.Name, "", "bgp: {advanced: [{name: "+x.name+", reason: …}]}     # in the file")
			}
		}
	})
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("%s on %s of %s: routes may come back to where they began", key, fabric.Amount(c.n, "session"), names(c.devices))
	})
}

func removePrivate(s *subject) {
	var t tally
	s.each(func(a *adjacency) {
		if a.profile.RemovePrivateAS && a.on.Software == fabric.FRR && a.peer != nil && fabric.PrivateAS(a.peer.AS) {
			t.add("", a.on.Name, "", fmt.Sprintf("neighbor %s as-override", a.address()))
		}
	})
	t.report(s, func(_ string, c *sameCase) string {
		return fmt.Sprintf("remove-private-AS on %s keeps the AS number of the peer itself: %s where the route is still refused", names(c.devices), fabric.Amount(c.n, "session"))
	})
}
