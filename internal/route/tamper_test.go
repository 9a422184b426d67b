// SPDX-License-Identifier: Apache-2.0

package route

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// exact returns the routes of our protocol with every attribute as the kernel
// sends it, apart from usage counters and the state of links: what a
// comparison by fields could overlook shows here.
func (h *host) exact() []string {
	h.t.Helper()
	var out []string
	h.must(h.ns.Do(func() error {
		c, err := dial()
		if err != nil {
			return err
		}
		defer c.close()
		for _, fam := range []byte{unix.AF_INET, unix.AF_INET6} {
			body := make([]byte, rtmHeader)
			body[0], body[4] = fam, unix.RT_TABLE_MAIN
			err := c.dump(unix.RTM_GETROUTE, body, func(m message) {
				if m.typ != unix.RTM_NEWROUTE || m.data[4] != unix.RT_TABLE_MAIN || m.data[5] != Protocol {
					return
				}
				var as []string
				for b := m.data[rtmHeader:]; ; {
					typ, data, rest, ok := nextAttr(b)
					if !ok {
						break
					}
					b = rest
					if typ == unix.RTA_CACHEINFO {
						data = []byte{min(1, data[8]|data[9])} // whether it expires
					}
					as = append(as, fmt.Sprintf("%d=%x", typ, data))
				}
				sort.Strings(as)
				out = append(out, fmt.Sprintf("%x flags %x %v", m.data[:8], m.data[8]&hopFlags, as))
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	sort.Strings(out)
	return out
}

// latency collects how long repairs took.
type latency []time.Duration

func (l *latency) report(t testing.TB, what string, median, worst time.Duration) {
	slices.Sort(*l)
	m, w := (*l)[len(*l)/2], (*l)[len(*l)-1]
	t.Logf("%s: %d repairs, median %v, worst %v", what, len(*l), m, w)
	if m > median || w > worst {
		t.Errorf("%s: median %v worst %v, want at most %v and %v", what, m, w, median, worst)
	}
}

// repaired waits until the kernel is exactly as before.
func (h *host) repaired(before []string, what string) time.Duration {
	h.t.Helper()
	start := time.Now()
	labtest.Poll(h.t, 2*time.Second, func() error {
		if got := h.exact(); !slices.Equal(got, before) {
			return fmt.Errorf("after %s the kernel has\n\t%s\nwant\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(before, "\n\t"))
		}
		return nil
	})
	return time.Since(start)
}

// settled waits until nothing that was heard is left to do.
func (h *host) settled() {
	h.t.Helper()
	labtest.Poll(h.t, 10*time.Second, func() error {
		if !h.tab.synced() {
			return errors.New("not synced")
		}
		return nil
	})
}

// tamperWish wants every kind of route in both families.
func (h *host) tamperWish() {
	h.replace("local", linkRoute("10.65.0.2/32", "w1"), linkRoute("fd65::2/128", "w1"), blackhole("10.65.0.0/26"), blackhole("fd65::/122"))
	h.replace("bgp",
		via("10.66.0.0/26", "10.0.0.2"), via("fd66::/122", "fd00::2"),
		via("10.67.0.0/26", "10.0.0.2", "10.0.1.2"), via("fd67::/122", "fd00::2", "fd00:1::2"))
	h.complete()
}

// tamperBase is a table with every kind of route in both families.
func (h *host) tamperBase() []string {
	h.tamperWish()
	h.apply()
	before := h.exact()
	if len(before) != 8 {
		h.t.Fatalf("kernel has %v", before)
	}
	return before
}

// T06: routes deleted and replaced by hand, a hundred times each.
func TestT06_DeleteAndReplace(t *testing.T) {
	h := newHost(t)
	before := h.tamperBase()
	foreign := h.kernel(false)
	h.watch()
	w2 := h.link("w2")
	var del, rep, all latency
	for i := range 100 {
		for _, p := range []string{"10.65.0.2/32", "fd65::2/128", "10.66.0.0/26", "fd67::/122", "10.65.0.0/26", "fd65::/122"} {
			if i >= 20 && p != "10.65.0.2/32" && p != "fd65::2/128" {
				continue
			}
			d := &netlink.Route{Dst: ipnet(pfx(p)), Table: unix.RT_TABLE_MAIN, Priority: 1024, Scope: unix.RT_SCOPE_NOWHERE}
			if err := h.nl.RouteDel(d); err != nil {
				t.Fatalf("delete %s: %v", p, err)
			}
			del = append(del, h.repaired(before, "deletion of "+p))
		}
		for _, p := range []string{"10.65.0.2/32", "fd65::2/128"} { // as `ip route replace` does: protocol boot
			r := &netlink.Route{Dst: ipnet(pfx(p)), LinkIndex: w2, Scope: unix.RT_SCOPE_LINK, Priority: 1024, Protocol: unix.RTPROT_BOOT}
			if err := h.nl.RouteReplace(r); err != nil {
				t.Fatalf("replace %s: %v", p, err)
			}
			rep = append(rep, h.repaired(before, "replacement of "+p))
		}
	}
	for range 10 { // `ip route flush table main proto 177`
		for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
			rs, err := h.nl.RouteListFiltered(fam, &netlink.Route{Protocol: Protocol}, netlink.RT_FILTER_PROTOCOL)
			h.must(err)
			for _, r := range rs {
				h.must(h.del(r))
			}
		}
		all = append(all, h.repaired(before, "a flush"))
	}
	del.report(t, "delete", 100*time.Millisecond, time.Second)
	rep.report(t, "replace", 100*time.Millisecond, time.Second)
	all.report(t, "flush", 100*time.Millisecond, time.Second)
	h.settled()
	if r := h.resync(); r != (Result{}) {
		t.Errorf("Resync: %+v", r)
	}
	if got := h.kernel(false); !slices.Equal(got, foreign) {
		t.Errorf("foreign routes changed from %v to %v", foreign, got)
	}
	if c := h.tab.counted(); c.Repaired < len(del)+len(rep) {
		t.Errorf("counters %+v: fewer repairs than tampering", c)
	}
}

// mutation changes a route of ours in place, or beside it.
type mutation struct {
	name string
	// inPlaceOnly: the outcome carries a foreign protocol. Only one who watched
	// can know that it was ours; found later, it is a conflict.
	inPlaceOnly bool
	do          func(h *host) error
}

func mutations(h *host) []mutation {
	w1, w2, eth0, eth1 := h.link("w1"), h.link("w2"), h.link("eth0"), h.link("eth1")
	var out []mutation
	for _, f := range []struct {
		n                     string
		fam                   byte
		host, block, one, two netip.Prefix
		g0, g0b, g1           string
		own                   string
	}{
		{"v4", unix.AF_INET, pfx("10.65.0.2/32"), pfx("10.65.0.0/26"), pfx("10.66.0.0/26"), pfx("10.67.0.0/26"), "10.0.0.2", "10.0.0.9", "10.0.1.2", "10.0.1.1"},
		{"v6", unix.AF_INET6, pfx("fd65::2/128"), pfx("fd65::/122"), pfx("fd66::/122"), pfx("fd67::/122"), "fd00::2", "fd00::9", "fd00:1::2", "fd00:1::1"},
	} {
		v4 := f.fam == unix.AF_INET
		base := func(p netip.Prefix) netlink.Route {
			return netlink.Route{Dst: ipnet(p), Table: unix.RT_TABLE_MAIN, Protocol: Protocol, Priority: 1024}
		}
		add := func(name string, r netlink.Route, op func(*netlink.Handle, *netlink.Route) error) {
			out = append(out, mutation{name: f.n + " " + name, inPlaceOnly: r.Protocol != Protocol,
				do: func(h *host) error { return op(h.nl, &r) }})
		}
		replace := (*netlink.Handle).RouteReplace
		link := func(dev int) netlink.Route {
			r := base(f.host)
			r.LinkIndex = dev
			return r
		}
		gw := func(g string, dev int) netlink.Route {
			r := base(f.one)
			r.Gw, r.LinkIndex = ip(g), dev
			return r
		}
		multi := func(hops ...*netlink.NexthopInfo) netlink.Route {
			r := base(f.two)
			r.MultiPath = hops
			return r
		}
		nh := func(g string, dev, weight int) *netlink.NexthopInfo {
			return &netlink.NexthopInfo{Gw: ip(g), LinkIndex: dev, Hops: weight}
		}
		with := func(r netlink.Route, f func(*netlink.Route)) netlink.Route { f(&r); return r }

		add("gateway", gw(f.g0b, eth0), replace)
		add("gateway and device", gw(f.g1, eth1), replace)
		add("device", link(w2), replace)
		add("type", with(base(f.one), func(r *netlink.Route) { r.Type = unix.RTN_BLACKHOLE }), replace)
		add("blackhole to unreachable", with(base(f.block), func(r *netlink.Route) { r.Type = unix.RTN_UNREACHABLE }), replace)
		add("blackhole to device", with(base(f.block), func(r *netlink.Route) { r.LinkIndex, r.Scope = w2, unix.RT_SCOPE_LINK }), replace)
		add("host route to gateway", with(base(f.host), func(r *netlink.Route) { r.Gw, r.LinkIndex = ip(f.g0), eth0 }), replace)
		add("onlink", with(gw(f.g0, eth0), func(r *netlink.Route) {
			if r.Gw.To4() != nil { // of IPv6 it is there
				r.Flags = unix.RTNH_F_ONLINK
			}
		}), replace)
		add("preferred source", with(gw(f.g0, eth0), func(r *netlink.Route) { r.Src = ip(f.own) }), replace)
		add("mtu", with(link(w1), func(r *netlink.Route) { r.MTU = 1300 }), replace)
		add("initial window", with(gw(f.g0, eth0), func(r *netlink.Route) { r.InitCwnd = 3 }), replace)
		add("weight", multi(nh(f.g0, eth0, 4), nh(f.g1, eth1, 0)), replace)
		add("one next hop less", with(base(f.two), func(r *netlink.Route) { r.Gw, r.LinkIndex = ip(f.g0), eth0 }), replace)
		add("one next hop more", multi(nh(f.g0, eth0, 0), nh(f.g1, eth1, 0), nh(f.g0b, eth0, 0)), replace)
		add("one next hop other", multi(nh(f.g0b, eth0, 0), nh(f.g1, eth1, 0)), replace)
		add("next hops to blackhole", with(base(f.two), func(r *netlink.Route) { r.Type = unix.RTN_BLACKHOLE }), replace)
		add("protocol", with(gw(f.g0, eth0), func(r *netlink.Route) { r.Protocol = unix.RTPROT_STATIC }), replace)
		add("protocol of a host route", with(link(w1), func(r *netlink.Route) { r.Protocol = unix.RTPROT_STATIC }), replace)
		add("protocol of a blackhole", with(base(f.block), func(r *netlink.Route) {
			r.Type, r.Protocol = unix.RTN_BLACKHOLE, unix.RTPROT_STATIC
		}), replace)
		add("metric beside", with(gw(f.g0, eth0), func(r *netlink.Route) { r.Priority = 5 }), (*netlink.Handle).RouteAdd)
		add("stray prefix", with(base(f.one), func(r *netlink.Route) {
			p, _ := f.one.Addr().Next().Prefix(f.one.Addr().BitLen())
			r.Dst, r.Gw, r.LinkIndex = ipnet(p), ip(f.g0), eth0
		}), (*netlink.Handle).RouteAdd)
		add("second route", gw(f.g1, eth1), (*netlink.Handle).RouteAppend)
		out = append(out, mutation{name: f.n + " metric", do: func(h *host) error {
			r := link(w1)
			if err := h.del(r); err != nil {
				return err
			}
			r.Priority = 2000
			return h.nl.RouteAdd(&r)
		}})
		out = append(out, mutation{name: f.n + " one next hop deleted", do: func(h *host) error {
			r := multi(nh(f.g0, eth0, 0))
			if v4 || !h.inline { // there are no parts of a route
				return h.del(base(f.two))
			}
			return h.nl.RouteDel(&r)
		}})
		if v4 {
			add("type with the same device", with(link(w1), func(r *netlink.Route) { r.Type, r.Scope = unix.RTN_BROADCAST, unix.RT_SCOPE_LINK }), replace)
			add("scope", with(link(w1), func(r *netlink.Route) { r.Scope = unix.RT_SCOPE_LINK }), replace)
			add("tos beside", with(link(w1), func(r *netlink.Route) { r.Tos = 0x10 }), (*netlink.Handle).RouteAdd)
			add("realm", with(gw(f.g0, eth0), func(r *netlink.Route) { r.Realm = 7 }), replace)
			continue
		}
		raw := func(name string, typ uint16, val []byte) {
			out = append(out, mutation{name: f.n + " " + name, do: func(h *host) error {
				b := appendBase(nil, f.fam, Protocol, 1024)
				b[atBits], b[atType] = byte(f.one.Bits()), unix.RTN_UNICAST
				makeKey6(f.one).put(b[atDst:])
				b = appendGateway(b, f.fam, netip.MustParseAddr(f.g0))
				b = appendAttr32(b, unix.RTA_OIF, uint32(eth0))
				b = appendAttr(b, typ, val)
				return h.raw(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, b[nlHeader:])
			}})
		}
		raw("expiry", unix.RTA_EXPIRES, ne.AppendUint32(nil, 1000))
		raw("router preference", unix.RTA_PREF, []byte{1})
	}
	return out
}

// T07: every attribute of a route changed in place is seen and put back, by
// the watcher within a second, and by a Resync that only compares.
func TestT07_ModifiedInPlace(t *testing.T) {
	for _, how := range []string{"watch", "resync", "watch inline", "resync inline"} {
		t.Run(how, func(t *testing.T) {
			h := newHost(t)
			how, inline := strings.CutSuffix(how, " inline")
			if inline {
				h.reopen(true)
			}
			before := h.tamperBase()
			if how == "watch" {
				h.watch()
			}
			var took latency
			for _, m := range mutations(h) {
				t.Run(m.name, func(t *testing.T) {
					h.t = t
					if how == "watch" {
						h.settled()
					}
					start := time.Now()
					if err := m.do(h); err != nil {
						t.Fatal(err)
					}
					if how == "watch" {
						h.repaired(before, m.name)
						took = append(took, time.Since(start))
						return
					}
					if slices.Equal(h.exact(), before) {
						t.Fatal("the mutation changed nothing that this test sees")
					}
					r := h.resync()
					want := 1 // minimal: what was right is not written again
					switch {
					case m.inPlaceOnly:
						want = 0
					case strings.HasSuffix(m.name, " metric"):
						want = 2
					case !h.inline && slices.Contains([]string{"v6 weight", "v6 one next hop more", "v6 one next hop other"}, m.name):
						want = 2 // the kernel replaces only one of several next hops by an object
					}
					if r.Writes() != want {
						t.Errorf("Resync: %+v, want %d writes", r, want)
					}
					got := h.exact()
					if m.inPlaceOnly {
						ps := h.tab.Problems()
						if len(ps) != 1 || ps[0].State != Conflicted {
							t.Errorf("problems %v, want one conflict", ps)
						}
						if r := h.resync(); r != (Result{}) {
							t.Errorf("the conflict is fought: %+v", r)
						}
						h.clearForeign(ps[0].Prefix)
						h.resync()
						got = h.exact()
					}
					if !slices.Equal(got, before) {
						t.Errorf("kernel has\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(before, "\n\t"))
					}
					if r := h.resync(); r != (Result{}) {
						t.Errorf("second Resync: %+v", r)
					}
				})
			}
			h.t = t
			if len(took) > 0 {
				took.report(t, "modified in place", 100*time.Millisecond, time.Second)
			}
		})
	}
}

func (h *host) clearForeign(p netip.Prefix) {
	h.t.Helper()
	h.must(h.nl.RouteDel(&netlink.Route{Dst: ipnet(p), Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC,
		Priority: 1024, Scope: unix.RT_SCOPE_NOWHERE}))
}

// TestT08_OwnSubnet: a router that announces a subnet to those who are on it tells them nothing new, and the kernel's own
// route to it is no conflict; by way of another link it is one.
func TestT08_OwnSubnet(t *testing.T) {
	h := newHost(t)
	h.replace("local")
	h.replace("bgp", via("10.0.0.0/24", "10.0.0.2"), via("fd00::/64", "fd00::2"), via("10.0.1.0/24", "10.0.0.2"), via("fd00:1::/64", "fd00::2"))
	h.complete()
	h.apply()
	var got []string
	for _, p := range h.tab.Problems() {
		got = append(got, fmt.Sprintf("%s %s", p.Prefix, p.State))
	}
	if want := []string{"10.0.1.0/24 conflict", "fd00:1::/64 conflict"}; !slices.Equal(got, want) {
		t.Errorf("problems %q, want %q", got, want)
	}
	for _, s := range h.tab.List() {
		if own := s.Prefix == pfx("10.0.0.0/24") || s.Prefix == pfx("fd00::/64"); own && s.State != Installed {
			t.Errorf("%s is %s: %s", s.Prefix, s.State, s.Detail)
		}
	}
}

// T08: a foreign route that wins over ours is reported and left alone.
func TestT08_ForeignRouteInTheWay(t *testing.T) {
	for _, fam := range []struct{ host, block, inside, gw string }{
		{"10.65.0.2/32", "10.66.0.0/26", "10.66.0.7/32", "10.0.0.2"}, {"fd65::2/128", "fd66::/122", "fd66::7/128", "fd00::2"},
	} {
		t.Run(fam.host, func(t *testing.T) {
			h := newHost(t)
			h.replace("local", linkRoute(fam.host, "w1"))
			h.replace("bgp", via(fam.block, fam.gw), via("0.0.0.0/0", "10.0.0.254"), via("::/0", "fd00::fe"))
			h.complete()
			h.apply()
			h.watch()
			ours := h.exact()
			conflict := func(want string) {
				t.Helper()
				labtest.Poll(t, 5*time.Second, func() error {
					var got string
					for _, p := range h.tab.Problems() {
						got += fmt.Sprintf("%s %s", p.Prefix, p.State)
					}
					if got != want || !h.tab.synced() {
						return fmt.Errorf("problems %q, want %q", got, want)
					}
					return nil
				})
			}
			w2 := h.link("w2")
			lower := &netlink.Route{Dst: ipnet(pfx(fam.host)), LinkIndex: w2, Scope: unix.RT_SCOPE_LINK, Priority: 7, Protocol: unix.RTPROT_STATIC}
			specific := &netlink.Route{Dst: ipnet(pfx(fam.inside)), LinkIndex: w2, Scope: unix.RT_SCOPE_LINK, Priority: 7, Protocol: unix.RTPROT_STATIC}
			higher := &netlink.Route{Dst: ipnet(pfx(fam.host)), LinkIndex: w2, Scope: unix.RT_SCOPE_LINK, Priority: 4096, Protocol: unix.RTPROT_STATIC}
			for _, c := range []struct {
				r    *netlink.Route
				want string
			}{{lower, fam.host + " conflict"}, {specific, fam.block + " conflict"}, {higher, ""}} {
				h.must(h.nl.RouteAdd(c.r))
				conflict(c.want)
				if r := h.resync(); r != (Result{}) {
					t.Errorf("%v is fought: %+v", c.r, r)
				}
				conflict(c.want)
				h.must(h.nl.RouteDel(c.r)) // it is still there
				conflict("")
			}
			if got := h.exact(); !slices.Equal(got, ours) {
				t.Errorf("ours changed to %v", got)
			}

			// At the same prefix and metric, there before ours: ours waits for it to go.
			const metric = 1024
			first := &netlink.Route{Dst: ipnet(pfx(fam.inside)), LinkIndex: w2, Scope: unix.RT_SCOPE_LINK, Priority: metric, Protocol: unix.RTPROT_STATIC}
			h.must(h.nl.RouteAdd(first))
			h.must(h.tab.Update("local", []Route{linkRoute(fam.inside, "w1")}, nil))
			for range 3 {
				if r := h.apply(); r != (Result{}) {
					t.Errorf("Apply over a foreign route: %+v", r)
				}
			}
			if r := h.resync(); r != (Result{}) {
				t.Errorf("Resync over a foreign route: %+v", r)
			}
			if s := state(h.tab, fam.inside); s != Conflicted {
				t.Errorf("state %v, want conflict", s)
			}
			h.must(h.nl.RouteDel(first))
			labtest.Poll(t, time.Second, func() error {
				if s := state(h.tab, fam.inside); s != Installed {
					return fmt.Errorf("state %v", s)
				}
				return nil
			})

			// One that serves a type of service alone is in no place of ours.
			if first.Dst.IP.To4() == nil {
				return // IPv6 has none
			}
			const beside = "10.66.0.9/32"
			first.Dst, first.Tos = ipnet(pfx(beside)), 0x10
			h.must(h.nl.RouteAdd(first))
			h.resync()
			h.must(h.tab.Update("local", []Route{linkRoute(beside, "w1")}, nil))
			h.apply()
			if ours := beside + " dev w1 metric 1024"; !slices.Contains(h.kernel(true), ours) {
				t.Errorf("kernel has %v, not %s", h.kernel(true), ours)
			}
		})
	}
}

func state(t *Table, p string) State {
	for _, s := range t.List() {
		if s.Prefix == pfx(p) {
			return s.State
		}
	}
	return ""
}

// T09: a thousand foreign routes come and go; ours are not written, theirs not
// touched. One that fights for our place with replacements is fought back a
// bounded number of times.
func TestT09_ForeignDaemon(t *testing.T) {
	h := newHost(t)
	before := h.tamperBase()
	h.watch()
	eth0 := h.link("eth0")
	counters := h.tab.counted()
	for round := range 3 {
		for i := range 1000 {
			r := &netlink.Route{Dst: ipnet(netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(16 + round), byte(i >> 8), byte(i)}), 32)),
				Gw: ip("10.0.0.77"), LinkIndex: eth0, Protocol: unix.RTPROT_BIRD, Priority: 32}
			h.must(h.nl.RouteAdd(r))
			if i%2 == 0 {
				h.must(h.nl.RouteDel(r))
			}
		}
	}
	h.settled()
	if got := h.tab.counted(); got.Added != counters.Added || got.Changed != counters.Changed || got.Deleted != counters.Deleted {
		t.Errorf("wrote routes: %+v, before %+v", got, counters)
	}
	if got := h.exact(); !slices.Equal(got, before) {
		t.Errorf("ours changed to %v", got)
	}
	n := 0
	for _, l := range h.kernel(false) {
		if strings.HasPrefix(l, "172.") {
			n++
		}
	}
	if n != 1500 {
		t.Errorf("%d foreign routes, want 1500", n)
	}

	for _, f := range []struct{ p, g string }{{"10.66.0.0/26", "10.0.0.77"}, {"fd66::/122", "fd00::77"}} {
		counters = h.tab.counted()
		rival := &netlink.Route{Dst: ipnet(pfx(f.p)), Gw: ip(f.g), LinkIndex: eth0, Protocol: unix.RTPROT_BIRD, Priority: 1024}
		began := time.Now()
		for i := 0; state(h.tab, f.p) != Conflicted; i++ {
			if i > 10*reclaimBurst {
				t.Fatalf("the war for %s goes on: %+v", f.p, h.tab.counted())
			}
			h.must(h.nl.RouteReplace(rival))
			labtest.Poll(t, 10*time.Second, func() error { // it is answered, or not any more
				if state(h.tab, f.p) != Conflicted && !slices.Equal(h.exact(), before) {
					return fmt.Errorf("%s is neither taken back nor given up", f.p)
				}
				return nil
			})
		}
		most := reclaimBurst + 1 + int(time.Since(began)/reclaimEvery)
		if n := h.tab.counted().Changed - counters.Changed; n == 0 || n > most {
			t.Errorf("%s was taken back %d times, want at most %d", f.p, n, most)
		}
		h.must(h.nl.RouteDel(rival))
		h.repaired(before, "the rival's end")
	}
}
