// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestAlikeAgreesWithLookup changes bindings and nodes at random and asks for
// runs of neighbours in between. Whenever one look is said to be good for a whole
// run, looking up the address alone must give the same, and no server is there;
// and whose next hop it is must be what the nodes say now.
func TestAlikeAgreesWithLookup(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 5))
	names := []string{"x", "a", "b"}
	// Four neighbouring runs of 256 addresses in each family.
	address := func() netip.Addr {
		base := adr([]string{"10.0.0.0", "fd00::"}[rnd.IntN(2)])
		s := base.AsSlice()
		s[len(s)-2], s[len(s)-1] = byte(rnd.IntN(4)), byte(rnd.IntN(256))
		a, _ := netip.AddrFromSlice(s)
		return a
	}
	one := func() []string { return names[rnd.IntN(len(names)):][:1] }
	alike, apart, bound := 0, 0, 0
	for range 200 {
		g := New("x")
		owner := map[netip.Addr]string{}
		var blocks []netip.Prefix
		var hosts []netip.Addr
		for range 30 {
			a := address()
			g.alike(a) // what is remembered before a change must not outlive it
			g.author(&Route{NextHop: a}, &Peer{})
			switch rnd.IntN(6) {
			case 0: // around several runs, one run, or part of one
				p := netip.PrefixFrom(a, a.BitLen()-rnd.IntN(11)).Masked()
				g.Bind(p, Binding{Nodes: one(), Anybody: rnd.IntN(4) == 0})
				blocks = append(blocks, p)
			case 1:
				g.BindHost(a, one())
				hosts = append(hosts, a)
			case 2:
				for _, p := range blocks {
					if rnd.IntN(2) == 0 {
						g.Bind(p, Binding{})
					}
				}
			case 3:
				for _, h := range hosts {
					if rnd.IntN(2) == 0 {
						g.BindHost(h, nil)
					}
				}
			case 4: // nodes come, go, and exchange addresses
				clear(owner)
				var nodes []Node
				at := a
				for _, name := range names[:rnd.IntN(len(names)+1)] {
					if owner[at] == "" {
						owner[at] = name
						nodes = append(nodes, Node{Name: name, Addrs: []netip.Addr{at}})
					}
					at = address()
				}
				g.SetNodes(nodes)
			}
			for i := range 8 {
				if i > 0 {
					a = address()
				} else if got := g.author(&Route{NextHop: a}, &Peer{}); got != owner[a] {
					t.Fatalf("next hop %s is that of %q, want %q", a, got, owner[a])
				}
				p := netip.PrefixFrom(a, a.BitLen())
				if !g.alike(a) {
					apart++
					continue
				}
				alike++
				want := g.bound(p, true)
				if want != nil {
					bound++
				}
				if g.lastBound != want {
					t.Fatalf("%s: bound to %v in its run, %v alone", a, g.lastBound, want)
				}
				if owner[a] != "" {
					t.Fatalf("%s is an address of node %s, and alike to its neighbours", a, owner[a])
				}
			}
			for at, name := range owner {
				if got := g.author(&Route{NextHop: at}, &Peer{}); got != name {
					t.Fatalf("next hop %s is that of %q, want %q", at, got, name)
				}
			}
		}
	}
	if alike < 1000 || apart < 1000 || bound < 1000 {
		t.Errorf("%d alike, of which %d bound, and %d not: the test has become one-sided", alike, bound, apart)
	}
}
