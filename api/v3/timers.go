// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"fmt"
	"strconv"
	"time"
)

// Timers is what annotations say of the timers of BGP sessions: on a BGPPeer of
// its sessions, on the BGPConfiguration default of those of the mesh. What is nil
// is left to the defaults; 0 turns a hold time off.
type Timers struct {
	Hold      *time.Duration // hold-time (RFC 4271 section 4.2)
	Keepalive *time.Duration // keepalive-time; a BGPPeer has a field for it
	SendHold  *time.Duration // send-hold-time (RFC 9687)
}

// minHoldTime is the least hold time that is not 0 (RFC 4271 section 4.2).
const minHoldTime = 3 * time.Second

// defaultHoldTime is the hold time where no object says one.
const defaultHoldTime = 9 * time.Second

// maxTimer is what the 16 bits of the hold time can say.
const maxTimer = 65535 * time.Second

// timerAnnotations are those of a kind whose settings have Timers.
func timerAnnotations[T any](of func(*T) *Timers) []annotation[T] {
	return []annotation[T]{
		{"hold-time", func(s *T, v string) error { return readHoldTime(&of(s).Hold, v) }},
		{"send-hold-time", func(s *T, v string) error { return readHoldTime(&of(s).SendHold, v) }},
	}
}

func readHoldTime(into **time.Duration, v string) error {
	if d, err := time.ParseDuration(v); err == nil && d == 0 {
		*into = &d
		return nil
	}
	return readSeconds(into, v, minHoldTime, ", or 0s for none")
}

// readSeconds reads whole seconds, as those of the wire; or is what else may be said.
func readSeconds(into **time.Duration, v string, least time.Duration, or string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < least || d > maxTimer || d%time.Second != 0 {
		return fmt.Errorf("%q: want whole seconds, %v to %.0fs%s", v, least, maxTimer.Seconds(), or)
	}
	*into = &d
	return nil
}

// check judges the timers against each other; r is the object they are of, and
// keepalive what it says of that.
func (t Timers) check(r Resource, keepalive *time.Duration) []error {
	info, _ := InfoFor(r)
	f := newFaults(info, r)
	bad := func(name, format string, args ...any) {
		f.add("metadata.annotations["+strconv.Quote(AnnotationPrefix+name)+"]", format, args...)
	}
	hold := defaultHoldTime
	switch {
	case t.Hold != nil:
		hold = *t.Hold
	case keepalive != nil && *keepalive > 0:
		hold = 3 * *keepalive
	}
	if hold == 0 {
		return nil
	}
	if t.Hold != nil && keepalive != nil && *keepalive >= hold {
		bad("hold-time", "%v is not longer than the keepalive time, %v", hold, *keepalive)
	}
	if t.SendHold != nil && *t.SendHold != 0 && *t.SendHold <= hold {
		bad("send-hold-time", "%v is not longer than the hold time, %v (RFC 9687)", *t.SendHold, hold)
	}
	var errs []error
	for _, e := range f.list {
		errs = append(errs, e)
	}
	return errs
}
