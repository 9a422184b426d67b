// SPDX-License-Identifier: Apache-2.0

// Package policytest draws random worlds of the data model for tests: objects
// of the kinds that policy is made of, small and full of encounters, and
// packets between the addresses in them. It knows nothing of how policy is
// compiled or evaluated, so tests of either can use it.
package policytest

import (
	"fmt"
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// Key is where an object is stored, as policy.Key.
type Key struct {
	Kind, Namespace, Name string
}

// Nodes are those of the endpoints in a world; Interfaces are the names that
// these have on either.
// HostInterfaces are those of servers that are no workload's.
var (
	Nodes      = []string{"alpha", "beta"}
	Interfaces = []string{"cali0", "cali1", "cali2", "cali3", "cali4", "cali5", "cali6", "cali7"}

	HostInterfaces = []string{"up0", "up1"}
)

// What worlds are made of is little, so that much in them meets.
var (
	namespaces = []string{"red", "blue"}
	profiles   = []string{"p0", "p1", "kns.red", "kns.blue", "ksa.red.sa0", "projectcalico-default-allow"}
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
	stagedActions      = []string{"", "Set", "Set", "Learn", "Ignore", "Delete"}
	accountSelectors   = []string{"", "", "", "all()", "job == 'j0'", "!has(job)"}
	netTexts           = [][]string{
		{"10.0.0.0/29", "10.0.0.0/30", "10.0.0.1", "10.0.0.6/31", "0.0.0.0/0", "10.0.0.5/8", "192.0.2.0/24", "::ffff:10.0.0.2"},
		{"2001:db8::/125", "2001:db8::/126", "2001:db8::1", "2001:db8::6/127", "::/0", "2001:db8:1::/48"},
	}
)

func addr(t *rapid.T, v4 bool) netip.Addr {
	return Addr(v4, rapid.IntRange(0, Addrs-1).Draw(t, "addr"))
}

// Addrs is how many addresses of each family there are in worlds.
const Addrs = 9

// Addr is one of the addresses of a family. The last is outside the networks
// of endpoints.
func Addr(v4 bool, i int) netip.Addr {
	n := byte(i)
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

// Reserved draws the addresses of nodes.
func Reserved(t *rapid.T) map[netip.Addr]string {
	owners := map[netip.Addr]string{}
	for range rapid.IntRange(0, 3).Draw(t, "reserved") {
		owners[addr(t, rapid.Bool().Draw(t, "v4"))] = Pick(t, "owner", []string{"Node n1", "Node n2"})
	}
	return owners
}

// Pick draws one of a list.
func Pick[T any](t *rapid.T, name string, list []T) T {
	return rapid.SampledFrom(list).Draw(t, name)
}

// Chance is true once in so many draws.
func Chance(t *rapid.T, name string, oneIn int) bool {
	return rapid.IntRange(0, oneIn-1).Draw(t, name) == oneIn-1
}

func drawLabels(t *rapid.T) map[string]string {
	m := map[string]string{}
	if !Chance(t, "no role", 4) {
		m["role"] = Pick(t, "role", []string{"a", "b", "ab"})
	}
	if Chance(t, "env?", 2) {
		m["env"] = Pick(t, "env", []string{"x", "y"})
	}
	if Chance(t, "forge", 8) {
		m[Pick(t, "forged", []string{"pcns.team", "pcsa.job", "projectcalico.org/namespace", "projectcalico.org/serviceaccount"})] = Pick(t, "forgery", []string{"t0", "red", "sa0"})
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
		nets = append(nets, Pick(t, name, netTexts[f]))
	}
	return nets
}

// DrawKey draws the key of some object.
func DrawKey(t *rapid.T) Key {
	kind := Pick(t, "kind", []string{
		"WorkloadEndpoint", "WorkloadEndpoint", "WorkloadEndpoint", "NetworkPolicy", "NetworkPolicy", "GlobalNetworkPolicy", "GlobalNetworkPolicy",
		"GlobalNetworkPolicy", "Tier", "Profile", "NetworkSet", "GlobalNetworkSet", "HostEndpoint", "HostEndpoint",
	})
	if (kind == "NetworkPolicy" || kind == "GlobalNetworkPolicy") && Chance(t, "staged", 12) {
		kind = "Staged" + kind
		if kind == "StagedNetworkPolicy" && Chance(t, "of Kubernetes", 3) {
			kind = "StagedKubernetesNetworkPolicy"
		}
	}
	k := Key{Kind: kind}
	switch kind {
	case "WorkloadEndpoint":
		k.Namespace, k.Name = Pick(t, "ns", namespaces), fmt.Sprintf("e%d", rapid.IntRange(0, 3).Draw(t, "n"))
	case "NetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy":
		k.Namespace, k.Name = Pick(t, "ns", namespaces), Pick(t, "name", []string{"default.n0", "n1", "n2"})
	case "GlobalNetworkPolicy", "StagedGlobalNetworkPolicy":
		k.Name = fmt.Sprintf("g%d", rapid.IntRange(0, 4).Draw(t, "n"))
	case "Tier":
		k.Name = Pick(t, "tier", tierNames[:3])
	case "Profile":
		k.Name = Pick(t, "profile", profiles[:5])
	case "HostEndpoint":
		k.Name = fmt.Sprintf("h%d", rapid.IntRange(0, 3).Draw(t, "n"))
	case "NetworkSet":
		k.Namespace, k.Name = Pick(t, "ns", namespaces), "s"
	case "GlobalNetworkSet":
		k.Name = fmt.Sprintf("s%d", rapid.IntRange(0, 1).Draw(t, "n"))
	}
	return k
}

// DrawObject draws what may be stored under a key. bad allows objects that
// cannot be enforced.
func DrawObject(t *rapid.T, k Key, bad bool) v3.Resource {
	meta := v3.ObjectMeta{Name: k.Name, Namespace: k.Namespace, Labels: drawLabels(t)}
	obj := v3.Object{TypeMeta: v3.TypeMeta{Kind: k.Kind, APIVersion: v3.APIVersion}, Metadata: meta}
	bad = bad && Chance(t, "bad", 8)
	switch k.Kind {
	case "WorkloadEndpoint":
		if !Chance(t, "outside", 5) {
			obj.Metadata.Labels["projectcalico.org/namespace"] = k.Namespace
		}
		if Chance(t, "pod", 2) {
			obj.Metadata.Labels["projectcalico.org/orchestrator"] = "k8s"
		}
		w := &v3.WorkloadEndpoint{Object: obj}
		if Chance(t, "dated", 2) {
			at := fmt.Sprintf("2026-01-0%dT00:00:00Z", rapid.IntRange(1, 3).Draw(t, "day"))
			w.Metadata.CreationTimestamp = &at
		}
		s := &w.Spec
		s.Node, s.InterfaceName = Pick(t, "node", Nodes), Pick(t, "iface", Interfaces)
		for range rapid.IntRange(0, 3).Draw(t, "addrs") {
			s.IPNetworks = append(s.IPNetworks, addr(t, rapid.Bool().Draw(t, "v4")).String())
		}
		for range rapid.IntRange(0, 2).Draw(t, "profiles") {
			s.Profiles = append(s.Profiles, Pick(t, "profile", profiles))
		}
		if Chance(t, "sa", 3) {
			s.ServiceAccountName = Pick(t, "account", []string{"sa0", "sa1"})
		}
		for range rapid.IntRange(0, 2).Draw(t, "ports") {
			s.Ports = append(s.Ports, v3.EndpointPort{
				Name: Pick(t, "port name", portNames), Protocol: drawProtocol(t), Port: Pick(t, "port", portNums[1:]),
			})
		}
		if Chance(t, "spoof", 20) {
			s.AllowSpoofedSourcePrefixes = []string{"10.0.0.0/8"}
		}
		if bad {
			s.MAC = "nonsense"
		}
		if Chance(t, "process", 4) {
			w.Metadata.Annotations = map[string]string{hostProcess: "Enabled"}
		}
		return w
	case "HostEndpoint":
		return drawHost(t, obj, bad)
	case "NetworkPolicy":
		return &v3.NetworkPolicy{Object: obj, Spec: drawPolicy(t, bad)}
	case "GlobalNetworkPolicy":
		s := v3.GlobalPolicySpec{PolicySpec: drawPolicy(t, bad), NamespaceSelector: Pick(t, "nssel", namespaceSelectors)}
		switch rapid.IntRange(0, 9).Draw(t, "stage") {
		case 0, 1:
			s.ApplyOnForward, s.DoNotTrack = true, true
		case 2, 3:
			s.ApplyOnForward, s.PreDNAT = true, true
		case 4, 5, 6:
			s.ApplyOnForward = true
		}
		return &v3.GlobalNetworkPolicy{Object: obj, Spec: s}
	case "StagedNetworkPolicy":
		return &v3.StagedNetworkPolicy{Object: obj, Spec: v3.StagedPolicySpec{StagedAction: Pick(t, "staged", stagedActions), PolicySpec: drawPolicy(t, bad)}}
	case "StagedKubernetesNetworkPolicy":
		return &v3.StagedKubernetesNetworkPolicy{Object: obj, Spec: drawKubernetes(t)}
	case "StagedGlobalNetworkPolicy":
		s := v3.GlobalPolicySpec{PolicySpec: drawPolicy(t, bad), NamespaceSelector: Pick(t, "nssel", namespaceSelectors)}
		return &v3.StagedGlobalNetworkPolicy{Object: obj, Spec: v3.StagedGlobalPolicySpec{StagedAction: Pick(t, "staged", stagedActions), GlobalPolicySpec: s}}
	case "Tier":
		s := v3.TierSpec{DefaultAction: Pick(t, "default", []string{"", "Deny", "Pass", "Allow"})}
		if !Chance(t, "orderless", 4) {
			s.Order = drawOrder(t)
		}
		return &v3.Tier{Object: obj, Spec: s}
	case "Profile":
		s := v3.ProfileSpec{Ingress: drawRules(t, bad), Egress: drawRules(t, false), LabelsToApply: map[string]string{}}
		for _, l := range []string{"pcns.team=t0", "pcns.team=t1", "pcsa.job=j0", "env=x", "shade=dark"} {
			if Chance(t, l, 3) {
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
	case "NetworkSet":
		return &v3.NetworkSet{Object: obj, Spec: v3.NetworkSetSpec{Nets: drawNets(t, "nets", 2)}}
	}
	return &v3.GlobalNetworkSet{Object: obj, Spec: v3.NetworkSetSpec{Nets: drawNets(t, "nets", 2)}}
}

const hostProcess = v3.AnnotationPrefix + "host-process"

// Workload makes what is drawn a workload's, if it is an endpoint: for tests in which the
// server itself sends and receives nothing.
func Workload(r v3.Resource) v3.Resource {
	if w, ok := r.(*v3.WorkloadEndpoint); ok {
		delete(w.Metadata.Annotations, hostProcess)
	}
	return r
}

// drawKubernetes draws a staged policy of Kubernetes, of which some cannot be read.
func drawKubernetes(t *rapid.T) v3.StagedKubernetesPolicySpec {
	s := v3.StagedKubernetesPolicySpec{StagedAction: Pick(t, "staged", stagedActions)}
	port := v3.SinglePort(80)
	for range rapid.IntRange(0, 2).Draw(t, "rules") {
		s.Ingress = append(s.Ingress, v3.KubernetesIngressRule{
			From:  Pick(t, "from", [][]v3.KubernetesPeer{nil, {{PodSelector: &v3.KubernetesSelector{MatchLabels: map[string]string{"role": "a"}}}}, {{IPBlock: &v3.KubernetesIPBlock{CIDR: "10.0.0.0/29"}}}, {{}}}),
			Ports: Pick(t, "ports", [][]v3.KubernetesPort{nil, {{Port: &port}}, {{Protocol: "UDP"}}}),
		})
	}
	return s
}

// drawHost draws a host endpoint, mostly of the first node.
func drawHost(t *rapid.T, obj v3.Object, bad bool) v3.Resource {
	h := &v3.HostEndpoint{Object: obj}
	s := &h.Spec
	s.Node = Nodes[0]
	if Chance(t, "elsewhere", 5) {
		s.Node = Nodes[1]
	}
	s.InterfaceName = Pick(t, "iface", append([]string{"", "*"}, HostInterfaces...))
	for range rapid.IntRange(0, 2).Draw(t, "expected") {
		s.ExpectedIPs = append(s.ExpectedIPs, addr(t, rapid.Bool().Draw(t, "v4")).String())
	}
	for range rapid.IntRange(0, 2).Draw(t, "profiles") {
		s.Profiles = append(s.Profiles, Pick(t, "profile", profiles))
	}
	if Chance(t, "port", 3) {
		s.Ports = []v3.HostEndpointPort{{Name: Pick(t, "port name", portNames), Protocol: drawProtocol(t), Port: Pick(t, "port", portNums[1:])}}
	}
	if Chance(t, "inside", 6) {
		s.ExpectedIPs = append(s.ExpectedIPs, "nonsense")
		obj.Metadata.Labels["projectcalico.org/namespace"] = Pick(t, "ns", namespaces)
	}
	if bad {
		s.InterfaceName, s.ExpectedIPs = "", nil
	}
	return h
}

// DrawHostWorld draws host endpoints of the first node, and policies for all
// endpoints in different stages.
func DrawHostWorld(t *rapid.T, put func(Key, v3.Resource)) {
	for i := range rapid.IntRange(1, 2).Draw(t, "hosts") {
		k := Key{Kind: "HostEndpoint", Name: fmt.Sprintf("h%d", i)}
		h := DrawObject(t, k, false).(*v3.HostEndpoint)
		h.Spec.Node, h.Spec.InterfaceName = Nodes[0], Pick(t, "iface", []string{HostInterfaces[0], HostInterfaces[0], "*"})
		put(k, h)
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "policies") {
		k := Key{Kind: "GlobalNetworkPolicy", Name: fmt.Sprintf("g%d", i)}
		p := DrawObject(t, k, false).(*v3.GlobalNetworkPolicy)
		p.Spec.Selector, p.Spec.NamespaceSelector, p.Spec.ServiceAccountSelector = "", "", ""
		put(k, p)
	}
}

// DrawProcesses draws endpoints of processes of the first node, each under an interface's
// name and with addresses that the others do not have.
func DrawProcesses(t *rapid.T, put func(Key, v3.Resource)) {
	for i := range rapid.IntRange(1, 3).Draw(t, "processes") {
		k := Key{Kind: "WorkloadEndpoint", Namespace: Pick(t, "ns", namespaces), Name: fmt.Sprintf("a%d", i)}
		w := DrawObject(t, k, false).(*v3.WorkloadEndpoint)
		w.Metadata.Annotations = map[string]string{hostProcess: "Enabled"}
		w.Spec.Node, w.Spec.InterfaceName, w.Spec.AllowSpoofedSourcePrefixes = Nodes[0], Interfaces[i], nil
		w.Spec.IPNetworks = []string{Addr(true, i).String(), Addr(false, i).String()}
		put(k, w)
	}
}

// Addresses draws which addresses host interfaces have.
func Addresses(t *rapid.T) map[string][]netip.Addr {
	m := map[string][]netip.Addr{}
	for _, name := range HostInterfaces {
		for range rapid.IntRange(0, 2).Draw(t, name) {
			m[name] = append(m[name], addr(t, rapid.Bool().Draw(t, "v4")))
		}
	}
	return m
}

// Failsafe is as policy.Failsafe.
type Failsafe struct {
	Proto uint8
	Port  uint16
	Net   netip.Prefix
}

// Failsafes draws the failsafe ports of one direction.
func Failsafes(t *rapid.T) (list []Failsafe) {
	for range rapid.IntRange(0, 2).Draw(t, "failsafes") {
		f := Failsafe{Proto: Pick(t, "proto", []uint8{6, 17, 132}), Port: Pick(t, "port", []uint16{53, 80, 443})}
		if Chance(t, "net", 3) {
			f.Net = netip.MustParsePrefix(Pick(t, "net", []string{"10.0.0.0/30", "2001:db8::/126"}))
		}
		list = append(list, f)
	}
	return list
}

func drawOrder(t *rapid.T) *float64 {
	f := Pick(t, "order", []float64{-1e308, -1, 0, 1, 1, 1e308})
	return &f
}

func drawProtocol(t *rapid.T) v3.Protocol {
	return Pick(t, "protocol", []v3.Protocol{
		v3.ProtocolName("TCP"), v3.ProtocolName("tcp"), v3.ProtocolName("UDP"), v3.ProtocolNumber(6), v3.ProtocolName("SCTP"),
	})
}

func drawPolicy(t *rapid.T, bad bool) v3.PolicySpec {
	s := v3.PolicySpec{
		Tier:                   Pick(t, "tier", tierNames),
		Selector:               Pick(t, "selector", selectors),
		ServiceAccountSelector: Pick(t, "sasel", accountSelectors),
		Ingress:                drawRules(t, bad),
		Egress:                 drawRules(t, false),
		Types:                  Pick(t, "types", [][]string{nil, nil, {"Ingress"}, {"Egress"}, {"Ingress", "Egress"}}),
	}
	if !Chance(t, "orderless", 3) {
		s.Order = drawOrder(t)
	}
	if bad && Chance(t, "worse", 2) {
		s.Selector = "role == "
	}
	return s
}

func drawRules(t *rapid.T, bad bool) []v3.Rule {
	var rules []v3.Rule
	for range rapid.IntRange(0, 5).Draw(t, "rules") {
		rules = append(rules, drawRule(t))
	}
	if Chance(t, "run?", 4) {
		at := rapid.IntRange(0, len(rules)).Draw(t, "place of the run")
		rules = slices.Insert(rules, at, drawRun(t)...)
	}
	if bad && len(rules) > 0 {
		rules[0].Source.Nets = []string{"10.0.0.0/33"}
	}
	return rules
}

// drawRun draws rules that have the same action and the same fields, so many that
// a data plane may want to take them together, and among them one that is nearly
// like them.
func drawRun(t *rapid.T) []v3.Rule {
	action := Pick(t, "action of the run", []string{"Allow", "Allow", "Deny", "Pass"})
	src, dst := rapid.Bool().Draw(t, "sources"), Chance(t, "destinations", 3)
	protocols := Chance(t, "protocols", 2)
	ports := protocols && !Chance(t, "no ports", 3) || Chance(t, "ports alone", 4)
	selector := ""
	if Chance(t, "selector of the run", 4) {
		selector = Pick(t, "selector", selectors)
	}
	var run []v3.Rule
	for range rapid.IntRange(6, 14).Draw(t, "run") {
		r := v3.Rule{Action: action}
		if src {
			r.Source.Nets = drawNets(t, "nets", rapid.IntRange(0, 2).Draw(t, "families"))
		}
		if dst {
			r.Destination.Nets = drawNets(t, "nets", rapid.IntRange(0, 2).Draw(t, "families"))
		}
		if protocols {
			p := drawProtocol(t)
			if !ports && rapid.Bool().Draw(t, "without ports") {
				p = Pick(t, "protocol", []v3.Protocol{v3.ProtocolName("ICMP"), v3.ProtocolName("ICMPv6"), v3.ProtocolNumber(47), v3.ProtocolNumber(89)})
			}
			r.Protocol = &p
		}
		if ports {
			for range rapid.IntRange(1, 2).Draw(t, "ports") {
				lo := Pick(t, "port", portNums)
				r.Destination.Ports = append(r.Destination.Ports, v3.Port{Min: lo, Max: max(lo, Pick(t, "to", portNums))})
			}
		}
		r.Source.Selector = selector
		run = append(run, r)
	}
	if twin := &run[rapid.IntRange(0, len(run)-1).Draw(t, "twin")]; rapid.Bool().Draw(t, "twin?") {
		four := 4
		switch rapid.IntRange(0, 8).Draw(t, "differs in") {
		case 0:
			twin.Action = Pick(t, "action", []string{"Allow", "Deny", "Pass"})
		case 1:
			twin.Action = "Log"
		case 2:
			twin.Source.NotNets = drawNets(t, "notnets", 2)
		case 3:
			twin.IPVersion = &four
		case 4:
			twin.ICMP = drawICMP(t)
		case 5:
			twin.NotProtocol = new(drawProtocol(t))
		case 6:
			twin.Destination.Ports = append(twin.Destination.Ports, v3.Port{Name: Pick(t, "port name", portNames)})
		case 7:
			twin.Destination.Ports, twin.Protocol = nil, nil
		case 8:
			twin.Destination.Selector = Pick(t, "selector", selectors)
		}
	}
	return run
}

func drawRule(t *rapid.T) v3.Rule {
	r := v3.Rule{Action: Pick(t, "action", []string{"Allow", "Allow", "Allow", "Deny", "Deny", "Pass", "Log", "Shrug"})}
	if Chance(t, "version?", 5) {
		v := Pick(t, "version", []int{4, 6})
		r.IPVersion = &v
	}
	all := append([]v3.Protocol{v3.ProtocolName("ICMP"), v3.ProtocolName("ICMPv6"), v3.ProtocolName("UDPLite"), v3.ProtocolNumber(47), v3.ProtocolName("nonsense")}, drawProtocol(t), drawProtocol(t))
	if Chance(t, "proto?", 3) {
		p := Pick(t, "proto", all)
		r.Protocol = &p
	}
	if Chance(t, "notproto?", 6) {
		p := Pick(t, "notproto", all)
		r.NotProtocol = &p
	}
	if Chance(t, "icmp?", 6) {
		r.ICMP = drawICMP(t)
	}
	if Chance(t, "noticmp?", 8) {
		r.NotICMP = drawICMP(t)
	}
	if Chance(t, "http", 30) {
		r.HTTP = &v3.HTTPMatch{}
	}
	r.Source, r.Destination = drawEntity(t), drawEntity(t)
	return r
}

func drawICMP(t *rapid.T) *v3.ICMP {
	m := &v3.ICMP{}
	if !Chance(t, "no type", 4) {
		n := Pick(t, "type", []int{0, 8, 128, 255})
		m.Type = &n
	}
	if Chance(t, "code?", 2) {
		n := Pick(t, "code", []int{0, 1})
		m.Code = &n
	}
	return m
}

func drawEntity(t *rapid.T) v3.EntityRule {
	var e v3.EntityRule
	if Chance(t, "any", 2) {
		return e
	}
	if Chance(t, "nets?", 4) {
		e.Nets = drawNets(t, "nets", rapid.IntRange(0, 2).Draw(t, "families"))
	}
	if Chance(t, "notnets?", 6) {
		e.NotNets = drawNets(t, "notnets", rapid.IntRange(0, 2).Draw(t, "families"))
	}
	if Chance(t, "selector?", 3) {
		e.Selector = Pick(t, "selector", selectors)
	}
	if Chance(t, "notselector?", 6) {
		e.NotSelector = Pick(t, "notselector", selectors)
	}
	if Chance(t, "nssel?", 4) {
		e.NamespaceSelector = Pick(t, "nssel", namespaceSelectors)
	}
	if Chance(t, "sas?", 6) {
		e.ServiceAccounts = &v3.ServiceAccounts{Selector: Pick(t, "sasel", accountSelectors)}
		if rapid.Bool().Draw(t, "sa names") {
			e.ServiceAccounts.Names = []string{"sa0"}
		}
	}
	if Chance(t, "services?", 40) {
		e.Services = &v3.ServiceMatch{Name: "kubernetes"}
	}
	if Chance(t, "ports?", 4) {
		e.Ports = drawPorts(t)
	}
	if Chance(t, "notports?", 8) {
		e.NotPorts = drawPorts(t)
	}
	return e
}

func drawPorts(t *rapid.T) []v3.Port {
	var ports []v3.Port
	for range rapid.IntRange(1, 3).Draw(t, "ports") {
		ports = append(ports, Pick(t, "port", []v3.Port{
			v3.SinglePort(80), v3.SinglePort(81), v3.SinglePort(0), {Min: 0, Max: 65535}, {Min: 53, Max: 80},
			{Name: "http"}, {Name: "http"}, {Name: "dns"}, {Name: "nosuch"},
		}))
	}
	return ports
}

// Packet is a packet between addresses that worlds speak of, as policy.Packet.
type Packet struct {
	Src, Dst           netip.Addr
	Proto              uint8
	SrcPort, DstPort   uint16
	ICMPType, ICMPCode uint8
}

// DrawPacket draws a packet, which need not make sense on a wire.
func DrawPacket(t *rapid.T) Packet {
	v4 := rapid.Bool().Draw(t, "v4")
	return Packet{
		Src: addr(t, v4), Dst: addr(t, v4),
		Proto:   Pick(t, "proto", protoNums),
		SrcPort: Pick(t, "sport", portNums), DstPort: Pick(t, "dport", portNums),
		ICMPType: Pick(t, "type", []uint8{0, 8, 128, 135, 255}), ICMPCode: Pick(t, "code", []uint8{0, 1}),
	}
}
