// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/policy"
)

// felixBench is for what Felix was seen to do wrong with packets, each as a test of
// what is right; that what one transaction of the datastore changes takes effect
// at once is TestI4_Together. It is a node with the endpoints a, b, c and d, whose
// objects are those of the datastore: some of these defects come from the way from
// there to rules.
type felixBench struct {
	*wires
	t   *testing.T
	x   *policy.Index
	tab *Table
}

var felixNames = []string{"a", "b", "c", "d"}

func felixAddr(v4 bool, name string) netip.Addr {
	n := name[0] - 'a' + 1
	if v4 {
		return netip.AddrFrom4([4]byte{10, 0, 0, n})
	}
	return netip.AddrFrom16([16]byte{0xfd, 15: n})
}

func newFelixBench(t *testing.T, profiles ...string) *felixBench {
	w := newWires(t)
	f := &felixBench{wires: w, t: t, x: policy.NewIndex("n"), tab: w.table(t)}
	f.put("Profile", "open", &v3.Profile{Spec: v3.ProfileSpec{Ingress: []v3.Rule{{Action: "Allow"}}, Egress: []v3.Rule{{Action: "Allow"}}}})
	for i, name := range felixNames {
		e := &v3.WorkloadEndpoint{Object: v3.Object{Metadata: v3.ObjectMeta{Labels: map[string]string{"name": name}}}}
		e.Spec = v3.WorkloadEndpointSpec{Node: "n", InterfaceName: fmt.Sprintf("cali%d", i), Profiles: []string{"open"}}
		if name == "b" && len(profiles) > 0 {
			e.Spec.Profiles = profiles
		}
		for _, v4 := range []bool{true, false} {
			a := felixAddr(v4, name)
			e.Spec.IPNetworks = append(e.Spec.IPNetworks, a.String())
			must(t, w.replace(a, netip.Addr{}, e.Spec.InterfaceName))
		}
		f.put("WorkloadEndpoint", name, e)
	}
	return f
}

func (f *felixBench) put(kind, name string, r v3.Resource) {
	f.x.Set(policy.Key{Kind: kind, Name: name}, r, nil)
}

// ingress makes rules the ingress policy of b and d.
func (f *felixBench) ingress(tier string, rules ...v3.Rule) {
	p := &v3.GlobalNetworkPolicy{}
	p.Spec.Tier, p.Spec.Selector, p.Spec.Types, p.Spec.Ingress = tier, "name in {'b', 'd'}", []string{"Ingress"}, rules
	f.put("GlobalNetworkPolicy", "p", p)
}

// apply puts what was put in force; nothing of it may be refused.
func (f *felixBench) apply() {
	f.t.Helper()
	must(f.t, f.tab.Apply(f.x, f.x.Flush()))
	for p := range f.x.Problems() {
		f.t.Fatalf("problem: %s", p)
	}
	for _, p := range f.tab.Problems() {
		f.t.Fatalf("problem: %s: %v", p.Object, p.Err)
	}
	must(f.t, f.conntrack.ConntrackTableFlush(netlink.ConntrackTable))
}

// felixProbe is a packet from an endpoint to another one, and whether it must arrive.
type felixProbe struct {
	from, to string
	policy.Packet
	want bool
}

// expect sends the probes in a family.
func (f *felixBench) expect(v4 bool, probes ...felixProbe) {
	f.t.Helper()
	var shots []*shot
	for _, p := range probes {
		s := &shot{Packet: p.Packet, in: int(p.from[0] - 'a'), out: -1}
		s.Src, s.Dst = felixAddr(v4, p.from), felixAddr(v4, p.to)
		shots = append(shots, s)
	}
	f.fire(f.t, shots)
	for i, s := range shots {
		if arrived := len(s.came) == 1 && s.came[0] == int(probes[i].to[0]-'a'); arrived != probes[i].want {
			f.t.Errorf("%s to %s, %+v: arrived %v, want %v", probes[i].from, probes[i].to, s.Packet, arrived, probes[i].want)
		}
	}
}

func protocol(name string) *v3.Protocol { return new(v3.ProtocolName(name)) }

// TestFelix_ManyLists: of a rule with several lists of several entries each list
// holds. Felix does not enforce the third one.
func TestFelix_ManyLists(t *testing.T) {
	f := newFelixBench(t)
	long := []v3.Port{v3.SinglePort(80), v3.SinglePort(443)} // more than a kernel rule of Felix's has room for
	for n := range 20 {
		long = append(long, v3.SinglePort(uint16(2000+2*n)))
	}
	for _, v4 := range []bool{true, false} {
		other := map[bool]string{true: "192.0.2.0/24", false: "2001:db8::/32"}[v4]
		r := v3.Rule{Action: "Allow", Protocol: protocol("TCP")}
		r.Source = v3.EntityRule{Nets: []string{felixAddr(v4, "a").String(), other}, Ports: []v3.Port{v3.SinglePort(1024), {Min: 5000, Max: 5010}}}
		r.Destination = v3.EntityRule{Nets: []string{other, felixAddr(v4, "b").String()}, Ports: long}
		f.ingress("default", r)
		f.apply()
		var probes []felixProbe
		for _, from := range []string{"a", "c"} {
			for _, to := range []string{"b", "d"} {
				for _, source := range []uint16{1024, 5005, 1025} {
					for _, port := range []uint16{80, 2038, 2039} {
						probes = append(probes, felixProbe{from, to, policy.Packet{Proto: tcp, SrcPort: source, DstPort: port},
							from == "a" && to == "b" && source != 1025 && port != 2039})
					}
				}
			}
		}
		f.expect(v4, probes...)
	}
}

// TestFelix_ICMP: rules with a type and a code, and without an IP version, match
// what they say. Felix dies of them.
func TestFelix_ICMP(t *testing.T) {
	f := newFelixBench(t)
	icmpRule := func(name string, typ int, code *int) v3.Rule {
		return v3.Rule{Action: "Allow", Protocol: protocol(name), ICMP: &v3.ICMP{Type: &typ, Code: code}}
	}
	zero := 0
	tcp80 := v3.Rule{Action: "Allow", Protocol: protocol("TCP"), Destination: v3.EntityRule{Ports: []v3.Port{v3.SinglePort(80)}}}
	for _, v4 := range []bool{true, false} {
		number, request, other := uint8(icmp), uint8(8), uint8(13)
		if !v4 {
			number, request, other = icmp6, 128, 139
		}
		send := func(typ, code uint8, want bool) felixProbe {
			return felixProbe{"a", "b", policy.Packet{Proto: number, ICMPType: typ, ICMPCode: code}, want}
		}
		for i, rules := range [][]v3.Rule{
			{icmpRule("ICMP", 8, &zero), icmpRule("ICMPv6", 128, &zero), tcp80},
			{icmpRule("ICMP", 8, nil), icmpRule("ICMPv6", 128, nil), tcp80},
		} {
			f.ingress("default", rules...)
			f.apply()
			f.expect(v4, send(request, 0, true), send(request, 1, i == 1), send(other, 0, false),
				felixProbe{"a", "b", policy.Packet{Proto: tcp, SrcPort: 1000, DstPort: 80}, true},
				felixProbe{"a", "b", policy.Packet{Proto: tcp, SrcPort: 1000, DstPort: 81}, false})
		}
	}
}

// TestFelix_PassInProfile: after a tier has passed, a profile's rule that passes
// ends the profile for what it matches. In Felix it does for every packet.
func TestFelix_PassInProfile(t *testing.T) {
	f := newFelixBench(t, "first", "second")
	at := func(action string, port uint16) v3.Rule {
		return v3.Rule{Action: action, Protocol: protocol("TCP"), Destination: v3.EntityRule{Ports: []v3.Port{v3.SinglePort(port)}}}
	}
	f.put("Profile", "first", &v3.Profile{Spec: v3.ProfileSpec{Ingress: []v3.Rule{at("Pass", 80), at("Allow", 81), at("Deny", 82)}, Egress: []v3.Rule{{Action: "Allow"}}}})
	f.put("Profile", "second", &v3.Profile{Spec: v3.ProfileSpec{Ingress: []v3.Rule{at("Allow", 80), at("Allow", 82), at("Deny", 81)}}})
	f.ingress("default", v3.Rule{Action: "Pass"})
	f.apply()
	for _, v4 := range []bool{true, false} {
		var probes []felixProbe
		for port, want := range map[uint16]bool{80: true, 81: true, 82: false, 83: false} {
			probes = append(probes, felixProbe{"a", "b", policy.Packet{Proto: tcp, SrcPort: 1000, DstPort: port}, want})
		}
		f.expect(v4, probes...)
	}
}
