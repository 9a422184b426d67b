// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import "iter"

// pages is an ordered map from prefixes to entries, in short sorted pieces. It
// takes little more than what it holds, a third of a Go map, and grows without
// copying all of itself. The zero value is empty.
type pages[K key[K]] struct {
	list    []page[K]
	n       int
	version int           // counts insertions and deletions
	tally   map[entry]int // how many prefixes have each entry: there are few different ones

	// Where the last find ended. Routes come, and are written, mostly in order:
	// the next place is then that one, or right behind it.
	at, i int
}

type page[K key[K]] struct {
	keys []K
	vals []entry
}

const pageMax = 512

// find returns where k is, or would be inserted.
func (p *pages[K]) find(k K) (at, i int, ok bool) {
	if at, i, ok, near := p.nearby(k); near {
		p.at, p.i = at, i
		return at, i, ok
	}
	at, i, ok = p.search(k)
	p.at, p.i = at, i
	return at, i, ok
}

// nearby is find where the last one ended and right behind that, if near.
func (p *pages[K]) nearby(k K) (at, i int, ok, near bool) {
	if p.at >= len(p.list) || p.i >= len(p.list[p.at].keys) {
		return 0, 0, false, false
	}
	at, keys := p.at, p.list[p.at].keys
	switch c := k.compare(keys[p.i]); {
	case c == 0:
		return at, p.i, true, true
	case c < 0:
		return 0, 0, false, false
	}
	i = p.i + 1
	c := -1
	if i < len(keys) {
		c = k.compare(keys[i])
	} else if at+1 < len(p.list) {
		if c = k.compare(p.list[at+1].keys[0]); c == 0 {
			at, i = at+1, 0
		}
	}
	return at, i, c == 0, c <= 0
}

func (p *pages[K]) search(k K) (at, i int, ok bool) {
	lo, hi := 0, len(p.list) // the last page that does not begin behind k
	for lo < hi {
		if m := (lo + hi) / 2; k.compare(p.list[m].keys[0]) < 0 {
			hi = m
		} else {
			lo = m + 1
		}
	}
	at = max(lo-1, 0)
	if at == len(p.list) {
		return at, 0, false
	}
	keys := p.list[at].keys
	lo, hi = 0, len(keys)
	for lo < hi {
		m := (lo + hi) / 2
		switch c := k.compare(keys[m]); {
		case c == 0:
			return at, m, true
		case c < 0:
			hi = m
		default:
			lo = m + 1
		}
	}
	return at, lo, false
}

// get returns the entry of a prefix; what is not there has the zero entry.
func (p *pages[K]) get(k K) (e entry, ok bool) {
	at, i, ok := p.find(k)
	if ok {
		e = p.list[at].vals[i]
	}
	return e, ok
}

func (p *pages[K]) set(k K, e entry) {
	at, i, ok := p.find(k)
	if ok {
		v := &p.list[at].vals[i]
		if *v != e {
			p.count(*v, -1)
			p.count(e, 1)
			*v = e
		}
		return
	}
	p.n++
	p.version++
	p.count(e, 1)
	switch {
	case at == len(p.list):
		p.list = append(p.list, page[K]{})
	case len(p.list[at].keys) < pageMax:
	case i == pageMax && at == len(p.list)-1: // in order: pages stay full
		p.list = append(p.list, page[K]{})
		at, i = at+1, 0
	default:
		half := p.list[at]
		p.list = append(p.list, page[K]{})
		copy(p.list[at+2:], p.list[at+1:])
		p.list[at] = page[K]{append([]K(nil), half.keys[:pageMax/2]...), append([]entry(nil), half.vals[:pageMax/2]...)}
		p.list[at+1] = page[K]{append([]K(nil), half.keys[pageMax/2:]...), append([]entry(nil), half.vals[pageMax/2:]...)}
		if i > pageMax/2 {
			at, i = at+1, i-pageMax/2
		}
	}
	g := &p.list[at]
	g.keys, g.vals = append(g.keys, k), append(g.vals, e)
	copy(g.keys[i+1:], g.keys[i:])
	copy(g.vals[i+1:], g.vals[i:])
	g.keys[i], g.vals[i] = k, e
}

func (p *pages[K]) count(e entry, d int) {
	if p.tally == nil {
		p.tally = map[entry]int{}
	}
	if n := p.tally[e] + d; n != 0 {
		p.tally[e] = n
	} else {
		delete(p.tally, e)
	}
}

// remove forgets a prefix. Pages that become small are merged with the next.
func (p *pages[K]) remove(k K) {
	at, i, ok := p.find(k)
	if !ok {
		return
	}
	p.n--
	p.version++
	g := &p.list[at]
	p.count(g.vals[i], -1)
	if i == 0 { // in order: what is behind stays where it is
		g.keys, g.vals = g.keys[1:], g.vals[1:]
	} else {
		g.keys, g.vals = append(g.keys[:i], g.keys[i+1:]...), append(g.vals[:i], g.vals[i+1:]...)
	}
	if len(g.keys) > 0 && (len(g.keys) > pageMax/4 || at+1 == len(p.list) || len(g.keys)+len(p.list[at+1].keys) > pageMax/2) {
		return
	}
	if at+1 < len(p.list) {
		next := p.list[at+1]
		g.keys, g.vals = append(g.keys, next.keys...), append(g.vals, next.vals...)
		at++
	} else if len(g.keys) > 0 {
		return
	}
	copy(p.list[at:], p.list[at+1:])
	p.list[len(p.list)-1] = page[K]{}
	p.list = p.list[:len(p.list)-1]
	if len(p.list) == 0 {
		p.list = nil
	}
}

// all walks in order. What is inserted or removed meanwhile behind the place
// of the walk is met or not met as if it had been so before.
func (p *pages[K]) all() iter.Seq2[K, entry] {
	return func(yield func(K, entry) bool) {
		version := p.version
		for at, i := 0, 0; at < len(p.list); {
			g := &p.list[at]
			if i == len(g.keys) {
				at, i = at+1, 0
				continue
			}
			k := g.keys[i]
			if !yield(k, g.vals[i]) {
				return
			}
			i++
			if p.version != version {
				var still bool
				version = p.version
				if at, i, still = p.find(k); still {
					i++
				}
			}
		}
	}
}
