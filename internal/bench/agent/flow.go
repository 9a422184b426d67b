// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
)

// families are IPv4 and IPv6, in this order wherever there are two of a thing.
const families = 2

var familyName = [families]string{"IPv4", "IPv6"}

// sender sends a UDP datagram of each family every interval, without waiting
// for anything, from a thread of its own.
type sender struct {
	conns [families]*net.UDPConn
	to    atomic.Pointer[[families]netip.AddrPort]
	stop  atomic.Bool
	done  sync.WaitGroup
	sent  atomic.Int64
	began time.Time
}

func startSender(ns *lab.Namespace, from [families]netip.Addr, to [families]netip.AddrPort, interval time.Duration) (*sender, error) {
	s := &sender{began: time.Now()}
	s.aim(to)
	for i, a := range from {
		c, err := ns.ListenPacket("udp", netip.AddrPortFrom(a, 0).String())
		if err != nil {
			s.close()
			return nil, fmt.Errorf("sender: %w", err)
		}
		s.conns[i] = c.(*net.UDPConn)
	}
	s.done.Go(func() { s.run(interval) })
	return s, nil
}

// aim sets where datagrams go from now on.
func (s *sender) aim(to [families]netip.AddrPort) { s.to.Store(&to) }

func (s *sender) run(interval time.Duration) {
	// The thread ends with this goroutine and takes its timer slack along.
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0) // nanoseconds
	msg := make([]byte, 8)
	next := time.Now()
	for !s.stop.Load() {
		to := s.to.Load()
		for i, c := range s.conns {
			// What the network refuses is lost, like any other datagram.
			_, _ = c.WriteToUDPAddrPort(msg, to[i])
		}
		s.sent.Add(1)
		next = next.Add(interval)
		wait := time.Until(next)
		if wait < -time.Millisecond {
			next = time.Now() // no bursts after a pause
		}
		if wait > 0 {
			t := unix.NsecToTimespec(int64(wait))
			_ = unix.Nanosleep(&t, nil)
		}
	}
}

// interval is the mean time between two datagrams so far.
func (s *sender) interval() time.Duration {
	return time.Since(s.began) / time.Duration(max(s.sent.Load(), 1))
}

func (s *sender) close() {
	s.stop.Store(true)
	s.done.Wait()
	for _, c := range s.conns {
		if c != nil {
			c.Close()
		}
	}
}

// receiver notes when datagrams reach a workload's namespace. Times are the
// kernel's, taken when the datagram that a socket will deliver comes off the
// workload's interface, so that they do not depend on when this program runs.
type receiver struct {
	conns [families]*net.UDPConn
	done  sync.WaitGroup

	mu    sync.Mutex
	first [families]time.Time
	last  [families]time.Time
	both  chan struct{} // closed when both families have arrived
}

func startReceiver(ns *lab.Namespace, port uint16) (*receiver, error) {
	r := &receiver{}
	r.arm()
	for i, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		c, err := ns.ListenPacket([]string{"udp4", "udp6"}[i], netip.AddrPortFrom(a, port).String())
		if err != nil {
			r.close()
			return nil, fmt.Errorf("receiver: %w", err)
		}
		r.conns[i] = c.(*net.UDPConn)
		raw, err := r.conns[i].SyscallConn()
		if err == nil {
			cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
			err = errors.Join(err, cerr)
		}
		if err != nil {
			r.close()
			return nil, fmt.Errorf("receiver: %w", err)
		}
		r.done.Go(func() { r.read(i) })
	}
	return r, nil
}

func (r *receiver) read(family int) {
	buf, oob := make([]byte, 64), make([]byte, 128)
	for {
		_, k, _, _, err := r.conns[family].ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		at := stamp(oob[:k])
		r.mu.Lock()
		r.last[family] = at
		if r.first[family].IsZero() {
			r.first[family] = at
			if !r.first[1-family].IsZero() {
				close(r.both)
			}
		}
		r.mu.Unlock()
	}
}

// stamp is the kernel's time of a datagram.
func stamp(oob []byte) time.Time {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range msgs {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
				return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
			}
		}
	}
	return time.Now()
}

// arm forgets what has arrived.
func (r *receiver) arm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.first, r.last, r.both = [families]time.Time{}, [families]time.Time{}, make(chan struct{})
}

// arrived waits for the first datagram of each family since arm.
func (r *receiver) arrived(ctx context.Context, limit time.Duration) ([families]time.Time, error) {
	r.mu.Lock()
	both := r.both
	r.mu.Unlock()
	t := time.NewTimer(limit)
	defer t.Stop()
	var err error
	select {
	case <-both:
	case <-ctx.Done():
		err = ctx.Err()
	case <-t.C:
		err = fmt.Errorf("nothing arrived within %v", limit)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.first, err
}

// silent waits until nothing has arrived for a while although the sender was
// not idle, and returns when the last datagrams came; zero if none came since
// arm.
func (r *receiver) silent(ctx context.Context, s *sender, limit time.Duration) ([families]time.Time, error) {
	end := time.Now().Add(limit)
	var last [families]time.Time
	since, sent := time.Now(), s.sent.Load()
	for ctx.Err() == nil {
		r.mu.Lock()
		now := r.last
		r.mu.Unlock()
		if now != last {
			last, since, sent = now, time.Now(), s.sent.Load()
		}
		if time.Since(since) >= quiet && s.sent.Load() >= sent+quietPackets {
			return last, nil
		}
		if time.Now().After(end) {
			return last, fmt.Errorf("packets still arrive after %v", limit)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return last, ctx.Err()
}

func (r *receiver) close() {
	for _, c := range r.conns {
		if c != nil {
			c.Close()
		}
	}
	r.done.Wait()
}
