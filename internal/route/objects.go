// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Next-hop objects: the kernel keeps next hops apart from the routes that use
// them, so that one message moves all of those. A route gets one where its next
// hops may change while BGP's wish does not: with several next hops, of
// which some may go, and with one behind other routers, which follows
// their routing protocol. It is a group, resilient where the kernel has that:
// flows keep their next hop when another one comes or goes. A next hop on a
// connected subnet stays in its route: there an object would save
// nothing, and the kernel forgets objects (with their routes) when a cable is
// pulled, while it keeps such a route.
//
// The number of an object follows from what it is for. A restarted process
// finds its own that way, and by protocol number.

// Parameters of a resilient group. A new next hop takes over buckets that have
// been idle; after settle, busy ones as well, or it would never get its share.
const (
	groupBuckets = 128
	groupIdle    = 60  // seconds
	groupSettle  = 600 // seconds
	userHz       = 100
)

// Numbers of ours: a quarter of the space, away from where others count from 1.
const (
	objectBase = 1 << 30
	objectMask = objectBase - 1
)

// Attributes of next-hop messages (linux/nexthop.h).
const (
	nhaID        = 1
	nhaGroup     = 2
	nhaGroupType = 3
	nhaBlackhole = 4
	nhaOIF       = 5
	nhaGateway   = 6
	nhaEncapType = 7
	nhaEncap     = 8
	nhaMaster    = 10
	nhaFDB       = 11
	nhaResGroup  = 12

	nhaResGroupBuckets    = 1
	nhaResGroupIdle       = 2
	nhaResGroupUnbalanced = 3

	groupResilient = 1

	nhmHeader = 8 // family, scope, protocol, reserved, flags

	rtnlgrpNexthop = 32
)

// groupMode is what kind of groups the kernel has.
type groupMode uint8

const (
	resilient groupMode = iota // since Linux 5.13
	plain                      // since 5.3
	inline                     // no objects: next hops are inside routes
)

// object is what a next-hop object does: forward through one next hop, or
// divide among others.
type object struct {
	hop     hop
	members []uint32 // of a group, in order
}

func (o object) equal(p object) bool { return o.hop == p.hop && slices.Equal(o.members, p.members) }

// group is an object that is wanted.
type group struct {
	id   uint32
	refs int   // actions
	hops []hop // empty while none is reachable: it stays as it is
}

// objects are the next-hop objects of this protocol, wanted and there.
type objects struct {
	mode  groupMode
	proto uint8

	groups map[groupKey]*group
	have   map[uint32]object // ours in the kernel
	taken  map[uint32]bool   // others' in the kernel
	failed map[hop]string    // next hops that the kernel refused
	dirty  bool              // compare wanted and there before routes are written
	// sweepDue: something may be there that nobody wants.
	sweepDue bool
	stale    bool            // read what is there before that
	lost     map[uint32]bool // gone since routes last looked
}

type groupKey struct {
	family uint8
	hops   Hops
}

func newObjects(proto uint8, mode groupMode) *objects {
	return &objects{
		mode: mode, proto: proto, stale: true, groups: map[groupKey]*group{}, have: map[uint32]object{},
		taken: map[uint32]bool{}, failed: map[hop]string{}, lost: map[uint32]bool{},
	}
}

// take returns the group for a wish, counted.
func (o *objects) take(family uint8, hops Hops) *group {
	k := groupKey{family, hops}
	g := o.groups[k]
	if g == nil {
		g = &group{}
		o.groups[k] = g
	}
	if g.id == 0 {
		g.id = o.number('g', family, byte(o.mode), []byte(hops.h.Value()), func(id uint32) bool {
			for _, other := range o.groups {
				if other.id == id {
					return false
				}
			}
			return true
		})
	}
	g.refs++
	return g
}

func (o *objects) give(family uint8, hops Hops) {
	k := groupKey{family, hops}
	if g := o.groups[k]; g != nil {
		if g.refs--; g.refs == 0 {
			delete(o.groups, k)
			o.dirty, o.sweepDue = true, true
		}
	}
}

// set says what a group forwards through. Without any it stays as it is.
func (o *objects) set(g *group, hops []hop) {
	if len(hops) > 0 && !slices.Equal(g.hops, hops) {
		g.hops = slices.Clone(hops)
		o.dirty, o.sweepDue = true, true
	}
}

// number derives a number from what an object is for; the next one that is free
// where two things have the same, or somebody else has it.
func (o *objects) number(what, family, mode byte, name []byte, free func(uint32) bool) uint32 {
	h := fnv.New32a()
	h.Write([]byte{what, family, mode})
	h.Write(name)
	for n := h.Sum32(); ; n++ {
		if id := objectBase | n&objectMask; !o.taken[id] && free(id) {
			return id
		}
	}
}

// numberOf is the number of the object for one next hop.
func (o *objects) numberOf(h hop, used map[uint32]hop) uint32 {
	name := ne.AppendUint32(append(h.gw.AsSlice(), h.flags), h.oif)
	return o.number('h', 0, 0, name, func(id uint32) bool {
		other, ok := used[id]
		return !ok || other == h
	})
}

// wanted computes what has to be there: next hops, and groups of them.
func (o *objects) wanted() (hops, groups map[uint32]object) {
	hops, groups = map[uint32]object{}, map[uint32]object{}
	numbers, used := map[hop]uint32{}, map[uint32]hop{}
	for _, g := range o.groups {
		var members []uint32
		for _, h := range g.hops {
			if o.failed[h] != "" {
				continue
			}
			id, ok := numbers[h]
			if !ok {
				id = o.numberOf(h, used)
				numbers[h], used[id] = id, h
				hops[id] = object{hop: h}
			}
			members = append(members, id)
		}
		if len(members) > 0 {
			slices.Sort(members)
			groups[g.id] = object{members: members}
		}
	}
	return hops, groups
}

// write makes and changes what differs; what goes, goes later (sweep). Next
// hops come before the groups that they are in. It tells how many objects it
// wrote.
func (o *objects) write(c *conn) (writes int, err error) {
	for o.dirty && o.mode != inline {
		o.dirty = false
		hops, groups := o.wanted()
		n, err := o.writePart(c, hops)
		writes += n
		if err != nil || o.dirty { // some were refused: groups go without them
			if err != nil {
				return writes, err
			}
			continue
		}
		n, err = o.writePart(c, groups)
		writes += n
		if err != nil {
			return writes, err
		}
	}
	return writes, nil
}

func (o *objects) writePart(c *conn, part map[uint32]object) (writes int, err error) {
	for id, w := range part {
		have, there := o.have[id]
		if there && have.equal(w) {
			continue
		}
		e, err := c.one(o.message(id, w))
		if e != nil && there {
			// Somebody made it what it cannot be changed from: anew, and its
			// routes with it.
			if err = o.remove(c, id); err == nil {
				o.lost[id] = true
				e, err = c.one(o.message(id, w))
			}
		}
		switch {
		case err != nil:
			o.dirty = true
			return writes, err
		case e == nil:
			o.have[id] = w
			writes++
		case errors.Is(e, unix.EOPNOTSUPP), o.mode == resilient && w.members != nil && !o.anyGroup():
			return writes, errUnsupported
		case w.members == nil:
			o.failed[w.hop], o.dirty = e.Error(), true
		default:
			// The routes that are to use it are refused, and say so.
		}
	}
	return writes, nil
}

func (o *objects) anyGroup() bool {
	for _, h := range o.have {
		if h.members != nil {
			return true
		}
	}
	return false
}

// errUnsupported says that the kernel has not what mode asks for.
var errUnsupported = errors.New("next-hop objects of this kind are not supported")

// sweep removes what nobody wants: groups that no route of ours or of others
// leads to, and next hops that no group has.
func (o *objects) sweep(c *conn, used map[uint32]bool) (writes int, err error) {
	hops, groups := o.wanted()
	for id, h := range o.have {
		if h.members == nil {
			continue
		}
		if _, ok := groups[id]; ok || used[id] {
			for _, m := range h.members {
				used[m] = true
			}
			continue
		}
		if err := o.remove(c, id); err != nil {
			return writes, err
		}
		writes++
	}
	for id, h := range o.have {
		if _, ok := hops[id]; h.members != nil || ok || used[id] {
			continue
		}
		if err := o.remove(c, id); err != nil {
			return writes, err
		}
		writes++
	}
	o.sweepDue = false
	return writes, nil
}

func (o *objects) remove(c *conn, id uint32) error {
	b := make([]byte, nlHeader+nhmHeader)
	b = appendAttr32(b, nhaID, id)
	putHeader(b, unix.RTM_DELNEXTHOP, unix.NLM_F_REQUEST|unix.NLM_F_ACK, 0)
	e, err := c.one(b)
	if err != nil {
		return err
	}
	if e == nil || errors.Is(e, unix.ENOENT) {
		delete(o.have, id)
		return nil
	}
	return fmt.Errorf("remove next-hop object %d: %w", id, e)
}

// message renders the request that makes an object, or changes it.
func (o *objects) message(id uint32, w object) []byte {
	b := make([]byte, nlHeader+nhmHeader)
	b[nlHeader+2] = o.proto
	b = appendAttr32(b, nhaID, id)
	if w.members == nil {
		b[nlHeader] = unix.AF_INET
		if w.hop.gw.Is6() {
			b[nlHeader] = unix.AF_INET6
		}
		ne.PutUint32(b[nlHeader+4:], uint32(w.hop.flags))
		b = appendAttr32(b, nhaOIF, w.hop.oif)
		b = appendAttr(b, nhaGateway, w.hop.gw.AsSlice())
	} else {
		var members []byte
		for _, m := range w.members {
			members = append(ne.AppendUint32(members, m), 0, 0, 0, 0) // weight less one, reserved
		}
		b = appendAttr(b, nhaGroup, members)
		if o.mode == resilient {
			b = appendAttr(b, nhaGroupType, ne.AppendUint16(nil, groupResilient))
			r := appendAttr(nil, nhaResGroupBuckets, ne.AppendUint16(nil, groupBuckets))
			r = appendAttr32(r, nhaResGroupIdle, groupIdle*userHz)
			r = appendAttr32(r, nhaResGroupUnbalanced, groupSettle*userHz)
			b = appendAttr(b, nhaResGroup|unix.NLA_F_NESTED, r)
		}
	}
	putHeader(b, unix.RTM_NEWNEXTHOP, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE, 0)
	return b
}

// readObjects lists the next-hop objects of the namespace.
func (o *objects) readObjects(c *conn) error {
	var have map[uint32]object
	var taken map[uint32]bool
	var err error
	for range dumpTries {
		have, taken = map[uint32]object{}, map[uint32]bool{}
		err = c.dump(unix.RTM_GETNEXTHOP, make([]byte, nhmHeader), func(m message) {
			id, proto, is := o.parse(m.data)
			switch {
			case m.typ != unix.RTM_NEWNEXTHOP || id == 0:
			case proto == o.proto:
				have[id] = is
			default:
				taken[id] = true
			}
		})
		if !errors.Is(err, errInterrupted) {
			break
		}
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return errUnsupported
	}
	if err != nil {
		return fmt.Errorf("read next-hop objects: %w", err)
	}
	for id := range o.have {
		if _, still := have[id]; !still {
			o.lost[id] = true
		}
	}
	o.have, o.taken, o.stale, o.dirty, o.sweepDue = have, taken, false, true, true
	clear(o.failed) // what was refused may be acceptable now
	return nil
}

// lead tells whether any object leads through an interface.
func (o *objects) lead(index uint32) bool {
	for _, is := range o.have {
		if is.hop.oif == index {
			return true
		}
	}
	return false
}

// objectNumber reads the number in the payload of an RTM_NEWNEXTHOP or
// RTM_DELNEXTHOP; 0 if there is none.
func objectNumber(b []byte) uint32 {
	if len(b) < nhmHeader {
		return 0
	}
	for b = b[nhmHeader:]; ; {
		typ, data, rest, ok := nextAttr(b)
		if !ok {
			return 0
		}
		if b = rest; typ == nhaID {
			return u32(data)
		}
	}
}

// parse reads the payload of an RTM_NEWNEXTHOP or RTM_DELNEXTHOP; id is 0 if it
// is none. What we would never have written differs from all that is wanted.
func (o *objects) parse(b []byte) (id uint32, proto uint8, is object) {
	if len(b) < nhmHeader {
		return 0, 0, is
	}
	proto = b[2]
	is.hop.flags = uint8(ne.Uint32(b[4:])) & hopFlags
	typ, timers := uint16(0), [3]uint32{}
	for b = b[nhmHeader:]; ; {
		t, data, rest, ok := nextAttr(b)
		if !ok {
			break
		}
		b = rest
		switch t {
		case nhaID:
			id = u32(data)
		case nhaOIF:
			is.hop.oif = u32(data)
		case nhaGateway:
			is.hop.gw, _ = netip.AddrFromSlice(data)
		case nhaGroupType:
			if len(data) >= 2 {
				typ = ne.Uint16(data)
			}
		case nhaGroup:
			is.members = []uint32{}
			for ; len(data) >= 8; data = data[8:] {
				is.members = append(is.members, ne.Uint32(data))
				if data[4] != 0 {
					is.hop.weight = 1
				}
			}
			slices.Sort(is.members)
		case nhaResGroup:
			for r := data; ; {
				t, d, rest, ok := nextAttr(r)
				if !ok {
					break
				}
				r = rest
				switch {
				case t == nhaResGroupBuckets && len(d) >= 2:
					timers[0] = uint32(ne.Uint16(d))
				case t == nhaResGroupIdle:
					timers[1] = u32(d)
				case t == nhaResGroupUnbalanced:
					timers[2] = u32(d)
				}
			}
		case nhaBlackhole, nhaEncapType, nhaEncap, nhaMaster, nhaFDB:
			is.hop.weight = 1
		}
	}
	ours := uint16(0)
	want := [3]uint32{}
	if is.members != nil && o.mode == resilient {
		ours, want = groupResilient, [3]uint32{groupBuckets, groupIdle * userHz, groupSettle * userHz}
	}
	if typ != ours || timers != want {
		is.hop.weight = 1
	}
	return id, proto, is
}
