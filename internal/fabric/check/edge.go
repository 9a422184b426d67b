// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// ofRole visits the devices of a role.
func (s *subject) ofRole(role fabric.Role, visit func(d *fabric.Device)) {
	for i := range s.Devices {
		if s.Devices[i].Role == role {
			visit(&s.Devices[i])
		}
	}
}

// torsIn counts the ToRs of each rack.
func (s *subject) torsIn() map[string]int {
	n := map[string]int{}
	s.ofRole(fabric.RoleToR, func(d *fabric.Device) { n[d.Rack]++ })
	return n
}

// exits: FAB-BR-001. Failures of one kind are told once, with the worst.
func exits(s *subject) {
	s.eachFamily(func(x *simulated) {
		if x.tables == nil {
			return
		}
		list, err := x.sim.Exits(x.whatIf)
		if err != nil {
			return
		}
		for _, w := range worstOfKinds(list) {
			r, kind := w.Reach, w.Kind
			what := "with nothing failed"
			if kind != "" {
				what = r.Failure + " down"
			}
			message := fmt.Sprintf("%s: the default route of a border leads %s of %s servers out of the fabric no more", what, fabric.Number(r.Cut), fabric.Number(r.Pairs))
			if r.Cut == 0 {
				message = fmt.Sprintf("%s: %s of %s servers lose up to %d %% of what they send out of the fabric", what, fabric.Number(r.Partly), fabric.Number(r.Pairs), int(100*r.Worst+0.5))
			}
			if kind != "" {
				message += fmt.Sprintf(" (%s such %s)", fabric.Number(w.cases), verb(w.cases, "failure", "failures"))
			}
			fix := []string{"connect every border with every spine or plane", "or a second border, so connected"}
			if s.Model == fabric.DownwardDefault {
				fix = append(fix, "downwardDefault: {fallback: inter-spine}     # or this")
			}
			f := s.report(message, []string{r.From, r.At}, fix...)
			f.Evidence = []string{fmt.Sprintf("%s: lost at %s, %s", r.From, r.At, r.Why)}
		}
	})
}

func noDiscard(s *subject) {
	s.ofRole(fabric.RoleBorder, func(d *fabric.Device) {
		for _, p := range s.Pools {
			covered := false
			for _, x := range d.Discard {
				covered = covered || x.Overlaps(p.CIDR) && x.Bits() <= p.CIDR.Bits()
			}
			if !covered {
				s.report(fmt.Sprintf("%s has no discard route for %s: packets for addresses that no endpoint has leave the site", d.Name, p.CIDR), []string{d.Name},
					fmt.Sprintf("ip route %s blackhole", p.CIDR))
			}
		}
	})
}

// borderAS: FAB-BR-004. A border that is in one piece with those of its AS speaks iBGP with them, and they take its routes.
func borderAS(s *subject) {
	pieces := s.pieces()
	s.ofRole(fabric.RoleBorder, func(d *fabric.Device) {
		for _, piece := range pieces[d.AS] {
			if slices.Contains(piece, d) {
				continue
			}
			if i := slices.IndexFunc(piece, func(o *fabric.Device) bool { return o.Role != fabric.RoleBorder }); i >= 0 {
				s.report(fmt.Sprintf("%s is in AS %d, as %s is: its routes are refused there", d.Name, d.AS, piece[i].Name), []string{d.Name}, "give the border an AS number of its own")
				return
			}
		}
	})
}

// never are prefixes that no device announces.
var never = []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("::1/128")}

func serverExport(s *subject) {
	var t tally
	s.ofRole(fabric.RoleServer, func(d *fabric.Device) {
		for _, o := range d.Originate {
			bad := o.Kind == fabric.OriginSubnet || o.Prefix.Bits() > 0 && s.onPort(d, o.Prefix)
			for _, n := range never {
				bad = bad || n.Overlaps(o.Prefix) && o.Prefix.Bits() > 0
			}
			if bad {
				t.add(o.Prefix.String(), d.Name, "", "export endpoints and the loopback only")
			}
		}
	})
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("%s announce%s %s", names(c.devices), verb(len(c.devices), "s", ""), key)
	})
}

// onPort tells whether a prefix has addresses of a segment that a device is on.
func (s *subject) onPort(d *fabric.Device, p netip.Prefix) bool {
	return slices.ContainsFunc(d.Interfaces, func(i fabric.Interface) bool {
		g := s.Segment(i.Segment)
		return g != nil && slices.ContainsFunc(g.Subnets, p.Overlaps)
	})
}

// vrouters reports the servers of which something holds. Of one that says nothing, v is nil.
func (s *subject) vrouters(bad func(d *fabric.Device, v *fabric.VRouter) bool, message string, fix ...string) {
	var list []string
	s.ofRole(fabric.RoleServer, func(d *fabric.Device) {
		if bad(d, d.VRouter) {
			list = append(list, d.Name)
		}
	})
	if len(list) > 0 {
		s.report(names(list)+": "+message, list, fix...)
	}
}

// preferLocal: FAB-VR-002. BIRD is so by itself.
func preferLocal(s *subject) {
	s.vrouters(func(d *fabric.Device, v *fabric.VRouter) bool {
		return v == nil && d.Software == fabric.BIRD || v != nil && !v.PreferLocal
	},
		"local endpoints are less preferred than BGP", "preference = 300;                   # BIRD, in the import filter of protocol kernel")
}

// noBlackhole: FAB-VR-003, for the blocks of ToRs, too.
func noBlackhole(s *subject) {
	var t tally
	for i := range s.Devices {
		d := &s.Devices[i]
		for _, o := range d.Originate {
			if o.Kind != fabric.OriginBlock && o.Kind != fabric.OriginRack {
				continue
			}
			covered := func(x netip.Prefix) bool {
				return x.Bits() > 0 && x.Bits() <= o.Prefix.Bits() && x.Contains(o.Prefix.Addr())
			}
			if !slices.ContainsFunc(d.Discard, covered) {
				t.add("", d.Name, fmt.Sprintf("%s announces %s", d.Name, o.Prefix), fmt.Sprintf("ip route add blackhole %s", o.Prefix))
			}
		}
	}
	t.report(s, func(_ string, c *sameCase) string {
		return fmt.Sprintf("%s announce%s a block without a discard route for it: packets to addresses that are not in use loop", names(c.devices), verb(len(c.devices), "s", ""))
	})
}

// gateway: FAB-VR-004. Whether a server has a default route is simulated; without that, it is taken to have one that
// somebody makes.
func gateway(s *subject) {
	some, known := false, map[string]bool{}
	s.each(func(a *adjacency) { some = some || a.profile.Default == fabric.AlwaysDefault })
	for i := range s.Devices {
		some = some || s.Devices[i].Originates(fabric.OriginDefault)
	}
	s.vrouters(func(d *fabric.Device, v *fabric.VRouter) bool {
		return v != nil && !v.LocalGateway && !(some && s.wayOut(d, known))
	},
		"169.254.1.1 is no address of theirs and there is no default route: endpoints get no answer to ARP", "ip addr add 169.254.1.1/32 scope link dev cali…")
}

// wayOut tells whether a device has a default route, as far as that is known; known is of those that others stand for.
func (s *subject) wayOut(d *fabric.Device, known map[string]bool) bool {
	for i := range s.simulated {
		x := &s.simulated[i]
		if x.tables == nil || x.family != fabric.IPv4 {
			continue
		}
		like := x.tables.Like(d.Name)
		if yes, asked := known[like]; asked {
			return yes
		}
		p, err := x.sim.Path(d.Name, never[0].Addr().Next(), sim.Failure{})
		known[like] = err != nil || len(p.Branches) > 0 && len(p.Branches[0].Hops) > 1
		return known[like]
	}
	return true
}

func linkDown(s *subject) {
	s.vrouters(func(_ *fabric.Device, v *fabric.VRouter) bool { return v != nil && !v.IgnoreLinkDown },
		"ports without carrier stay in use until BGP has reacted", "sysctl -w net.ipv4.conf.all.ignore_routes_with_linkdown=1", "sysctl -w net.ipv6.conf.all.ignore_routes_with_linkdown=1")
}

// openImport: FAB-SEC-001.
func openImport(s *subject) {
	var t tally
	s.each(func(a *adjacency) {
		if a.on.Role == fabric.RoleServer || a.peer == nil || a.peer.Role != fabric.RoleServer || a.on.Role != fabric.RoleToR {
			return
		}
		f := s.filter(a.profile.Import)
		open := f == nil
		if f != nil {
			for _, r := range f.Rules {
				open = open || r.Permit && r.Within.Bits() == 0
			}
		}
		if open {
			t.add("", a.on.Name, "", fmt.Sprintf("neighbor %s prefix-list ENDPOINTS in", a.address()))
		}
	})
	t.report(s, func(_ string, c *sameCase) string {
		return fmt.Sprintf("%s take%s any prefix from servers, on %s", names(c.devices), verb(len(c.devices), "s", ""), fabric.Amount(c.n, "session"))
	})
}

func noAuthentication(s *subject) {
	var t tally
	n := 0
	s.each(func(a *adjacency) {
		if shared(a.segment) && !a.profile.Authentication.On() {
			t.add("", a.on.Name, "", "bgp: {authentication: md5}")
			n += a.n
		}
	})
	t.report(s, func(_ string, c *sameCase) string {
		return fmt.Sprintf("no authentication of %s on shared segments and planes", fabric.Amount((n+1)/2, "session"))
	})
}

func noRoles(s *subject) {
	n := 0
	var list []string
	s.each(func(a *adjacency) {
		if !a.ibgp && a.profile.Role == "" {
			n += a.n
			if len(list) == 0 || list[len(list)-1] != a.on.Name {
				list = append(list, a.on.Name)
			}
		}
	})
	if n > 0 {
		s.report(fmt.Sprintf("no role on %s (RFC 9234)", fabric.Amount((n+1)/2, "eBGP session")), list, "bgp: {roles: on}")
	}
}

func maxPrefix(s *subject) {
	var t tally
	s.each(func(a *adjacency) {
		if a.profile.MaxPrefix > 0 && a.profile.MaxPrefixAction == fabric.MaxPrefixRestart {
			t.add(fmt.Sprint(a.profile.MaxPrefix), a.on.Name, "", fmt.Sprintf("neighbor %s maximum-prefix %d warning-only", a.address(), a.profile.MaxPrefix), "bgp: {maxPrefix: warning}     # in the file")
		}
	})
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("%s of %s %s at more than %s prefixes: one endpoint too many disconnects all", fabric.Amount(c.n, "session"), names(c.devices), verb(c.n, "ends", "end"), key)
	})
}
