// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// messageCounts counts messages by their type; loop, readers and writers share it.
type messageCounts [msgRefresh + 1]atomic.Uint64

func (c *messageCounts) add(o *messageCounts) {
	for i := range c {
		c[i].Add(o[i].Load())
	}
}

// messageNames are the words of RFC 4271 section 4.1 and RFC 2918.
var messageNames = [msgRefresh + 1]string{msgOpen: "open", msgUpdate: "update", msgNotification: "notification",
	msgKeepalive: "keepalive", msgRefresh: "route-refresh"}

// byType is the counts for people.
func (c *messageCounts) byType() map[string]uint64 {
	out := map[string]uint64{}
	for typ, name := range messageNames {
		if name != "" {
			out[name] = c[typ].Load()
		}
	}
	return out
}

// history is how connections of a peer have ended. It outlives the sessions:
// who asks why a session was lost asks when it is back.
type history struct {
	failure string
	failed  time.Time
	sent    *Notice
	got     *Notice
}

// Notice is a NOTIFICATION that was sent or received.
type Notice struct {
	Time    time.Time `json:"time"`
	Code    uint8     `json:"code"`
	Subcode uint8     `json:"subcode"`
	// Text names the code in words, then what exactly was wrong, or the
	// message that the other end's operator left (RFC 9003).
	Text string `json:"text"`
}

func noticeOf(n *notification) *Notice {
	return &Notice{Time: time.Now(), Code: n.code, Subcode: n.sub, Text: n.Error()}
}

// ended notes the end of a connection: sent is the NOTIFICATION that we sent,
// or nil; cause is why, which may be the one that came.
func (h *history) ended(sent *notification, cause error) {
	if cause != nil {
		h.failure, h.failed = cause.Error(), time.Now()
	}
	if sent != nil {
		h.sent = noticeOf(sent)
	} else if n := (*notification)(nil); errors.As(cause, &n) {
		h.got = noticeOf(n)
	}
}

// refusedFor is how long a refused OPEN is spoken of: longer than BIRD, at most, waits
// after one before it takes connections again.
const refusedFor = 6 * time.Minute

// refused is the last NOTIFICATION if it was about an OPEN, whoever sent it, and
// not long ago; else nil.
func (h *history) refused() *Notice {
	n := h.sent
	if n == nil || h.got != nil && h.got.Time.After(n.Time) {
		n = h.got
	}
	if n == nil || n.Code != codeOpen || time.Since(n.Time) > refusedFor {
		return nil
	}
	return n
}

// downOf is the end of a session for those who watch.
func downOf(sent *notification, cause error) *Down {
	d := &Down{Error: fmt.Sprint(cause)}
	var got *notification
	switch {
	case sent != nil:
		d.Sent = sent.marshal()
	case errors.As(cause, &got):
		d.Received = got.marshal()
	}
	return d
}
