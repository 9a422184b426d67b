// SPDX-License-Identifier: Apache-2.0

package bmp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/muslin-net/muslin/internal/bgp"
)

// Engine is what is exported.
type Engine interface {
	Watch(bgp.Watch) *bgp.Monitor
	Peers() []bgp.PeerStatus
}

// Export keeps a monitoring station informed. The zero values of the times are
// those that are named.
type Export struct {
	Engine  Engine
	Station netip.AddrPort
	Name    string // of this router: sysName
	Version string // of the program: sysDescr
	Log     *slog.Logger

	// RetryMin and RetryMax bound the wait between attempts to connect, which
	// doubles: 30 s and 720 s (RFC 7854 section 3.2).
	RetryMin, RetryMax time.Duration
	// Statistics is how often they are reported: 60 s.
	Statistics time.Duration
	// Patience is for how long a write may take: 30 s.
	Patience time.Duration
}

// Run connects to the station again and again until ctx ends.
func (e *Export) Run(ctx context.Context) {
	first, last := or(e.RetryMin, 30*time.Second), or(e.RetryMax, 720*time.Second)
	log := e.Log.With("station", e.Station)
	for wait := first; ; {
		began := time.Now()
		err := e.once(ctx, log)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > last {
			wait = first // it worked for a while
		}
		log.Warn("BMP export ended; trying again", "err", err, "in", wait.Round(time.Second))
		select {
		case <-time.After(wait/2 + rand.N(wait/2+1)):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, last)
	}
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// writeBuffer bounds what the kernel keeps for a station that does not read.
const writeBuffer = 256 << 10

// once is one connection.
func (e *Export) once(ctx context.Context, log *slog.Logger) error {
	dial := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	conn, err := dial.DialContext(ctx, "tcp", e.Station.String())
	if err != nil {
		return err
	}
	_ = conn.(*net.TCPConn).SetWriteBuffer(writeBuffer)
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer func() { // both goroutines end by these
		cancel(nil)
		conn.Close()
		wg.Wait()
	}()
	// A station says nothing (RFC 7854 section 3.2): reading is for its end.
	wg.Go(func() {
		_, err := io.Copy(io.Discard, conn)
		cancel(fmt.Errorf("the station closed the connection: %w", errors.Join(err, io.EOF)))
	})
	x := &export{e: e, conn: conn, patience: or(e.Patience, 30*time.Second), up: map[*bgp.Session]peer{}}
	if err := x.write(appendInitiation(nil, e.Name, "Muslin "+e.Version)); err != nil {
		return err
	}
	log.Info("BMP export began")
	m := e.Engine.Watch(bgp.Watch{Table: true, Received: true, Selected: true, Encode: true})
	defer m.Close()
	wg.Go(func() {
		tick := time.NewTicker(or(e.Statistics, time.Minute))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := x.write(x.statistics(e.Engine.Peers())); err != nil {
					cancel(err)
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		events, err := m.Next(ctx)
		switch {
		case errors.Is(err, bgp.ErrBehind):
			_ = x.write(appendTermination(nil, terminationResources, "the station is too slow"))
			return err
		case errors.Is(err, net.ErrClosed), ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled):
			_ = x.write(appendTermination(nil, terminationAdmin, "this router's daemon ends"))
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		}
		if err := x.write(x.messages(events)); err != nil {
			return err
		}
	}
}

// export is the state of one connection.
type export struct {
	e        *Export
	conn     net.Conn
	patience time.Duration

	mu sync.Mutex // guards writing and up
	up map[*bgp.Session]peer
}

// write sends whole messages, or fails when the station does not take them.
func (x *export) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.conn.SetWriteDeadline(time.Now().Add(x.patience)); err != nil {
		return err
	}
	_, err := x.conn.Write(b)
	return err
}

// peerOf is the per-peer header of a session.
func peerOf(s *bgp.Session) peer {
	if s.LocRIB {
		return peer{typ: peerLocRIB, asn: s.ASN, id: s.RouterID}
	}
	return peer{addr: s.Addr.Addr(), asn: s.ASN, id: s.RouterID}
}

// messages turns events into messages, in their order.
func (x *export) messages(events []bgp.Event) (b []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range events {
		var p peer
		if e.Session != nil {
			p = peerOf(e.Session)
			p.time = e.Time
		}
		switch e.Kind {
		case bgp.SessionUp:
			x.up[e.Session] = peerOf(e.Session)
			u := peerUp{local: e.Session.Local, remote: e.Session.Remote, sent: e.Session.Sent, received: e.Session.Received}
			if e.Session.LocRIB {
				u.table = "main"
			}
			b = appendPeerUp(b, p, u)
		case bgp.SessionDown:
			delete(x.up, e.Session)
			reason, data := downReasonOf(e.Down)
			b = appendPeerDown(b, p, reason, data)
		case bgp.Updates:
			flags := byte(0)
			if e.View == bgp.ViewAccepted {
				flags = flagPostPolicy
			}
			b = appendRouteMonitoring(b, p, flags, e.Update)
		case bgp.TableComplete:
			// RFC 7854 section 5: End-of-RIB ends the initial table, of each view.
			for s, p := range x.up {
				p.time = e.Time
				for _, end := range s.EndOfRIB() {
					b = appendRouteMonitoring(b, p, 0, end)
					if !s.LocRIB {
						b = appendRouteMonitoring(b, p, flagPostPolicy, end)
					}
				}
			}
		}
	}
	return b
}

func downReasonOf(d *bgp.Down) (downReason, []byte) {
	switch {
	case d.Sent != nil:
		return downLocalNotification, d.Sent
	case d.Received != nil:
		return downRemoteNotification, d.Received
	}
	return downRemote, nil
}

// statistics reports on every session that the station knows.
func (x *export) statistics(peers []bgp.PeerStatus) (b []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	for _, st := range peers {
		for s, p := range x.up {
			if s.Addr != st.Addr || s.LocRIB {
				continue
			}
			p.time = now
			list := []stat{
				{typ: statRejected, value: uint64(st.Received - st.Accepted)},
				{typ: statAdjRIBIn, value: uint64(st.Received)},
				{typ: statAdjRIBOut, value: uint64(st.Advertised)},
			}
			for afi, name := range map[uint16]string{1: "ipv4-unicast", 2: "ipv6-unicast"} {
				if f, ok := st.Family[name]; ok {
					list = append(list, stat{statAdjRIBInOf, uint64(f.Received), afi}, stat{statAdjRIBOutOf, uint64(f.Advertised), afi})
				}
			}
			b = appendStatistics(b, p, list)
		}
	}
	return b
}
