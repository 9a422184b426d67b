// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
)

// pin keeps this goroutine's thread on one processor, counted from 0. The
// thread ends with the goroutine, because it is never unlocked.
func pin(nth int) error {
	runtime.LockOSThread()
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		return err
	}
	var list []int
	for i := range 1024 {
		if may.IsSet(i) {
			list = append(list, i)
		}
	}
	one.Set(list[nth%len(list)])
	return unix.SchedSetaffinity(0, &one)
}

// alone runs f on a pinned thread.
func alone(nth int, f func() error) error {
	done := make(chan error)
	go func() {
		err := pin(nth)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (s *stage) sockaddr(a netip.AddrPort) unix.Sockaddr {
	if s.family == 4 {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func (s *stage) domain() int { return map[int]int{4: unix.AF_INET, 6: unix.AF_INET6}[s.family] }

// socket makes a socket in a namespace.
func socket(ns *lab.Namespace, domain, typ, proto int) (fd int, err error) {
	err = ns.Do(func() error {
		fd, err = unix.Socket(domain, typ|unix.SOCK_CLOEXEC, proto)
		return err
	})
	return fd, err
}

// sink binds a UDP socket that nobody reads: what arrives is dropped there, at
// the same cost for all.
func (s *stage) sink() (close func(), err error) {
	fd, err := socket(s.to, s.domain(), unix.SOCK_DGRAM, 0)
	if err != nil {
		return nil, err
	}
	return func() { unix.Close(fd) }, errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1), unix.Bind(fd, s.sockaddr(s.target())))
}

// busy is how long this thread has been on a processor. All that happens to a packet
// or a connection happens on the sender's thread, so that rates by it leave out what
// else the machine does.
func busy() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // cannot fail
	return time.Duration(t.Nano())
}

// rate sends with f until it says that it is done, and returns how many packets
// were delivered in a second of the sender's.
func (s *stage) rate(f func() error) (float64, error) {
	before, err := s.delivered()
	if err != nil {
		return 0, err
	}
	var took time.Duration
	err = alone(0, func() error {
		began := busy()
		defer func() { took = busy() - began }()
		return f()
	})
	after, err2 := s.delivered()
	if err := errors.Join(err, err2); err != nil {
		return 0, err
	}
	if after == before {
		return 0, errors.New("nothing was delivered")
	}
	return float64(after-before) / took.Seconds(), nil
}

var payload = make([]byte, 18) // the smallest frame that Ethernet has

// oneFlow is a UDP socket that sends all the time. No answer comes.
func (s *stage) oneFlow(span time.Duration) (float64, error) {
	fd, err := socket(s.from, s.domain(), unix.SOCK_DGRAM, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, s.sockaddr(s.target())); err != nil {
		return 0, err
	}
	return s.rate(func() error {
		for end := time.Now().Add(span); time.Now().Before(end); {
			for range 64 {
				if _, err := unix.Write(fd, payload); err != nil {
					return fmt.Errorf("send: %w", err)
				}
			}
		}
		return nil
	})
}

// manyFlows sends the first packet of one flow after another.
func (s *stage) manyFlows(span time.Duration) (float64, error) {
	link, err := s.from.LinkIndex(inside)
	if err != nil {
		return 0, err
	}
	fd, err := socket(s.from, unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link}); err != nil {
		return 0, err
	}
	frame, ports, sum := s.datagram()
	const flows = 60_000
	return s.rate(func() error {
		end := time.Now().Add(span)
		for i := 0; i < flows && (i%64 != 0 || time.Now().Before(end)); i++ {
			src := uint16(1024 + i)
			binary.BigEndian.PutUint16(frame[ports:], src)
			if s.family == 6 { // a checksum is not optional there; the sum of both stays the same
				binary.BigEndian.PutUint16(frame[len(frame)-2:], ^src)
			}
			binary.BigEndian.PutUint16(frame[ports+6:], sum)
			if _, err := unix.Write(fd, frame); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
		return nil
	})
}

// datagram is a frame that reaches the sink, where its ports are, and its UDP
// checksum (none in IPv4) if the last two octets are the complement of the
// source port.
func (s *stage) datagram() (frame []byte, ports int, sum uint16) {
	frame = append(append(frame, macHost...), macFrom...)
	src, dst := addrFrom[s.family].AsSlice(), addrTo[s.family].AsSlice()
	udp := 8 + len(payload)
	if s.family == 4 {
		h := append([]byte{0x45, 0, 0, byte(20 + udp), 0, 0, 0x40, 0, 64, unix.IPPROTO_UDP, 0, 0}, append(src, dst...)...)
		binary.BigEndian.PutUint16(h[10:], ^ones(h))
		frame = append(append(frame, 8, 0), h...)
	} else {
		h := append([]byte{0x60, 0, 0, 0, 0, byte(udp), unix.IPPROTO_UDP, 64}, append(src, dst...)...)
		frame = append(append(frame, 0x86, 0xdd), h...)
	}
	ports = len(frame)
	body := append(binary.BigEndian.AppendUint16([]byte{0, 0}, port), 0, byte(udp), 0, 0)
	body = append(body, payload...)
	binary.BigEndian.PutUint16(body[len(body)-2:], 0xffff) // with a source port of 0
	if s.family == 6 {
		sum = ^ones(append(append(append([]byte{0, byte(udp), 0, unix.IPPROTO_UDP}, src...), dst...), body...))
	}
	return append(frame, body...), ports, sum
}

// ones is the ones' complement sum (RFC 1071) of an even number of octets.
func ones(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// connects opens TCP connections one after another, and returns how many in a
// second of its own. One thread is both ends, so that no queue grows between them; a
// connection ends with a reset, so that no port stays in use.
func (s *stage) connects(span time.Duration) (float64, error) {
	server, err := socket(s.to, s.domain(), unix.SOCK_STREAM, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(server)
	err = errors.Join(unix.SetsockoptInt(server, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(server, s.sockaddr(s.target())), unix.Listen(server, 16))
	if err != nil {
		return 0, err
	}
	connect := func() error {
		fd, err := unix.Socket(s.domain(), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1) // fail after 3 s
		if err := unix.Connect(fd, s.sockaddr(s.target())); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		other, _, err := unix.Accept4(server, unix.SOCK_CLOEXEC)
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		_ = unix.SetsockoptLinger(other, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		return unix.Close(other)
	}
	n := 0
	var took time.Duration
	err = s.from.Do(func() error {
		if err := pin(0); err != nil {
			return err
		}
		began := busy()
		defer func() { took = busy() - began }()
		for end := time.Now().Add(span); time.Now().Before(end); {
			if err := connect(); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return float64(n) / took.Seconds(), err
}
