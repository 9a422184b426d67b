// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// gate counts, in a table of its own, the packets of a test that our checks of
// sources let through from an interface, and the one that ends a run. They are
// told from what the workload's kernel sends by a mark in their headers.
type gate struct {
	*rig
	conn *nftables.Conn
}

const (
	markCounted, markLast = 0x7c, 0x78
	gateCounted, gateLast = "counted", "last"
)

func newGate(r *rig, iface string) *gate {
	r.Helper()
	c, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(int(r.nsFile.Fd())))
	must(r, err)
	r.Cleanup(func() { c.CloseLasting() })
	tab := &nftables.Table{Family: nftables.TableFamilyINet, Name: "gate"}
	c.AddTable(tab)
	c.DelTable(tab)
	c.AddTable(tab)
	ch := c.AddChain(&nftables.Chain{Table: tab, Name: "gate", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(-299)})
	eq := func(data ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }
	for name, mark := range map[string]byte{gateCounted: markCounted, gateLast: markLast} {
		c.AddObj(&nftables.CounterObj{Table: tab, Name: name})
		for _, f := range []*family{ipv4, ipv6} {
			// The type of service, or two bytes of the flow label.
			where, want := &expr.Payload{Base: expr.PayloadBaseNetworkHeader, DestRegister: 1, Offset: 1, Len: 1}, eq(mark)
			if f == ipv6 {
				where.Offset, where.Len, want = 2, 2, eq(mark, mark)
			}
			c.AddRule(&nftables.Rule{Table: tab, Chain: ch, Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, eq([]byte(ifKey(iface))...),
				&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, eq(f.proto),
				where, want, &expr.Objref{Type: 1, Name: name}}})
		}
	}
	must(r, c.Flush())
	return &gate{r, c}
}

func (g *gate) count(name string) int {
	g.Helper()
	got, err := g.conn.GetObject(&nftables.CounterObj{Table: &nftables.Table{Family: nftables.TableFamilyINet, Name: "gate"}, Name: name})
	must(g, err)
	return int(got.(*nftables.CounterObj).Packets)
}

// marked is a frame of IPv4 or IPv6 with a mark for a gate.
func marked(f []byte, mark byte) []byte {
	f = slices.Clone(f)
	if f[12] == 0x86 {
		f[16], f[17] = mark, mark
		return f
	}
	f[15] = mark
	summed(policy.Packet{Proto: icmp}, f[14:34], 10)
	return f
}

// passed pours frames from a workload and returns how many got through. A packet
// of its own, sent last, shows that all had their chance.
func (g *gate) passed(name string, frames ...[]byte) int {
	g.Helper()
	own, err := lab.Packet{SrcMAC: wlMAC(name), DstMAC: hostMAC, Src: addr4[name], Dst: addr4["host"], Proto: lab.ProtoUDP, DstPort: sentinelPort}.Frame()
	must(g, err)
	before, last := g.count(gateCounted), g.count(gateLast)
	var pour [][]byte
	for _, f := range frames {
		pour = append(pour, marked(f, markCounted))
	}
	g.pour(name, append(pour, marked(own, markLast)))
	labtest.Poll(g, 5*time.Second, func() error {
		if g.count(gateLast) == last {
			return fmt.Errorf("the last packet of %s did not pass", name)
		}
		return nil
	})
	return g.count(gateCounted) - before
}

// own is the link-local address of a workload, made from its MAC address.
func own(name string) netip.Addr { return netip.AddrFrom16(eui64([6]byte(wlMAC(name)))) }

func option(typ byte, mac net.HardwareAddr) []byte { return append([]byte{typ, 1}, mac...) }

// discovery is a message of RFC 4861: a router solicitation without target, or
// one with.
func discovery(typ byte, target netip.Addr, options ...[]byte) []byte {
	b := []byte{typ, 0, 0, 0, 0, 0, 0, 0}
	if typ == neighbourAdvertisement {
		b[4] = 0x20 // override
	}
	if typ != routerSolicitation {
		b = append(b, target.AsSlice()...)
	}
	return append(b, slices.Concat(options...)...)
}

var allNodes = ip("ff02::1")

// TestS04_NeighbourDiscovery sends every message in which a workload speaks for
// itself, which pass, and for others, which do not.
func TestS04_NeighbourDiscovery(t *testing.T) {
	r := spoofRig(t)
	a, b, none := wlMAC("a"), wlMAC("b"), netip.Addr{}
	nonce := []byte{14, 1, 1, 2, 3, 4, 5, 6}
	for _, x := range []struct {
		name string
		from string
		src  netip.Addr
		icmp []byte
		want bool
	}{
		{"solicitation", "a", own("a"), discovery(neighbourSolicits, gateway6, option(1, a)), true},
		{"solicitation from its address", "a", addr6["a"], discovery(neighbourSolicits, gateway6, option(1, a)), true},
		{"solicitation without address", "a", own("a"), discovery(neighbourSolicits, gateway6), true},
		{"duplicate address detection", "a", ip("::"), discovery(neighbourSolicits, addr6["a"]), true},
		{"duplicate address detection with nonce", "a", ip("::"), discovery(neighbourSolicits, addr6["a"], nonce), true},
		{"advertisement", "a", own("a"), discovery(neighbourAdvertisement, addr6["a"], option(2, a)), true},
		{"advertisement of the link-local address", "a", own("a"), discovery(neighbourAdvertisement, own("a"), option(2, a)), true},
		{"advertisement without address", "a", addr6["a"], discovery(neighbourAdvertisement, addr6["a"]), true},
		{"router solicitation", "a", own("a"), discovery(routerSolicitation, none, option(1, a)), true},
		{"router solicitation without address", "a", own("a"), discovery(routerSolicitation, none), true},
		{"any MAC address, if none is known", "c", ip("fe80::1234"), discovery(neighbourAdvertisement, ip("fe80::1234"), option(2, b)), true},

		{"solicitation with the MAC address of another", "a", own("a"), discovery(neighbourSolicits, gateway6, option(1, b)), false},
		{"the same behind a nonce", "a", own("a"), discovery(neighbourSolicits, gateway6, nonce, option(1, b)), false},
		{"the same behind its own", "a", own("a"), discovery(neighbourSolicits, gateway6, option(1, a), option(1, b)), false},
		{"the same as an option of two units", "a", own("a"), discovery(neighbourSolicits, gateway6, append([]byte{1, 2}, make([]byte, 14)...)), false},
		{"solicitation from another", "a", own("b"), discovery(neighbourSolicits, gateway6, option(1, a)), false},
		{"solicitation from the gateway", "a", gateway6, discovery(neighbourSolicits, gateway6, option(1, a)), false},
		{"advertisement of a neighbour", "a", own("a"), discovery(neighbourAdvertisement, addr6["b"], option(2, a)), false},
		{"advertisement of the gateway", "a", own("a"), discovery(neighbourAdvertisement, gateway6, option(2, a)), false},
		{"advertisement of the host", "a", addr6["a"], discovery(neighbourAdvertisement, addr6["host"], option(2, a)), false},
		{"objection to duplicate address detection", "a", own("a"), discovery(neighbourAdvertisement, ip("fd65::9"), option(2, a)), false},
		{"advertisement with the MAC address of another", "a", own("a"), discovery(neighbourAdvertisement, addr6["a"], option(2, b)), false},
		{"the option of solicitations in an advertisement", "a", own("a"), discovery(neighbourAdvertisement, addr6["a"], option(1, b)), false},
		{"the option of solicitations in an advertisement, with its own MAC address", "a", own("a"), discovery(neighbourAdvertisement, addr6["a"], option(1, a)), false},
		{"the option of advertisements in a solicitation, with its own MAC address", "a", own("a"), discovery(neighbourSolicits, gateway6, option(2, a)), false},
		{"router solicitation with the MAC address of another", "a", own("a"), discovery(routerSolicitation, none, option(1, b)), false},
		{"advertisement of a neighbour, MAC address not known", "c", own("c"), discovery(neighbourAdvertisement, addr6["b"], option(2, a)), false},
	} {
		g := newGate(r, "cali"+x.from)
		f := icmp6Frame(wlMAC(x.from), x.src, allNodes, 255, slices.Clone(x.icmp))
		if n := g.passed(x.from, f); (n == 1) != x.want {
			t.Errorf("%s: passed %d times, want passed %v", x.name, n, x.want)
		}
	}
	quiet(t, r.tab, r.v)
}

// TestS04_Flood fills the host's table of IPv6 neighbours from a workload, if it
// can.
func TestS04_Flood(t *testing.T) {
	r := spoofRig(t)
	must(t, r.host.SetSysctl("net/ipv6/conf/calia/accept_untracked_na", "2"))
	flood := func(n int) int {
		var frames [][]byte
		for i := range n {
			target := ip("fd65::8:0").As16()
			binary.BigEndian.PutUint16(target[14:], uint16(i))
			from := own("a").As16()
			binary.BigEndian.PutUint16(from[8:], uint16(i+1))
			frames = append(frames, icmp6Frame(wlMAC("a"), own("a"), allNodes, 255, discovery(neighbourAdvertisement, netip.AddrFrom16(target), option(2, wlMAC("a")))),
				icmp6Frame(wlMAC("a"), netip.AddrFrom16(from), gateway6, 255, discovery(neighbourSolicits, gateway6, option(1, wlMAC("a")))))
		}
		r.answers("a", frames...)
		return len(r.neighbours("calia"))
	}
	if n := flood(1000); n > 6 {
		t.Errorf("%d neighbours on calia after a flood", n)
	}
	r.expect(true, lab.UDP, "n", "b", 80, 6)
	must(t, r.tab.Teardown())
	if n := flood(50); n < 50 {
		t.Errorf("without the tables %d neighbours on calia: the test shows nothing", n)
	}
}

// to addresses a frame made for a group to one neighbour.
func to(mac net.HardwareAddr, frame []byte) []byte { return append(slices.Clone(mac), frame[6:]...) }

// TestS07_Leaders sends what routers and servers send to lead others, to the
// host and to workloads there and elsewhere, with allow-all policy.
func TestS07_Leaders(t *testing.T) {
	r := spoofRig(t)
	var frames [][]byte
	for _, name := range []string{"b", "n", "host"} {
		dst := addr6[name]
		// Router advertisement with a prefix, listener query, redirect, renumbering.
		for _, m := range [][]byte{
			append([]byte{134, 0, 0, 0, 64, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0}, ip("2001:db8::").AsSlice()...),
			append([]byte{130, 0, 0, 0, 0, 1, 0, 0}, make([]byte, 16)...),
			slices.Concat([]byte{137, 0, 0, 0, 0, 0, 0, 0}, addr6["a"].AsSlice(), ip("2001:db8::1").AsSlice()),
			{138, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0},
		} {
			for _, src := range []netip.Addr{addr6["a"], own("a")} {
				frames = append(frames, to(hostMAC, icmp6Frame(wlMAC("a"), src, dst, 255, slices.Clone(m))), icmp6Frame(wlMAC("a"), src, allNodes, 255, slices.Clone(m)))
			}
		}
		l := link{mac: wlMAC("a"), hmac: hostMAC}
		for _, p := range []policy.Packet{
			{Src: addr4["a"], Dst: addr4[name], Proto: udp, SrcPort: 67, DstPort: 68},
			{Src: addr4["a"], Dst: ip("255.255.255.255"), Proto: udp, SrcPort: 67, DstPort: 68},
			{Src: addr6["a"], Dst: addr6[name], Proto: udp, SrcPort: 547, DstPort: 546},
			{Src: own("a"), Dst: allNodes, Proto: udp, SrcPort: 547, DstPort: 546},
			{Src: addr4["a"], Dst: addr4[name], Proto: icmp, ICMPType: 5},
			{Src: addr4["a"], Dst: addr4[name], Proto: icmp, ICMPType: 9},
		} {
			for _, split := range []bool{false, true} { // a fragment hides nothing
				frames = append(frames, shots(l, p, split)...)
			}
		}
		query := policy.Packet{Src: addr4["a"], Dst: ip("224.0.0.1"), Proto: protoIGMP}
		frames = append(frames, frame(l, query, []byte{igmpQuery, 100, 0xee, 0x9b, 0, 0, 0, 0}, 0, 0, false))
	}
	g := newGate(r, "calia")
	if n := g.passed("a", frames...); n > 0 {
		t.Errorf("%d of %d frames passed", n, len(frames))
	}
	// What looks like it and is not.
	l := link{mac: wlMAC("a"), hmac: hostMAC}
	var fine [][]byte
	for _, p := range []policy.Packet{
		{Src: addr4["a"], Dst: addr4["b"], Proto: udp, SrcPort: 68, DstPort: 67}, {Src: addr6["a"], Dst: addr6["b"], Proto: udp, SrcPort: 546, DstPort: 547},
		{Src: addr4["a"], Dst: addr4["b"], Proto: tcp, SrcPort: 67, DstPort: 68}, {Src: addr4["a"], Dst: addr4["b"], Proto: udp, SrcPort: 5353, DstPort: 5353},
		{Src: addr4["a"], Dst: addr4["b"], Proto: icmp, ICMPType: 8}, {Src: addr6["a"], Dst: addr6["b"], Proto: icmp6, ICMPType: 128},
		{Src: addr6["a"], Dst: addr6["b"], Proto: icmp6, ICMPType: 2}, {Src: own("a"), Dst: ip("ff02::16"), Proto: icmp6, ICMPType: 143},
	} {
		fine = append(fine, shots(l, p, false)...)
	}
	if n := g.passed("a", fine...); n != len(fine) {
		t.Errorf("%d of %d harmless frames passed", n, len(fine))
	}
	quiet(t, r.tab, r.v)
}

// TestS07_NamesOfOthers has a workload answer to questions for names on the link (mDNS, LLMNR), in groups that the host is a
// member of on that interface: it does not hear them, unless its operator lets workloads talk to it.
func TestS07_NamesOfOthers(t *testing.T) {
	r := spoofRig(t)
	index, err := r.host.LinkIndex("calia")
	must(t, err)
	for port, groups := range map[uint16][2]netip.Addr{5353: {ip("224.0.0.251"), ip("ff02::fb")}, 5355: {ip("224.0.0.252"), ip("ff02::1:3")}} {
		h := newHears(r, r.host, port)
		must(t, r.host.Do(func() error { // a member for as long as these sockets are there
			four, err4 := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			six, err6 := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			r.Cleanup(func() { unix.Close(four); unix.Close(six) })
			return errors.Join(err4, err6,
				unix.SetsockoptIPMreqn(four, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: groups[0].As4(), Ifindex: int32(index)}),
				unix.SetsockoptIPv6Mreq(six, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: groups[1].As16(), Interface: uint32(index)}))
		}))
		for _, action := range []HostAction{HostDrop, HostAccept} {
			r.retune(func(o *Options) { o.HostAction = action })
			for _, p := range []lab.Packet{
				{Src: addr4["a"], Dst: groups[0], DstMAC: net.HardwareAddr{1, 0, 0x5e, 0, 0, groups[0].As4()[3]}}, {Src: addr4["a"], Dst: addr4["host"], DstMAC: hostMAC},
				{Src: own("a"), Dst: groups[1], DstMAC: append(net.HardwareAddr{0x33, 0x33}, groups[1].AsSlice()[12:]...)}, {Src: addr6["a"], Dst: addr6["host"], DstMAC: hostMAC},
			} {
				p.Proto, p.SrcPort, p.DstPort, p.Payload = lab.ProtoUDP, port, port, []byte("answer")
				must(t, r.wl["a"].SendPacket("eth0", p))
			}
			r.expect(true, lab.UDP, "a", "n", 80) // they are through
			c, err := r.n.Dial(t.Context(), "udp", netip.AddrPortFrom(addr4["host"], port).String())
			must(t, err)
			_, err = c.Write([]byte("last"))
			must(t, err)
			must(t, c.Close())
			want := map[HostAction]int{HostDrop: 0, HostAccept: 4}[action]
			if got := h.until("last"); len(got) != want {
				t.Errorf("port %d, %v: the host heard %q, want %d", port, action, got, want)
			}
		}
	}
}

// shots renders a packet in one frame or in fragments.
func shots(l link, p policy.Packet, split bool) [][]byte {
	return frames(l, &shot{Packet: p, split: split}, []byte("mark"))
}

// TestS12_Encapsulation sends packets inside packets, to the host and to others,
// with each of the settings.
func TestS12_Encapsulation(t *testing.T) {
	r := spoofRig(t)
	l := link{mac: wlMAC("a"), hmac: hostMAC}
	kinds := map[string][][]byte{}
	for _, to := range []string{"host", "b", "n"} {
		for _, v := range []int{4, 6} {
			p := policy.Packet{Src: addrOf(v, "a"), Dst: addrOf(v, to)}
			vxlan, other := p, p
			vxlan.Proto, vxlan.DstPort, other.Proto, other.DstPort = udp, 4789, udp, 8472
			kinds["VXLAN"] = append(kinds["VXLAN"], append(shots(l, vxlan, false), shots(l, vxlan, true)...)...)
			kinds["VXLAN elsewhere"] = append(kinds["VXLAN elsewhere"], shots(l, other, false)...)
			for _, proto := range []uint8{protoIPIP, protoIPv6} {
				p.Proto = proto
				inner := lab.Packet{DstMAC: hostMAC, SrcMAC: wlMAC("a"), Src: addr4["b"], Dst: addr4["n"], Proto: lab.ProtoUDP, DstPort: 80}
				if proto == protoIPv6 {
					inner.Src, inner.Dst = addr6["b"], addr6["n"]
				}
				in, err := inner.Frame()
				must(t, err)
				kinds["IP in IP"] = append(kinds["IP in IP"], frame(l, p, in[14:], 0, 0, false))
			}
		}
	}
	g := newGate(r, "calia")
	for _, x := range []struct {
		change func(*Options)
		passes []string
	}{
		{func(*Options) {}, []string{"VXLAN elsewhere"}},
		{func(o *Options) { o.AllowVXLAN = true }, []string{"VXLAN", "VXLAN elsewhere"}},
		{func(o *Options) { o.AllowIPIP = true }, []string{"IP in IP", "VXLAN elsewhere"}},
		{func(o *Options) { o.VXLANPort = 8472 }, []string{"VXLAN"}},
		{func(*Options) {}, []string{"VXLAN elsewhere"}},
	} {
		o := Options{Prefixes: []string{"cali"}}
		x.change(&o)
		r.retune(func(in *Options) { *in = o })
		for name, frames := range kinds {
			want := 0
			if slices.Contains(x.passes, name) {
				want = len(frames)
				if name == "VXLAN" {
					want -= len(frames) / 3 // of three frames two are one packet
				}
			}
			if n := g.passed("a", frames...); n != want {
				t.Errorf("%+v: %s: %d of %d passed", o, name, n, want)
			}
		}
	}
}

// TestRefused holds the rules against their twin, with random packets.
func TestRefused(t *testing.T) {
	r := spoofRig(t)
	g := newGate(r, "calia")
	l := link{mac: wlMAC("a"), hmac: hostMAC}
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	one := func(list ...int) int { return list[rnd.IntN(len(list))] }
	for range 20 {
		o := Options{Prefixes: []string{"cali"}, AllowVXLAN: rnd.IntN(2) == 0, AllowIPIP: rnd.IntN(2) == 0, VXLANPort: uint16(one(0, 53, 8472))}
		must(t, r.tab.SetOptions(o))
		must(t, r.tab.Apply(r.v, r.v.flush()))
		want := 0
		var pour [][]byte
		for range 200 {
			v := one(4, 6)
			p := policy.Packet{Src: addrOf(v, "a"), Dst: addrOf(v, []string{"b", "n", "host"}[rnd.IntN(3)]),
				Proto: uint8(one(1, 4, 6, 17, 17, 17, 41, 47, 58, 132)), SrcPort: uint16(one(53, 67, 547, 4789)), DstPort: uint16(one(53, 67, 68, 546, 547, 4789, 8472))}
			if p.Proto == icmp || p.Proto == icmp6 {
				p.ICMPType = uint8(rnd.IntN(256))
				if slices.Contains([]uint8{routerSolicitation, neighbourSolicits, neighbourAdvertisement}, p.ICMPType) {
					continue // see TestS04_NeighbourDiscovery
				}
			}
			pour = append(pour, shots(l, p, false)...)
			if r.tab.opts.Refused(p) == "" {
				want++
			}
		}
		if n := g.passed("a", pour...); n != want {
			t.Fatalf("seed %d, %+v: %d passed, the twin says %d", seed, o, n, want)
		}
	}
}
