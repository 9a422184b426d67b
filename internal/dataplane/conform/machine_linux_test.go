// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// linux is the machine as a network namespace, whose links all end in another one that
// only sends and looks: what goes in on one and comes out of another was forwarded.
type linux struct {
	host, far *lab.Namespace
	ns        *os.File
	conntrack *netlink.Handle
	fd        int                         // of a packet socket in far, on all links
	number    map[string]int              // of the ends in far
	name      map[int]string              // … and back
	hostMAC   map[string]net.HardwareAddr // of the ends on the host
	raw       []int                       // what the host receives, of each protocol
	out       map[bool]int                // what the host sends, by whether it is IPv4
	mirror    int                         // on the host, sends sentinels back
	upNumber  int                         // of the first uplink, on the host
	placed    []netip.Addr                // on its loopback
	sent      uint32
	buf       []byte
}

// sentinel is an EtherType for experiments (IEEE 802, 0x88b5): a frame of it goes to
// the host and comes back behind all that was sent before. For that all of it must
// happen on one processor, whose queue keeps the order.
const sentinel = 0x88b5

var mark = []byte("muslin-conform")

func newLinux(t testing.TB) *linux {
	l := labtest.New(t)
	runtime.LockOSThread() // and never unlocked: the thread is pinned, and ends with the test
	var cpus, one unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &cpus))
	for i := 0; one.Count() == 0; i++ {
		if cpus.IsSet(i) {
			one.Set(i)
		}
	}
	must(t, unix.SchedSetaffinity(0, &one))
	d := &linux{host: labtest.Namespace(t, l, "host"), far: labtest.Namespace(t, l, "far"), buf: make([]byte, 4096),
		number: map[string]int{}, name: map[int]string{}, hostMAC: map[string]net.HardwareAddr{}, out: map[bool]int{}}
	for _, k := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		must(t, d.host.SetSysctl(k, "1"))
	}
	for _, k := range []string{"net/ipv6/conf/default/accept_dad", "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/default/rp_filter",
		"net/ipv4/conf/all/send_redirects", "net/ipv4/conf/default/send_redirects"} {
		must(t, d.host.SetSysctl(k, "0"))
	}
	must(t, d.host.LinkUp(policy.Loopback))
	must(t, d.far.SetSysctl("net/ipv6/conf/default/disable_ipv6", "1"))
	for i, link := range Links {
		far := fmt.Sprintf("w%d", i)
		must(t, lab.Veth(lab.End{NS: d.host, Name: link.Name}, lab.End{NS: d.far, Name: far, MAC: link.MAC[:]}))
		n, err := d.far.LinkIndex(far)
		must(t, err)
		d.number[link.Name], d.name[n] = n, link.Name
		d.hostMAC[link.Name], err = d.host.MAC(link.Name)
		must(t, err)
		for _, a := range link.Addrs {
			must(t, d.host.AddAddr(link.Name, a))
		}
		for _, a := range Behind[link.Name] {
			must(t, d.host.AddNeighbour(link.Name, a, link.MAC[:]))
		}
	}
	for _, a := range Behind[Uplinks[0].Name] {
		d.byDefault(t, a)
	}
	var err error
	d.ns, err = os.Open(d.host.Path())
	must(t, err)
	t.Cleanup(func() { d.ns.Close() })
	must(t, d.host.Do(func() (err error) {
		d.conntrack, err = netlink.NewHandle(unix.NETLINK_NETFILTER)
		return err
	}))
	t.Cleanup(d.conntrack.Close)
	d.fd = rawSocket(t, d.far, unix.AF_PACKET, int(htons(unix.ETH_P_ALL)))
	must(t, unix.SetsockoptInt(d.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	d.mirror = rawSocket(t, d.host, unix.AF_PACKET, int(htons(sentinel)))
	d.upNumber, err = d.host.LinkIndex(Uplinks[0].Name)
	must(t, err)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		for _, proto := range received {
			d.raw = append(d.raw, rawSocket(t, d.host, family, proto))
		}
		d.out[family == unix.AF_INET] = rawSocket(t, d.host, family, unix.IPPROTO_RAW)
	}
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func htons(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }

// byDefault is the default route of another daemon: protocol 3 is boot's, and the metric
// is behind ours.
func (d *linux) byDefault(t testing.TB, via netip.Addr) {
	h, err := d.host.Handle()
	must(t, err)
	n, err := d.host.LinkIndex(Uplinks[0].Name)
	must(t, err)
	must(t, h.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: make(net.IP, via.BitLen()/8), Mask: net.CIDRMask(0, via.BitLen())},
		Gw: via.AsSlice(), LinkIndex: n, Protocol: 3, Priority: 2000}))
}

func rawSocket(t testing.TB, ns *lab.Namespace, family, proto int) (fd int) {
	must(t, ns.Do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
		return err
	}))
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20))
	return fd
}

func (d *linux) Open(filter acl.Options, routes route.Options, _ *policy.World) (dataplane.Filtering, dataplane.Forwarding, error) {
	filter.NetNS, routes.Inside = int(d.ns.Fd()), d.host.Do
	f, err := acl.Open(filter)
	if err != nil {
		return nil, nil, err
	}
	r, err := route.Open(routes)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return keepsNetNS{f, filter.NetNS}, r, nil
}

// keepsNetNS is a packet filter of which the options that it is told later have no
// namespace.
type keepsNetNS struct {
	dataplane.Filtering
	ns int
}

func (f keepsNetNS) SetOptions(o acl.Options) error {
	o.NetNS = f.ns
	return f.Filtering.SetOptions(o)
}

func (d *linux) Place(addrs []netip.Addr) error {
	var errs []error
	for _, a := range d.placed {
		if !slices.Contains(addrs, a) {
			errs = append(errs, d.host.DelAddr(policy.Loopback, netip.PrefixFrom(a, a.BitLen())))
		}
	}
	for _, a := range addrs {
		if !slices.Contains(d.placed, a) {
			errs = append(errs, d.host.AddLocal(a))
		}
	}
	d.placed = slices.Clone(addrs)
	return errors.Join(errs...)
}

func (d *linux) Reset() error { return d.conntrack.ConntrackTableFlush(netlink.ConntrackTable) }

func (d *linux) Send(frames []dataplane.Frame) ([]dataplane.Outcome, error) {
	out := make([]dataplane.Outcome, len(frames))
	first := d.sent
	for _, f := range frames {
		id := binary.BigEndian.AppendUint32(slices.Clone(mark), d.sent)
		d.sent++
		p := lab.Packet{SrcMAC: f.MAC[:], DstMAC: d.hostMAC[f.In], Src: f.Src, Dst: f.Dst, Proto: f.Proto, SrcPort: f.SrcPort, DstPort: f.DstPort, ICMPType: f.ICMPType, Payload: id}
		if f.In == "" {
			p.DstMAC = make([]byte, 6)
		}
		b, err := p.Frame()
		if err == nil && f.In == "" {
			err = d.sendAsHost(b[14:], f.Dst)
		} else if err == nil {
			err = unix.Sendto(d.fd, b, 0, &unix.SockaddrLinklayer{Ifindex: d.number[f.In]})
		}
		if err != nil {
			return nil, fmt.Errorf("send %+v: %w", f, err)
		}
	}
	return out, d.collect(func(id uint32, o dataplane.Outcome) {
		i := int(id - first)
		if i >= len(out) {
			return
		}
		if out[i] = o; o.Out == "" && (slices.Contains(d.placed, frames[i].Dst) || isOnLink(frames[i].Dst)) {
			out[i].Dst = frames[i].Dst
		}
	})
}

// isOnLink tells whether an address means more than one on a link. The host's sockets do
// not tell what a packet was sent to.
func isOnLink(a netip.Addr) bool { return slices.Contains(takenHere, a) || slices.Contains(notHere, a) }

// sendAsHost sends a packet of the host itself. One that is dropped is refused, by
// policy or by a route that leads nowhere.
func (d *linux) sendAsHost(b []byte, dst netip.Addr) error {
	var to unix.Sockaddr = &unix.SockaddrInet6{Addr: dst.As16()}
	if dst.Is4() {
		to = &unix.SockaddrInet4{Addr: dst.As4()}
	}
	err := unix.Sendto(d.out[dst.Is4()], b, 0, to)
	for _, refused := range []error{unix.EPERM, unix.EINVAL, unix.ENETUNREACH, unix.EHOSTUNREACH} {
		if errors.Is(err, refused) {
			return nil
		}
	}
	return err
}

// collect reads what has come out, until the sentinel has been to the host and back.
func (d *linux) collect(take func(id uint32, o dataplane.Outcome)) error {
	up := Uplinks[0].Name
	last := slices.Concat(d.hostMAC[up], Uplinks[0].MAC[:], []byte{sentinel >> 8, sentinel & 0xff}, mark, []byte{255, 255, 255, 255})
	if err := unix.Sendto(d.fd, last, 0, &unix.SockaddrLinklayer{Ifindex: d.number[up]}); err != nil {
		return err
	}
	if err := arrived(d.mirror, "the sentinel at the host"); err != nil {
		return err
	}
	for _, err := unix.Read(d.mirror, d.buf); err == nil; _, err = unix.Read(d.mirror, d.buf) {
	}
	if err := unix.Sendto(d.mirror, last, 0, &unix.SockaddrLinklayer{Ifindex: d.upNumber}); err != nil {
		return err
	}
	for {
		if err := arrived(d.fd, "the sentinel"); err != nil {
			return err
		}
		n, from, err := unix.Recvfrom(d.fd, d.buf, 0)
		if err != nil {
			continue // nothing after all; arrived waits, and not for ever
		}
		id, ok := marked(d.buf[:n])
		f := lab.Decode(d.buf[:n])
		link, is := from.(*unix.SockaddrLinklayer)
		switch {
		case !ok || !is:
		case f.EtherType == sentinel:
			return d.received(take)
		case f.Proto == icmp || f.Proto == icmp6:
			if f.ICMPType != 8 && f.ICMPType != 128 {
				break // an answer of the host, or what it says of a packet that it quotes
			}
			fallthrough
		default:
			take(id, dataplane.Outcome{Passes: true, Out: d.name[link.Ifindex], Src: f.Src, Dst: f.Dst})
		}
	}
}

// received are the protocols that the host's sockets of each family are for.
var received = []int{icmp, tcp, udp, icmp6}

// received tells what the host has received itself, but for its own answers, and what it
// says of packets that it quotes.
func (d *linux) received(take func(id uint32, o dataplane.Outcome)) error {
	for i, fd := range d.raw {
		for {
			n, from, err := unix.Recvfrom(fd, d.buf, 0)
			if err != nil {
				break
			}
			id, ok := marked(d.buf[:n])
			if !ok || answers(d.buf[:n], received[i%len(received)], i < len(received)) {
				continue
			}
			o := dataplane.Outcome{Passes: true}
			switch a := from.(type) { // the host has one address of each family that is asked for
			case *unix.SockaddrInet4:
				o.Src, o.Dst = netip.AddrFrom4(a.Addr), addr("host", 0)
			case *unix.SockaddrInet6:
				o.Src, o.Dst = netip.AddrFrom16(a.Addr), addr("host", 1)
			}
			take(id, o)
		}
	}
	return nil
}

// answers tells whether what a raw socket has received is ICMP that asks nothing. Of IPv4
// the header is there, too.
func answers(b []byte, proto int, v4 bool) bool {
	if v4 {
		return proto == icmp && b[20] != 8
	}
	return proto == icmp6 && b[0] != 128 && b[0] != solicits
}

func marked(b []byte) (id uint32, ok bool) {
	at := bytes.LastIndex(b, mark)
	if at < 0 || len(b) < at+len(mark)+4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[at+len(mark):]), true
}

// arrived waits until something can be read.
func arrived(fd int, what string) error {
	for {
		switch n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); {
		case n > 0:
			return nil
		case err == nil:
			return fmt.Errorf("%s does not come", what)
		case err != unix.EINTR:
			return err
		}
	}
}

func TestLinux(t *testing.T) { Run(t, newLinux(t)) }
