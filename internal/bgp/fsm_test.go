// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"math/rand/v2"
	"testing"
)

// reference is RFC 4271 section 8.2.2 read aloud, written without looking at the table:
// for each state what each event leads to, and whether a NOTIFICATION goes
// out. Optional events that we do not use are left out.
func reference(s State, ev event) (next State, notify bool) {
	switch s {
	case Idle:
		// "Any other event received in the Idle state does not cause change in the state."
		return Idle, false
	case Connect:
		switch ev {
		case evTCPUp: // "sends an OPEN message, ... changes its state to OpenSent"
			return OpenSent, false
		case evTCPFail: // "changes its state to Active" (with the DelayOpenTimer running; we keep listening always)
			return Active, false
		}
		return Idle, false
	case Active:
		switch ev {
		case evTCPUp:
			return OpenSent, false
		case evTCPFail:
			return Active, false // RFC says Idle; the same peer is tried again either way
		}
		return Idle, false
	case OpenSent:
		switch ev {
		case evStop, evHoldTimer, evHeaderErr, evOpenErr, evCollision:
			return Idle, true
		case evTCPUp: // a second connection is tracked apart
			return OpenSent, false
		case evTCPFail:
			return Active, false
		case evOpen:
			return OpenConfirm, false
		case evNotify: // event 24 silently; 25 is answered with FSM error by the text, by no implementation
			return Idle, false
		}
		return Idle, true // "sends the NOTIFICATION with the Error Code Finite State Machine Error"
	case OpenConfirm:
		switch ev {
		case evTCPUp:
			return OpenConfirm, false
		case evTCPFail, evNotify:
			return Idle, false
		case evKeepalive:
			return Established, false
		}
		return Idle, true
	case Established:
		switch ev {
		case evTCPUp, evKeepalive, evUpdate, evRefresh:
			return Established, false
		case evTCPFail, evNotify:
			return Idle, false
		}
		return Idle, true
	}
	panic("no such state")
}

// B23: random event sequences of one connection after the other against the
// reference, and what must hold of the actions: a session that was up is taken down exactly once, what leaves
// for Idle from a state with a connection closes it, only Established uses
// routes.
func TestB23_RFC4271_8_RandomEvents(t *testing.T) {
	rng := rand.New(rand.NewPCG(4271, 8))
	s, up := Idle, 0
	for i := range 1_000_000 {
		ev := event(rng.IntN(int(numEvents)))
		if s >= OpenSent && rng.IntN(3) > 0 {
			ev = []event{evOpen, evKeepalive, evUpdate}[rng.IntN(3)] // or hardly anything gets far
		}
		next, act := transition(s, ev)
		want, notify := reference(s, ev)
		if next != want || notify != (act&actNotify != 0) {
			t.Fatalf("step %d: %v, event %d: to %v notify %v, want %v %v", i, s, ev, next, act&actNotify != 0, want, notify)
		}
		if act&actUp != 0 {
			up++
		}
		if act&actDown != 0 {
			up--
		}
		if up != 0 != (next == Established) {
			t.Fatalf("step %d: %v after event %d with %d sessions up", i, next, ev, up)
		}
		if s >= OpenSent && next < OpenSent && act&actClose == 0 {
			t.Fatalf("step %d: %v to %v leaves the connection open", i, s, next)
		}
		if act&actNotify != 0 && act&actClose == 0 || act&actUse != 0 && s != Established {
			t.Fatalf("step %d: %v, event %d: actions %b", i, s, ev, act)
		}
		s = next
		if act&actClose != 0 && rng.IntN(2) == 0 {
			s = []State{Connect, Active}[rng.IntN(2)] // the next connection
		} else if s == Idle && rng.IntN(4) == 0 {
			s = Connect
		}
	}
}

// Both ends come to the same answer, whatever their numbers.
func TestRFC4271_6_8_CollisionAgrees(t *testing.T) {
	for _, c := range [][4]uint32{{1, 2, 7, 7}, {2, 1, 7, 7}, {5, 5, 7, 8}, {5, 5, 8, 7}} {
		a := collide(c[0], c[1], c[2], c[3])
		b := collide(c[1], c[0], c[3], c[2])
		if a == b {
			t.Errorf("%v: both keep the same side: %v", c, a)
		}
	}
}
