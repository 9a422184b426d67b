// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// Framing: RFC 4271 section 4.1 and 6.1. A message that breaks the frame ends
// the session, because where the next one starts can no longer be known.

const (
	headerLen  = 19
	maxMessage = 4096

	msgOpen         = 1
	msgUpdate       = 2
	msgNotification = 3
	msgKeepalive    = 4
	msgRefresh      = 5
)

// NOTIFICATION codes of RFC 4271 section 4.5 and later.
const (
	codeHeader = 1
	codeOpen   = 2
	codeUpdate = 3
	codeHold   = 4
	codeFSM    = 5
	codeCease  = 6

	codeRefresh  = 7 // RFC 7313
	codeSendHold = 8 // RFC 9687
)

// Subcodes in use: RFC 4271 section 6, RFC 4486 for Cease.
const (
	subNotSynchronized = 1
	subBadLength       = 2
	subBadType         = 3

	subVersion    = 1
	subPeerAS     = 2
	subIdentifier = 3
	subOptParam   = 4
	subHoldTime   = 6

	subRoleMismatch = 11 // RFC 9234

	subAttrList     = 1
	subOptionalAttr = 9
	subNetworkField = 10

	subRefreshLength = 1

	ceaseMaxPrefixes  = 1
	ceaseShutdown     = 2
	ceaseDeconfigured = 3
	ceaseReset        = 4
	ceaseConfigChange = 6
	ceaseCollision    = 7
	ceaseBFDDown      = 10 // RFC 9384
)

// notification is a NOTIFICATION to send, or one received, as an error.
type notification struct {
	code, sub uint8
	data      []byte
	reason    string
}

// Error names the code in words, then what exactly was wrong.
func (n *notification) Error() string {
	name := [...]string{"", "message header error", "OPEN error", "UPDATE error", "hold timer expired", "FSM error", "cease", "ROUTE-REFRESH error", "send hold timer expired"}
	s := "error"
	if int(n.code) < len(name) {
		s = name[n.code]
	}
	s = fmt.Sprintf("%s (%d/%d)", s, n.code, n.sub)
	if n.reason != "" {
		s += ": " + n.reason
	}
	return s
}

// marshal returns the message as it goes on the wire.
func (n *notification) marshal() []byte {
	data := n.data
	if len(data) > maxMessage-headerLen-2 {
		data = data[:maxMessage-headerLen-2]
	}
	b, err := wire.NewBGPNotificationMessage(n.code, n.sub, data).Serialize()
	if err != nil { // the codec has no way to fail here
		return appendHeader(nil, msgNotification, []byte{n.code, n.sub})
	}
	return b
}

// keepaliveMessage is the constant 19 octets of a KEEPALIVE.
func keepaliveMessage() []byte { return appendHeader(nil, msgKeepalive, nil) }

// appendHeader appends a message of the given type and body to b.
func appendHeader(b []byte, typ uint8, body []byte) []byte {
	for range 16 {
		b = append(b, 0xff)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(headerLen+len(body)))
	b = append(b, typ)
	return append(b, body...)
}

// minLength is the shortest legal message of each type, header included.
func minLength(typ uint8) int {
	switch typ {
	case msgOpen:
		return 29
	case msgUpdate:
		return 23
	case msgNotification:
		return 21
	case msgRefresh:
		return 23
	}
	return headerLen
}

// checkHeader validates the 19 octets of a header and returns type and length
// of the message.
func checkHeader(h []byte) (typ uint8, length int, n *notification) {
	for _, c := range h[:16] {
		if c != 0xff {
			return 0, 0, &notification{code: codeHeader, sub: subNotSynchronized, reason: "marker is not all ones"}
		}
	}
	length = int(binary.BigEndian.Uint16(h[16:18]))
	typ = h[18]
	if typ < msgOpen || typ > msgRefresh {
		return 0, 0, &notification{code: codeHeader, sub: subBadType, data: []byte{typ}, reason: fmt.Sprintf("unknown message type %d", typ)}
	}
	if length < minLength(typ) || length > maxMessage || typ == msgKeepalive && length != headerLen {
		return 0, 0, &notification{code: codeHeader, sub: subBadLength, data: append([]byte(nil), h[16:18]...),
			reason: fmt.Sprintf("length %d is illegal for message type %d", length, typ)}
	}
	if typ == msgRefresh && length != 23 {
		// From peers with the enhanced capability: wrongRefresh.
		return 0, 0, &notification{code: codeHeader, sub: subBadLength, data: append([]byte(nil), h[16:18]...),
			reason: fmt.Sprintf("length %d is illegal for ROUTE-REFRESH", length)}
	}
	return typ, length, nil
}

// readMessage reads one message into buf, which holds at least maxMessage
// octets, and returns its type and body; the body aliases buf. The error is a
// *notification when the frame is broken, else that of the reader.
func readMessage(r *bufio.Reader, buf []byte) (typ uint8, body []byte, err error) {
	if _, err := io.ReadFull(r, buf[:headerLen]); err != nil {
		return 0, nil, err
	}
	typ, length, n := checkHeader(buf[:headerLen])
	if n != nil {
		return 0, nil, n
	}
	if _, err := io.ReadFull(r, buf[headerLen:length]); err != nil {
		return 0, nil, err
	}
	return typ, buf[headerLen:length], nil
}

// decodeNotification reads the body of a NOTIFICATION. Its shutdown text (RFC 9003) is
// made printable and bounded, because it ends up in logs.
func decodeNotification(body []byte) *notification {
	var m wire.BGPNotification
	if err := m.DecodeFromBytes(body); err != nil {
		return &notification{code: codeHeader, sub: subBadLength, reason: "NOTIFICATION too short"}
	}
	n := &notification{code: m.ErrorCode, sub: m.ErrorSubcode, data: append([]byte(nil), m.Data...)}
	if n.code == codeCease && (n.sub == 2 || n.sub == 4) && len(n.data) > 1 {
		if l := int(n.data[0]); l > 0 && l < len(n.data) {
			n.reason = fmt.Sprintf("%q", n.data[1:1+l])
		}
	}
	return n
}
