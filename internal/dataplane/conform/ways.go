// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"fmt"
	"net/netip"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/route"
)

// What cases of forwarding speak of, IPv4 and IPv6.
var (
	pool     = [2]netip.Prefix{netip.MustParsePrefix("10.65.0.0/16"), netip.MustParsePrefix("fd65::/48")}
	block    = [2]netip.Prefix{netip.MustParsePrefix("10.65.0.0/26"), netip.MustParsePrefix("fd65::/122")}
	learned  = [2]netip.Prefix{netip.MustParsePrefix("10.65.7.0/26"), netip.MustParsePrefix("fd65::700/122")}
	floating = [2]netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8:f::7")}
)

// nth is an address of a network.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Addr()
	for range n {
		a = a.Next()
	}
	return a
}

// via is a route to neighbours on uplinks.
func via(p netip.Prefix, family int, uplinks ...string) route.Route {
	var hops []netip.Addr
	for _, u := range uplinks {
		hops = append(hops, Behind[u][family])
	}
	return route.Route{Prefix: p, Kind: route.Via, Hops: route.HopsOf(hops...)}
}

// to sends a packet to an address.
func (s *scene) to(from string, family int, dst netip.Addr) dataplane.Frame {
	f := s.packet(from, "far", family, udp, 9)
	f.Dst = dst
	return f
}

// wayCases are what is asked of forwarding, and of both together.
func wayCases() []Case {
	return []Case{
		{"learned routes, of which the longest counts", func(s *scene) {
			s.attach("a")
			s.put(open)
			for _, f := range families {
				s.bgp = append(s.bgp, via(pool[f], f, "up0"), via(learned[f], f, "up1"))
			}
			s.apply()
			for _, f := range families {
				s.expect(s.to("a", f, nth(learned[f], 5)), true, "up1")
				s.expect(s.to("a", f, nth(pool[f], 600)), true, "up0")
				s.expect(s.packet("a", "far", f, udp, 9), true, "up0") // by another daemon's
			}
			s.bgp = s.bgp[:0]
			for _, f := range families {
				s.bgp = append(s.bgp, via(pool[f], f, "up1"))
			}
			s.apply()
			for _, f := range families {
				s.expect(s.to("a", f, nth(learned[f], 5)), true, "up1")
				s.expect(s.to("a", f, nth(pool[f], 600)), true, "up1")
			}
		}},
		{"blackhole of a block", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.put(open)
			s.apply()
			for _, f := range families {
				s.expect(s.to("a", f, nth(block[f], 40)), true, "up0") // what is not there would leave
				s.local[block[f]] = route.Route{Prefix: block[f], Kind: route.Blackhole}
			}
			s.apply()
			for _, f := range families {
				s.expect(s.to("a", f, nth(block[f], 40)), false, "")
				s.expect(s.to("far", f, nth(block[f], 40)), false, "")
			}
			s.passes("a", "b", tcp, 80)
			s.passes("far", "a", tcp, 80)
		}},
		{"a local route before a learned one", func(s *scene) {
			s.attach("a")
			s.put(open)
			for _, f := range families {
				a := Behind["calia"][f]
				s.bgp = append(s.bgp, via(netip.PrefixFrom(a, a.BitLen()), f, "up1"))
			}
			s.apply()
			s.passes("far", "a", tcp, 80)
			s.local = map[netip.Prefix]route.Route{}
			s.apply()
			for _, f := range families {
				s.expect(s.packet("far", "a", f, tcp, 80), true, "up1")
			}
		}},
		{"several next hops", func(s *scene) {
			s.attach("a")
			s.put(open)
			for _, f := range families {
				s.bgp = append(s.bgp, via(learned[f], f, "up0", "up1"))
			}
			s.apply()
			for _, f := range families {
				s.spread(f, "up0", "up1")
			}
			s.bgp = s.bgp[:0]
			for _, f := range families {
				s.bgp = append(s.bgp, via(learned[f], f, "up1"))
			}
			s.apply()
			for _, f := range families {
				s.spread(f, "up1")
			}
		}},
		{"a next hop that nothing leads to", func(s *scene) {
			nowhere := [2]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:77::1")}
			for _, f := range families {
				s.bgp = append(s.bgp, route.Route{Prefix: learned[f], Kind: route.Via, Hops: route.HopsOf(nowhere[f])})
			}
			s.routes.Track([]netip.Addr{nowhere[0], nowhere[1], Behind["up1"][0], Behind["up1"][1]}, nil)
			s.apply()
			for _, p := range s.routes.List() {
				if p.State != route.Pending || p.Detail == "" {
					s.fail(fmt.Errorf("%s is %s (%s), want pending", p.Route, p.State, p.Detail))
				}
			}
			if c := s.routes.Count(); c.Wanted != 2 || c.Pending != 2 || c.Installed != 0 {
				s.fail(fmt.Errorf("counted %+v", c))
			}
			changes, _ := s.routes.Reached()
			if len(changes) != 4 {
				s.fail(fmt.Errorf("reached: %+v, want four", changes))
			}
			for _, c := range changes {
				if want := c.Addr != nowhere[0] && c.Addr != nowhere[1]; c.Usable != want || want && c.Device != "up1" {
					s.fail(fmt.Errorf("reached: %+v", c))
				}
			}
		}},
		{"what leaves the pools", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.put(open)
			s.opts.NAT = acl.NAT{Outgoing: pool[:], Spared: pool[:]}
			for _, f := range families {
				s.bgp = append(s.bgp, via(learned[f], f, "up1"))
			}
			s.apply()
			for _, f := range families {
				out := s.packet("a", "far", f, udp, 53)
				s.becomes(out, dataplane.Outcome{Passes: true, Out: "up0", Src: Uplinks[0].Addrs[f].Addr(), Dst: out.Dst})
				s.expect(s.to("a", f, nth(learned[f], 5)), true, "up1") // to another server's
				s.expect(s.packet("a", "b", f, udp, 53), true, "calib")
				s.expect(s.packet("far", "a", f, udp, 53), true, "calia")
			}
			s.opts.NAT = acl.NAT{}
			s.apply()
			s.passes("a", "far", udp, 53)
		}},
		{"floating IP", func(s *scene) {
			s.attach("a")
			s.attach("b", func(e *endpoint) {
				for _, f := range families {
					e.floating = append(e.floating, [2]netip.Addr{floating[f], Behind["calib"][f]})
				}
			})
			s.put(sendAll, `
kind: GlobalNetworkPolicy
metadata: {name: b}
spec: {selector: role == 'b', types: [Ingress], ingress: [{action: Allow, destination: {ports: [80]}, protocol: TCP}]}
`)
			s.apply()
			for _, f := range families {
				s.expect(s.to("a", f, floating[f]), true, "up0") // not switched on
			}
			s.opts.Floating = acl.AllFloating
			s.apply()
			for _, f := range families {
				for _, from := range []string{"far", "a"} {
					for _, port := range []uint16{80, 81} {
						in := s.packet(from, "b", f, tcp, port)
						in.Dst = floating[f]
						s.becomes(in, dataplane.Outcome{Passes: port == 80, Out: "calib", Src: in.Src, Dst: Behind["calib"][f]})
					}
				}
				s.expect(s.packet("b", "far", f, udp, 53), true, "up0") // under its own address
			}
		}},
		{"a restart keeps what is in force", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.put(open, `
kind: GlobalNetworkPolicy
metadata: {name: early}
spec: {order: 1, selector: role == 'b', types: [Ingress], ingress: [{action: Deny, protocol: TCP, destination: {ports: [22]}}, {action: Allow}]}
`)
			for _, f := range families {
				s.bgp = append(s.bgp, via(learned[f], f, "up1"))
				s.local[block[f]] = route.Route{Prefix: block[f], Kind: route.Blackhole}
			}
			s.apply()
			kept := func() {
				s.passes("a", "b", tcp, 80)
				s.drops("a", "b", tcp, 22)
				s.drops("d", "a", tcp, 80)
				for _, f := range families {
					s.expect(s.to("a", f, nth(learned[f], 5)), true, "up1")
					s.expect(s.to("a", f, nth(block[f], 40)), false, "")
				}
			}
			kept()
			s.close()
			kept() // without an agent
			if !s.open() {
				return
			}
			if made, err := s.filter.Guard(); made || err != nil {
				s.fail(fmt.Errorf("the guard was made over what is in force: %v", err))
			}
			_, err := s.routes.Apply()
			s.fail(err)
			kept() // before it has said anything
			if c := s.routes.Count(); c.Kept != 8 {
				s.fail(fmt.Errorf("of eight routes that were left: %+v", c))
			}
			s.resync()
			kept()
			if r, err := s.routes.Resync(); err != nil || r.Writes() != 0 {
				s.fail(fmt.Errorf("another reading of the routes: %+v, %v", r, err))
			}
		}},
		{"teardown opens", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.apply()
			s.drops("a", "b", tcp, 80)
			s.fail(s.filter.Teardown())
			s.passes("a", "b", tcp, 80)
		}},
	}
}

// spread sends packets to many destinations: all uplinks have some of them, no other
// has any, and what is sent again goes where it went.
func (s *scene) spread(family int, uplinks ...string) {
	var frames []dataplane.Frame
	for range 2 {
		for n := range 40 {
			f := s.to("a", family, nth(learned[family], n))
			f.SrcPort = uint16(3000 + n)
			frames = append(frames, f)
		}
	}
	used := map[string]int{}
	got := s.send(frames...)
	for i, o := range got {
		used[o.Out]++
		if !o.Passes || o.Out != got[i%40].Out {
			s.fail(fmt.Errorf("%+v became %+v, and before %+v", frames[i].Packet, o, got[i%40]))
		}
	}
	for _, u := range uplinks {
		if used[u] == 0 {
			s.fail(fmt.Errorf("by %s goes nothing of what is spread: %v", u, used))
		}
		delete(used, u)
	}
	if len(used) > 0 {
		s.fail(fmt.Errorf("what is spread over %v goes by others: %v", uplinks, used))
	}
}
