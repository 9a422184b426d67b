// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// update is a decoded UPDATE of both families. What could not be understood
// has already been dealt with as RFC 7606 says: after treat-as-withdraw all
// its prefixes are in withdrawn and reach is empty.
type update struct {
	withdrawn []pathRef
	reach     []pathRef // IPv4 NLRI field, with attrs
	attrs     *attrs
	mpReach   []pathRef // MP_REACH_NLRI, with mpAttrs
	mpAttrs   *attrs
	endOfRIB  familySet
	problem   string // why routes or attributes were dropped, for the log; empty if clean
	treated   bool   // treat-as-withdraw happened
	dropped   int    // attributes discarded
}

// decoder decodes the UPDATEs of one connection. It remembers the attributes
// of the last message, because a table arrives in runs of equal sets. Not safe
// for concurrent use.
type decoder struct {
	as4, ebgp   bool
	keepUnknown bool       // PeerConfig.PassUnknown
	addPath     familySet  // families whose NLRI carries path identifiers
	neighbour   netip.Addr // PeerConfig.neighbour

	last      []byte // next hop of MP_REACH_NLRI and attribute bytes, MP attributes left out
	lastAttrs *attrs
	scratch   []byte
	found     []rawAttr
	aux       auxAttrs
}

type rawAttr struct {
	rule *attrRule // nil: of unknown type, kept
	typ  uint8
	val  []byte
}

// decode reads the body of an UPDATE into u, which must be empty. The
// notification is not nil only when the routes cannot be located: then RFC
// 7606 section 5 leaves nothing but ending the session.
func (d *decoder) decode(body []byte, u *update) *notification {
	fatal := func(sub uint8, format string, a ...any) *notification {
		return &notification{code: codeUpdate, sub: sub, reason: fmt.Sprintf(format, a...)}
	}
	if len(body) < 4 {
		return fatal(subAttrList, "body of %d octets", len(body))
	}
	wlen := int(binary.BigEndian.Uint16(body))
	if len(body) < 2+wlen+2 {
		return fatal(subAttrList, "withdrawn routes length %d exceeds the message", wlen)
	}
	withdrawn := body[2 : 2+wlen]
	alen := int(binary.BigEndian.Uint16(body[2+wlen:]))
	rest := body[4+wlen:]
	if len(rest) < alen {
		return fatal(subAttrList, "path attributes length %d exceeds the message", alen)
	}
	raw, nlri := rest[:alen], rest[alen:]

	if wlen == 0 && alen == 0 && len(nlri) == 0 {
		u.endOfRIB[v4] = true // RFC 4724 section 2
		return nil
	}
	var ok bool
	if u.withdrawn, ok = d.appendNLRI(u.withdrawn, withdrawn, v4); !ok {
		return fatal(subNetworkField, "withdrawn routes are malformed")
	}
	if u.reach, ok = d.appendNLRI(u.reach, nlri, v4); !ok {
		return fatal(subNetworkField, "NLRI is malformed")
	}

	bad := func(format string, a ...any) {
		u.treated = true
		if u.problem == "" {
			u.problem = fmt.Sprintf(format, a...)
		}
	}
	mp, err := d.walk(raw, u, bad)
	if err != nil {
		return err
	}
	if mp.unreach != nil {
		f, known, ok := d.unreachable(mp.unreach, u)
		if !ok {
			return fatal(subOptionalAttr, "MP_UNREACH_NLRI is malformed")
		}
		if known && len(mp.unreach) == 3 && len(d.found) == 0 && wlen == 0 && len(nlri) == 0 && mp.reach == nil {
			u.endOfRIB[f] = true
			return nil
		}
	}
	var mpNextHop netip.Addr
	if mp.reach != nil {
		if mpNextHop, ok = d.reachable(mp.reach, u); !ok {
			return fatal(subOptionalAttr, "MP_REACH_NLRI is malformed")
		}
	}
	if mp.truncated && len(u.reach) == 0 && len(u.mpReach) == 0 {
		// RFC 7606 section 5.2: attributes are damaged and no route was
		// found that could be withdrawn; one may hide behind the damage.
		return fatal(subAttrList, "path attributes are cut off and no NLRI can be found")
	}
	if len(u.reach) > 0 || len(u.mpReach) > 0 {
		d.attributes(u, mpNextHop, bad)
	}
	if u.treated {
		u.withdrawn = append(u.withdrawn, u.reach...)
		u.withdrawn = append(u.withdrawn, u.mpReach...)
		u.reach, u.mpReach = u.reach[:0], u.mpReach[:0]
		u.attrs, u.mpAttrs = nil, nil
	}
	return nil
}

// mpAttrs are the two attributes that carry routes.
type mpAttrs struct {
	reach, unreach []byte
	truncated      bool // the walk could not reach the end of the attributes
}

// walk splits the attributes into d.found and the multiprotocol ones, checking
// lengths, duplicates and flags.
func (d *decoder) walk(raw []byte, u *update, bad func(string, ...any)) (mp mpAttrs, n *notification) {
	d.found = d.found[:0]
	var seen [4]uint64
	for len(raw) > 0 {
		head := 3
		if raw[0]&flagExtended != 0 {
			head = 4
		}
		if len(raw) < head {
			bad("attribute header is cut off")
			mp.truncated = true
			return mp, nil
		}
		flags, typ, l := raw[0], raw[1], int(raw[2])
		if head == 4 {
			l = int(binary.BigEndian.Uint16(raw[2:]))
		}
		if len(raw) < head+l {
			bad("attribute %d: length %d exceeds the attributes", typ, l)
			mp.truncated = true
			return mp, nil
		}
		val := raw[head : head+l]
		raw = raw[head+l:]
		dup := seen[typ>>6]&(1<<(typ&63)) != 0
		seen[typ>>6] |= 1 << (typ & 63)
		r := ruleFor(typ)
		switch {
		case dup && (r == nil || r.again == discard):
			u.dropped++ // RFC 7606 section 3 g: all but the first are discarded
		case dup:
			return mp, &notification{code: codeUpdate, sub: subAttrList, reason: r.name + " occurs twice"}
		case r == nil && flags&flagOptional == 0:
			bad("well-known attribute %d is not known", typ)
		case r == nil && d.keepUnknown && flags&flagTransitive != 0:
			d.found = append(d.found, rawAttr{nil, typ, val})
		case r == nil:
			// Unknown optional: dropped, unless asked for also when it is
			// transitive. Inside a fabric nobody needs it, and passing on what
			// cannot be checked is how one bad router resets another's neighbours.
			u.dropped++
		case !r.takes(d):
			u.dropped++
		default:
			if flags&optionalTransitive != r.flags {
				bad("%s has flags %#x", r.name, flags)
			}
			if r.malformed == reset && !r.length.fit(l) {
				return mp, &notification{code: codeUpdate, sub: subOptionalAttr, reason: fmt.Sprintf("%s has length %d, want %v", r.name, l, r.length)}
			}
			switch typ {
			case attrMPReach:
				mp.reach = val
			case attrMPUnreach:
				mp.unreach = val
			default:
				d.found = append(d.found, rawAttr{r, typ, val})
			}
		}
	}
	return mp, nil
}

// unreachable adds the routes of MP_UNREACH_NLRI to u.withdrawn. A family that
// is not ours is skipped.
func (d *decoder) unreachable(v []byte, u *update) (f family, known, ok bool) {
	f, known = familyFrom(binary.BigEndian.Uint16(v), v[2])
	if !known {
		return 0, false, true
	}
	u.withdrawn, ok = d.appendNLRI(u.withdrawn, v[3:], f)
	return f, true, ok
}

// reachable adds the routes of MP_REACH_NLRI to u.mpReach and returns the next
// hop.
func (d *decoder) reachable(v []byte, u *update) (nh netip.Addr, ok bool) {
	f, known := familyFrom(binary.BigEndian.Uint16(v), v[2])
	if !known {
		return nh, true
	}
	l := int(v[3])
	if l != 4 && l != 16 && l != 32 || len(v) < 4+l+1 {
		return nh, false // RFC 7606 section 7.11: NLRI cannot be located
	}
	// One of the other family leaves no doubt about where NLRI is: GoBGP announces
	// IPv4 like that over IPv6, unasked. It is for judge to refuse it.
	nh = nextHopFrom(v[4:4+l], d.neighbour)
	u.mpReach, ok = d.appendNLRI(u.mpReach, v[4+l+1:], f) // one reserved octet between
	return nh, ok
}

// attributes parses d.found by the table and sets u.attrs and u.mpAttrs.
func (d *decoder) attributes(u *update, mpNextHop netip.Addr, bad func(string, ...any)) {
	if u.treated {
		return
	}
	both := len(u.reach) > 0 && len(u.mpReach) > 0
	var hop []byte // nothing for the NLRI field: the next hop of an empty MP_REACH_NLRI is not that of its routes
	if len(u.mpReach) > 0 {
		hop = mpNextHop.AsSlice()
	}
	d.scratch = append(append(d.scratch[:0], byte(len(hop))), hop...)
	for _, r := range d.found {
		d.scratch = append(d.scratch, r.typ, byte(len(r.val)>>8), byte(len(r.val)))
		d.scratch = append(d.scratch, r.val...)
	}
	if !both && d.lastAttrs != nil && bytes.Equal(d.scratch, d.last) {
		if len(u.reach) > 0 {
			u.attrs = d.lastAttrs
		} else {
			u.mpAttrs = d.lastAttrs
		}
		return
	}
	a, aux := &attrs{}, &d.aux
	*aux = auxAttrs{}
	var have uint64 // types
	for _, r := range d.found {
		if r.rule == nil {
			a.unknown = insertUnknown(a.unknown, r.typ, r.val)
			continue
		}
		err := r.rule.read(r.val, d.as4, a, aux)
		switch {
		case err == nil:
			have |= 1 << r.typ
		case r.rule.malformed == withdraw:
			bad("%s: %v", r.rule.name, err)
			return
		default:
			u.dropped++
		}
	}
	for _, typ := range neededTypes {
		if r := &attrRules[typ]; have&(1<<typ) == 0 && r.needed(d, len(u.reach) > 0) {
			bad("%s is missing", r.name)
			return
		}
	}
	if !d.as4 {
		a.mergeAS4(aux)
	}
	if len(u.mpReach) > 0 {
		m := a
		if both {
			m = a.clone()
		}
		m.nextHop = mpNextHop
		u.mpAttrs = m
	}
	if len(u.reach) > 0 {
		u.attrs = a
	}
	if !both && u.dropped == 0 {
		d.last, d.scratch = d.scratch, d.last
		d.lastAttrs = a
	} else {
		d.lastAttrs = nil
	}
}

// appendNLRI reads an NLRI field: prefixes, each behind its path identifier
// where ADD-PATH was negotiated. Bits beyond the prefix length are of no
// meaning (RFC 4271 section 4.3) and cleared. ok is false when a length is
// illegal or something is cut off.
func (d *decoder) appendNLRI(dst []pathRef, b []byte, f family) (_ []pathRef, ok bool) {
	addPath := d.addPath[f]
	for len(b) > 0 {
		var ref pathRef
		if addPath {
			if len(b) < 5 {
				return dst, false
			}
			ref.id = binary.BigEndian.Uint32(b)
			b = b[4:]
		}
		bits := int(b[0])
		n := (bits + 7) / 8
		if bits > f.bits() || len(b) < 1+n {
			return dst, false
		}
		if f == v4 {
			var a [4]byte
			copy(a[:], b[1:1+n])
			ref.prefix = netip.PrefixFrom(netip.AddrFrom4(a), bits)
		} else {
			var a [16]byte
			copy(a[:], b[1:1+n])
			ref.prefix = netip.PrefixFrom(netip.AddrFrom16(a), bits)
		}
		if bits&7 != 0 {
			ref.prefix = ref.prefix.Masked()
		}
		dst = append(dst, ref)
		b = b[1+n:]
	}
	return dst, true
}
