// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
)

// session is one neighbour of the measured router: it feeds what was encoded
// before, and counts what it is told.
type session struct {
	nc   net.Conn
	done sync.WaitGroup
	stop chan struct{}

	mu sync.Mutex // one writer at a time: the feed, or a KEEPALIVE

	got    atomic.Int64 // routes announced to us less those withdrawn
	ended  atomic.Bool  // End-of-RIB was received
	lost   atomic.Pointer[error]
	latest atomic.Int64 // when got last changed, Unix nanoseconds
}

// dial opens a session from an address of the namespace, as often as it takes.
func dial(ctx context.Context, ns *lab.Namespace, from netip.Addr, to netip.AddrPort) (*session, error) {
	for {
		s, err := dialOnce(ctx, ns, from, to)
		if err == nil {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("session from %s: %w", from, errors.Join(ctx.Err(), err))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func dialOnce(ctx context.Context, ns *lab.Namespace, from netip.Addr, to netip.AddrPort) (*session, error) {
	var nc net.Conn
	err := ns.Do(func() (err error) {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), FallbackDelay: -1, Timeout: 2 * time.Second}
		nc, err = d.DialContext(ctx, "tcp", to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	s := &session{nc: nc, stop: make(chan struct{})}
	br := bufio.NewReaderSize(nc, 64<<10)
	if err := s.greet(br, from); err != nil {
		_ = nc.Close()
		return nil, err
	}
	s.done.Go(func() { s.read(br) })
	s.done.Go(s.live)
	return s, nil
}

// greet goes through to Established.
func (s *session) greet(br *bufio.Reader, id netip.Addr) error {
	_ = s.nc.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := s.nc.Write(append(openMessage(id), keepalive...)); err != nil {
		return err
	}
	buf := make([]byte, maxMessage)
	for _, want := range []byte{1, 4} { // OPEN, KEEPALIVE
		typ, body, err := readMessage(br, buf)
		if err != nil {
			return err
		}
		if typ != want {
			return fmt.Errorf("got message type %d with % x, want type %d", typ, body[:min(len(body), 8)], want)
		}
	}
	return s.nc.SetDeadline(time.Time{})
}

func (s *session) read(br *bufio.Reader) {
	buf := make([]byte, maxMessage)
	for {
		typ, body, err := readMessage(br, buf)
		if err == nil && typ == 3 {
			err = fmt.Errorf("NOTIFICATION % x", body)
		}
		if err == nil && typ == 2 {
			var up, down int
			var eor bool
			if up, down, eor, err = count(body); up+down > 0 {
				s.latest.Store(time.Now().UnixNano())
				s.got.Add(int64(up - down))
			}
			if eor {
				s.ended.Store(true)
			}
		}
		if err != nil {
			s.lost.Store(&err)
			return
		}
	}
}

// live keeps the session up.
func (s *session) live() {
	t := time.NewTicker(2 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			_ = s.feed([][]byte{keepalive}) // the reader notices what is wrong
		}
	}
}

// feed writes whole messages.
func (s *session) feed(chunks [][]byte) error {
	for _, b := range chunks {
		s.mu.Lock()
		_, err := s.nc.Write(b)
		s.mu.Unlock()
		if err != nil {
			return errors.Join(err, s.problem())
		}
	}
	return nil
}

func (s *session) problem() error {
	if e := s.lost.Load(); e != nil {
		return fmt.Errorf("session from %s: %w", s.nc.LocalAddr(), *e)
	}
	return nil
}

func (s *session) close() {
	if s == nil {
		return
	}
	close(s.stop)
	_ = s.nc.Close()
	s.done.Wait()
}

// closeAll closes sessions, of which some may be nil.
func closeAll(list []*session) {
	for _, s := range list {
		s.close()
	}
}
