// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/policy"
)

// icmpErrors are type and code of messages that a port or a host is unreachable, and
// that a packet is too big (RFC 792, RFC 4443).
var icmpErrors = map[string]map[int][2]byte{
	"port":    {4: {3, 3}, 6: {1, 4}},
	"host":    {4: {3, 1}, 6: {1, 3}},
	"too big": {4: {3, 4}, 6: {2, 0}},
	"tiny":    {4: {3, 4}, 6: {2, 0}}, // an MTU of 68, the least of IPv4
}

// icmpError is such a message about the packet in a frame.
func icmpError(p policy.Packet, v int, what string, about []byte) []byte {
	kind := icmpErrors[what][v]
	mtu := uint32(0)
	switch what {
	case "too big":
		mtu = 1300
	case "tiny":
		mtu = 68
	}
	b := binary.BigEndian.AppendUint32([]byte{kind[0], kind[1], 0, 0}, mtu)
	return summed(p, append(b, about[14:]...), 2)
}

// TestS14_ICMPErrors sends errors to workloads whose ingress policy is closed. One
// about a flow of theirs arrives; one about that of another, or none, or with a wrong
// checksum, does not.
func TestS14_ICMPErrors(t *testing.T) {
	r := spoofRig(t)
	closed := r.v.policy(gnp("closed", nil, allowAll))
	shut := r.v.effective(&policy.Effective{ID: "shutshutshutshut", Tiers: both(tier("default", false, closed))})
	r.endpoint("a", shut)
	r.endpoint("c", shut)
	r.apply()
	up, err := r.host.MAC("up0")
	must(t, err)
	nMAC, err := r.n.MAC("eth0")
	must(t, err)
	for _, v := range []int{4, 6} {
		sent := func(from string, sport uint16) []byte {
			f, err := lab.Packet{SrcMAC: wlMAC(from), DstMAC: hostMAC, Src: addrOf(v, from), Dst: addrOf(v, "n"), Proto: lab.ProtoUDP, SrcPort: sport, DstPort: 7}.Frame()
			must(t, err)
			return f
		}
		for _, from := range []string{"a", "c"} {
			must(t, r.wl[from].SendFrame("eth0", sent(from, 4000)))
		}
		r.expect(true, lab.UDP, "a", "n", 80, v) // they are through
		p := policy.Packet{Src: addrOf(v, "n"), Dst: addrOf(v, "a"), Proto: map[int]uint8{4: icmp, 6: ipv6.icmp}[v]}
		say := func(list ...[]byte) {
			for i, b := range list {
				list[i] = frame(link{mac: nMAC, hmac: up}, p, b, 0, 0, false)
			}
			r.pour("n", list)
		}
		c, err := r.wl["a"].Capture("eth0")
		must(t, err)
		arrived := func() (n int) { // until the one that is sent now, about a flow of a's own
			t.Helper()
			say(icmpError(p, v, "host", sent("a", 4000)))
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			for {
				f, err := c.Next(ctx, func(f lab.Frame) bool { return !f.Outgoing && f.Proto == p.Proto && f.ICMPType < 4 })
				if err != nil {
					t.Fatalf("IPv%d: the error about a flow of its own does not arrive: %v", v, err)
				}
				kind := f.Data[map[int]int{4: 14 + 20, 6: 14 + 40}[v]:]
				if [2]byte(kind) == icmpErrors["host"][v] {
					return n
				}
				n++
			}
		}
		wrong := icmpError(p, v, "port", sent("a", 4000))
		wrong[2] ^= 0xff
		var bad [][]byte
		for range 2000 {
			bad = append(bad,
				icmpError(p, v, "port", sent("c", 4000)), // a flow of another
				icmpError(p, v, "too big", sent("c", 4000)),
				icmpError(p, v, "tiny", sent("c", 4000)),
				icmpError(p, v, "tiny", sent("a", 4001)),
				icmpError(p, v, "port", sent("a", 4001)), // none
				icmpError(p, v, "port", sent("b", 4000)),
				wrong)
		}
		say(bad...)
		if n := arrived(); n > 0 {
			t.Errorf("IPv%d: %d errors arrived about flows that are not a's, or with a wrong checksum", v, n)
		}
		say(icmpError(p, v, "too big", sent("a", 4000)))
		say(icmpError(p, v, "port", sent("a", 4000)))
		if n := arrived(); n != 2 {
			t.Errorf("IPv%d: %d of 2 errors arrived about a flow of its own", v, n)
		}
		must(t, c.Close())
	}
}

// TestS14_PathMTU moves a megabyte from a workload over a link of 1400 bytes: the
// host's errors reach it.
func TestS14_PathMTU(t *testing.T) {
	r := spoofRig(t)
	h, err := r.host.Handle()
	must(t, err)
	up, err := h.LinkByName("up0")
	must(t, err)
	must(t, h.LinkSetMTU(up, 1400))
	closed := r.v.policy(gnp("closed", nil, allowAll))
	r.endpoint("a", r.v.effective(&policy.Effective{ID: "shutshutshutshut", Tiers: both(tier("default", false, closed))}))
	r.apply()
	for _, v := range []int{4, 6} {
		to := netip.AddrPortFrom(addrOf(v, "n"), 5700)
		ln, err := r.n.Listen("tcp", to.String())
		must(t, err)
		got := make(chan int64, 1)
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			n, _ := io.Copy(io.Discard, c)
			got <- n
		}()
		c, err := r.wl["a"].Dial(t.Context(), "tcp", to.String())
		must(t, err)
		must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		n, err := c.Write(make([]byte, 1<<20))
		must(t, err)
		must(t, c.Close())
		select {
		case arrived := <-got:
			if arrived != int64(n) {
				t.Errorf("IPv%d: %d of %d bytes arrived", v, arrived, n)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("IPv%d: the bytes do not arrive", v)
		}
		must(t, ln.Close())
	}
}

// TestS17_EachDirectionOnce sends the first packet of a flow from a workload to its
// own address by way of the host, to another on the host, and to either as the
// host's translation has it. Egress is asked once, and ingress once if egress
// allows; both must allow.
func TestS17_EachDirectionOnce(t *testing.T) {
	r := spoofRig(t)
	must(t, r.host.Do(func() error { return translate(map[uint16]uint16{8080: 80}) }))
	for i, x := range []struct {
		from, to string
		dport    uint16
	}{{"a", "a", 80}, {"b", "a", 80}, {"b", "host", 8080}, {"a", "host", 8080}} {
		for j, allowed := range [][2]bool{{true, true}, {true, false}, {false, true}, {false, false}} {
			for _, v := range []int{4, 6} {
				verdict := func(yes bool) []policy.Rule {
					return []policy.Rule{with(map[bool]policy.Action{true: policy.Allow, false: policy.Deny}[yes], toPort(tcp, port(80)))}
				}
				p := [2]*policy.Policy{
					policy.Ingress: r.v.policy(gnp(fmt.Sprintf("in-%d-%d-%d", i, j, v), verdict(allowed[policy.Ingress]), nil)),
					policy.Egress:  r.v.policy(gnp(fmt.Sprintf("out-%d-%d-%d", i, j, v), nil, verdict(allowed[policy.Egress]))),
				}
				e := &policy.Effective{ID: fmt.Sprintf("case%04d%04d%04d", i, j, v)}
				for _, d := range directions {
					e.Tiers[d] = []policy.TierPolicies{tier("default", false, p[d])}
				}
				r.endpoint("a", r.v.effective(e))
				r.endpoint("b", e)
				r.apply()
				at, err := r.wl["a"].Capture("eth0")
				must(t, err)
				sport := uint16(20000 + 100*i + 10*j + v)
				must(t, r.wl[x.from].SendPacket("eth0", lab.Packet{DstMAC: hostMAC, Src: addrOf(v, x.from), Dst: addrOf(v, x.to), Proto: lab.ProtoTCP, SrcPort: sport, DstPort: x.dport}))
				is := func(f lab.Frame) bool {
					return !f.Outgoing && f.Proto == lab.ProtoTCP && f.SrcPort == sport && f.Data[tcpAt(v == 4)+13] == syn
				}
				name := fmt.Sprintf("%s to %s port %d IPv%d, allowed by ingress and egress %v", x.from, x.to, x.dport, v, allowed)
				want := [2]uint64{policy.Egress: 1}
				if allowed[policy.Egress] {
					want[policy.Ingress] = 1
				}
				labtest.Poll(t, 5*time.Second, func() error {
					if got := r.hits(p); got != want {
						return fmt.Errorf("%s: decided %v times, want %v", name, got, want)
					}
					return nil
				})
				if allowed[policy.Ingress] && allowed[policy.Egress] {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					_, err := at.Next(ctx, is)
					cancel()
					if err != nil {
						t.Errorf("%s: did not arrive: %v", name, err)
					}
				}
				rest, err := at.Drain(is)
				must(t, err)
				if len(rest) > 0 {
					t.Errorf("%s: %d arrived that should not", name, len(rest))
				}
				must(t, at.Close())
			}
		}
	}
}

// hits is how often rules of two policies decided, each in its direction.
func (r *rig) hits(p [2]*policy.Policy) (n [2]uint64) {
	r.Helper()
	l := r.tab.Ledger()
	l.netns = int(r.nsFile.Fd())
	list, err := l.Read()
	must(r, err)
	for _, c := range list {
		if c.Policy != nil && c.Policy.Key == p[c.Direction].Key {
			n[c.Direction] += c.Packets
		}
	}
	return n
}

// TestS18_TwoUplinks gives the host a second uplink. What comes in by one, and is
// answered by the other, passes, while a workload spoofs nobody.
func TestS18_TwoUplinks(t *testing.T) {
	r := spoofRig(t)
	l := labtest.New(t)
	m := labtest.Namespace(t, l, "m")
	must(t, lab.Veth(lab.End{NS: r.host, Name: "up1"}, lab.End{NS: m, Name: "eth0"}))
	must(t, r.host.SetSysctl("net/ipv4/conf/up1/rp_filter", "0"))
	for ns, list := range map[*lab.Namespace][2]string{r.host: {"172.17.0.1/24", "fd17::1/64"}, m: {"172.17.0.2/24", "fd17::2/64"}} {
		for _, a := range list {
			must(t, ns.AddAddr(map[bool]string{true: "up1", false: "eth0"}[ns == r.host], netip.MustParsePrefix(a)))
		}
	}
	far := map[int]netip.Addr{4: ip("192.0.2.9"), 6: ip("2001:db8::9")} // by way of m
	must(t, r.host.AddRoute(host(far[4]), ip("172.17.0.2"), ""))
	must(t, r.host.AddRoute(host(far[6]), ip("fd17::2"), ""))
	up, err := r.host.MAC("up0")
	must(t, err)
	mMAC, err := m.MAC("eth0")
	must(t, err)
	must(t, r.host.AddNeighbour("up1", ip("172.17.0.2"), mMAC))
	must(t, r.host.AddNeighbour("up1", ip("fd17::2"), mMAC))
	const many = 200
	for _, v := range []int{4, 6} {
		in, err := r.wl["a"].Capture("eth0")
		must(t, err)
		out, err := m.Capture("eth0")
		must(t, err)
		var there, back [][]byte
		for i := range many {
			sport := uint16(10000 + i)
			for list, p := range map[*[][]byte]lab.Packet{
				&there: {SrcMAC: mMAC, DstMAC: up, Src: far[v], Dst: addrOf(v, "a"), SrcPort: sport, DstPort: 9000},
				&back:  {SrcMAC: wlMAC("a"), DstMAC: hostMAC, Src: addrOf(v, "a"), Dst: far[v], SrcPort: 9000, DstPort: sport},
			} {
				p.Proto = lab.ProtoUDP
				f, err := p.Frame()
				must(t, err)
				*list = append(*list, f)
			}
		}
		r.pour("n", there)
		r.pour("a", back)
		for what, x := range map[string]struct {
			c  *lab.Capture
			is func(lab.Frame) bool
		}{
			"in by one":     {in, func(f lab.Frame) bool { return !f.Outgoing && f.DstPort == 9000 }},
			"out the other": {out, func(f lab.Frame) bool { return !f.Outgoing && f.SrcPort == 9000 }},
		} {
			for i := range many {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				_, err := x.c.Next(ctx, x.is)
				cancel()
				if err != nil {
					t.Fatalf("IPv%d %s: %d of %d arrived: %v", v, what, i, many, err)
				}
			}
			must(t, x.c.Close())
		}
	}
	spoof := spoofs()
	for _, v := range []int{4, 6} {
		spoof = append(spoof, lab.Packet{Src: far[v], Dst: addrOf(v, "b")}, lab.Packet{Src: far[v], Dst: addrOf(v, "n")})
	}
	for _, leak := range r.spoofed(spoof) {
		t.Errorf("leaked: %s", leak)
	}
}

// TestAddressesComeAndGo changes addresses and MAC address of an endpoint, while it
// sends and is sent to: no packet is lost, and what has gone is as good as spoofed.
func TestAddressesComeAndGo(t *testing.T) {
	r := spoofRig(t)
	id := policy.EndpointID{Namespace: "ns", Name: "a"}
	first := *r.v.endpoints[id]
	var flows []*lab.Flow
	for _, v := range []int{4, 6} {
		for _, way := range [][2]string{{"a", "b"}, {"n", "a"}} {
			f, err := lab.StartFlow(lab.FlowConfig{From: r.ns(way[0]), To: r.ns(way[1]), Dst: netip.AddrPortFrom(addrOf(v, way[1]), 7100), PPS: 500, Echo: true})
			must(t, err)
			must(t, f.WaitDelivered(t.Context(), 20))
			flows = append(flows, f)
		}
	}
	change := func(f func(e *policy.Endpoint)) {
		t.Helper()
		ep := *r.v.endpoints[id]
		f(&ep)
		r.v.endpoint(&ep)
		r.apply()
	}
	for i := range byte(10) {
		extra := []netip.Addr{netip.AddrFrom4([4]byte{10, 65, 7, i}), ip(fmt.Sprintf("fd65::7:%d", i))}
		change(func(e *policy.Endpoint) { e.Addrs = append(append([]netip.Addr{}, first.Addrs...), extra...) })
		for _, x := range extra {
			must(t, r.host.AddRoute(host(x), netip.Addr{}, "calia"))
			must(t, r.wl["a"].AddAddr("eth0", host(x)))
			if got := r.from("a", x); !got {
				t.Errorf("%s has come, and its packets do not pass", x)
			}
		}
		change(func(e *policy.Endpoint) { e.HasMAC = false })
		change(func(e *policy.Endpoint) { e.HasMAC = true })
		change(func(e *policy.Endpoint) { e.Addrs = first.Addrs })
		for _, x := range extra {
			must(t, r.host.DelRoute(host(x), "calia"))
			if got := r.from("a", x); got {
				t.Errorf("%s has gone, and its packets pass", x)
			}
			must(t, r.wl["a"].DelAddr("eth0", host(x)))
		}
	}
	for _, f := range flows {
		if rep := f.Stop(2 * time.Second); rep.Lost > 0 {
			t.Errorf("%v", rep)
		}
	}
	quiet(t, r.tab, r.v)
}

// from tells whether a packet from an address of a workload reaches the neighbour.
func (r *rig) from(name string, src netip.Addr) bool {
	r.Helper()
	c, err := r.n.Capture("eth0")
	must(r, err)
	defer c.Close()
	send := func(src netip.Addr, port uint16) {
		dst := addr6["n"]
		if src.Is4() {
			dst = addr4["n"]
		}
		must(r, r.wl[name].SendPacket("eth0", lab.Packet{DstMAC: hostMAC, Src: src, Dst: dst, Proto: lab.ProtoUDP, DstPort: port}))
	}
	send(src, spoofPort)
	send(addr4[name], sentinelPort)
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	f, err := c.Next(ctx, func(f lab.Frame) bool { return !f.Outgoing && (f.DstPort == spoofPort || f.DstPort == sentinelPort) })
	must(r, err)
	return f.DstPort == spoofPort
}
