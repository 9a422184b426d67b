// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"errors"
	"net/netip"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/policy"
)

// What a machine takes that comes in for all on a link, or for a group: as any router does,
// and nobody of it listens to others. Nothing of it goes further.
var (
	takenHere = addrs("224.0.0.1", "255.255.255.255", "172.16.0.255", "ff02::1", "ff02::2")
	notHere   = addrs("224.0.0.251", "239.1.2.3", "ff02::fb", "ff05::1:3", "ff0e::1")
)

func addrs(texts ...string) (all []netip.Addr) {
	for _, t := range texts {
		all = append(all, netip.MustParseAddr(t))
	}
	return all
}

// familyOf is the index of an address's family.
func familyOf(a netip.Addr) int {
	if a.Is6() {
		return 1
	}
	return 0
}

// open lets workload a, b and c send and take everything.
const open = `
kind: GlobalNetworkPolicy
metadata: {name: open}
spec:
  order: 1000
  selector: role in {'a', 'b', 'c'}
  types: [Ingress, Egress]
  ingress: [{action: Allow}]
  egress: [{action: Allow}]
`

// sendAll lets everybody send.
const sendAll = `
kind: GlobalNetworkPolicy
metadata: {name: send-all}
spec: {order: 1000, types: [Egress], egress: [{action: Allow}]}
`

// filterCases are what is asked of filtering.
func filterCases() []Case {
	return []Case{
		{"nothing in force", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.steer()
			s.passes("a", "b", tcp, 80)
		}},
		{"guard", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.steer()
			if made, err := s.filter.Guard(); err != nil || !made {
				s.fail(errors.Join(errors.New("the guard was not made"), err))
			}
			s.drops("a", "b", tcp, 80)
			s.drops("far", "a", tcp, 80)
			s.put(open)
			s.apply()
			if made, err := s.filter.Guard(); err != nil || made {
				s.fail(errors.Join(errors.New("the guard was made over what is in force"), err))
			}
			s.passes("a", "b", tcp, 80)
		}},
		{"default deny", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.apply()
			for _, proto := range []uint8{tcp, udp, icmp} {
				s.drops("a", "b", proto, 80)
				s.drops("far", "a", proto, 80)
				s.drops("a", "far", proto, 80)
				s.passes("far", "up1", proto, 80) // it concerns no workload
			}
		}},
		{"allow by selector, protocol and port", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.attach("c")
			s.put(sendAll, `
kind: NetworkPolicy
metadata: {name: b, namespace: default}
spec:
  selector: role == 'b'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: role == 'a'}, destination: {ports: [80, '1000:1010']}}
  - {action: Allow, protocol: UDP, source: {nets: [198.51.100.0/24, '2001:db8:9::/64']}, destination: {ports: [53]}}
`)
			s.apply()
			s.passes("a", "b", tcp, 80)
			s.passes("a", "b", tcp, 1000)
			s.passes("a", "b", tcp, 1010)
			s.drops("a", "b", tcp, 999)
			s.drops("a", "b", tcp, 1011)
			s.drops("a", "b", udp, 80)
			s.drops("a", "b", icmp, 0)
			s.drops("c", "b", tcp, 80)
			s.passes("far", "b", udp, 53)
			s.drops("far", "b", tcp, 80)
			s.drops("up0", "b", udp, 53)
			s.drops("b", "a", tcp, 80) // nobody lets a take it
		}},
		{"deny before allow, in order", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.put(open, `
kind: GlobalNetworkPolicy
metadata: {name: early}
spec:
  order: 1
  selector: role == 'b'
  types: [Ingress]
  ingress:
  - {action: Deny, protocol: TCP, destination: {ports: [22]}}
  - {action: Allow, protocol: TCP, destination: {ports: [22, 80]}}
`)
			s.apply()
			s.drops("a", "b", tcp, 22)
			s.passes("a", "b", tcp, 80)
			s.passes("a", "b", tcp, 443) // by the other policy
			s.remove("GlobalNetworkPolicy", "", "early")
			s.apply()
			s.passes("a", "b", tcp, 22)
		}},
		{"egress", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.put(open, `
kind: GlobalNetworkPolicy
metadata: {name: a-sends}
spec:
  order: 1
  selector: role == 'a'
  types: [Egress]
  egress:
  - {action: Allow, protocol: UDP, destination: {notSelector: role == 'b'}}
  - {action: Allow, protocol: TCP, destination: {selector: role == 'b', notPorts: [80]}}
  - {action: Deny}
`)
			s.apply()
			s.passes("a", "far", udp, 53)
			s.drops("a", "far", tcp, 443)
			s.passes("a", "b", tcp, 81)
			s.drops("a", "b", tcp, 80)
			s.drops("a", "b", udp, 53)
			s.passes("b", "a", udp, 53)
		}},
		{"tiers, pass and profiles", func(s *scene) {
			s.attach("a", func(e *endpoint) { e.profiles = []string{"takes-udp"} })
			s.attach("b", func(e *endpoint) { e.profiles = []string{"takes-udp"} })
			s.put(`
kind: Profile
metadata: {name: takes-udp}
spec: {ingress: [{action: Allow, protocol: UDP}], egress: [{action: Allow}]}
---
kind: Tier
metadata: {name: first}
spec: {order: 1}
---
kind: GlobalNetworkPolicy
metadata: {name: first.b}
spec:
  tier: first
  selector: role == 'b'
  types: [Ingress]
  ingress: [{action: Pass, protocol: UDP}, {action: Allow, protocol: TCP, destination: {ports: [80]}}, {action: Pass, protocol: TCP, destination: {ports: [443]}}]
`)
			s.apply()
			s.passes("a", "b", udp, 53)
			s.passes("a", "b", tcp, 80)
			s.drops("a", "b", tcp, 81)  // the end of the tier
			s.drops("a", "b", tcp, 443) // the profile does not take it
			s.passes("b", "a", udp, 53)
			s.drops("b", "a", tcp, 80)
		}},
		{"of one family", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.put(sendAll, `
kind: GlobalNetworkPolicy
metadata: {name: six}
spec: {selector: role == 'b', types: [Ingress], ingress: [{action: Allow, ipVersion: 6, protocol: TCP}, {action: Allow, ipVersion: 4, protocol: UDP}]}
`)
			s.apply()
			for _, family := range families {
				s.expect(s.packet("a", "b", family, tcp, 80), family == 1, "calib")
				s.expect(s.packet("a", "b", family, udp, 80), family == 0, "calib")
			}
		}},
		{"ICMP by its type", func(s *scene) { // packets are echo requests, 8 and 128
			s.attach("a")
			s.attach("b")
			s.attach("c")
			s.put(sendAll, `
kind: GlobalNetworkPolicy
metadata: {name: echo}
spec:
  selector: role == 'b'
  types: [Ingress]
  ingress: [{action: Deny, protocol: ICMP, icmp: {type: 13}}, {action: Allow, protocol: ICMP, icmp: {type: 8, code: 0}}, {action: Allow, protocol: ICMPv6, icmp: {type: 139}}]
---
kind: GlobalNetworkPolicy
metadata: {name: other}
spec:
  selector: role == 'c'
  types: [Ingress]
  ingress: [{action: Allow, protocol: ICMP, icmp: {type: 8, code: 1}}, {action: Deny, protocol: ICMPv6, icmp: {type: 139}}, {action: Allow, protocol: ICMPv6, icmp: {type: 128}}]
`)
			s.apply()
			for _, family := range families {
				s.expect(s.packet("a", "b", family, icmp, 0), family == 0, "calib")
				s.expect(s.packet("a", "c", family, icmp, 0), family == 1, "calic")
			}
		}},
		{"members of a network set come and go", func(s *scene) {
			s.attach("b")
			s.put(`
kind: GlobalNetworkPolicy
metadata: {name: by-set}
spec: {selector: role == 'b', types: [Ingress], ingress: [{action: Allow, protocol: TCP, source: {selector: site == 'x'}}]}
`)
			s.apply()
			for _, nets := range []string{"[]", "[198.51.100.9/32, '2001:db8:9::9/128']", "['0.0.0.0/0', '::/0']", "[192.0.2.0/24]", "[198.51.0.0/16, '2001:db8::/32']"} {
				s.put("kind: GlobalNetworkSet\nmetadata: {name: x, labels: {site: x}}\nspec: {nets: " + nets + "}")
				s.apply()
				s.goes(nets != "[]" && nets != "[192.0.2.0/24]", "far", "b", tcp, 80)
			}
		}},
		{"labels change", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.put(open)
			s.apply()
			s.passes("a", "b", tcp, 80)
			s.relabel("b", "nobody")
			s.apply()
			s.drops("a", "b", tcp, 80)
			s.drops("b", "a", tcp, 80)
			s.relabel("b", "c")
			s.apply()
			s.passes("a", "b", tcp, 80)
		}},
		{"anti-spoof by address", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.put(open)
			s.apply()
			for _, family := range families {
				for _, as := range []string{"b", "c", "far", "host", "up0"} {
					f := s.packet("a", "b", family, udp, 80)
					f.Src = addr(as, family)
					s.expect(f, false, "")
				}
				s.expect(s.packet("a", "b", family, udp, 80), true, "calib")
			}
		}},
		{"anti-spoof by MAC address", func(s *scene) {
			s.attach("a", func(e *endpoint) { e.mac = "02:00:00:00:00:01" })
			s.attach("b")
			s.put(open)
			s.apply()
			for _, family := range families {
				f := s.packet("a", "b", family, udp, 80)
				f.MAC = mac(2)
				s.expect(f, false, "")
				s.expect(s.packet("a", "b", family, udp, 80), true, "calib")
				f = s.packet("b", "a", family, udp, 80) // one whose MAC address is not known
				f.MAC = mac(9)
				s.expect(f, true, "calia")
			}
		}},
		{"what a workload never sends", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.put(open)
			s.apply()
			s.drops("a", "b", udp, 4789) // VXLAN
			s.drops("a", "b", udp, 68)   // as a DHCP server
			s.drops("a", "b", udp, 546)
			s.passes("far", "b", udp, 4789)
			s.opts.AllowVXLAN = true
			s.apply()
			s.passes("a", "b", udp, 4789)
		}},
		{"unknown objects are closed", func(s *scene) {
			s.attach("a")
			s.attach("b", func(e *endpoint) { e.profiles = []string{"nobody-has-written-it"} })
			s.put(`
kind: GlobalNetworkPolicy
metadata: {name: a}
spec: {selector: role == 'a', types: [Ingress, Egress], ingress: [{action: Allow}], egress: [{action: Allow}]}
`)
			s.lead("d") // which has no endpoint
			s.apply()
			for _, other := range []string{"b", "d"} {
				s.drops("a", other, tcp, 80)
				s.drops(other, "a", tcp, 80)
				s.drops(other, "far", tcp, 80)
			}
			s.passes("far", "a", tcp, 80)
			s.passes("a", "far", tcp, 80)
		}},
		{"an endpoint goes", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.put(open)
			s.apply()
			s.passes("a", "b", tcp, 80)
			s.remove("WorkloadEndpoint", "default", Node+"-test-b-eth0")
			s.apply()
			s.drops("a", "b", tcp, 80)
			s.drops("b", "a", tcp, 80)
		}},
		{"quarantine of a bad object", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.attach("c", func(e *endpoint) { e.nets = []string{"10.65.0.300/32"} })
			s.put(open)
			// Of this one nothing but the selector can be read: it denies what it selects.
			p := &v3.GlobalNetworkPolicy{}
			p.Metadata.Name, p.Spec.Tier = "bad", "default"
			first := 1.0
			p.Spec.Order, p.Spec.Selector, p.Spec.Types = &first, "role == 'b'", []string{"Ingress"}
			p.Spec.Ingress = []v3.Rule{{Action: "Allow"}}
			s.set(p, errors.New("it cannot be read"))
			s.apply()
			s.drops("a", "c", tcp, 80)
			s.drops("c", "a", tcp, 80)
			s.drops("a", "b", tcp, 80)
			s.passes("b", "a", tcp, 80) // of the other direction it says nothing
			s.passes("a", "far", tcp, 80)
			s.passes("far", "a", tcp, 80)
			s.remove("GlobalNetworkPolicy", "", "bad")
			s.apply()
			s.passes("a", "b", tcp, 80)
		}},
		{"between workloads and the host", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.put(`
kind: GlobalNetworkPolicy
metadata: {name: a}
spec: {selector: role == 'a', types: [Ingress, Egress], egress: [{action: Allow}]}
`)
			s.apply()
			s.drops("a", "host", tcp, 80)
			s.passes("host", "a", tcp, 80) // it is not asked about its own
			s.opts.HostAction = acl.HostAccept
			s.apply()
			s.passes("a", "host", tcp, 80)
			s.drops("b", "host", tcp, 80) // its egress policy is asked
		}},
		{"to all on a link, or to a group", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.attach("c")
			s.put(open, `
kind: GlobalNetworkPolicy
metadata: {name: b}
spec: {order: 1, selector: role == 'b', types: [Egress], egress: [{action: Deny}]}
`)
			tell := func(from string, dst netip.Addr, passes bool) {
				f := s.to(from, familyOf(dst), dst)
				f.DstPort = 5353
				s.expect(f, passes, "")
			}
			for _, action := range []acl.HostAction{acl.HostDrop, acl.HostAccept} {
				s.opts.HostAction = action
				s.apply()
				for _, dst := range takenHere {
					tell("a", dst, action == acl.HostAccept)
					tell("b", dst, false) // its egress policy is asked
					tell("up1", dst, true)
				}
				for _, dst := range notHere {
					for _, from := range []string{"a", "b", "up1"} {
						tell(from, dst, false)
					}
				}
			}
			s.opts.HostAction, s.opts.OpenStack.Active = acl.HostDrop, true
			s.apply()
			dhcp := s.to("b", 0, netip.AddrFrom4([4]byte{255, 255, 255, 255}))
			dhcp.SrcPort, dhcp.DstPort = 68, 67
			s.expect(dhcp, true, "")
		}},
		{"neighbour discovery", func(s *scene) {
			s.attach("a") // to which policy allows nothing
			s.apply()
			ask := func(from, to string, typ uint8, passes bool) {
				f := s.packet(from, "far", 1, icmp, 0)
				f.Dst, f.ICMPType = netip.MustParseAddr(to), typ
				s.expect(f, passes, "")
			}
			ask("a", "ff02::1", solicits, true)
			ask("a", "ff02::fb", solicits, false)
			ask("a", "ff02::1", 128, false)
			ask("d", "ff02::1", solicits, false) // an unknown interface
			s.drops("a", "far", icmp, 0)
		}},
		{"a process of the host", func(s *scene) {
			s.attach("a")
			s.attachProcess()
			s.put(open, sendAll, `
kind: GlobalNetworkPolicy
metadata: {name: p}
spec:
  order: 1
  selector: role == 'p'
  types: [Ingress, Egress]
  ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]
  egress: [{action: Deny, protocol: UDP, destination: {ports: [53]}}, {action: Allow}]
`)
			s.apply()
			for _, other := range []string{"a", "far"} {
				s.passes(other, "p", tcp, 80)
				s.drops(other, "p", tcp, 81)
				s.passes("p", other, tcp, 81)
				s.drops("p", other, udp, 53)
			}
			s.passes("host", "p", udp, 9)
			s.drops("p", "host", tcp, 80) // as a workload
			for _, f := range families {
				spoofed := s.packet("far", "up1", f, udp, 9)
				spoofed.Src = addr("p", f)
				s.expect(spoofed, false, "")
			}
			s.opts.HostAction = acl.HostAccept
			s.apply()
			s.passes("p", "host", tcp, 80)
			s.drops("p", "host", udp, 53)
			s.opts.Processes, s.placed = false, nil
			s.remove("WorkloadEndpoint", "default", Node+"-test-p-lo")
			s.apply()
			for _, f := range families { // nobody is there
				s.expect(s.packet("a", "p", f, tcp, 81), true, "up0")
			}
		}},
		{"host endpoint", func(s *scene) {
			s.attach("a")
			s.opts.Failsafes = [2][]policy.Failsafe{policy.Ingress: {{Proto: tcp, Port: 22}}, policy.Egress: {{Proto: udp, Port: 53}}}
			s.world.Failsafes = s.opts.Failsafes
			s.put(open, `
kind: HostEndpoint
metadata: {name: uplink, labels: {role: uplink}}
spec: {node: `+Node+`, interfaceName: up0}
---
kind: GlobalNetworkPolicy
metadata: {name: uplink}
spec: {selector: role == 'uplink', types: [Ingress, Egress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [443]}}], egress: [{action: Allow, protocol: TCP}]}
`)
			s.apply()
			s.passes("far", "host", tcp, 443)
			s.drops("far", "host", tcp, 80)
			s.passes("far", "host", tcp, 22) // failsafe
			s.passes("host", "far", tcp, 80)
			s.drops("host", "far", udp, 80)
			s.passes("host", "far", udp, 53)
			s.passes("far", "a", tcp, 80) // it is not about what is forwarded
			s.put(`
kind: GlobalNetworkPolicy
metadata: {name: forwarded}
spec: {order: 1, selector: role == 'uplink', applyOnForward: true, types: [Ingress], ingress: [{action: Deny, protocol: TCP, destination: {ports: [80]}}, {action: Allow}]}
`)
			s.apply()
			s.drops("far", "a", tcp, 80)
			s.passes("far", "a", tcp, 81)
			s.remove("HostEndpoint", "", "uplink")
			s.apply()
			s.passes("far", "host", udp, 9)
			s.passes("far", "a", tcp, 80)
		}},
		{"answers to what passed", func(s *scene) {
			s.attach("a")
			s.attach("b")
			s.attach("c")
			s.put(sendAll, `
kind: GlobalNetworkPolicy
metadata: {name: b}
spec: {selector: role == 'b', types: [Ingress], ingress: [{action: Allow, protocol: UDP, destination: {ports: [53]}}]}
`)
			s.apply()
			for _, family := range families {
				ask := s.packet("a", "b", family, udp, 53)
				s.expect(s.answer("b", "a", ask), false, "") // to nothing
				ask = s.packet("a", "b", family, udp, 53)
				s.expect(ask, true, "calib")
				s.expect(s.answer("b", "a", ask), true, "calia")
				f := s.answer("b", "a", ask)
				f.DstPort++
				s.expect(f, false, "") // to another flow
				f = s.answer("b", "a", ask)
				f.Src = addr("c", family)
				s.expect(f, false, "")                       // under another's address
				s.expect(s.answer("c", "a", ask), false, "") // from another workload
				ask = s.packet("a", "far", family, udp, 53)
				s.expect(ask, true, "up0")
				s.expect(s.answer("up1", "a", ask), true, "calia") // by another uplink than it left by
			}
		}},
	}
}

// answer is a packet back in the flow of another one.
func (s *scene) answer(from, to string, ask dataplane.Frame) dataplane.Frame {
	f := s.packet(from, to, 0, ask.Proto, ask.SrcPort)
	f.Src, f.Dst, f.SrcPort = ask.Dst, ask.Src, ask.DstPort
	return f
}

// relabel gives a workload another role.
func (s *scene) relabel(name, role string) {
	id := policy.EndpointID{Namespace: "default", Name: Node + "-test-" + name + "-eth0"}
	w := *s.world.Endpoints[id]
	w.Metadata.Labels = labels(role)
	s.set(&w, nil)
}
