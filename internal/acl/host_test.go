// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

// hears listens for datagrams on every address of a namespace, and returns what
// arrived until the one that is sent last.
type hears struct {
	*rig
	from chan string
	six  net.PacketConn // of IPv6
}

func newHears(r *rig, ns *lab.Namespace, port uint16) *hears {
	r.Helper()
	h := &hears{rig: r, from: make(chan string, 1000)}
	for network, addr := range map[string]string{"udp4": "0.0.0.0", "udp6": "[::]"} {
		c, err := ns.ListenPacket(network, addr+":"+itoa(port))
		must(r, err)
		r.Cleanup(func() { c.Close() })
		if network == "udp6" {
			h.six = c
		}
		go func() {
			b := make([]byte, 100)
			for {
				n, _, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				h.from <- strings.TrimRight(string(b[:n]), "\x00")
			}
		}()
	}
	return h
}

func itoa(p uint16) string {
	return netip.AddrPortFrom(netip.IPv4Unspecified(), p).String()[len("0.0.0.0:"):]
}

// until returns what came before the text.
func (h *hears) until(last string) (out []string) {
	h.Helper()
	limit := time.After(5 * time.Second)
	for {
		select {
		case s := <-h.from:
			if s == last {
				return out
			}
			out = append(out, s)
		case <-limit:
			h.Fatalf("%q did not arrive, but %q", last, out)
		}
	}
}

// openHost is a rig where policy and host take all that workloads send.
func openHost(t *testing.T) *rig {
	return spoofRig(t, func(o *Options) { o.HostAction = HostAccept })
}

// TestS09_IPv4Only gives a an address of IPv4 alone: nothing that it says in IPv6
// goes anywhere, the host's link-local address included.
func TestS09_IPv4Only(t *testing.T) {
	r := openHost(t)
	for _, name := range []string{"a", "c"} { // with its MAC address in the model and without
		h := newHears(r, r.host, 5000+uint16(name[0]))
		say := func(src, dst netip.Addr, text string) {
			t.Helper()
			must(t, r.wl[name].SendPacket("eth0", lab.Packet{DstMAC: hostMAC, Src: src, Dst: dst, Proto: lab.ProtoUDP, SrcPort: 1, DstPort: 5000 + uint16(name[0]), Payload: []byte(text)}))
		}
		ep := *r.v.endpoints[policy.EndpointID{Namespace: "ns", Name: name}]
		both := ep.Addrs
		for _, only4 := range []bool{true, false} { // with an IPv6 address the same arrives
			ep := ep
			if only4 {
				ep.Addrs = both[:1]
			}
			r.v.endpoint(&ep)
			r.apply()
			g := newGate(r, "cali"+name)
			n := g.passed(name, icmp6Frame(wlMAC(name), own(name), allNodes, 255, discovery(neighbourSolicits, gateway6, option(1, wlMAC(name)))),
				icmp6Frame(wlMAC(name), own(name), allNodes, 255, discovery(neighbourAdvertisement, own(name), option(2, wlMAC(name)))))
			if want := map[bool]int{true: 0, false: 2}[only4]; n != want {
				t.Errorf("%s, IPv4 only %v: %d messages of neighbour discovery passed, want %d", name, only4, n, want)
			}
			for _, src := range []netip.Addr{own(name), addr6[name]} {
				for _, dst := range []netip.Addr{gateway6, addr6["host"], addr6["b"], addr6["n"]} {
					say(src, dst, src.String()+" to "+dst.String())
				}
			}
			say(addr4[name], addr4["host"], "last")
			got := h.until("last")
			if want := map[bool]int{true: 0, false: 4}[only4]; len(got) != want {
				t.Errorf("%s, IPv4 only %v: the host heard %q, want %d", name, only4, got, want)
			}
		}
	}
	quiet(t, r.tab, r.v)
}

// TestS10_Loopback sends to the host's loopback addresses, from a workload and from
// a neighbour: the host takes them from nobody, though it listens and all else is open.
func TestS10_Loopback(t *testing.T) {
	r := openHost(t)
	h := newHears(r, r.host, 5300)
	up, err := r.host.MAC("up0")
	must(t, err)
	for name, to := range map[string]net.HardwareAddr{"a": hostMAC, "n": up} {
		say := func(v int, dst netip.Addr, text string) {
			t.Helper()
			must(t, r.ns(name).SendPacket("eth0", lab.Packet{DstMAC: to, Src: addrOf(v, name), Dst: dst, Proto: lab.ProtoUDP, SrcPort: 1, DstPort: 5300, Payload: []byte(text)}))
		}
		for _, dst := range []string{"127.0.0.1", "127.1.2.3", "127.255.255.255", "0.0.0.0"} {
			say(4, ip(dst), dst)
		}
		for _, dst := range []string{"::1", "::", "::ffff:127.0.0.1"} {
			say(6, ip(dst), dst)
		}
		say(4, addr4["host"], "IPv4")
		say(6, addr6["host"], "last")
		if got := h.until("last"); len(got) != 1 || got[0] != "IPv4" {
			t.Errorf("from %s the host heard %q", name, got)
		}
	}
}

// TestS11_Injection sends packets within packets to the host, from a neighbour that
// is no member of anything and from a workload. Nobody unpacks them.
func TestS11_Injection(t *testing.T) {
	r := openHost(t)
	h := newHears(r, r.wl["b"], 5400)
	up, err := r.host.MAC("up0")
	must(t, err)
	nMAC, err := r.n.MAC("eth0")
	must(t, err)
	be := binary.BigEndian
	inner := func(v int, text string) []byte { // as if from a, without Ethernet header
		f, err := lab.Packet{SrcMAC: wlMAC("a"), DstMAC: hostMAC, Src: addrOf(v, "a"), Dst: addrOf(v, "b"), Proto: lab.ProtoUDP, SrcPort: 1, DstPort: 5400, Payload: []byte(text)}.Frame()
		must(t, err)
		return f[14:]
	}
	datagram := func(port uint16, b []byte) []byte { // the checksum is left out in IPv4 alone
		out := be.AppendUint16(be.AppendUint16(nil, 40000), port)
		return append(be.AppendUint16(out, uint16(8+len(b))), append([]byte{0, 0}, b...)...)
	}
	ether := func(v int, b []byte) []byte {
		return append(append(append([]byte{}, hostMAC...), wlMAC("a")...), append(be.AppendUint16(nil, map[int]uint16{4: 0x800, 6: 0x86dd}[v]), b...)...)
	}
	for from, l := range map[string]link{"n": {mac: nMAC, hmac: up}, "a": {mac: wlMAC("a"), hmac: hostMAC}} {
		for _, outer := range []int{4, 6} {
			for _, v := range []int{4, 6} {
				gre := append([]byte{0, 0, 8, 0}, inner(v, "GRE")...)
				if v == 6 {
					gre[2], gre[3] = 0x86, 0xdd
				}
				for proto, body := range map[byte][]byte{
					map[int]byte{4: protoIPIP, 6: protoIPv6}[v]: inner(v, "IP in IP"), 47: gre,
				} {
					p := policy.Packet{Src: addrOf(outer, from), Dst: addrOf(outer, "host"), Proto: proto}
					must(t, r.ns(from).SendFrame("eth0", frame(l, p, body, 0, 0, false)))
				}
				for port, body := range map[uint16][]byte{
					4789:  append([]byte{8, 0, 0, 0, 0, 0x10, 0, 0}, ether(v, inner(v, "VXLAN"))...),
					6081:  append([]byte{0, 0, 0x65, 0x58, 0, 0, 0, 0}, ether(v, inner(v, "Geneve"))...),
					51820: append([]byte{4, 0, 0, 0}, inner(v, "WireGuard")...),
				} {
					p := policy.Packet{Src: addrOf(outer, from), Dst: addrOf(outer, "host"), Proto: udp}
					must(t, r.ns(from).SendFrame("eth0", frame(l, p, summed(p, datagram(port, body), 6), 0, 0, false)))
				}
			}
		}
		must(t, r.ns(from).SendPacket("eth0", lab.Packet{DstMAC: l.hmac, Src: addr4[from], Dst: addr4["b"], Proto: lab.ProtoUDP, SrcPort: 1, DstPort: 5400, Payload: []byte("last")}))
		if got := h.until("last"); len(got) > 0 {
			t.Errorf("from %s, b got what was within: %q", from, got)
		}
	}
}

// TestS16_HostServices connects from a workload that may send everything to what
// hosts run, on each of the host's addresses, and to the address of metadata: nobody
// answers unless the operator says so, and what goes to other hosts is up to policy.
func TestS16_HostServices(t *testing.T) {
	ports := []uint16{22, 179, 2379, 2380, 9091, 10250}
	r := spoofRig(t)
	closed := r.v.policy(gnp("closed", nil, nil))
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "closedclosedclos", Tiers: both(tier("default", false, closed))}))
	r.apply()
	must(t, r.host.AddAddr("lo", host(ip("169.254.169.254"))))
	for _, ns := range []*lab.Namespace{r.host, r.n} {
		_, err := ns.Serve(ports...)
		must(t, err)
	}
	try := func(want bool, from string, dst netip.Addr) {
		t.Helper()
		for _, p := range ports {
			timeout := 30 * time.Millisecond
			if want {
				timeout = 5 * time.Second
			}
			got := r.ns(from).Probe(context.Background(), lab.Probe{Proto: lab.TCP, Dst: dst, Port: p, Timeout: timeout}).Verdict == lab.Reached
			if got != want {
				t.Errorf("%s to %s port %d: reached %v, want %v", from, dst, p, got, want)
			}
		}
	}
	all := []netip.Addr{gateway4, addr4["host"], addr6["host"], ip("169.254.169.254")}
	for _, dst := range all {
		try(false, "a", dst)
	}
	for _, v := range []int{4, 6} {
		try(true, "a", addrOf(v, "n"))
		try(false, "b", addrOf(v, "n"))
	}
	r.retune(func(o *Options) { o.HostAction = HostAccept })
	for _, dst := range all { // it was the host's rule that held them off
		try(true, "a", dst)
		try(false, "b", dst)
	}
}
