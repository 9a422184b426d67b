// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"golang.org/x/sys/unix"
)

// Flags of the TCP header (RFC 9293, section 3.1).
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
)

// tcpFlags returns a TCP segment with other flags than SYN, and corrects its
// checksum (RFC 1624).
func tcpFlags(tb testing.TB, p lab.Packet, flags byte) []byte {
	tb.Helper()
	p.Proto = lab.ProtoTCP
	f, err := p.Frame()
	must(tb, err)
	h := f[tcpAt(p.Src.Is4()):]
	old := uint32(binary.BigEndian.Uint16(h[12:]))
	h[13] = flags
	sum := uint32(^binary.BigEndian.Uint16(h[16:])) + (old ^ 0xffff) + uint32(binary.BigEndian.Uint16(h[12:]))
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(h[16:], ^uint16(sum))
	return f
}

// tcpAt is where the TCP header of an Ethernet frame is.
func tcpAt(v4 bool) int {
	if v4 {
		return 14 + 20
	}
	return 14 + 40
}

// TestInvalidSegments sends TCP segments that begin no connection to a port
// that policy allows: out of a workload, where its egress is asked, and into
// one, where its ingress is.
func TestInvalidSegments(t *testing.T) {
	r := spoofRig(t)
	must(t, r.host.SetSysctl("net/netfilter/nf_conntrack_tcp_loose", "0")) // an ACK shall not pass for the middle of a connection
	up, err := r.host.MAC("up0")
	must(t, err)
	nMAC, err := r.n.MAC("eth0")
	must(t, err)
	bad := []byte{0, fin, rst, ack, psh | ack, fin | ack, syn | ack, syn | fin, syn | rst, fin | psh, 0x3f}
	for _, way := range []struct{ from, to string }{{"a", "n"}, {"n", "b"}} {
		for _, v := range []int{4, 6} {
			t.Run(fmt.Sprintf("%s to %s IPv%d", way.from, way.to, v), func(t *testing.T) {
				r.TB = t
				r.expect(true, lab.TCP, way.from, way.to, 80, v)
				p := lab.Packet{SrcMAC: wlMAC("a"), DstMAC: hostMAC, Src: addrOf(v, way.from), Dst: addrOf(v, way.to), DstPort: 80}
				if way.from == "n" {
					p.SrcMAC, p.DstMAC = nMAC, up
				}
				c, err := r.ns(way.to).Capture("eth0")
				must(t, err)
				defer c.Close()
				for i, flags := range bad {
					p.SrcPort = spoofPort + uint16(i)
					must(t, r.ns(way.from).SendFrame("eth0", tcpFlags(t, p, flags)))
				}
				// A good one, sent last by the same means, shows that the others
				// have had their chance, and that their checksums are right.
				p.SrcPort = sentinelPort + 1000
				must(t, r.ns(way.from).SendFrame("eth0", tcpFlags(t, p, syn|psh)))
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				for {
					f, err := c.Next(ctx, func(f lab.Frame) bool { return !f.Outgoing && f.Proto == lab.ProtoTCP && f.SrcPort >= spoofPort })
					if err != nil {
						t.Fatalf("the SYN: %v", err)
					}
					if f.SrcPort == p.SrcPort {
						return
					}
					if i := int(f.SrcPort) - spoofPort; i < len(bad) {
						t.Errorf("a segment with flags %#02x passed: %s", bad[i], f)
					}
				}
			})
		}
	}
}

// TestS08_RoutersTheHostDoesNotHear sends router advertisements and redirects
// to the host from a workload's own addresses. A socket on the host sees what
// the host would believe; a solicitation, which may pass, ends each run.
func TestS08_RoutersTheHostDoesNotHear(t *testing.T) {
	r := spoofRig(t)
	all, target := ip("ff02::1"), ip("fe80::1").As16()
	for _, from := range []string{"a", "c"} { // with its MAC address in the model and without
		iface := "cali" + from
		must(t, r.host.SetSysctl("net/ipv6/conf/"+iface+"/accept_ra", "2"))
		var fd int
		must(t, r.host.Do(func() (err error) {
			if fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6); err == nil {
				err = unix.BindToDevice(fd, iface)
			}
			return err
		}))
		defer unix.Close(fd)
		must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}))
		var m [6]byte
		copy(m[:], wlMAC(from))
		own := eui64(m)
		send := func(icmp []byte) {
			for _, src := range [][16]byte{own, addr6[from].As16()} {
				must(t, r.wl[from].SendFrame("eth0", icmp6Frame(wlMAC(from), netip.AddrFrom16(src), all, 255, icmp)))
			}
		}
		send([]byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0})                 // a default router for 1800 s
		send(append(append([]byte{137, 0, 0, 0, 0, 0, 0, 0}, target[:]...), own[:]...)) // redirect
		const mark = 0x5a
		send([]byte{133, 0, 0, 0, 0, 0, 0, mark})
		for b := make([]byte, 256); ; {
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				t.Fatalf("from %s: the solicitation does not reach the host: %v", from, err)
			}
			if n >= 8 && b[0] == 133 && b[7] == mark {
				break
			}
			if b[0] == 134 || b[0] == 137 {
				t.Errorf("from %s: the host hears ICMPv6 type %d", from, b[0])
			}
		}
	}
}
