// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The UDP ports: RFC 5881 section 4 and RFC 5883 section 5. Packets are sent
// from a port of the range.
const (
	Port          = 3784
	MultihopPort  = 4784
	FirstFromPort = 49152
	LastFromPort  = 65535
)

// State is a session state of RFC 5880 section 4.1.
type State uint8

// The states.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

// String returns the RFC's name.
func (s State) String() string {
	if s > Up {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return [...]string{"AdminDown", "Down", "Init", "Up"}[s]
}

// Diag is the reason for the last change of state: RFC 5880 section 4.1.
type Diag uint8

// The diagnostic codes that this implementation sets; others are only shown.
const (
	DiagNone             Diag = 0
	DiagTimeExpired      Diag = 1
	DiagNeighborDown     Diag = 3
	DiagPathDown         Diag = 5
	DiagAdministratively Diag = 7
)

var diagNames = [...]string{
	"none", "control detection time expired", "echo function failed", "neighbor signaled session down",
	"forwarding plane reset", "path down", "concatenated path down", "administratively down", "reverse concatenated path down",
}

// String returns the RFC's words.
func (d Diag) String() string {
	if int(d) < len(diagNames) {
		return diagNames[d]
	}
	return fmt.Sprintf("diagnostic %d", uint8(d))
}

// packet is a BFD Control packet. Intervals are in microseconds, as on the
// wire.
type packet struct {
	diag        Diag
	state       State
	poll, final bool
	independent bool // C: BFD does not share fate with the control plane
	demand      bool
	detectMult  uint8
	my, your    uint32 // discriminators
	minTx       uint32 // Desired Min TX Interval
	minRx       uint32 // Required Min RX Interval
	minEchoRx   uint32
	auth        []byte // the authentication section; nil without
}

const (
	headerLen = 24
	// maxPacket is the longest packet there is: SHA1 authentication.
	maxPacket = headerLen + sha1Len
)

// The flags of the second octet.
const (
	flagMultipoint = 1 << iota
	flagDemand
	flagAuth
	flagIndependent
	flagFinal
	flagPoll
)

// Reasons to discard a packet before there is a session, in the order of RFC
// 5880 section 6.8.6.
var (
	errVersion    = errors.New("version is not 1")
	errLength     = errors.New("bad length")
	errMult       = errors.New("detect mult is 0")
	errMultipoint = errors.New("multipoint bit is set")
	errMy         = errors.New("my discriminator is 0")
	errYour       = errors.New("your discriminator is 0 in a state other than Down or AdminDown")
)

// decode reads a packet. Its auth shares memory with b. What follows the
// packet's own length is ignored, as the RFC has it.
func decode(b []byte) (p packet, err error) {
	if len(b) < headerLen {
		return p, errLength
	}
	if b[0]>>5 != 1 {
		return p, errVersion
	}
	flags, length := b[1]&0x3f, int(b[3])
	switch {
	case length < headerLen, flags&flagAuth != 0 && length < headerLen+2, length > len(b):
		return p, errLength
	case b[2] == 0:
		return p, errMult
	case flags&flagMultipoint != 0:
		return p, errMultipoint
	}
	word := func(i int) uint32 { return binary.BigEndian.Uint32(b[i:]) }
	p = packet{
		diag: Diag(b[0] & 0x1f), state: State(b[1] >> 6),
		poll: flags&flagPoll != 0, final: flags&flagFinal != 0,
		independent: flags&flagIndependent != 0, demand: flags&flagDemand != 0,
		detectMult: b[2], my: word(4), your: word(8), minTx: word(12), minRx: word(16), minEchoRx: word(20),
	}
	switch {
	case p.my == 0:
		return p, errMy
	case p.your == 0 && p.state != Down && p.state != AdminDown:
		return p, errYour
	}
	if flags&flagAuth != 0 {
		p.auth = b[headerLen:length]
		if n := int(p.auth[1]); n < 2 || n > len(p.auth) {
			return p, errLength
		}
	}
	return p, nil
}

// encode appends the packet, with its authentication section as it stands.
func (p *packet) encode(dst []byte) []byte {
	flags := byte(0)
	for _, f := range [...]struct {
		set bool
		bit byte
	}{
		{p.poll, flagPoll}, {p.final, flagFinal}, {p.independent, flagIndependent},
		{p.auth != nil, flagAuth}, {p.demand, flagDemand},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	dst = append(dst, 1<<5|byte(p.diag)&0x1f, byte(p.state)<<6|flags, p.detectMult, byte(headerLen+len(p.auth)))
	for _, w := range [...]uint32{p.my, p.your, p.minTx, p.minRx, p.minEchoRx} {
		dst = binary.BigEndian.AppendUint32(dst, w)
	}
	return append(dst, p.auth...)
}

// micros and interval convert between the wire and Go.
func micros(d time.Duration) uint32    { return uint32(min(d.Microseconds(), 1<<32-1)) }
func interval(us uint32) time.Duration { return time.Duration(us) * time.Microsecond }
