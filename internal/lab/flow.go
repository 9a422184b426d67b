// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// FlowConfig describes a stream of numbered UDP datagrams.
type FlowConfig struct {
	From *Namespace
	Src  netip.Addr // invalid is the kernel's choice
	To   *Namespace
	Dst  netip.AddrPort // an address of To; the flow binds a socket to it
	PPS  int            // datagrams per second; 0 is 100
	// Echo sends every datagram back, so that the reverse direction is counted
	// as well.
	Echo bool
}

// FlowReport is what a flow has seen. Counts are of distinct datagrams.
type FlowReport struct {
	Sent      int
	Delivered int // arrived at the receiver; 0 is what a forbidden flow must show
	Returned  int // arrived back at the sender, with Echo
	Lost      int // sent and not delivered; with Echo: not returned
	// MaxGap is the longest time between two arrivals in a row, where losses
	// are counted: at the receiver, with Echo at the sender. It includes the
	// time since the last arrival.
	MaxGap     time.Duration
	GapEnd     time.Time // when the last arrived of the two that are so far apart; zero while none has
	Duplicates int
	SendErrors int // refused by the sender's own host; counted in Sent and Lost too
}

// String renders the report for test output.
func (r FlowReport) String() string {
	return fmt.Sprintf("sent %d delivered %d returned %d lost %d max gap %v duplicates %d send errors %d",
		r.Sent, r.Delivered, r.Returned, r.Lost, r.MaxGap.Round(100*time.Microsecond), r.Duplicates, r.SendErrors)
}

// Flow is a running stream. It is how a test shows that a restart loses
// nothing, and that nothing forbidden passes meanwhile.
type Flow struct {
	cfg      FlowConfig
	interval time.Duration
	id       uint64
	send     *net.UDPConn
	recv     *net.UDPConn
	stop     context.CancelFunc
	sender   sync.WaitGroup
	readers  sync.WaitGroup
	once     sync.Once

	mu         sync.Mutex
	started    time.Time
	sent       uint32
	sendErrors int
	there      arrivals
	back       arrivals
}

// arrivals keeps which sequence numbers came and how far apart.
type arrivals struct {
	seen       []uint64 // bitmap
	count      int
	duplicates int
	last       time.Time
	maxGap     time.Duration
	gapEnd     time.Time
}

func (a *arrivals) add(seq uint32, now, start time.Time) {
	w := int(seq / 64)
	for len(a.seen) <= w {
		a.seen = append(a.seen, 0)
	}
	if a.seen[w]&(1<<(seq%64)) != 0 {
		a.duplicates++
		return
	}
	a.seen[w] |= 1 << (seq % 64)
	a.count++
	if g := a.gap(now, start); g > a.maxGap {
		a.maxGap, a.gapEnd = g, now
	}
	a.last = now
}

func (a *arrivals) gap(now, start time.Time) time.Duration {
	if a.last.IsZero() {
		return now.Sub(start)
	}
	return now.Sub(a.last)
}

// flowLen is an identifier and a sequence number.
const flowLen = 12

// StartFlow begins to send. The flow runs until Stop or the deletion of one of
// its namespaces.
func StartFlow(cfg FlowConfig) (*Flow, error) {
	if cfg.PPS <= 0 {
		cfg.PPS = 100
	}
	f := &Flow{cfg: cfg, interval: time.Second / time.Duration(cfg.PPS)}
	f.id = binary.BigEndian.Uint64(newNonce())
	dst, err := cfg.To.zoned(cfg.Dst.Addr())
	if err != nil {
		return nil, err
	}
	r, err := cfg.To.ListenPacket("udp", netip.AddrPortFrom(dst, cfg.Dst.Port()).String())
	if err != nil {
		return nil, fmt.Errorf("flow: receiver in %s: %w", cfg.To.name, err)
	}
	f.recv = r.(*net.UDPConn)
	src := cfg.Src
	if !src.IsValid() {
		src = netip.IPv6Unspecified()
		if dst.Unmap().Is4() {
			src = netip.IPv4Unspecified()
		}
	}
	// Unconnected: an ICMP error about one datagram does not fail the next.
	s, err := cfg.From.ListenPacket("udp", netip.AddrPortFrom(src, 0).String())
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("flow: sender in %s: %w", cfg.From.name, err)
	}
	f.send = s.(*net.UDPConn)
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	f.started = time.Now()
	to := cfg.Dst
	if to.Addr().Zone() != "" { // the zone is the sender's interface: let it be given that way
		to = netip.AddrPortFrom(dst, cfg.Dst.Port())
	}
	f.sender.Go(func() { f.pump(ctx, to) })
	f.readers.Go(func() { f.read(f.recv, &f.there, cfg.Echo) })
	f.readers.Go(func() { f.read(f.send, &f.back, false) })
	cfg.From.adopt(f)
	cfg.To.adopt(f)
	return f, nil
}

// pump sends by the clock, not by the tick: after a pause of this program it
// catches up, so the rate holds and sequence numbers tell the truth.
func (f *Flow) pump(ctx context.Context, to netip.AddrPort) {
	t := time.NewTicker(f.interval)
	defer t.Stop()
	msg := make([]byte, flowLen)
	binary.BigEndian.PutUint64(msg, f.id)
	for {
		due := uint32(time.Since(f.started)/f.interval) + 1
		for {
			f.mu.Lock()
			seq := f.sent
			if seq >= due {
				f.mu.Unlock()
				break
			}
			f.sent++
			f.mu.Unlock()
			binary.BigEndian.PutUint32(msg[8:], seq)
			if _, err := f.send.WriteToUDPAddrPort(msg, to); err != nil {
				f.mu.Lock()
				f.sendErrors++
				f.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (f *Flow) read(c *net.UDPConn, a *arrivals, echo bool) {
	buf := make([]byte, 2048)
	for {
		k, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || k != flowLen || binary.BigEndian.Uint64(buf) != f.id {
			continue
		}
		now := time.Now()
		f.mu.Lock()
		if seq := binary.BigEndian.Uint32(buf[8:]); seq < f.sent {
			a.add(seq, now, f.started)
		}
		f.mu.Unlock()
		if echo {
			_, _ = c.WriteToUDPAddrPort(buf[:k], from) // a lost answer is counted as lost
		}
	}
}

// Report returns the counts so far; datagrams on their way count as lost.
func (f *Flow) Report() FlowReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	end := &f.there
	if f.cfg.Echo {
		end = &f.back
	}
	return FlowReport{
		Sent:       int(f.sent),
		Delivered:  f.there.count,
		Returned:   f.back.count,
		Lost:       int(f.sent) - end.count,
		MaxGap:     max(end.maxGap, end.gap(time.Now(), f.started)),
		GapEnd:     end.gapEnd,
		Duplicates: f.there.duplicates + f.back.duplicates,
		SendErrors: f.sendErrors,
	}
}

// Mark forgets the gaps so far: those that end from now on count.
func (f *Flow) Mark() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.there.maxGap, f.back.maxGap = 0, 0
}

// WaitDelivered returns when n datagrams have arrived where losses are
// counted, or with ctx's error.
func (f *Flow) WaitDelivered(ctx context.Context, n int) error {
	for {
		if r := f.Report(); r.Sent-r.Lost >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("flow %s to %v: %v: %w", f.cfg.From.name, f.cfg.Dst, f.Report(), ctx.Err())
		case <-time.After(min(f.interval, 5*time.Millisecond)):
		}
	}
}

// Stop ends the sender, gives what is on its way up to grace to arrive, and
// returns the final counts. It may be called again.
func (f *Flow) Stop(grace time.Duration) FlowReport {
	f.stop()
	f.sender.Wait()
	r := f.Report()
	for end := time.Now().Add(grace); r.Lost > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		g := r.MaxGap
		r = f.Report()
		r.MaxGap = g // silence after the last datagram is no gap
	}
	f.once.Do(func() {
		f.send.Close()
		f.recv.Close()
		f.readers.Wait()
		f.cfg.From.release(f)
		f.cfg.To.release(f)
	})
	return r
}

func (f *Flow) end() { f.Stop(0) }
