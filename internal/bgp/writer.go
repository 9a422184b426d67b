// SPDX-License-Identifier: Apache-2.0

package bgp

import "time"

// The writing goroutine of a connection.

// write sends what is queued, and a KEEPALIVE whenever nothing was sent for
// the keepalive interval, on its own clock: a busy loop never costs a session.
func (c *conn) write() {
	ka := time.NewTimer(time.Hour)
	ka.Stop()
	defer ka.Stop()
	armed := time.Duration(0)
	for {
		w := c.take()
		if w.ending {
			c.finish(w.final)
			return
		}
		for _, ch := range w.queue {
			if !c.transmit(ch, w.sendHold) {
				c.await()
				return
			}
		}
		if len(w.queue) > 0 {
			if w.keepalive > 0 {
				ka.Reset(w.keepalive)
				armed = w.keepalive
			}
			continue
		}
		if w.drained {
			select {
			case c.s.inputs <- input{c: c, drained: true}:
			case <-c.s.done:
				_ = c.nc.Close()
				return
			}
		}
		if w.keepalive != armed {
			armed = w.keepalive
			ka.Stop()
			if armed > 0 {
				ka.Reset(armed)
			}
		}
		select {
		case <-c.wake:
		case <-ka.C:
			if !c.transmit(chunk{keepaliveMessage(), 1}, w.sendHold) {
				c.await()
				return
			}
			ka.Reset(armed)
		case <-c.s.done:
			_ = c.nc.Close()
			return
		}
	}
}

// work is what the writer finds to do.
type work struct {
	queue               []chunk
	keepalive, sendHold time.Duration
	drained             bool // the queue is empty, and the loop wants to know
	ending              bool
	final               []byte
}

// take takes the queue, and looks at the rest.
func (c *conn) take() work {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := work{queue: c.queue, keepalive: c.keepalive, sendHold: c.sendHold, drained: c.wantDrain && len(c.queue) == 0, ending: c.ending, final: c.final}
	c.queue, c.queued = nil, 0
	if w.drained {
		c.wantDrain = false
	}
	return w
}

// transmit writes to the socket, with a deadline: the send-hold timer of RFC 9687. It
// reports whether that worked, and an error to the loop.
func (c *conn) transmit(ch chunk, hold time.Duration) bool {
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
