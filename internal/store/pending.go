// SPDX-License-Identifier: Apache-2.0

package store

// itemCost is what a pending key costs beside its bytes.
const itemCost = 160

// item is the newest state of one key that the consumer has not seen.
type item struct {
	key     string
	raw     []byte
	rev     int64
	deleted bool
	fresh   bool // the consumer has never seen the key
	dropped bool // replaced by a later item
}

// pending is what waits for the consumer: the newest value of each key, in
// the order of the last arrival. The zero value is ready. Not safe for
// concurrent use.
type pending struct {
	items []item
	index map[string]int
	cost  int
}

func (p *pending) add(it item) {
	if p.index == nil {
		p.index = map[string]int{}
	}
	if i, ok := p.index[it.key]; ok {
		old := &p.items[i]
		it.fresh = old.fresh
		p.cost -= old.size()
		*old = item{dropped: true}
		delete(p.index, it.key)
		if it.deleted && it.fresh {
			// Came and went while nobody looked.
			return
		}
	}
	p.index[it.key] = len(p.items)
	p.items = append(p.items, it)
	p.cost += it.size()
	if len(p.items) > 2*len(p.index)+64 {
		p.compact()
	}
}

func (it *item) size() int { return itemCost + len(it.key) + len(it.raw) }

// compact drops the replaced items, so that a key written a million times
// while the consumer is busy stays one item.
func (p *pending) compact() {
	kept := p.items[:0]
	for _, it := range p.items {
		if !it.dropped {
			p.index[it.key] = len(kept)
			kept = append(kept, it)
		}
	}
	clear(p.items[len(kept):])
	p.items = kept
}

// take empties p and returns the items; some may be dropped ones.
func (p *pending) take() []item {
	out := p.items
	*p = pending{}
	return out
}
