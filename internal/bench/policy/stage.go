// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/lab"
)

// stage is a host and two of its workloads, each behind a cable of its own. All
// neighbours are known, so that nothing is sent but what is measured.
type stage struct {
	family         int
	host, from, to *lab.Namespace
	fd             *os.File // of the host's namespace
	flows          *acl.Flows
}

// Interfaces on the host: of the sender, of the receiver.
const (
	ifaceFrom = "califrom"
	ifaceTo   = "calito"
	inside    = "eth0"
	port      = 9000 // what is allowed
)

// addresses of both workloads, in both families.
var (
	addrFrom = map[int]netip.Addr{4: netip.MustParseAddr("10.65.0.1"), 6: netip.MustParseAddr("fd65::1")}
	addrTo   = map[int]netip.Addr{4: netip.MustParseAddr("10.65.0.2"), 6: netip.MustParseAddr("fd65::2")}
	gateway  = map[int]netip.Addr{4: netip.MustParseAddr("169.254.1.1"), 6: netip.MustParseAddr("fe80::1")}
	anywhere = map[int]netip.Prefix{4: netip.MustParsePrefix("0.0.0.0/0"), 6: netip.MustParsePrefix("::/0")}
)

var (
	macFrom = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	macTo   = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	macHost = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
)

func newStage(l *lab.Lab, family int) (*stage, error) {
	s := &stage{family: family}
	for _, x := range []struct {
		to   **lab.Namespace
		name string
	}{{&s.host, "h"}, {&s.from, "a"}, {&s.to, "b"}} {
		ns, err := l.Namespace(x.name)
		if err != nil {
			return nil, err
		}
		*x.to = ns
	}
	for k, v := range map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"} {
		if err := s.host.SetSysctl(k, v); err != nil {
			return nil, err
		}
	}
	err := errors.Join(
		s.plug(s.from, ifaceFrom, macFrom, addrFrom), s.plug(s.to, ifaceTo, macTo, addrTo),
	)
	if err == nil {
		s.fd, err = os.Open(s.host.Path())
	}
	if err == nil {
		s.flows, err = acl.OpenFlows(int(s.fd.Fd()))
	}
	if err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	return s, nil
}

// plug connects a workload in both families.
func (s *stage) plug(ns *lab.Namespace, iface string, mac net.HardwareAddr, addrs map[int]netip.Addr) error {
	if err := lab.Veth(lab.End{NS: s.host, Name: iface, MAC: macHost}, lab.End{NS: ns, Name: inside, MAC: mac}); err != nil {
		return err
	}
	for v, a := range addrs {
		self := netip.PrefixFrom(a, a.BitLen())
		err := errors.Join(
			ns.AddAddr(inside, self), ns.AddNeighbour(inside, gateway[v], macHost),
			ns.AddRoute(netip.PrefixFrom(gateway[v], a.BitLen()), netip.Addr{}, inside), ns.AddRoute(anywhere[v], gateway[v], inside),
			s.host.AddNeighbour(iface, a, mac), s.host.AddRoute(self, netip.Addr{}, iface),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// target is where everything is sent.
func (s *stage) target() netip.AddrPort { return netip.AddrPortFrom(addrTo[s.family], port) }

// delivered is how many packets the receiver's interface has taken.
func (s *stage) delivered() (n uint64, err error) {
	err = s.to.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if name, counts, _ := strings.Cut(strings.TrimSpace(line), ":"); name == inside {
				_, err = fmt.Sscan(counts, new(uint64), &n) // octets, packets
				return err
			}
		}
		return fmt.Errorf("/proc/net/dev: no %s", inside)
	})
	return n, err
}

// forget removes all connections that the host tracks, and returns how many.
func (s *stage) forget() (n int, err error) {
	_, err = s.flows.Review(func(flows []acl.Flow) error {
		for i := range flows {
			flows[i].Fate = acl.End
		}
		n = len(flows)
		return nil
	}, false)
	return n, err
}

// clear takes all filters away, and connection tracking with them: the kernel does the
// latter a while after the former.
func (s *stage) clear() error {
	if err := script(s, "flush ruleset"); err != nil {
		return err
	}
	for range 1000 {
		fd, err := socket(s.from, s.domain(), unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		err = unix.Sendto(fd, payload, 0, s.sockaddr(s.target()))
		unix.Close(fd)
		n, err2 := s.forget()
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("connections are tracked without a rule that asks for it")
}

func (s *stage) close() {
	if s.flows != nil {
		s.flows.Close()
	}
	if s.fd != nil {
		s.fd.Close()
	}
}
