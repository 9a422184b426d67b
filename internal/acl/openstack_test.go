// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestS16_OpenStack: a machine whose policy is closed gets an address, names and its
// metadata from its host, and nothing else, and from nobody else.
func TestS16_OpenStack(t *testing.T) {
	r := newRig(t)
	closed := r.v.policy(gnp("closed", nil, nil))
	r.endpoint("a", r.v.effective(&policy.Effective{ID: "closedclosedclos", Tiers: both(tier("default", false, closed))}))
	r.endpoint("b", r.allowAllEffective())
	r.apply()
	quiet(t, r.tab, r.v)
	for _, ns := range []*lab.Namespace{r.host, r.n} {
		_, err := ns.Serve(53, 8775, 8776)
		must(t, err)
	}
	try := func(want bool, from string, proto lab.Proto, to netip.Addr, port uint16) {
		t.Helper()
		timeout := 100 * time.Millisecond
		if want {
			timeout = 5 * time.Second
		}
		o := r.ns(from).Probe(context.Background(), lab.Probe{Proto: proto, Dst: to, Port: port, Timeout: timeout})
		if got := o.Verdict == lab.Reached; got != want {
			t.Errorf("%s to %s, %v %d: %v, want reached %v", from, to, proto, port, o.Verdict, want)
		}
	}
	four, six := newHears(r, r.host, dhcpServer), newHears(r, r.host, dhcp6Server)
	servers := ip("ff02::1:2") // RFC 8415 section 7.1
	calia, err := r.host.LinkIndex("calia")
	must(t, err)
	raw, err := six.six.(*net.UDPConn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: servers.As16(), Interface: uint32(calia)})
	}))
	must(t, err)
	only := func(on bool) {
		t.Helper()
		try(on, "a", lab.TCP, metadataAddr, 80)
		try(false, "a", lab.TCP, metadataAddr, 81)
		try(false, "a", lab.TCP, gateway4, 8775)
		for _, v := range []int{4, 6} {
			try(on, "a", lab.UDP, addrOf(v, "host"), 53)
			try(false, "a", lab.TCP, addrOf(v, "host"), 53)
			try(false, "a", lab.UDP, addrOf(v, "n"), 53)
			try(false, "a", lab.UDP, addrOf(v, "host"), 80)
		}
		say := func(src, dst netip.Addr, from, to uint16, text string) {
			mac := hostMAC
			switch dst {
			case ip("255.255.255.255"):
				mac = broadcast
			case servers:
				mac = net.HardwareAddr{0x33, 0x33, 0, 1, 0, 2}
			}
			must(t, r.wl["a"].SendPacket("eth0", lab.Packet{DstMAC: mac, Src: src, Dst: dst, Proto: lab.ProtoUDP, SrcPort: from, DstPort: to, Payload: []byte(text)}))
		}
		say(ip("0.0.0.0"), ip("255.255.255.255"), 69, 67, "another port")
		say(ip("0.0.0.0"), addr4["n"], 68, 67, "elsewhere")
		say(addr6["a"], addr6["host"], 545, 547, "another port")
		say(ip("0.0.0.0"), ip("255.255.255.255"), 68, 67, "discover")
		say(addr4["a"], addr4["host"], 68, 67, "renew")
		say(own("a"), servers, 546, 547, "solicit")
		say(addr6["a"], addr6["host"], 546, 547, "renew")
		if on {
			for h, last := range map[*hears]string{four: "renew", six: "renew"} {
				if got := h.until(last); strings.Join(got, "") != map[*hears]string{four: "discover", six: "solicit"}[h] {
					t.Errorf("before %s the host heard %q", last, got)
				}
			}
			return
		}
		r.expect(false, lab.UDP, "a", "host", 80)
		if len(four.from)+len(six.from) > 0 {
			t.Error("DHCP reaches the host that is not OpenStack's")
		}
	}
	set := func(o OpenStack) {
		t.Helper()
		r.retune(func(in *Options) { in.OpenStack = o })
	}
	only(false)
	set(OpenStack{true, netip.MustParseAddrPort("127.0.0.1:8775")})
	only(true)
	// The same, told without a kernel.
	for _, x := range []struct {
		p      policy.Packet
		toHost bool
		want   bool
	}{
		{policy.Packet{Dst: metadataAddr, Proto: tcp, DstPort: 80}, false, true},
		{policy.Packet{Dst: metadataAddr, Proto: tcp, DstPort: 81}, false, false},
		{policy.Packet{Dst: addr4["host"], Proto: udp, DstPort: 53}, true, true},
		{policy.Packet{Dst: addr6["host"], Proto: udp, DstPort: 53}, true, true},
		{policy.Packet{Dst: addr4["host"], Proto: tcp, DstPort: 53}, true, false},
		{policy.Packet{Dst: addr4["n"], Proto: udp, DstPort: 53}, false, false},
		{policy.Packet{Dst: ip("255.255.255.255"), Proto: udp, SrcPort: 68, DstPort: 67}, false, true},
		{policy.Packet{Dst: ip("255.255.255.255"), Proto: udp, SrcPort: 69, DstPort: 67}, false, false},
		{policy.Packet{Dst: ip("ff02::1:2"), Proto: udp, SrcPort: 546, DstPort: 547}, false, true},
		{policy.Packet{Dst: addr4["n"], Proto: udp, SrcPort: 68, DstPort: 67}, false, false},
	} {
		if got := r.tab.opts.Excepted(x.p, x.toHost); (got != "") != x.want {
			t.Errorf("%+v, to the host %v: excepted for %q", x.p, x.toHost, got)
		}
	}
	// What only another routing table leads on is not for this host.
	onward(r)
	c, err := r.n.Capture("eth0")
	must(t, err)
	defer c.Close()
	for _, from := range []string{"a", "b"} {
		must(t, r.wl[from].SendPacket("eth0", lab.Packet{DstMAC: hostMAC, Src: addr6[from], Dst: ip("2001:db8::53"), Proto: lab.ProtoUDP, DstPort: 53}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if f, err := c.Next(ctx, func(f lab.Frame) bool { return !f.Outgoing && f.DstPort == 53 && f.Dst == ip("2001:db8::53") }); err != nil || f.Src != addr6["b"] {
		t.Errorf("from %v there is a question for names elsewhere, want b's alone: %v", f.Src, err)
	}
	// Metadata on another address of this host, and on another host, where policy is asked.
	set(OpenStack{true, netip.AddrPortFrom(addr4["host"], 8776)})
	try(true, "a", lab.TCP, metadataAddr, 80)
	set(OpenStack{true, netip.AddrPortFrom(addr4["n"], 8776)})
	try(false, "a", lab.TCP, metadataAddr, 80)
	try(true, "b", lab.TCP, metadataAddr, 80)
	set(OpenStack{Active: true}) // no metadata
	try(false, "b", lab.TCP, metadataAddr, 80)
	set(OpenStack{})
	text := r.tab.Text(r.v)
	for _, word := range []string{"metadata", "DHCP disc", "DNS"} {
		if strings.Contains(text, word) {
			t.Errorf("without OpenStack there is %q", word)
		}
	}
}

// onward gives the host a default route by n, in a table for what workloads a and b send.
func onward(r *rig) {
	r.Helper()
	h, err := r.host.Handle()
	must(r, err)
	up, err := r.host.LinkIndex("up0")
	must(r, err)
	const table = 100
	must(r, h.RouteAdd(&netlink.Route{LinkIndex: up, Table: table, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, Gw: addr6["n"].AsSlice()}))
	for _, name := range []string{"a", "b"} {
		rule := netlink.NewRule()
		rule.Family, rule.IifName, rule.Table = unix.AF_INET6, "cali"+name, table
		must(r, h.RuleAdd(rule))
	}
}
