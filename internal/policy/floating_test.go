// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"pgregory.net/rapid"
)

// TestFloatingIPs holds the index, which follows changes, against the evaluator, which
// reads the objects: endpoints come, change and go, and claim each other's addresses.
func TestFloatingIPs(t *testing.T) {
	pick := func(t *rapid.T, v4 bool) netip.Addr {
		n := byte(rapid.IntRange(1, 5).Draw(t, "address"))
		if v4 {
			return netip.AddrFrom4([4]byte{10, 0, 0, n})
		}
		return netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", n))
	}
	had := 0
	rapid.Check(t, func(t *rapid.T) {
		x, w := NewIndex("n1"), &World{FloatingIPs: true}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			k := Key{Kind: kindEndpoint, Namespace: "ns", Name: fmt.Sprintf("e%d", rapid.IntRange(0, 4).Draw(t, "name"))}
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 0:
				x.Set(k, nil, nil)
				w.Put(k, nil, nil)
				continue
			case 1:
				w.Reserved = map[netip.Addr]string{pick(t, true): "Node n2", pick(t, false): "Node n2"}
				x.Reserve(w.Reserved)
				continue
			case 2:
				w.Interfaces = map[string][]netip.Addr{"lo": {pick(t, true)}, "up1": {pick(t, false)}}
				x.HostInterfaces(w.Interfaces)
				continue
			}
			e := &v3.WorkloadEndpoint{Spec: v3.WorkloadEndpointSpec{Node: rapid.SampledFrom([]string{"n1", "n1", "n1", "n2"}).Draw(t, "node"),
				Orchestrator: rapid.SampledFrom([]string{"k8s", openStack}).Draw(t, "orchestrator"), InterfaceName: rapid.SampledFrom([]string{"cali1", "cali2", "cali3"}).Draw(t, "interface")}}
			for range rapid.IntRange(0, 2).Draw(t, "own") {
				e.Spec.IPNetworks = append(e.Spec.IPNetworks, pick(t, rapid.Bool().Draw(t, "v4")).String())
			}
			for range rapid.IntRange(0, 3).Draw(t, "floating") {
				e.Spec.IPNATs = append(e.Spec.IPNATs, v3.IPNAT{InternalIP: pick(t, rapid.Bool().Draw(t, "v4")).String(), ExternalIP: pick(t, rapid.Bool().Draw(t, "v4")).String()})
			}
			x.Set(k, e, nil)
			w.Put(k, e, nil)
			if rapid.Bool().Draw(t, "flush") {
				x.Flush()
			}
		}
		x.Flush()
		// Of the world only what is on this node has them here.
		here := *w
		here.Endpoints = map[EndpointID]*v3.WorkloadEndpoint{}
		for id, e := range w.Endpoints {
			e := *e
			if e.Spec.Node != "n1" {
				e.Spec.IPNATs = nil
			}
			here.Endpoints[id] = &e
		}
		for _, v4 := range []bool{true, false} {
			for n := range 6 {
				a := netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})
				if !v4 {
					a = netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", n))
				}
				id, in, ok := here.Floating(a)
				var got []string
				for e := range x.Endpoints() {
					for _, f := range e.FloatingIPs(true) {
						if f.External == a {
							got = append(got, fmt.Sprint(e.ID, f.Internal))
						}
					}
				}
				var want []string
				if ok {
					want, had = []string{fmt.Sprint(id, in)}, had+1
				}
				if !slices.Equal(got, want) {
					t.Fatalf("%s leads to %q, the evaluator says %q", a, got, want)
				}
				var nodes []string
				for _, e := range w.Endpoints {
					nets, open := w.openEndpoint(e)
					list, _ := floatingIPs(&e.Spec, nets)
					own, _ := endpointNets(e.Spec.IPNetworks)
					if open && (internal(list, a).IsValid() || holds(own, a)) {
						nodes = append(nodes, e.Spec.Node)
					}
				}
				slices.Sort(nodes)
				if bound := x.NodesOf(a); !slices.Equal(bound, slices.Compact(nodes)) {
					t.Fatalf("%s is bound to %v, want %v", a, bound, nodes)
				}
			}
		}
	})
	if had == 0 {
		t.Error("nobody ever had a floating IP: the test shows nothing")
	}
}

// TestFloatingIPOfThisServer: no address of this server, on whichever interface, is a
// floating IP, and the endpoint's author is told who has it. It is one when the
// server has given it up.
func TestFloatingIPOfThisServer(t *testing.T) {
	for _, external := range []string{"203.0.113.7", "2001:db8:f::7"} {
		a, s := netip.MustParseAddr(external), newScene(t)
		if s.x.NeedsHostInterfaces() {
			t.Error("addresses of interfaces are asked for without floating IPs")
		}
		id := s.endpoint("a", 1, func(w *v3.WorkloadEndpoint) {
			internal := "10.0.0.1"
			if a.Is6() {
				internal = "2001:db8::1"
			}
			w.Spec.IPNATs = []v3.IPNAT{{InternalIP: internal, ExternalIP: external}}
		})
		if !s.x.NeedsHostInterfaces() {
			t.Fatal("addresses of interfaces are not asked for")
		}
		expect := func(has bool) {
			t.Helper()
			s.x.Flush()
			if e := newInterp(s.x).eps[id]; (len(e.FloatingIPs(true)) == 1) != has {
				t.Errorf("floating IPs %v, want one: %v", e.FloatingIPs(true), has)
			}
			s.w.FloatingIPs = true
			if _, _, ok := s.w.Floating(a); ok != has {
				t.Errorf("the evaluator finds %s: %v, want %v", a, ok, has)
			}
			text := "WorkloadEndpoint red/a: spec.ipNATs: " + external + " belongs to this server, on tun0; give the endpoint another floating IP"
			if got := s.problems(); strings.Contains(got, text) == has {
				t.Errorf("problems:\n%s", got)
			}
		}
		on := func(addrs map[string][]netip.Addr) {
			s.w.Interfaces = addrs
			s.x.HostInterfaces(addrs)
		}
		expect(true)
		on(map[string][]netip.Addr{"tun0": {netip.MustParseAddr("192.0.2.9"), a}})
		expect(false)
		on(map[string][]netip.Addr{"tun0": {netip.MustParseAddr("192.0.2.9")}})
		expect(true)
	}
}

// TestFloatingIPRivals: of several endpoints of a server with one floating IP that with the
// lowest internal address has it, as text, in whichever order they come; and one pair of
// addresses is of one family.
func TestFloatingIPRivals(t *testing.T) {
	for _, c := range []struct{ external, first, second string }{
		{"203.0.113.7", "10.0.0.10", "10.0.0.9"}, // as text the lower one
		{"2001:db8:f::7", "2001:db8::10", "2001:db8::9"},
	} {
		for _, reversed := range []bool{false, true} {
			s := newScene(t)
			s.w.FloatingIPs = true
			own := []string{c.first, c.second}
			for i := range own {
				name := string('p' + rune(i))
				if reversed {
					i = 1 - i
				}
				s.endpoint(name, 20+i, func(w *v3.WorkloadEndpoint) {
					w.Spec.IPNetworks = own[i : i+1]
					w.Spec.IPNATs = []v3.IPNAT{{InternalIP: own[i], ExternalIP: c.external}}
				})
			}
			s.x.Flush()
			var has []string
			for _, e := range newInterp(s.x).eps {
				for _, f := range e.FloatingIPs(true) {
					has = append(has, f.Internal.String())
				}
			}
			if !slices.Equal(has, own[:1]) {
				t.Errorf("%s leads to %v, want %s", c.external, has, c.first)
			}
			if _, in, ok := s.w.Floating(netip.MustParseAddr(c.external)); !ok || in.String() != c.first {
				t.Errorf("the evaluator leads %s to %s, want %s", c.external, in, c.first)
			}
		}
	}
	for _, n := range []v3.IPNAT{{InternalIP: "10.0.0.1", ExternalIP: "2001:db8:f::7"}, {InternalIP: "2001:db8::1", ExternalIP: "203.0.113.7"}} {
		own := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("2001:db8::1/128")}
		if list, odd := floatingIPs(&v3.WorkloadEndpointSpec{IPNATs: []v3.IPNAT{n}}, own); len(list) != 0 || len(odd) != 1 {
			t.Errorf("%+v is taken for %v, with problems %v", n, list, odd)
		}
	}
}
