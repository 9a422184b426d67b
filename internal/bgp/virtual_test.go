// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
)

// wires connects speakers in a synctest bubble, without sockets: time passes there only
// when all of them wait, so that what it takes does not depend on the machine.
type wires struct {
	mu   sync.Mutex
	ends map[netip.AddrPort]*wireEnd
}

// wireEnd is a listening address of wires.
type wireEnd struct {
	w      *wires
	addr   netip.AddrPort
	calls  chan net.Conn
	closed chan struct{}
}

// pipeConn is a connection with addresses.
type pipeConn struct {
	net.Conn
	local, remote netip.AddrPort
}

func (c pipeConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c pipeConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (w *wires) options() Options {
	return Options{
		Listen: func(_ context.Context, addr netip.AddrPort) (net.Listener, error) { return w.listen(addr), nil },
		Dial:   w.dial,
	}
}

func (w *wires) listen(addr netip.AddrPort) *wireEnd {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := &wireEnd{w: w, addr: addr, calls: make(chan net.Conn), closed: make(chan struct{})}
	if w.ends == nil {
		w.ends = map[netip.AddrPort]*wireEnd{}
	}
	w.ends[addr] = e
	return e
}

// dial connects; an address at which nobody listens is silent.
func (w *wires) dial(ctx context.Context, local netip.Addr, addr netip.AddrPort) (net.Conn, error) {
	w.mu.Lock()
	e := w.ends[addr]
	w.mu.Unlock()
	from := netip.AddrPortFrom(local, 1)
	if e == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	here, there := net.Pipe()
	select {
	case e.calls <- pipeConn{there, addr, from}:
		return pipeConn{here, from, addr}, nil
	case <-e.closed:
	case <-ctx.Done():
	}
	return nil, net.ErrClosed
}

func (e *wireEnd) Accept() (net.Conn, error) {
	select {
	case c := <-e.calls:
		return c, nil
	case <-e.closed:
		return nil, net.ErrClosed
	}
}

func (e *wireEnd) Addr() net.Addr { return net.TCPAddrFromAddrPort(e.addr) }

func (e *wireEnd) Close() error {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if e.w.ends[e.addr] == e {
		delete(e.w.ends, e.addr)
		close(e.closed)
	}
	return nil
}

// answer has whoever connects to an address be told these octets and no more, and
// all that it says be swallowed.
func (w *wires) answer(addr netip.AddrPort, octets []byte) (stop func()) {
	e := w.listen(addr)
	go func() {
		for {
			c, err := e.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c) }()
			go func() { _, _ = c.Write(octets) }()
		}
	}()
	return func() { _ = e.Close() }
}
