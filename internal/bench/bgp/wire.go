// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// The few messages that a feeder and a receiver need, written by hand: nothing
// of what is measured is used to measure it. RFC 4271 section 4.

const (
	headerLen  = 19
	maxMessage = 4096
	asn        = 64512
	holdTime   = 90
)

func appendHeader(b []byte, typ byte) []byte {
	for range 16 {
		b = append(b, 0xff)
	}
	return append(b, 0, 0, typ)
}

// sealed writes the length of the message that starts at start.
func sealed(b []byte, start int) []byte {
	binary.BigEndian.PutUint16(b[start+16:], uint16(len(b)-start))
	return b
}

var keepalive = sealed(appendHeader(nil, 4), 0)

// endOfRIB is the marker for IPv4 (RFC 4724 section 2).
var endOfRIB = sealed(append(appendHeader(nil, 2), 0, 0, 0, 0), 0)

// openMessage is an OPEN for IPv4 unicast, four-octet AS numbers and graceful
// restart with forwarding preserved.
func openMessage(id netip.Addr) []byte {
	caps := []byte{
		1, 4, 0, 1, 0, 1, // multiprotocol: IPv4 unicast
		65, 4, 0, 0, 0, 0, // four-octet AS number
		64, 6, 0, 120, 0, 1, 1, 0x80, // graceful restart, 120 s, IPv4 unicast with F
	}
	binary.BigEndian.PutUint32(caps[8:], asn)
	b := append(appendHeader(nil, 1), 4, asn>>8, asn&0xff, 0, holdTime)
	a := id.As4()
	b = append(b, a[:]...)
	b = append(b, byte(2+len(caps)), 2, byte(len(caps)))
	return sealed(append(b, caps...), 0)
}

// layout says where the addresses of a table are.
type layout struct {
	First  netip.Addr `json:"first"`
	Spread bool       `json:"spread"` // 64 neighbours in one block, blocks all over the place
}

// prefix is number i, always a /32.
func (l layout) prefix(i int) (addr uint32) {
	a := l.First.As4()
	first := binary.BigEndian.Uint32(a[:])
	if !l.Spread {
		return first + uint32(i)
	}
	// An odd factor visits every block of a /4 once. The first of them is where
	// the table begins.
	const blocks = 1 << 22
	block := uint32(i/64) * 2654435761 % blocks
	return first&0xf0000000 | (first&0x0fffffff+block*64)&0x0fffffff | uint32(i%64)
}

// table is a set of routes that one peer announces.
type table struct {
	layout
	Routes, Sets int
	nextHop      netip.Addr
}

// attributes are those of one set. Sets differ in a community, as those of
// many origins differ in something.
func (t table) attributes(b []byte, set int) []byte {
	nh := t.nextHop.As4()
	b = append(b, 0x40, 1, 1, 0) // ORIGIN IGP
	b = append(b, 0x40, 2, 0)    // AS_PATH, empty within the AS
	b = append(b, 0x40, 3, 4, nh[0], nh[1], nh[2], nh[3])
	b = append(b, 0x40, 5, 4, 0, 0, 0, 100) // LOCAL_PREF
	b = append(b, 0xc0, 8, 4)
	return binary.BigEndian.AppendUint32(b, 0xfc000000+uint32(set)) // COMMUNITIES
}

// chunkSize is how much is written at a time: whole messages only.
const chunkSize = 64 << 10

// announce encodes the whole table, in order, each set a run.
func (t table) announce() (chunks [][]byte) {
	return t.encode(func(b []byte, first, n int) []byte {
		at := len(b) + 2
		b = t.attributes(append(b, 0, 0, 0, 0), first*t.Sets/t.Routes)
		binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
		return t.nlri(b, first, n)
	})
}

// withdraw encodes the withdrawal of every route.
func (t table) withdraw() (chunks [][]byte) {
	t.Sets = 1
	return t.encode(func(b []byte, first, n int) []byte {
		b = binary.BigEndian.AppendUint16(b, uint16(5*n))
		return append(t.nlri(b, first, n), 0, 0)
	})
}

func (t table) nlri(b []byte, first, n int) []byte {
	for i := first; i < first+n; i++ {
		b = binary.BigEndian.AppendUint32(append(b, 32), t.prefix(i))
	}
	return b
}

// encode calls body for as many routes of one set as a message has room for,
// and gathers the messages.
func (t table) encode(body func(b []byte, first, n int) []byte) (chunks [][]byte) {
	const most = (maxMessage - headerLen - 4 - 64) / 5
	var b []byte
	for i := 0; i < t.Routes; {
		n := 1
		for n < most && i+n < t.Routes && (i+n)*t.Sets/t.Routes == i*t.Sets/t.Routes {
			n++
		}
		start := len(b)
		b = sealed(body(appendHeader(b, 2), i, n), start)
		i += n
		if len(b) > chunkSize-maxMessage {
			chunks, b = append(chunks, b), nil
		}
	}
	if len(b) > 0 {
		chunks = append(chunks, b)
	}
	return chunks
}

// one is the announcement of a single route, or its withdrawal.
func (t table) one(i int, withdraw bool) []byte {
	single := t
	single.First, single.Spread, single.Routes, single.Sets = netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, t.prefix(i)))), false, 1, 1
	if withdraw {
		return single.withdraw()[0]
	}
	return single.announce()[0]
}

// readMessage reads one message into buf and returns its type and body.
func readMessage(r io.Reader, buf []byte) (typ byte, body []byte, err error) {
	if _, err := io.ReadFull(r, buf[:headerLen]); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint16(buf[16:]))
	if n < headerLen || n > maxMessage {
		return 0, nil, fmt.Errorf("a message of %d octets", n)
	}
	_, err = io.ReadFull(r, buf[headerLen:n])
	return buf[18], buf[headerLen:n], err
}

var errBody = errors.New("malformed UPDATE")

// count counts the IPv4 routes of an UPDATE.
func count(body []byte) (announced, withdrawn int, eor bool, err error) {
	if len(body) < 4 {
		return 0, 0, false, errBody
	}
	w := int(binary.BigEndian.Uint16(body))
	if len(body) < 4+w {
		return 0, 0, false, errBody
	}
	a := int(binary.BigEndian.Uint16(body[2+w:]))
	if len(body) < 4+w+a {
		return 0, 0, false, errBody
	}
	if withdrawn, err = prefixes(body[2 : 2+w]); err != nil {
		return 0, 0, false, err
	}
	announced, err = prefixes(body[4+w+a:])
	return announced, withdrawn, w == 0 && a == 0 && len(body) == 4, err
}

func prefixes(b []byte) (n int, err error) {
	for ; len(b) > 0; n++ {
		l := 1 + (int(b[0])+7)/8
		if b[0] > 32 || l > len(b) {
			return 0, errBody
		}
		b = b[l:]
	}
	return n, nil
}
