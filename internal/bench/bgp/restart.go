// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// death is a way for a neighbour to be dead when the router starts again.
type death struct {
	name string
	// prepare makes the neighbour dead; what it returns is called at the end.
	prepare func(ctx context.Context, m *measurement, addr netip.Addr) (undo func(), err error)
	// joins: it comes up, and never says that its table is complete.
	joins bool
}

var deaths = []death{
	{name: "none"},
	{name: "one whose address is silent", prepare: silentAddress},
	{name: "one that accepts TCP and sends no OPEN", prepare: silentTCP},
	{name: "one that is Established and sends no End-of-RIB", joins: true},
}

// silentAddress answers the router's ARP with a machine that is not there.
func silentAddress(_ context.Context, m *measurement, addr netip.Addr) (func(), error) {
	mac := net.HardwareAddr{2, 0xde, 0xad, 0, 0, 1}
	return func() {}, m.router.AddNeighbour(m.router.Uplink, addr, mac)
}

func silentTCP(_ context.Context, m *measurement, addr netip.Addr) (func(), error) {
	if err := m.outside.AddAddr(m.outside.Uplink, netip.PrefixFrom(addr, 16)); err != nil {
		return nil, err
	}
	l, err := m.outside.Listen("tcp", netip.AddrPortFrom(addr, 179).String())
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var held []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			held = append(held, c)
		}
		for _, c := range held {
			_ = c.Close()
		}
	}()
	return func() { _ = l.Close(); <-done }, nil
}

// restart kills the router and starts it again. It is back when every live
// neighbour has been told what the router announces, and when what the live
// neighbours announce now, which is not what they announced before, is in the
// kernel.
func restart(o options, neighbours int, how death) *work {
	live := neighbours - 1
	k := &work{
		section: section{Title: fmt.Sprintf("restart with %d neighbours, of which dead: %s", neighbours, how.name)},
		judged:  "back after", peers: live, job: job{peers: live, program: true},
	}
	switch {
	case how.prepare != nil:
		k.job.silent = 1 // the router connects to it, in vain
	default:
		k.peers, k.job.peers = neighbours, neighbours // it comes like the others
	}
	if how.prepare == nil && !how.joins {
		live = neighbours
	}
	if neighbours == o.neighbours {
		k.budgets = map[string]budget{"back after": {Most: 2}}
	}
	const each = 20
	for i := range 4 {
		k.job.own = append(k.job.own, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, 0, byte(64 * i)}), 26))
	}
	tables := func(life byte, i int) [][]byte {
		t := table{layout: layout{First: netip.AddrFrom4([4]byte{20, life, byte(i), 0})}, Routes: each, Sets: 1, nextHop: onLink}
		return append(t.announce(), endOfRIB)
	}
	k.run = func(ctx context.Context, m *measurement) error {
		if how.prepare != nil {
			undo, err := how.prepare(ctx, m, neighbour(live))
			if err != nil {
				return err
			}
			defer undo()
		}
		mon, err := startMonitor(m.router.Namespace)
		if err != nil {
			return err
		}
		defer mon.close()
		up := func(life byte) ([]*session, error) {
			list, err := m.dialAll(ctx, 0, k.job.peers)
			if err != nil {
				return nil, err
			}
			for i, s := range list[:live] {
				err = errors.Join(err, s.feed(tables(life, i)))
			}
			return list, err
		}
		back := func(list []*session) error {
			return m.until(ctx, time.Millisecond, "the router is back", func() (bool, error) {
				came, _, err := mon.counts()
				if err != nil || came < live*each {
					return false, err
				}
				for _, s := range list[:live] {
					if err := s.problem(); err != nil {
						return false, err
					}
					if s.got.Load() < int64(len(k.job.own)) {
						return false, nil
					}
				}
				return true, nil
			})
		}
		list, err := up(0)
		if err == nil {
			err = back(list)
		}
		if err != nil {
			closeAll(list)
			return fmt.Errorf("before the restart: %w", err)
		}
		m.d.kill()
		closeAll(list)
		mon.forget()
		began := time.Now()
		if err := m.d.start(true); err != nil {
			return err
		}
		if list, err = up(1); err != nil {
			return err
		}
		defer closeAll(list)
		sessions := time.Since(began)
		if err := back(list); err != nil {
			return err
		}
		m.seconds("sessions up after", sessions)
		m.seconds("back after", time.Since(began))
		return nil
	}
	return k
}
