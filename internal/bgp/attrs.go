// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Path attribute types (RFC 4271, 1997, 4456, 4760, 4360, 6793, 8092, 9234).
const (
	attrOrigin       = 1
	attrASPath       = 2
	attrNextHop      = 3
	attrMED          = 4
	attrLocalPref    = 5
	attrAtomic       = 6
	attrAggregator   = 7
	attrCommunities  = 8
	attrOriginatorID = 9
	attrClusterList  = 10
	attrMPReach      = 14
	attrMPUnreach    = 15
	attrExtComm      = 16
	attrAS4Path      = 17
	attrAS4Aggr      = 18
	attrLargeComm    = 32
	attrOTC          = 35
)

// Attribute flag bits.
const (
	flagOptional   = 0x80
	flagTransitive = 0x40
	flagPartial    = 0x20
	flagExtended   = 0x10
)

// AS_PATH segment types.
const (
	segSet      = 1
	segSequence = 2
)

// segment is one AS_PATH segment.
type segment struct {
	typ uint8
	as  []uint32
}

// attrs is one set of path attributes, next hop included. Interned sets are
// immutable but for refs, which the loop owns; equal sets have one address.
type attrs struct {
	key    string // canonical encoding; identity
	refs   int32
	number uint32 // in attrTable.numbered, while interned
	hop    *hop   // what is known of nextHop; nil while no accepted path has it, or nobody tracks

	origin        uint8
	hasMED        bool
	hasLocalPref  bool
	atomic        bool
	hasAggregator bool
	hasOriginator bool
	hasOTC        bool

	nextHop    netip.Addr // invalid: the node itself
	med        uint32
	localPref  uint32
	aggrAS     uint32
	aggrAddr   [4]byte
	originator uint32
	otc        uint32
	path       []segment
	clusters   []uint32
	comms      []uint32
	ext        [][8]byte
	large      [][3]uint32
	unknown    []unknownAttr // in ascending order of type
}

// unknownAttr is an optional transitive attribute of a type without a rule,
// which is passed on because PeerConfig.PassUnknown says so.
type unknownAttr struct {
	typ   uint8
	value []byte
}

// insertUnknown returns the list with one more attribute, whose type it does not
// have yet. The value is copied.
func insertUnknown(list []unknownAttr, typ uint8, value []byte) []unknownAttr {
	i, _ := slices.BinarySearchFunc(list, typ, func(a unknownAttr, typ uint8) int { return int(a.typ) - int(typ) })
	return slices.Insert(list, i, unknownAttr{typ, slices.Clone(value)})
}

// pathLen is the length that route selection compares: an AS_SET counts as one
// (RFC 4271 section 9.1.2.2 a).
func (a *attrs) pathLen() int {
	n := 0
	for _, s := range a.path {
		if s.typ == segSet {
			n++
		} else {
			n += len(s.as)
		}
	}
	return n
}

// firstAS is the neighbouring AS: the leftmost of the path, 0 when the path
// is empty or begins with a set.
func (a *attrs) firstAS() uint32 {
	if len(a.path) == 0 || a.path[0].typ != segSequence || len(a.path[0].as) == 0 {
		return 0
	}
	return a.path[0].as[0]
}

// hasAS reports whether as occurs anywhere in the path.
func (a *attrs) hasAS(as uint32) bool {
	for _, s := range a.path {
		if slices.Contains(s.as, as) {
			return true
		}
	}
	return false
}

// countAS is how often as occurs in the path.
func (a *attrs) countAS(as uint32) int {
	n := 0
	for _, s := range a.path {
		for _, x := range s.as {
			if x == as {
				n++
			}
		}
	}
	return n
}

// mapped returns the path with f done to each AS number; those for which f is
// false are left out. a does not change.
func (a *attrs) mapped(f func(as uint32) (uint32, bool)) []segment {
	var out []segment
	for _, s := range a.path {
		var list []uint32
		for _, as := range s.as {
			if as, keep := f(as); keep {
				list = append(list, as)
			}
		}
		if len(list) > 0 {
			out = append(out, segment{s.typ, list})
		}
	}
	return out
}

// flatPath is the path without segment borders.
func (a *attrs) flatPath() []uint32 {
	if len(a.path) == 1 {
		return a.path[0].as
	}
	var out []uint32
	for _, s := range a.path {
		out = append(out, s.as...)
	}
	return out
}

// lp is LOCAL_PREF, or the customary 100 where the attribute is missing.
func (a *attrs) lp() uint32 {
	if a.hasLocalPref {
		return a.localPref
	}
	return defaultLocalPref
}

const defaultLocalPref = 100

// prepended returns the path with as put in front; a does not change.
func (a *attrs) prepended(as uint32) []segment {
	if len(a.path) > 0 && a.path[0].typ == segSequence && len(a.path[0].as) < 255 {
		first := segment{segSequence, append([]uint32{as}, a.path[0].as...)}
		return append([]segment{first}, a.path[1:]...)
	}
	return append([]segment{{segSequence, []uint32{as}}}, a.path...)
}

// clone returns a shallow copy that is not interned.
func (a *attrs) clone() *attrs {
	c := *a
	c.key, c.refs, c.hop = "", 0, nil
	return &c
}

// appendAttr appends one attribute with its header.
func appendAttr(b []byte, flags, typ uint8, val []byte) []byte {
	if len(val) > 255 {
		b = append(b, flags|flagExtended, typ)
		b = binary.BigEndian.AppendUint16(b, uint16(len(val)))
	} else {
		b = append(b, flags, typ, uint8(len(val)))
	}
	return append(b, val...)
}

func appendPath(b []byte, path []segment, as4 bool) []byte {
	for _, s := range path {
		b = append(b, s.typ, uint8(len(s.as)))
		for _, as := range s.as {
			switch {
			case as4:
				b = binary.BigEndian.AppendUint32(b, as)
			case as > 65535:
				b = binary.BigEndian.AppendUint16(b, asTrans)
			default:
				b = binary.BigEndian.AppendUint16(b, uint16(as))
			}
		}
	}
	return b
}

// appendTo appends the attributes to b in ascending order of type, those of
// unknown type behind them, as they go on the wire; NEXT_HOP only when withNextHop and the next hop is IPv4. To a
// peer without four-octet AS numbers, AS4_PATH and AS4_AGGREGATOR carry what
// does not fit (RFC 6793 section 4.2.2).
func (a *attrs) appendTo(b []byte, as4, withNextHop bool) []byte {
	var arr [512]byte
	b = append(b, flagTransitive, attrOrigin, 1, a.origin)
	b = appendAttr(b, flagTransitive, attrASPath, appendPath(arr[:0], a.path, as4))
	if withNextHop && a.nextHop.Is4() {
		nh := a.nextHop.As4()
		b = appendAttr(b, flagTransitive, attrNextHop, nh[:])
	}
	u32 := func(v uint32) []byte { return binary.BigEndian.AppendUint32(arr[:0], v) }
	if a.hasMED {
		b = appendAttr(b, flagOptional, attrMED, u32(a.med))
	}
	if a.hasLocalPref {
		b = appendAttr(b, flagTransitive, attrLocalPref, u32(a.localPref))
	}
	if a.atomic {
		b = appendAttr(b, flagTransitive, attrAtomic, nil)
	}
	wide := false
	if a.hasAggregator {
		v := arr[:0]
		switch {
		case as4:
			v = binary.BigEndian.AppendUint32(v, a.aggrAS)
		case a.aggrAS > 65535:
			wide = true
			v = binary.BigEndian.AppendUint16(v, asTrans)
		default:
			v = binary.BigEndian.AppendUint16(v, uint16(a.aggrAS))
		}
		b = appendAttr(b, flagOptional|flagTransitive, attrAggregator, append(v, a.aggrAddr[:]...))
	}
	if len(a.comms) > 0 {
		v := arr[:0]
		for _, c := range a.comms {
			v = binary.BigEndian.AppendUint32(v, c)
		}
		b = appendAttr(b, flagOptional|flagTransitive, attrCommunities, v)
	}
	if a.hasOriginator {
		b = appendAttr(b, flagOptional, attrOriginatorID, u32(a.originator))
	}
	if len(a.clusters) > 0 {
		v := arr[:0]
		for _, c := range a.clusters {
			v = binary.BigEndian.AppendUint32(v, c)
		}
		b = appendAttr(b, flagOptional, attrClusterList, v)
	}
	if len(a.ext) > 0 {
		v := arr[:0]
		for _, c := range a.ext {
			v = append(v, c[:]...)
		}
		b = appendAttr(b, flagOptional|flagTransitive, attrExtComm, v)
	}
	if !as4 && slices.ContainsFunc(a.path, func(s segment) bool {
		return slices.ContainsFunc(s.as, func(as uint32) bool { return as > 65535 })
	}) {
		b = appendAttr(b, flagOptional|flagTransitive, attrAS4Path, appendPath(arr[:0], a.path, true))
	}
	if wide {
		b = appendAttr(b, flagOptional|flagTransitive, attrAS4Aggr, append(u32(a.aggrAS), a.aggrAddr[:]...))
	}
	if len(a.large) > 0 {
		v := arr[:0]
		for _, l := range a.large {
			for _, x := range l {
				v = binary.BigEndian.AppendUint32(v, x)
			}
		}
		b = appendAttr(b, flagOptional|flagTransitive, attrLargeComm, v)
	}
	if a.hasOTC {
		b = appendAttr(b, flagOptional|flagTransitive, attrOTC, u32(a.otc))
	}
	for _, u := range a.unknown { // they have passed through who does not know them: Partial (RFC 4271 section 5)
		b = appendAttr(b, flagOptional|flagTransitive|flagPartial, u.typ, u.value)
	}
	return b
}

// appendKey appends the canonical form that identifies the set.
func (a *attrs) appendKey(b []byte) []byte {
	b = a.appendTo(b, true, false)
	if a.nextHop.IsValid() {
		nh := a.nextHop.As16()
		b = append(b, byte(familyOf(a.nextHop))+1)
		b = append(b, nh[:]...)
		b = append(b, a.nextHop.Zone()...)
	}
	return b
}

// attrTable interns attribute sets. It belongs to the loop.
type attrTable struct {
	hops *hopTable
	sets map[string]*attrs
	buf  []byte

	numbered []*attrs // every set in use, by its number
	free     []uint32 // numbers not in use
}

// intern returns the one entry equal to a, with one reference added for the
// caller. a may become that entry, so it must not be changed afterwards.
func (t *attrTable) intern(a *attrs) *attrs {
	if a.refs > 0 { // already the interned one
		a.refs++
		return a
	}
	t.buf = a.appendKey(t.buf[:0])
	if e, ok := t.sets[string(t.buf)]; ok {
		e.refs++
		return e
	}
	a.key, a.refs = string(t.buf), 1
	if t.sets == nil {
		t.sets = make(map[string]*attrs)
	}
	t.sets[a.key] = a
	if n := len(t.free); n > 0 {
		a.number, t.free = t.free[n-1], t.free[:n-1]
		t.numbered[a.number] = a
	} else {
		a.number = uint32(len(t.numbered))
		t.numbered = append(t.numbered, a)
	}
	return a
}

// release drops one reference; a nil set is allowed.
func (t *attrTable) release(a *attrs) {
	if a == nil {
		return
	}
	if a.refs--; a.refs == 0 {
		t.hops.give(a)
		delete(t.sets, a.key)
		t.numbered[a.number] = nil
		t.free = append(t.free, a.number)
		if len(t.sets) == 0 { // neither maps nor lists shrink by themselves
			t.sets, t.numbered, t.free = nil, nil, nil
		}
	}
}
