// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/muslin-net/muslin/internal/bgp"
)

// speak makes remote nodes, from one to another, as far as the agent can tell:
// each has its address on the fabric and a BGP session on which it announces
// its blocks.
func (r *rig) speak(first, last int) error {
	agent, _ := uplink(0)
	for node := first; node <= last; node++ {
		v4, v6 := uplink(node)
		if err := errors.Join(r.remote.AddAddr(r.remote.Uplink, v4), r.remote.AddAddr(r.remote.Uplink, v6)); err != nil {
			return err
		}
		s := bgp.New(bgp.Options{Dial: r.dialFrom, RetryMin: 100 * time.Millisecond, RetryMax: 300 * time.Millisecond})
		err := s.SetConfig(bgp.Config{
			ASN: 64512, RouterID: v4.Addr(), NextHop4: v4.Addr(), NextHop6: v6.Addr(), RestartTime: 120 * time.Second,
			Peers: []bgp.PeerConfig{{
				Name: agentNode, Addr: netip.AddrPortFrom(agent.Addr(), 179), LocalAddr: v4.Addr(), ASN: 64512,
				HoldTime: 30 * time.Second, Keepalive: 10 * time.Second, RestartTime: 120 * time.Second,
			}},
		})
		if err != nil {
			return err
		}
		s.Originate(originations(node), nil)
		s.OriginationsComplete()
		r.speakers.Go(func() { _ = s.Run(r.ctx) }) // it ends with the context
		r.speakers.Go(func() {
			for err := error(nil); err == nil; { // nothing here forwards
				_, err = s.NextBest(r.ctx)
			}
		})
	}
	return nil
}

func (r *rig) dialFrom(ctx context.Context, local netip.Addr, addr netip.AddrPort) (c net.Conn, err error) {
	err = r.remote.Do(func() error {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), FallbackDelay: -1, Timeout: 2 * time.Second}
		c, err = d.DialContext(ctx, "tcp", addr.String())
		return err
	})
	return c, err
}

// addresses are those that two sockets, one for each family, use.
func addresses(node, host int) [families]netip.Addr {
	v4, v6 := nodeAddr(node, host)
	return [families]netip.Addr{v4, v6}
}

func ports(a [families]netip.Addr, port uint16) (out [families]netip.AddrPort) {
	for i := range a {
		out[i] = netip.AddrPortFrom(a[i], port)
	}
	return out
}
