// SPDX-License-Identifier: Apache-2.0

package bgp

// Path identifiers that this speaker gives, RFC 7911 section 3: what tells
// the paths of one prefix apart on a session with ADD-PATH. They must stay the
// same for as long as a path is announced, and differ within a prefix; so a
// path has the same one whatever its prefix and whoever it is sent to. That of
// a peer without ADD-PATH follows from the peer's number. One that came with
// an identifier gets a number of its own, shared by all prefixes that
// come with it: usually there are few.

// firstDrawn is the first identifier that does not belong to a peer's number.
const firstDrawn = maxPeers + 2

type pathIDs struct {
	drawn map[idSource]*drawnID
	last  uint32
	free  []uint32
}

// idSource is the peer that sent a path and the identifier it gave.
type idSource struct {
	peer uint16
	id   uint32
}

type drawnID struct {
	id   uint32
	refs int
}

// take notes that a path has come, so that it has an identifier.
func (t *pathIDs) take(p *path) {
	if p.id == 0 {
		return
	}
	k := idSource{p.peer, p.id}
	if d := t.drawn[k]; d != nil {
		d.refs++
		return
	}
	if t.drawn == nil {
		t.drawn = make(map[idSource]*drawnID)
		t.last = firstDrawn - 1
	}
	d := &drawnID{refs: 1}
	if n := len(t.free); n > 0 {
		d.id, t.free = t.free[n-1], t.free[:n-1]
	} else {
		t.last++
		d.id = t.last
	}
	t.drawn[k] = d
}

// give notes that a path has gone.
func (t *pathIDs) give(p *path) {
	if p.id == 0 {
		return
	}
	k := idSource{p.peer, p.id}
	d := t.drawn[k]
	if d.refs--; d.refs == 0 {
		t.free = append(t.free, d.id)
		delete(t.drawn, k)
	}
}

// of is the identifier with which a path is sent.
func (t *pathIDs) of(p *path) uint32 {
	if p.id == 0 {
		return uint32(p.peer) + 1
	}
	return t.drawn[idSource{p.peer, p.id}].id
}
