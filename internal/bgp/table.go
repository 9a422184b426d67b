// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"iter"
	"net/netip"

	"github.com/muslin-net/muslin/internal/prefixmap"
)

// pathTable holds the paths of every prefix. Nearly every prefix has one path,
// which import policy accepted as it came: that is an entry of eight octets
// and no object of its own. Everything else is a list.
type pathTable struct {
	sets    *attrTable
	entries prefixmap.Map[entry]
	lists   []*path
	free    []uint32 // places in lists
}

// entry is all of a prefix with one path, or where its list is.
type entry struct {
	number uint32 // of the attributes, or the place in lists
	peer   uint16
	flags  uint8 // of the path
	shape  shape
}

// shape says what an entry stands for. The zero value is no path at all.
type shape uint8

const (
	entryIn   shape = 1 << iota // the attributes are those received
	entryOut                    // … and those accepted
	entryList                   // several paths, or one that needs more room

	entryWhy = 3 // from this bit on: why the attributes are not accepted
)

// open returns the list of an entry. That of a single path is written into
// room, and is good until room is used again.
func (t *pathTable) open(e entry, room *path) *path {
	if e.shape&entryList != 0 {
		return t.lists[e.number]
	}
	if e.shape == 0 {
		return nil
	}
	*room = path{peer: e.peer, flags: e.flags, why: Refusal(e.shape >> entryWhy)}
	a := t.sets.numbered[e.number]
	if e.shape&entryIn != 0 {
		room.in = a
	}
	if e.shape&entryOut != 0 {
		room.out = a
	}
	return room
}

// close stores a list, which is not nil, that may have been opened into room.
func (t *pathTable) close(e *entry, head, room *path) {
	if compact, ok := compacted(head); ok {
		if e.shape&entryList != 0 {
			t.lists[e.number] = nil
			t.free = append(t.free, e.number)
		}
		*e = compact
		return
	}
	if head == room {
		head = new(path)
		*head = *room
	}
	if e.shape&entryList == 0 {
		if n := len(t.free); n > 0 {
			e.number, t.free = t.free[n-1], t.free[:n-1]
		} else {
			e.number = uint32(len(t.lists))
			t.lists = append(t.lists, nil)
		}
		*e = entry{number: e.number, shape: entryList}
	}
	t.lists[e.number] = head
}

// compacted is the entry of a list that is one plain path.
func compacted(p *path) (e entry, ok bool) {
	if p.next != nil || p.id != 0 || p.in != nil && p.out != nil && p.in != p.out {
		return e, false
	}
	e = entry{peer: p.peer, flags: p.flags}
	if p.in != nil {
		e.number, e.shape = p.in.number, entryIn
	}
	if p.out != nil {
		e.number, e.shape = p.out.number, e.shape|entryOut
	}
	if e.shape == 0 {
		return e, false
	}
	e.shape |= shape(p.why) << entryWhy
	return e, true
}

// remove takes out a prefix that has no path any more.
func (t *pathTable) remove(prefix netip.Prefix, e *entry) {
	if e.shape&entryList != 0 {
		t.lists[e.number] = nil
		t.free = append(t.free, e.number)
	}
	t.entries.Delete(prefix)
	if len(t.free) == len(t.lists) && len(t.lists) > 1024 {
		t.lists, t.free = nil, nil
	}
}

// read returns the paths of a prefix, nil if there is none. It may use room, and
// the result is good until room is used again, or the table changes.
func (t *pathTable) read(prefix netip.Prefix, room *path) *path {
	if e := t.entries.Ref(prefix); e != nil {
		return t.open(*e, room)
	}
	return nil
}

// Get is read for those who are not in a hurry.
func (t *pathTable) Get(prefix netip.Prefix) (head *path, ok bool) {
	head = t.read(prefix, new(path))
	return head, head != nil
}

// Size returns the number of prefixes.
func (t *pathTable) Size() int { return t.entries.Len() }

// All walks the table in order. Each list is good until the next one.
func (t *pathTable) All() iter.Seq2[netip.Prefix, *path] { return t.opened(t.entries.All()) }

// family walks the entries of one family as they are.
func (t *pathTable) family(f family) iter.Seq2[netip.Prefix, entry] {
	if f == v6 {
		return t.entries.All6()
	}
	return t.entries.All4()
}

// All6 walks the IPv6 part.
func (t *pathTable) All6() iter.Seq2[netip.Prefix, *path] { return t.opened(t.entries.All6()) }

// Within walks what is inside a prefix.
func (t *pathTable) Within(p netip.Prefix) iter.Seq2[netip.Prefix, *path] {
	return t.opened(t.entries.Within(p))
}

func (t *pathTable) opened(entries iter.Seq2[netip.Prefix, entry]) iter.Seq2[netip.Prefix, *path] {
	return func(yield func(netip.Prefix, *path) bool) {
		room := new(path)
		for prefix, e := range entries {
			if !yield(prefix, t.open(e, room)) {
				return
			}
		}
	}
}
