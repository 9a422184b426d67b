// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/policy/policytest"
)

var oraclePackets = flag.Int("oracle.packets", 30_000, "packets that TestQ02_KernelAgreesWithEvaluator sends")

// perWorld is how many packets a random world is asked about at most; many have
// fewer flows to ask about.
const perWorld = 600

// wires is a host whose links all end in one namespace that only looks: what
// is sent there on one link and comes back on another was forwarded.
type wires struct {
	host, far *lab.Namespace
	fd        int            // of a packet socket in far, on all links
	links     []link         // by place: cali0…, then the uplink
	at        map[int]int    // interface number in far → place
	place     map[string]int // name on the host → place
	conntrack *netlink.Handle
	buf       []byte
	local     hostSockets
}

type link struct {
	host      string // its name on the host
	number    int    // of its end in far
	mac, hmac net.HardwareAddr
}

const uplink = "up0"

// beyond are the next hops on the uplink.
var beyond = map[bool]netip.Addr{true: ip("172.16.0.2"), false: ip("fd16::2")}

// newWires makes the host with these interfaces of workloads, or those of
// policytest.
func newWires(t testing.TB, workloads ...string) *wires {
	if len(workloads) == 0 {
		workloads = policytest.Interfaces
	}
	l := labtest.New(t)
	runtime.LockOSThread() // and never unlocked: the thread is pinned, and ends with the test
	var cpus unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &cpus))
	for i := range 1024 {
		if cpus.IsSet(i) {
			cpus.Zero()
			cpus.Set(i)
			break
		}
	}
	must(t, unix.SchedSetaffinity(0, &cpus))
	w := &wires{host: labtest.Namespace(t, l, "host"), far: labtest.Namespace(t, l, "far"),
		at: map[int]int{}, place: map[string]int{}, buf: make([]byte, 4096)}
	for k, v := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/default/accept_dad": "0",
		"net/ipv4/conf/all/send_redirects": "0", "net/ipv4/conf/default/send_redirects": "0",
		"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0",
	} {
		must(t, w.host.SetSysctl(k, v))
	}
	must(t, w.far.SetSysctl("net/ipv6/conf/default/disable_ipv6", "1"))
	for i, name := range append(slices.Clone(workloads), uplink) {
		far := fmt.Sprintf("w%d", i)
		must(t, lab.Veth(lab.End{NS: w.host, Name: name}, lab.End{NS: w.far, Name: far}))
		n, err := w.far.LinkIndex(far)
		must(t, err)
		mac, err := w.far.MAC(far)
		must(t, err)
		hmac, err := w.host.MAC(name)
		must(t, err)
		w.links = append(w.links, link{name, n, mac, hmac})
		w.at[n], w.place[name] = i, i
	}
	for _, p := range []string{"172.16.0.1/24", "fd16::1/64"} {
		must(t, w.host.AddAddr(uplink, netip.MustParsePrefix(p)))
	}
	for v4, via := range beyond {
		must(t, w.host.AddNeighbour(uplink, via, w.links[w.place[uplink]].mac))
		must(t, w.host.AddRoute(map[bool]netip.Prefix{true: netip.MustParsePrefix("0.0.0.0/0"), false: netip.MustParsePrefix("::/0")}[v4], via, uplink))
	}
	must(t, w.host.Do(func() (err error) {
		w.conntrack, err = netlink.NewHandle(unix.NETLINK_NETFILTER)
		return err
	}))
	t.Cleanup(w.conntrack.Close)
	must(t, w.far.Do(func() (err error) {
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL)))
		return err
	}))
	t.Cleanup(func() { unix.Close(w.fd) })
	must(t, unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20))
	must(t, unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	w.local = newHostSockets(t, w.host)
	return w
}

func htons(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }

// table opens the table of the host.
func (w *wires) table(t testing.TB, change ...func(*Options)) *Table {
	t.Helper()
	ns, err := os.Open(w.host.Path())
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	return openTable(t, append(change, func(o *Options) { o.NetNS = int(ns.Fd()) })...)
}

// route sends the addresses of local endpoints to their interfaces, and all
// others out.
func (w *wires) route(t fataler, home func(netip.Addr) string) {
	for _, v4 := range []bool{true, false} {
		for i := range policytest.Addrs {
			a := policytest.Addr(v4, i)
			if isOwn(a) {
				continue
			}
			iface, via := home(a), netip.Addr{}
			if iface == "" {
				iface, via = uplink, beyond[v4]
			}
			check(t, w.replace(a, via, iface))
		}
	}
}

func (w *wires) replace(a, via netip.Addr, iface string) error {
	h, err := w.host.Handle()
	if err != nil {
		return err
	}
	n, err := w.host.LinkIndex(iface)
	if err != nil {
		return err
	}
	r := &netlink.Route{Dst: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}, LinkIndex: n, Scope: unix.RT_SCOPE_LINK}
	if via.IsValid() {
		r.Gw, r.Scope = via.AsSlice(), unix.RT_SCOPE_UNIVERSE
	} else if err := h.NeighSet(&netlink.Neigh{LinkIndex: n, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: w.links[w.place[iface]].mac}); err != nil {
		return err
	}
	return h.RouteReplace(r)
}

type fataler interface{ Fatal(...any) }

func check(t fataler, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// shot is a packet on its way: where it goes in, and where it must come out,
// which is nowhere if that is negative.
type shot struct {
	policy.Packet
	in, out  int  // atHost is the host itself
	split    bool // into two fragments
	came     []int
	trace    policy.Trace
	expected string // the reasons, for people
}

var tag = []byte("muslin-oracle")

// fire sends shots and notes where each came out. The test's thread is pinned to
// one CPU, whose queue of packets keeps their order: a frame that is no IP packet, and
// goes to the host last and back from there, tells that all others have had their
// chance.
func (w *wires) fire(t fataler, shots []*shot) {
	const burst = 50
	up := w.links[w.place[uplink]]
	for at := 0; at < len(shots); at += burst {
		for i := at; i < min(at+burst, len(shots)); i++ {
			s := shots[i]
			if s.in == atHost {
				check(t, w.local.send(s, append(bytes.Clone(tag), byte(i>>16), byte(i>>8), byte(i))))
				continue
			}
			l := w.links[s.in]
			for _, f := range frames(l, s, append(bytes.Clone(tag), byte(i>>16), byte(i>>8), byte(i))) {
				check(t, unix.Sendto(w.fd, f, 0, &unix.SockaddrLinklayer{Ifindex: l.number}))
			}
		}
		last := append(slices.Concat(up.hmac, up.mac, []byte{sentinel >> 8, sentinel & 0xff}, tag), 255, 255, 255)
		check(t, unix.Sendto(w.fd, last, 0, &unix.SockaddrLinklayer{Ifindex: up.number}))
		check(t, w.local.reflect(last))
		w.collect(t, shots)
	}
}

// collect reads until the sentinel comes.
func (w *wires) collect(t fataler, shots []*shot) {
	for {
		fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 10_000); n == 0 || err != nil && err != unix.EINTR {
			t.Fatal("the sentinel does not come back: ", err)
		}
		n, from, err := unix.Recvfrom(w.fd, w.buf, 0)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		check(t, err)
		p := bytes.LastIndex(w.buf[:n], tag)
		if p < 0 || n < p+len(tag)+3 {
			continue
		}
		b := w.buf[p+len(tag):]
		i := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		if i == 0xffffff {
			w.local.received(func(i int) { shots[i].arrived(atHost) })
			return
		}
		if i >= len(shots) || sender(w.buf[:n]) != shots[i].Src || !addressed(w.buf[:n], shots[i].Dst) {
			continue // an ICMP message that quotes it, or an answer
		}
		if at := w.at[from.(*unix.SockaddrLinklayer).Ifindex]; at >= 0 {
			shots[i].arrived(at)
		}
	}
}

// sender is the source address of a frame with an IP packet, the zero Addr of any other.
func sender(frame []byte) netip.Addr {
	const ether = 14
	switch p := frame[min(ether, len(frame)):]; {
	case len(p) >= 20 && p[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(p[12:16]))
	case len(p) >= 40 && p[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(p[8:24]))
	}
	return netip.Addr{}
}

// TestQ02_KernelAgreesWithEvaluator puts random worlds in force, as the agent
// does, and sends real packets through the kernel, in both families: each must
// come out where the evaluator says, or nowhere. The kernel's side goes through
// index, rendering and transactions; the evaluator reads the objects.
func TestQ02_KernelAgreesWithEvaluator(t *testing.T) {
	w := newWires(t)
	tab := w.table(t, func(o *Options) { o.HostAction, o.Failsafes = HostAccept, oracleFailsafes })

	x := policy.NewIndex(policytest.Nodes[0])
	stored := map[policy.Key]bool{}
	tally := map[string]int{}
	sent := 0
	must(t, flag.Set("rapid.checks", fmt.Sprint(max(1, *oraclePackets*3/2/perWorld))))
	rapid.Check(t, func(t *rapid.T) {
		world := &policy.World{Node: policytest.Nodes[0], Reserved: policytest.Reserved(t), Interfaces: map[string][]netip.Addr{}, Failsafes: oracleFailsafes}
		for _, a := range hostAddrs {
			world.Reserved[a] = "this host"
			world.Interfaces[uplink] = append(world.Interfaces[uplink], a)
		}
		x.Reserve(world.Reserved)
		x.HostInterfaces(world.Interfaces)
		for k := range stored { // nothing of the last world stays
			x.Set(k, nil, nil)
		}
		clear(stored)
		objects := map[policy.Key]v3.Resource{}
		for range rapid.IntRange(5, 40).Draw(t, "objects") {
			k := policytest.DrawKey(t)
			objects[policy.Key(k)] = policytest.DrawObject(t, k, true)
		}
		if policytest.Chance(t, "host", 2) { // a host endpoint and what concerns it
			policytest.DrawHostWorld(t, func(k policytest.Key, r v3.Resource) { objects[policy.Key(k)] = r })
		}
		if policytest.Chance(t, "processes", 2) {
			policytest.DrawProcesses(t, func(k policytest.Key, r v3.Resource) { objects[policy.Key(k)] = r })
		}
		for k, r := range objects { // in any order, each once: a bad one leaves the last good one in force
			world.Put(k, r, nil)
			x.Set(k, r, nil)
			stored[k] = true
			if policytest.Chance(t, "apply", 6) {
				check(t, tab.Apply(x, x.Flush()))
			}
		}
		ch := x.Flush()
		o := tab.opts
		o.Processes = false
		for e := range x.Endpoints() {
			o.Processes = o.Processes || e.Process
		}
		o.HostAction = policytest.Pick(t, "host action", []HostAction{HostAccept, HostAccept, HostDrop})
		check(t, tab.SetOptions(o))
		check(t, tab.Apply(x, ch))
		for _, p := range tab.Problems() {
			t.Fatalf("problem: %s: %v", p.Object, p.Err)
		}
		check(t, w.conntrack.ConntrackTableFlush(netlink.ConntrackTable))

		memory, err := NewMemory(policytest.Nodes[0], tab.opts, world)
		check(t, err)
		check(t, memory.Apply(x, policy.Changes{}))
		c := &crossing{world: world, memory: memory, w: w, owners: map[netip.Addr]policy.EndpointID{}, rnd: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "packets"), 1))}
		w.local.place(t, c.process)
		w.route(t, c.home)
		shots := c.shots(perWorld)
		w.fire(t, shots)
		failed := false
		for _, s := range shots {
			want := []int(nil)
			if s.out >= 0 {
				want = []int{s.out}
			}
			if !slices.Equal(s.came, want) {
				t.Errorf("%+v, in on %v, fragments %v: came out on %v, want %v: %s", s.Packet, w.names([]int{s.in}), s.split, w.names(s.came), w.names(want), s.expected)
				failed = true
			}
			tally[strings.SplitN(s.expected, ":", 2)[0]]++
			s.count(tally, c)
		}
		if failed {
			b, _ := json.MarshalIndent(slices.Collect(maps.Values(objects)), "", " ")
			t.Logf("the world, of which %s is here: %s", policytest.Nodes[0], b)
		}
		sent += len(shots)
	})
	t.Logf("%d packets: %v", sent, tally)
	for _, k := range []string{"allowed", "denied", "invalid", "spoofed", "to the host", "from the host",
		"to a process", "from a process", "between processes", "host stage 1", "host stage 2", "host stage 3", "host stage 4"} {
		if tally[k] == 0 {
			t.Errorf("no packet was %s: the worlds are too poor", k)
		}
	}
}

func (w *wires) names(places []int) (names []string) {
	for _, p := range places {
		if p == atHost {
			names = append(names, "the host")
		} else {
			names = append(names, w.links[p].host)
		}
	}
	return names
}

// crossing draws packets through one world, and says what must become of them.
type crossing struct {
	world  *policy.World
	memory *Memory
	w      *wires
	rnd    *rand.Rand

	owners map[netip.Addr]policy.EndpointID
}

// local returns the local endpoint that has an address, by the evaluator. One
// that is closed has no route, and where packets to it go is not asked here.
func (c *crossing) local(a netip.Addr) policy.EndpointID {
	id, ok := c.owners[a]
	if ok {
		return id
	}
	id, ok = c.world.Owner(a)
	if !ok || c.world.Endpoints[id].Spec.Node != policytest.Nodes[0] ||
		policy.Evaluate(c.world, policy.Flow{Packet: policy.Packet{Src: a, Dst: a}, To: id}).Ingress.Reason == policy.Closed {
		id = policy.EndpointID{}
	}
	c.owners[a] = id
	return id
}

func (c *crossing) home(a netip.Addr) string {
	if id := c.local(a); id != (policy.EndpointID{}) && !c.world.IsProcess(id) {
		return c.world.Endpoints[id].Spec.InterfaceName
	}
	return ""
}

// process tells whether an address is one of a process of the host, and so on lo.
func (c *crossing) process(a netip.Addr) bool { return c.world.IsProcess(c.local(a)) }

// here tells whether the host itself has an address.
func (c *crossing) here(a netip.Addr) bool { return isOwn(a) || c.process(a) }

func (c *crossing) shots(n int) []*shot {
	var out []*shot
	flows := map[string]bool{}
	for tries := 0; len(out) < n && tries < 20*n; tries++ {
		s := &shot{Packet: c.packet(), out: -1}
		// A second packet of a flow would be judged as the first was.
		if k := flowOf(s.Packet); s.Src == s.Dst || flows[k] {
			continue
		} else {
			flows[k] = true
		}
		concerns := func(a netip.Addr) bool { return c.local(a) != policy.EndpointID{} }
		if !concerns(s.Src) && !concerns(s.Dst) && (isOwn(s.Src) && isOwn(s.Dst) || c.rnd.IntN(50) > 0 && len(c.world.HostEndpoints) == 0) {
			continue // no endpoint has a say
		}
		s.split = s.Proto == udp && c.rnd.IntN(8) == 0 && !c.here(s.Src)
		c.judge(s)
		out = append(out, s)
	}
	return out
}

// judge says where a packet goes in and must come out.
func (c *crossing) judge(s *shot) {
	if c.here(s.Src) || c.here(s.Dst) {
		c.judgeLocal(s)
		return
	}
	from, to := c.home(s.Src), c.home(s.Dst)
	in, out := from, to
	if in == "" {
		in = uplink
	}
	if out == "" {
		out = uplink
	}
	s.in = c.w.place[in]
	if c.rnd.IntN(10) == 0 { // from a workload that does not have the address
		if other := c.rnd.IntN(len(policytest.Interfaces)); other != s.in {
			s.in, in = other, policytest.Interfaces[other]
		}
	}
	c.conclude(s, c.w.place[out], in, out)
}

// conclude says what must become of a packet that goes this way.
func (c *crossing) conclude(s *shot, at int, in, out string) {
	v := c.memory.Judge(s.Packet, in, out)
	if s.trace, s.expected = v.Trace, v.Why; v.Passes {
		s.out = at
	}
}

func (c *crossing) packet() policy.Packet {
	// UDP-Lite is left out: the kernel checks its checksums in IPv6 as UDP's, and
	// calls the packets invalid.
	one := func(list ...int) int { return list[c.rnd.IntN(len(list))] }
	v4 := c.rnd.IntN(2) == 0
	p := policy.Packet{
		Src: policytest.Addr(v4, c.rnd.IntN(policytest.Addrs)), Dst: policytest.Addr(v4, c.rnd.IntN(policytest.Addrs)),
		Proto: uint8(one(icmp, tcp, tcp, tcp, udp, udp, udp, icmp6, sctp, sctp, 47, 89)),
	}
	if policy.HasPorts(p.Proto) {
		p.SrcPort, p.DstPort = uint16(one(0, 53, 80, 81, 443, 1024+c.rnd.IntN(60000))), uint16(one(0, 53, 80, 81, 443, 65535))
	}
	if p.Proto == icmp && v4 || p.Proto == icmp6 && !v4 {
		p.ICMPType, p.ICMPCode = uint8(one(0, 8, 8, 8, 13, 255)), uint8(one(0, 0, 1))
		if !v4 {
			p.ICMPType = uint8(one(128, 128, 128, 129, 139, 255))
		}
	}
	return p
}

// The protocols that have a meaning here.
const (
	icmp  = 1
	icmp6 = 58
	sctp  = 132
)

// flowOf names the flow of a packet, in either direction. That of a protocol
// without ports is the pair of addresses; ICMP has an identifier, which is
// different in each packet.
func flowOf(p policy.Packet) string {
	a, b := netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort)
	if a.Compare(b) > 0 {
		a, b = b, a
	}
	if p.ICMPType != 0 {
		return fmt.Sprint(a, b, p.Proto, p.ICMPType, p.ICMPCode)
	}
	return fmt.Sprint(a, b, p.Proto)
}
