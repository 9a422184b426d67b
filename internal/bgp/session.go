// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// conn is one TCP connection with its own state machine. The fields of the
// first part belong to the loop; reader and writer touch only the second.
type conn struct {
	p       *peer
	dialled bool
	state   State
	dead    bool
	open    *openMessage // what the peer sent
	session *Session     // once Established

	sentOpen, gotOpen []byte        // whole messages
	restartTime       time.Duration // as sentOpen says

	hold      time.Duration // negotiated; 0: no hold timer
	families  familySet     // negotiated
	sendPaths familySet     // of these, those with ADD-PATH towards the peer
	timer     timer         // open timer, then hold timer
	since     time.Time     // Established

	lastDecoded, lastInterned *attrs // the second with a reference

	nc        net.Conn
	s         *Speaker
	ebgp      bool
	takePaths bool         // we offer to receive ADD-PATH
	neighbour netip.Addr   // PeerConfig.neighbour
	keepAll   atomic.Bool  // PeerConfig.PassUnknown
	lastRecv  atomic.Int64 // nanoseconds since s.epoch
	busy      atomic.Bool  // the reader waits for the loop: the peer is alive
	in, out   messageCounts
	readDone  chan struct{}
	localAS   uint32

	mu        sync.Mutex // guards the rest
	queue     []chunk
	queued    int           // octets in queue
	keepalive time.Duration // 0: not yet, or never
	sendHold  time.Duration
	final     []byte // last message, then close
	ending    bool
	wantDrain bool // tell the loop when the queue is empty
	wake      chan struct{}
}

// message is one decoded message.
type message struct {
	typ     uint8
	open    *openMessage
	raw     []byte // OPEN: the whole message
	update  *update
	note    *notification // received NOTIFICATION (typ msgNotification), or what the message deserves
	refresh refresh
}

// input is what reader and writer tell the loop.
type input struct {
	c       *conn
	msgs    []message
	at      tick  // the first of msgs was received
	err     error // the connection ended; a timeout means the send-hold timer
	drained bool
}

// readBuffer is what one session reads at a time. Most sessions of a fabric are
// idle, and there may be thousands: the buffers are most of what each costs.
const readBuffer = 16 << 10

// maxBatch and maxBatchRoutes bound what one reader hands to the loop at a time:
// while the loop is busy, octets wait in the kernel, not routes in memory.
const (
	maxBatch       = 64
	maxBatchRoutes = 2048

	maxIdleBatches = 8
)

// read takes messages off the connection until it fails.
func (c *conn) read() {
	defer close(c.readDone)
	br := bufio.NewReaderSize(c.nc, readBuffer)
	buf := make([]byte, maxMessage)
	dec := decoder{ebgp: c.ebgp, neighbour: c.neighbour}
	var batch []message
	enhanced, first := false, tick(0)
	routes := 0 // in the batch
	hand := func(err error) bool {
		c.busy.Store(true)
		defer c.busy.Store(false)
		select {
		case c.s.inputs <- input{c: c, msgs: batch, at: first, err: err}:
			batch, routes, first = c.s.emptyBatch(), 0, 0
			return true
		case <-c.s.done:
			return false
		}
	}
	for {
		typ, body, err := readMessage(br, buf)
		var n *notification
		if errors.As(err, &n) {
			if enhanced {
				n = wrongRefresh(br, buf, n)
			}
			batch = append(batch, message{note: n})
			hand(nil)
			c.discard(br)
			return
		}
		if err != nil {
			hand(err)
			return
		}
		now := time.Since(c.s.epoch)
		c.lastRecv.Store(int64(now))
		if len(batch) == 0 {
			first = tickAt(now)
		}
		c.in[typ].Add(1)
		m := message{typ: typ}
		switch typ {
		case msgOpen:
			m.open, m.note = decodeOpen(body)
			m.raw = appendHeader(nil, msgOpen, body)
			if m.open != nil {
				dec.ebgp = m.open.asn != c.localAS // the loop refuses one that is not allowed
				dec.as4 = m.open.as4               // we always offer it
				enhanced = m.open.enhanced         // and this
				if c.takePaths {
					dec.addPath = m.open.addPathSend
				}
			}
		case msgUpdate:
			m.update = c.s.updates.Get().(*update)
			dec.keepUnknown = c.keepAll.Load()
			m.note = dec.decode(body, m.update)
			routes += len(m.update.withdrawn) + len(m.update.reach) + len(m.update.mpReach)
		case msgNotification:
			m.note = decodeNotification(body)
		case msgRefresh:
			m.refresh = decodeRefresh(body)
		}
		batch = append(batch, m)
		if m.note != nil {
			hand(nil)
			c.discard(br)
			return
		}
		if len(batch) >= maxBatch || routes >= maxBatchRoutes || !wholeMessage(br) {
			if !hand(nil) {
				return
			}
		}
	}
}

// emptyBatch returns a batch that was dealt with, or nil: a table of many sets of
// attributes comes in as many messages.
func (s *Speaker) emptyBatch() []message {
	select {
	case b := <-s.batches:
		return b
	default:
		return nil
	}
}

// wholeMessage reports whether the next message can be read without waiting.
func wholeMessage(br *bufio.Reader) bool {
	if br.Buffered() < headerLen {
		return false
	}
	h, _ := br.Peek(headerLen)
	return br.Buffered() >= int(h[16])<<8+int(h[17])
}

// discard reads on after a fatal message, so that the NOTIFICATION we send is not
// lost to a reset caused by unread octets. close ends it.
func (c *conn) discard(br *bufio.Reader) {
	buf := make([]byte, 4096)
	for {
		if _, err := br.Read(buf); err != nil {
			c.report(err)
			return
		}
	}
}

// report tells the loop that the connection ended.
func (c *conn) report(err error) {
	select {
	case c.s.inputs <- input{c: c, err: err}:
	case <-c.s.done:
	}
}

// write sends what is queued, and a KEEPALIVE whenever nothing was sent for
// the keepalive interval, on its own clock: a busy loop never costs a session.
// Each write has a deadline, the send-hold timer of RFC 9687.
func (c *conn) write() {
	ka := time.NewTimer(time.Hour)
	ka.Stop()
	defer ka.Stop()
	send := func(ch chunk, hold time.Duration) bool {
		deadline := time.Time{}
		if hold > 0 {
			deadline = time.Now().Add(hold)
		}
		_ = c.nc.SetWriteDeadline(deadline)
		if c.isEnding() {
			return true // end's deadline may be the one before: only NOTIFICATIONs go out now
		}
		if _, err := c.nc.Write(ch.b); err != nil {
			if !c.isEnding() {
				c.report(err)
			}
			return false
		}
		c.out[ch.b[headerLen-1]].Add(uint64(ch.msgs))
		return true
	}
	armed := time.Duration(0)
	for {
		c.mu.Lock()
		work, interval, hold := c.queue, c.keepalive, c.sendHold
		c.queue, c.queued = nil, 0
		ending, final := c.ending, c.final
		drain := c.wantDrain && len(work) == 0
		if drain {
			c.wantDrain = false
		}
		c.mu.Unlock()

		if ending {
			c.finish(final)
			return
		}
		for _, ch := range work {
			if !send(ch, hold) {
				c.await()
				return
			}
		}
		if len(work) > 0 {
			if interval > 0 {
				ka.Reset(interval)
				armed = interval
			}
			continue
		}
		if drain {
			select {
			case c.s.inputs <- input{c: c, drained: true}:
			case <-c.s.done:
				_ = c.nc.Close()
				return
			}
		}
		if interval != armed {
			armed = interval
			ka.Stop()
			if interval > 0 {
				ka.Reset(interval)
			}
		}
		select {
		case <-c.wake:
		case <-ka.C:
			if !send(chunk{keepaliveMessage(), 1}, hold) {
				c.await()
				return
			}
			ka.Reset(interval)
		case <-c.s.done:
			_ = c.nc.Close()
			return
		}
	}
}

func (c *conn) isEnding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// await waits, after a failed write, for the loop to give the connection up.
func (c *conn) await() {
	for !c.isEnding() {
		select {
		case <-c.wake:
		case <-c.s.done:
			_ = c.nc.Close()
			return
		}
	}
	_ = c.nc.Close()
}

// lingerTime is how long a closed connection stays to get its NOTIFICATION out, and
// maxLingering how many of a peer do that were no sessions: with its buffers each is 20 KB,
// and whoever may connect can open thousands in a second. What ends beyond says nothing.
const (
	lingerTime   = time.Second
	maxLingering = 16
)

// gone is called when the writer has ended.
func (c *conn) gone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.final != nil {
		c.p.lingering.Add(-1)
	}
}

// finish sends the last message, if any, and closes.
func (c *conn) finish(final []byte) {
	if final != nil {
		_ = c.nc.SetWriteDeadline(time.Now().Add(lingerTime))
		if _, err := c.nc.Write(final); err == nil {
			c.out[msgNotification].Add(1)
			_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
			if half, ok := c.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				<-c.readDone
			}
		}
	}
	_ = c.nc.Close()
}

// send queues chunks; the caller bounds what it queues by c.backlogged.
func (c *conn) send(chunks ...chunk) {
	c.mu.Lock()
	for _, ch := range chunks {
		c.queue = append(c.queue, ch)
		c.queued += len(ch.b)
	}
	c.mu.Unlock()
	c.poke()
}

// maxQueue bounds the octets queued to one connection: beyond it changes
// are remembered as prefixes only.
const maxQueue = 512 << 10

// backlogged reports whether the queue is full; then it asks for an input when it is empty.
func (c *conn) backlogged() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queued < maxQueue {
		return false
	}
	c.wantDrain = true
	return true
}

func (c *conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// setTimes starts the keepalive and send-hold timers of the writer.
func (c *conn) setTimes(keepalive, sendHold time.Duration) {
	c.mu.Lock()
	c.keepalive, c.sendHold = keepalive, sendHold
	c.mu.Unlock()
	c.poke()
}

// end closes the connection, after sending final if that is not nil.
func (c *conn) end(final *notification) {
	c.mu.Lock()
	c.ending = true
	c.queue = nil
	if final != nil {
		c.final = final.marshal()
		c.p.lingering.Add(1)
	}
	c.mu.Unlock()
	if final == nil {
		_ = c.nc.Close()
	} else {
		// A writer stuck in a full socket gets no further than this.
		_ = c.nc.SetWriteDeadline(time.Now().Add(lingerTime))
	}
	c.poke()
}

// timedOut reports whether a connection error is an expired write deadline.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// timer runs a function in the loop after a time. Setting or stopping it
// outdates an expiry that is already on its way.
type timer struct {
	t   *time.Timer
	at  time.Time
	gen uint64
}

func (t *timer) set(s *Speaker, d time.Duration, fn func()) {
	t.stop()
	gen := t.gen
	t.at = time.Now().Add(d)
	t.t = time.AfterFunc(d, func() {
		s.post(func() {
			if t.gen == gen {
				t.t = nil
				fn()
			}
		})
	})
}

func (t *timer) stop() {
	t.gen++
	if t.t != nil {
		t.t.Stop()
		t.t = nil
	}
}

func (t *timer) armed() bool { return t.t != nil }

// left is the time until it expires, in seconds; 0 if it is not set.
func (t *timer) left() float64 {
	if t.t == nil {
		return 0
	}
	return max(0, time.Until(t.at).Seconds())
}
