// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// A peer on a port that is down is not called by another port: it would know the address there as that of another session.
// Whoever is on no link is called from what the kernel chooses.
func TestDial_FromThePeersLink(t *testing.T) {
	x := labtest.New(t)
	a, b := labtest.Namespace(t, x, "a"), labtest.Namespace(t, x, "b")
	do := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	// on is an address of one end on a port: of the loopback interface for the third.
	on := func(is6 bool, port, end string) netip.Addr {
		if is6 {
			return netip.MustParseAddr("fd00:" + port + "::" + end)
		}
		return netip.MustParseAddr("10.0." + port + "." + end)
	}
	for _, n := range []*lab.Namespace{a, b} {
		for _, key := range []string{"net/ipv4/conf/default/ignore_routes_with_linkdown", "net/ipv6/conf/default/ignore_routes_with_linkdown", "net/ipv6/conf/all/keep_addr_on_down"} {
			do(n.SetSysctl(key, "1"))
		}
	}
	for _, port := range []string{"1", "2"} {
		do(lab.Veth(lab.End{NS: a, Name: "eth" + port}, lab.End{NS: b, Name: "cable" + port}),
			b.AddBridge("eth"+port), b.Enslave("cable"+port, "eth"+port)) // so that b is there when the cable is not
		for _, is6 := range []bool{false, true} {
			do(a.AddAddr("eth"+port, netip.PrefixFrom(on(is6, port, "1"), on(is6, port, "1").BitLen()-8)), b.AddAddr("eth"+port, netip.PrefixFrom(on(is6, port, "2"), on(is6, port, "2").BitLen()-8)))
		}
	}
	do(a.AddAddr("eth2", netip.MustParsePrefix("10.0.2.9/24"))) // which the kernel does not choose
	for _, is6 := range []bool{false, true} {
		all, gateway := netip.PrefixFrom(netip.IPv4Unspecified(), 0), on(is6, "1", "2")
		if is6 {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		do(a.AddRoute(all, gateway, "eth1"), b.AddLocal(on(is6, "3", "2")))
	}
	// from is where a connection comes from that is made to an address; invalid if none is.
	from := func(to netip.Addr) (source netip.Addr) {
		t.Helper()
		var l net.Listener
		do(b.Do(func() (err error) { l, err = net.Listen("tcp", netip.AddrPortFrom(to, 0).String()); return err }))
		defer l.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_ = a.Do(func() error {
			c, err := dialTCP(ctx, PeerConfig{Addr: l.Addr().(*net.TCPAddr).AddrPort()}, maxTTL)
			if err == nil {
				source = addrPortOf(c.LocalAddr()).Addr()
				c.Close()
			}
			return err
		})
		return source
	}
	want := func(is6 bool, port string, source netip.Addr) {
		t.Helper()
		to := on(is6, port, "2")
		if got := from(to); got != source {
			t.Errorf("%s is called from %v, want %v", to, got, source)
		}
	}
	for _, is6 := range []bool{false, true} {
		want(is6, "1", on(is6, "1", "1"))
		want(is6, "2", on(is6, "2", "1"))
		want(is6, "3", on(is6, "1", "1"))
	}
	do(b.LinkDown("cable2"))
	for _, is6 := range []bool{false, true} {
		want(is6, "1", on(is6, "1", "1"))
		want(is6, "2", netip.Addr{})
		want(is6, "3", on(is6, "1", "1"))
	}
}
