// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"encoding/binary"
	"net/netip"
)

// packer turns a stream of (attributes, prefix) into UPDATE messages, with
// prefixes of equal attributes sharing a message (RFC 4271 section 4.3), and
// the messages into chunks that the writers of many peers can share.
type packer struct {
	as4     bool
	addPath familySet // families whose NLRI carries path identifiers (RFC 7911 section 3)
	buckets map[bucketKey]*[]byte
	chunks  []chunk
	cur     chunk
	scratch []byte
}

// chunk is a run of whole messages of one type, shared by the queues of many peers and
// never changed once made.
type chunk struct {
	b    []byte
	msgs int
}

type bucketKey struct {
	a *attrs // nil: withdrawals
	f family
}

// inMP tells whether announcements go into MP_REACH_NLRI: IPv6, and IPv4 with
// an IPv6 next hop (RFC 8950).
func (k bucketKey) inMP() bool { return k.f == v6 || k.a != nil && k.a.nextHop.Is6() }

const (
	chunkSize  = 32 << 10
	maxBuckets = 512 // sets being filled at a time; bounds memory with many distinct sets
)

// add announces a path with a, or withdraws it when a is nil.
func (p *packer) add(ref pathRef, a *attrs) {
	k := bucketKey{a, familyOf(ref.prefix.Addr())}
	b := p.buckets[k]
	if b == nil {
		if p.buckets == nil {
			p.buckets = make(map[bucketKey]*[]byte)
		}
		if len(p.buckets) >= maxBuckets {
			p.flushAnnouncements()
		}
		b = new([]byte)
		p.buckets[k] = b
	}
	if p.addPath[k.f] {
		*b = binary.BigEndian.AppendUint32(*b, ref.id)
	}
	*b = appendPrefix(*b, ref.prefix)
	// 21 octets is the longest NLRI; what the attributes need is known only
	// roughly before encoding, so emit splits where needed.
	if len(*b) >= maxMessage-headerLen-4-32 {
		p.emit(k, *b)
		*b = (*b)[:0]
	}
}

// flush writes out what is still being filled, withdrawals last: who replaces a
// prefix by longer or shorter ones must not be without a route in between. Only
// withdrawals that fill a message of their own leave earlier.
func (p *packer) flush() {
	p.flushAnnouncements()
	for k, b := range p.buckets {
		p.emit(k, *b)
	}
	clear(p.buckets)
}

func (p *packer) flushAnnouncements() {
	for k, b := range p.buckets {
		if k.a != nil {
			p.emit(k, *b)
			delete(p.buckets, k)
		}
	}
}

// finish returns the chunks and resets the packer.
func (p *packer) finish() []chunk {
	p.flush()
	if len(p.cur.b) > 0 {
		p.chunks = append(p.chunks, p.cur)
	}
	out := p.chunks
	p.chunks, p.cur = nil, chunk{}
	return out
}

// emit writes the prefixes of nlri as one or more messages.
func (p *packer) emit(k bucketKey, nlri []byte) {
	if len(nlri) == 0 {
		return
	}
	p.scratch = p.scratch[:0]
	if k.a != nil {
		p.scratch = k.a.appendTo(p.scratch, p.as4, !k.inMP())
	}
	// Beside the attributes: header 19, two lengths 4, and for IPv6
	// MP_REACH_NLRI with a four-octet header, 5 octets and the next hop.
	room := maxMessage - headerLen - 4 - len(p.scratch)
	if k.inMP() {
		room -= 4 + 5 + 16
	}
	idLen := 0
	if p.addPath[k.f] {
		idLen = 4
	}
	if room < idLen+17 && k.a != nil {
		// The attributes fill a message, as those below maxSent may where AS
		// numbers have two octets and AS4_PATH repeats them: such a route cannot be
		// announced (RFC 4271 section 9.2), and the one before it must not stay.
		p.emit(bucketKey{nil, k.f}, nlri)
		return
	}
	for len(nlri) > 0 {
		n := 0
		for n < len(nlri) {
			l := idLen + 1 + (int(nlri[n+idLen])+7)/8
			if n+l > room {
				break
			}
			n += l
		}
		p.message(k, nlri[:n])
		nlri = nlri[n:]
	}
}

// message appends one UPDATE to the current chunk.
func (p *packer) message(k bucketKey, nlri []byte) {
	if len(p.cur.b)+maxMessage > chunkSize {
		p.chunks = append(p.chunks, p.cur)
		p.cur = chunk{}
	}
	start := len(p.cur.b)
	b := appendHeader(p.cur.b, msgUpdate, nil)
	switch {
	case k.a == nil && k.f == v4:
		b = binary.BigEndian.AppendUint16(b, uint16(len(nlri)))
		b = append(b, nlri...)
		b = append(b, 0, 0)
	case k.a == nil:
		b = append(b, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(4+3+len(nlri)))
		b = append(b, flagOptional|flagExtended, attrMPUnreach)
		b = binary.BigEndian.AppendUint16(b, uint16(3+len(nlri)))
		b = append(b, 0, 2, 1)
		b = append(b, nlri...)
	case !k.inMP():
		b = append(b, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(p.scratch)))
		b = append(b, p.scratch...)
		b = append(b, nlri...)
	default:
		// MP_REACH_NLRI comes first (RFC 7606 section 5.1).
		l := 5 + 16 + len(nlri)
		b = append(b, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(4+l+len(p.scratch)))
		b = append(b, flagOptional|flagExtended, attrMPReach)
		b = binary.BigEndian.AppendUint16(b, uint16(l))
		nh := k.a.nextHop.As16()
		b = append(b, 0, byte(k.f)+1, 1, 16)
		b = append(b, nh[:]...)
		b = append(b, 0)
		b = append(b, nlri...)
		b = append(b, p.scratch...)
	}
	binary.BigEndian.PutUint16(b[start+16:], uint16(len(b)-start))
	p.cur.b = b
	p.cur.msgs++
}

// endOfRIBMessage is the End-of-RIB marker (RFC 4724 section 2).
func endOfRIBMessage(f family) []byte {
	if f == v4 {
		return appendHeader(nil, msgUpdate, []byte{0, 0, 0, 0})
	}
	return appendHeader(nil, msgUpdate, []byte{0, 0, 0, 6, flagOptional, attrMPUnreach, 3, 0, 2, 1})
}

// appendPrefix appends one prefix as NLRI.
func appendPrefix(b []byte, p netip.Prefix) []byte {
	bits := p.Bits()
	n := (bits + 7) / 8
	b = append(b, byte(bits))
	if p.Addr().Is4() {
		a := p.Addr().As4()
		return append(b, a[:n]...)
	}
	a := p.Addr().As16()
	return append(b, a[:n]...)
}
