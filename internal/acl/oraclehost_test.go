// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/policy/policytest"
)

// What TestQ02 needs beside its links: a host that sends and receives itself.

// hostAddrs are the host's addresses on the uplink, of those that worlds speak of.
var hostAddrs = []netip.Addr{policytest.Addr(true, 7), policytest.Addr(false, 7)}

func isOwn(a netip.Addr) bool { return slices.Contains(hostAddrs, a) }

// atHost is a place beside those of the links: the host itself.
const atHost = 1000

var oracleFailsafes = [2][]policy.Failsafe{
	policy.Ingress: {{Proto: tcp, Port: 443}, {Proto: udp, Port: 53, Net: netip.MustParsePrefix("10.0.0.0/30")}, {Proto: udp, Port: 53, Net: netip.MustParsePrefix("2001:db8::/126")}},
	policy.Egress:  {{Proto: sctp, Port: 443}, {Proto: udp, Port: 80, Net: netip.MustParsePrefix("10.0.0.4/30")}},
}

// hostSockets send and receive as the host does, past all hooks and before any
// protocol.
type hostSockets struct {
	in  []int
	out map[bool]int // by whether it is for IPv4
	up  int          // a packet socket on the uplink, for sentinels
	at  int          // the number of the uplink
	buf []byte

	ns   *lab.Namespace
	onLo map[netip.Addr]bool
}

func newHostSockets(t testing.TB, ns *lab.Namespace) (h hostSockets) {
	for _, a := range hostAddrs {
		must(t, ns.AddAddr(uplink, host(a)))
	}
	must(t, ns.LinkUp(policy.Loopback))
	h.ns, h.onLo = ns, map[netip.Addr]bool{}
	h.buf, h.out = make([]byte, 4096), map[bool]int{}
	open := func(family, proto int) (fd int) {
		must(t, ns.Do(func() (err error) {
			fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
			return err
		}))
		t.Cleanup(func() { unix.Close(fd) })
		must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20))
		return fd
	}
	for _, proto := range []int{icmp, tcp, udp, icmp6, sctp, 47, 89} {
		h.in = append(h.in, open(unix.AF_INET, proto), open(unix.AF_INET6, proto))
	}
	must(t, ns.Do(func() (err error) {
		h.up, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(sentinel)))
		return err
	}))
	t.Cleanup(func() { unix.Close(h.up) })
	n, err := ns.LinkIndex(uplink)
	must(t, err)
	h.at = n
	h.out[true], h.out[false] = open(unix.AF_INET, unix.IPPROTO_RAW), open(unix.AF_INET6, unix.IPPROTO_RAW)
	return h
}

// send sends a packet from the host. One that is dropped on its way out is refused.
func (h *hostSockets) send(s *shot, mark []byte) error {
	b := frames(link{mac: make([]byte, 6), hmac: make([]byte, 6)}, s, mark)[0][14:]
	var to unix.Sockaddr = &unix.SockaddrInet6{Addr: s.Dst.As16()}
	if s.Dst.Is4() {
		to = &unix.SockaddrInet4{Addr: s.Dst.As4()}
	}
	if err := unix.Sendto(h.out[s.Dst.Is4()], b, 0, to); err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("send %+v: %w", s.Packet, err)
	}
	return nil
}

// sentinel is an EtherType for experiments (IEEE 802, 0x88b5), which the host leaves
// alone.
const sentinel = 0x88b5

// reflect waits for a frame and sends it back.
func (h *hostSockets) reflect(frame []byte) error {
	fds := []unix.PollFd{{Fd: int32(h.up), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 10_000); n == 0 || err != nil && err != unix.EINTR {
		return fmt.Errorf("the sentinel does not reach the host: %v", err)
	}
	for {
		if _, _, err := unix.Recvfrom(h.up, h.buf, 0); err != nil {
			break
		}
	}
	return unix.Sendto(h.up, frame, 0, &unix.SockaddrLinklayer{Ifindex: h.at})
}

// received tells the numbers of the packets that the host has received.
func (h *hostSockets) received(f func(int)) {
	for _, fd := range h.in {
		for {
			n, _, err := unix.Recvfrom(fd, h.buf, 0)
			if err != nil {
				break
			}
			if p := bytes.LastIndex(h.buf[:n], tag); p >= 0 && n >= p+len(tag)+3 {
				b := h.buf[p+len(tag):]
				f(int(b[0])<<16 | int(b[1])<<8 | int(b[2]))
			}
		}
	}
}

// addressed tells whether a frame is for an address.
func addressed(f []byte, a netip.Addr) bool {
	at := 14 + 24
	if a.Is4() {
		at = 14 + 16
	}
	return len(f) >= at+len(a.AsSlice()) && bytes.Equal(f[at:at+len(a.AsSlice())], a.AsSlice())
}

func (s *shot) arrived(at int) {
	if !slices.Contains(s.came, at) {
		s.came = append(s.came, at)
	}
}

// count notes which stages of host endpoints decided.
func (s *shot) count(tally map[string]int, c *crossing) {
	from, to := s.in == atHost && c.process(s.Src), c.process(s.Dst)
	for word, is := range map[string]bool{"to the host": isOwn(s.Dst), "from the host": s.in == atHost && isOwn(s.Src),
		"to a process": to, "from a process": from, "between processes": from && to} {
		if is {
			tally[word]++
		}
	}
	for _, d := range slices.Concat(s.trace.In, s.trace.Out) {
		if d.Reason == policy.ByPolicy || d.Reason == policy.EndOfTier {
			tally[fmt.Sprintf("host stage %d", d.Stage)]++
		}
		if d.Reason == policy.ByFailsafe {
			tally["failsafe"]++
		}
	}
}

// judgeLocal says what becomes of a packet from or to the host itself, or a process of it.
// Some that have the source of a process come from elsewhere.
func (c *crossing) judgeLocal(s *shot) {
	in, out, at := "", "", atHost
	if s.in = atHost; !c.here(s.Src) || !isOwn(s.Src) && c.rnd.IntN(10) == 0 {
		in = cmp.Or(c.home(s.Src), c.w.links[c.rnd.IntN(len(c.w.links))].host)
		if !c.here(s.Src) {
			in = cmp.Or(c.home(s.Src), uplink)
		}
		s.in = c.w.place[in]
	}
	if !c.here(s.Dst) {
		out = cmp.Or(c.home(s.Dst), uplink)
		at = c.w.place[out]
	}
	c.conclude(s, at, in, out)
}

// place brings the addresses of processes to lo, and takes others off.
func (h *hostSockets) place(t fataler, process func(netip.Addr) bool) {
	for _, v4 := range []bool{true, false} {
		for i := range policytest.Addrs {
			a := policytest.Addr(v4, i)
			want := process(a)
			switch {
			case want && !h.onLo[a]:
				check(t, h.ns.AddLocal(a))
			case !want && h.onLo[a]:
				check(t, h.ns.DelAddr(policy.Loopback, host(a)))
			}
			h.onLo[a] = want
		}
	}
}
