// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bfdd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/bfd"
)

// A socket for each family and port receives; each session sends from one of its own,
// with a source port that no other has (RFC 5881 section 4). Nothing on the way of a
// packet allocates, so that the garbage collector has nothing to do.

// inlet is one of the receiving sockets.
type inlet struct{ six, multihop bool }

func (i inlet) port() int {
	if i.multihop {
		return bfd.MultihopPort
	}
	return bfd.Port
}

func inletOf(k bfd.Key) inlet { return inlet{k.Peer.Is6(), k.Multihop} }

// options are socket options of a family.
type options struct{ level, ttl, tos, pktinfo, recvTTL int }

var (
	options4 = options{unix.IPPROTO_IP, unix.IP_TTL, unix.IP_TOS, unix.IP_PKTINFO, unix.IP_RECVTTL}
	options6 = options{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_TCLASS, unix.IPV6_RECVPKTINFO, unix.IPV6_RECVHOPLIMIT}
)

func optionsOf(six bool) options {
	if six {
		return options6
	}
	return options4
}

// classCS6 is network control.
const classCS6 = 0xc0

// newSocket opens a socket, sets options and binds it.
func newSocket(six bool, bind unix.Sockaddr, set ...[3]int) (fd int, err error) {
	domain := unix.AF_INET
	if six {
		domain = unix.AF_INET6
	}
	fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if six {
		set = append(set, [3]int{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})
	}
	for _, o := range set {
		err = errors.Join(err, unix.SetsockoptInt(fd, o[0], o[1], o[2]))
	}
	if err == nil {
		err = unix.Bind(fd, bind)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// listen opens a receiving socket on all addresses: a session's own is
// compared with what each packet was sent to.
func (i inlet) listen() (fd int, err error) {
	o := optionsOf(i.six)
	var at unix.Sockaddr = &unix.SockaddrInet4{Port: i.port()}
	if i.six {
		at = &unix.SockaddrInet6{Port: i.port()}
	}
	fd, err = newSocket(i.six, at,
		[3]int{o.level, o.pktinfo, 1}, [3]int{o.level, o.recvTTL, 1}, [3]int{unix.SOL_SOCKET, unix.SO_RCVBUF, 1 << 20})
	if errors.Is(err, unix.EADDRINUSE) {
		return -1, fmt.Errorf("UDP port %d is in use, by BIRD or another BFD daemon: nothing is received on it", i.port())
	}
	if err != nil {
		return -1, fmt.Errorf("UDP port %d: %w", i.port(), err)
	}
	return fd, nil
}

// outlet is what a session sends by.
type outlet struct {
	fd   int // -1: not open
	port int
	err  error // why not
	to   unix.Sockaddr
}

// open gives the session a socket: from its own address, or the kernel's
// choice, and from a free port of the range.
func (o *outlet) open(k bfd.Key, used map[int]bool) error {
	opt := optionsOf(k.Peer.Is6())
	err := error(unix.EADDRINUSE)
	for try := 0; errors.Is(err, unix.EADDRINUSE) && try < 50; try++ {
		port := bfd.FirstFromPort + rand.IntN(bfd.LastFromPort-bfd.FirstFromPort+1)
		if used[port] && len(used) < 10000 {
			continue
		}
		o.fd, err = newSocket(k.Peer.Is6(), sockaddr(k.Local, k.Peer.Is6(), port),
			[3]int{opt.level, opt.ttl, 255}, [3]int{opt.level, opt.tos, classCS6}, [3]int{unix.SOL_SOCKET, unix.SO_PRIORITY, 6})
		if err == nil {
			o.port = port
			used[port] = true
		}
	}
	o.err = err
	if err != nil {
		o.fd = -1
	}
	o.to = sockaddr(k.Peer, k.Peer.Is6(), inletOf(k).port())
	return err
}

func (o *outlet) close(used map[int]bool) {
	if o.fd >= 0 {
		unix.Close(o.fd)
		delete(used, o.port)
	}
	o.fd = -1
}

// sockaddr is an address for the kernel; an invalid one is any.
func sockaddr(a netip.Addr, six bool, port int) unix.Sockaddr {
	if six {
		s := &unix.SockaddrInet6{Port: port}
		if a.IsValid() {
			s.Addr = a.As16()
			if i, err := net.InterfaceByName(a.Zone()); err == nil {
				s.ZoneId = uint32(i.Index)
			}
		}
		return s
	}
	s := &unix.SockaddrInet4{Port: port}
	if a.IsValid() {
		s.Addr = a.As4()
	}
	return s
}

// batch is how many packets one system call takes.
const batch = 32

// mmsghdr is the kernel's, which x/sys lacks.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// mailbag is memory for one call of recvmmsg.
type mailbag struct {
	msgs    [batch]mmsghdr
	vecs    [batch]unix.Iovec
	from    [batch]unix.RawSockaddrInet6 // room for IPv4 as well
	control [batch][128]byte
	data    [batch][64]byte // the longest BFD packet has 52; the rest of a longer one is cut off
}

func newMailbag() *mailbag {
	m := &mailbag{}
	for i := range m.msgs {
		m.vecs[i].Base = &m.data[i][0]
		m.vecs[i].SetLen(len(m.data[i]))
		h := &m.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&m.from[i]))
		h.Iov = &m.vecs[i]
		h.SetIovlen(1)
		h.Control = &m.control[i][0]
	}
	return m
}

// receive takes what is there, up to a batch, and hands each packet over.
// It reports whether there may be more.
func (m *mailbag) receive(fd int, in inlet, take func(bfd.Arrival)) (more bool) {
	for i := range m.msgs {
		h := &m.msgs[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(len(m.control[i]))
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.msgs[0])), batch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return errno == unix.EINTR
	}
	for i := range int(n) {
		a := bfd.Arrival{Multihop: in.multihop, Packet: m.data[i][:m.msgs[i].len]}
		ifindex := m.parse(i, &a)
		if in.six {
			a.Src = netip.AddrFrom16(m.from[i].Addr)
			if a.Src.IsLinkLocalUnicast() {
				a.Src = a.Src.WithZone(nameOf(fd, ifindex))
			}
		} else {
			a.Src = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&m.from[i])).Addr)
		}
		take(a)
	}
	return n == batch
}

// parse reads the ancillary data of message i: the TTL, the address it was
// sent to and the interface.
func (m *mailbag) parse(i int, a *bfd.Arrival) (ifindex int) {
	b := m.control[i][:m.msgs[i].hdr.Controllen]
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if int(h.Len) < unix.SizeofCmsghdr || int(h.Len) > len(b) {
			return ifindex
		}
		data := b[unix.CmsgLen(0):h.Len]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL && len(data) >= 4,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT && len(data) >= 4:
			a.TTL = uint8(*(*int32)(unsafe.Pointer(&data[0])))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			p := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
			a.Dst, ifindex = netip.AddrFrom4(p.Addr), int(p.Ifindex)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			p := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
			a.Dst, ifindex = netip.AddrFrom16(p.Addr), int(p.Ifindex)
		}
		b = b[min(len(b), unix.CmsgSpace(len(data))):]
	}
	return ifindex
}

// nameOf is the name of an interface, empty if it is gone. It is asked for with each
// packet of a link-local neighbour: a name that is remembered outlives its interface.
func nameOf(fd, index int) string {
	var r unix.Ifreq
	r.SetUint32(uint32(index))
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFNAME, &r); err != nil {
		return ""
	}
	return r.Name()
}

// errText shows why a packet could not be sent.
func errText(err error) string {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		err = sys.Err
	}
	return err.Error()
}
