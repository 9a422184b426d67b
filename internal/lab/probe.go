// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Proto is what a probe speaks.
type Proto uint8

// The protocols of a probe. ICMP is ICMPv6 when the destination is IPv6.
const (
	TCP Proto = iota
	UDP
	ICMP
)

// String returns tcp, udp or icmp.
func (p Proto) String() string {
	return [...]string{"tcp", "udp", "icmp"}[min(p, ICMP)]
}

// Verdict is how a probe ended.
type Verdict uint8

// The ends of a probe. Only Reached means that packets went both ways.
const (
	// TimedOut: nothing came back; a packet was dropped somewhere.
	TimedOut Verdict = iota
	// Reached: a TCP handshake, or an echo of exactly what was sent.
	Reached
	// Refused: the destination itself said that nobody listens.
	Refused
	// Unreachable: this host or a router said that it cannot be delivered.
	Unreachable
	// Failed: the probe could not be made; see Outcome.Err.
	Failed
)

// String returns a word for people.
func (v Verdict) String() string {
	return [...]string{"timeout", "reached", "refused", "unreachable", "failed"}[min(v, Failed)]
}

// Probe is one question: does a packet get there and back?
type Probe struct {
	Proto Proto
	Src   netip.Addr // source address; invalid is the kernel's choice
	Dst   netip.Addr // a link-local one has the interface's name as zone
	Port  uint16     // not for ICMP
	// Timeout is how long to wait for an answer; 0 is one second. One packet
	// is sent (TCP: what the kernel retransmits).
	Timeout time.Duration
}

// Outcome is the answer to a probe.
type Outcome struct {
	Verdict Verdict
	RTT     time.Duration // until the answer, when Reached
	Err     error         // why, unless Reached
}

// Probe sends p from inside the namespace. The other end must run [Namespace.Serve]
// for UDP; for TCP it may be anything that listens.
func (n *Namespace) Probe(ctx context.Context, p Probe) Outcome {
	if p.Timeout == 0 {
		p.Timeout = time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	var err error
	if p.Dst, err = n.zoned(p.Dst.Unmap()); err != nil {
		return Outcome{Verdict: Failed, Err: err}
	}
	if p.Src, err = n.zoned(p.Src.Unmap()); err != nil {
		return Outcome{Verdict: Failed, Err: err}
	}
	start := time.Now()
	switch p.Proto {
	case TCP:
		err = n.probeTCP(ctx, p)
	case UDP:
		err = n.probeUDP(ctx, p)
	case ICMP:
		err = n.probeICMP(ctx, p)
	default:
		err = fmt.Errorf("probe: unknown protocol %d", p.Proto)
	}
	if err == nil {
		return Outcome{Verdict: Reached, RTT: time.Since(start)}
	}
	return Outcome{Verdict: verdict(err), Err: err}
}

// verdict sorts errors of sockets. The unreachables of ICMP arrive as these
// numbers on TCP and connected UDP sockets; EACCES is what IPv6 makes of
// "administratively prohibited".
func verdict(err error) Verdict {
	var timeout net.Error
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET):
		return Refused
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EACCES),
		errors.Is(err, unix.EPERM), errors.Is(err, unix.EHOSTDOWN), errors.Is(err, unix.EINVAL):
		return Unreachable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.As(err, &timeout) && timeout.Timeout():
		return TimedOut
	}
	return Failed
}

func (n *Namespace) probeTCP(ctx context.Context, p Probe) error {
	d := &net.Dialer{}
	d.SetMultipathTCP(false)
	if p.Src.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Src, 0))
	}
	c, err := n.dial(ctx, d, "tcp", netip.AddrPortFrom(p.Dst, p.Port).String())
	if err != nil {
		return err
	}
	return c.Close()
}

func (n *Namespace) probeUDP(ctx context.Context, p Probe) error {
	c, err := n.dialUDP(ctx, p)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Now()) })()
	nonce := newNonce()
	if _, err := c.Write(nonce); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	for {
		k, err := c.Read(buf)
		if err != nil {
			return err
		}
		if bytes.Equal(buf[:k], nonce) {
			return nil
		}
	}
}

// dialUDP binds to a port that no other probe of this program has had for long. The kernel
// chooses by chance, one in 28,000 that of an earlier probe: who tracks connections on the way
// lets that pass as a part of the earlier flow, whatever policy says by now.
func (n *Namespace) dialUDP(ctx context.Context, p Probe) (c net.Conn, err error) {
	for range 100 {
		d := &net.Dialer{LocalAddr: &net.UDPAddr{IP: p.Src.AsSlice(), Zone: p.Src.Zone(), Port: int(nextFlow())}}
		c, err = n.dial(ctx, d, "udp", netip.AddrPortFrom(p.Dst, p.Port).String())
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return c, err
}

// The ports that the kernel chooses from.
const firstPort, ports = 32768, 28232

// lastFlow is of all namespaces: an address may move from one to another.
var lastFlow = func() *atomic.Uint32 {
	n := new(atomic.Uint32)
	n.Store(binary.BigEndian.Uint32(newNonce()))
	return n
}()

// nextFlow is a source port, or an identifier of ICMP, one after the other.
func nextFlow() uint16 { return uint16(firstPort + lastFlow.Add(1)%ports) }

func newNonce() []byte {
	b := make([]byte, 16)
	rand.Read(b) // never fails since Go 1.24
	return b
}

// ICMP types, RFC 792 and RFC 4443.
const (
	icmp4EchoRequest = 8
	icmp4EchoReply   = 0
	icmp4Unreachable = 3
	icmp6EchoRequest = 128
	icmp6EchoReply   = 129
	icmp6Unreachable = 1
)

// probeICMP uses a raw socket: unprivileged ICMP sockets are closed in a new
// namespace. A raw socket sees all ICMP of the host, so that errors about our
// own request are seen as well.
func (n *Namespace) probeICMP(ctx context.Context, p Probe) error {
	network, request, reply, unreachable := "ip4:1", byte(icmp4EchoRequest), byte(icmp4EchoReply), byte(icmp4Unreachable)
	if p.Dst.Is6() {
		network, request, reply, unreachable = "ip6:58", icmp6EchoRequest, icmp6EchoReply, icmp6Unreachable
	}
	var c *net.IPConn
	err := n.Do(func() (err error) {
		var src *net.IPAddr
		if p.Src.IsValid() {
			src = &net.IPAddr{IP: p.Src.AsSlice(), Zone: p.Src.Zone()}
		}
		c, err = net.ListenIP(network, src)
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Now()) })()

	// Type, code, checksum, identifier and sequence number, then a nonce that
	// tells our echo from everybody else's.
	msg := append([]byte{request, 0, 0, 0, 0, 0, 0, 1}, newNonce()...)
	binary.BigEndian.PutUint16(msg[4:], nextFlow())
	if p.Dst.Is4() { // the kernel fills in ICMPv6's, which covers addresses
		binary.BigEndian.PutUint16(msg[2:], checksum(0, msg))
	}
	if _, err := c.WriteToIP(msg, &net.IPAddr{IP: p.Dst.AsSlice(), Zone: p.Dst.Zone()}); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	for {
		k, from, err := c.ReadFromIP(buf)
		if err != nil {
			return err
		}
		got := buf[:k]
		switch {
		case len(got) < 8:
		case got[0] == reply && bytes.Equal(got[4:], msg[4:]):
			return nil
		case got[0] == unreachable && bytes.Contains(got, msg[8:]):
			return fmt.Errorf("%v says: code %d: %w", from, got[1], unix.EHOSTUNREACH)
		}
	}
}

// checksum is the Internet checksum of RFC 1071 over b, with sum carried in.
func checksum(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
