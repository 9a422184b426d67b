// SPDX-License-Identifier: Apache-2.0

package bmp

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Message types: RFC 7854 section 4.1.
const (
	typeRouteMonitoring  = 0
	typeStatisticsReport = 1
	typePeerDown         = 2
	typePeerUp           = 3
	typeInitiation       = 4
	typeTermination      = 5
)

const (
	version      = 3
	headerLen    = 6  // common header
	perPeerLen   = 42 // per-peer header
	maxInfoValue = 1<<16 - 1
)

// peerType is RFC 7854 section 4.2, and RFC 9069 section 4.1 for the table.
type peerType uint8

const (
	peerGlobal peerType = 0
	peerLocRIB peerType = 3
)

// Flags of the per-peer header: RFC 7854 section 4.2. A is never set: whatever
// the session, UPDATEs are encoded with four-octet AS numbers.
const (
	flagIPv6       = 0x80 // V: the peer's address is IPv6
	flagPostPolicy = 0x40 // L
)

// peer is what the per-peer header says of a session: RFC 7854 section 4.2.
type peer struct {
	typ  peerType
	addr netip.Addr
	asn  uint32
	id   netip.Addr // BGP identifier, IPv4
	time time.Time  // zero: not known
}

// begin appends a common header whose length end fills in: RFC 7854 section 4.1.
func begin(b []byte, typ byte) []byte {
	return append(b, version, 0, 0, 0, 0, typ)
}

func end(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start+1:], uint32(len(b)-start))
	return b
}

// appendPeer appends a per-peer header. The address of a Loc-RIB instance
// peer is zero and its V flag is not set (RFC 9069 section 4.1).
func appendPeer(b []byte, p peer, flags byte) []byte {
	if p.typ == peerGlobal && p.addr.Is6() {
		flags |= flagIPv6
	}
	b = append(b, byte(p.typ), flags)
	b = append(b, make([]byte, 8)...) // distinguisher: one routing table
	b = appendAddr(b, p.addr)
	b = binary.BigEndian.AppendUint32(b, p.asn)
	var id [4]byte
	if p.id.Is4() {
		id = p.id.As4()
	}
	b = append(b, id[:]...)
	if p.time.IsZero() {
		return append(b, make([]byte, 8)...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(p.time.Unix()))
	return binary.BigEndian.AppendUint32(b, uint32(p.time.Nanosecond()/1000))
}

// appendAddr appends an address in 16 octets, an IPv4 one in the last four of
// them (RFC 7854 sections 4.2 and 4.10).
func appendAddr(b []byte, a netip.Addr) []byte {
	var v [16]byte
	switch {
	case a.Is4():
		v4 := a.As4()
		copy(v[12:], v4[:])
	case a.Is6():
		v = a.As16()
	}
	return append(b, v[:]...)
}

// Information TLVs: RFC 7854 section 4.4, and RFC 9069 section 5.2.1 for the
// name of a table.
const (
	infoString   = 0
	infoSysDescr = 1
	infoSysName  = 2
	infoTable    = 3
)

func appendTLV(b []byte, typ uint16, value []byte) []byte {
	value = value[:min(len(value), maxInfoValue)]
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// appendInitiation is the first message of a connection: RFC 7854 section 4.3.
// sysDescr and sysName must be there.
func appendInitiation(b []byte, name, descr string) []byte {
	start := len(b)
	b = begin(b, typeInitiation)
	b = appendTLV(b, infoSysDescr, []byte(descr))
	b = appendTLV(b, infoSysName, []byte(name))
	return end(b, start)
}

// Reasons of a Termination: RFC 7854 section 4.5.
const (
	terminationAdmin     = 0
	terminationResources = 2
)

// appendTermination is the last message of a connection: RFC 7854 section 4.5.
func appendTermination(b []byte, reason uint16, text string) []byte {
	start := len(b)
	b = begin(b, typeTermination)
	b = appendTLV(b, 0, []byte(text))
	b = appendTLV(b, 1, binary.BigEndian.AppendUint16(nil, reason))
	return end(b, start)
}

// peerUp is what a Peer Up Notification tells beside the peer.
type peerUp struct {
	local, remote  netip.AddrPort
	sent, received []byte // the OPENs, header included
	table          string // Loc-RIB: its name
}

// appendPeerUp is RFC 7854 section 4.10; for the Loc-RIB, RFC 9069 section 5.2.
func appendPeerUp(b []byte, p peer, u peerUp) []byte {
	start := len(b)
	b = begin(b, typePeerUp)
	b = appendPeer(b, p, 0)
	b = appendAddr(b, u.local.Addr())
	b = binary.BigEndian.AppendUint16(b, u.local.Port())
	b = binary.BigEndian.AppendUint16(b, u.remote.Port())
	b = append(b, u.sent...)
	b = append(b, u.received...)
	if u.table != "" {
		b = appendTLV(b, infoTable, []byte(u.table))
	}
	return end(b, start)
}

// downReason is why a session ended: RFC 7854 section 4.9.
type downReason uint8

const (
	downLocalNotification  downReason = 1 // we sent a NOTIFICATION, which follows
	downLocal              downReason = 2 // we closed without one; the code of the FSM's event follows
	downRemoteNotification downReason = 3 // the peer sent a NOTIFICATION, which follows
	downRemote             downReason = 4 // the peer closed without one
	downNotMonitored       downReason = 5 // the session is monitored no more
)

// appendPeerDown is RFC 7854 section 4.9. data is the NOTIFICATION with its
// header, or the two octets of an FSM event, as the reason asks for.
func appendPeerDown(b []byte, p peer, reason downReason, data []byte) []byte {
	start := len(b)
	b = begin(b, typePeerDown)
	b = appendPeer(b, p, 0)
	b = append(b, byte(reason))
	switch reason {
	case downLocalNotification, downRemoteNotification, downLocal:
		b = append(b, data...)
	}
	return end(b, start)
}

// appendRouteMonitoring carries one UPDATE: RFC 7854 section 4.6. flags are
// flagPostPolicy or none.
func appendRouteMonitoring(b []byte, p peer, flags byte, update []byte) []byte {
	start := len(b)
	b = begin(b, typeRouteMonitoring)
	b = appendPeer(b, p, flags)
	b = append(b, update...)
	return end(b, start)
}

// Statistics: RFC 7854 section 4.8, and RFC 8671 section 6.2 for Adj-RIB-Out.
const (
	statRejected      = 0  // counter: prefixes rejected by inbound policy
	statASLoop        = 4  // counter: updates invalidated by an AS_PATH loop
	statOriginator    = 5  // counter: by ORIGINATOR_ID
	statAdjRIBIn      = 7  // gauge
	statLocRIB        = 8  // gauge
	statAdjRIBInOf    = 9  // gauge by family
	statLocRIBOf      = 10 // gauge by family
	statTreatWithdraw = 11 // counter: updates treated as withdrawal (RFC 7606)
	statAdjRIBOut     = 15 // gauge, post-policy
	statAdjRIBOutOf   = 17 // gauge by family, post-policy
)

// stat is one value of a Statistics Report. Counters take 32 bits, gauges 64,
// and those by family have their AFI and SAFI in front (RFC 7854 section 4.8).
type stat struct {
	typ   uint16
	value uint64
	afi   uint16 // by family only; SAFI is unicast
}

func appendStatistics(b []byte, p peer, stats []stat) []byte {
	start := len(b)
	b = begin(b, typeStatisticsReport)
	b = appendPeer(b, p, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(stats)))
	for _, s := range stats {
		var v []byte
		switch s.typ {
		case statRejected, statASLoop, statOriginator, statTreatWithdraw:
			v = binary.BigEndian.AppendUint32(v, uint32(s.value))
		case statAdjRIBInOf, statLocRIBOf, statAdjRIBOutOf:
			v = binary.BigEndian.AppendUint16(v, s.afi)
			v = append(v, 1)
			v = binary.BigEndian.AppendUint64(v, s.value)
		default:
			v = binary.BigEndian.AppendUint64(v, s.value)
		}
		b = appendTLV(b, s.typ, v)
	}
	return end(b, start)
}
