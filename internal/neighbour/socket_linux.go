// SPDX-License-Identifier: Apache-2.0

package neighbour

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket sends and receives router solicitations and advertisements on every
// interface.
type socket struct {
	file     *os.File
	raw      syscall.RawConn
	joined   map[int]bool // interfaces on which we hear what is for routers
	arrivals chan arrival
	failed   chan error
	closed   chan struct{}
}

func open(within func(func() error) error) (*socket, error) {
	fd := -1
	err := within(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMPV6)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ICMPv6 socket: %w", err)
	}
	for _, o := range [][2]int{
		{unix.IPV6_RECVHOPLIMIT, 1}, {unix.IPV6_RECVPKTINFO, 1},
		{unix.IPV6_MULTICAST_HOPS, hopLimit}, {unix.IPV6_UNICAST_HOPS, hopLimit}, {unix.IPV6_MULTICAST_LOOP, 0},
	} {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, o[0], o[1]))
	}
	// A bit of the filter keeps a type out.
	only := unix.ICMPv6Filter{}
	for i := range only.Data {
		only.Data[i] = 1<<32 - 1
	}
	for _, typ := range []int{typeSolicitation, typeAdvertisement} {
		only.Data[typ>>5] &^= 1 << (typ & 31)
	}
	if err = errors.Join(err, unix.SetsockoptICMPv6Filter(fd, unix.SOL_ICMPV6, unix.ICMPV6_FILTER, &only)); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("ICMPv6 socket: %w", err)
	}
	s := &socket{file: os.NewFile(uintptr(fd), "icmp6"), joined: map[int]bool{},
		arrivals: make(chan arrival), failed: make(chan error, 1), closed: make(chan struct{})}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		_ = s.file.Close()
		return nil, fmt.Errorf("ICMPv6 socket: %w", err)
	}
	go s.receive()
	return s, nil
}

// close ends receive, and waits for it. A nil socket is closed.
func (s *socket) close() {
	if s == nil {
		return
	}
	_ = s.file.Close()
	for {
		select {
		case <-s.arrivals:
		case <-s.closed:
			return
		}
	}
}

// receive hands over what arrives, until the socket is closed.
func (s *socket) receive() {
	defer close(s.closed)
	buf, control := make([]byte, 2048), make([]byte, 256)
	for {
		var a arrival
		var bad error
		err := s.raw.Read(func(fd uintptr) bool {
			n, cn, _, from, err := unix.Recvmsg(int(fd), buf, control, 0)
			if err == unix.EAGAIN || err == unix.EINTR {
				return false
			}
			if bad = err; err != nil {
				return true
			}
			if sa, ok := from.(*unix.SockaddrInet6); ok {
				a.from = netip.AddrFrom16(sa.Addr)
			}
			a.message = append([]byte(nil), buf[:n]...)
			a.index, a.hops = ancillary(control[:cn])
			return true
		})
		switch {
		case err != nil:
			return // closed
		case bad != nil:
			s.failed <- bad
			return
		}
		s.arrivals <- a
	}
}

// ancillary reads the interface and the hop limit.
func ancillary(b []byte) (index, hops int) {
	hops = -1
	msgs, _ := unix.ParseSocketControlMessage(b)
	for _, m := range msgs {
		switch {
		case m.Header.Level != unix.IPPROTO_IPV6:
		case m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4:
			hops = int(int32(binary.NativeEndian.Uint32(m.Data)))
		case m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			index = int(binary.NativeEndian.Uint32(m.Data[16:]))
		}
	}
	return index, hops
}

// join has the kernel pass on what is sent to all routers on a link. It does so by
// itself where it forwards.
func (s *socket) join(index int) {
	if s.joined[index] {
		return
	}
	err := s.control(func(fd int) error {
		return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: allRouters.As16(), Interface: uint32(index)})
	})
	s.joined[index] = err == nil || errors.Is(err, unix.EADDRINUSE)
}

// send sends a message from our address on a link. What cannot be sent is sent
// again when it is due.
func (s *socket) send(message []byte, to netip.Addr, l *link) {
	_ = s.control(func(fd int) error {
		from := unix.PktInfo6(&unix.Inet6Pktinfo{Addr: l.Addr.As16(), Ifindex: uint32(l.Index)})
		return unix.Sendmsg(fd, message, from, &unix.SockaddrInet6{Addr: to.As16(), ZoneId: uint32(l.Index)}, 0)
	})
}

func (s *socket) control(fn func(fd int) error) (err error) {
	if e := s.raw.Control(func(fd uintptr) { err = fn(int(fd)) }); e != nil {
		return e
	}
	return err
}
