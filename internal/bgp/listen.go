// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// listener accepts connections on one address for as long as it is
// configured. An address that is not there yet is tried again.
type listener struct {
	cancel context.CancelFunc
	mu     sync.Mutex
	l      net.Listener
	closed bool
	want   passwords // of addr's family; a socket that knows others is replaced
}

func (l *listener) close() {
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.l != nil {
		_ = l.l.Close()
	}
}

// knownPeers is the set of addresses that may connect.
type knownPeers struct {
	mu     sync.RWMutex
	addrs  map[netip.Addr]bool
	ranges []netip.Prefix

	refused int       // connections, since
	told    time.Time // they were spoken of
}

func (k *knownPeers) has(a netip.Addr) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.addrs[a] || slices.ContainsFunc(k.ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (k *knownPeers) set(addrs map[netip.Addr]bool, ranges []netip.Prefix) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.addrs, k.ranges = addrs, ranges
}

// defaultListen listens on TCP. Go sets SO_REUSEADDR, so that a restarted
// process can bind while old connections linger.
func defaultListen(ctx context.Context, addr netip.AddrPort, ask passwords) (net.Listener, error) {
	network := "tcp4"
	if addr.Addr().Is6() {
		network = "tcp6"
	}
	lc := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) error {
		if err := prepareListener(addr.Addr().Is6(), raw); err != nil {
			return err
		}
		if err := onSocket(raw, func(fd int) error { return bindToZone(fd, addr.Addr()) }); err != nil {
			return err
		}
		return ask.set(raw)
	}}
	lc.SetMultipathTCP(false) // it knows none of these options
	return lc.Listen(ctx, network, netip.AddrPortFrom(addr.Addr().WithZone(""), addr.Port()).String())
}

// listen starts accepting on addr.
func (s *Speaker) listen(addr netip.AddrPort) *listener {
	ctx, cancel := context.WithCancel(s.ctx)
	l := &listener{cancel: cancel, want: s.passwordsFor(addr)}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		const again = time.Second
		for failed := false; ; {
			l.mu.Lock()
			want := l.want
			l.mu.Unlock()
			nl, err := s.openListener(ctx, addr, want)
			if err == nil && l.holds(nl, want) {
				s.accept(nl)
			}
			if err != nil && !failed && ctx.Err() == nil {
				s.log.Error("cannot listen for BGP, trying again", "address", addr, "error", err)
			}
			failed = err != nil
			wait := again
			if l.outdated(want) {
				wait = 0
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}()
	return l
}

// openListener opens a listening socket that asks for passwords.
func (s *Speaker) openListener(ctx context.Context, addr netip.AddrPort, ask passwords) (l net.Listener, err error) {
	if s.opt.Listen == nil {
		err = s.opt.Within(func() (err error) { l, err = defaultListen(ctx, addr, ask); return err })
		return l, err
	}
	if len(ask) > 0 {
		return nil, fmt.Errorf("passwords need a socket of our own (RFC 2385)")
	}
	return s.opt.Listen(ctx, addr)
}

// holds takes a socket that was opened with passwords, unless it is not wanted
// any more: then it is closed.
func (l *listener) holds(nl net.Listener, with passwords) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || !l.want.equal(with) {
		_ = nl.Close()
		return false
	}
	l.l = nl
	return true
}

func (l *listener) outdated(with passwords) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.want.equal(with)
}

// accept takes connections until the socket is closed. Who is not configured
// is turned away here, before anything is allocated for him.
func (s *Speaker) accept(nl net.Listener) {
	for {
		nc, err := nl.Accept()
		if err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				continue
			}
			_ = nl.Close()
			return
		}
		if from, _ := endsOf(nc); !s.known.has(from) {
			s.strange(nc, "it is no neighbour")
			continue
		}
		select {
		case s.arrivals <- nc:
		case <-s.done:
			_ = nc.Close()
			return
		}
	}
}

// addrPortOf is the address of a connection's end, IPv4 unmapped and without a
// zone.
func addrPortOf(a net.Addr) netip.AddrPort {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
