// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

var (
	addrA = []netip.Addr{netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("fd00:65::1")}
	addrB = []netip.Addr{netip.MustParseAddr("10.65.0.2"), netip.MustParseAddr("fd00:65::2")}
)

// server is a host in a namespace with a Links of its own.
type server struct {
	*lab.Namespace
	t     *testing.T
	links *Links
}

func newServer(t *testing.T, l *lab.Lab) *server {
	s := &server{Namespace: labtest.Namespace(t, l, "host"), t: t}
	s.do(func() (err error) {
		s.links, err = Open(Options{Log: slog.New(slog.DiscardHandler), Prefixes: []string{"cali"}, Reserved: []string{"cali-up"}})
		return err
	})
	t.Cleanup(s.links.Close)
	return s
}

// do runs f in the host's namespace or ends the test.
func (s *server) do(f func() error) {
	s.t.Helper()
	if err := s.Do(f); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) sync(name string) (st Status) {
	s.t.Helper()
	s.do(func() error { st = s.links.Sync(name); return nil })
	return st
}

// attach attaches a workload and routes its addresses to it, as the rest of
// the system does.
func (s *server) attach(w *lab.Namespace, host string, addrs []netip.Addr) Attached {
	s.t.Helper()
	var out Attached
	s.do(func() (err error) {
		out, err = Attach(context.Background(), Attachment{NetNS: w.Path(), Host: host, Addrs: addrs})
		return err
	})
	s.links.Set(host, Config{Addrs: addrs, MAC: [6]byte(out.MAC), HasMAC: true})
	if st := s.sync(host); st.State == Failed {
		s.t.Fatal(st.Err)
	}
	for _, a := range addrs {
		if err := s.AddRoute(netip.PrefixFrom(a, a.BitLen()), netip.Addr{}, host); err != nil {
			s.t.Fatal(err)
		}
	}
	return out
}

func (s *server) router() []string {
	s.t.Helper()
	var changed []string
	s.do(func() (err error) {
		changed, err = ConfigureHost([]string{"cali"})
		return err
	})
	return changed
}

func reach(t *testing.T, from, to *lab.Namespace, dst netip.Addr) {
	t.Helper()
	for _, p := range []lab.Proto{lab.ICMP, lab.UDP, lab.TCP} {
		if o := from.Probe(t.Context(), lab.Probe{Proto: p, Dst: dst, Port: 7}); o.Verdict != lab.Reached {
			t.Errorf("%s to %s: %s, %v", p, dst, o.Verdict, o.Err)
		}
	}
}

func serve(t *testing.T, list ...*lab.Namespace) {
	t.Helper()
	for _, n := range list {
		s, err := n.Serve(7)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
	}
}

// TestPacketsBetweenWorkloads attaches two namespaces to one host and sends
// packets both ways, in both families, on a host with and without a default
// route. The first packet must pass: nothing waits for address detection.
func TestPacketsBetweenWorkloads(t *testing.T) {
	for _, withDefault := range []bool{false, true} {
		t.Run(fmt.Sprintf("default route %v", withDefault), func(t *testing.T) {
			l := labtest.New(t)
			h := newServer(t, l)
			if withDefault {
				up := labtest.Namespace(t, l, "up")
				if err := lab.Veth(lab.End{NS: h.Namespace, Name: "up0"}, lab.End{NS: up, Name: "down0"}); err != nil {
					t.Fatal(err)
				}
				for _, p := range []string{"192.0.2.2/24 0.0.0.0/0 192.0.2.1", "2001:db8::2/64 ::/0 2001:db8::1"} {
					f := strings.Fields(p)
					if err := errors.Join(h.AddAddr("up0", netip.MustParsePrefix(f[0])), h.AddRoute(netip.MustParsePrefix(f[1]), netip.MustParseAddr(f[2]), "up0")); err != nil {
						t.Fatal(err)
					}
				}
			}
			h.router()
			a, b := labtest.Namespace(t, l, "a"), labtest.Namespace(t, l, "b")
			h.attach(a, "calia", addrA)
			h.attach(b, "calib", addrB)
			serve(t, a, b, h.Namespace)
			for i := range 2 {
				reach(t, a, b, addrB[i])
				reach(t, b, a, addrA[i])
				reach(t, h.Namespace, a, addrA[i])
			}
			reach(t, a, h.Namespace, Gateway4())
			if st := h.sync("calia"); st.State != Ready || st.Writes != 0 {
				t.Errorf("%+v; want ready and nothing to write", st)
			}
		})
	}
}

// count counts notifications about addresses, neighbours and links in the
// host's namespace while f runs.
func (s *server) count(f func()) int {
	s.t.Helper()
	var w *Watcher
	s.do(func() (err error) { w, err = s.links.Watch(); return err })
	ctx, cancel := context.WithCancel(s.t.Context())
	var mu sync.Mutex
	n := 0
	done := make(chan error, 1)
	go func() {
		done <- w.Run(ctx, func(names []string) {
			mu.Lock()
			defer mu.Unlock()
			if slices.Contains(names, "cali-mark") {
				n += 1 << 20
			} else {
				n++
			}
		})
	}()
	f()
	// A change that is certain to be reported comes after everything else.
	h, err := s.Handle()
	if err != nil {
		s.t.Fatal(err)
	}
	at := netlink.NewLinkAttrs()
	at.Name = "cali-mark"
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: at, PeerName: "mark-peer"}); err != nil {
		s.t.Fatal(err)
	}
	labtest.Poll(s.t, 5*time.Second, func() error {
		mu.Lock()
		defer mu.Unlock()
		if n < 1<<20 {
			return errors.New("the mark is not reported")
		}
		return nil
	})
	cancel()
	if err := <-done; err != nil {
		s.t.Error(err)
	}
	if err := s.DeleteLink("cali-mark"); err != nil {
		s.t.Fatal(err)
	}
	return n & (1<<20 - 1)
}

// TestSecondRunWritesNothing: a restarted process finds everything in place,
// also when the interface was made by somebody else.
func TestSecondRunWritesNothing(t *testing.T) {
	l := labtest.New(t)
	h := newServer(t, l)
	h.router()
	a, b := labtest.Namespace(t, l, "a"), labtest.Namespace(t, l, "b")
	h.attach(a, "calia", addrA)
	if err := lab.Veth(lab.End{NS: h.Namespace, Name: "calib"}, lab.End{NS: b, Name: "net7"}); err != nil {
		t.Fatal(err)
	}
	mac, _ := b.MAC("net7")
	before, _ := h.MAC("calib")
	h.links.Set("calib", Config{Addrs: addrB, MAC: [6]byte(mac), HasMAC: true})
	if st := h.sync("calib"); st.State != Ready || st.Writes == 0 {
		t.Fatalf("%+v", st)
	}
	if after, _ := h.MAC("calib"); after.String() != before.String() {
		t.Errorf("the MAC of a foreign interface changed from %s to %s", before, after)
	}
	checkAddrs(t, h, "calib", 3) // the kernel's own link-local, and ours
	// The kernel began to check its own before we came, and will say so.
	labtest.Poll(t, 5*time.Second, func() error {
		return h.Do(func() error {
			list, err := h.links.wire.addrs(0)
			for _, a := range list {
				if a.flags&unix.IFA_F_TENTATIVE != 0 {
					err = fmt.Errorf("%s is tentative", a.prefix)
				}
			}
			return err
		})
	})

	fresh := &server{Namespace: h.Namespace, t: t}
	h.do(func() (err error) { fresh.links, err = Open(h.links.opts); return err })
	defer fresh.links.Close()
	for name, c := range h.links.want {
		fresh.links.Set(name, c)
	}
	n := h.count(func() {
		h.do(func() error {
			if w := fresh.links.Resync(); w != 0 {
				t.Errorf("%d writes", w)
			}
			return fresh.links.Prune()
		})
		h.do(func() error {
			_, err := Attach(context.Background(), Attachment{NetNS: a.Path(), Host: "calia", Addrs: addrA})
			return err
		})
	})
	if n != 0 {
		t.Errorf("%d notifications; want none", n)
	}
	if changed := h.router(); len(changed) != 0 {
		t.Errorf("changed again: %v", changed)
	}
}

// Addresses of the host that only one workload has need of come and go with
// Config.Host, and the gateways stay.
func TestHostAddresses(t *testing.T) {
	l := labtest.New(t)
	h := newServer(t, l)
	h.attach(labtest.Namespace(t, l, "a"), "calia", addrA)
	c := h.links.want["calia"]
	more := []netip.Addr{netip.MustParseAddr("192.0.2.254"), netip.MustParseAddr("2001:db8::254")}
	for _, host := range [][]netip.Addr{more, more[:1], more[1:], nil} {
		c.Host = host
		h.links.Set("calia", c)
		if st := h.sync("calia"); st.State != Ready || st.Writes == 0 {
			t.Errorf("%v: %+v", host, st)
		}
		if st := h.sync("calia"); st.Writes != 0 {
			t.Errorf("%v: %d writes a second time", host, st.Writes)
		}
		list, err := h.Addrs("calia")
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range more {
			if has := slices.Contains(list, netip.PrefixFrom(a, a.BitLen())); has != slices.Contains(host, a) {
				t.Errorf("%v: it has %v", host, list)
			}
		}
		if !slices.Contains(list, gateway4) || !slices.Contains(list, gateway6) {
			t.Errorf("%v: no gateways in %v", host, list)
		}
	}
}

func checkAddrs(t *testing.T, s *server, link string, want int) {
	t.Helper()
	list, err := s.Addrs(link)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(list, gateway4) || !slices.Contains(list, gateway6) || len(list) != want {
		t.Errorf("%s has %v; want both gateways and %d in all", link, list, want)
	}
}

// TestRepair tampers with everything and expects one Sync, brought about by a
// notification where the kernel gives one, to put it right.
func TestRepair(t *testing.T) {
	l := labtest.New(t)
	h := newServer(t, l)
	h.router()
	a := labtest.Namespace(t, l, "a")
	mac := h.attach(a, "calia", addrA).MAC
	serve(t, a)
	nl, err := h.Handle()
	if err != nil {
		t.Fatal(err)
	}
	link, err := nl.LinkByName("calia")
	if err != nil {
		t.Fatal(err)
	}
	entry := &netlink.Neigh{LinkIndex: link.Attrs().Index, IP: addrA[0].AsSlice(), Family: unix.AF_INET}
	var w *Watcher
	h.do(func() (err error) { w, err = h.links.Watch(); return err })
	reported := make(chan []string, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx, func(n []string) { reported <- n }) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for name, harm := range map[string]func() error{
		"address":        func() error { return h.DelAddr("calia", gateway4) },
		"IPv6 address":   func() error { return h.DelAddr("calia", gateway6) },
		"link down, up":  func() error { return errors.Join(h.LinkDown("calia"), h.LinkUp("calia")) },
		"neighbour gone": func() error { return nl.NeighDel(entry) },
		"IPv6 neighbour gone": func() error {
			return nl.NeighDel(&netlink.Neigh{LinkIndex: entry.LinkIndex, IP: addrA[1].AsSlice(), Family: unix.AF_INET6})
		},
		"neighbour moved": func() error {
			e := *entry
			e.State, e.HardwareAddr = unix.NUD_PERMANENT, net.HardwareAddr{2, 0, 0, 0, 0, 9}
			return nl.NeighSet(&e)
		},
		"forwarding":      func() error { return h.SetSysctl("net/ipv4/conf/calia/forwarding", "0") },
		"IPv6 forwarding": func() error { return h.SetSysctl("net/ipv6/conf/calia/forwarding", "0") },
		"rp_filter":       func() error { return h.SetSysctl("net/ipv4/conf/calia/rp_filter", "1") },
		"proxy_arp":       func() error { return h.SetSysctl("net/ipv4/conf/calia/proxy_arp", "1") },
		"what the kernel tells nobody": func() error {
			return errors.Join(h.SetSysctl("net/ipv4/conf/calia/route_localnet", "1"), h.SetSysctl("net/ipv6/conf/calia/accept_ra", "2"), h.SetSysctl("net/ipv6/conf/calia/accept_redirects", "1"))
		},
		"IPv6 disabled": func() error { return h.SetSysctl("net/ipv6/conf/calia/disable_ipv6", "1") },
	} {
		t.Run(name, func(t *testing.T) {
			if err := harm(); err != nil {
				t.Fatal(err)
			}
			for heard := false; !heard; {
				select {
				case names := <-reported:
					heard = names == nil || slices.Contains(names, "calia")
				case <-time.After(5 * time.Second):
					t.Fatal("nobody is told")
				}
			}
			// The notification may be of the first half of the harm.
			writes := 0
			labtest.Poll(t, 5*time.Second, func() error {
				st := h.sync("calia")
				if writes += st.Writes; st.State != Ready || st.Writes != 0 {
					return fmt.Errorf("%+v", st)
				}
				return nil
			})
			if writes == 0 {
				t.Error("nothing was repaired")
			}
			for _, s := range hostSettings {
				key := "net/" + strings.Replace(s.path, "IF", "calia", 1)
				if got, err := h.Sysctl(key); got != s.value {
					t.Errorf("%s = %q, %v; want %s", key, got, err, s.value)
				}
			}
			checkAddrs(t, h, "calia", 2)
			list, err := nl.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
			for _, a := range addrA {
				if err != nil || !slices.ContainsFunc(list, func(n netlink.Neigh) bool {
					return n.IP.Equal(a.AsSlice()) && n.State == unix.NUD_PERMANENT && n.HardwareAddr.String() == mac.String()
				}) {
					t.Errorf("neighbours %v, %v", list, err)
				}
			}
			for len(reported) > 0 {
				<-reported
			}
		})
	}
}

// TestInterfaceComesAndGoes: the endpoint may be there before the interface,
// and the interface may be replaced by another of the same name.
func TestInterfaceComesAndGoes(t *testing.T) {
	l := labtest.New(t)
	h := newServer(t, l)
	h.router()
	a, b := labtest.Namespace(t, l, "a"), labtest.Namespace(t, l, "b")
	var w *Watcher
	h.do(func() (err error) { w, err = h.links.Watch(); return err })
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan []string, 1000)
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx, func(n []string) { changed <- n }) }()
	defer func() { cancel(); <-done }()

	h.links.Set("calib", Config{Addrs: addrB})
	if st := h.sync("calib"); st.State != Absent || st.Err != nil {
		t.Fatalf("%+v", st)
	}
	// until syncs whatever is reported until the state is reached.
	until := func(want State) Status {
		t.Helper()
		for {
			if st := h.links.Status("calib"); st.State == want {
				return st
			}
			select {
			case names := <-changed:
				if slices.Contains(names, "calib") {
					h.sync("calib")
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("not %s: %+v", want, h.links.Status("calib"))
			}
		}
	}
	veth := func(n *lab.Namespace) {
		t.Helper()
		if err := lab.Veth(lab.End{NS: h.Namespace, Name: "calib"}, lab.End{NS: n, Name: "eth0"}); err != nil {
			t.Fatal(err)
		}
	}
	veth(a)
	first := until(Ready)
	checkAddrs(t, h, "calib", 3)
	if err := a.LinkDown("eth0"); err != nil {
		t.Fatal(err)
	}
	until(Down)
	if err := h.DeleteLink("calib"); err != nil {
		t.Fatal(err)
	}
	until(Absent)
	veth(b)
	if second := until(Ready); second.Index == first.Index {
		t.Errorf("%+v and %+v", first, second)
	}
	checkAddrs(t, h, "calib", 3)
	if err := h.RenameLink("calib", "calic"); err != nil {
		t.Fatal(err)
	}
	until(Absent)
	if err := h.RenameLink("calic", "calib"); err != nil {
		t.Fatal(err)
	}
	until(Ready)

	h.do(func() error { return h.links.Remove("calib") })
	list, _ := h.Addrs("calib")
	if len(list) != 1 { // the kernel's link-local is not ours to remove
		t.Errorf("after Remove: %v", list)
	}
}

func TestPruneClearsOnlyOurs(t *testing.T) {
	l := labtest.New(t)
	h := newServer(t, l)
	a := labtest.Namespace(t, l, "a")
	h.attach(a, "calia", addrA)
	foreign := netip.MustParsePrefix("169.254.1.1/32")
	if err := lab.Veth(lab.End{NS: h.Namespace, Name: "cali9"}, lab.End{NS: h.Namespace, Name: "x9"}); err != nil {
		t.Fatal(err)
	}
	if err := h.AddAddr("cali9", foreign); err != nil {
		t.Fatal(err)
	}
	process := netip.MustParseAddr("10.65.9.9") // of this server: on lo, and ours
	h.do(func() error {
		_, _, err := SyncLoopback(nil, []netip.Addr{process})
		return err
	})
	h.do(func() error {
		fresh, err := Open(h.links.opts)
		if err != nil {
			return err
		}
		defer fresh.Close()
		return fresh.Prune()
	})
	if list, _ := h.Addrs("lo"); !slices.Contains(list, netip.PrefixFrom(process, 32)) {
		t.Errorf("the address of a process is gone from lo: %v", list)
	}
	if list, _ := h.Addrs("calia"); slices.Contains(list, gateway4) {
		t.Errorf("what an earlier process left is still there: %v", list)
	}
	if list, _ := h.Addrs("cali9"); !slices.Contains(list, foreign) {
		t.Errorf("a foreign address is gone: %v", list)
	}
	nl, _ := h.Handle()
	link, _ := nl.LinkByName("calia")
	n, _ := nl.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
	for _, e := range n {
		if e.State == unix.NUD_PERMANENT {
			t.Errorf("neighbour left: %v", e)
		}
	}
}

func TestD03_RefusedLinks(t *testing.T) {
	l := labtest.New(t)
	h := newServer(t, l)
	if err := lab.Veth(lab.End{NS: h.Namespace, Name: "cali-up"}, lab.End{NS: h.Namespace, Name: "eth1"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cali-up", "eth1", "lo", "../../x", "cali%d"} {
		h.links.Set(name, Config{Addrs: addrA, HasMAC: true})
		if st := h.sync(name); st.State != Failed || !errors.Is(st.Err, ErrRefused) || st.Writes != 0 {
			t.Errorf("%s: %+v", name, st)
		}
		h.do(func() error { return h.links.Remove(name) })
	}
	for _, name := range []string{"cali-up", "eth1", "lo"} {
		if list, _ := h.Addrs(name); slices.Contains(list, gateway4) {
			t.Errorf("%s has %v", name, list)
		}
	}
}

// TestD03_EnslavedLinks: packets of a bridge's port belong to the bridge, so
// that a route to the port would be a lie. Freed, the interface is as good as
// any other.
func TestD03_EnslavedLinks(t *testing.T) {
	l := labtest.New(t)
	h := newServer(t, l)
	nl, err := h.Handle()
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Veth(lab.End{NS: h.Namespace, Name: "cali1"}, lab.End{NS: labtest.Namespace(t, l, "a"), Name: "eth0"}); err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := nl.LinkAdd(bridge); err != nil {
		t.Fatal(err)
	}
	port, err := nl.LinkByName("cali1")
	if err != nil {
		t.Fatal(err)
	}
	if err := nl.LinkSetMaster(port, bridge); err != nil {
		t.Fatal(err)
	}
	h.links.Set("cali1", Config{Addrs: addrA, HasMAC: true, MAC: [6]byte{2, 0, 0, 0, 0, 1}})
	if st := h.sync("cali1"); st.State != Failed || !errors.Is(st.Err, ErrRefused) || st.Writes != 0 {
		t.Errorf("a bridge's port: %+v; want it refused and nothing written", st)
	}
	if list, _ := h.Addrs("cali1"); slices.Contains(list, gateway4) {
		t.Errorf("a bridge's port has %v", list)
	}
	if err := nl.LinkSetNoMaster(port); err != nil {
		t.Fatal(err)
	}
	if st := h.sync("cali1"); st.State != Ready || st.Err != nil || st.Writes == 0 {
		t.Errorf("freed: %+v", st)
	}
}

// TestHostKeepsItsRouterAdvertisements: becoming a router must not cost the
// host the route that it has from an advertisement.
func TestHostKeepsItsRouterAdvertisements(t *testing.T) {
	l := labtest.New(t)
	h := labtest.Namespace(t, l, "host")
	s := &server{Namespace: h, t: t}
	for _, pair := range [][2]string{{"up0", "x0"}, {"up1", "x1"}, {"cali5", "x5"}} {
		if err := lab.Veth(lab.End{NS: h, Name: pair[0]}, lab.End{NS: h, Name: pair[1]}); err != nil {
			t.Fatal(err)
		}
	}
	// The test's kernel may have been told otherwise for new namespaces.
	for _, kv := range []string{"all/forwarding 0", "up0/accept_ra 1", "up1/accept_ra 0", "cali5/accept_ra 1"} {
		k, v, _ := strings.Cut(kv, " ")
		if err := h.SetSysctl("net/ipv6/conf/"+k, v); err != nil {
			t.Fatal(err)
		}
	}
	s.router()
	for key, want := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/default/forwarding": "1",
		"net/ipv6/conf/up0/accept_ra": "2", "net/ipv6/conf/up1/accept_ra": "0", "net/ipv6/conf/cali5/accept_ra": "1",
	} {
		if got, err := h.Sysctl(key); got != want {
			t.Errorf("%s = %q, %v; want %s", key, got, err, want)
		}
	}
	if changed := s.router(); len(changed) != 0 {
		t.Errorf("changed again: %v", changed)
	}
}

func BenchmarkSync(b *testing.B) {
	labtest.Require(b)
	l := labtest.New(b)
	ns := labtest.Namespace(b, l, "host")
	err := ns.Do(func() error {
		links, err := Open(Options{Log: slog.New(slog.DiscardHandler), Prefixes: []string{"cali"}})
		if err != nil {
			return err
		}
		defer links.Close()
		h, err := ns.Handle()
		if err != nil {
			return err
		}
		for i := range 100 {
			at := netlink.NewLinkAttrs()
			at.Name = fmt.Sprint("cali", i)
			if err := h.LinkAdd(&netlink.Veth{LinkAttrs: at, PeerName: fmt.Sprint("peer", i)}); err != nil {
				return err
			}
			links.Set(at.Name, Config{Addrs: addrA, MAC: [6]byte{2, 0, 0, 0, 0, byte(i)}, HasMAC: true})
		}
		links.Resync()
		b.ReportAllocs()
		for b.Loop() {
			if n := links.Resync(); n != 0 {
				return fmt.Errorf("%d writes", n)
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/100, "µs/link")
}

// TestOneRefusedAmongMany: changes go to the kernel many at a time, and what it refuses
// is named and keeps none of the others from being made.
func TestOneRefusedAmongMany(t *testing.T) {
	s := newServer(t, labtest.New(t))
	if err := lab.Veth(lab.End{NS: s.Namespace, Name: "cali1"}, lab.End{NS: s.Namespace, Name: "peer1"}); err != nil {
		t.Fatal(err)
	}
	s.do(func() error {
		k, err := s.links.wire.link("cali1")
		if err != nil {
			return err
		}
		const n = atOnce + 10
		addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 65, byte(i >> 8), byte(i)}) }
		var changes []change
		for i := range n {
			index := k.index
			if i == 5 {
				index = 1 << 20 // there is no such interface
			}
			changes = append(changes, s.links.wire.setNeighbour(index, addr(i), [6]byte{2}))
		}
		changes = append(changes, s.links.wire.delNeighbour(k.index, addr(n))) // is not there
		if err := s.links.wire.write(changes...); !gone(err) || err.Error() != "set neighbour 10.65.0.5: no such device" {
			t.Errorf("the error is %v", err)
		}
		list, err := s.links.wire.neighbours(k.index)
		if len(list) != n-1 {
			t.Errorf("%d neighbours are there, want %d", len(list), n-1)
		}
		return err
	})
}

// BenchmarkSyncNew is the first look at an interface that has just come, among others.
func BenchmarkSyncNew(b *testing.B) {
	labtest.Require(b)
	ns := labtest.Namespace(b, labtest.New(b), "host")
	err := ns.Do(func() error {
		links, err := Open(Options{Log: slog.New(slog.DiscardHandler), Prefixes: []string{"cali"}})
		if err != nil {
			return err
		}
		defer links.Close()
		h, err := ns.Handle()
		if err != nil {
			return err
		}
		add := func(name string) (*netlink.Veth, error) {
			veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "x" + name}
			veth.Name = name
			links.Set(name, Config{Addrs: addrA, MAC: [6]byte{2, 0, 0, 0, 0, 1}, HasMAC: true})
			if err := h.LinkAdd(veth); err != nil {
				return nil, err
			}
			return veth, errors.Join(h.LinkSetUp(veth), h.LinkSetUp(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: veth.PeerName}}))
		}
		for i := range 200 {
			if _, err := add(fmt.Sprint("cali", i)); err != nil {
				return err
			}
		}
		links.Resync()
		for b.Loop() {
			b.StopTimer()
			veth, err := add("cali-new")
			if err != nil {
				return err
			}
			b.StartTimer()
			st := links.Sync("cali-new")
			b.StopTimer()
			if st.Err != nil || st.Writes == 0 {
				return fmt.Errorf("%+v", st)
			}
			if err := h.LinkDel(veth); err != nil {
				return err
			}
			b.StartTimer()
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
