// SPDX-License-Identifier: Apache-2.0

package route

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// alike is a host of the kernel and one in memory, with a Table on the one and a
// Memory on the other, to both of which the same happens.
type alike struct {
	*host
	mem   *Host
	m     *Memory
	links map[string]Interface
	tally map[string]int

	told [2]map[netip.Addr]Reach // what the two have said of next hops
}

func newAlike(t *testing.T) *alike {
	a := &alike{host: newHost(t), links: map[string]Interface{}, tally: map[string]int{}}
	a.must(a.ns.SetSysctl("net/ipv6/conf/all/forwarding", "1")) // as of a router, which is of more groups
	for _, n := range []string{"eth0", "eth1", "w1", "w2", "w3", "w4"} {
		a.links[n] = Interface{Up: true}
	}
	for _, l := range [][2]string{{"eth0", "10.0.0.1/24"}, {"eth0", "fd00::1/64"}, {"eth1", "10.0.1.1/24"}, {"eth1", "fd00:1::1/64"}} {
		i := a.links[l[0]]
		i.Addrs = append(i.Addrs, netip.MustParsePrefix(l[1]))
		a.links[l[0]] = i
	}
	return a
}

// begin opens both anew, on a host in memory that has nothing yet.
func (a *alike) begin() {
	a.mem = &Host{}
	for n, i := range a.links {
		a.mem.SetInterface(n, i)
	}
	a.tab, a.m = a.open(), nil
	a.restart()
}

// restart is one of the process: what it knows is gone.
func (a *alike) restart() {
	a.must(a.tab.Close())
	o := Options{Inside: a.ns.Do, Inline: a.inline, Workload: func(d string) bool { return d == "w4" }}
	var err error
	a.tab, err = Open(o)
	a.must(err)
	if a.m != nil {
		a.must(a.m.Close())
	}
	a.m = OpenMemory(o, a.mem)
	a.told = [2]map[netip.Addr]Reach{{}, {}}
	later := time.Now()
	a.tab.now = func() time.Time { // a loss is old when it is asked about again
		later = later.Add(lossDelay)
		return later
	}
}

// both does one thing to the two tables.
func (a *alike) both(f func(t table) error) {
	a.t.Helper()
	a.must(f(a.tab))
	a.must(f(a.m))
}

// table is what the two have in common, which is all that the agent knows.
type table interface {
	Replace(source string, routes []Route) error
	Update(source string, add []Route, remove []netip.Prefix) error
	SetComplete(source string) error
	Apply() (Result, error)
	List() []Status
	Problems() []Problem
	Count() Count
	Track(add, remove []netip.Addr)
	ThroughDefault(may bool) bool
	Near(behind map[netip.Addr]string) bool
	Reached() ([]Reach, time.Duration)
}

// foreign writes a route of another daemon, or takes it away.
func (a *alike) foreign(r FIBRoute, away bool) {
	a.t.Helper()
	k := &netlink.Route{Dst: ipnet(r.Prefix), Protocol: netlink.RouteProtocol(r.Protocol), Priority: int(r.Metric),
		Type: map[string]int{"": unix.RTN_UNICAST, "blackhole": unix.RTN_BLACKHOLE, "unreachable": unix.RTN_UNREACHABLE, "prohibit": unix.RTN_PROHIBIT}[r.Refuses]}
	for _, e := range r.Hops {
		k.LinkIndex = a.link(e.Device)
		if e.Via.IsValid() {
			k.Gw = e.Via.AsSlice()
		} else if r.Prefix.Addr().Is4() {
			k.Scope = unix.RT_SCOPE_LINK
		}
	}
	if away {
		a.must(a.del(*k))
		a.mem.Remove(r.Prefix, r.Metric)
	} else {
		a.must(a.nl.RouteAdd(k))
		a.mem.Put(r)
	}
}

// lines are our routes of the host in memory, as kernel renders them.
func (a *alike) lines() []string {
	out := []string{}
	for _, r := range a.mem.Routes() {
		if r.Protocol != Protocol {
			continue
		}
		l := r.Prefix.String()
		if r.Refuses != "" {
			l = r.Refuses + " " + l
		}
		var hops []string
		for _, e := range r.Hops {
			s := ""
			if e.Via.IsValid() {
				s = " via " + e.Via.String()
			}
			hops = append(hops, s+" dev "+e.Device)
		}
		slices.Sort(hops)
		out = append(out, l+strings.Join(hops, ",")+fmt.Sprintf(" metric %d", r.Metric))
	}
	slices.Sort(out)
	return out
}

// someDestinations are inside and beside of somePrefixes, among the neighbours, and
// this host.
var someDestinations = []string{
	"10.65.0.0", "10.65.0.1", "10.65.0.2", "10.65.0.63", "10.65.0.65", "10.65.0.77", "10.65.9.1", "10.66.0.1", "192.0.2.1", "10.0.0.1", "10.0.0.2", "10.0.1.9", "10.255.0.1", "10.9.0.1",
	"fd65::", "fd65::1", "fd65::2", "fd65::3f", "fd65::41", "fd65::4d", "fd65::9:1", "fd66::1", "2001:db8::1", "fd00::1", "fd00::2", "fd00:1::9", "fd00:ff::1", "fd09::1",
}

// agree compares all that the two say, and the way of packets.
func (a *alike) agree() error {
	differ := func(what string, kernel, memory any) error {
		return fmt.Errorf("%s: the kernel's\n\t%+v\nin memory\n\t%+v\nproblems\n\t%+v", what, kernel, memory, a.tab.Problems())
	}
	k, m := a.kernel(true), a.lines()
	for i := range k { // in memory no router is refused for being off the link
		k[i] = strings.ReplaceAll(k[i], " onlink true", "")
	}
	if !slices.Equal(k, m) {
		return differ("routes", k, m)
	}
	if k, m := a.listed(a.tab), a.listed(a.m); !slices.Equal(k, m) {
		return differ("list", k, m)
	}
	if k, m := a.tab.Problems(), a.m.Problems(); !slices.Equal(k, m) {
		return differ("problems", k, m)
	}
	if k, m := a.tab.Count(), a.m.Count(); k != m {
		return differ("count", k, m)
	}
	for i, t := range []table{a.tab, a.tab, a.m} {
		changes, _ := t.Reached()
		for _, c := range changes {
			a.told[i/2][c.Addr] = c
		}
	}
	if k, m := a.told[0], a.told[1]; !maps.Equal(k, m) {
		return differ("reached", k, m)
	}
	for _, d := range someDestinations {
		q := Query{Dst: netip.MustParseAddr(d)}
		var k Way
		a.must(a.ns.Do(func() (err error) {
			k, err = Ask(q)
			return err
		}))
		ways := a.mem.Ask(q)
		if !slices.ContainsFunc(ways, func(m Way) bool { return a.answers(k, m) }) {
			return differ("the way to "+d, k, ways)
		}
		switch {
		case len(ways) > 1:
			a.tally["several"]++
		case k.Refused != "":
			a.tally[ways[0].Refused]++
		case k.Local:
			a.tally["local"]++
		default:
			a.tally["one"]++
		}
	}
	for _, d := range someOnLink {
		q := Query{Src: netip.MustParseAddr("10.0.0.2"), Dst: netip.MustParseAddr(d), In: "eth0"}
		if q.Dst.Is6() {
			q.Src = netip.MustParseAddr("fd00::2")
		}
		var k Way
		a.must(a.ns.Do(func() (err error) {
			k, err = Ask(q)
			return err
		}))
		if m := a.mem.Ask(q); len(m) != 1 || m[0] != k {
			return differ("the way to "+d, k, m)
		}
		a.tally[map[bool]string{true: "taken on the link", false: "of no group here"}[k.OnLink]]++
	}
	return nil
}

// someOnLink are what comes in for all on a link, or for a group.
var someOnLink = []string{"224.0.0.1", "224.0.0.251", "239.1.2.3", "255.255.255.255", "10.0.0.255", "10.0.1.255",
	"ff02::1", "ff02::2", "ff02::fb", "ff02::1:ff00:1", "ff02::1:ff00:2", "ff05::2", "ff0e::1", "ff01::1"}

// listed is the list of a table. What the next hops are of a route that an earlier
// process left is not known if they are in an object.
func (a *alike) listed(t table) []Status {
	list := t.List()
	for i := range list {
		if s := &list[i]; !a.inline && (s.State == Kept || s.State == Waiting) {
			s.Hops = Hops{}
		}
	}
	return list
}

// answers tells whether the kernel says what is said in memory. Of a route of IPv4
// that refuses it does not say which one it is, and of one of IPv6 to a next-hop object
// it may say another that has this object: what it remembers of a way is kept there.
func (a *alike) answers(kernel, memory Way) bool {
	if !a.inline && memory.Protocol == Protocol && memory.Via.Is6() && kernel.Protocol == Protocol {
		kernel.Prefix = memory.Prefix
	}
	if memory.Refused != "" {
		return strings.HasPrefix(kernel.Refused, memory.Refused) && (!kernel.Prefix.IsValid() || kernel.Prefix == memory.Prefix && kernel.Protocol == memory.Protocol)
	}
	return kernel == memory
}

var someForeign = []FIBRoute{
	{Prefix: pfx("10.65.0.64/26"), Protocol: 4, Metric: 20, Refuses: "unreachable"},
	{Prefix: pfx("10.65.0.0/16"), Protocol: 4, Metric: 1024, Refuses: "prohibit"},
	{Prefix: pfx("10.65.0.76/30"), Protocol: 4, Metric: 20, Refuses: "blackhole"},
	{Prefix: pfx("0.0.0.0/0"), Protocol: 4, Metric: 2000, Hops: []Exit{{"eth1", netip.MustParseAddr("10.0.1.2")}}},
	{Prefix: pfx("10.9.0.0/16"), Protocol: 4, Metric: 20, Hops: []Exit{{Device: "w1"}}},
	{Prefix: pfx("10.255.7.0/24"), Protocol: 4, Metric: 20, Refuses: "unreachable"},
	{Prefix: pfx("10.254.0.0/16"), Protocol: 4, Metric: 20, Hops: []Exit{{Device: "w4"}}},
	{Prefix: pfx("fd65::40/122"), Protocol: 4, Metric: 20, Refuses: "unreachable"},
	{Prefix: pfx("fd65::/64"), Protocol: 4, Metric: 1024, Refuses: "prohibit"},
	{Prefix: pfx("fd65::4c/126"), Protocol: 4, Metric: 20, Refuses: "blackhole"},
	{Prefix: pfx("::/0"), Protocol: 4, Metric: 2000, Hops: []Exit{{"eth1", netip.MustParseAddr("fd00:1::2")}}},
	{Prefix: pfx("fd09::/32"), Protocol: 4, Metric: 20, Hops: []Exit{{Device: "w1"}}},
	{Prefix: pfx("fd00:ff::2/128"), Protocol: 4, Metric: 20, Refuses: "unreachable"},
	{Prefix: pfx("fd00:fe::/32"), Protocol: 4, Metric: 20, Hops: []Exit{{Device: "w4"}}},
}

var someHops = []string{"10.0.0.2", "10.255.0.1", "10.255.7.7", "192.0.2.9", "10.254.0.1", "10.9.0.1",
	"fd00::2", "fd00:ff::1", "fd00:ff::2", "2001:db8::9", "fd00:fe::1", "fd09::1", "fe80::1%eth1", "fe80::1"}

func drawWish(rt *rapid.T) Route {
	r := drawRoute(rt)
	if r.Kind == Via && rapid.IntRange(0, 3).Draw(rt, "odd hop") == 0 { // one that not everything leads to
		odd := []string{"192.0.2.9", "10.254.0.1", "10.9.0.1", "fe80::1%eth0"}
		if r.Prefix.Addr().Is6() {
			odd = []string{"2001:db8::9", "fd00:fe::1", "fd09::1", "fe80::1%eth1"}
		}
		r.Hops = HopsOf(netip.MustParseAddr(rapid.SampledFrom(odd).Draw(rt, "hop")))
	}
	return r
}

// TestMemoryIsLikeTheKernel does the same to the kernel's table and to the one in
// memory, in any order: wishes of both sources, restarts before all are complete,
// interfaces that come and go, and what other daemons write. Both tables say the same
// of themselves, the two hosts have the same routes, and packets go the same ways.
func TestMemoryIsLikeTheKernel(t *testing.T) {
	for _, inline := range []bool{false, true} {
		t.Run(fmt.Sprintf("inline %v", inline), func(t *testing.T) { memoryIsLikeTheKernel(t, inline) })
	}
}

func memoryIsLikeTheKernel(t *testing.T, inline bool) {
	a := newAlike(t)
	a.inline = inline
	hops4, hops6 := []netip.Addr{netip.MustParseAddr("10.0.0.2")}, []netip.Addr{netip.MustParseAddr("fd00::2")}
	igp := func(at int) {
		a.reroute(at)
		gw4, gw6, dev := hops4[0], hops6[0], "eth0"
		if at == 1 {
			gw4, gw6, dev = netip.MustParseAddr("10.0.1.2"), netip.MustParseAddr("fd00:1::2"), "eth1"
		}
		a.mem.Put(FIBRoute{Prefix: pfx("10.255.0.0/16"), Protocol: 188, Metric: 20, Hops: []Exit{{dev, gw4}}})
		a.mem.Put(FIBRoute{Prefix: pfx("fd00:ff::/32"), Protocol: 188, Metric: 20, Hops: []Exit{{dev, gw6}}})
	}
	rapid.Check(t, func(rt *rapid.T) {
		a.t = t
		a.begin()
		igp(0)
		foreign := map[int]bool{}
		defer func() {
			a.tab.Close()
			a.flushOurs()
			for d, i := range a.links {
				if !i.Up {
					i.Up = true
					a.links[d] = i
					a.must(a.ns.LinkUp(d))
				}
			}
			for i := range foreign {
				a.foreign(someForeign[i], true)
			}
		}()
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			source := rapid.SampledFrom([]string{"local", "bgp"}).Draw(rt, "source")
			switch rapid.SampledFrom([]string{"update", "update", "update", "replace", "complete", "restart", "link", "reroute", "foreign", "foreign", "default", "near", "track"}).Draw(rt, "step") {
			case "update":
				add := rapid.SliceOfN(rapid.Custom(drawWish), 0, 6).Draw(rt, "add")
				var remove []netip.Prefix
				for _, s := range rapid.SliceOfN(rapid.SampledFrom(somePrefixes), 0, 4).Draw(rt, "remove") {
					remove = append(remove, pfx(s))
				}
				a.both(func(t table) error { return t.Update(source, add, remove) })
			case "replace":
				all := rapid.SliceOfN(rapid.Custom(drawWish), 0, 10).Draw(rt, "all")
				a.both(func(t table) error { return t.Replace(source, all) })
			case "complete":
				a.both(func(t table) error { return t.SetComplete(source) })
			case "restart":
				a.restart()
			case "link":
				d := rapid.SampledFrom([]string{"w1", "w2", "w3"}).Draw(rt, "device")
				i := a.links[d]
				if i.Up = !i.Up; i.Up {
					a.must(a.ns.LinkUp(d))
				} else {
					a.must(a.ns.LinkDown(d))
				}
				for n, f := range someForeign { // it is gone for good with its interface
					if len(f.Hops) > 0 && f.Hops[0].Device == d {
						delete(foreign, n)
					}
				}
				a.links[d] = i
				a.mem.SetInterface(d, i)
			case "reroute":
				igp(rapid.IntRange(0, 1).Draw(rt, "at"))
			case "foreign":
				n := rapid.IntRange(0, len(someForeign)-1).Draw(rt, "foreign")
				if f := someForeign[n]; len(f.Hops) > 0 && !a.links[f.Hops[0].Device].Up || !foreign[n] && a.taken(f) {
					break // the kernel refuses it
				}
				a.foreign(someForeign[n], foreign[n])
				if foreign[n] = !foreign[n]; !foreign[n] {
					delete(foreign, n)
				}
			case "track":
				add := []netip.Addr{netip.MustParseAddr(rapid.SampledFrom(someHops).Draw(rt, "track"))}
				a.both(func(t table) error { t.Track(add, nil); return nil })
			case "default":
				may := rapid.Bool().Draw(rt, "may")
				a.both(func(t table) error { t.ThroughDefault(may); return nil })
			case "near":
				near := map[netip.Addr]string{}
				if rapid.Bool().Draw(rt, "near") {
					near = map[netip.Addr]string{netip.MustParseAddr("192.0.2.9"): "w2", netip.MustParseAddr("2001:db8::9"): "w2"}
				}
				a.both(func(t table) error { t.Near(near); return nil })
			}
			// The kernel tells of a carrier in its own time.
			for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
				a.heard()
				a.both(func(t table) error { _, err := t.Apply(); return err })
				err := a.agree()
				if err == nil {
					break
				} else if time.Now().After(end) {
					rt.Fatal(err)
				}
			}
			if r, err := a.m.Apply(); r != (Result{}) || err != nil {
				rt.Fatalf("another Apply: %+v %v", r, err)
			}
		}
	})
	t.Logf("ways of packets: %v", a.tally)
	for _, k := range []string{"one", "several", "local", "blackhole", "unreachable", "prohibit", "no route", "taken on the link", "of no group here"} {
		if a.tally[k] == 0 {
			t.Errorf("no packet went %s: the tables are too poor", k)
		}
	}
}

// taken tells whether one of ours has the place of a route.
func (a *alike) taken(f FIBRoute) bool {
	return slices.ContainsFunc(a.mem.Routes(), func(r FIBRoute) bool { return r.Prefix == f.Prefix && r.Metric == f.Metric })
}
