// SPDX-License-Identifier: Apache-2.0

package policy

// bagFew is the size up to which a bag needs no map.
const bagFew = 12

// bag is an unordered set of what is not the zero value, such as pointers. It
// costs little memory while it is small, as most are: two members need none
// beside the bag. The zero value is empty. It must not change while each runs.
type bag[T comparable] struct {
	two  [2]T // the zero value where there is none
	more *bagMore[T]
}

type bagMore[T comparable] struct {
	few  []T
	many map[T]struct{}
}

func (b *bag[T]) len() int {
	var none T
	n := 0
	for _, v := range b.two {
		if v != none {
			n++
		}
	}
	if b.more != nil {
		n += len(b.more.few) + len(b.more.many)
	}
	return n
}

// add returns whether v was new.
func (b *bag[T]) add(v T) bool {
	if b.has(v) {
		return false
	}
	var none T
	for i := range b.two {
		if b.two[i] == none {
			b.two[i] = v
			return true
		}
	}
	if b.more == nil {
		b.more = &bagMore[T]{}
	}
	m := b.more
	switch {
	case m.many != nil:
		m.many[v] = struct{}{}
	case len(m.few) < bagFew:
		m.few = append(m.few, v)
	default:
		m.many = make(map[T]struct{}, len(m.few)+1)
		for _, w := range m.few {
			m.many[w] = struct{}{}
		}
		m.many[v] = struct{}{}
		m.few = nil
	}
	return true
}

// remove returns whether v was there.
func (b *bag[T]) remove(v T) bool {
	var none T
	for i, w := range b.two {
		if w == v {
			b.two[i] = none
			return true
		}
	}
	m := b.more
	if m == nil {
		return false
	}
	found := false
	if m.many != nil {
		_, found = m.many[v]
		delete(m.many, v)
	}
	for i, w := range m.few {
		if w == v {
			last := len(m.few) - 1
			m.few[i] = m.few[last]
			m.few[last] = none
			m.few = m.few[:last]
			found = true
			break
		}
	}
	if len(m.few)+len(m.many) == 0 {
		b.more = nil
	}
	return found
}

func (b *bag[T]) has(v T) bool {
	if b.two[0] == v || b.two[1] == v {
		return true
	}
	if b.more == nil {
		return false
	}
	if b.more.many != nil {
		_, ok := b.more.many[v]
		return ok
	}
	for _, w := range b.more.few {
		if w == v {
			return true
		}
	}
	return false
}

// each is an iterator over the members.
func (b *bag[T]) each(yield func(T) bool) {
	var none T
	for _, v := range b.two {
		if v != none && !yield(v) {
			return
		}
	}
	if b.more == nil {
		return
	}
	for _, v := range b.more.few {
		if !yield(v) {
			return
		}
	}
	for v := range b.more.many {
		if !yield(v) {
			return
		}
	}
}
