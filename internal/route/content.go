// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// hop is one way out of a route in the kernel. A Link has one without gateway.
type hop struct {
	oif    uint32
	gw     netip.Addr // no zone: oif says it
	weight uint8      // rtnh_hops: share minus one
	flags  uint8      // of hopFlags
}

// hopFlags are the flags of a next hop that somebody sets; the others tell
// what the kernel thinks of the link at the moment.
const hopFlags = unix.RTNH_F_ONLINK | unix.RTNH_F_PERVASIVE

func (h hop) less(o hop) bool {
	if c := h.gw.Compare(o.gw); c != 0 {
		return c < 0
	}
	return h.oif < o.oif
}

// content is everything about a route in the kernel but its prefix. Routes
// with equal contents share one, found by its code. An odd content has something
// that we never write (a preferred source, a path MTU, another scope, …); what
// exactly does not matter, since it is not what we want.
type content struct {
	code   string
	odd    bool
	multi  bool // odd, with several next hops
	kind   Kind
	metric uint32
	hops   []hop
	object uint32 // of a Via: number of the next-hop object, instead of hops
	msg    []byte // RTM_NEWROUTE with room for the prefix; nil until first written
	refs   int    // table entries that have it and actions that want it
}

const (
	oddKind    = 0xff
	objectKind = 0xfe // Via with a next-hop object
)

// appendCode renders a content such that equal codes are equal contents.
func appendCode(b []byte, kind uint8, metric uint32, hops []hop, object uint32) []byte {
	if object != 0 && kind == uint8(Via) {
		return ne.AppendUint32(ne.AppendUint32(append(b, objectKind), metric), object)
	}
	b = ne.AppendUint32(append(b, kind), metric)
	if kind == oddKind {
		return append(b, byte(min(len(hops), 2)))
	}
	for _, h := range hops {
		b = ne.AppendUint32(b, h.oif)
		b = append(b, h.weight, h.flags, byte(h.gw.BitLen()/8))
		switch h.gw.BitLen() {
		case 32:
			a := h.gw.As4()
			b = append(b, a[:]...)
		case 128:
			a := h.gw.As16()
			b = append(b, a[:]...)
		}
	}
	return b
}

// sortHops orders few hops; the kernel's order carries no meaning.
func sortHops(hops []hop) {
	for i := 1; i < len(hops); i++ {
		for j := i; j > 0 && hops[j].less(hops[j-1]); j-- {
			hops[j], hops[j-1] = hops[j-1], hops[j]
		}
	}
}

// Offsets in a route message, which every message of ours shares: header,
// rtmsg, and the destination first of all attributes.
const (
	atFamily = nlHeader
	atBits   = nlHeader + 1
	atTable  = nlHeader + 4
	atProto  = nlHeader + 5
	atScope  = nlHeader + 6
	atType   = nlHeader + 7
	atDst    = nlHeader + rtmHeader + 4

	rtaNhID = 30 // RTA_NH_ID
)

// appendBase starts a route message of the main table with room for a prefix.
func appendBase(b []byte, family, proto uint8, metric uint32) []byte {
	at := len(b)
	b = append(b, make([]byte, nlHeader+rtmHeader)...)
	b[at+atFamily] = family
	b[at+atTable] = unix.RT_TABLE_MAIN
	b[at+atProto] = proto
	var zero [16]byte
	b = appendAttr(b, unix.RTA_DST, zero[:addrLen(family)])
	return appendAttr32(b, unix.RTA_PRIORITY, metric)
}

func addrLen(family uint8) int {
	if family == unix.AF_INET {
		return 4
	}
	return 16
}

// template returns the message that puts the content into the kernel.
func (c *content) template(family, proto uint8) []byte {
	if c.msg != nil {
		return c.msg
	}
	b := appendBase(nil, family, proto, c.metric)
	b[atType] = unix.RTN_UNICAST
	switch {
	case c.kind == Blackhole:
		b[atType] = unix.RTN_BLACKHOLE
	case c.object != 0:
		b = appendAttr32(b, rtaNhID, c.object)
	case len(c.hops) == 1:
		ne.PutUint32(b[nlHeader+8:], uint32(c.hops[0].flags))
		b = appendGateway(b, family, c.hops[0].gw)
		b = appendAttr32(b, unix.RTA_OIF, c.hops[0].oif)
	default:
		var multi []byte
		for _, h := range c.hops {
			at := len(multi)
			multi = append(multi, 0, 0, h.flags, h.weight)
			multi = ne.AppendUint32(multi, h.oif)
			multi = appendGateway(multi, family, h.gw)
			ne.PutUint16(multi[at:], uint16(len(multi)-at))
		}
		b = appendAttr(b, unix.RTA_MULTIPATH, multi)
	}
	c.msg = b
	return b
}

// appendGateway appends the next hop, which may be of the other family (RFC 8950).
func appendGateway(b []byte, family uint8, gw netip.Addr) []byte {
	switch {
	case !gw.IsValid():
		return b
	case gw.BitLen() == 8*addrLen(family):
		return appendAttr(b, unix.RTA_GATEWAY, gw.AsSlice())
	}
	via := ne.AppendUint16(nil, unix.AF_INET6)
	return appendAttr(b, unix.RTA_VIA, append(via, gw.AsSlice()...))
}

// kernelRoute is a route as the kernel describes it. It is made to be reused.
type kernelRoute struct {
	family, bits, tos uint8
	proto, typ        uint8
	table             uint32
	addr              [16]byte
	metric            uint32
	kind              Kind
	odd               bool
	object            uint32 // the next-hop object it has its next hops from
	hops              []hop
	code              []byte
}

// parse reads the payload of an RTM_NEWROUTE or RTM_DELROUTE. It returns false
// for what is too short to be one.
func (r *kernelRoute) parse(b []byte) bool {
	if len(b) < rtmHeader {
		return false
	}
	family := b[0]
	if family != unix.AF_INET && family != unix.AF_INET6 || int(b[1]) > 8*addrLen(family) {
		return false
	}
	*r = kernelRoute{
		family: family, bits: b[1], tos: b[3], table: uint32(b[4]), proto: b[5], typ: b[7],
		hops: r.hops[:0], code: r.code[:0],
	}
	scope, flags := b[6], ne.Uint32(b[8:])
	r.odd = b[2] != 0 // a source prefix
	single := hop{flags: uint8(flags) & hopFlags}
	multi := false
	for b = b[rtmHeader:]; ; {
		typ, data, rest, ok := nextAttr(b)
		if !ok {
			break
		}
		b = rest
		switch typ {
		case unix.RTA_DST:
			copy(r.addr[:addrLen(family)], data)
		case unix.RTA_PRIORITY:
			r.metric = u32(data)
		case unix.RTA_TABLE:
			r.table = u32(data)
		case unix.RTA_OIF:
			single.oif = u32(data)
		case unix.RTA_GATEWAY, unix.RTA_VIA:
			single.gw = gateway(typ, data)
			r.odd = r.odd || !single.gw.IsValid()
		case unix.RTA_MULTIPATH:
			multi = true
			r.parseHops(data)
		case rtaNhID:
			r.object = u32(data)
		case unix.RTA_CACHEINFO:
			// Usage counters, and the time after which an IPv6 route expires.
			const atExpires = 8
			if len(data) >= atExpires+4 && ne.Uint32(data[atExpires:]) != 0 {
				r.odd = true
			}
		case unix.RTA_PREF: // RFC 4191; medium is 0 and the default
			r.odd = r.odd || len(data) != 1 || data[0] != 0
		default:
			r.odd = true
		}
	}
	switch {
	case r.typ == unix.RTN_BLACKHOLE:
		// IPv6 hangs it on the loopback device; that says nothing.
		r.kind, r.odd = Blackhole, r.odd || multi
	case r.typ != unix.RTN_UNICAST:
		r.odd = true
	case r.object != 0: // with it the kernel may quote the next hops
		r.kind = Via
		if single.oif != 0 {
			r.hops = append(r.hops, single)
		}
		sortHops(r.hops)
	case multi:
		r.kind = Via
		sortHops(r.hops)
		for _, h := range r.hops {
			r.odd = r.odd || !h.gw.IsValid()
		}
	case single.gw.IsValid():
		r.kind, r.hops = Via, append(r.hops, single)
	default:
		r.kind, r.hops = Link, append(r.hops, single)
	}
	r.odd = r.odd || scope != unix.RT_SCOPE_UNIVERSE
	kind := uint8(r.kind)
	if r.odd {
		kind = oddKind
	}
	r.code = appendCode(r.code, kind, r.metric, r.hops, r.object)
	return true
}

func (r *kernelRoute) parseHops(b []byte) {
	for len(b) >= unix.SizeofRtNexthop {
		n := int(ne.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			r.odd = true
			return
		}
		h := hop{flags: b[2] & hopFlags, weight: b[3], oif: ne.Uint32(b[4:])}
		for a := b[unix.SizeofRtNexthop:n]; ; {
			typ, data, rest, ok := nextAttr(a)
			if !ok {
				break
			}
			a = rest
			if typ == unix.RTA_GATEWAY || typ == unix.RTA_VIA {
				h.gw = gateway(typ, data)
			} else {
				r.odd = true
			}
		}
		r.hops = append(r.hops, h)
		b = b[min(align(n), len(b)):]
	}
}

// drops tells whether the route answers or discards instead of forwarding.
func (r *kernelRoute) drops() bool { return r.typ != unix.RTN_UNICAST }

func (r *kernelRoute) prefix() netip.Prefix {
	if r.family == unix.AF_INET {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(r.addr[:4])), int(r.bits))
	}
	return netip.PrefixFrom(netip.AddrFrom16(r.addr), int(r.bits))
}

func gateway(typ uint16, b []byte) netip.Addr {
	if typ == unix.RTA_VIA && len(b) > 2 {
		b = b[2:]
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func u32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return ne.Uint32(b)
}
