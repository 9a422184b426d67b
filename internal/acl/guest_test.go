// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The guest believes in 10.65.0.0/24, in which the workloads a, b and c are as
// well, and in a gateway that nobody is.
var (
	guestAddr4, guestAddr6 = ip("10.65.0.9"), ip("fd65::9")
	guestGateway4          = ip("10.65.0.254")
	guestSubnet            = netip.MustParsePrefix("10.65.0.0/24")
	guestMAC               = net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 9}
)

// guest makes an interface a guest's.
func (r *rig) guest(iface string, e *policy.Effective) {
	ep := &policy.Endpoint{ID: policy.EndpointID{Namespace: "ns", Name: "guest"}, Interface: iface, HasMAC: true, Guest: true,
		Addrs: []netip.Addr{guestAddr4, guestAddr6}, Effective: e}
	copy(ep.MAC[:], guestMAC)
	r.v.endpoint(ep)
	r.apply()
}

// hostSide gives the host's end what the agent would.
func (r *rig) hostSide(iface string) {
	must(r, r.host.AddAddr(iface, netip.PrefixFrom(gateway4, 32)))
	must(r, r.host.AddAddr(iface, netip.PrefixFrom(gateway6, 64)))
	must(r, r.host.AddRoute(host(guestAddr4), netip.Addr{}, iface))
	must(r, r.host.AddRoute(host(guestAddr6), netip.Addr{}, iface))
	must(r, r.host.AddNeighbour(iface, guestAddr4, guestMAC))
}

// TestGuest has a namespace with a subnet on its link talk to what it takes for
// its neighbours, and to others by its gateway: with and without a default route
// of the host, and when nobody looks after the tables.
func TestGuest(t *testing.T) {
	r := spoofRig(t)
	l := labtest.New(t)
	g := labtest.Namespace(t, l, "g")
	r.wl["g"] = g
	must(t, g.SetSysctl("net/ipv6/conf/default/accept_dad", "0"))
	must(t, r.host.SetSysctl("net/ipv6/conf/default/accept_dad", "0"))
	attach := func() {
		// A MAC address as hypervisors give it, which the tables do not know.
		must(t, lab.Veth(lab.End{NS: r.host, Name: "calig", MAC: net.HardwareAddr{0xfe, 0x16, 0x3e, 0, 0, 9}}, lab.End{NS: g, Name: "eth0", MAC: guestMAC}))
		must(t, g.AddAddr("eth0", netip.PrefixFrom(guestAddr4, guestSubnet.Bits())))
		must(t, g.AddAddr("eth0", netip.PrefixFrom(guestAddr6, 128)))
		must(t, g.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), guestGateway4, "eth0"))
		must(t, g.AddRoute(netip.MustParsePrefix("::/0"), gateway6, "eth0"))
		r.hostSide("calig")
	}
	attach()
	e := r.v.effectives["allowallallowall"]
	// As a container it gets no answer.
	r.guest("calig", e)
	ep := *r.v.endpoints[policy.EndpointID{Namespace: "ns", Name: "guest"}]
	ep.Guest = false
	r.v.endpoint(&ep)
	r.apply()
	if strings.Contains(r.tab.Text(r.v), bare(chainAnswer)+" {") {
		t.Error("there are rules for guests without one")
	}
	if got := r.guestAnswers(guestAddr4); len(got) > 0 {
		t.Errorf("as a container it was answered: %v", got)
	}
	r.guest("calig", e)
	quiet(t, r.tab, r.v)

	check := func(when string) {
		t.Helper()
		got := r.guestAnswers(guestAddr4)
		for a := guestSubnet.Addr(); guestSubnet.Contains(a); a = a.Next() {
			if want := a != guestAddr4; (got[a] != nil) != want || want && !bytes.Equal(got[a], guestGateway) {
				t.Errorf("%s: answer for %s: %s", when, a, got[a])
			}
		}
		if got := r.guestAnswers(ip("0.0.0.0")); got[guestAddr4] != nil || got[addr4["b"]] == nil {
			t.Errorf("%s: probes: answered %d, for its own %v", when, len(got), got[guestAddr4])
		}
		for _, to := range []string{"b", "n"} {
			r.expect(true, lab.UDP, "g", to, 80)
			r.expect(true, lab.TCP, "g", to, 81)
		}
		for _, from := range []string{"b", "n"} {
			for v, dst := range map[int]netip.Addr{4: guestAddr4, 6: guestAddr6} {
				if o := r.ns(from).Probe(t.Context(), lab.Probe{Proto: lab.ICMP, Dst: dst, Timeout: 2 * time.Second}); o.Verdict != lab.Reached {
					t.Errorf("%s: IPv%d %s to the guest: %v (%v)", when, v, from, o.Verdict, o.Err)
				}
			}
		}
	}
	check("without default route")
	must(t, r.host.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), ip("172.16.0.2"), "up0"))
	check("with a default route")
	r.tab.Close()
	must(t, r.host.DeleteLink("calig"))
	attach()
	check("with another interface, and the agent dead")

	// It speaks for itself alone, and a container is not answered.
	var no [][]byte
	for _, m := range []struct {
		mac, sha net.HardwareAddr
		spa      netip.Addr
	}{{guestMAC, guestMAC, addr4["b"]}, {wlMAC("b"), wlMAC("b"), guestAddr4}, {guestMAC, wlMAC("b"), guestAddr4}, {wlMAC("b"), guestMAC, guestAddr4}} {
		no = append(no, arpFrame(m.mac, arpRequest, m.sha, m.spa, addr4["c"]), arpFrame(m.mac, arpReply, m.sha, m.spa, addr4["c"]))
	}
	if got := r.arpFrom("g", guestMAC, guestAddr4, no...); len(got) > 0 {
		t.Errorf("answered as another: %v", got)
	}
	if got := r.answers("a", arpFrame(wlMAC("a"), arpRequest, wlMAC("a"), addr4["a"], addr4["c"])); len(got) > 0 {
		t.Errorf("a container was answered: %v", got)
	}
	// In IPv6 the gateway answers, and nobody else.
	for target, want := range map[netip.Addr]bool{gateway6: true, addr6["b"]: false, ip("fd65::fe"): false} {
		if got := r.solicited("g", guestMAC, guestAddr6, target); got != want {
			t.Errorf("neighbour solicitation for %s: answered %v", target, got)
		}
	}
}

// guestAnswers asks for each address of the subnet.
func (r *rig) guestAnswers(spa netip.Addr) map[netip.Addr]net.HardwareAddr {
	var ask [][]byte
	for a := guestSubnet.Addr(); guestSubnet.Contains(a); a = a.Next() {
		ask = append(ask, arpFrame(guestMAC, arpRequest, guestMAC, spa, a))
	}
	return r.arpFrom("g", guestMAC, guestAddr4, ask...)
}

// solicited asks for the link-layer address of the target and tells whether
// somebody answers, before the gateway does.
func (r *rig) solicited(name string, mac net.HardwareAddr, src, target netip.Addr) bool {
	r.Helper()
	c, err := r.wl[name].Capture("eth0")
	must(r, err)
	defer c.Close()
	ask := func(target netip.Addr) []byte {
		group := ip("ff02::1:ff00:0").As16()
		t := target.As16()
		copy(group[13:], t[13:])
		return icmp6Frame(mac, src, netip.AddrFrom16(group), 255, discovery(neighbourSolicits, target, option(1, mac)))
	}
	r.pour(name, [][]byte{ask(target), ask(gateway6)})
	answered := 0
	labtest.Poll(r, 5*time.Second, func() error {
		fs, err := c.Drain(func(f lab.Frame) bool { return f.ICMPType == neighbourAdvertisement && !f.Outgoing })
		must(r, err)
		for _, f := range fs {
			if bytes.Contains(f.Data, target.AsSlice()) {
				answered++
			}
			if bytes.Contains(f.Data, gateway6.AsSlice()) {
				return nil
			}
		}
		return fmt.Errorf("the gateway %s does not answer", gateway6)
	})
	return answered > 0
}

// TestGuest_Tap is a virtual machine's end of a real tap: what a hypervisor
// would read and write.
func TestGuest_Tap(t *testing.T) {
	r := spoofRig(t)
	var queues []int
	must(t, r.host.Do(func() error {
		la := netlink.NewLinkAttrs()
		la.Name = "calitap"
		tap := &netlink.Tuntap{LinkAttrs: la, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_ONE_QUEUE, Queues: 1}
		if err := netlink.LinkAdd(tap); err != nil {
			return err
		}
		for _, f := range tap.Fds {
			queues = append(queues, int(f.Fd()))
			t.Cleanup(func() { f.Close() })
		}
		return netlink.LinkSetUp(tap)
	}))
	r.hostSide("calitap")
	r.guest("calitap", r.v.effectives["allowallallowall"])
	ask := func(target netip.Addr) bool {
		t.Helper()
		_, err := unix.Write(queues[0], arpFrame(guestMAC, arpRequest, guestMAC, guestAddr4, target))
		must(t, err)
		_, err = unix.Write(queues[0], arpFrame(guestMAC, arpRequest, guestMAC, guestAddr4, guestGateway4))
		must(t, err)
		answered := false
		buf := make([]byte, 2048)
		for {
			must(t, await(queues[0]))
			n, err := unix.Read(queues[0], buf)
			must(t, err)
			f := lab.Decode(buf[:n])
			if f.EtherType != unix.ETH_P_ARP || f.Dst != guestAddr4 || !bytes.Equal(f.DstMAC, guestMAC) {
				continue
			}
			answered = answered || f.Src == target && bytes.Equal(f.SrcMAC, guestGateway)
			if f.Src == guestGateway4 {
				return answered
			}
		}
	}
	for target, want := range map[netip.Addr]bool{addr4["a"]: true, ip("10.65.0.200"): true, ip("169.254.169.254"): true, guestAddr4: false} {
		if got := ask(target); got != want {
			t.Errorf("answered for %s: %v", target, got)
		}
	}
}

// await waits until a file can be read.
func await(fd int) error {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
	if err == nil && n == 0 {
		err = fmt.Errorf("nothing came from the tap")
	}
	return err
}
