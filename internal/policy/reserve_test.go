// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/policy/policytest"
)

// reserve tells the Index and the World of a scene the same.
func (s *scene) reserve(owners map[netip.Addr]string) {
	s.x.Reserve(owners)
	s.w.Reserved = owners
}

// TestD09_ReservedAddress claims the address of a node with a local endpoint
// and with one elsewhere, which is also a member of a rule's sets.
func TestD09_ReservedAddress(t *testing.T) {
	node := netip.MustParseAddr("10.0.0.1")
	reserved := map[netip.Addr]string{node: "Node n1"}
	for _, on := range policytest.Nodes {
		for _, first := range []bool{false, true} {
			s := newScene(t)
			if first {
				s.reserve(reserved)
			}
			a := s.endpoint("a", 1, func(w *v3.WorkloadEndpoint) {
				w.Spec.Node = on
				w.Spec.Ports = []v3.EndpointPort{{Name: "http", Protocol: v3.ProtocolName("TCP"), Port: 80}}
			})
			s.global("p", ingress(rule("Allow", func(r *v3.Rule) { r.Source.Selector = "name == 'a'" })))
			s.global("q", v3.GlobalPolicySpec{PolicySpec: v3.PolicySpec{Selector: "name == 'b'", Types: []string{"Egress"}, Egress: []v3.Rule{
				rule("Allow", func(r *v3.Rule) {
					tcp := v3.ProtocolName("TCP")
					r.Protocol, r.Destination.Ports = &tcp, []v3.Port{{Name: "http"}}
				}),
			}}})
			expect := func(what string, has bool) {
				t.Helper()
				if got := s.allowed(tcp("10.0.0.1", 80)); got != has {
					t.Errorf("%s, on %s: the address is a member: %v; want %v", what, on, got, has)
				}
				back := Packet{Src: netip.MustParseAddr("10.0.0.2"), Dst: node, Proto: 6, SrcPort: 40000, DstPort: 80}
				if got := s.decide(EndpointID{"red", "b"}, Egress, back).Allowed; got != has {
					t.Errorf("%s, on %s: the named port is a member: %v; want %v", what, on, got, has)
				}
				if !s.allowed(tcp("2001:db8::1", 80)) {
					t.Errorf("%s, on %s: the other address is no member", what, on)
				}
				if id, ok := s.w.Owner(node); ok != has || has && id != a {
					t.Errorf("%s, on %s: the evaluator says that %s has it: %v", what, on, id, ok)
				}
				if e := newInterp(s.x).eps[a]; (e != nil) != (on == "alpha") || e != nil && (slices.Contains(e.Addrs, node) != has || !slices.Contains(e.Addrs, netip.MustParseAddr("2001:db8::1"))) {
					t.Errorf("%s, on %s: %+v", what, on, e)
				}
				const text = "WorkloadEndpoint red/a: spec.ipNetworks: 10.0.0.1 belongs to Node n1"
				if got := s.problems(); strings.Contains(got, text) == has || has && got != "" {
					t.Errorf("%s, on %s: problems:\n%s", what, on, got)
				}
			}
			if !first {
				expect("before", true)
				s.reserve(reserved)
			}
			expect("reserved", false)
			s.x.Flush()
			s.reserve(map[netip.Addr]string{node: "Node n1", netip.MustParseAddr("10.7.7.7"): "Node n2"})
			if ch := s.x.Flush(); !ch.Empty() {
				t.Errorf("another reservation changes %+v", ch)
			}
			expect("another one reserved", false)
			s.reserve(nil)
			expect("free again", true)
		}
	}
}

// TestD09_ReservedOverRivals reserves what two endpoints dispute: neither has
// it, and each is told once, by whom it is held. Freed, it is the older one's.
func TestD09_ReservedOverRivals(t *testing.T) {
	s := newScene(t)
	old := "2026-01-01T00:00:00Z"
	s.endpoint("x", 9, nil)
	s.endpoint("y", 9, func(w *v3.WorkloadEndpoint) { w.Metadata.CreationTimestamp = &old })
	// As a socket reports them: mapped, and with a zone.
	s.x.Reserve(map[netip.Addr]string{netip.MustParseAddr("::ffff:10.0.0.9"): "Node n1", netip.MustParseAddr("2001:db8::9%eth0"): "Node n1"})
	s.x.Flush()
	in := newInterp(s.x)
	for _, name := range []string{"x", "y"} {
		if e := in.eps[EndpointID{"red", name}]; e == nil || len(e.Addrs) != 0 {
			t.Errorf("%s is %+v; want it there without addresses", name, e)
		}
		s.reports("WorkloadEndpoint red/"+name+": spec.ipNetworks: 10.0.0.9 belongs to Node n1", "WorkloadEndpoint red/"+name+": spec.ipNetworks: 2001:db8::9 belongs to Node n1")
	}
	if n := strings.Count(s.problems(), "\n"); n != 4 {
		t.Errorf("%d problems:\n%s", n, s.problems())
	}
	s.x.Reserve(map[netip.Addr]string{netip.MustParseAddr("2001:db8::9"): "Node n2"})
	s.x.Flush()
	in = newInterp(s.x)
	if x, y := in.eps[EndpointID{"red", "x"}], in.eps[EndpointID{"red", "y"}]; len(x.Addrs) != 0 || !slices.Equal(y.Addrs, []netip.Addr{netip.MustParseAddr("10.0.0.9")}) {
		t.Errorf("x has %v, y has %v; want y to have 10.0.0.9", x.Addrs, y.Addrs)
	}
	s.reports("red/x: spec.ipNetworks: 10.0.0.9 belongs to the older endpoint red/y", "red/y: spec.ipNetworks: 2001:db8::9 belongs to Node n2")
}

// TestD09_AddressesOfNoWorkload tries what can never be one workload's.
func TestD09_AddressesOfNoWorkload(t *testing.T) {
	for _, text := range []string{
		"0.0.0.0", "127.0.0.1", "127.9.9.9", "169.254.1.1", "169.254.169.254", "224.0.0.1", "239.255.255.255", "255.255.255.255",
		"::", "::1", "fe80::1", "fe80::ecee:eeff:feee:eeee", "ff02::1", "ff05::2", "ffff::1",
		"::ffff:127.0.0.1", "::ffff:169.254.1.1", "::ffff:224.0.0.1", "::ffff:255.255.255.255",
		"0.0.0.0/0", "::/0", "10.0.0.4/31", "10.0.0.4/33", "2001:db8::/127", "10.0.0.4/-1", "10.0.0", "",
	} {
		s := newScene(t)
		id := s.endpoint("c", 4, func(w *v3.WorkloadEndpoint) {
			w.Spec.IPNetworks = append(w.Spec.IPNetworks, text)
			w.Spec.Profiles = []string{defaultAllow}
		})
		if d := s.decide(id, Ingress, tcp("10.9.9.9", 80)); d.Reason != Closed {
			t.Errorf("%q: not closed: %s", text, d)
		}
		if s.problems() == "" {
			t.Errorf("%q is not reported", text)
			continue
		}
		s.reports("WorkloadEndpoint red/c: spec.ipNetworks[2]: ")
		if _, err := endpointNets([]string{text}); !errors.As(err, new(*fieldError)) {
			t.Errorf("%q: the error %v names no field", text, err)
		}
	}
}
