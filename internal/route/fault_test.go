// SPDX-License-Identifier: Apache-2.0

package route

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// bulk makes n routes that share four sets of next hops.
func bulk(n int, proto string) []Route {
	hops := []Hops{
		HopsOf(netip.MustParseAddr("10.0.0.2")), HopsOf(netip.MustParseAddr("10.0.0.3")),
		HopsOf(netip.MustParseAddr("10.0.1.2")), HopsOf(netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.1.2")),
	}
	base := uint32(10<<24 | 128<<16)
	if proto == "other" {
		base = 11 << 24
	}
	out := make([]Route, n)
	for i := range out {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], base+uint32(i))
		out[i] = Route{Prefix: netip.PrefixFrom(netip.AddrFrom4(a), 32), Kind: Via, Hops: hops[i%len(hops)]}
	}
	return out
}

// overrun has the kernel lose notifications: nobody reads them yet, and the buffer is so
// small that few routes fill it.
func (h *host) overrun() {
	h.t.Helper()
	raw, err := h.tab.events.file.SyscallConn()
	h.must(err)
	h.must(raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10)
	}))
	h.must(err)
	other, err := Open(Options{Inside: h.ns.Do, Protocol: 99})
	h.must(err)
	defer other.Close()
	h.must(other.Replace("bgp", bulk(2000, "other")))
	if r, err := other.Apply(); err != nil || r.Added != 2000 {
		h.t.Fatal(r, err)
	}
}

// N01: the kernel loses notifications, says so once, and everything is read anew.
func TestN01_Overrun(t *testing.T) {
	h := newHost(t)
	before := h.tamperBase()
	h.overrun()
	h.must(h.ns.DelRoute(pfx("10.65.0.2/32"), ""))
	h.must(h.ns.DelRoute(pfx("fd66::/122"), ""))
	h.watch()
	took := h.repaired(before, "an overrun")
	c := h.tab.counted()
	if c.overruns != 1 || c.resyncs != 2 {
		t.Errorf("counters %+v, want one overrun and one more resync", c)
	}
	t.Logf("2000 foreign routes unread: %d overrun, repaired %v after the reader came back", c.overruns, took)
	h.settled()
	h.must(h.ns.DelRoute(pfx("10.65.0.2/32"), "")) // notifications work again
	h.repaired(before, "a deletion after the overrun")
	if n := h.tab.counted().resyncs; n != 2 {
		t.Errorf("%d resyncs, want 2", n)
	}
}

// N01: after an overrun the kernel delivers nothing until all that waits is read. What
// changes after everything was read anew must be heard of nevertheless.
func TestN01_OverrunUnread(t *testing.T) {
	h := newHost(t)
	before := h.tamperBase()
	h.overrun()
	ctx, cancel := context.WithCancel(context.Background())
	done, heard := make(chan error, 1), make(chan struct{}, 100)
	first := true
	go func() {
		done <- h.tab.Watch(ctx, func() {
			if first { // the reader stands still while everything is read, and something changes after it
				first = false
				_, err := h.tab.Apply()
				h.must(err)
				h.must(h.ns.DelRoute(pfx("10.65.0.2/32"), ""))
			}
			heard <- struct{}{}
		})
	}()
	labtest.Poll(t, 5*time.Second, func() error {
		select {
		case <-heard:
			_, err := h.tab.Apply()
			h.must(err)
		default:
		}
		if got := h.exact(); !slices.Equal(got, before) || first {
			return fmt.Errorf("the kernel has %v, want %v", got, before)
		}
		return nil
	})
	cancel()
	h.must(<-done)
}

// N02: the table changes while it is read. Whatever the dump met or missed,
// nothing wrong is written and the end is exact.
func TestN02_ChangesDuringDump(t *testing.T) {
	h := newHost(t)
	h.replace("bgp", bulk(5000, "")...)
	h.complete()
	h.apply()
	before := h.exact()
	other, err := Open(Options{Inside: h.ns.Do, Protocol: 99})
	h.must(err)
	defer other.Close()
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		var err error
		for i := 0; err == nil; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			err = other.Replace("bgp", bulk(100*(i%2), "other"))
			if err == nil {
				_, err = other.Apply()
			}
		}
		<-stop
		done <- err
	}()
	for range 20 {
		if r := h.resync(); r.Failed != 0 || r.Deleted != 0 {
			t.Errorf("Resync: %+v", r)
		}
	}
	close(stop)
	h.must(<-done)
	if r := h.resync(); r != (Result{}) {
		t.Errorf("in the end: %+v", r)
	}
	if !slices.Equal(h.exact(), before) {
		t.Error("ours changed")
	}
}

// A dump that is interrupted every time changes nothing.
func TestN02_PartialDumpIsNotActedOn(t *testing.T) {
	h := newHost(t)
	before := h.tamperBase()
	calls := 0
	h.tab.conn.fault = func(call string) error {
		if calls++; call == "receive" && calls > 3 { // after the links, in the middle of routes
			return unix.ENOBUFS
		}
		return nil
	}
	if r, err := h.tab.Resync(); err == nil || r != (Result{}) {
		t.Errorf("Resync: %+v, %v", r, err)
	}
	h.tab.conn.fault = nil
	if !slices.Equal(h.exact(), before) {
		t.Error("the kernel's table changed")
	}
	if r := h.apply(); r != (Result{}) {
		t.Errorf("afterwards: %+v", r)
	}
}

// N03: one call in ten fails; the socket is replaced and the end is exact.
func TestN03_SocketErrors(t *testing.T) {
	h := newHost(t)
	rng := rand.New(rand.NewPCG(1, 2))
	errnos := []error{unix.EBADF, unix.ECONNRESET, unix.ENOBUFS, unix.ENOMEM}
	failures := 0
	h.tab.conn.fault = func(string) error {
		if rng.IntN(10) == 0 {
			failures++
			return errnos[failures%len(errnos)]
		}
		return nil
	}
	h.complete()
	goroutines := runtime.NumGoroutine()
	all := bulk(400, "")
	for i := range 60 {
		h.must(h.tab.Replace("bgp", all[:rng.IntN(len(all))]))
		for try := 0; ; try++ {
			if _, err := h.tab.Apply(); err == nil {
				break
			} else if try == 20 {
				t.Fatalf("round %d: %v", i, err)
			}
		}
		if c := h.tab.Count(); c.Installed != c.Wanted || c.Other != 0 {
			t.Fatalf("round %d: %+v", i, c)
		}
	}
	h.tab.conn.fault = nil
	if r := h.resync(); r != (Result{}) {
		t.Errorf("in the end: %+v", r)
	}
	if got, c := len(h.kernel(true)), h.tab.Count(); got != c.Wanted {
		t.Errorf("kernel has %d routes, want %d", got, c.Wanted)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, before %d", n, goroutines)
	}
	c := h.tab.counted()
	t.Logf("%d injected failures, %d reconnects, %d resyncs", failures, c.reconnects, c.resyncs)
	if failures == 0 || c.reconnects == 0 {
		t.Error("nothing was injected")
	}
}

// N03: a broken notification socket is replaced, and what was missed is found.
func TestN03_NotificationSocketBreaks(t *testing.T) {
	h := newHost(t)
	before := h.tamperBase()
	h.watch()
	h.must(h.ns.DelRoute(pfx("10.65.0.2/32"), ""))
	h.repaired(before, "a deletion")
	h.must(h.tab.reopen()) // as after an error
	h.must(h.ns.DelRoute(pfx("10.65.0.2/32"), ""))
	// The reader waits on the old file, whose closing wakes it.
	start := time.Now()
	labtest.Poll(t, time.Second, func() error {
		if !slices.Equal(h.exact(), before) {
			return fmt.Errorf("not repaired")
		}
		return nil
	})
	t.Logf("repaired %v after the socket broke", time.Since(start))
}

// Close ends Watch, and nothing opens sockets again.
func TestClose(t *testing.T) {
	h := newHost(t)
	h.tamperBase()
	before := h.exact()
	done := make(chan error)
	go func() { done <- h.tab.Watch(t.Context(), func() {}) }()
	for range 2 {
		h.must(h.tab.Close())
	}
	h.must(<-done)
	h.must(h.tab.Watch(t.Context(), func() {}))
	if _, err := h.tab.Apply(); err == nil {
		t.Error("Apply of a closed table succeeds")
	}
	if _, err := h.tab.Resync(); err == nil {
		t.Error("Resync of a closed table succeeds")
	}
	if !slices.Equal(h.exact(), before) {
		t.Error("Close changed the kernel's table")
	}
}

// Other processes' batches must not be taken for our own, nor ours for theirs.
func TestOwnChangesAreNotHeard(t *testing.T) {
	h := newHost(t)
	h.watch()
	h.replace("bgp", bulk(3000, "")...)
	h.complete()
	h.apply()
	h.replace("bgp")
	h.apply()
	h.must(h.ns.SetSysctl("net/ipv4/ip_forward", "1"))
	h.must(h.ns.AddRoute(pfx("192.0.2.0/24"), netip.MustParseAddr("10.0.0.9"), "")) // a marker: this is heard
	labtest.Poll(t, time.Second, func() error {
		if h.notified.Load() == 0 {
			return fmt.Errorf("the marker was not heard")
		}
		return nil
	})
	h.settled()
	if n := h.notified.Load(); n > 2 {
		t.Errorf("notified %d times", n)
	}
	if c := h.tab.counted(); c.overruns != 0 || c.resyncs != 1 {
		t.Errorf("counters %+v", c)
	}
}
