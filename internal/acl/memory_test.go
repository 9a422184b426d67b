// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/policy/policytest"
)

// twoOpen is a world in which the workloads of cali0 and cali1 may speak TCP to port
// 80 of each other, and nothing else.
func twoOpen(put func(policy.Key, v3.Resource)) {
	allow := []v3.Rule{{Action: "Allow", Protocol: protocolNamed("TCP"), Destination: v3.EntityRule{Ports: []v3.Port{{Min: 80, Max: 80}}}}}
	g := &v3.GlobalNetworkPolicy{}
	g.Spec.Selector, g.Spec.Types, g.Spec.Ingress, g.Spec.Egress = "all()", []string{"Ingress", "Egress"}, allow, []v3.Rule{{Action: "Allow"}}
	put(policy.Key{Kind: "GlobalNetworkPolicy", Name: "default.p"}, g)
	for i, iface := range policytest.Interfaces[:2] {
		e := &v3.WorkloadEndpoint{}
		e.Spec.Node, e.Spec.InterfaceName = policytest.Nodes[0], iface
		for _, v4 := range []bool{true, false} {
			a := policytest.Addr(v4, i)
			e.Spec.IPNetworks = append(e.Spec.IPNetworks, netip.PrefixFrom(a, a.BitLen()).String())
		}
		put(policy.Key{Kind: "WorkloadEndpoint", Namespace: "ns", Name: iface}, e)
	}
}

func protocolNamed(name string) *v3.Protocol {
	p := v3.ProtocolName(name)
	return &p
}

// TestMemory holds the packet filter without a kernel against what a reader of the
// objects expects, and shows that a change of the objects waits for Apply.
func TestMemory(t *testing.T) {
	world := &policy.World{}
	m, err := NewMemory(policytest.Nodes[0], Options{Prefixes: []string{"cali"}}, world)
	if err != nil {
		t.Fatal(err)
	}
	twoOpen(func(k policy.Key, r v3.Resource) { world.Put(k, r, nil) })
	if a, b := policytest.Addr(true, 0), policytest.Addr(true, 1); !m.Judge(policy.Packet{Src: b, Dst: a}, "cali0", "cali1").Passes {
		t.Error("something is in force before anything was said")
	}
	if made, err := m.Guard(); !made || err != nil {
		t.Error("the guard is not made:", err)
	}
	for _, v4 := range []bool{true, false} {
		a, b, far := policytest.Addr(v4, 0), policytest.Addr(v4, 1), policytest.Addr(v4, 6)
		to := func(src, dst netip.Addr, port uint16) policy.Packet {
			return policy.Packet{Src: src, Dst: dst, Proto: tcp, SrcPort: 40000, DstPort: port}
		}
		if m.Judge(to(a, b, 80), "cali0", "cali1").Passes != !v4 {
			t.Error("the objects are in force before Apply, or not after it")
		}
		if err := m.Resync(nil); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			what    string
			p       policy.Packet
			in, out string
			want    bool
		}{
			{"allowed", to(a, b, 80), "cali0", "cali1", true},
			{"another port", to(a, b, 81), "cali0", "cali1", false},
			{"another's source", to(b, a, 80), "cali0", "cali1", false},
			{"from outside", to(far, b, 80), uplink, "cali1", true},
			{"from outside, another port", to(far, b, 22), uplink, "cali1", false},
			{"to outside", to(a, far, 22), "cali0", uplink, true},
			{"from an interface that nobody has", to(far, b, 80), "cali7", "cali1", false},
			{"to an interface that nobody has", to(far, b, 80), uplink, "cali7", false},
			{"a DHCP server", policy.Packet{Src: a, Dst: far, Proto: udp, DstPort: 68}, "cali0", uplink, false},
			{"an answer to nothing", policy.Packet{Src: a, Dst: far, Proto: icmp, ICMPType: 0}, "cali0", uplink, false},
			{"to the host, which drops", to(a, far, 22), "cali0", "", false},
			{"from the host", to(far, b, 22), "", "cali1", true},
			{"past all workloads", to(far, far, 1), uplink, uplink, true},
		} {
			if v := m.Judge(c.p, c.in, c.out); v.Passes != c.want {
				t.Errorf("%s: %+v: passes %v: %s", c.what, c.p, v.Passes, v.Why)
			}
		}
		// What machines of OpenStack may ask of this host.
		dns := policy.Packet{Src: a, Dst: far, Proto: udp, SrcPort: 40000, DstPort: 53}
		for _, active := range []bool{false, true} {
			if err := m.SetOptions(Options{Prefixes: []string{"cali"}, OpenStack: OpenStack{Active: active}}); err != nil {
				t.Fatal(err)
			}
			must(t, m.Resync(nil))
			if v := m.Judge(dns, "cali0", ""); v.Passes != active {
				t.Errorf("%+v with OpenStack active %v: passes %v: %s", dns, active, v.Passes, v.Why)
			}
		}
		if err := m.SetOptions(Options{Prefixes: []string{"cali"}}); err != nil {
			t.Fatal(err)
		}
	}
}

// planted is a view with a compiler's mistake in it: each range of ports ends one
// later than the objects say.
type planted struct{ policy.View }

func (v planted) Policies() iter.Seq[*policy.Policy] {
	return func(yield func(*policy.Policy) bool) {
		for p := range v.View.Policies() {
			wrong := *p
			wrong.Ingress = slices.Clone(p.Ingress)
			for i := range wrong.Ingress {
				ports := slices.Clone(wrong.Ingress[i].Dst.Ports)
				for j := range ports {
					ports[j].Max++
				}
				wrong.Ingress[i].Dst.Ports = ports
			}
			if !yield(&wrong) {
				return
			}
		}
	}
}

// TestMemory_Loopback: what the host sends to a process of its own comes in by lo, where a
// host endpoint for all interfaces has a say before the destination is translated. A
// process that is closed has no address that others could not send from.
func TestMemory_Loopback(t *testing.T) {
	node, world := policytest.Nodes[0], &policy.World{}
	process := func(name, iface string, a netip.Addr) {
		e := &v3.WorkloadEndpoint{}
		e.Metadata.Annotations = map[string]string{v3.AnnotationPrefix + "host-process": "Enabled"}
		e.Spec.Node, e.Spec.InterfaceName, e.Spec.IPNetworks = node, iface, []string{a.String()}
		world.Put(policy.Key{Kind: "WorkloadEndpoint", Namespace: "red", Name: name}, e, nil)
	}
	own, a, closed, far := policytest.Addr(true, 7), policytest.Addr(true, 0), policytest.Addr(true, 1), policytest.Addr(true, 6)
	process("a", "cali0", a)
	process("b", "cali0", closed) // whose name a has
	m, err := NewMemory(node, Options{Prefixes: []string{"cali"}, Processes: true}, world)
	must(t, err)
	apply := func() { must(t, m.Apply(nil, policy.Changes{})) }
	apply()
	if v := m.Judge(policy.Packet{Src: own, Dst: a, Proto: tcp, DstPort: 80}, "", ""); !v.Passes {
		t.Errorf("the host to its process: %s", v.Why)
	}
	if v := m.Judge(policy.Packet{Src: a, Dst: far, Proto: tcp, DstPort: 80}, "", "cali5"); !strings.HasPrefix(v.Why, "unknown") {
		t.Errorf("a process to an interface of nobody: %s", v.Why)
	}
	for src, want := range map[netip.Addr]bool{a: false, closed: true} {
		if v := m.Judge(policy.Packet{Src: src, Dst: far, Proto: tcp, DstPort: 80}, "up0", "up0"); v.Passes != want {
			t.Errorf("from %s by the uplink: %s", src, v.Why)
		}
	}
	o := m.opts
	o.Leaving = []netip.Addr{closed}
	must(t, m.SetOptions(o))
	apply()
	for _, p := range []policy.Packet{{Src: closed, Dst: far, Proto: tcp, DstPort: 80}, {Src: own, Dst: closed, Proto: tcp, DstPort: 80}} {
		if v := m.Judge(p, "", ""); v.Passes || !strings.HasPrefix(v.Why, "closed") {
			t.Errorf("%s to %s, an address that is to leave lo: %s", p.Src, p.Dst, v.Why)
		}
	}
	h := &v3.HostEndpoint{}
	h.Spec.Node, h.Spec.InterfaceName = node, "*"
	world.Put(policy.Key{Kind: "HostEndpoint", Name: "h"}, h, nil)
	p := &v3.GlobalNetworkPolicy{}
	p.Spec.ApplyOnForward, p.Spec.PreDNAT, p.Spec.Ingress = true, true, []v3.Rule{{Action: "Deny"}}
	world.Put(policy.Key{Kind: "GlobalNetworkPolicy", Name: "deny"}, p, nil)
	apply()
	if v := m.Judge(policy.Packet{Src: own, Dst: a, Proto: tcp, DstPort: 80}, "", ""); v.Passes {
		t.Errorf("the host to its process, whatever is denied on lo: %s", v.Why)
	}
}

// TestQ02_FindsCompilerBug: what TestQ02_KernelAgreesWithEvaluator compares differs,
// and just where it should, if the compiler is wrong.
func TestQ02_FindsCompilerBug(t *testing.T) {
	w := newWires(t)
	tab := w.table(t, func(o *Options) { o.HostAction = HostAccept })
	x, world := policy.NewIndex(policytest.Nodes[0]), &policy.World{}
	twoOpen(func(k policy.Key, r v3.Resource) { x.Set(k, r, nil); world.Put(k, r, nil) })
	x.Flush()
	m, err := NewMemory(policytest.Nodes[0], tab.opts, world)
	must(t, err)
	must(t, m.Resync(x))
	c := &crossing{world: world, memory: m, w: w, owners: map[netip.Addr]policy.EndpointID{}, rnd: rand.New(rand.NewPCG(1, 1))}
	w.route(t, c.home)
	for _, bug := range []bool{false, true} {
		view := policy.View(x)
		if bug {
			view = planted{x}
		}
		must(t, tab.Resync(view))
		var shots []*shot
		for _, v4 := range []bool{true, false} {
			for _, port := range []uint16{80, 81, 82} {
				s := &shot{Packet: policy.Packet{Src: policytest.Addr(v4, 0), Dst: policytest.Addr(v4, 1), Proto: tcp, SrcPort: 40000, DstPort: port}, in: w.place["cali0"], out: -1}
				if bug {
					s.SrcPort++
				}
				c.conclude(s, w.place["cali1"], "cali0", "cali1")
				shots = append(shots, s)
			}
		}
		w.fire(t, shots)
		for _, s := range shots {
			differs := len(s.came) > 0 != (s.out >= 0)
			if differs != (bug && s.DstPort == 81) {
				t.Errorf("bug %v: %+v came out on %v: %s", bug, s.Packet, w.names(s.came), s.expected)
			}
		}
	}
}
