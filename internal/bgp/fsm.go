// SPDX-License-Identifier: Apache-2.0

package bgp

// The finite state machine of RFC 4271 section 8 as a pure table. Every
// connection runs its own instance (section 8.2: "a BGP implementation will have
// one FSM for each configured peer plus one FSM for each incoming
// connection"), from Connect if we dialled it or Active if it was accepted, to
// the end. Whose connection survives is decided by collision detection (section
// 6.8, see collide). What comes before there is a connection, the start events
// and ConnectRetryTimer, is not in the table: see connect and connectLater.

// String returns the name RFC 4271 gives the state.
func (s State) String() string {
	switch s {
	case Idle:
		return "Idle"
	case Connect:
		return "Connect"
	case Active:
		return "Active"
	case OpenSent:
		return "OpenSent"
	case OpenConfirm:
		return "OpenConfirm"
	case Established:
		return "Established"
	}
	return "Unknown"
}

// event is an input of the FSM; the comments give the numbers of section 8.1.
type event uint8

const (
	evStop      event = iota // 2, 8: stop
	evHoldTimer              // 10: HoldTimer, or the send-hold timer of RFC 9687
	evTCPUp                  // 16, 17: connection made or accepted
	evTCPFail                // 18: connection failed or closed by the peer
	evOpen                   // 19: valid OPEN
	evHeaderErr              // 21: bad message header
	evOpenErr                // 22: bad OPEN
	evCollision              // 23: collision detection chose the other connection
	evNotify                 // 24, 25: NOTIFICATION received
	evKeepalive              // 26: KEEPALIVE received
	evUpdate                 // 27: UPDATE received
	evUpdateErr              // 28: UPDATE with an error that RFC 7606 leaves fatal
	evRefresh                // RFC 2918: ROUTE-REFRESH received
	numEvents
)

// action is what a transition asks of its owner, a set; fire knows the order.
type action uint8

const (
	actOpen      action = 1 << iota // send OPEN, start the open timer
	actKeepalive                    // send KEEPALIVE, start the hold timer with the negotiated time
	actUp                           // the session is Established
	actUse                          // hand the message to the RIB
	actNotify                       // send the NOTIFICATION that belongs to the event
	actClose                        // close the connection
	actDown                         // an Established session ended
)

// transition is the table: from a state and an event to the next state and
// what to do. Events that a state does not expect are errors of section 6.6
// ("FSM error", refined by RFC 6608): they notify and close once an OPEN was
// sent, and only close before.
func transition(s State, ev event) (State, action) {
	switch s {
	case Idle:
		return Idle, 0

	case Connect, Active:
		switch ev {
		case evStop:
			return Idle, actClose
		case evTCPUp:
			return OpenSent, actOpen
		case evTCPFail:
			return Active, actClose
		}
		return Idle, actClose

	case OpenSent:
		switch ev {
		case evOpen:
			return OpenConfirm, actKeepalive
		case evTCPFail:
			return Active, actClose
		case evNotify:
			return Idle, actClose
		case evTCPUp:
			return s, 0
		}
		return Idle, actNotify | actClose

	case OpenConfirm:
		switch ev {
		case evKeepalive:
			return Established, actUp
		case evTCPFail, evNotify:
			return Idle, actClose
		case evTCPUp:
			return s, 0
		}
		return Idle, actNotify | actClose

	case Established:
		switch ev {
		case evKeepalive:
			return Established, 0
		case evUpdate, evRefresh:
			return Established, actUse
		case evTCPFail, evNotify:
			return Idle, actClose | actDown
		case evTCPUp:
			return s, 0
		}
		return Idle, actNotify | actClose | actDown
	}
	return Idle, actClose
}

// unexpected is the NOTIFICATION for a message that arrived in the wrong
// state: code 5 with the subcodes of RFC 6608.
func unexpected(s State) *notification {
	sub := uint8(0)
	switch s {
	case OpenSent:
		sub = 1
	case OpenConfirm:
		sub = 2
	case Established:
		sub = 3
	}
	return &notification{code: codeFSM, sub: sub, reason: "unexpected message in " + s.String()}
}

// early is the same for a message that belongs into Established alone, where it
// costs nothing.
func early(s State) *notification {
	if s == Established {
		return nil
	}
	return unexpected(s)
}

// collide decides which of two connections of one peer lives, by RFC 4271
// section 6.8 with the tie-break of RFC 6286 section 2.3: the one that the
// speaker with the higher BGP Identifier initiated. It reports whether the
// connection we dialled is the survivor.
func collide(localID, remoteID, localAS, remoteAS uint32) (keepDialled bool) {
	if localID != remoteID {
		return localID > remoteID
	}
	return localAS > remoteAS
}
