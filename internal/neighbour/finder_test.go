// SPDX-License-Identifier: Apache-2.0

package neighbour

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// place is a network namespace with ends of links.
type place struct{ ns netns.NsHandle }

// in runs fn on a thread inside.
func (p place) in(fn func() error) error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := netns.Set(p.ns); err != nil {
			errc <- err
			return
		}
		errc <- fn()
	}()
	return <-errc
}

func newPlace(t *testing.T) place {
	t.Helper()
	var p place
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		var err error
		p.ns, err = netns.New()
		errc <- err
	}()
	if err := <-errc; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.ns.Close() })
	return p
}

// join makes a link between two places, with an end of that name in each, and
// returns both as a finder wants them.
func join(t *testing.T, a, b place, name string) (atA, atB Link) {
	t.Helper()
	err := a.in(func() error {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(b.ns)}
		return netlink.LinkAdd(v)
	})
	if err != nil {
		t.Fatal(err)
	}
	end := func(p place, addr string) (l Link) {
		err := p.in(func() error {
			v, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			ip, _ := netlink.ParseAddr(addr + "/64")
			ip.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(v, ip); err != nil {
				return err
			}
			l = Link{Name: name, Index: v.Attrs().Index, Addr: netip.MustParseAddr(addr), MAC: [6]byte(v.Attrs().HardwareAddr)}
			return netlink.LinkSetUp(v)
		})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	return end(a, "fe80::1"), end(b, "fe80::2")
}

// finder runs one in a place.
func finder(t *testing.T, p place, changed *atomic.Int32) *Finder {
	f := New(Options{Log: slog.New(slog.DiscardHandler), Within: p.in, Changed: func() { changed.Add(1) }})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}

// Two routers on two links find each other on each, whoever comes first; a link
// that goes is forgotten; and nothing is told twice.
func TestFinder(t *testing.T) {
	labtest.Require(t)
	here, there := newPlace(t), newPlace(t)
	a1, b1 := join(t, here, there, "l1")
	a2, b2 := join(t, here, there, "l2")
	var news [2]atomic.Int32
	a, b := finder(t, here, &news[0]), finder(t, there, &news[1])
	sees := func(f *Finder, want ...string) func() bool {
		return func() bool {
			var got []string
			for _, n := range f.Found() {
				got = append(got, fmt.Sprint(n.Name, " ", n.Neighbour))
			}
			return slices.Equal(got, want)
		}
	}
	a.Set([]Link{a1, a2})
	eventually(t, "nobody", sees(a, "l1 invalid IP", "l2 invalid IP"))
	b.Set([]Link{b1, b2})
	eventually(t, "both at a", sees(a, "l1 fe80::2%l1", "l2 fe80::2%l2"))
	eventually(t, "both at b", sees(b, "l1 fe80::1%l1", "l2 fe80::1%l2"))
	told := news[0].Load()
	if told == 0 || told > 3 || news[1].Load() == 0 {
		t.Errorf("told %d times, %d times", told, news[1].Load())
	}
	a.Set([]Link{a1, a2}) // the same
	time.Sleep(100 * time.Millisecond)
	if news[0].Load() != told {
		t.Error("no news is told")
	}
	down := a1
	down.Down = "is down"
	a.Set([]Link{down, a2})
	eventually(t, "one link less", sees(a, "l1 invalid IP", "l2 fe80::2%l2"))
	a.Set([]Link{a1, a2})
	eventually(t, "it is back", sees(a, "l1 fe80::2%l1", "l2 fe80::2%l2"))
	a.Set(nil)
	eventually(t, "none is left", sees(a))
}

// What comes from another link, with a hop limit below 255, makes nobody a neighbour.
func TestFinder_HopLimit(t *testing.T) {
	labtest.Require(t)
	here, there := newPlace(t), newPlace(t)
	a1, b1 := join(t, here, there, "l1")
	var news atomic.Int32
	a := finder(t, here, &news)
	a.Set([]Link{a1})
	eventually(t, "it looks", func() bool { return len(a.Found()) == 1 })
	send := func(hops int) {
		s, err := open(there.in)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		if err := s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, hops) }); err != nil {
			t.Fatal(err)
		}
		s.send(advertisement(b1.MAC), allNodes, &link{Link: b1})
	}
	// It was there before the one that counts, and has not counted.
	for range 5 {
		send(254)
	}
	if n := a.Found()[0].Neighbour; n.IsValid() {
		t.Fatal(n)
	}
	other := b1
	other.Addr = netip.MustParseAddr("fe80::3")
	err := there.in(func() error {
		v, err := netlink.LinkByName("l1")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(v, &netlink.Addr{IPNet: &net.IPNet{IP: other.Addr.AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD})
	})
	if err != nil {
		t.Fatal(err)
	}
	b1 = other
	send(255)
	eventually(t, "the neighbour", func() bool { return a.Found()[0].Neighbour == netip.MustParseAddr("fe80::3%l1") })
}

// What a router does that hears and asks: a socket that cannot be had is tried again, a
// question is answered, an address of ours that is new is told, and a second router is news.
func TestFinder_Router(t *testing.T) {
	t.Parallel()
	labtest.Require(t)
	here, there := newPlace(t), newPlace(t)
	a1, b1 := join(t, here, there, "l1")
	second := netip.MustParseAddr("fe80::3")
	add := func(p place, a netip.Addr) {
		t.Helper()
		err := p.in(func() error {
			v, err := netlink.LinkByName("l1")
			if err != nil {
				return err
			}
			return netlink.AddrAdd(v, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	add(there, second)
	s, err := open(there.in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	// advertised waits for an advertisement, and returns who sent it and after how long.
	advertised := func() (netip.Addr, time.Duration) {
		t.Helper()
		begin := time.Now()
		for {
			select {
			case m := <-s.arrivals:
				if m.message[0] == typeAdvertisement {
					return m.from, time.Since(begin)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("no advertisement")
			}
		}
	}
	var tries, news atomic.Int32
	f := New(Options{Log: slog.New(slog.DiscardHandler), Changed: func() { news.Add(1) }, Within: func(fn func() error) error {
		if tries.Add(1) == 1 {
			return unix.EMFILE
		}
		return here.in(fn)
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = f.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	f.Set([]Link{a1})
	for range firstOnes {
		if from, _ := advertised(); from != a1.Addr {
			t.Errorf("from %s", from)
		}
	}
	// Then it would be silent for long.
	s.send(solicitation(b1.MAC), allRouters, &link{Link: b1})
	if _, took := advertised(); took > every/2 {
		t.Errorf("a question was answered after %v", took)
	}
	a1.Addr = netip.MustParseAddr("fe80::4")
	add(here, a1.Addr)
	f.Set([]Link{a1})
	if from, took := advertised(); from != a1.Addr || took > every/2 {
		t.Errorf("the new address was told by %s after %v", from, took)
	}
	s.send(advertisement(b1.MAC), allNodes, &link{Link: b1})
	eventually(t, "a neighbour", func() bool { return f.Found()[0].Neighbour == b1.Addr.WithZone("l1") })
	told := news.Load()
	b2 := b1
	b2.Addr = second
	s.send(advertisement(b2.MAC), allNodes, &link{Link: b2})
	eventually(t, "a second one is news", func() bool { return news.Load() > told && f.Found()[0].Second == second.WithZone("l1") })
}

// A link that comes back: who is there is asked at once, and hears of us when it has had
// time to see that the link is up, and no later than a second after that.
func TestFinder_LinkComesBack(t *testing.T) {
	t.Parallel()
	labtest.Require(t)
	here, there := newPlace(t), newPlace(t)
	a1, b1 := join(t, here, there, "l1")
	s, err := open(there.in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	s.join(b1.Index)
	heard := func(typ byte) time.Time {
		t.Helper()
		limit := time.After(20 * time.Second)
		for {
			select {
			case m := <-s.arrivals:
				if m.message[0] == typ && m.from == a1.Addr {
					return time.Now()
				}
			case <-limit:
				t.Fatalf("no message of type %d", typ)
			}
		}
	}
	running := func() bool {
		up := true
		for _, p := range []place{here, there} {
			err := p.in(func() error {
				l, err := netlink.LinkByName("l1")
				if err == nil {
					up = up && l.Attrs().OperState == netlink.OperUp
				}
				return err
			})
			up = up && err == nil
		}
		return up
	}
	set := func(fn func(netlink.Link) error) {
		t.Helper()
		if err := there.in(func() error {
			l, err := netlink.LinkByName("l1")
			if err != nil {
				return err
			}
			return fn(l)
		}); err != nil {
			t.Fatal(err)
		}
	}
	var news atomic.Int32
	f := finder(t, here, &news)
	f.Set([]Link{a1})
	heard(typeAdvertisement)

	set(netlink.LinkSetDown)
	eventually(t, "no carrier", func() bool { return !running() })
	down := a1
	down.Down = "has no carrier"
	f.Set([]Link{down})
	eventually(t, "it knows", func() bool { l := f.Found(); return l[0].Down != "" })
	set(netlink.LinkSetUp)
	eventually(t, "a carrier", running)
	back := time.Now()
	f.Set([]Link{a1})
	if took := heard(typeSolicitation).Sub(back); took > settle*3/4 {
		t.Errorf("a question after %v", took)
	}
	if took := heard(typeAdvertisement).Sub(back); took < settle || took > settle+time.Second {
		t.Errorf("an advertisement after %v, with %v to settle", took, settle)
	}
}
