// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"golang.org/x/sys/unix"
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

const (
	arpRequest = 1
	arpReply   = 2
)

// arpFrame is an ARP message (RFC 826) in a frame from mac.
func arpFrame(mac net.HardwareAddr, op uint16, sha net.HardwareAddr, spa netip.Addr, tpa netip.Addr) []byte {
	be := binary.BigEndian
	f := append(slices.Clone(broadcast), mac...)
	f = be.AppendUint16(f, unix.ETH_P_ARP)
	f = append(be.AppendUint16(be.AppendUint16(f, 1), unix.ETH_P_IP), 6, 4)
	f = append(be.AppendUint16(f, op), sha...)
	f = append(f, spa.AsSlice()...)
	f = append(f, make([]byte, 6)...)
	return append(f, tpa.AsSlice()...)
}

// answers sends ARP messages from a workload and returns the answers it gets,
// by what they answer for. A request for the gateway, sent last, shows that all
// had their chance.
func (r *rig) answers(name string, messages ...[]byte) map[netip.Addr]net.HardwareAddr {
	r.Helper()
	return r.arpFrom(name, wlMAC(name), addr4[name], messages...)
}

// arpFrom does that for a workload of any addresses.
func (r *rig) arpFrom(name string, mac net.HardwareAddr, addr netip.Addr, messages ...[]byte) map[netip.Addr]net.HardwareAddr {
	r.Helper()
	c, err := r.wl[name].Capture("eth0")
	must(r, err)
	defer c.Close()
	r.pour(name, messages)
	must(r, r.wl[name].SendFrame("eth0", arpFrame(mac, arpRequest, mac, addr, gateway4)))
	got := map[netip.Addr]net.HardwareAddr{}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	for {
		f, err := c.Next(ctx, func(f lab.Frame) bool {
			return f.EtherType == unix.ETH_P_ARP && !f.Outgoing && binary.BigEndian.Uint16(f.Data[20:]) == arpReply
		})
		if err != nil {
			r.Fatalf("no answer to %s for the gateway: %v", name, err)
		}
		if f.Src == gateway4 && f.Dst == addr {
			return got
		}
		got[f.Src] = f.SrcMAC
	}
}

// pour sends frames from a workload, one after another.
func (r *rig) pour(name string, frames [][]byte) {
	r.Helper()
	index, err := r.ns(name).LinkIndex("eth0")
	must(r, err)
	must(r, r.ns(name).Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, f := range frames {
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// neighbours returns the host's neighbours on an interface.
func (r *rig) neighbours(iface string) (out []netip.Addr) {
	r.Helper()
	h, err := r.host.Handle()
	must(r, err)
	index, err := r.host.LinkIndex(iface)
	must(r, err)
	list, err := h.NeighList(index, 0)
	must(r, err)
	for _, n := range list {
		if a, ok := netip.AddrFromSlice(n.IP); ok && !a.Unmap().IsMulticast() {
			out = append(out, a.Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// TestS03_ARPSender sends every kind of ARP message that speaks for somebody
// else. The host is asked for an address of its own, which it would answer for.
func TestS03_ARPSender(t *testing.T) {
	r := spoofRig(t)
	a, c := wlMAC("a"), wlMAC("c")
	other := wlMAC("b")
	// Hosts of the uplink: the kernel answers for what it has, to whom it has a route.
	ask := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{172, 16, 9, n}) }
	for n := range byte(20) {
		must(t, r.host.AddAddr("up0", host(ask(n))))
	}
	var no [][]byte
	for i, m := range []struct {
		mac, sha net.HardwareAddr
		spa      netip.Addr
	}{
		{a, a, addr4["b"]}, {a, a, addr4["n"]}, {a, a, addr4["host"]}, {a, a, gateway4}, {a, a, ip("8.8.8.8")}, {a, a, ip("255.255.255.255")},
		{a, other, addr4["a"]}, {other, a, addr4["a"]}, {other, other, addr4["a"]}, {a, hostMAC, addr4["a"]}, {hostMAC, hostMAC, gateway4},
		{a, broadcast, addr4["a"]}, {other, a, ip("0.0.0.0")},
	} {
		no = append(no, arpFrame(m.mac, arpRequest, m.sha, m.spa, ask(byte(i))),
			arpFrame(m.mac, arpReply, m.sha, m.spa, ask(byte(i))), // an answer that nobody asked for
			arpFrame(m.mac, arpRequest, m.sha, m.spa, m.spa))      // an announcement (RFC 5227)
	}
	before := r.neighbours("calia")
	if got := r.answers("a", no...); len(got) > 0 {
		t.Errorf("answered as if for their sender: %v", got)
	}
	for _, n := range r.neighbours("calia") {
		if !slices.Contains(before, n) && n != addr4["a"] {
			t.Errorf("%s became a neighbour on calia", n)
		}
	}
	yes := map[string][]byte{
		"a": arpFrame(a, arpRequest, a, addr4["a"], ask(15)),
		"c": arpFrame(other, arpRequest, c, addr4["c"], ask(15)), // its MAC address is not known: any will do
	}
	for name, m := range yes {
		if got := r.answers(name, m); got[ask(15)] == nil {
			t.Errorf("%s, which speaks for itself, got no answer", name)
		}
	}
	if got := r.answers("a", arpFrame(a, arpRequest, a, ip("0.0.0.0"), ask(16))); got[ask(16)] == nil {
		t.Error("a probe (RFC 5227) got no answer")
	}
	if got := r.answers("c", arpFrame(c, arpRequest, c, addr4["b"], ask(17))); len(got) > 0 {
		t.Error("c was answered as b")
	}
	quiet(t, r.tab, r.v)
}

// TestS03_Flood fills the host's neighbour table from a workload, if it can:
// gc_thresh3 is for all interfaces together.
func TestS03_Flood(t *testing.T) {
	r := spoofRig(t)
	must(t, r.host.AddRoute(netip.MustParsePrefix("10.66.0.0/16"), netip.Addr{}, "calia")) // it notes only whom it can reach
	flood := func(n int) int {
		var frames [][]byte
		for i := range n {
			spa := netip.AddrFrom4([4]byte{10, 66, byte(i / 250), byte(i % 250)})
			frames = append(frames, arpFrame(wlMAC("a"), arpRequest, wlMAC("a"), spa, gateway4))
		}
		r.answers("a", frames...)
		return len(r.neighbours("calia"))
	}
	if n := flood(2000); n > 4 {
		t.Errorf("%d neighbours on calia after a flood", n)
	}
	r.expect(true, lab.UDP, "n", "b", 80)
	must(t, r.tab.Teardown())
	if n := flood(50); n < 50 {
		t.Errorf("without the tables %d neighbours on calia: the test shows nothing", n)
	}
}

// TestS02_LinkSource sends ARP, which meets no check of addresses in inet, from
// every MAC address but the workload's own.
func TestS02_LinkSource(t *testing.T) {
	r := spoofRig(t)
	var frames [][]byte
	for _, mac := range []net.HardwareAddr{hostMAC, wlMAC("b"), {1, 0, 0x5e, 0, 0, 1}, {0, 0, 0, 0, 0, 0}, broadcast} {
		frames = append(frames, arpFrame(mac, arpRequest, wlMAC("a"), addr4["a"], addr4["host"]))
	}
	if got := r.answers("a", frames...); len(got) > 0 {
		t.Errorf("answered: %v", got)
	}
	if got := r.answers("a", arpFrame(wlMAC("a"), arpRequest, wlMAC("a"), addr4["a"], addr4["host"])); len(got) != 1 {
		t.Errorf("its own MAC address: %d answers", len(got))
	}
}

// tap is a socket that gets the frames of one type which the kernel goes on
// with: those that the netdev table dropped never come here, as they would to a
// capture.
func (r *rig) tap(iface string, etherType uint16) (count func() int) {
	r.Helper()
	fd := -1
	must(r, r.host.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	r.Cleanup(func() { unix.Close(fd) })
	index, err := r.host.LinkIndex(iface)
	must(r, err)
	must(r, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: etherType<<8 | etherType>>8, Ifindex: index}))
	return func() (n int) {
		buf := make([]byte, 2048)
		for {
			if _, _, err := unix.Recvfrom(fd, buf, 0); err != nil {
				return n
			}
			n++
		}
	}
}

// otherTypes are frames of what else there is on an Ethernet: MPLS, PPPoE, RARP,
// EAPOL, LLDP, Profinet, loopback test, AoE, and Wake-on-LAN.
var otherTypes = []uint16{0x8847, 0x8848, 0x8863, 0x8864, 0x8035, 0x888e, 0x88cc, 0x8892, 0x9000, 0x88a2, 0x0842}

func otherFrame(mac net.HardwareAddr, typ uint16) []byte {
	f := append(slices.Clone(broadcast), mac...)
	return append(binary.BigEndian.AppendUint16(f, typ), make([]byte, 50)...)
}

// TestS15_EtherTypes sends what is neither IP nor ARP, and IP behind a VLAN tag.
// Without the layer all of it goes on: the test can see it.
func TestS15_EtherTypes(t *testing.T) {
	for _, on := range []bool{true, false} {
		t.Run(fmt.Sprintf("layer %v", on), func(t *testing.T) {
			r := spoofRig(t)
			if !on {
				r.tab.noFrames = true
				must(t, r.tab.Resync(r.v))
			}
			counts := map[uint16]func() int{}
			var others [][]byte
			for _, typ := range otherTypes {
				counts[typ] = r.tap("calia", typ)
				others = append(others, otherFrame(wlMAC("a"), typ))
			}
			r.pour("a", others)
			// A bridge protocol data unit of IEEE 802.1D, and CDP: frames with a
			// length for a type (IEEE 802.3).
			llc := r.tap("calia", unix.ETH_P_802_2)
			must(t, r.wl["a"].SendFrame("eth0", append(append([]byte{1, 0x80, 0xc2, 0, 0, 0}, wlMAC("a")...), append([]byte{0, 38, 0x42, 0x42, 3}, make([]byte, 50)...)...)))
			must(t, r.wl["a"].SendFrame("eth0", append(append([]byte{1, 0, 0xc, 0xcc, 0xcc, 0xcc}, wlMAC("a")...), append([]byte{0, 38, 0xaa, 0xaa, 3}, make([]byte, 50)...)...)))
			// IPv4 and IPv6 of its own, with priority tags (VLAN 0), which the kernel
			// takes for untagged; single, double, and in a VLAN.
			var tagged [][]byte
			for _, v := range []int{4, 6} {
				p := lab.Packet{SrcMAC: wlMAC("a"), DstMAC: hostMAC, Src: addrOf(v, "a"), Dst: addrOf(v, "b"), Proto: lab.ProtoUDP, SrcPort: spoofPort, DstPort: spoofPort}
				f, err := p.Frame()
				must(t, err)
				for _, tags := range [][]byte{{0x81, 0, 0, 0}, {0x88, 0xa8, 0, 0}, {0x88, 0xa8, 0, 0, 0x81, 0, 0, 0}, {0x81, 0, 0, 5}} {
					tagged = append(tagged, slices.Concat(f[:12], tags, f[12:]))
				}
			}
			leaked := r.spoofed(nil, tagged...)
			passed := llc()
			for _, n := range counts {
				passed += n()
			}
			switch {
			case on && (passed > 0 || len(leaked) > 0):
				t.Errorf("%d frames went on, leaked: %v", passed, leaked)
			case !on && (passed != len(otherTypes)+2 || len(leaked) == 0):
				t.Errorf("without the layer %d of %d frames went on, and %d tagged packets arrived: the test shows nothing", passed, len(otherTypes)+2, len(leaked))
			}
			quiet(t, r.tab, r.v)
		})
	}
}

// TestEnslaved tells the tables that an endpoint's interface is in a bridge, and that it is
// not any more: nothing comes from it and nothing goes to it in between, which is one small
// transaction, and a start finds all as it left it.
func TestEnslaved(t *testing.T) {
	r := spoofRig(t)
	plain, err := r.tab.read()
	must(t, err)
	in, out := r.tap("calia", 0x88b5), func(want int) (n int) {
		c, err := r.wl["a"].Capture("eth0")
		must(t, err)
		defer c.Close()
		for _, f := range [][]byte{otherFrame(hostMAC, 0x88b5), arpFrame(hostMAC, arpRequest, hostMAC, gateway4, addr4["a"])} {
			if err := r.host.SendFrame("calia", f); err != nil && !errors.Is(err, unix.ENOBUFS) { // which says that it was dropped
				t.Fatal(err)
			}
		}
		for end := time.Now().Add(5 * time.Second); ; {
			time.Sleep(50 * time.Millisecond)                                                                    // for what is too many
			got, err := c.Drain(func(f lab.Frame) bool { return !f.Outgoing && f.EtherType != unix.ETH_P_IPV6 }) // of which the host says something now and then
			must(t, err)
			if n += len(got); n >= want || time.Now().After(end) {
				return n
			}
		}
	}
	if n := out(2); n != 2 {
		t.Fatalf("%d of 2 frames went to the workload: the test would show nothing", n)
	}
	o := r.tab.opts
	o.Enslaved = []string{"calia", "calinobody"}
	must(t, r.tab.SetOptions(o))
	before := r.tab.Stats()
	r.apply()
	if now := r.tab.Stats(); now.Commits-before.Commits != 1 || now.Messages-before.Messages > 12 {
		t.Errorf("%d commits with %d messages to close one interface", now.Commits-before.Commits, now.Messages-before.Messages)
	}
	must(t, r.wl["a"].SendFrame("eth0", otherFrame(wlMAC("a"), 0x88b5)))
	r.expect(false, lab.UDP, "a", "b", 80)
	r.expect(false, lab.UDP, "b", "a", 80)
	r.expect(true, lab.UDP, "b", "c", 80)
	if n, m := in(), out(0); n+m > 0 {
		t.Errorf("%d frames came from it and %d went to it", n, m)
	}
	quiet(t, r.tab, r.v)
	must(t, r.tab.Resync(r.v))
	o.Enslaved = nil
	must(t, r.tab.SetOptions(o))
	r.apply()
	r.expect(true, lab.UDP, "a", "b", 80)
	r.expect(true, lab.UDP, "b", "a", 80)
	quiet(t, r.tab, r.v)
	if a, err := r.tab.read(); err != nil || len(a.chains) != len(plain.chains) {
		t.Errorf("%d chains, %d before: %v", len(a.chains), len(plain.chains), err)
	}
}

// TestReappearingInterface takes an endpoint's interface away and brings
// another of its name, while nobody looks after the tables: nothing passes that
// would not have before. So it is when an interface is given the name.
func TestReappearingInterface(t *testing.T) {
	r := spoofRig(t)
	w := r.wl["a"]
	generation := generation(t, r.tab)
	check := func(how string) {
		t.Helper()
		for _, k := range []string{"net/ipv4/conf/calia/forwarding", "net/ipv6/conf/calia/forwarding"} {
			must(t, r.host.SetSysctl(k, "1"))
		}
		must(t, r.host.AddRoute(host(addr4["a"]), netip.Addr{}, "calia"))
		must(t, r.host.AddRoute(host(addr6["a"]), netip.Addr{}, "calia"))
		lldp := r.tap("calia", 0x88cc)
		must(t, w.SendFrame("eth0", otherFrame(wlMAC("a"), 0x88cc)))
		if got := r.answers("a", arpFrame(wlMAC("a"), arpRequest, wlMAC("b"), addr4["b"], addr4["host"])); len(got) > 0 {
			t.Errorf("%s: answered as another", how)
		}
		if n := lldp(); n > 0 {
			t.Errorf("%s: %d frames went on", how, n)
		}
		for _, l := range r.spoofed(spoofs()) {
			t.Errorf("%s: leaked: %s", how, l)
		}
	}
	must(t, r.host.DeleteLink("calia"))
	must(t, lab.Veth(lab.End{NS: r.host, Name: "calia", MAC: hostMAC}, lab.End{NS: w, Name: "eth0", MAC: wlMAC("a")}))
	// From the first packet on, before it has anything: this is not the interface
	// of before, and the tables know only its name.
	must(t, r.host.AddAddr("calia", netip.PrefixFrom(gateway4, 32)))
	must(t, w.AddAddr("eth0", host(addr4["a"])))
	check("another interface")
	must(t, r.host.LinkDown("calia"))
	must(t, r.host.RenameLink("calia", "elsewhere"))
	must(t, r.host.RenameLink("elsewhere", "calia"))
	must(t, r.host.LinkUp("calia"))
	check("a renamed interface")
	if now, err := r.tab.sock.generation(); err != nil || now != generation {
		t.Errorf("the tables changed: generation %d to %d, %v", generation, now, err)
	}
	quiet(t, r.tab, r.v)
}
