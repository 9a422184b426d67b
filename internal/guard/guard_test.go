// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func adr(s string) netip.Addr   { return netip.MustParseAddr(s) }

// world: a (this node), b and c with a block each in both families; rr is a
// reflector. The endpoint 10.65.0.66, in b's block, is on c: a borrowed address.
// 172.30.0.9 is an endpoint of b outside every block.
func world() *Guard {
	g := New("a")
	var nodes []Node
	for i, name := range []string{"a", "b", "c", "rr"} {
		nodes = append(nodes, Node{
			Name: name, ID: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}),
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), adr(fmt.Sprintf("fd00::%d", i+1))},
		})
	}
	g.SetNodes(nodes)
	for i, name := range []string{"a", "b", "c"} {
		g.Bind(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 65, 0, byte(64 * i)}), 26), Binding{Nodes: []string{name}})
		g.Bind(pfx(fmt.Sprintf("fd65::%x/122", 64*i)), Binding{Nodes: []string{name}})
	}
	g.BindHost(adr("10.65.0.66"), []string{"c"})
	g.BindHost(adr("fd65::42"), []string{"c"})
	g.BindHost(adr("172.30.0.9"), []string{"b"})
	g.BindHost(adr("fd30::9"), []string{"b"})
	g.BindHost(adr("10.65.0.5"), []string{"a"})
	g.BindHost(adr("172.30.0.1"), []string{"a"})
	g.BindHost(adr("fd30::1"), []string{"a"})
	g.Bind(pfx("10.96.0.0/12"), Binding{Anybody: true})
	g.Bind(pfx("fd96::/112"), Binding{Anybody: true})
	return g
}

// B17: what each neighbour may announce, in both families.
func TestB17_Judge(t *testing.T) {
	tor := Peer{}
	b := Peer{Node: "b"}
	rr := Peer{Node: "rr", Reflects: true}
	wl := Peer{Workload: []netip.Addr{adr("10.65.0.5"), adr("fd65::5")}}
	for _, c := range []struct {
		name         string
		from         Peer
		p4, p6       string
		hop4, hop6   string
		originator   string
		want         Class
		wantDetailIn string
	}{
		{"its own block", b, "10.65.0.64/26", "fd65::40/122", "10.0.0.2", "fd00::2", "", Accepted, ""},
		{"part of its own block", b, "10.65.0.96/27", "fd65::60/123", "10.0.0.2", "fd00::2", "", Accepted, ""},
		{"an address in its own block", b, "10.65.0.65/32", "fd65::41/128", "10.0.0.2", "fd00::2", "", Accepted, ""},
		{"its endpoint outside every block", b, "172.30.0.9/32", "fd30::9/128", "10.0.0.2", "fd00::2", "", Accepted, ""},
		{"an address of its block that another borrowed", b, "10.65.0.66/32", "fd65::42/128", "10.0.0.2", "fd00::2", "", Unbound, "bound to c"},
		{"another's block", b, "10.65.0.128/26", "fd65::80/122", "10.0.0.2", "fd00::2", "", Unbound, "bound to c"},
		{"an address in another's block", b, "10.65.0.129/32", "fd65::81/128", "10.0.0.2", "fd00::2", "", Unbound, "bound to c"},
		{"our block", b, "10.65.0.0/26", "fd65::/122", "10.0.0.2", "fd00::2", "", Local, ""},
		{"more specific than our endpoint's block", b, "10.65.0.5/32", "fd65::5/128", "10.0.0.2", "fd00::2", "", Local, ""},
		{"our endpoint outside every block", b, "172.30.0.1/32", "fd30::1/128", "10.0.0.2", "fd00::2", "", Local, ""},
		{"the default route", b, "0.0.0.0/0", "::/0", "10.0.0.2", "fd00::2", "", Unbound, "not bound"},
		{"the pool", b, "10.65.0.0/16", "fd65::/64", "10.0.0.2", "fd00::2", "", Unbound, "not bound"},
		{"a service's address", b, "10.96.0.10/32", "fd96::a/128", "10.0.0.2", "fd00::2", "", Accepted, ""},
		{"a server's address", b, "10.0.0.3/32", "fd00::3/128", "10.0.0.2", "fd00::2", "", Infrastructure, "node c"},
		{"its own block, with another server as next hop", b, "10.65.0.64/26", "fd65::40/122", "10.0.0.3", "fd00::3", "", Unbound, "bound to b"},
		{"another's block with a forged ORIGINATOR_ID", b, "10.65.0.128/26", "fd65::80/122", "10.0.0.2", "fd00::2", "10.0.0.3", Unbound, "bound to c"},
		{"the next hop is nobody's", b, "10.65.0.64/26", "fd65::40/122", "10.0.0.77", "fd00::77", "", Unknown, ""},
		{"the next hop is link-local", b, "10.65.0.64/26", "fd65::40/122", "fe80::2", "fe80::2", "", Accepted, ""},

		{"reflected", rr, "10.65.0.64/26", "fd65::40/122", "10.0.0.2", "fd00::2", "10.0.0.2", Accepted, ""},
		{"reflected, of the wrong node", rr, "10.65.0.128/26", "fd65::80/122", "10.0.0.2", "fd00::2", "10.0.0.2", Unbound, "bound to c"},
		{"reflected, with a forged ORIGINATOR_ID", rr, "10.65.0.128/26", "fd65::80/122", "10.0.0.2", "fd00::2", "10.0.0.3", Unbound, "bound to c"},
		{"reflected by one who forwards", rr, "10.65.0.64/26", "fd65::40/122", "10.0.0.4", "fd00::4", "10.0.0.2", Accepted, ""},
		{"the reflector's own", rr, "10.65.0.64/26", "fd65::40/122", "10.0.0.4", "fd00::4", "", Unbound, "bound to b"},

		{"router: default route", tor, "0.0.0.0/0", "::/0", "10.0.0.254", "fd00::fe", "", Accepted, ""},
		{"router: the pool", tor, "10.65.0.0/16", "fd65::/64", "10.0.0.254", "fd00::fe", "", Accepted, ""},
		{"router: another rack's block", tor, "10.65.0.64/26", "fd65::40/122", "10.0.0.254", "fd00::fe", "", Accepted, ""},
		{"router: our block", tor, "10.65.0.0/26", "fd65::/122", "10.0.0.254", "fd00::fe", "", Local, ""},
		{"router: an address in our block", tor, "10.65.0.5/32", "fd65::5/128", "10.0.0.254", "fd00::fe", "", Local, ""},
		{"router: our endpoint", tor, "172.30.0.1/32", "fd30::1/128", "10.0.0.254", "fd00::fe", "", Local, ""},
		{"router: our own address", tor, "10.0.0.1/32", "fd00::1/128", "10.0.0.254", "fd00::fe", "", Infrastructure, "node a"},
		{"router: a server's address", tor, "10.0.0.3/32", "fd00::3/128", "10.0.0.254", "fd00::fe", "", Infrastructure, "node c"},
		{"router that reflects: a node's block", tor, "10.65.0.64/26", "fd65::40/122", "10.0.0.2", "fd00::2", "10.0.0.2", Accepted, ""},
		{"router that reflects: another's block", tor, "10.65.0.128/26", "fd65::80/122", "10.0.0.2", "fd00::2", "10.0.0.2", Unbound, "bound to c"},

		{"workload: a network behind it", wl, "203.0.113.0/24", "2001:db8:1::/48", "10.65.0.5", "fd65::5", "", Accepted, ""},
		{"workload: with another's next hop", wl, "203.0.113.0/24", "2001:db8:1::/48", "10.0.0.2", "fd00::2", "", Unknown, "next hop"},
		{"workload: another node's block", wl, "10.65.0.64/26", "fd65::40/122", "10.65.0.5", "fd65::5", "", Unbound, "bound to b"},
		{"workload: an address in it", wl, "10.65.0.65/32", "fd65::41/128", "10.65.0.5", "fd65::5", "", Unbound, "bound to b"},
		{"workload: an endpoint outside every block", wl, "172.30.0.9/32", "fd30::9/128", "10.65.0.5", "fd65::5", "", Unbound, "bound to b"},
		{"workload: our block", wl, "10.65.0.0/26", "fd65::/122", "10.65.0.5", "fd65::5", "", Local, ""},
		{"workload: a service's address", wl, "10.96.0.10/32", "fd96::a/128", "10.65.0.5", "fd65::5", "", Accepted, ""},
		{"workload: a server's address", wl, "10.0.0.3/32", "fd00::3/128", "10.65.0.5", "fd65::5", "", Infrastructure, "node c"},
		{"workload, trusted: another node's block", Peer{Workload: wl.Workload, Trusted: true}, "10.65.0.64/26", "fd65::40/122", "10.65.0.5", "fd65::5", "", Accepted, ""},

		{"trusted: the default route", Peer{Node: "b", Trusted: true}, "0.0.0.0/0", "::/0", "10.0.0.2", "fd00::2", "", Accepted, ""},
		{"trusted: our block all the same not", Peer{Node: "b", Trusted: true}, "10.65.0.0/26", "fd65::/122", "10.0.0.2", "fd00::2", "", Local, ""},
		{"trusted: a server's address", Peer{Trusted: true}, "10.0.0.3/32", "fd00::3/128", "10.0.0.254", "fd00::fe", "", Accepted, ""},
		{"trusted: our own address all the same not", Peer{Trusted: true}, "10.0.0.1/32", "fd00::1/128", "10.0.0.254", "fd00::fe", "", Infrastructure, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := world()
			for _, r := range []Route{{Prefix: pfx(c.p4), NextHop: adr(c.hop4)}, {Prefix: pfx(c.p6), NextHop: adr(c.hop6)}} {
				if c.originator != "" {
					r.Originator = adr(c.originator)
				}
				got, why := g.Judge(&r, &c.from)
				if got != c.want || (got != Accepted) != (why != "") {
					t.Errorf("%s: %v %q, want %v", r.Prefix, got, why, c.want)
				}
			}
		})
	}
}

// A server that announces its own address, as a loopback that is reached through routers: it
// and they may, another node and a workload may not, and nobody says that he is this node.
func TestServerThatAnnouncesItself(t *testing.T) {
	g := world()
	wl := Peer{Workload: []netip.Addr{adr("10.65.0.5"), adr("fd65::5")}}
	judge := func(when string, p4, p6 string, from Peer, hop4, hop6 string, want Class) {
		t.Helper()
		for _, r := range []Route{{Prefix: pfx(p4), NextHop: adr(hop4)}, {Prefix: pfx(p6), NextHop: adr(hop6)}} {
			if got, why := g.Judge(&r, &from); got != want {
				t.Errorf("%s: %s from %+v: %v %q, want %v", when, r.Prefix, from, got, why, want)
			}
		}
	}
	all := func(when string, itself, router, another, workload Class) {
		t.Helper()
		judge(when, "10.0.0.3/32", "fd00::3/128", Peer{Node: "c"}, "10.0.0.3", "fd00::3", itself)
		judge(when, "10.0.0.3/32", "fd00::3/128", Peer{}, "10.0.0.254", "fd00::fe", router)
		judge(when, "10.0.0.3/32", "fd00::3/128", Peer{Node: "b"}, "10.0.0.2", "fd00::2", another)
		judge(when, "10.0.0.3/32", "fd00::3/128", wl, "10.65.0.5", "fd65::5", workload)
	}
	bind := func(names ...string) {
		t.Helper()
		for i, a := range []string{"10.0.0.3", "fd00::3"} {
			if got := g.BindHost(adr(a), names); len(got) != 1 || got[0] != netip.PrefixFrom(adr(a), []int{32, 128}[i]) {
				t.Errorf("%v: %v are to be judged again, want %s", names, got, a)
			}
		}
	}
	all("before", Infrastructure, Infrastructure, Infrastructure, Infrastructure)
	bind("b")
	all("another says that it has it", Infrastructure, Infrastructure, Infrastructure, Infrastructure)
	bind("c")
	all("announced", Accepted, Accepted, Unbound, Unbound)
	bind()
	all("no more", Infrastructure, Infrastructure, Infrastructure, Infrastructure)
	g.BindHost(adr("10.0.0.1"), []string{"a"})
	g.BindHost(adr("fd00::1"), []string{"a"})
	judge("this node's", "10.0.0.1/32", "fd00::1/128", Peer{}, "10.0.0.254", "fd00::fe", Infrastructure)
}

// A node that may announce more than its own: a way out of the cluster.
func TestPermitted(t *testing.T) {
	g := world()
	g.Bind(pfx("0.0.0.0/0"), Binding{Permitted: []string{"b", "a"}})
	b, tor := Peer{Node: "b"}, Peer{}
	for _, c := range []struct {
		prefix string
		from   Peer
		hop    string
		want   Class
	}{
		{"0.0.0.0/0", b, "10.0.0.2", Accepted},
		{"198.51.100.0/24", b, "10.0.0.2", Accepted},
		{"10.65.0.128/26", b, "10.0.0.2", Unbound}, // the block is c's
		{"0.0.0.0/0", Peer{Node: "c"}, "10.0.0.3", Unbound},
		{"0.0.0.0/0", tor, "10.0.0.254", Accepted}, // permission is no ownership
	} {
		if got, why := g.Judge(&Route{Prefix: pfx(c.prefix), NextHop: adr(c.hop)}, &c.from); got != c.want {
			t.Errorf("%s from %+v: %v %s, want %v", c.prefix, c.from, got, why, c.want)
		}
	}
	if !g.Bound(pfx("198.51.100.0/24")) {
		t.Error("what this node may announce, it does not")
	}
	g.Bind(pfx("0.0.0.0/0"), Binding{Permitted: []string{"b"}})
	if g.Bound(pfx("198.51.100.0/24")) {
		t.Error("what another is permitted counts as somebody's own")
	}
}

// Addresses in their own node's block cost nothing.
func TestBlocksSpeakForTheirEndpoints(t *testing.T) {
	g := New("a")
	g.Bind(pfx("10.65.0.64/26"), Binding{Nodes: []string{"b"}})
	for i := range 64 {
		if got := g.BindHost(netip.AddrFrom4([4]byte{10, 65, 0, byte(64 + i)}), []string{"b"}); got != nil {
			t.Fatalf("BindHost: %v", got)
		}
	}
	if g.Size() != 1 {
		t.Errorf("%d bindings, want the block's", g.Size())
	}
	// Two endpoints claim one address, as while a machine moves: both count.
	if got := g.BindHost(adr("10.65.0.64"), []string{"b", "c"}); !slices.Equal(got, []netip.Prefix{pfx("10.65.0.64/32")}) {
		t.Errorf("BindHost: %v", got)
	}
	for _, hop := range []string{"b", "c"} {
		g.SetNodes([]Node{{Name: hop, Addrs: []netip.Addr{adr("10.0.0.9")}}})
		if got, why := g.Judge(&Route{Prefix: pfx("10.65.0.64/32"), NextHop: adr("10.0.0.9")}, &Peer{Node: hop}); got != Accepted {
			t.Errorf("%s: %v %s", hop, got, why)
		}
	}
}

func TestSetNodesReturnsWhatMoved(t *testing.T) {
	g := New("a")
	sorted := func(l []netip.Addr) string { slices.SortFunc(l, netip.Addr.Compare); return fmt.Sprint(l) }
	n := Node{Name: "b", ID: adr("10.0.0.2"), Addrs: []netip.Addr{adr("10.0.0.2"), adr("fd00::2")}}
	if got := sorted(g.SetNodes([]Node{n})); got != "[10.0.0.2 fd00::2]" {
		t.Error(got)
	}
	if got := g.SetNodes([]Node{n}); got != nil {
		t.Errorf("nothing changed: %v", got)
	}
	n.Addrs = n.Addrs[:1]
	if got := sorted(g.SetNodes([]Node{n, {Name: "c", ID: adr("10.0.0.3")}})); got != "[10.0.0.3 fd00::2]" {
		t.Error(got)
	}
}

// Two nodes claim one address, as after a server was renamed: from there either may
// announce what is bound to it, and nobody else's. What the second one brings and takes is
// judged again.
func TestNodesWithOneAddress(t *testing.T) {
	for _, names := range [][2]string{{"b", "b2"}, {"b2", "b"}} {
		g := New("a")
		hop := adr("10.0.0.2")
		for i, n := range []string{"a", "b", "b2", "c"} {
			g.Bind(pfx(fmt.Sprintf("10.65.%d.0/26", i)), Binding{Nodes: []string{n}})
		}
		one := Node{Name: names[0], ID: hop, Addrs: []netip.Addr{hop}}
		two := Node{Name: names[1], ID: hop, Addrs: []netip.Addr{hop}}
		c := Node{Name: "c", ID: adr("10.0.0.3"), Addrs: []netip.Addr{adr("10.0.0.3")}}
		g.SetNodes([]Node{one, c})
		if got := fmt.Sprint(g.SetNodes([]Node{one, two, c})); got != "[10.0.0.2]" {
			t.Errorf("with the second one %s are judged again", got)
		}
		for i, want := range []Class{Local, Accepted, Accepted, Unbound} {
			r := Route{Prefix: pfx(fmt.Sprintf("10.65.%d.0/26", i)), NextHop: hop}
			if got, why := g.Judge(&r, &Peer{Node: names[0]}); got != want {
				t.Errorf("%s, %v: %v (%s), want %v", r.Prefix, names, got, why, want)
			}
			r.NextHop = adr("10.0.0.3")
			if got, _ := g.Judge(&r, &Peer{Node: "c"}); (got == Accepted) != (i == 3) {
				t.Errorf("%s of c: %v", r.Prefix, got)
			}
		}
		if got := fmt.Sprint(g.SetNodes([]Node{one, c})); got != "[10.0.0.2]" {
			t.Errorf("without the second one %s are judged again", got)
		}
		if got, _ := g.Judge(&Route{Prefix: pfx("10.65.1.0/26"), NextHop: hop}, &Peer{Node: names[0]}); (got == Accepted) != (names[0] == "b") {
			t.Errorf("b's block by %s alone: %v", names[0], got)
		}
	}
}

// twin is the slow, obvious guard: it keeps what was said and looks through all.
type twin struct {
	self     string
	prefixes map[netip.Prefix]Binding
	hosts    map[netip.Addr][]string
}

func (w *twin) may(p netip.Prefix, node string) bool {
	if p.IsSingleIP() {
		if claim := w.hosts[p.Addr()]; len(claim) > 0 {
			around, _ := w.around(p)
			for _, n := range claim { // an endpoint outside its node's block: only the claimants
				if !slices.Contains(around.Nodes, n) {
					return slices.Contains(claim, node)
				}
			}
		}
	}
	b, ok := w.around(p)
	return ok && (b.Anybody || slices.Contains(b.Nodes, node) || slices.Contains(b.Permitted, node))
}

func (w *twin) around(p netip.Prefix) (best Binding, ok bool) {
	bits := -1
	for q, b := range w.prefixes {
		if q.Bits() > bits && q.Bits() <= p.Bits() && q.Contains(p.Addr()) {
			best, bits, ok = b, q.Bits(), true
		}
	}
	return best, ok
}

// TestGuardAgreesWithTwin binds and unbinds at random. The Guard must agree
// with its twin on every prefix, and what it judges otherwise than before must
// lie in what it returned.
func TestGuardAgreesWithTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 11))
	names := []string{"a", "b", "c"}
	var all []netip.Prefix // a small world, so that things meet
	for i := range 16 {
		for _, base := range []string{"10.0.0.0", "fd00::"} {
			a := adr(base)
			s := a.AsSlice()
			s[len(s)-1] = byte(i)
			x, _ := netip.AddrFromSlice(s)
			for bits := a.BitLen() - 4; bits <= a.BitLen(); bits++ {
				p := netip.PrefixFrom(x, bits).Masked()
				if !slices.Contains(all, p) {
					all = append(all, p)
				}
			}
		}
	}
	for range 60 {
		g := New("x")
		var nodes []Node
		for i, n := range names {
			nodes = append(nodes, Node{Name: n, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}})
		}
		g.SetNodes(nodes)
		w := &twin{self: "x", prefixes: map[netip.Prefix]Binding{}, hosts: map[netip.Addr][]string{}}
		judge := func(p netip.Prefix, i int) bool {
			c, _ := g.Judge(&Route{Prefix: p, NextHop: nodes[i].Addrs[0]}, &Peer{Node: names[i]})
			return c == Accepted
		}
		some := func() (out []string) {
			for _, n := range names {
				if rnd.IntN(3) == 0 {
					out = append(out, n)
				}
			}
			return out
		}
		for range 40 {
			before := map[string]bool{}
			for _, p := range all {
				for i := range names {
					before[fmt.Sprint(p, i)] = judge(p, i)
				}
			}
			p := all[rnd.IntN(len(all))]
			var changed []netip.Prefix
			if p.IsSingleIP() && rnd.IntN(2) == 0 {
				who := some()
				w.hosts[p.Addr()] = who
				changed = g.BindHost(p.Addr(), who)
			} else {
				b := Binding{Nodes: some()}
				if rnd.IntN(5) == 0 {
					b.Permitted = some()
				}
				if b.empty() {
					delete(w.prefixes, p)
				} else {
					w.prefixes[p] = b
				}
				changed = g.Bind(p, b)
				for a, who := range w.hosts { // as the owner of a Guard does
					if p.Contains(a) {
						changed = append(changed, g.BindHost(a, who)...)
					}
				}
			}
			for _, q := range all {
				for i, n := range names {
					got := judge(q, i)
					if want := w.may(q, n); got != want {
						t.Fatalf("%s by %s: %v, want %v\nprefixes %v\nhosts %v", q, n, got, want, w.prefixes, w.hosts)
					}
					if got != before[fmt.Sprint(q, i)] && !slices.ContainsFunc(changed, func(c netip.Prefix) bool { return c.Bits() <= q.Bits() && c.Contains(q.Addr()) }) {
						t.Fatalf("%s by %s is judged otherwise, and %v do not say so", q, n, changed)
					}
				}
			}
		}
	}
}
