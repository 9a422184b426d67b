// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

func TestAttachThatFailsLeavesNothing(t *testing.T) {
	l := labtest.New(t)
	h := newServer(t, l)
	a := labtest.Namespace(t, l, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // noticed when the pair is there
	h.do(func() error {
		if _, err := Attach(ctx, Attachment{NetNS: a.Path(), Host: "calia", Addrs: addrA}); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})
	if links, _ := h.Links(); slices.Contains(links, "calia") {
		t.Errorf("host has %v", links)
	}
	if links, _ := a.Links(); slices.Contains(links, "eth0") {
		t.Errorf("namespace has %v", links)
	}
}

// advertisement returns an Ethernet frame with a router advertisement (RFC
// 4861, section 4.2) that offers a default route and a prefix.
func advertisement() []byte {
	src, dst := netip.MustParseAddr("fe80::bad").As16(), netip.MustParseAddr("ff02::1").As16()
	prefix := netip.MustParseAddr("2001:db8:bad::").As16()
	be := binary.BigEndian
	icmp := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0} // lifetime 1800 s
	icmp = append(icmp, 3, 4, 64, 0xc0)                               // prefix information, on link and autonomous
	icmp = append(icmp, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	icmp = append(icmp, prefix[:]...)
	sum := uint32(len(icmp)) + unix.IPPROTO_ICMPV6
	for _, part := range [][]byte{src[:], dst[:], icmp} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(be.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	be.PutUint16(icmp[2:], ^uint16(sum))
	frame := []byte{0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(icmp)), unix.IPPROTO_ICMPV6, 255}
	return slices.Concat(frame, src[:], dst[:], icmp)
}

// TestS08_AdvertisementsFromTheFirstMoment floods the host with router
// advertisements from before the interface exists. A plain pair, which believes
// them, shows that they are good ones.
func TestS08_AdvertisementsFromTheFirstMoment(t *testing.T) {
	l := labtest.New(t)
	h := newServer(t, l)
	a, b := labtest.Namespace(t, l, "a"), labtest.Namespace(t, l, "b")
	for _, kv := range [][2]string{{"all/forwarding", "0"}, {"default/forwarding", "0"}, {"default/accept_ra", "2"}} {
		if err := h.SetSysctl("net/ipv6/conf/"+kv[0], kv[1]); err != nil {
			t.Fatal(err)
		}
	}
	nl, err := h.Handle()
	if err != nil {
		t.Fatal(err)
	}
	believed := func(name string) bool {
		list, _ := h.Addrs(name)
		return slices.ContainsFunc(list, func(p netip.Prefix) bool {
			return netip.MustParsePrefix("2001:db8:bad::/64").Contains(p.Addr())
		})
	}
	// flood sends on eth0, from the moment it is up, until it has sent so many
	// or the reader has seen enough. One socket serves all of it.
	flood := func(n *lab.Namespace, frames int, enough func() bool) error {
		return n.Do(func() error {
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			to := &unix.SockaddrLinklayer{}
			end := time.Now().Add(10 * time.Second)
			for sent := 0; sent < frames && !enough(); {
				if time.Now().After(end) {
					return fmt.Errorf("%d frames sent in 10 s", sent)
				}
				if to.Ifindex == 0 {
					to.Ifindex, _ = n.LinkIndex("eth0")
				}
				if to.Ifindex != 0 && unix.Sendto(fd, advertisement(), 0, to) == nil {
					sent++
				} else {
					time.Sleep(20 * time.Microsecond)
				}
			}
			return nil
		})
	}
	if err := lab.Veth(lab.End{NS: h.Namespace, Name: "plain"}, lab.End{NS: b, Name: "eth0"}); err != nil {
		t.Fatal(err)
	}
	if err := flood(b, 1<<30, func() bool { return believed("plain") }); err != nil {
		t.Fatalf("the advertisements of this test are not believed by anybody: %v", err)
	}
	for range 5 {
		done := make(chan error, 1)
		go func() { done <- flood(a, 1000, func() bool { return false }) }()
		h.do(func() error {
			_, err := Attach(t.Context(), Attachment{NetNS: a.Path(), Host: "calia", Addrs: addrA})
			return err
		})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if believed("calia") {
			t.Error("the host has an address from the workload's advertisement")
		}
		link, err := nl.LinkByName("calia")
		if err != nil {
			t.Fatal(err)
		}
		routes, err := nl.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
		for _, r := range routes {
			if r.Gw != nil {
				t.Errorf("the host has a route from the workload's advertisement: %v", r)
			}
		}
		if err != nil {
			t.Error(err)
		}
		h.do(func() error { return Detach("calia", addrA) })
	}
}

func TestAttachIsIdempotentAndDetachTolerant(t *testing.T) {
	l := labtest.New(t)
	h := newServer(t, l)
	h.router()
	a, b := labtest.Namespace(t, l, "a"), labtest.Namespace(t, l, "b")
	at := Attachment{NetNS: a.Path(), Host: "calia", Inner: "net0", Addrs: addrA, MTU: 1400, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	var first, second Attached
	h.do(func() (err error) { first, err = Attach(t.Context(), at); return err })
	h.do(func() (err error) { second, err = Attach(t.Context(), at); return err })
	if first.HostIndex != second.HostIndex || first.MAC.String() != second.MAC.String() || first.MAC.String() != "02:00:00:00:00:01" {
		t.Errorf("%+v, then %+v", first, second)
	}
	if mac, _ := h.MAC("calia"); mac.String() != HostMAC().String() {
		t.Errorf("host side has %s", mac)
	}
	nl, _ := a.Handle()
	inner, err := nl.LinkByName("net0")
	if err != nil || inner.Attrs().MTU != 1400 {
		t.Fatalf("%+v, %v", inner, err)
	}
	if state := inner.Attrs().OperState; state != netlink.OperUp {
		t.Errorf("the link is %s: nobody can ask for IPv6 addresses on it", state)
	}
	addrs, err := nl.AddrList(inner, netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range addrA {
		i := slices.IndexFunc(addrs, func(a netlink.Addr) bool { return a.IP.Equal(x.AsSlice()) })
		if x.Is6() && (i < 0 || addrs[i].Flags&unix.IFA_F_NODAD == 0) {
			t.Errorf("%s may not be used at once: %v", x, addrs)
		}
	}
	// Another namespace cannot take the name; a second interface cannot take
	// the name inside, nor the default route.
	for name, bad := range map[string]Attachment{
		"name taken":       {NetNS: b.Path(), Host: "calia", Addrs: addrB},
		"inner name taken": {NetNS: a.Path(), Host: "calib", Inner: "net0", Addrs: addrB},
		"second default":   {NetNS: a.Path(), Host: "calib", Inner: "net1", Addrs: addrB},
		"not a veth":       {NetNS: a.Path(), Host: "lo", Addrs: addrB},
	} {
		h.do(func() error {
			if _, err := Attach(t.Context(), bad); err == nil {
				t.Errorf("%s: accepted", name)
			}
			return nil
		})
	}
	if links, _ := h.Links(); slices.Contains(links, "calib") || !slices.Contains(links, "calia") {
		t.Errorf("host has %v", links)
	}
	if links, _ := a.Links(); !slices.Equal(links, []string{"lo", "net0"}) {
		t.Errorf("namespace has %v", links)
	}
	for range 2 {
		h.do(func() error { return Detach("calia", addrA) })
	}
	if links, _ := h.Links(); slices.Contains(links, "calia") {
		t.Errorf("after detach: %v", links)
	}
	if _, err := a.LinkIndex("net0"); err == nil {
		t.Error("the inner side is still there")
	}
	h.do(func() error {
		if err := Detach("lo", nil); err == nil {
			t.Error("detach of lo accepted")
		}
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "calid"}}); err != nil {
			return err
		}
		if err := Detach("calid", nil); err == nil || !strings.Contains(err.Error(), "it is a bridge") {
			t.Errorf("detach of what is no pair: %v", err)
		}
		return nil
	})
	if links, _ := h.Links(); !slices.Contains(links, "calid") {
		t.Errorf("what is no pair is gone: %v", links)
	}
}

func TestC05_NamespacesThatAreRefused(t *testing.T) {
	l := labtest.New(t)
	h := newServer(t, l)
	dir := t.TempDir()
	fifo, link, file, dead := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "file"), filepath.Join(dir, "dead")
	err := errors.Join(unix.Mkfifo(fifo, 0o600), os.Symlink(h.Path(), link), os.WriteFile(file, nil, 0o600), os.Symlink("/nowhere", dead))
	if err != nil {
		t.Fatal(err)
	}
	before, _ := h.Links()
	for _, path := range []string{
		"", "/nowhere", dir, fifo, file, dead, "/dev/null", "/proc/self/ns/pid", "/proc/self/ns/mnt", "/proc/999999999/ns/net",
		h.Path(), link, "/proc/thread-self/ns/net",
	} {
		h.do(func() error {
			if _, err := Attach(t.Context(), Attachment{NetNS: path, Host: "calia", Addrs: addrA}); !errors.Is(err, ErrNamespace) {
				t.Errorf("%s: %v", path, err)
			}
			return nil
		})
	}
	if after, _ := h.Links(); !slices.Equal(before, after) {
		t.Errorf("the host had %v, has %v", before, after)
	}
}

// TestQ05_DetachForgetsFlows: whoever gets an address next gets none of the
// flows of the one before.
func TestQ05_DetachForgetsFlows(t *testing.T) {
	l := labtest.New(t)
	h := newServer(t, l)
	nf, err := newConntrack(h)
	if err != nil {
		t.Skip("no connection tracking in this kernel:", err)
	}
	defer nf.Close()
	a := labtest.Namespace(t, l, "a")
	h.attach(a, "calia", addrA)
	for i := range 2 {
		for _, flow := range [][2]netip.Addr{{addrA[i], addrB[i]}, {addrB[i], addrA[i]}, {addrB[i], netip.MustParseAddr([]string{"10.9.9.9", "fd00:9::9"}[i])}} {
			if err := addFlow(nf, flow[0], flow[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.do(func() error { return Detach("calia", addrA) })
	for i, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		list, err := nf.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil || len(list) != 1 || !list[0].Forward.SrcIP.Equal(addrB[i].AsSlice()) {
			t.Errorf("left: %v, %v; want the one flow that is not of the workload", list, err)
		}
	}
}

func newConntrack(h *server) (nf *netlink.Handle, err error) {
	err = h.Do(func() error {
		if nf, err = netlink.NewHandle(unix.NETLINK_NETFILTER); err != nil {
			return err
		}
		_, err = nf.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		return err
	})
	return nf, err
}

func addFlow(nf *netlink.Handle, src, dst netip.Addr) error {
	family := uint8(familyOf(src))
	return nf.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(family), &netlink.ConntrackFlow{
		FamilyType: family,
		Forward:    netlink.IPTuple{SrcIP: src.AsSlice(), DstIP: dst.AsSlice(), SrcPort: 1234, DstPort: 53, Protocol: unix.IPPROTO_UDP},
		Reverse:    netlink.IPTuple{SrcIP: dst.AsSlice(), DstIP: src.AsSlice(), SrcPort: 53, DstPort: 1234, Protocol: unix.IPPROTO_UDP},
		TimeOut:    600,
	})
}
