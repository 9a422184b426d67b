// SPDX-License-Identifier: Apache-2.0

package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// host is a namespace with two uplinks and four workload interfaces, and a
// Table that manages it.
type host struct {
	t   testing.TB
	ns  *lab.Namespace
	far *lab.Namespace
	nl  *netlink.Handle
	tab *Table

	inline bool              // next hops are inside routes
	igpAt  int               // where the other daemon's routes lead
	said   map[string]string // what Reached said of each next hop

	notified atomic.Int64
	wake     chan struct{}
}

func newHost(t testing.TB) *host {
	l := labtest.New(t)
	h := &host{t: t, ns: labtest.Namespace(t, l, "host"), far: labtest.Namespace(t, l, "far"), wake: make(chan struct{}, 1)}
	for _, n := range []string{"eth0", "eth1", "w1", "w2", "w3", "w4"} {
		h.must(lab.Veth(lab.End{NS: h.ns, Name: n}, lab.End{NS: h.far, Name: n}))
	}
	for _, a := range [][2]string{{"eth0", "10.0.0.1/24"}, {"eth0", "fd00::1/64"}, {"eth1", "10.0.1.1/24"}, {"eth1", "fd00:1::1/64"}} {
		h.must(h.ns.AddAddr(a[0], netip.MustParsePrefix(a[1])))
	}
	var err error
	h.nl, err = h.ns.Handle()
	h.must(err)
	// The kernel gives links their own addresses in its own time.
	labtest.Poll(t, 5*time.Second, func() error {
		n := 0
		for _, l := range h.kernel(false) {
			if strings.HasPrefix(l, "fe80::/64") {
				n++
			}
		}
		if n != 6 {
			return fmt.Errorf("%d links are ready", n)
		}
		return nil
	})
	h.tab = h.open()
	return h
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) open() *Table {
	h.t.Helper()
	tab, err := Open(Options{Inside: h.ns.Do, Inline: h.inline})
	h.must(err)
	h.t.Cleanup(func() { tab.Close() })
	return tab
}

// reopen is a restart, of a process that perhaps keeps next hops in another way.
func (h *host) reopen(inline bool) {
	h.t.Helper()
	h.must(h.tab.Close())
	h.inline = inline
	h.tab = h.open()
}

func (h *host) apply() Result {
	h.t.Helper()
	r, err := h.tab.Apply()
	h.must(err)
	return r
}

func (h *host) resync() Result {
	h.t.Helper()
	r, err := h.tab.Resync()
	h.must(err)
	return r
}

func (h *host) replace(source string, rs ...Route) {
	h.t.Helper()
	h.must(h.tab.Replace(source, rs))
}

func (h *host) complete() {
	h.t.Helper()
	h.must(h.tab.SetComplete("local"))
	h.must(h.tab.SetComplete("bgp"))
}

// listen reads notifications and wakes whoever applies them.
func (h *host) listen() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	tab := h.tab
	go func() {
		defer close(done)
		if err := tab.Watch(ctx, func() {
			h.notified.Add(1)
			select {
			case h.wake <- struct{}{}:
			default:
			}
		}); err != nil {
			h.t.Errorf("Watch: %v", err)
		}
	}()
	h.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// watch runs the daemon's loop: a notification leads to an Apply.
func (h *host) watch() {
	h.listen()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	tab := h.tab
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-h.wake:
				if _, err := tab.Apply(); err != nil && !errors.Is(err, errClosed) {
					h.t.Errorf("Apply: %v", err)
				}
			}
		}
	}()
	h.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// kernel returns the main table's routes as lines, by a reader that shares
// nothing with this package: with our protocol, or all others.
func (h *host) kernel(ours bool) []string {
	h.t.Helper()
	out := []string{}
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		rs, err := h.nl.RouteListFiltered(fam, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		h.must(err)
		for _, r := range rs {
			if (int(r.Protocol) == Protocol) == ours {
				out = append(out, h.line(r))
			}
		}
	}
	sort.Strings(out)
	return out
}

// gatewayIsOnLink tells what the flag of that name is for a gateway where nothing else says.
func gatewayIsOnLink(m *netlink.NexthopInfo) bool {
	gw := m.Gw
	if v, ok := m.Via.(*netlink.Via); ok {
		gw = v.Addr
	}
	return gw != nil && gw.To4() == nil && !gw.IsLinkLocalUnicast()
}

func (h *host) line(r netlink.Route) string {
	var b strings.Builder
	dst := "?"
	if r.Dst != nil {
		dst = r.Dst.String()
	}
	if r.Type == unix.RTN_BLACKHOLE {
		fmt.Fprintf(&b, "blackhole ")
	}
	fmt.Fprintf(&b, "%s", dst)
	var hops []string
	if len(r.MultiPath) == 0 && r.Type == unix.RTN_UNICAST {
		r.MultiPath = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via, Flags: r.Flags}}
	}
	for _, m := range r.MultiPath {
		s := ""
		if m.Gw != nil {
			s += " via " + m.Gw.String()
		} else if v, ok := m.Via.(*netlink.Via); ok { // RFC 8950
			s += " via " + v.Addr.String()
		}
		s += fmt.Sprintf(" dev %s", h.linkName(m.LinkIndex))
		if m.Hops != 0 {
			s += fmt.Sprintf(" weight %d", m.Hops+1)
		}
		if onLink := m.Flags&unix.RTNH_F_ONLINK != 0; onLink != gatewayIsOnLink(m) {
			s += fmt.Sprintf(" onlink %v", onLink)
		}
		hops = append(hops, s)
	}
	slices.Sort(hops)
	b.WriteString(strings.Join(hops, ","))
	fmt.Fprintf(&b, " metric %d", r.Priority)
	if r.Scope == unix.RT_SCOPE_LINK {
		b.WriteString(" scope link")
	}
	if r.Src != nil {
		fmt.Fprintf(&b, " src %s", r.Src)
	}
	if r.MTU != 0 {
		fmt.Fprintf(&b, " mtu %d", r.MTU)
	}
	if r.Tos != 0 {
		fmt.Fprintf(&b, " tos %d", r.Tos)
	}
	return b.String()
}

func (h *host) linkName(i int) string {
	l, err := h.nl.LinkByIndex(i)
	if err != nil {
		return fmt.Sprint(i)
	}
	return l.Attrs().Name
}

// want compares the kernel's routes of our protocol with lines.
func (h *host) want(lines ...string) {
	h.t.Helper()
	slices.Sort(lines)
	if got := h.kernel(true); !slices.Equal(got, lines) {
		h.t.Fatalf("kernel has\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func via(p string, hops ...string) Route {
	var as []netip.Addr
	for _, a := range hops {
		as = append(as, netip.MustParseAddr(a))
	}
	return Route{Prefix: pfx(p), Kind: Via, Hops: HopsOf(as...)}
}

func linkRoute(p, dev string) Route { return Route{Prefix: pfx(p), Kind: Link, Device: dev} }

func blackhole(p string) Route { return Route{Prefix: pfx(p), Kind: Blackhole} }

func TestRoutesOfEveryKind(t *testing.T) {
	h := newHost(t)
	foreign := h.kernel(false)
	h.replace("local",
		linkRoute("10.65.0.2/32", "w1"), linkRoute("fd65::2/128", "w1"),
		blackhole("10.65.0.0/26"), blackhole("fd65::/122"))
	h.replace("bgp",
		via("10.66.0.0/26", "10.0.0.2"), via("fd66::/122", "fd00::2"),
		via("10.67.0.0/26", "10.0.1.2", "10.0.0.2"), via("fd67::/122", "fd00:1::2", "fd00::2"),
		via("0.0.0.0/0", "10.0.0.254"), via("::/0", "fd00::fe"))
	if r := h.apply(); r.Added != 10 || r.Writes() != 10 {
		t.Errorf("first Apply: %+v, want 10 added", r)
	}
	h.want(
		"10.65.0.2/32 dev w1 metric 1024", "fd65::2/128 dev w1 metric 1024",
		"blackhole 10.65.0.0/26 metric 1024", "blackhole fd65::/122 metric 1024",
		"10.66.0.0/26 via 10.0.0.2 dev eth0 metric 1024", "fd66::/122 via fd00::2 dev eth0 metric 1024",
		"10.67.0.0/26 via 10.0.0.2 dev eth0, via 10.0.1.2 dev eth1 metric 1024",
		"fd67::/122 via fd00:1::2 dev eth1, via fd00::2 dev eth0 metric 1024",
		"0.0.0.0/0 via 10.0.0.254 dev eth0 metric 1024", "::/0 via fd00::fe dev eth0 metric 1024")
	// R9: with nothing to do, nothing is written.
	if r := h.resync(); r != (Result{}) {
		t.Errorf("Resync of an equal table: %+v", r)
	}
	if r := h.apply(); r != (Result{}) {
		t.Errorf("Apply of an equal table: %+v", r)
	}
	if ps := h.tab.Problems(); len(ps) != 0 {
		t.Errorf("problems: %v", ps)
	}
	if c := h.tab.Count(); c != (Count{Wanted: 10, Installed: 10}) {
		t.Errorf("count: %+v", c)
	}
	h.replace("local")
	h.replace("bgp")
	if r := h.apply(); r.Deleted != 10 || r.Writes() != 10 {
		t.Errorf("withdrawal of everything: %+v", r)
	}
	h.want()
	if got := h.kernel(false); !slices.Equal(got, foreign) {
		t.Errorf("foreign routes changed from %v to %v", foreign, got)
	}
	if n := len(h.tab.v4.contents) - 1 - len(h.tab.v4.contentFree); n != 0 {
		t.Errorf("%d contents leaked", n)
	}
	if n := len(h.tab.v4.actions) - firstAction - len(h.tab.v4.actionFree); n != 0 {
		t.Errorf("%d actions leaked", n)
	}
}

// Every kind of route becomes every other one in a single Apply, at once and
// with nothing left over, in both families.
func TestEveryChange(t *testing.T) {
	h := newHost(t)
	for _, fam := range []struct{ p, g1, g2 string }{{"10.66.0.0/26", "10.0.0.2", "10.0.1.2"}, {"fd66::/122", "fd00::2", "fd00:1::2"}} {
		metric := func(r Route) Route { r.Metric = 512; return r }
		forms := []Route{
			linkRoute(fam.p, "w1"), linkRoute(fam.p, "w2"), blackhole(fam.p), via(fam.p, fam.g1), via(fam.p, fam.g2),
			via(fam.p, fam.g1, fam.g2), metric(linkRoute(fam.p, "w1")), metric(via(fam.p, fam.g1, fam.g2)),
		}
		for _, from := range forms {
			h.replace("bgp", from)
			h.apply()
			for _, to := range forms {
				h.replace("bgp", to)
				r := h.apply()
				if r.Failed != 0 || (from == to) != (r == Result{}) {
					t.Errorf("%v -> %v: %+v %v", from, to, r, h.tab.Problems())
				}
				after := h.kernel(true)
				if r := h.resync(); r != (Result{}) {
					t.Errorf("%v -> %v: Resync found %+v in %v", from, to, r, after)
				}
				if len(after) != 1 {
					t.Errorf("%v -> %v: kernel has %v", from, to, after)
				}
				h.replace("bgp", from)
				h.apply()
			}
		}
		h.replace("bgp")
		h.apply()
	}
}

// P01, R9: a new process with the same wishes writes nothing; what nobody has
// asked for yet stays until all sources are complete.
func TestRestartAndPruneGate(t *testing.T) {
	h := newHost(t)
	local := []Route{linkRoute("10.65.0.2/32", "w1"), blackhole("10.65.0.0/26"), linkRoute("fd65::2/128", "w1"), blackhole("fd65::/122")}
	learned := []Route{via("10.66.0.0/26", "10.0.0.2", "10.0.1.2"), via("fd66::/122", "fd00::2", "fd00:1::2"), via("10.68.0.0/26", "10.0.0.2")}
	h.replace("local", local...)
	h.replace("bgp", learned...)
	h.apply()
	before := h.kernel(true)
	h.must(h.tab.Close())

	h.tab = h.open()
	h.watch()
	if r := h.apply(); r != (Result{}) {
		t.Errorf("before anything is known: %+v", r)
	}
	if c := h.tab.Count(); c.Kept != 7 {
		t.Errorf("count %+v, want 7 kept", c)
	}
	for _, s := range h.tab.List() {
		if s.State != Kept || s.Source != "" {
			t.Errorf("%v is %v of %q, want kept", s.Route, s.State, s.Source)
		}
	}
	h.replace("local", local...)
	h.must(h.tab.SetComplete("local"))
	if r := h.apply(); r != (Result{}) {
		t.Errorf("local complete: %+v", r)
	}
	// A learned route that changed is written at once, a new one too.
	h.must(h.tab.Update("bgp", []Route{via("10.66.0.0/26", "10.0.0.3"), via("10.69.0.0/26", "10.0.0.3")}, nil))
	if r := h.apply(); r != (Result{Added: 1, Changed: 1}) {
		t.Errorf("one changed, one new: %+v", r)
	}
	if r := h.resync(); r != (Result{}) {
		t.Errorf("Resync before completeness: %+v", r)
	}
	h.must(h.tab.Update("bgp", learned[:2], []netip.Prefix{pfx("10.69.0.0/26")}))
	if r := h.apply(); r != (Result{Changed: 1, Deleted: 1}) {
		t.Errorf("back again: %+v", r)
	}
	if got := h.kernel(true); !slices.Equal(got, before) {
		t.Fatalf("kernel has %v, want %v", got, before)
	}
	h.must(h.tab.SetComplete("bgp"))
	if r := h.apply(); r != (Result{Deleted: 1}) { // 10.68.0.0/26 was not learned again
		t.Errorf("all complete: %+v", r)
	}
	if n := h.notified.Load(); n != 0 {
		t.Errorf("own changes were notified %d times", n)
	}
}

func TestLocalWins(t *testing.T) {
	h := newHost(t)
	h.replace("bgp", via("10.65.0.0/26", "10.0.0.2"), via("fd65::/122", "fd00::2"))
	h.apply()
	h.replace("local", blackhole("10.65.0.0/26"), blackhole("fd65::/122"))
	if r := h.apply(); r != (Result{Changed: 2}) {
		t.Errorf("local comes: %+v", r)
	}
	h.want("blackhole 10.65.0.0/26 metric 1024", "blackhole fd65::/122 metric 1024")
	h.must(h.tab.Update("bgp", []Route{via("10.65.0.0/26", "10.0.0.3")}, []netip.Prefix{pfx("fd65::/122")}))
	if r := h.apply(); r != (Result{}) {
		t.Errorf("the loser changes: %+v", r)
	}
	h.replace("local")
	if r := h.apply(); r != (Result{Changed: 1, Deleted: 1}) {
		t.Errorf("local goes: %+v", r)
	}
	h.want("10.65.0.0/26 via 10.0.0.3 dev eth0 metric 1024")
}

func TestWrongRoutesDoNotHarmOthers(t *testing.T) {
	h := newHost(t)
	err := h.tab.Update("local", []Route{
		{}, linkRoute("10.65.0.2/31", ""), {Prefix: pfx("10.65.0.3/24"), Kind: Blackhole}, {Prefix: pfx("10.65.0.4/32"), Kind: Via},
		{Prefix: pfx("::ffff:10.0.0.0/120"), Kind: Blackhole}, {Prefix: pfx("10.0.0.0/8"), Kind: 9}, linkRoute("10.65.0.2/32", "w1"),
	}, []netip.Prefix{{}})
	if n := strings.Count(fmt.Sprint(err), "\n") + 1; n != 6 {
		t.Errorf("%d errors, want 6: %v", n, err)
	}
	if err := h.tab.Update("nobody", nil, nil); err == nil {
		t.Error("an unknown source is accepted")
	}
	// The kernel refuses a next hop that is this host's own address.
	h.must(h.tab.Update("bgp", []Route{via("fd66::/122", "fd00::1"), via("10.67.0.0/26", "10.0.0.2")}, nil))
	if r := h.apply(); r != (Result{Added: 2, Failed: 1}) {
		t.Errorf("Apply: %+v", r)
	}
	ps := h.tab.Problems()
	if len(ps) != 1 || ps[0].State != Failed || ps[0].Prefix != pfx("fd66::/122") || !strings.Contains(ps[0].Detail, "ateway") {
		t.Errorf("problems: %+v, want the refusal with the kernel's own words", ps)
	}
	h.must(h.tab.Update("bgp", []Route{via("fd66::/122", "fd00::3")}, nil))
	if r := h.apply(); r != (Result{Added: 1}) || len(h.tab.Problems()) != 0 {
		t.Errorf("after correction: %+v %v", r, h.tab.Problems())
	}
}

// lines is a log that is read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) has(words string, times int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := strings.Count(l.text.String(), words); n != times {
		return fmt.Errorf("%d times %q, want %d:\n%s", n, words, times, l.text.String())
	}
	return nil
}

// A route whose device is missing, down, re-created (N06) or renamed (N05)
// waits, and is there as soon as the device is.
func TestN05N06_DeviceComesAndGoes(t *testing.T) {
	h := newHost(t)
	var log lines
	h.tab.log = slog.New(slog.NewTextHandler(&log, nil))
	h.watch()
	const p4, p6 = "10.65.0.9/32", "fd65::9/128"
	h.replace("local", linkRoute(p4, "late"), linkRoute(p6, "late"), linkRoute("10.65.0.2/32", "w1"))
	h.complete()
	h.apply()
	both := []string{p4 + " dev late metric 1024", p6 + " dev late metric 1024"}
	other := "10.65.0.2/32 dev w1 metric 1024"
	there := func() error {
		if got := h.kernel(true); !slices.Equal(got, []string{other, both[0], both[1]}) {
			return fmt.Errorf("kernel has %v", got)
		}
		return nil
	}
	away := func() error {
		if got := h.kernel(true); !slices.Equal(got, []string{other}) {
			return fmt.Errorf("kernel has %v", got)
		}
		if ps := h.tab.Problems(); len(ps) != 2 || ps[0].State != Pending {
			return fmt.Errorf("problems %v", ps)
		}
		return nil
	}
	labtest.Poll(t, time.Second, away)
	veth := func() { h.must(lab.Veth(lab.End{NS: h.ns, Name: "late"}, lab.End{NS: h.far, Name: "late"})) }
	for i := range 3 {
		veth()
		labtest.Poll(t, time.Second, there)
		h.must(h.ns.DeleteLink("late"))
		labtest.Poll(t, time.Second, away)
		for _, p := range []string{p4, p6} { // and it is in the log
			labtest.Poll(t, time.Second, func() error {
				return log.has("route gone from the kernel\" prefix="+p+" kind=link metric=1024 device=late", i+1)
			})
		}
	}
	veth()
	labtest.Poll(t, time.Second, there)
	h.must(h.ns.LinkDown("late"))
	labtest.Poll(t, time.Second, away)
	h.must(h.ns.LinkUp("late"))
	labtest.Poll(t, time.Second, there)
	// Faster than anybody looks: down and up again, delete and make again.
	for range 20 {
		h.must(h.ns.LinkDown("late"))
		h.must(h.ns.LinkUp("late"))
	}
	labtest.Poll(t, time.Second, there)
	for range 5 {
		h.must(h.ns.DeleteLink("late"))
		veth()
	}
	labtest.Poll(t, time.Second, there)
	h.must(h.ns.RenameLink("late", "other"))
	labtest.Poll(t, time.Second, away)
	h.must(h.ns.RenameLink("other", "late"))
	labtest.Poll(t, time.Second, there)
	if n := h.tab.counted().overruns; n != 0 {
		t.Errorf("%d overruns", n)
	}
}

// N09: next hops follow the uplinks' addresses.
func TestN09_NextHopsFollowAddresses(t *testing.T) {
	h := newHost(t)
	h.watch()
	h.replace("bgp",
		via("10.66.0.0/26", "10.0.0.2"), via("fd66::/122", "fd00::2"),
		via("10.67.0.0/26", "10.0.0.2", "10.0.1.2"), via("fd67::/122", "fd00::2", "fd00:1::2"),
		via("10.68.0.0/26", "10.0.2.2"), via("fd68::/122", "fd00:2::2"), via("fd69::/122", "fe80::5%eth1"))
	h.complete()
	h.apply()
	is := func(lines ...string) {
		t.Helper()
		slices.Sort(lines)
		labtest.Poll(t, 2*time.Second, func() error {
			if got := h.kernel(true); !slices.Equal(got, lines) {
				return fmt.Errorf("kernel has\n\t%s", strings.Join(got, "\n\t"))
			}
			return nil
		})
	}
	single := []string{"10.66.0.0/26 via 10.0.0.2 dev eth0 metric 1024", "fd66::/122 via fd00::2 dev eth0 metric 1024"}
	multi := []string{
		"10.67.0.0/26 via 10.0.0.2 dev eth0, via 10.0.1.2 dev eth1 metric 1024",
		"fd67::/122 via fd00:1::2 dev eth1, via fd00::2 dev eth0 metric 1024",
	}
	ll := []string{"fd69::/122 via fe80::5 dev eth1 metric 1024"}
	is(slices.Concat(single, multi, ll)...)
	if ps := h.tab.Problems(); len(ps) != 2 || ps[0].State != Pending || ps[1].State != Pending {
		t.Errorf("problems %v, want 10.68.0.0/26 and fd68::/122 pending", ps)
	}

	// A subnet appears.
	h.must(h.ns.AddAddr("eth1", pfx("10.0.2.1/24")))
	h.must(h.ns.AddAddr("eth1", pfx("fd00:2::1/64")))
	third := []string{"10.68.0.0/26 via 10.0.2.2 dev eth1 metric 1024", "fd68::/122 via fd00:2::2 dev eth1 metric 1024"}
	is(slices.Concat(single, multi, ll, third)...)

	// The uplink goes down and comes back: the kernel threw its routes away.
	h.must(h.ns.LinkDown("eth0"))
	is(slices.Concat(ll, third, []string{"10.67.0.0/26 via 10.0.1.2 dev eth1 metric 1024", "fd67::/122 via fd00:1::2 dev eth1 metric 1024"})...)
	h.must(h.ns.LinkUp("eth0"))
	h.must(h.ns.AddAddr("eth0", pfx("fd00::1/64"))) // the kernel drops IPv6 addresses of a link that goes down
	is(slices.Concat(single, multi, ll, third)...)

	// The subnet moves to the other uplink.
	h.must(h.ns.DelAddr("eth0", pfx("10.0.0.1/24")))
	h.must(h.ns.AddAddr("eth1", pfx("10.0.0.1/24")))
	labtest.Poll(t, 2*time.Second, func() error {
		for _, l := range h.kernel(true) {
			if l == "10.66.0.0/26 via 10.0.0.2 dev eth1 metric 1024" {
				return nil
			}
		}
		return fmt.Errorf("kernel has %v", h.kernel(true))
	})

	// The other uplink takes smaller packets, and loses and gets a default route, which is somebody else's.
	before := h.kernel(true)
	up, err := h.nl.LinkByName("eth1")
	h.must(err)
	h.must(h.nl.LinkSetMTU(up, 1400))
	for range 20 {
		h.must(h.ns.AddRoute(pfx("0.0.0.0/0"), netip.MustParseAddr("10.0.1.254"), ""))
		h.must(h.ns.DelRoute(pfx("0.0.0.0/0"), ""))
	}
	h.settled()
	is(before...)

	// It is replaced: another interface has its name and addresses.
	addrs, err := h.ns.Addrs("eth1")
	h.must(err)
	h.must(h.ns.DeleteLink("eth1"))
	h.must(lab.Veth(lab.End{NS: h.ns, Name: "eth1"}, lab.End{NS: h.far, Name: "eth1"}))
	for _, a := range addrs {
		if !a.Addr().IsLinkLocalUnicast() {
			h.must(h.ns.AddAddr("eth1", a))
		}
	}
	is(before...)

	// While its subnet is gone, a route that forwards stays.
	h.must(h.ns.DelAddr("eth1", pfx("10.0.2.1/24")))
	h.resync()
	if !slices.Contains(h.kernel(true), third[0]) {
		t.Errorf("kernel has %v, want %s kept", h.kernel(true), third[0])
	}
}

// In which order the kernel lists next hops says nothing, and neither does the
// order of the names of their links: a route that an earlier process left is
// not written again.
func TestOrderOfNextHops(t *testing.T) {
	h := newHost(t)
	h.inline = true
	// By name before eth0, by number after it.
	h.must(lab.Veth(lab.End{NS: h.ns, Name: "a0"}, lab.End{NS: h.far, Name: "a0"}))
	wish := []Route{via("10.67.0.0/26", "10.0.0.2", "10.0.1.2"), via("fd67::/122", "fd00::2", "fd00:1::2"),
		via("fd68::/122", "fe80::5%a0", "fe80::5%eth0")}
	type way struct{ dev, gw string }
	left := map[string][]way{
		"10.67.0.0/26": {{"eth0", "10.0.0.2"}, {"eth1", "10.0.1.2"}},
		"fd67::/122":   {{"eth0", "fd00::2"}, {"eth1", "fd00:1::2"}},
		"fd68::/122":   {{"eth0", "fe80::5"}, {"a0", "fe80::5"}},
	}
	for range 2 {
		for p, ways := range left {
			r := &netlink.Route{Dst: ipnet(pfx(p)), Priority: defaultMetric, Protocol: Protocol}
			for _, w := range ways {
				n := &netlink.NexthopInfo{LinkIndex: h.link(w.dev), Gw: ip(w.gw)}
				if gatewayIsOnLink(n) {
					n.Flags = unix.RTNH_F_ONLINK
				}
				r.MultiPath = append(r.MultiPath, n)
			}
			h.must(h.nl.RouteReplace(r))
			slices.Reverse(ways)
		}
		h.must(h.tab.Close())
		h.tab = h.open()
		h.replace("bgp", wish...)
		h.complete()
		if r := h.apply(); r != (Result{}) {
			t.Errorf("Apply: %+v, want nothing written over %v", r, h.kernel(true))
		}
		if c := h.tab.Count(); c != (Count{Wanted: 3, Installed: 3}) {
			t.Errorf("count: %+v", c)
		}
	}
}

// raw sends one message built by hand, to tamper with what the library cannot.
func (h *host) raw(typ, flags uint16, body []byte) error {
	return h.ns.Do(func() error {
		c, err := dial()
		if err != nil {
			return err
		}
		defer c.close()
		c.seq++
		b := append(make([]byte, nlHeader), body...)
		putHeader(b, typ, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK, c.seq)
		var refused error
		if err := c.exec(b, c.seq, 1, func(_ int, e *kernelError) { refused = e }); err != nil {
			return err
		}
		return refused
	})
}

// del deletes a route by what identifies it.
func (h *host) del(r netlink.Route) error {
	return h.nl.RouteDel(&netlink.Route{Dst: r.Dst, Table: unix.RT_TABLE_MAIN, Priority: r.Priority, Protocol: r.Protocol, Scope: unix.RT_SCOPE_NOWHERE})
}

func (h *host) link(name string) int {
	h.t.Helper()
	i, err := h.ns.LinkIndex(name)
	h.must(err)
	return i
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func ip(s string) net.IP { return net.ParseIP(s) }
