// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"errors"
	"time"
)

// The reading goroutine of a connection: it frames and decodes messages, and hands them to the
// loop by batches.

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

// reader is what it works with.
type reader struct {
	c        *conn
	br       *bufio.Reader
	dec      decoder
	enhanced bool // the peer has enhanced route refresh (RFC 7313)

	batch  []message // not handed over yet
	routes int       // in it
	first  tick      // when the first of it was received
}

// read takes messages off the connection until it fails.
func (c *conn) read() {
	defer close(c.readDone)
	r := reader{c: c, br: bufio.NewReaderSize(c.nc, readBuffer), dec: decoder{ebgp: c.ebgp, neighbour: c.neighbour}}
	buf := make([]byte, maxMessage)
	for {
		typ, body, err := readMessage(r.br, buf)
		var n *notification
		if errors.As(err, &n) {
			if r.enhanced {
				n = wrongRefresh(r.br, buf, n)
			}
			r.batch = append(r.batch, message{note: n})
			r.giveUp()
			return
		}
		if err != nil {
			r.hand(err)
			return
		}
		m := r.decode(typ, body)
		r.batch = append(r.batch, m)
		if m.note != nil {
			r.giveUp()
			return
		}
		if len(r.batch) >= maxBatch || r.routes >= maxBatchRoutes || !wholeMessage(r.br) {
			if !r.hand(nil) {
				return
			}
		}
	}
}

// decode notes the arrival of a message and decodes it.
func (r *reader) decode(typ uint8, body []byte) message {
	c := r.c
	now := time.Since(c.s.epoch)
	c.lastRecv.Store(int64(now))
	if len(r.batch) == 0 {
		r.first = tickAt(now)
	}
	c.in[typ].Add(1)
	m := message{typ: typ}
	switch typ {
	case msgOpen:
		m.open, m.note = decodeOpen(body)
		m.raw = appendHeader(nil, msgOpen, body)
		if m.open != nil {
			r.follow(m.open)
		}
	case msgUpdate:
		m.update = c.s.updates.Get().(*update)
		r.dec.keepUnknown = c.keepAll.Load()
		m.note = r.dec.decode(body, m.update)
		r.routes += len(m.update.withdrawn) + len(m.update.reach) + len(m.update.mpReach)
	case msgNotification:
		m.note = decodeNotification(body)
	case msgRefresh:
		m.refresh = decodeRefresh(body)
	}
	return m
}

// follow decodes from now on as the peer's OPEN says; the loop refuses one that
// is not allowed. AS numbers of four octets and enhanced route refresh we offer always.
func (r *reader) follow(o *openMessage) {
	r.dec.ebgp = o.asn != r.c.localAS
	r.dec.as4 = o.as4
	r.enhanced = o.enhanced
	if r.c.takePaths {
		r.dec.addPath = o.addPathSend
	}
}

// hand gives the batch to the loop, and tells whether that still runs.
func (r *reader) hand(err error) bool {
	c := r.c
	c.busy.Store(true)
	defer c.busy.Store(false)
	select {
	case c.s.inputs <- input{c: c, msgs: r.batch, at: r.first, err: err}:
		r.batch, r.routes, r.first = c.s.emptyBatch(), 0, 0
		return true
	case <-c.s.done:
		return false
	}
}

// giveUp hands over a batch that ends with an error.
func (r *reader) giveUp() {
	r.hand(nil)
	r.c.discard(r.br)
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
