// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"

	"github.com/muslin-net/muslin/internal/fabric"
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

func oneSpine(s *subject) {
	spines := 0
	s.ofRole(fabric.RoleSpine, func(*fabric.Device) { spines++ })
	if spines < 2 {
		return
	}
	s.ofRole(fabric.RoleBorder, func(d *fabric.Device) {
		above := map[string]bool{}
		for j := range d.Sessions {
			if p := s.Device(d.Sessions[j].Peer); p.Role == fabric.RoleSpine {
				above[p.Name] = true
			}
		}
		if len(above) == 1 {
			for name := range above {
				s.report(fmt.Sprintf("%s is on %s only: when that is down, no rack gets out by it", d.Name, name), []string{d.Name, name}, "connect "+d.Name+" with every spine")
			}
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

func borderAS(s *subject) {
	inside := map[uint32]string{}
	for i := range s.Devices {
		if d := &s.Devices[i]; d.Role != fabric.RoleBorder && inside[d.AS] == "" {
			inside[d.AS] = d.Name
		}
	}
	s.ofRole(fabric.RoleBorder, func(d *fabric.Device) {
		if other := inside[d.AS]; other != "" {
			s.report(fmt.Sprintf("%s is in AS %d, as %s is: its routes are refused there", d.Name, d.AS, other), []string{d.Name}, "give the border an AS number of its own")
		}
	})
}

// never are prefixes that no device announces.
var never = []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("::1/128")}

func serverExport(s *subject) {
	var t tally
	s.ofRole(fabric.RoleServer, func(d *fabric.Device) {
		for _, o := range d.Originate {
			bad := o.Kind == fabric.OriginSubnet
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

// vrouters reports the servers of which something holds.
func (s *subject) vrouters(bad func(d *fabric.Device, v *fabric.VRouter) bool, message string, fix ...string) {
	var list []string
	s.ofRole(fabric.RoleServer, func(d *fabric.Device) {
		if d.VRouter != nil && bad(d, d.VRouter) {
			list = append(list, d.Name)
		}
	})
	if len(list) > 0 {
		s.report(names(list)+": "+message, list, fix...)
	}
}

func preferLocal(s *subject) {
	s.vrouters(func(_ *fabric.Device, v *fabric.VRouter) bool { return !v.PreferLocal },
		"local endpoints are less preferred than BGP", "preference = 300;                   # BIRD, in the import filter of protocol kernel")
}

func noBlackhole(s *subject) {
	var t tally
	s.ofRole(fabric.RoleServer, func(d *fabric.Device) {
		for _, o := range d.Originate {
			if o.Kind != fabric.OriginBlock {
				continue
			}
			covered := false
			for _, x := range d.Discard {
				covered = covered || x == o.Prefix
			}
			if !covered {
				t.add("", d.Name, fmt.Sprintf("%s announces %s", d.Name, o.Prefix), fmt.Sprintf("ip route add blackhole %s", o.Prefix))
			}
		}
	})
	t.report(s, func(_ string, c *sameCase) string {
		return fmt.Sprintf("%s announce%s a block without a discard route for it: packets to addresses that are not in use loop", names(c.devices), verb(len(c.devices), "s", ""))
	})
}

// gateway: FAB-VR-004. A server has a default route if a border's or an
// artificial one reaches it.
func gateway(s *subject) {
	some := false
	s.each(func(a *adjacency) { some = some || a.profile.Default == fabric.AlwaysDefault })
	s.ofRole(fabric.RoleBorder, func(d *fabric.Device) {
		some = some || d.Originates(fabric.OriginDefault)
	})
	s.vrouters(func(_ *fabric.Device, v *fabric.VRouter) bool { return !v.LocalGateway && !some },
		"169.254.1.1 is no address of theirs and there is no default route: endpoints get no answer to ARP", "ip addr add 169.254.1.1/32 scope link dev cali…")
}

func linkDown(s *subject) {
	s.vrouters(func(_ *fabric.Device, v *fabric.VRouter) bool { return !v.IgnoreLinkDown },
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
			t.add("", a.on.Name, "", "bgp: {authentication: tcp-ao}")
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
			t.add(fmt.Sprint(a.profile.MaxPrefix), a.on.Name, "", fmt.Sprintf("neighbor %s maximum-prefix %d warning-only", a.address(), a.profile.MaxPrefix))
		}
	})
	t.report(s, func(key string, c *sameCase) string {
		return fmt.Sprintf("%s of %s %s at more than %s prefixes: one endpoint too many disconnects all", fabric.Amount(c.n, "session"), names(c.devices), verb(c.n, "ends", "end"), key)
	})
}
