// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"

	"pgregory.net/rapid"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// The random worlds are small, so that much in them meets.
var (
	nodes      = []string{"alpha", "beta"}
	namespaces = []string{"red", "blue"}
	ifaces     = []string{"cali0", "cali1", "cali2", "cali3", "cali4", "cali5", "cali6", "cali7"}
	profiles   = []string{"p0", "p1", "kns.red", "kns.blue", "ksa.red.sa0", defaultAllow}
	tierNames  = []string{"default", "low", "high", "", "nosuch"}
	portNames  = []string{"http", "dns"}
	portNums   = []uint16{0, 53, 80, 81, 443, 65535}
	protoNums  = []uint8{1, 6, 17, 58, 132, 136, 47}
	selectors  = []string{
		"", "all()", "role == 'a'", "role == 'b'", "role != 'a'", "has(env)", "!has(env)",
		"role in {'a', 'b'} && env == 'x'", "role == 'a' || env == 'y'", "env not in {'x'}",
		"role starts with 'a'", "shade == 'dark'", "role in {}", "has(pcns.team)",
	}
	namespaceSelectors = []string{"", "", "", "all()", "global()", "team == 't0'", "team != 't0'", "has(team) || all()"}
	accountSelectors   = []string{"", "", "", "all()", "job == 'j0'", "!has(job)"}
	netTexts           = [][]string{
		{"10.0.0.0/29", "10.0.0.0/30", "10.0.0.1", "10.0.0.6/31", "0.0.0.0/0", "10.0.0.5/8", "192.0.2.0/24", "::ffff:10.0.0.2"},
		{"2001:db8::/125", "2001:db8::/126", "2001:db8::1", "2001:db8::6/127", "::/0", "2001:db8:1::/48"},
	}
)

func addr(t *rapid.T, v4 bool) netip.Addr {
	n := byte(rapid.IntRange(0, 8).Draw(t, "addr"))
	switch {
	case v4 && n == 8:
		return netip.MustParseAddr("192.0.2.9")
	case v4:
		return netip.AddrFrom4([4]byte{10, 0, 0, n})
	case n == 8:
		return netip.MustParseAddr("2001:db8:1::9")
	}
	a := netip.MustParseAddr("2001:db8::").As16()
	a[15] = n
	return netip.AddrFrom16(a)
}

// drawReserved draws the addresses of nodes.
func drawReserved(t *rapid.T) map[netip.Addr]string {
	owners := map[netip.Addr]string{}
	for range rapid.IntRange(0, 3).Draw(t, "reserved") {
		owners[addr(t, rapid.Bool().Draw(t, "v4"))] = pick(t, "owner", []string{"Node n1", "Node n2"})
	}
	return owners
}

func pick[T any](t *rapid.T, name string, list []T) T {
	return rapid.SampledFrom(list).Draw(t, name)
}

func chance(t *rapid.T, name string, oneIn int) bool {
	return rapid.IntRange(0, oneIn-1).Draw(t, name) == oneIn-1
}

func drawLabels(t *rapid.T) map[string]string {
	m := map[string]string{}
	if !chance(t, "no role", 4) {
		m["role"] = pick(t, "role", []string{"a", "b", "ab"})
	}
	if chance(t, "env?", 2) {
		m["env"] = pick(t, "env", []string{"x", "y"})
	}
	if chance(t, "forge", 8) {
		m[pick(t, "forged", []string{"pcns.team", "pcsa.job", labelNamespace, labelServiceAccount})] = pick(t, "forgery", []string{"t0", "red", "sa0"})
	}
	return m
}

func drawNets(t *rapid.T, name string, families int) []string {
	var nets []string
	for range rapid.IntRange(1, 3).Draw(t, name) {
		f := rapid.IntRange(0, 1).Draw(t, "family")
		if families < 2 {
			f = families
		}
		nets = append(nets, pick(t, name, netTexts[f]))
	}
	return nets
}

func drawKey(t *rapid.T) Key {
	kind := pick(t, "kind", []string{
		kindEndpoint, kindEndpoint, kindEndpoint, kindPolicy, kindPolicy, kindGlobalPolicy, kindGlobalPolicy,
		kindTier, kindProfile, kindNetworkSet, kindGlobalNetwSet,
	})
	k := Key{Kind: kind}
	switch kind {
	case kindEndpoint:
		k.Namespace, k.Name = pick(t, "ns", namespaces), fmt.Sprintf("e%d", rapid.IntRange(0, 3).Draw(t, "n"))
	case kindPolicy:
		k.Namespace, k.Name = pick(t, "ns", namespaces), pick(t, "name", []string{"default.n0", "n1", "n2"})
	case kindGlobalPolicy:
		k.Name = fmt.Sprintf("g%d", rapid.IntRange(0, 2).Draw(t, "n"))
	case kindTier:
		k.Name = pick(t, "tier", tierNames[:3])
	case kindProfile:
		k.Name = pick(t, "profile", profiles[:5])
	case kindNetworkSet:
		k.Namespace, k.Name = pick(t, "ns", namespaces), "s"
	case kindGlobalNetwSet:
		k.Name = fmt.Sprintf("s%d", rapid.IntRange(0, 1).Draw(t, "n"))
	}
	return k
}

// drawObject draws what may be stored under a key. bad allows objects that
// cannot be enforced.
func drawObject(t *rapid.T, k Key, bad bool) v3.Resource {
	meta := v3.ObjectMeta{Name: k.Name, Namespace: k.Namespace, Labels: drawLabels(t)}
	obj := v3.Object{TypeMeta: v3.TypeMeta{Kind: k.Kind, APIVersion: v3.APIVersion}, Metadata: meta}
	bad = bad && chance(t, "bad", 8)
	switch k.Kind {
	case kindEndpoint:
		if !chance(t, "outside", 5) {
			obj.Metadata.Labels[labelNamespace] = k.Namespace
		}
		w := &v3.WorkloadEndpoint{Object: obj}
		if chance(t, "dated", 2) {
			at := fmt.Sprintf("2026-01-0%dT00:00:00Z", rapid.IntRange(1, 3).Draw(t, "day"))
			w.Metadata.CreationTimestamp = &at
		}
		s := &w.Spec
		s.Node, s.InterfaceName = pick(t, "node", nodes), pick(t, "iface", ifaces)
		for range rapid.IntRange(0, 3).Draw(t, "addrs") {
			s.IPNetworks = append(s.IPNetworks, addr(t, rapid.Bool().Draw(t, "v4")).String())
		}
		for range rapid.IntRange(0, 2).Draw(t, "profiles") {
			s.Profiles = append(s.Profiles, pick(t, "profile", profiles))
		}
		if chance(t, "sa", 3) {
			s.ServiceAccountName = pick(t, "account", []string{"sa0", "sa1"})
		}
		for range rapid.IntRange(0, 2).Draw(t, "ports") {
			s.Ports = append(s.Ports, v3.EndpointPort{
				Name: pick(t, "port name", portNames), Protocol: drawProtocol(t), Port: pick(t, "port", portNums[1:]),
			})
		}
		if chance(t, "spoof", 20) {
			s.AllowSpoofedSourcePrefixes = []string{"10.0.0.0/8"}
		}
		if bad {
			s.MAC = "nonsense"
		}
		return w
	case kindPolicy:
		return &v3.NetworkPolicy{Object: obj, Spec: drawPolicy(t, bad)}
	case kindGlobalPolicy:
		s := v3.GlobalPolicySpec{PolicySpec: drawPolicy(t, bad), NamespaceSelector: pick(t, "nssel", namespaceSelectors)}
		s.DoNotTrack = chance(t, "untracked", 12)
		return &v3.GlobalNetworkPolicy{Object: obj, Spec: s}
	case kindTier:
		s := v3.TierSpec{DefaultAction: pick(t, "default", []string{"", "Deny", "Pass", "Allow"})}
		if !chance(t, "orderless", 4) {
			s.Order = drawOrder(t)
		}
		return &v3.Tier{Object: obj, Spec: s}
	case kindProfile:
		s := v3.ProfileSpec{Ingress: drawRules(t, bad), Egress: drawRules(t, false), LabelsToApply: map[string]string{}}
		for _, l := range []string{"pcns.team=t0", "pcns.team=t1", "pcsa.job=j0", "env=x", "shade=dark"} {
			if chance(t, l, 3) {
				var name, value string
				name, value = l[:len(l)-3], l[len(l)-2:]
				if l == "env=x" {
					name, value = "env", "x"
				} else if l == "shade=dark" {
					name, value = "shade", "dark"
				}
				s.LabelsToApply[name] = value
			}
		}
		return &v3.Profile{Object: obj, Spec: s}
	case kindNetworkSet:
		return &v3.NetworkSet{Object: obj, Spec: v3.NetworkSetSpec{Nets: drawNets(t, "nets", 2)}}
	}
	return &v3.GlobalNetworkSet{Object: obj, Spec: v3.NetworkSetSpec{Nets: drawNets(t, "nets", 2)}}
}

func drawOrder(t *rapid.T) *float64 {
	f := pick(t, "order", []float64{-1e308, -1, 0, 1, 1, 1e308})
	return &f
}

func drawProtocol(t *rapid.T) v3.Protocol {
	return pick(t, "protocol", []v3.Protocol{
		v3.ProtocolName("TCP"), v3.ProtocolName("tcp"), v3.ProtocolName("UDP"), v3.ProtocolNumber(6), v3.ProtocolName("SCTP"),
	})
}

func drawPolicy(t *rapid.T, bad bool) v3.PolicySpec {
	s := v3.PolicySpec{
		Tier:                   pick(t, "tier", tierNames),
		Selector:               pick(t, "selector", selectors),
		ServiceAccountSelector: pick(t, "sasel", accountSelectors),
		Ingress:                drawRules(t, bad),
		Egress:                 drawRules(t, false),
		Types:                  pick(t, "types", [][]string{nil, nil, {"Ingress"}, {"Egress"}, {"Ingress", "Egress"}}),
	}
	if !chance(t, "orderless", 3) {
		s.Order = drawOrder(t)
	}
	if bad && chance(t, "worse", 2) {
		s.Selector = "role == "
	}
	return s
}

func drawRules(t *rapid.T, bad bool) []v3.Rule {
	var rules []v3.Rule
	for range rapid.IntRange(0, 5).Draw(t, "rules") {
		rules = append(rules, drawRule(t))
	}
	if bad && len(rules) > 0 {
		rules[0].Source.Nets = []string{"10.0.0.0/33"}
	}
	return rules
}

func drawRule(t *rapid.T) v3.Rule {
	r := v3.Rule{Action: pick(t, "action", []string{"Allow", "Allow", "Allow", "Deny", "Deny", "Pass", "Log", "Shrug"})}
	if chance(t, "version?", 5) {
		v := pick(t, "version", []int{4, 6})
		r.IPVersion = &v
	}
	all := append([]v3.Protocol{v3.ProtocolName("ICMP"), v3.ProtocolName("ICMPv6"), v3.ProtocolName("UDPLite"), v3.ProtocolNumber(47), v3.ProtocolName("nonsense")}, drawProtocol(t), drawProtocol(t))
	if chance(t, "proto?", 3) {
		p := pick(t, "proto", all)
		r.Protocol = &p
	}
	if chance(t, "notproto?", 6) {
		p := pick(t, "notproto", all)
		r.NotProtocol = &p
	}
	if chance(t, "icmp?", 6) {
		r.ICMP = drawICMP(t)
	}
	if chance(t, "noticmp?", 8) {
		r.NotICMP = drawICMP(t)
	}
	if chance(t, "http", 30) {
		r.HTTP = &v3.HTTPMatch{}
	}
	r.Source, r.Destination = drawEntity(t), drawEntity(t)
	return r
}

func drawICMP(t *rapid.T) *v3.ICMP {
	m := &v3.ICMP{}
	if !chance(t, "no type", 4) {
		n := pick(t, "type", []int{0, 8, 128, 255})
		m.Type = &n
	}
	if chance(t, "code?", 2) {
		n := pick(t, "code", []int{0, 1})
		m.Code = &n
	}
	return m
}

func drawEntity(t *rapid.T) v3.EntityRule {
	var e v3.EntityRule
	if chance(t, "any", 2) {
		return e
	}
	if chance(t, "nets?", 4) {
		e.Nets = drawNets(t, "nets", rapid.IntRange(0, 2).Draw(t, "families"))
	}
	if chance(t, "notnets?", 6) {
		e.NotNets = drawNets(t, "notnets", rapid.IntRange(0, 2).Draw(t, "families"))
	}
	if chance(t, "selector?", 3) {
		e.Selector = pick(t, "selector", selectors)
	}
	if chance(t, "notselector?", 6) {
		e.NotSelector = pick(t, "notselector", selectors)
	}
	if chance(t, "nssel?", 4) {
		e.NamespaceSelector = pick(t, "nssel", namespaceSelectors)
	}
	if chance(t, "sas?", 6) {
		e.ServiceAccounts = &v3.ServiceAccounts{Selector: pick(t, "sasel", accountSelectors)}
		if rapid.Bool().Draw(t, "sa names") {
			e.ServiceAccounts.Names = []string{"sa0"}
		}
	}
	if chance(t, "services?", 40) {
		e.Services = &v3.ServiceMatch{Name: "kubernetes"}
	}
	if chance(t, "ports?", 4) {
		e.Ports = drawPorts(t)
	}
	if chance(t, "notports?", 8) {
		e.NotPorts = drawPorts(t)
	}
	return e
}

func drawPorts(t *rapid.T) []v3.Port {
	var ports []v3.Port
	for range rapid.IntRange(1, 3).Draw(t, "ports") {
		ports = append(ports, pick(t, "port", []v3.Port{
			v3.SinglePort(80), v3.SinglePort(81), v3.SinglePort(0), {Min: 0, Max: 65535}, {Min: 53, Max: 80},
			{Name: "http"}, {Name: "http"}, {Name: "dns"}, {Name: "nosuch"},
		}))
	}
	return ports
}

func drawPacket(t *rapid.T) Packet {
	v4 := rapid.Bool().Draw(t, "v4")
	return Packet{
		Src: addr(t, v4), Dst: addr(t, v4),
		Proto:   pick(t, "proto", protoNums),
		SrcPort: pick(t, "sport", portNums), DstPort: pick(t, "dport", portNums),
		ICMPType: pick(t, "type", []uint8{0, 8, 128, 255}), ICMPCode: pick(t, "code", []uint8{0, 1}),
	}
}
