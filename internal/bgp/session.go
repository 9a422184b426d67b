// SPDX-License-Identifier: Apache-2.0

package bgp

import (
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

func (c *conn) isEnding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// timedOut reports whether a connection error is an expired write deadline.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
