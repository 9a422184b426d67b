// SPDX-License-Identifier: Apache-2.0

package route

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// resyncs is how often the whole table was read.
func (h *host) resyncs() int { return h.tab.counted().resyncs }

// flushAddrs removes every address of a family from a link, one by one.
func (h *host) flushAddrs(link string, four bool) {
	h.t.Helper()
	as, err := h.ns.Addrs(link)
	h.must(err)
	for _, a := range as {
		if a.Addr().Is4() == four {
			h.must(h.ns.DelAddr(link, a))
		}
	}
}

// N09: with the last IPv4 address of an interface the kernel drops every IPv4
// route through it without a word. They are back within a second, and the
// IPv6 routes stay. The kernel tells of the address before it drops the
// routes, so once is not enough to see a race.
func TestN09_LastAddressOfEndpointGoes(t *testing.T) {
	h := newHost(t)
	h.must(h.ns.AddAddr("w1", pfx("169.254.1.1/32")))
	before := h.tamperBase()
	h.watch()
	var four, six latency
	for range 50 {
		was := h.resyncs()
		h.must(h.ns.DelAddr("w1", pfx("169.254.1.1/32")))
		four = append(four, h.repaired(before, "`ip addr del 169.254.1.1/32`"))
		h.settled()
		if n := h.resyncs() - was; n != 1 {
			t.Errorf("read the table %d times, want once", n)
		}
		h.must(h.ns.AddAddr("w1", pfx("169.254.1.1/32")))
	}
	h.must(h.ns.AddAddr("w1", pfx("169.254.1.2/32")))
	for _, link := range []string{"w1", "eth0"} {
		h.flushAddrs(link, true)
		if link == "w1" {
			four = append(four, h.repaired(before, "`ip -4 addr flush dev w1`"))
		}
	}
	h.must(h.ns.AddAddr("eth0", pfx("10.0.0.1/24")))
	four = append(four, h.repaired(before, "`ip -4 addr flush dev eth0` and its address again"))
	h.flushAddrs("w1", false)
	six = append(six, h.repaired(before, "`ip -6 addr flush dev w1`"))
	four.report(t, "IPv4", 100*time.Millisecond, time.Second)
	six.report(t, "IPv6", 100*time.Millisecond, time.Second)
}

// N09: the kernel drops IPv6 routes without a word as well, when told so and
// IPv6 is switched off on a link.
func TestN09_IPv6OffAndOn(t *testing.T) {
	h := newHost(t)
	before := h.tamperBase()
	h.must(h.ns.SetSysctl("net/ipv6/route/skip_notify_on_dev_down", "1"))
	h.watch()
	for range 5 {
		h.must(h.ns.SetSysctl("net/ipv6/conf/w1/disable_ipv6", "1"))
		labtest.Poll(t, time.Second, func() error {
			if s := state(h.tab, "fd65::2/128"); s != Failed {
				return fmt.Errorf("fd65::2/128 is %s", s)
			}
			return nil
		})
		h.must(h.ns.SetSysctl("net/ipv6/conf/w1/disable_ipv6", "0"))
		if took := h.repaired(before, "IPv6 off and on"); took > time.Second {
			t.Errorf("took %v", took)
		}
	}
}

// N09: an uplink's address goes and comes back, as when a lease is renewed: at
// once, and after long enough for the loss to be worked off in between.
func TestN09_UplinkAddressGoesAndComesBack(t *testing.T) {
	for _, fam := range []struct{ n, addr string }{{"IPv4", "10.0.0.1/24"}, {"IPv6", "fd00::1/64"}} {
		for _, pause := range []time.Duration{0, 300 * time.Millisecond} {
			t.Run(fmt.Sprint(fam.n, " ", pause), func(t *testing.T) {
				h := newHost(t)
				before := h.tamperBase()
				h.watch()
				var took latency
				for range 5 {
					h.must(h.ns.DelAddr("eth0", pfx(fam.addr)))
					time.Sleep(pause) // the scenario, not a wait
					h.must(h.ns.AddAddr("eth0", pfx(fam.addr)))
					took = append(took, h.repaired(before, "a renewal"))
				}
				took.report(t, fam.n, 200*time.Millisecond, time.Second)
			})
		}
	}
}

// A foreign route that prefers an address as its source goes with the address,
// on whatever link that was (the kernel tells of those, from 6.7 on), and no
// longer stands in the way of ours.
func TestN09_ForeignRouteGoesWithItsSource(t *testing.T) {
	h := newHost(t)
	h.must(h.ns.AddAddr("w2", pfx("192.0.2.1/32")))
	h.must(h.nl.RouteAdd(&netlink.Route{Dst: ipnet(pfx("10.65.0.3/32")), LinkIndex: h.link("eth1"),
		Scope: netlink.SCOPE_LINK, Priority: defaultMetric, Protocol: 4, Src: ip("192.0.2.1")}))
	h.replace("local", linkRoute("10.65.0.3/32", "w1"))
	h.complete()
	h.apply()
	h.watch()
	if s := state(h.tab, "10.65.0.3/32"); s != Conflicted {
		t.Fatalf("state %s, want conflict", s)
	}
	h.must(h.ns.DelAddr("w2", pfx("192.0.2.1/32")))
	labtest.Poll(t, time.Second, func() error {
		if s := state(h.tab, "10.65.0.3/32"); s != Installed {
			return fmt.Errorf("state %s", s)
		}
		return nil
	})
}

// However many addresses go between two calls of Apply, it reads the table
// once; for links that no route uses, for addresses that come and for lifetimes
// that are renewed, never.
func TestAddressStorm(t *testing.T) {
	h := newHost(t)
	h.must(h.ns.AddAddr("w1", pfx("169.254.1.1/32")))
	before := h.tamperBase()
	h.watch()
	h.settled()
	was, told := h.resyncs(), h.notified.Load()
	addrs := func(link string, n int, f func(string, netip.Prefix) error) {
		for i := range n {
			h.must(f(link, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, 0, byte(i)}), 32)))
		}
	}
	addrs("w3", 100, h.ns.AddAddr)
	addrs("w3", 100, h.ns.DelAddr)
	w1, err := h.nl.LinkByName("w1")
	h.must(err)
	for i := range 100 {
		h.must(h.nl.AddrReplace(w1, &netlink.Addr{IPNet: ipnet(pfx("169.254.1.1/32")), ValidLft: 1000 + i, PreferedLft: 1000}))
		h.must(h.nl.AddrReplace(w1, &netlink.Addr{IPNet: ipnet(pfx("fd77::1/128")), ValidLft: 1000 + i, PreferedLft: 1000}))
	}
	// Own writes are not heard either; the route of a foreign hand at the end
	// proves that all before it was.
	h.must(h.tab.Update("local", []Route{linkRoute("10.65.0.9/32", "w1"), linkRoute("fd65::9/128", "w1")}, nil))
	h.apply()
	h.must(h.tab.Update("local", nil, []netip.Prefix{pfx("10.65.0.9/32"), pfx("fd65::9/128")}))
	h.apply()
	h.must(h.ns.DelRoute(pfx("10.65.0.2/32"), ""))
	h.repaired(before, "the marker")
	h.settled()
	if n := h.resyncs() - was; n != 0 {
		t.Errorf("addresses that concern no route of ours: read the table %d times", n)
	}
	t.Logf("notified %d times", h.notified.Load()-told)

	// A watcher without an Apply: what is heard piles up.
	h.must(h.tab.Close())
	h.tab = h.open()
	h.tamperBase()
	addrs("w1", 100, h.ns.AddAddr)
	h.listen()
	was = h.resyncs()
	addrs("w1", 100, h.ns.DelAddr)
	h.must(h.ns.DelAddr("w1", pfx("169.254.1.1/32")))
	labtest.Poll(t, time.Second, func() error {
		h.tab.events.mu.Lock()
		defer h.tab.events.mu.Unlock()
		if n := len(h.tab.events.facts); n < 101 {
			return fmt.Errorf("%d facts", n)
		}
		return nil
	})
	if r := h.apply(); r.Added != 1 || r.Repaired != 1 {
		t.Errorf("Apply: %+v, want the one route of w1 repaired", r)
	}
	if got := h.exact(); !slices.Equal(got, before) {
		t.Errorf("kernel has %v", got)
	}
	if n := h.resyncs() - was; n != 1 {
		t.Errorf("read the table %d times, want once", n)
	}
}

// An endpoint that goes takes its addresses with it; that costs no dump.
func TestEndpointsGoCheaply(t *testing.T) {
	h := newHost(t)
	h.must(lab.Veth(lab.End{NS: h.ns, Name: "late"}, lab.End{NS: h.far, Name: "late"}))
	h.must(h.ns.AddAddr("late", pfx("169.254.1.1/32")))
	before := h.tamperBase()
	h.must(h.tab.Update("local", []Route{linkRoute("10.65.0.9/32", "late"), linkRoute("fd65::9/128", "late")}, nil))
	h.apply()
	with := h.exact()
	h.watch()
	h.must(h.ns.DelRoute(pfx("10.65.0.2/32"), "")) // behind what was heard when the link came
	h.repaired(with, "the first marker")
	h.settled()
	was := h.resyncs()
	h.must(h.ns.DeleteLink("late"))
	h.repaired(before, "the end of an endpoint")
	h.settled()
	h.must(h.ns.DelRoute(pfx("10.65.0.2/32"), ""))
	h.repaired(before, "the marker")
	h.settled()
	if n := h.resyncs() - was; n != 0 {
		t.Errorf("read the table %d times", n)
	}
}

// The gateway's addresses are taken off the interface of an endpoint that has gone, whose routes have gone before: that
// costs no dump. The kernel's own route to fe80::/64 on that interface is there until it is gone.
func TestEndpointsAreRetiredCheaply(t *testing.T) {
	h := newHost(t)
	h.must(lab.Veth(lab.End{NS: h.ns, Name: "late"}, lab.End{NS: h.far, Name: "late"}))
	gateways := []netip.Prefix{pfx("169.254.1.1/32"), pfx("fe80::ecee:eeff:feee:eeee/64")}
	for _, g := range gateways {
		h.must(h.ns.AddAddr("late", g))
	}
	before := h.tamperBase()
	routes := []Route{linkRoute("10.65.0.9/32", "late"), linkRoute("fd65::9/128", "late")}
	h.must(h.tab.Update("local", routes, nil))
	h.apply()
	h.watch()
	h.must(h.tab.Update("local", nil, []netip.Prefix{routes[0].Prefix, routes[1].Prefix}))
	h.apply()
	marker := func() {
		t.Helper()
		h.must(h.ns.DelRoute(pfx("10.65.0.2/32"), ""))
		h.repaired(before, "the marker")
		h.settled()
	}
	marker() // behind what was heard when the link came
	was := h.resyncs()
	for _, g := range gateways {
		h.must(h.ns.DelAddr("late", g))
	}
	marker()
	if n := h.resyncs() - was; n != 0 {
		t.Errorf("read the table %d times", n)
	}
}
