// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// gate is a network that can be cut (connections end, none can be made) or
// turned into a black hole (bytes vanish, nothing ends) for the connections
// that exist.
type gate struct {
	mu    sync.Mutex
	cut   bool
	conns []*gateConn
}

func (g *gate) dial(ctx context.Context, addr string) (net.Conn, error) {
	g.mu.Lock()
	cut := g.cut
	g.mu.Unlock()
	if cut {
		return nil, errors.New("the network is cut")
	}
	c, err := dialDirect(ctx, addr)
	if err != nil {
		return nil, err
	}
	gc := &gateConn{Conn: c}
	g.mu.Lock()
	g.conns = append(g.conns, gc)
	g.mu.Unlock()
	return gc, nil
}

func (g *gate) set(cut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut = cut
	if cut {
		for _, c := range g.conns {
			c.Conn.Close()
		}
		g.conns = nil
	}
}

func (g *gate) blackhole() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		c.hole.Store(true)
	}
}

type gateConn struct {
	net.Conn
	hole atomic.Bool
}

func (c *gateConn) Write(p []byte) (int, error) {
	if c.hole.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *gateConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.hole.Load() {
			return n, err
		}
	}
}

// gatedClient is a client behind a gate.
func gatedClient(t *testing.T, e *Embedded) (*Client, *gate) {
	t.Helper()
	g := &gate{}
	c, err := Open(context.Background(), Config{Endpoints: e.URLs(), Dial: g.dial}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, g
}
