// SPDX-License-Identifier: Apache-2.0

package route

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// objectsNow returns the next-hop objects of the namespace by number, and those
// of other protocols apart.
func (h *host) objectsNow() (ours, others []uint32) {
	h.t.Helper()
	h.must(h.ns.Do(func() error {
		c, err := dial()
		if err != nil {
			return err
		}
		defer c.close()
		return c.dump(unix.RTM_GETNEXTHOP, make([]byte, nhmHeader), func(m message) {
			if id := objectNumber(m.data); m.data[2] == Protocol {
				ours = append(ours, id)
			} else {
				others = append(others, id)
			}
		})
	}))
	return ours, others
}

// igp installs a route as another daemon does (protocol 188 is OSPF's).
func (h *host) igp(p string, hops ...string) {
	h.t.Helper()
	r := &netlink.Route{Dst: ipnet(pfx(p)), Protocol: 188, Priority: 20}
	for _, g := range hops {
		gw, dev, _ := strings.Cut(g, "%")
		r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: h.link(dev), Gw: ip(gw)})
	}
	h.must(h.nl.RouteReplace(r))
}

// reached polls what is said of a next hop.
func (h *host) reached(a, want string) {
	h.t.Helper()
	if h.said == nil {
		h.said = map[string]string{}
	}
	labtest.Poll(h.t, 3*time.Second, func() error {
		changes, _ := h.tab.Reached()
		for _, c := range changes {
			h.said[c.Addr.String()] = fmt.Sprintf("%v %d", c.Usable, c.Cost)
		}
		if h.said[a] != want {
			return fmt.Errorf("%s: %q, want %q", a, h.said[a], want)
		}
		return nil
	})
}

func (h *host) becomes(lines ...string) {
	h.t.Helper()
	slices.Sort(lines)
	labtest.Poll(h.t, 2*time.Second, func() error {
		if got := h.kernel(true); !slices.Equal(got, lines) {
			return fmt.Errorf("kernel has\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
		}
		return nil
	})
}

// Next hops behind other routers follow what another daemon says of them, one
// message for all their routes, and are never resolved with our own routes.
func TestRecursion(t *testing.T) {
	for _, inline := range []bool{false, true} {
		t.Run(fmt.Sprint("inline ", inline), func(t *testing.T) {
			h := newHost(t)
			h.reopen(inline)
			h.watch()
			h.igp("10.255.0.0/16", "10.0.0.2%eth0")
			h.igp("fd00:ff::/32", "fd00::2%eth0")
			h.tab.Track([]netip.Addr{netip.MustParseAddr("10.255.0.9"), netip.MustParseAddr("fd00:ff::9"), netip.MustParseAddr("10.0.1.7")}, nil)
			h.replace("bgp",
				via("10.66.0.0/26", "10.255.0.9"), via("10.66.1.0/26", "10.255.0.9"), via("fd66::/122", "fd00:ff::9"),
				via("10.255.0.9/32", "10.0.1.9")) // a route of ours to the next hop itself changes nothing
			h.complete()
			h.apply()
			ours := "10.255.0.9/32 via 10.0.1.9 dev eth1 metric 1024"
			h.becomes("10.66.0.0/26 via 10.0.0.2 dev eth0 metric 1024", "10.66.1.0/26 via 10.0.0.2 dev eth0 metric 1024",
				"fd66::/122 via fd00::2 dev eth0 metric 1024", ours)
			h.reached("10.255.0.9", "true 20")
			h.reached("10.0.1.7", "true 0")

			before := h.tab.counted()
			h.igp("10.255.0.0/16", "10.0.1.2%eth1")
			h.igp("fd00:ff::/32", "fd00:1::2%eth1", "fd00::2%eth0")
			h.becomes("10.66.0.0/26 via 10.0.1.2 dev eth1 metric 1024", "10.66.1.0/26 via 10.0.1.2 dev eth1 metric 1024",
				"fd66::/122 via fd00:1::2 dev eth1, via fd00::2 dev eth0 metric 1024", ours)
			if after := h.tab.counted(); !inline && after.Changed != before.Changed || after.resyncs != before.resyncs {
				t.Errorf("a reroute wrote routes or read all of them: %+v, before %+v", after, before)
			}
			// A more specific one, and away again.
			h.igp("10.255.0.8/29", "10.0.0.3%eth0")
			h.becomes("10.66.0.0/26 via 10.0.0.3 dev eth0 metric 1024", "10.66.1.0/26 via 10.0.0.3 dev eth0 metric 1024",
				"fd66::/122 via fd00:1::2 dev eth1, via fd00::2 dev eth0 metric 1024", ours)
			// What is lost stays in the kernel until BGP withdraws it, and is said
			// after a while; a moment's loss is not said.
			h.must(h.del(netlink.Route{Dst: ipnet(pfx("10.255.0.8/29")), Priority: 20, Protocol: 188}))
			h.must(h.del(netlink.Route{Dst: ipnet(pfx("10.255.0.0/16")), Priority: 20, Protocol: 188}))
			h.settled()
			if got := h.kernel(true); len(got) != 4 {
				t.Errorf("kernel has %v", got)
			}
			h.reached("10.255.0.9", "false 0")
			h.igp("10.255.0.0/16", "10.0.0.2%eth0")
			h.reached("10.255.0.9", "true 20")
			h.settled()
			if r := h.resync(); r != (Result{}) {
				t.Errorf("Resync: %+v", r)
			}
			h.reopen(inline)
			h.replace("bgp", via("10.66.0.0/26", "10.255.0.9"), via("10.66.1.0/26", "10.255.0.9"), via("fd66::/122", "fd00:ff::9"),
				via("10.255.0.9/32", "10.0.1.9"))
			h.complete()
			if r := h.apply(); r != (Result{}) {
				t.Errorf("a restart wrote %+v", r)
			}
		})
	}
}

// Of several routes to a next hop, as two daemons have them or two uplinks in one subnet,
// the one of the lowest metric counts, as it does in the kernel, in whatever order they come.
func TestLowestMetricLeadsToNextHops(t *testing.T) {
	h := newHost(t)
	h.watch()
	ways := []struct {
		metric       int
		hop4, hop6   string
		want4, want6 string
	}{
		{20, "10.0.0.2%eth0", "fd00::2%eth0", "via 10.0.0.2 dev eth0", "via fd00::2 dev eth0"},
		{10, "10.0.1.2%eth1", "fd00:1::2%eth1", "via 10.0.1.2 dev eth1", "via fd00:1::2 dev eth1"},
		{30, "10.0.0.3%eth0", "fd00::3%eth0", "via 10.0.0.3 dev eth0", "via fd00::3 dev eth0"},
	}
	way := func(prefix, hop string, metric int) netlink.Route {
		gw, dev, _ := strings.Cut(hop, "%")
		return netlink.Route{Dst: ipnet(pfx(prefix)), Protocol: 188, Priority: metric, LinkIndex: h.link(dev), Gw: ip(gw)}
	}
	leads := func(i int) {
		t.Helper()
		h.becomes("10.66.0.0/26 "+ways[i].want4+" metric 1024", "fd66::/122 "+ways[i].want6+" metric 1024")
		h.reached("10.255.0.9", fmt.Sprintf("true %d", ways[i].metric))
		h.reached("fd00:ff::9", fmt.Sprintf("true %d", ways[i].metric))
	}
	wish := []Route{via("10.66.0.0/26", "10.255.0.9"), via("fd66::/122", "fd00:ff::9")}
	h.tab.Track([]netip.Addr{netip.MustParseAddr("10.255.0.9"), netip.MustParseAddr("fd00:ff::9")}, nil)
	h.replace("bgp", wish...)
	h.complete()
	h.apply()
	for i, best := range []int{0, 1, 1} {
		for _, r := range []netlink.Route{way("10.255.0.0/16", ways[i].hop4, ways[i].metric), way("fd00:ff::/32", ways[i].hop6, ways[i].metric)} {
			h.must(h.nl.RouteAdd(&r))
		}
		leads(best)
	}
	h.reopen(false)
	h.replace("bgp", wish...)
	h.complete()
	if r := h.apply(); r != (Result{}) {
		t.Errorf("a restart, which reads them all, wrote %+v", r)
	}
}

// An object of ours that somebody else's route uses is not removed: the kernel would
// remove that route with it.
func TestObjectInUseByOthersStays(t *testing.T) {
	h := newHost(t)
	h.watch()
	h.replace("bgp", via("10.66.0.0/26", "10.0.0.2", "10.0.1.2"), via("fd66::/122", "fd00::2", "fd00:1::2"))
	h.complete()
	h.apply()
	foreign := map[string]string{"10.66.0.0/26": "10.77.0.0/26", "fd66::/122": "fd77::/122"}
	ip := func(args ...string) string {
		t.Helper()
		var out []byte
		h.must(h.ns.Do(func() (err error) {
			if out, err = exec.Command("ip", args...).CombinedOutput(); err != nil {
				err = fmt.Errorf("ip %v: %w: %s", args, err, out)
			}
			return err
		}))
		return string(out)
	}
	show := func(prefix string) string {
		if strings.Contains(prefix, ":") {
			return ip("-6", "route", "show", prefix)
		}
		return ip("route", "show", prefix)
	}
	for ours, theirs := range foreign {
		id := regexp.MustCompile(`nhid (\d+)`).FindStringSubmatch(show(ours))
		if id == nil {
			t.Fatalf("%s has no object", ours)
		}
		ip("route", "add", theirs, "nhid", id[1], "proto", "188")
	}
	h.resync()
	h.replace("bgp")
	h.apply()
	h.becomes()
	h.resync()
	for _, theirs := range foreign {
		if got := show(theirs); !strings.Contains(got, theirs) {
			t.Errorf("%s is gone with our object", theirs)
		}
		ip("route", "del", theirs)
	}
	labtest.Poll(t, 3*time.Second, func() error {
		h.resync()
		if ours, _ := h.objectsNow(); len(ours) > 0 {
			return fmt.Errorf("objects %v are left", ours)
		}
		return nil
	})
}

// A route that covers next hops, as that to the address of a router which announces it,
// keeps no other route through them out of the kernel, whichever comes first.
func TestRouteThatCoversNextHops(t *testing.T) {
	for _, inline := range []bool{false, true} {
		for _, cover := range [][2]string{{"10.0.0.0/25", "fd00::/65"}, {"10.0.0.2/32", "fd00::2/128"}} {
			t.Run(fmt.Sprintf("inline %v, %s", inline, cover), func(t *testing.T) {
				h := newHost(t)
				h.reopen(inline)
				covers := []Route{via(cover[0], "10.0.0.2"), via(cover[1], "fd00::2")}
				others := []Route{
					via("10.66.0.0/26", "10.0.0.2"), via("10.66.1.0/26", "10.0.0.2", "10.0.1.2"),
					via("fd66::/122", "fd00::2"), via("fd66:1::/122", "fd00::2", "fd00:1::2"), via("10.66.2.0/26", "fd00::2"),
				}
				lines := []string{
					cover[0] + " via 10.0.0.2 dev eth0 metric 1024", cover[1] + " via fd00::2 dev eth0 metric 1024",
					"10.66.0.0/26 via 10.0.0.2 dev eth0 metric 1024", "10.66.1.0/26 via 10.0.0.2 dev eth0, via 10.0.1.2 dev eth1 metric 1024",
					"fd66::/122 via fd00::2 dev eth0 metric 1024", "fd66:1::/122 via fd00:1::2 dev eth1, via fd00::2 dev eth0 metric 1024",
					"10.66.2.0/26 via fd00::2 dev eth0 metric 1024",
				}
				h.replace("bgp", covers...)
				h.complete()
				h.apply()
				h.must(h.tab.Update("bgp", others, nil))
				h.apply()
				h.want(lines...)
				if p := h.tab.Problems(); len(p) > 0 {
					t.Errorf("%+v", p)
				}
				h.replace("bgp", others...)
				h.apply()
				h.must(h.tab.Update("bgp", covers, nil))
				h.apply()
				h.want(lines...)
				if r := h.resync(); r != (Result{}) {
					t.Errorf("Resync: %+v", r)
				}
			})
		}
	}
}

// A next hop that is lost and comes back within lossDelay was never away.
func TestLossIsSaidLate(t *testing.T) {
	h := newHost(t)
	now := time.Now()
	h.tab.now = func() time.Time { return now }
	a := netip.MustParseAddr("10.0.0.7")
	h.tab.Track([]netip.Addr{a}, nil)
	if c, _ := h.tab.Reached(); c != nil {
		t.Errorf("said %v before anything was read", c)
	}
	h.apply()
	step := func(what string, wantAgain bool, want ...Reach) {
		t.Helper()
		h.heard()
		h.apply()
		if got, again := h.tab.Reached(); !slices.Equal(got, want) || (again > 0) != wantAgain {
			t.Errorf("%s: said %v, again %v", what, got, again)
		}
	}
	step("at first", false, Reach{Addr: a, Usable: true, Device: "eth0"})
	h.must(h.ns.DelAddr("eth0", pfx("10.0.0.1/24")))
	step("lost", true)
	now = now.Add(lossDelay / 2)
	step("still lost", true)
	h.must(h.ns.AddAddr("eth0", pfx("10.0.0.1/24")))
	step("back", false)
	h.must(h.ns.DelAddr("eth0", pfx("10.0.0.1/24")))
	step("lost again", true)
	now = now.Add(lossDelay)
	step("for long", false, Reach{Addr: a, Why: "next hop 10.0.0.7 is in no connected subnet and no other daemon has a route to it"})
	h.tab.Track(nil, []netip.Addr{a})
	if len(h.tab.topo.hops) != 0 {
		t.Errorf("%d next hops left", len(h.tab.topo.hops))
	}
}

// Through a workload, a default route or what drops, no next hop is reached.
func TestWhatLeadsToNoNextHop(t *testing.T) {
	h := newHost(t)
	h.must(h.tab.Close())
	tab, err := Open(Options{Inside: h.ns.Do, Workload: func(d string) bool { return d[0] == 'w' }})
	h.must(err)
	h.tab = tab
	t.Cleanup(func() { tab.Close() })
	h.watch()
	h.must(h.nl.RouteAdd(&netlink.Route{Dst: ipnet(pfx("10.9.0.0/16")), LinkIndex: h.link("w1"), Scope: unix.RT_SCOPE_LINK, Protocol: 4}))
	h.must(h.nl.RouteAdd(&netlink.Route{Dst: ipnet(pfx("fd09::/32")), LinkIndex: h.link("w1"), Protocol: 4}))
	h.must(h.nl.RouteAdd(&netlink.Route{Dst: ipnet(pfx("10.8.0.0/16")), Type: unix.RTN_UNREACHABLE, Protocol: 4}))
	h.igp("0.0.0.0/0", "10.0.0.2%eth0")
	h.igp("::/0", "fd00::2%eth0")
	h.replace("bgp", via("10.66.0.0/26", "10.9.0.1"), via("fd66::/122", "fd09::1"), via("10.67.0.0/26", "10.8.0.1"),
		via("10.68.0.0/26", "192.0.2.1"), via("fd68::/122", "2001:db8::1"))
	h.complete()
	h.apply()
	h.want()
	want := []string{
		"10.66.0.0/26: next hop 10.9.0.1 is behind a workload's interface",
		"10.67.0.0/26: next hop 10.8.0.1 is in 10.8.0.0/16, to which another daemon drops everything",
		"10.68.0.0/26: next hop 192.0.2.1 is reached through a default route only",
		"fd66::/122: next hop fd09::1 is behind a workload's interface",
		"fd68::/122: next hop 2001:db8::1 is reached through a default route only",
	}
	// The table may have been read before the default routes were there; then it
	// hears of them.
	labtest.Poll(t, 10*time.Second, func() error {
		h.apply()
		var why []string
		for _, p := range h.tab.Problems() {
			why = append(why, p.Prefix.String()+": "+p.Detail)
		}
		if !slices.Equal(why, want) {
			return fmt.Errorf("problems\n\t%s", strings.Join(why, "\n\t"))
		}
		return nil
	})
	if !h.tab.ThroughDefault(true) || h.tab.ThroughDefault(true) {
		t.Error("ThroughDefault (muslin/next-hops-through-default) does not tell what changed")
	}
	h.apply()
	h.want("10.68.0.0/26 via 10.0.0.2 dev eth0 metric 1024", "fd68::/122 via fd00::2 dev eth0 metric 1024")
}

// RFC 8950: IPv4 through an IPv6 next hop, link-local ones with their interface,
// one or several, and packets get there although the links have no IPv4 address.
func TestIPv4ThroughIPv6(t *testing.T) {
	h := newHost(t)
	h.must(h.ns.DelAddr("eth0", pfx("10.0.0.1/24")))
	h.must(h.ns.DelAddr("eth1", pfx("10.0.1.1/24")))
	h.must(h.ns.AddAddr("lo", pfx("192.0.2.1/32")))
	h.must(h.far.AddAddr("lo", pfx("10.70.0.1/32")))
	h.must(h.far.AddAddr("eth0", pfx("fd00::2/64")))
	h.must(h.far.SetSysctl("net/ipv4/conf/all/rp_filter", "0"))
	far := map[string]string{}
	labtest.Poll(t, 5*time.Second, func() error {
		nl, err := h.far.Handle()
		h.must(err)
		for _, d := range []string{"eth0", "eth1"} {
			l, err := nl.LinkByName(d)
			h.must(err)
			as, err := nl.AddrList(l, unix.AF_INET6)
			h.must(err)
			for _, a := range as {
				if a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
					far[d] = a.IP.String()
				}
			}
		}
		if len(far) != 2 {
			return fmt.Errorf("addresses %v", far)
		}
		return nil
	})
	h.replace("bgp", via("10.70.0.0/24", far["eth0"]+"%eth0"), via("10.71.0.0/24", far["eth0"]+"%eth0", far["eth1"]+"%eth1"), via("10.72.0.0/24", "fd00::2"))
	h.complete()
	if r := h.apply(); r.Added != 3 || r.Failed != 0 {
		t.Fatalf("%+v %v", r, h.tab.Problems())
	}
	if r := h.resync(); r != (Result{}) {
		t.Errorf("Resync: %+v", r)
	}
	if c := h.tab.Count(); c.Installed != 3 {
		t.Errorf("count %+v", c)
	}
	for _, to := range []string{"10.70.0.1", "10.71.0.1", "10.72.0.1"} {
		if to != "10.70.0.1" {
			h.must(h.far.AddAddr("lo", pfx(to+"/32")))
		}
		var rs []netlink.Route
		h.must(h.ns.Do(func() (err error) { rs, err = h.nl.RouteGet(ip(to)); return err }))
		if len(rs) != 1 || rs[0].Src.String() != "192.0.2.1" {
			t.Errorf("way to %s: %v", to, rs)
		}
	}
	received := func() uint64 {
		nl, err := h.far.Handle()
		h.must(err)
		n := uint64(0)
		for _, d := range []string{"eth0", "eth1"} {
			l, err := nl.LinkByName(d)
			h.must(err)
			n += l.Attrs().Statistics.RxPackets
		}
		return n
	}
	before := received()
	for _, to := range []string{"10.70.0.1", "10.71.0.1", "10.72.0.1"} {
		h.must(h.ns.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			a := netip.MustParseAddr(to).As4()
			return unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrInet4{Port: 9, Addr: a})
		}))
	}
	labtest.Poll(t, 5*time.Second, func() error {
		if n := received(); n < before+3 {
			return fmt.Errorf("%d packets arrived", n-before)
		}
		return nil
	})
}

// Objects of ours that somebody deletes or changes come back, with the routes
// that the kernel dropped with them; others' are not touched.
func TestT06_Objects(t *testing.T) {
	h := newHost(t)
	before := h.tamperBase()
	h.must(h.raw(unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE, foreignObject(7, uint32(h.link("eth0")), "10.0.0.66")))
	h.watch()
	ours, others := h.objectsNow()
	if len(ours) != 6 || len(others) != 1 {
		t.Fatalf("objects %v, others' %v", ours, others)
	}
	for range 3 {
		for _, id := range ours {
			err := h.raw(unix.RTM_DELNEXTHOP, 0, appendAttr32(make([]byte, nhmHeader), nhaID, id))
			h.must(err)
			h.repaired(before, fmt.Sprint("deletion of object ", id))
			h.settled()
		}
		// Replaced: by what forwards elsewhere, and by somebody else's.
		for _, id := range ours {
			if o, ok := h.tab.objs.have[id]; ok && o.members == nil && o.hop.gw.Is4() {
				h.must(h.raw(unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, foreignObject(id, uint32(h.link("eth1")), "10.0.1.66")))
				labtest.Poll(t, 2*time.Second, func() error {
					if now, _ := h.objectsNow(); len(now) != 6 {
						return fmt.Errorf("objects %v", now)
					}
					return nil
				})
			}
		}
	}
	h.repaired(before, "all that")
	h.settled()
	if r := h.resync(); r != (Result{}) {
		t.Errorf("Resync: %+v", r)
	}
	// A cable that is pulled takes objects along; the others carry on.
	far, err := h.far.Handle()
	h.must(err)
	l, err := far.LinkByName("eth1")
	h.must(err)
	h.must(far.LinkSetDown(l))
	labtest.Poll(t, 2*time.Second, func() error {
		if got := h.kernel(true); !slices.Contains(got, "10.67.0.0/26 via 10.0.0.2 dev eth0 metric 1024") {
			return fmt.Errorf("kernel has %v", got)
		}
		return nil
	})
	h.must(far.LinkSetUp(l))
	labtest.Poll(t, 2*time.Second, func() error {
		if got := h.kernel(true); !slices.Contains(got, "10.67.0.0/26 via 10.0.0.2 dev eth0, via 10.0.1.2 dev eth1 metric 1024") {
			return fmt.Errorf("kernel has %v", got)
		}
		return nil
	})
	h.replace("bgp")
	h.apply()
	if ours, others := h.objectsNow(); len(ours) != 0 || !slices.Equal(others, []uint32{7}) {
		t.Errorf("left over: objects %v, others' %v", ours, others)
	}
}

func foreignObject(id, oif uint32, gw string) []byte {
	b := make([]byte, nhmHeader)
	b[0], b[2] = unix.AF_INET, 4
	b = appendAttr32(b, nhaID, id)
	b = appendAttr32(b, nhaOIF, oif)
	return appendAttr(b, nhaGateway, netip.MustParseAddr(gw).AsSlice())
}

// A restart with the same wishes writes nothing, also of objects; one that keeps
// next hops in another way changes the routes in place and leaves nothing behind.
func TestRestartAndObjects(t *testing.T) {
	h := newHost(t)
	before := h.tamperBase()
	for _, inline := range []bool{false, true, true, false, false} {
		was := h.inline
		h.reopen(inline)
		h.tamperWish()
		r := h.apply()
		switch {
		case was == inline && r != (Result{}):
			t.Errorf("restart, inline %v: %+v", inline, r)
		case was != inline && r.Writes() < 2:
			t.Errorf("restart from inline %v to %v: %+v", was, inline, r)
		}
		if r := h.resync(); r != (Result{}) {
			t.Errorf("Resync: %+v", r)
		}
		want := 6
		if inline {
			want = 0
		}
		if ours, _ := h.objectsNow(); len(ours) != want {
			t.Errorf("inline %v: objects %v", inline, ours)
		}
	}
	if got := h.exact(); !slices.Equal(got, before) {
		t.Errorf("in the end\n\t%s\nat first\n\t%s", strings.Join(got, "\n\t"), strings.Join(before, "\n\t"))
	}
}

// A kernel without resilient groups gets plain ones, one without objects none.
func TestObjectsFallBack(t *testing.T) {
	h := newHost(t)
	for _, mode := range []groupMode{plain, inline, resilient} {
		h.must(h.tab.Close())
		h.tab = h.open()
		h.tab.objs.mode = mode
		h.tamperWish()
		if r := h.apply(); r.Failed != 0 {
			t.Errorf("mode %d: %+v", mode, r)
		}
		if got := h.kernel(true); len(got) != 8 || !slices.Contains(got, "fd67::/122 via fd00:1::2 dev eth1, via fd00::2 dev eth0 metric 1024") {
			t.Errorf("mode %d: kernel has %v", mode, got)
		}
		if r := h.resync(); r != (Result{}) {
			t.Errorf("mode %d: Resync: %+v", mode, r)
		}
	}
	h.tab.downgrade()
	h.tab.downgrade()
	h.apply()
	if got := h.kernel(true); len(got) != 8 || h.tab.objs.mode != inline {
		t.Errorf("after downgrades: %v", got)
	}
}

// A host's own packets to a workload carry an address of the host, not the
// workload's gateway.
func TestSourceOfTheHost(t *testing.T) {
	h := newHost(t)
	h.must(lab.Veth(lab.End{NS: h.ns, Name: "cali0"}, lab.End{NS: h.far, Name: "cali0"}))
	h.must(h.nl.AddrAdd(mustLink(h, "cali0"), &netlink.Addr{IPNet: ipnet(pfx("169.254.1.1/32")), Scope: unix.RT_SCOPE_LINK}))
	h.replace("local", linkRoute("10.65.0.2/32", "cali0"))
	h.complete()
	h.apply()
	rs, err := h.nl.RouteGet(ip("10.65.0.2"))
	h.must(err)
	if len(rs) != 1 || rs[0].Src.String() != "10.0.0.1" {
		t.Errorf("source %v, want 10.0.0.1", rs)
	}
}

func mustLink(h *host, name string) netlink.Link {
	h.t.Helper()
	l, err := h.nl.LinkByName(name)
	h.must(err)
	return l
}
