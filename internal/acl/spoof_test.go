// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"golang.org/x/sys/unix"
)

// spoofPort marks the packets of these tests; sentinelPort ends a run.
const (
	spoofPort    = 6666
	sentinelPort = 6667
)

// spoofed sends packets from a and returns those that reach the workload b,
// the neighbour n, or any other link they should not. A packet with a's own
// addresses, sent last, shows that the others have had their chance.
func (r *rig) spoofed(packets []lab.Packet, frames ...[]byte) (leaked []string) {
	r.Helper()
	var caps []*lab.Capture
	for _, at := range []struct {
		ns   *lab.Namespace
		link string
	}{{r.wl["b"], "eth0"}, {r.n, "eth0"}} {
		c, err := at.ns.Capture(at.link)
		must(r, err)
		defer c.Close()
		caps = append(caps, c)
	}
	for _, p := range packets {
		p.DstMAC, p.Proto, p.SrcPort, p.DstPort = hostMAC, lab.ProtoUDP, spoofPort, spoofPort
		must(r, r.wl["a"].SendPacket("eth0", p))
	}
	for _, f := range frames {
		must(r, r.wl["a"].SendFrame("eth0", f))
	}
	for i, to := range []string{"b", "n"} {
		must(r, r.wl["a"].SendPacket("eth0", lab.Packet{DstMAC: hostMAC, Src: addr4["a"], Dst: addr4[to], Proto: lab.ProtoUDP, SrcPort: sentinelPort, DstPort: sentinelPort}))
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		for {
			f, err := caps[i].Next(ctx, func(f lab.Frame) bool { return f.Proto == lab.ProtoUDP && !f.Outgoing })
			if err != nil {
				r.Fatalf("sentinel at %s: %v", to, err)
			}
			if f.DstPort == sentinelPort {
				break
			}
			if f.DstPort == spoofPort {
				leaked = append(leaked, f.String())
			}
		}
		cancel()
	}
	return leaked
}

var (
	spoof4 = []string{"10.65.0.2", "10.65.0.3", "10.65.9.9", "172.16.0.1", "172.16.0.2", "8.8.8.8", "0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1", "169.254.1.1"}
	spoof6 = []string{"fd65::2", "fd65::3", "fd16::1", "fd16::2", "2001:db8::1", "fe80::ecee:eeff:feee:eeee", "::", "::1", "::ffff:10.65.0.2", "fd65::1:2", "ff02::1"}
)

// spoofs are packets to b and to n from every source a must not use.
func spoofs() (out []lab.Packet) {
	for v, list := range map[int][]string{4: spoof4, 6: spoof6} {
		for _, src := range list {
			for _, to := range []string{"b", "n"} {
				out = append(out, lab.Packet{Src: ip(src), Dst: addrOf(v, to), Payload: []byte(src)})
			}
		}
	}
	return out
}

// spoofRig has an allow-all policy everywhere and neighbours resolved.
func spoofRig(t *testing.T, change ...func(*Options)) *rig {
	r := newRig(t, change...)
	for _, k := range []string{"all", "default", "calia", "calib", "calic", "up0"} {
		must(t, r.host.SetSysctl("net/ipv4/conf/"+k+"/rp_filter", "0")) // our rules alone must do
	}
	e := r.allowAllEffective()
	for _, n := range []string{"a", "b", "c"} {
		r.endpoint(n, e)
	}
	r.apply()
	for _, n := range []string{"b", "n"} {
		r.expect(true, lab.UDP, "a", n, 80)
	}
	return r
}

// TestS01_S05_SpoofedSources tries both layers together and each alone, with
// allow-all policy and, for S06, inside established flows.
func TestS01_S05_SpoofedSources(t *testing.T) {
	for _, layer := range []struct {
		name   string
		change func(*Options)
	}{
		{"both layers", func(*Options) {}},
		{"explicit sources alone", func(o *Options) { o.withoutRPF = true }},
		{"reverse path alone", func(o *Options) { o.withoutSources = true }},
	} {
		t.Run(layer.name, func(t *testing.T) {
			r := spoofRig(t, layer.change)
			// c talks to b and n from spoofPort: the spoofed packets of a fit
			// into established flows.
			for v, src := range map[int]netip.Addr{4: addr4["c"], 6: addr6["c"]} {
				for _, to := range []string{"b", "n"} {
					must(t, r.wl["c"].SendPacket("eth0", lab.Packet{DstMAC: hostMAC, Src: src, Dst: addrOf(v, to), Proto: lab.ProtoUDP, SrcPort: spoofPort, DstPort: spoofPort}))
				}
			}
			for _, l := range r.spoofed(spoofs()) {
				t.Errorf("leaked: %s", l)
			}
			quiet(t, r.tab, r.v)
		})
	}
	t.Run("neither layer", func(t *testing.T) { // the test itself can see a leak
		r := spoofRig(t, func(o *Options) { o.withoutRPF, o.withoutSources = true, true })
		if len(r.spoofed([]lab.Packet{{Src: addr4["c"], Dst: addr4["b"]}, {Src: addr6["c"], Dst: addr6["n"]}})) != 2 {
			t.Error("without any layer spoofed packets did not arrive: the test shows nothing")
		}
	})
}

// TestS02_SourceMAC sends from other MAC addresses with the right source.
func TestS02_SourceMAC(t *testing.T) {
	r := spoofRig(t)
	var ps []lab.Packet
	for _, mac := range []net.HardwareAddr{hostMAC, {2, 0, 0, 0, 0, 'b'}, {1, 0, 0x5e, 0, 0, 1}, {0, 0, 0, 0, 0, 0}, {2, 0, 0, 0, 1, 'a'}} {
		for _, v := range []int{4, 6} {
			ps = append(ps, lab.Packet{SrcMAC: mac, Src: addrOf(v, "a"), Dst: addrOf(v, "b")})
		}
	}
	for _, l := range r.spoofed(ps) {
		t.Errorf("leaked: %s", l)
	}
	// c has no MAC address in the model: any will do.
	cap, err := r.wl["b"].Capture("eth0")
	must(t, err)
	defer cap.Close()
	must(t, r.wl["c"].SendPacket("eth0", lab.Packet{SrcMAC: net.HardwareAddr{2, 1, 1, 1, 1, 1}, DstMAC: hostMAC, Src: addr4["c"], Dst: addr4["b"], Proto: lab.ProtoUDP, DstPort: spoofPort}))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := cap.Next(ctx, func(f lab.Frame) bool { return f.DstPort == spoofPort }); err != nil {
		t.Errorf("an endpoint without MAC address: %v", err)
	}
}

// TestS05_LinkLocal shows which link-local sources reach the host.
func TestS05_LinkLocal(t *testing.T) {
	r := spoofRig(t)
	own := func(name string) netip.Addr {
		var m [6]byte
		copy(m[:], wlMAC(name))
		return netip.AddrFrom16(eui64(m))
	}
	for _, x := range []struct {
		from string
		src  netip.Addr
		hop  byte
		want bool
	}{
		{"a", own("a"), 255, true},
		{"a", own("b"), 255, false},
		{"a", gateway6, 255, false},
		{"a", ip("fe80::1"), 255, false},
		{"a", ip("fe80:0:0:1::1"), 255, false},
		{"a", ip("::"), 255, true}, // duplicate address detection
		{"a", ip("::"), 254, false},
		{"c", own("c"), 255, true},
		{"c", ip("fe80::1234"), 255, true},
		{"c", ip("fe80:0:0:1::1"), 255, false},
	} {
		l := newLook(r, "cali"+x.from)
		must(t, r.wl[x.from].SendFrame("eth0", neighbourSolicitation(wlMAC(x.from), x.src, x.hop)))
		must(t, r.wl[x.from].SendPacket("eth0", lab.Packet{DstMAC: hostMAC, Src: addr4[x.from], Dst: addr4["host"], Proto: lab.ProtoUDP, DstPort: sentinelPort}))
		labtest.Poll(t, 2*time.Second, func() error {
			solicited, sentinel := l.counts()
			if sentinel == 0 || x.want && solicited == 0 {
				return fmt.Errorf("solicitation from %s with source %s and hop limit %d: not passed (sentinel %d)", x.from, x.src, x.hop, sentinel)
			}
			return nil
		})
		if solicited, _ := l.counts(); (solicited == 1) != x.want {
			t.Errorf("solicitation from %s with source %s and hop limit %d: passed %d times, want passed %v", x.from, x.src, x.hop, solicited, x.want)
		}
	}
}

// look counts, in a table of its own, what our first layer lets through from
// an interface: solicitations for solicitedGroup, and sentinels.
type look struct {
	*rig
	conn  *nftables.Conn
	chain *nftables.Chain
}

var solicitedGroup = ip("ff02::1:ffad:beef").As16()

func newLook(r *rig, iface string) *look {
	r.Helper()
	c, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(int(r.nsFile.Fd())))
	must(r, err)
	r.Cleanup(func() { c.CloseLasting() })
	tab := &nftables.Table{Family: nftables.TableFamilyINet, Name: "look"}
	c.AddTable(tab)
	c.DelTable(tab)
	c.AddTable(tab)
	ch := c.AddChain(&nftables.Chain{Table: tab, Name: "look", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(-299)})
	eq := func(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }
	iif := []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, eq([]byte(ifKey(iface)))}
	c.AddRule(&nftables.Rule{Table: tab, Chain: ch, Exprs: append(slices.Clone(iif),
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, eq([]byte{unix.NFPROTO_IPV6}),
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16, DestRegister: 1}, eq(solicitedGroup[:]), &expr.Counter{})})
	c.AddRule(&nftables.Rule{Table: tab, Chain: ch, Exprs: append(slices.Clone(iif),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, eq([]byte{udp}),
		&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2, DestRegister: 1}, eq(binary.BigEndian.AppendUint16(nil, sentinelPort)), &expr.Counter{})})
	must(r, c.Flush())
	return &look{r, c, ch}
}

func (l *look) counts() (solicited, sentinel uint64) {
	l.Helper()
	rs, err := l.conn.GetRules(l.chain.Table, l.chain)
	must(l, err)
	count := func(r *nftables.Rule) uint64 { return r.Exprs[len(r.Exprs)-1].(*expr.Counter).Packets }
	return count(rs[0]), count(rs[1])
}

func neighbourSolicitation(mac net.HardwareAddr, src netip.Addr, hop byte) []byte {
	tg := ip("fe80::dead:beef").As16()
	return icmp6Frame(mac, src, netip.AddrFrom16(solicitedGroup), hop, append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, tg[:]...))
}

// icmp6Frame is an ICMPv6 message to a multicast group; it fills in the
// checksum.
func icmp6Frame(mac net.HardwareAddr, src, group netip.Addr, hop byte, icmp []byte) []byte {
	s, dst := src.As16(), group.As16()
	sum := uint32(0)
	add := func(b []byte) {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	add(s[:])
	add(dst[:])
	add([]byte{0, byte(len(icmp)), 0, 58})
	add(icmp)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum))
	f := append([]byte{0x33, 0x33, dst[12], dst[13], dst[14], dst[15]}, mac...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(icmp)), 58, hop)
	f = append(f, s[:]...)
	f = append(f, dst[:]...)
	return append(f, icmp...)
}
