// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// scene is an Index and a World that are told the same, with endpoints a
// (10.0.0.1, 2001:db8::1) and b (.2, ::2) of node alpha in namespace red.
type scene struct {
	t *testing.T
	x *Index
	w *World
}

func newScene(t *testing.T) *scene {
	s := &scene{t, NewIndex("alpha"), &World{}}
	s.endpoint("a", 1, nil)
	s.endpoint("b", 2, nil)
	return s
}

func (s *scene) set(k Key, r v3.Resource) { s.x.Set(k, r, nil); s.w.Put(k, r, nil) }

func (s *scene) endpoint(name string, n int, edit func(*v3.WorkloadEndpoint)) EndpointID {
	w := &v3.WorkloadEndpoint{}
	w.Metadata = v3.ObjectMeta{Name: name, Namespace: "red", Labels: map[string]string{"name": name, labelNamespace: "red"}}
	w.Spec = v3.WorkloadEndpointSpec{
		Node: "alpha", InterfaceName: "cali-" + name,
		IPNetworks: []string{fmt.Sprintf("10.0.0.%d", n), fmt.Sprintf("2001:db8::%d/128", n)},
	}
	if edit != nil {
		edit(w)
	}
	s.set(endpointKey(name), w)
	return EndpointID{"red", name}
}

func endpointKey(name string) Key { return Key{kindEndpoint, "red", name} }

func globalKey(name string) Key { return Key{Kind: kindGlobalPolicy, Name: name} }

func (s *scene) global(name string, spec v3.GlobalPolicySpec) {
	s.set(globalKey(name), &v3.GlobalNetworkPolicy{Spec: spec})
}

// ingress is a policy for b with these rules.
func ingress(rules ...v3.Rule) v3.GlobalPolicySpec {
	return v3.GlobalPolicySpec{PolicySpec: v3.PolicySpec{Selector: "name == 'b'", Types: []string{"Ingress"}, Ingress: rules}}
}

// allowed asks both the index and the evaluator whether b receives a packet
// from outside, or from wherever p says.
func (s *scene) allowed(p Packet) bool {
	s.t.Helper()
	return s.decide(EndpointID{"red", "b"}, Ingress, p).Allowed
}

func (s *scene) decide(id EndpointID, dir Direction, p Packet) Decision {
	s.t.Helper()
	s.x.Flush()
	f := Flow{Packet: p, From: id}
	if dir == Ingress {
		f = Flow{Packet: p, To: id}
	}
	trace := Evaluate(s.w, f)
	d := trace.Ingress
	if dir == Egress {
		d = trace.Egress
	}
	in := newInterp(s.x)
	e := in.eps[id]
	if e == nil {
		if d.Reason != Closed {
			s.t.Fatalf("%s is closed in the index; the evaluator says: %s", id, d)
		}
		return *d
	}
	if got := in.decide(s.t, e, dir, &p); got.allowed != d.Allowed {
		s.t.Fatalf("%+v: the index says %+v, the evaluator: %s", p, got, d)
	}
	return *d
}

func (s *scene) problems() string {
	var b strings.Builder
	for p := range s.x.Problems() {
		fmt.Fprintln(&b, p)
	}
	return b.String()
}

func (s *scene) reports(texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		if got := s.problems(); !strings.Contains(got, text) {
			s.t.Errorf("problems lack %q:\n%s", text, got)
		}
	}
}

func tcp(src string, port uint16) Packet {
	p := Packet{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr("10.0.0.2"), Proto: 6, SrcPort: 40000, DstPort: port}
	if p.Src.Is6() {
		p.Dst = netip.MustParseAddr("2001:db8::2")
	}
	return p
}

func rule(action string, edit func(*v3.Rule)) v3.Rule {
	r := v3.Rule{Action: action}
	if edit != nil {
		edit(&r)
	}
	return r
}

func fromNets(action string, nets ...string) v3.Rule {
	return rule(action, func(r *v3.Rule) { r.Source.Nets = nets })
}

func TestQ06_ProfileMissing(t *testing.T) {
	s := newScene(t)
	s.endpoint("b", 2, func(w *v3.WorkloadEndpoint) { w.Spec.Profiles = []string{"late", defaultAllow} })
	if s.allowed(tcp("10.9.9.9", 80)) {
		t.Error("a missing profile lets the next one decide")
	}
	s.reports(`WorkloadEndpoint red/b: spec.profiles: profile "late" does not exist`)
	k := Key{Kind: kindProfile, Name: "late"}
	s.x.Set(k, nil, errors.New("not JSON"))
	if s.allowed(tcp("10.9.9.9", 80)) {
		t.Error("an unreadable profile lets the next one decide")
	}
	s.reports("Profile late: not JSON")
	s.set(k, &v3.Profile{})
	if !s.allowed(tcp("10.9.9.9", 80)) {
		t.Error("an empty profile decides")
	}
	// A bad version leaves the last good one in force.
	s.x.Set(k, &v3.Profile{Spec: v3.ProfileSpec{Ingress: []v3.Rule{fromNets("Deny", "nonsense")}}}, nil)
	if !s.allowed(tcp("10.9.9.9", 80)) {
		t.Error("a bad version replaced a good one")
	}
	s.reports("Profile late: spec.ingress[0].source.nets[0]")
	s.set(k, nil)
	if s.allowed(tcp("10.9.9.9", 80)) {
		t.Error("a deleted profile lets the next one decide")
	}
}

func TestQ06_PolicyUnreadable(t *testing.T) {
	s := newScene(t)
	for _, name := range []string{"a", "b"} {
		s.endpoint(name, int(name[0]-'a')+1, func(w *v3.WorkloadEndpoint) { w.Spec.Profiles = []string{defaultAllow} })
	}
	k := globalKey("p")
	bad := &v3.GlobalNetworkPolicy{Spec: ingress(fromNets("Allow", "10.0.0.0/33"))}
	s.set(k, bad)
	d := s.decide(EndpointID{"red", "b"}, Ingress, tcp("10.9.9.9", 80))
	if d.Allowed || d.Reason != BadPolicy {
		t.Errorf("a bad policy does not deny what it selects: %s", d)
	}
	if !s.decide(EndpointID{"red", "b"}, Egress, tcp("10.9.9.9", 80)).Allowed {
		t.Error("a bad ingress policy closes egress")
	}
	if !s.decide(EndpointID{"red", "a"}, Ingress, tcp("10.9.9.9", 80)).Allowed {
		t.Error("a bad policy closes an endpoint that it does not select")
	}
	s.reports("GlobalNetworkPolicy p: spec.ingress[0].source.nets[0]")

	good := &v3.GlobalNetworkPolicy{Spec: ingress(fromNets("Allow", "10.0.0.0/8"))}
	s.set(k, good)
	if !s.allowed(tcp("10.9.9.9", 80)) || s.problems() != "" {
		t.Errorf("the good version is not in force; problems: %s", s.problems())
	}
	for _, r := range []v3.Resource{bad, nil, &v3.GlobalNetworkPolicy{}} {
		var err error
		if r != bad {
			err = errors.New("not JSON")
		}
		s.x.Set(k, r, err)
		if !s.allowed(tcp("10.9.9.9", 80)) {
			t.Errorf("a bad version replaced a good one: %v", r)
		}
		if s.problems() == "" {
			t.Error("a bad version is not reported")
		}
	}
	s.set(k, nil)
	if !s.allowed(tcp("192.0.2.1", 80)) || s.problems() != "" {
		t.Error("a deleted policy is still in force")
	}
	// Unreadable from the start: with a selector it denies, without it is absent.
	s.x.Set(k, &v3.GlobalNetworkPolicy{Spec: ingress()}, errors.New("port of the wrong type"))
	s.w.Put(k, &v3.GlobalNetworkPolicy{Spec: ingress()}, errors.New("port of the wrong type"))
	if s.allowed(tcp("10.9.9.9", 80)) {
		t.Error("an unreadable policy with a selector does not deny")
	}
	s.set(k, nil)
	s.set(k, &v3.GlobalNetworkPolicy{Spec: v3.GlobalPolicySpec{PolicySpec: v3.PolicySpec{Selector: "name =="}}})
	s.x.Set(globalKey("q"), nil, errors.New("not JSON"))
	if !s.allowed(tcp("10.9.9.9", 80)) {
		t.Error("a policy without a selector is in force")
	}
	s.reports("GlobalNetworkPolicy p: spec.selector", "GlobalNetworkPolicy q: not JSON")
}

func TestQ06_EndpointUnreadable(t *testing.T) {
	s := newScene(t)
	s.x.Set(endpointKey("a"), nil, errors.New("not JSON"))
	s.x.Set(endpointKey("c"), nil, errors.New("not JSON"))
	s.x.Set(endpointKey("d"), &v3.WorkloadEndpoint{Spec: v3.WorkloadEndpointSpec{Node: "alpha", InterfaceName: "cali-d", IPNetworks: []string{"10.0.0.4/24"}}}, nil)
	s.x.Flush()
	in := newInterp(s.x)
	if in.eps[EndpointID{"red", "a"}] == nil {
		t.Error("the last good version of a is not in force")
	}
	if len(in.eps) != 2 {
		t.Errorf("%d endpoints; want 2", len(in.eps))
	}
	s.reports("WorkloadEndpoint red/a: not JSON", "WorkloadEndpoint red/c: not JSON", "WorkloadEndpoint red/d: spec.ipNetworks[0]")
	s.x.Set(endpointKey("a"), nil, nil)
	s.x.Flush()
	if newInterp(s.x).eps[EndpointID{"red", "a"}] != nil {
		t.Error("a is in force after it was deleted")
	}
}

func TestQ09_Order(t *testing.T) {
	f := func(v float64) *float64 { return &v }
	type entry struct {
		key   Key
		tier  string
		order *float64
	}
	np := func(ns, name string) Key { return Key{kindPolicy, ns, name} }
	// In the order that must come out.
	want := []entry{
		{globalKey("t-min"), "b-first", f(5)},
		{globalKey("inf-low"), "default", f(math.Inf(-1))},
		{globalKey("min"), "default", f(-math.MaxFloat64)},
		{globalKey("neg"), "default", f(-1)},
		{globalKey("a"), "default", f(0)}, // "a//G…" before "a/red/N…"
		{np("red", "a"), "default", f(math.Copysign(0, -1))},
		{globalKey("b"), "default", f(0)},
		{globalKey("int32"), "default", f(1 << 33)},
		{globalKey("max"), "default", f(math.MaxFloat64)},
		{globalKey("m-nan"), "default", f(math.NaN())}, // as none
		{globalKey("n-none"), "default", nil},
		{globalKey("o-inf"), "default", f(math.Inf(1))},
		{globalKey("orderless"), "a-orderless", nil},
		{globalKey("lost-a"), "missing-a", f(-5)},
		{globalKey("lost-b"), "missing-b", f(-9)},
	}
	s := newScene(t)
	s.set(Key{Kind: kindTier, Name: "default"}, &v3.Tier{Spec: v3.TierSpec{Order: f(1e6)}})
	s.set(Key{Kind: kindTier, Name: "b-first"}, &v3.Tier{Spec: v3.TierSpec{Order: f(-math.MaxFloat64)}})
	s.set(Key{Kind: kindTier, Name: "a-orderless"}, &v3.Tier{})
	for i := range want {
		e := want[(i*7)%len(want)]
		spec := v3.PolicySpec{Tier: e.tier, Order: e.order, Types: []string{"Ingress"}}
		if e.key.Kind == kindPolicy {
			s.set(e.key, &v3.NetworkPolicy{Spec: spec})
		} else {
			s.set(e.key, &v3.GlobalNetworkPolicy{Spec: v3.GlobalPolicySpec{PolicySpec: spec}})
		}
	}
	s.x.Flush()
	var got []string
	for e := range s.x.Endpoints() {
		if e.ID.Name != "b" {
			continue
		}
		for _, tier := range e.Effective.Tiers[Ingress] {
			for _, p := range tier.Policies {
				got = append(got, tier.Name+" "+p.Key.Name+"/"+p.Key.Namespace)
			}
		}
	}
	var expect []string
	for _, e := range want {
		expect = append(expect, e.tier+" "+e.key.Name+"/"+e.key.Namespace)
	}
	if !slices.Equal(got, expect) {
		t.Errorf("order is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(expect, "\n"))
	}
	d := s.decide(EndpointID{"red", "b"}, Ingress, tcp("10.9.9.9", 80))
	if d.Reason != EndOfTier || d.Tier != "b-first" {
		t.Errorf("decided by %s", d)
	}
}

func TestQ10_Nets(t *testing.T) {
	for _, c := range []struct {
		name        string
		rules       []v3.Rule
		allow, deny []string
	}{
		{"deny wide, then allow narrow", []v3.Rule{fromNets("Deny", "10.1.0.0/16"), fromNets("Allow", "10.1.2.0/24", "10.2.0.0/16")},
			[]string{"10.2.0.1"}, []string{"10.1.2.3", "10.1.9.9", "10.3.0.1"}},
		{"allow narrow, then deny wide", []v3.Rule{fromNets("Allow", "10.1.2.0/24"), fromNets("Deny", "10.1.0.0/16"), fromNets("Allow", "10.0.0.0/8")},
			[]string{"10.1.2.3", "10.9.9.9"}, []string{"10.1.3.1", "192.0.2.1"}},
		{"except", []v3.Rule{rule("Allow", func(r *v3.Rule) {
			r.Source.Nets, r.Source.NotNets = []string{"10.0.0.0/8"}, []string{"10.1.0.0/16"}
		})}, []string{"10.2.0.1"}, []string{"10.1.0.1", "192.0.2.1", "2001:db8::9"}},
		{"everything of one family", []v3.Rule{fromNets("Allow", "0.0.0.0/0", "10.0.0.0/8")}, []string{"192.0.2.1"}, []string{"2001:db8::9"}},
		{"everything", []v3.Rule{fromNets("Allow", "0.0.0.0/0", "::/0")}, []string{"192.0.2.1", "2001:db8::9"}, nil},
		{"host bits", []v3.Rule{fromNets("Allow", "10.1.2.3/16", "2001:db8::9/64")}, []string{"10.1.200.1", "2001:db8::77"}, []string{"10.2.0.1", "2001:db9::1"}},
		{"v4-mapped", []v3.Rule{fromNets("Allow", "::ffff:10.1.0.0/112", "::ffff:192.0.2.1")}, []string{"10.1.5.5", "192.0.2.1"}, []string{"10.2.0.1", "192.0.2.2", "2001:db8::9"}},
		{"not of the other family", []v3.Rule{rule("Allow", func(r *v3.Rule) { r.Source.NotNets = []string{"10.1.0.0/16"} })},
			[]string{"192.0.2.1"}, []string{"10.1.1.1", "2001:db8::9"}},
		{"not everything", []v3.Rule{rule("Allow", func(r *v3.Rule) { r.Source.NotNets = []string{"0.0.0.0/0"} })}, nil, []string{"192.0.2.1", "2001:db8::9"}},
		{"three lists", []v3.Rule{rule("Allow", func(r *v3.Rule) {
			p := v3.ProtocolName("TCP")
			r.Protocol = &p
			r.Source.Nets = []string{"10.1.0.0/16", "10.2.0.0/16"}
			r.Destination.Nets = []string{"10.0.0.1", "10.0.0.9"}
			r.Destination.Ports = []v3.Port{v3.SinglePort(80), v3.SinglePort(81)}
		})}, nil, []string{"10.1.0.1"}},
	} {
		s := newScene(t)
		s.global("p", ingress(c.rules...))
		for _, a := range c.allow {
			if !s.allowed(tcp(a, 80)) {
				t.Errorf("%s: %s is denied", c.name, a)
			}
		}
		for _, a := range c.deny {
			if s.allowed(tcp(a, 80)) {
				t.Errorf("%s: %s is allowed", c.name, a)
			}
		}
	}
	for _, bad := range []string{"10.0.0.0/33", "10.0.0", "fe80::1%eth0", "fe80::%eth0/64", "010.0.0.1", "10.0.0.0/-1", "", "10.0.0.0/8/8"} {
		if p, err := parseNet(bad); err == nil {
			t.Errorf("%q reads as %s", bad, p)
		}
	}
}

func TestQ11_PortsAndICMP(t *testing.T) {
	proto := func(name string) *v3.Protocol { p := v3.ProtocolName(name); return &p }
	n := func(v int) *int { return &v }
	ports := func(list ...v3.Port) func(*v3.Rule) {
		return func(r *v3.Rule) { r.Protocol, r.Destination.Ports = proto("TCP"), list }
	}
	echo4 := Packet{Src: netip.MustParseAddr("10.9.9.9"), Dst: netip.MustParseAddr("10.0.0.2"), Proto: 1, ICMPType: 8, ICMPCode: 0}
	echo6 := Packet{Src: netip.MustParseAddr("2001:db8::9"), Dst: netip.MustParseAddr("2001:db8::2"), Proto: 58, ICMPType: 128, ICMPCode: 0}
	udp := tcp("10.9.9.9", 80)
	udp.Proto = 17
	sctp, lite := udp, udp
	sctp.Proto, lite.Proto = 132, 136
	for _, c := range []struct {
		name        string
		edit        func(*v3.Rule)
		allow, deny []Packet
	}{
		{"all ports", ports(v3.Port{Min: 0, Max: 65535}), []Packet{tcp("10.9.9.9", 0), tcp("10.9.9.9", 65535)}, []Packet{udp, echo4}},
		{"port 0", ports(v3.SinglePort(0)), []Packet{tcp("10.9.9.9", 0)}, []Packet{tcp("10.9.9.9", 1)}},
		{"touching ranges", ports(v3.Port{Min: 10, Max: 20}, v3.Port{Min: 21, Max: 30}, v3.Port{Min: 65535, Max: 65535}), []Packet{tcp("10.9.9.9", 10), tcp("10.9.9.9", 30), tcp("10.9.9.9", 65535)}, []Packet{tcp("10.9.9.9", 9), tcp("10.9.9.9", 31)}},
		{"named", ports(v3.Port{Name: "http"}), []Packet{tcp("10.9.9.9", 8080), tcp("10.9.9.9", 8081)}, []Packet{tcp("10.9.9.9", 80), tcp("10.9.9.9", 53)}},
		{"named or number", ports(v3.Port{Name: "http"}, v3.SinglePort(80)), []Packet{tcp("10.9.9.9", 8080), tcp("10.9.9.9", 80)}, []Packet{tcp("10.9.9.9", 53)}},
		{"named, missing", ports(v3.Port{Name: "nosuch"}), nil, []Packet{tcp("10.9.9.9", 80), tcp("10.9.9.9", 0)}},
		{"named, of another protocol", ports(v3.Port{Name: "dns"}), nil, []Packet{tcp("10.9.9.9", 53), udp}},
		{"named, without protocol", func(r *v3.Rule) { r.Destination.Ports = []v3.Port{{Name: "dns"}} }, []Packet{func() Packet { p := udp; p.DstPort = 53; return p }()}, []Packet{tcp("10.9.9.9", 53), echo4}},
		{"not named", func(r *v3.Rule) { r.Destination.NotPorts = []v3.Port{{Name: "http"}} }, []Packet{tcp("10.9.9.9", 80), udp, sctp}, []Packet{tcp("10.9.9.9", 8080), echo4, lite}},
		{"named of the selected only", func(r *v3.Rule) {
			r.Protocol, r.Destination.Selector, r.Destination.Ports = proto("TCP"), "name == 'a'", []v3.Port{{Name: "http"}}
		}, nil, []Packet{tcp("10.9.9.9", 8080)}},
		{"numeric TCP", func(r *v3.Rule) {
			p := v3.ProtocolNumber(6)
			r.Protocol, r.Destination.Ports = &p, []v3.Port{v3.SinglePort(80)}
		}, []Packet{tcp("10.9.9.9", 80)}, []Packet{udp}},
		{"SCTP", func(r *v3.Rule) { r.Protocol, r.Destination.Ports = proto("SCTP"), []v3.Port{v3.SinglePort(80)} }, []Packet{sctp}, []Packet{udp, tcp("10.9.9.9", 80)}},
		{"ports of UDPLite", func(r *v3.Rule) { r.Protocol, r.Destination.Ports = proto("UDPLite"), []v3.Port{v3.SinglePort(80)} }, nil, []Packet{lite, udp}},
		{"ICMP type", func(r *v3.Rule) { r.Protocol, r.ICMP = proto("ICMP"), &v3.ICMP{Type: n(8)} }, []Packet{echo4}, []Packet{echo6, udp}},
		{"ICMP type and code", func(r *v3.Rule) { r.Protocol, r.ICMP = proto("icmpv6"), &v3.ICMP{Type: n(128), Code: n(1)} }, nil, []Packet{echo4, echo6}},
		{"ICMP code", func(r *v3.Rule) { r.ICMP = &v3.ICMP{Code: n(0)} }, []Packet{echo4, echo6}, []Packet{udp}},
		{"not ICMP type", func(r *v3.Rule) { r.NotICMP = &v3.ICMP{Type: n(8)} }, []Packet{echo6, udp}, []Packet{echo4}},
		{"ICMP type 255", func(r *v3.Rule) { r.ICMP = &v3.ICMP{Type: n(255)} }, nil, []Packet{echo4}},
		{"unknown protocol", func(r *v3.Rule) { r.Protocol = proto("tpc") }, nil, []Packet{udp, tcp("10.9.9.9", 80)}},
		{"not an unknown protocol", func(r *v3.Rule) { r.NotProtocol = proto("tpc") }, nil, []Packet{udp}},
		{"HTTP", func(r *v3.Rule) { r.HTTP = &v3.HTTPMatch{Methods: []string{"GET"}} }, nil, []Packet{tcp("10.9.9.9", 80)}},
		{"service", func(r *v3.Rule) { r.Source.Services = &v3.ServiceMatch{Name: "s"} }, nil, []Packet{tcp("10.9.9.9", 80)}},
	} {
		s := newScene(t)
		s.endpoint("b", 2, func(w *v3.WorkloadEndpoint) {
			w.Spec.Ports = []v3.EndpointPort{
				{Name: "http", Protocol: v3.ProtocolName("TCP"), Port: 8080},
				{Name: "http", Protocol: v3.ProtocolName("TCP"), Port: 8081},
				{Name: "http", Protocol: v3.ProtocolName("tcp"), Port: 8081},
				{Name: "dns", Protocol: v3.ProtocolName("UDP"), Port: 53},
			}
		})
		s.global("p", ingress(rule("Allow", c.edit)))
		for _, p := range c.allow {
			if !s.allowed(p) {
				t.Errorf("%s: %+v is denied", c.name, p)
			}
		}
		for _, p := range c.deny {
			if s.allowed(p) {
				t.Errorf("%s: %+v is allowed", c.name, p)
			}
		}
	}
	for name, edit := range map[string]func(*v3.Rule){
		"spec.ingress[0].destination.ports[0]": ports(v3.Port{Min: 2, Max: 1}),
		"spec.ingress[0].icmp.type":            func(r *v3.Rule) { r.ICMP = &v3.ICMP{Type: n(256)} },
		"spec.ingress[0].notICMP.code":         func(r *v3.Rule) { r.NotICMP = &v3.ICMP{Type: n(1), Code: n(-1)} },
		"spec.ingress[0].ipVersion":            func(r *v3.Rule) { r.IPVersion = n(5) },
	} {
		s := newScene(t)
		s.global("p", ingress(rule("Allow", edit)))
		if s.allowed(tcp("10.9.9.9", 80)) {
			t.Errorf("%s: allowed", name)
		}
		s.reports(name)
	}
}

func TestD05_SelectorBombs(t *testing.T) {
	for name, text := range map[string]string{
		"terms": strings.Repeat("a == 'b' || ", 10000) + "c == 'd'",
		"depth": strings.Repeat("(", 1000) + "a == 'b'" + strings.Repeat(")", 1000),
		"size":  "a == '" + strings.Repeat("x", 1<<20) + "'",
	} {
		s := newScene(t)
		start := time.Now()
		spec := ingress(rule("Allow", func(r *v3.Rule) { r.Source.Selector = text }))
		s.global("p", spec)
		spec.Selector = text
		s.global("q", spec)
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%s: took %v", name, d)
		}
		s.reports("GlobalNetworkPolicy p: spec.ingress[0].source.selector", "GlobalNetworkPolicy q: spec.selector")
		if s.allowed(tcp("10.0.0.1", 80)) {
			t.Errorf("%s: allowed", name)
		}
	}
}

func TestD06_LabelBomb(t *testing.T) {
	s := newScene(t)
	start := time.Now()
	s.endpoint("b", 2, func(w *v3.WorkloadEndpoint) {
		for i := range 10000 {
			w.Metadata.Labels[fmt.Sprintf("l%d", i)] = "v"
		}
	})
	for i := range 500 {
		s.global(fmt.Sprintf("p%d", i), v3.GlobalPolicySpec{PolicySpec: v3.PolicySpec{Selector: fmt.Sprintf("l%d == 'v' && name == 'b'", i)}})
	}
	s.x.Flush()
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	n := 0
	for range s.x.Policies() {
		n++
	}
	if n != 500 {
		t.Errorf("%d policies apply; want 500", n)
	}
}

func TestD07_ForgedLabels(t *testing.T) {
	s := newScene(t)
	s.set(Key{Kind: kindProfile, Name: "kns.red"}, &v3.Profile{Spec: v3.ProfileSpec{LabelsToApply: map[string]string{"pcns.team": "weavers"}}})
	forged := map[string]string{labelNamespace: "blue", labelServiceAccount: "admin", "pcns.team": "admins", "pcsa.role": "admin"}
	s.endpoint("b", 2, func(w *v3.WorkloadEndpoint) {
		w.Metadata.Labels = forged
		w.Spec.Profiles = []string{"kns.red"}
	})
	s.set(Key{kindNetworkSet, "red", "forger"}, &v3.NetworkSet{Object: v3.Object{Metadata: v3.ObjectMeta{Labels: forged}}, Spec: v3.NetworkSetSpec{Nets: []string{"192.0.2.0/24"}}})
	s.x.Flush()
	own := s.x.endpoints[EndpointID{"red", "b"}].member.class
	set := s.x.members[Key{kindNetworkSet, "red", "forger"}].class
	for _, c := range []*memberClass{own, set} {
		for name, want := range map[string]string{labelNamespace: "red", labelServiceAccount: "", "pcns.team": "weavers", "pcsa.role": ""} {
			if got, _ := c.Get(name); got != want {
				t.Errorf("label %s is %q; want %q", name, got, want)
			}
		}
	}
	s.reports("WorkloadEndpoint red/b: metadata.labels["+labelNamespace+"]", "NetworkSet red/forger: metadata.labels["+labelNamespace+"]")
}

func TestD10_SpoofedSources(t *testing.T) {
	s := newScene(t)
	id := s.endpoint("b", 2, func(w *v3.WorkloadEndpoint) {
		w.Spec.AllowSpoofedSourcePrefixes = []string{"10.0.0.0/8"}
		w.Spec.Profiles = []string{defaultAllow}
	})
	if d := s.decide(id, Ingress, tcp("10.9.9.9", 80)); d.Reason != Closed {
		t.Errorf("not closed: %s", d)
	}
	s.reports("WorkloadEndpoint red/b: spec.allowSpoofedSourcePrefixes")
	for _, any := range []bool{true, false, true} { // the node comes to allow them, and ceases to
		s.x.AllowSources(any)
		s.x.Flush()
		var in *Endpoint
		for e := range s.x.Endpoints() {
			if e.ID == id {
				in = e
			}
		}
		if open := in != nil && fmt.Sprint(in.Sources) == "[10.0.0.0/8]"; open != any || any != (s.problems() == "") {
			t.Errorf("allowed %v: %+v, %s", any, in, s.problems())
		}
	}
	s.x.AllowSources(false)
	s.endpoint("b", 2, func(w *v3.WorkloadEndpoint) { w.Spec.Profiles = []string{defaultAllow} })
	if !s.allowed(tcp("10.9.9.9", 80)) || s.problems() != "" {
		t.Error("not open again")
	}
}

func TestI08_AddressClaimedTwice(t *testing.T) {
	addrs := func(s *scene, name string) []netip.Addr {
		s.x.Flush()
		return newInterp(s.x).eps[EndpointID{"red", name}].Addrs
	}
	at := func(day int) func(*v3.WorkloadEndpoint) {
		return func(w *v3.WorkloadEndpoint) {
			s := fmt.Sprintf("2026-01-%02dT00:00:00Z", day)
			w.Metadata.CreationTimestamp = &s
		}
	}
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
		s := newScene(t)
		for _, i := range order {
			switch i {
			case 0:
				s.endpoint("x", 9, at(2))
			case 1:
				s.endpoint("y", 9, at(1))
			case 2: // older still, on another node
				s.endpoint("z", 9, func(w *v3.WorkloadEndpoint) { at(1)(w); w.Metadata.Labels["z"] = "z"; w.Spec.Node = "beta" })
			}
		}
		if len(addrs(s, "x")) != 0 || len(addrs(s, "y")) != 2 {
			t.Errorf("x has %v, y has %v; want y alone to have addresses", addrs(s, "x"), addrs(s, "y"))
		}
		s.reports("WorkloadEndpoint red/x: spec.ipNetworks: 10.0.0.9 belongs to the older endpoint red/y", "WorkloadEndpoint red/z: spec.ipNetworks")
		s.set(endpointKey("y"), nil)
		if len(addrs(s, "x")) != 0 {
			t.Errorf("x has %v before the older z", addrs(s, "x"))
		}
		s.set(endpointKey("z"), nil)
		if len(addrs(s, "x")) != 2 || s.problems() != "" {
			t.Errorf("x has %v when all others are gone; problems: %s", addrs(s, "x"), s.problems())
		}
	}
}

func TestInterfaceClaimedTwice(t *testing.T) {
	s := newScene(t)
	allow := func(w *v3.WorkloadEndpoint) {
		w.Spec.InterfaceName, w.Spec.Profiles = "cali-x", []string{defaultAllow}
	}
	b := s.endpoint("b", 2, allow)
	if !s.allowed(tcp("10.9.9.9", 80)) {
		t.Error("b is closed")
	}
	a := s.endpoint("a", 1, allow)
	if d := s.decide(b, Ingress, tcp("10.9.9.9", 80)); d.Reason != Closed {
		t.Errorf("b is open: %s", d)
	}
	if !s.decide(a, Ingress, tcp("10.9.9.9", 80)).Allowed {
		t.Error("a is closed")
	}
	s.reports("WorkloadEndpoint red/b: spec.interfaceName: cali-x belongs to endpoint red/a")
	s.set(endpointKey("a"), nil)
	if !s.allowed(tcp("10.9.9.9", 80)) {
		t.Error("b is closed after a has gone")
	}
}
