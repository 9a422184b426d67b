// SPDX-License-Identifier: Apache-2.0

package route

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// twin is the slow and obvious table: who wants what, in plain maps.
type twin map[string]map[netip.Prefix]Route

// lines renders what the kernel must have, given which devices are up.
func (w twin) lines(h *host, up map[string]bool) []string {
	best := map[netip.Prefix]Route{}
	for _, source := range []string{"bgp", "local"} { // the latter overwrites
		for p, r := range w[source] {
			best[p] = r
		}
	}
	out := []string{}
	for p, r := range best {
		metric := r.Metric
		if metric == 0 {
			metric = defaultMetric
		}
		var l string
		switch r.Kind {
		case Blackhole:
			l = fmt.Sprintf("blackhole %s metric %d", p, metric)
		case Link:
			if !up[r.Device] {
				continue
			}
			l = fmt.Sprintf("%s dev %s metric %d", p, r.Device, metric)
		case Via:
			l = p.String()
			var hops []string
			for _, a := range r.Hops.Addrs() {
				hops = append(hops, h.way(a))
			}
			slices.Sort(hops)
			hops = slices.Compact(hops)
			for i, s := range hops {
				if i > 0 {
					l += ","
				}
				l += s
			}
			l += fmt.Sprintf(" metric %d", metric)
		}
		out = append(out, l)
	}
	slices.Sort(out)
	return out
}

// way is how the kernel has to reach a next hop; those behind other routers as
// the other daemon has it at the moment.
func (h *host) way(a netip.Addr) string {
	gw := a.String()
	if pfx("10.255.0.0/16").Contains(a) || pfx("fd00:ff::/32").Contains(a) {
		gw = map[bool]string{true: "10.0.0.2", false: "fd00::2"}[a.Is4()]
		if h.igpAt == 1 {
			gw = map[bool]string{true: "10.0.1.2", false: "fd00:1::2"}[a.Is4()]
		}
		a = netip.MustParseAddr(gw)
	}
	dev := "eth0"
	if pfx("10.0.1.0/24").Contains(a) || pfx("fd00:1::/64").Contains(a) {
		dev = "eth1"
	}
	return " via " + gw + " dev " + dev
}

func (h *host) reroute(at int) {
	h.t.Helper()
	h.igpAt = at
	if at == 0 {
		h.igp("10.255.0.0/16", "10.0.0.2%eth0")
		h.igp("fd00:ff::/32", "fd00::2%eth0")
	} else {
		h.igp("10.255.0.0/16", "10.0.1.2%eth1")
		h.igp("fd00:ff::/32", "fd00:1::2%eth1")
	}
}

var somePrefixes = []string{
	"0.0.0.0/0", "10.65.0.0/26", "10.65.0.0/32", "10.65.0.1/32", "10.65.0.64/26", "10.0.0.0/8", "10.65.0.0/16",
	"::/0", "fd65::/122", "fd65::/128", "fd65::1/128", "fd65::40/122", "fd00::/8", "fd65::/64",
}

func drawRoute(rt *rapid.T) Route {
	p := pfx(rapid.SampledFrom(somePrefixes).Draw(rt, "prefix"))
	r := Route{Prefix: p, Kind: Kind(rapid.IntRange(0, 2).Draw(rt, "kind")), Metric: rapid.SampledFrom([]uint32{0, 512, 1024}).Draw(rt, "metric")}
	switch r.Kind {
	case Link:
		r.Device = rapid.SampledFrom([]string{"w1", "w2", "w3"}).Draw(rt, "device")
	case Via:
		g := []string{"10.0.0.2", "10.0.0.3", "10.0.1.2", "10.255.0.1", "10.255.7.7"}
		if p.Addr().Is6() {
			g = []string{"fd00::2", "fd00::3", "fd00:1::2", "fd00:ff::1", "fd00:ff::2"}
		}
		var as []netip.Addr
		for _, s := range rapid.SliceOfN(rapid.SampledFrom(g), 1, 3).Draw(rt, "hops") {
			as = append(as, netip.MustParseAddr(s))
		}
		r.Hops = HopsOf(as...)
	}
	return r
}

// Any sequence of wishes, restarts, links going down and up, and tampering
// ends with the kernel holding what the slow twin says, and then with silence.
func TestRandomHistories(t *testing.T) {
	h := newHost(t)
	h.reroute(0)
	foreign := h.kernel(false)
	rapid.Check(t, func(rt *rapid.T) {
		h.t = t
		w := twin{"local": {}, "bgp": {}}
		up := map[string]bool{"w1": true, "w2": true, "w3": true}
		h.tab = h.open()
		h.complete()
		defer func() {
			h.tab.Close()
			h.flushOurs()
			h.reroute(0)
			for d, u := range up {
				if !u {
					h.must(h.ns.LinkUp(d))
				}
			}
		}()
		steps := rapid.IntRange(1, 12).Draw(rt, "steps")
		for range steps {
			source := rapid.SampledFrom([]string{"local", "bgp"}).Draw(rt, "source")
			switch rapid.SampledFrom([]string{"update", "update", "update", "replace", "restart", "link", "tamper", "reroute", "object"}).Draw(rt, "step") {
			case "update":
				add := rapid.SliceOfN(rapid.Custom(drawRoute), 0, 6).Draw(rt, "add")
				var remove []netip.Prefix
				for _, s := range rapid.SliceOfN(rapid.SampledFrom(somePrefixes), 0, 4).Draw(rt, "remove") {
					remove = append(remove, pfx(s))
					delete(w[source], pfx(s))
				}
				for _, r := range add {
					w[source][r.Prefix] = r
				}
				h.must(h.tab.Update(source, add, remove))
			case "replace":
				all := rapid.SliceOfN(rapid.Custom(drawRoute), 0, 10).Draw(rt, "all")
				clear(w[source])
				for _, r := range all {
					w[source][r.Prefix] = r
				}
				h.must(h.tab.Replace(source, all))
			case "restart":
				h.reopen(rapid.Bool().Draw(rt, "inline"))
				for s, rs := range w {
					for _, r := range rs {
						h.must(h.tab.Update(s, []Route{r}, nil))
					}
				}
				h.complete()
			case "link":
				d := rapid.SampledFrom([]string{"w1", "w2", "w3"}).Draw(rt, "device")
				if up[d] = !up[d]; up[d] {
					h.must(h.ns.LinkUp(d))
				} else {
					h.must(h.ns.LinkDown(d))
				}
				h.heard()
			case "reroute":
				h.reroute(rapid.IntRange(0, 1).Draw(rt, "at"))
				h.heard()
			case "object":
				if ours, _ := h.objectsNow(); len(ours) > 0 {
					id := ours[rapid.IntRange(0, len(ours)-1).Draw(rt, "object")]
					h.must(h.raw(unix.RTM_DELNEXTHOP, 0, appendAttr32(make([]byte, nhmHeader), nhaID, id)))
				}
				h.heard()
			case "tamper":
				rs, err := h.nl.RouteListFiltered(unix.AF_UNSPEC, &netlink.Route{Protocol: Protocol}, netlink.RT_FILTER_PROTOCOL)
				h.must(err)
				if len(rs) > 0 {
					r := rs[rapid.IntRange(0, len(rs)-1).Draw(rt, "victim")]
					h.must(h.del(r))
				}
				h.heard()
			}
			if rapid.Bool().Draw(rt, "apply") {
				r := h.apply()
				got, want := h.kernel(true), w.lines(h, up)
				if !slices.Equal(got, want) || r.Failed != 0 {
					rt.Fatalf("%+v: kernel has\n\t%q\nwant\n\t%q\nproblems %v", r, got, want, h.tab.Problems())
				}
			}
			if err := h.tab.statusAgrees(); err != nil {
				rt.Fatal(err)
			}
		}
		h.apply()
		if got, want := h.kernel(true), w.lines(h, up); !slices.Equal(got, want) {
			rt.Fatalf("in the end the kernel has\n\t%q\nwant\n\t%q", got, want)
		}
		if r := h.resync(); r != (Result{}) {
			rt.Fatalf("Resync: %+v", r)
		}
		h.replace("local")
		h.replace("bgp")
		h.apply()
		if got := h.kernel(true); len(got) != 0 {
			rt.Fatalf("left over: %q", got)
		}
		if n := len(h.tab.v4.contents) - 1 - len(h.tab.v4.contentFree) + len(h.tab.v6.contents) - 1 - len(h.tab.v6.contentFree); n != 0 {
			rt.Fatalf("%d contents leaked", n)
		}
		if ours, _ := h.objectsNow(); len(ours) != 0 {
			rt.Fatalf("objects left over: %v", ours)
		}
		if n := len(h.tab.topo.hops) + len(h.tab.objs.groups); n != 0 {
			rt.Fatalf("%d next hops leaked", n)
		}
		if n := h.tab.v4.table.n + h.tab.v6.table.n + len(h.tab.v4.losers) + len(h.tab.v6.losers); n != 0 {
			rt.Fatalf("%d entries leaked", n)
		}
	})
	h.t = t
	labtest.Poll(t, 5*time.Second, func() error { // links that came up get their own addresses again
		if got := h.kernel(false); !slices.Equal(got, foreign) {
			return fmt.Errorf("foreign routes changed from %v to %v", foreign, got)
		}
		return nil
	})
}

// heard feeds the notifications that have arrived to the table, as Watch does.
func (h *host) heard() {
	h.t.Helper()
	raw, err := h.tab.events.file.SyscallConn()
	h.must(err)
	buf := make([]byte, 64<<10)
	h.must(raw.Control(func(fd uintptr) {
		for {
			n, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			h.tab.events.take(buf[:n])
		}
	}))
}

func (h *host) flushOurs() {
	h.t.Helper()
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		rs, err := h.nl.RouteListFiltered(fam, &netlink.Route{Protocol: Protocol}, netlink.RT_FILTER_PROTOCOL)
		h.must(err)
		for _, r := range rs {
			_ = h.del(r) // a sibling may have gone with the first
		}
	}
}

// The prune gate holds whatever was there before: a route that nobody wants
// stays until the last source is complete, and goes then.
func TestRandomRestart(t *testing.T) {
	h := newHost(t)
	h.reroute(0)
	rapid.Check(t, func(rt *rapid.T) {
		h.t = t
		old := rapid.SliceOfNDistinct(rapid.Custom(drawRoute), 0, 8, func(r Route) netip.Prefix { return r.Prefix }).Draw(rt, "old")
		now := rapid.SliceOfNDistinct(rapid.Custom(drawRoute), 0, 8, func(r Route) netip.Prefix { return r.Prefix }).Draw(rt, "now")
		h.tab = h.open()
		h.replace("bgp", old...)
		h.apply()
		h.must(h.tab.Close())
		before := h.kernel(true)
		h.tab = h.open()
		defer func() {
			h.tab.Close()
			h.flushOurs()
		}()
		h.must(h.tab.SetComplete("local"))
		h.must(h.tab.Update("bgp", now, nil))
		h.apply()
		if err := h.tab.statusAgrees(); err != nil {
			rt.Fatal(err)
		}
		w := twin{"bgp": {}}
		for _, r := range now {
			w["bgp"][r.Prefix] = r
		}
		up := map[string]bool{"w1": true, "w2": true, "w3": true}
		want, during := w.lines(h, up), h.kernel(true)
		for _, l := range want {
			if !slices.Contains(during, l) {
				rt.Fatalf("%s is missing from %q", l, during)
			}
		}
		for _, r := range old {
			if _, again := w["bgp"][r.Prefix]; again {
				continue
			}
			if l := (twin{"bgp": {r.Prefix: r}}).lines(h, up)[0]; !slices.Contains(before, l) || !slices.Contains(during, l) {
				rt.Fatalf("%s went before all sources were complete: %q", l, during)
			}
		}
		h.must(h.tab.SetComplete("bgp"))
		h.apply()
		if got := h.kernel(true); !slices.Equal(got, want) {
			rt.Fatalf("complete: kernel has\n\t%q\nwant\n\t%q", got, want)
		}
		if slices.Equal(before, want) {
			if c := h.tab.counted(); c.Added+c.Changed+c.Deleted != 0 {
				rt.Fatalf("unchanged input, yet %+v", c)
			}
		}
	})
}

// BenchmarkLoad measures 100,000 routes from Update to the kernel, their
// removal, and reading them back.
func BenchmarkLoad(b *testing.B) {
	for _, fam := range []string{"v4", "v6"} {
		b.Run(fam, func(b *testing.B) {
			labtest.Require(b)
			h := newHost(b)
			h.complete()
			h.apply()
			const n = 100_000
			routes := bulk(n, "")
			if fam == "v6" {
				g := HopsOf(netip.MustParseAddr("fd00::2"))
				for i := range routes {
					a := [16]byte{0xfd, 0x66}
					binary.BigEndian.PutUint32(a[12:], uint32(i))
					routes[i] = Route{Prefix: netip.PrefixFrom(netip.AddrFrom16(a), 128), Kind: Via, Hops: g}
				}
			}
			var load, read, clearing, cpu time.Duration
			for b.Loop() {
				start, used := time.Now(), cpuTime()
				h.must(h.tab.Replace("bgp", routes))
				if r := h.apply(); r.Added != n {
					b.Fatal(r)
				}
				load += time.Since(start)
				cpu += cpuTime() - used
				start = time.Now()
				if r := h.resync(); r != (Result{}) {
					b.Fatal(r)
				}
				read += time.Since(start)
				start = time.Now()
				h.replace("bgp")
				if r := h.apply(); r.Deleted != n {
					b.Fatal(r)
				}
				clearing += time.Since(start)
			}
			b.ReportMetric(load.Seconds()/float64(b.N), "s/load")
			b.ReportMetric(cpu.Seconds()/float64(b.N), "cpu-s/load")
			b.ReportMetric(read.Seconds()/float64(b.N), "s/resync")
			b.ReportMetric(clearing.Seconds()/float64(b.N), "s/withdraw")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkMemory measures what a wanted and installed route costs, without the kernel.
func BenchmarkMemory(b *testing.B) {
	topo := &topology{running: map[uint32]bool{1: true}}
	for _, p := range []string{"10.0.0.0/8", "fd00::/8"} {
		topo.foreign.Insert(pfx(p), []foreignRoute{{hops: []hop{{oif: 1}}}})
	}
	objs := newObjects(Protocol, resilient)
	b.Run("v4", func(b *testing.B) {
		measureMemory(b, func() *fib[key4] { return newFIB(unix.AF_INET, Protocol, makeKey4, topo, objs) }, hostRoutes(memoryRoutes, false, "10.0.0.2", "fd00::2"))
	})
	b.Run("v6", func(b *testing.B) {
		measureMemory(b, func() *fib[key6] { return newFIB(unix.AF_INET6, Protocol, makeKey6, topo, objs) }, hostRoutes(memoryRoutes, true, "10.0.0.2", "fd00::2"))
	})
}

const memoryRoutes = 500_000

func measureMemory[K key[K]](b *testing.B, open func() *fib[K], routes []Route) {
	var before, after runtime.MemStats
	for _, order := range []string{"sorted", "random"} {
		if order == "random" {
			rand.New(rand.NewPCG(1, 1)).Shuffle(len(routes), func(i, j int) { routes[i], routes[j] = routes[j], routes[i] })
		}
		for range b.N {
			runtime.GC()
			runtime.ReadMemStats(&before)
			f := open()
			for i := range routes {
				f.claim(0, routes[i])
			}
			f.dirty = nil
			for k, e := range f.table.all() {
				f.setHave(k, f.outcome(e), 0)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(f)
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/memoryRoutes, "B/route/"+order)
	}
	b.ReportMetric(0, "ns/op")
}

// cpuTime is what the process has used, in the kernel and outside: on a shared
// machine it says more than the wall clock.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBulk measures 500,000 routes into the kernel and out again, and
// BenchmarkReroute what it takes until 100,000 of them go another way.
func BenchmarkBulk(b *testing.B) {
	eachFamily(b, func(b *testing.B, h *host, v6 bool) {
		const n = 500_000
		routes := hostRoutes(n, v6, "10.0.0.2", "fd00::2")
		var in, out, cpu time.Duration
		for b.Loop() {
			start, used := time.Now(), cpuTime()
			h.must(h.tab.Replace("bgp", routes))
			if r := h.apply(); r.Added != n {
				b.Fatal(r)
			}
			in += time.Since(start)
			start = time.Now()
			h.replace("bgp")
			if r := h.apply(); r.Deleted != n {
				b.Fatal(r)
			}
			out += time.Since(start)
			cpu += cpuTime() - used
		}
		b.ReportMetric(in.Seconds()/float64(b.N), "s/in")
		b.ReportMetric(out.Seconds()/float64(b.N), "s/out")
		b.ReportMetric(cpu.Seconds()/float64(b.N), "cpu-s")
		b.ReportMetric(0, "ns/op")
	})
}

func BenchmarkReroute(b *testing.B) {
	eachFamily(b, func(b *testing.B, h *host, v6 bool) {
		const n = 100_000
		ms := map[bool]float64{}
		for _, inline := range []bool{false, true} {
			h.reopen(inline)
			h.reroute(0)
			h.complete()
			h.replace("bgp", hostRoutes(n, v6, "10.255.0.1", "fd00:ff::1")...)
			h.apply()
			var took time.Duration
			for i := range b.N {
				h.reroute((i + 1) % 2)
				start := time.Now()
				h.heard()
				if r := h.apply(); (r.Changed > 0) != inline {
					b.Fatal(r)
				}
				took += time.Since(start)
			}
			ms[inline] = took.Seconds() * 1000 / float64(b.N)
		}
		b.ReportMetric(ms[false], "ms/object")
		b.ReportMetric(ms[true], "ms/inline")
		b.ReportMetric(0, "ns/op")
	})
}

func eachFamily(b *testing.B, f func(b *testing.B, h *host, v6 bool)) {
	for _, fam := range []string{"v4", "v6"} {
		b.Run(fam, func(b *testing.B) {
			labtest.Require(b)
			h := newHost(b)
			h.complete()
			h.apply()
			f(b, h, fam == "v6")
		})
	}
}

// hostRoutes makes n host routes through one next hop.
func hostRoutes(n int, v6 bool, hop4, hop6 string) []Route {
	routes := bulk(n, "")
	g := HopsOf(netip.MustParseAddr(hop4))
	if v6 {
		g = HopsOf(netip.MustParseAddr(hop6))
	}
	for i := range routes {
		routes[i].Hops = g
		if v6 {
			a := [16]byte{0xfd, 0x66}
			binary.BigEndian.PutUint32(a[12:], uint32(i))
			routes[i].Prefix = netip.PrefixFrom(netip.AddrFrom16(a), 128)
		}
	}
	return routes
}
