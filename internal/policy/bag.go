// SPDX-License-Identifier: Apache-2.0

package policy

// bagFew is the size up to which a bag is a slice.
const bagFew = 12

// bag is an unordered set that costs little memory while it is small, as most
// are. The zero value is empty. It must not change while each runs.
type bag[T comparable] struct {
	few  []T
	many map[T]struct{}
}

func (b *bag[T]) len() int { return len(b.few) + len(b.many) }

// add returns whether v was new.
func (b *bag[T]) add(v T) bool {
	if b.has(v) {
		return false
	}
	switch {
	case b.many != nil:
		b.many[v] = struct{}{}
	case len(b.few) < bagFew:
		b.few = append(b.few, v)
	default:
		b.many = make(map[T]struct{}, len(b.few)+1)
		for _, w := range b.few {
			b.many[w] = struct{}{}
		}
		b.many[v] = struct{}{}
		b.few = nil
	}
	return true
}

// remove returns whether v was there.
func (b *bag[T]) remove(v T) bool {
	if b.many != nil {
		_, ok := b.many[v]
		delete(b.many, v)
		if len(b.many) == 0 {
			b.many = nil
		}
		return ok
	}
	for i, w := range b.few {
		if w == v {
			last := len(b.few) - 1
			b.few[i] = b.few[last]
			clear(b.few[last:])
			b.few = b.few[:last]
			return true
		}
	}
	return false
}

func (b *bag[T]) has(v T) bool {
	if b.many != nil {
		_, ok := b.many[v]
		return ok
	}
	for _, w := range b.few {
		if w == v {
			return true
		}
	}
	return false
}

// each is an iterator over the members.
func (b *bag[T]) each(yield func(T) bool) {
	for _, v := range b.few {
		if !yield(v) {
			return
		}
	}
	for v := range b.many {
		if !yield(v) {
			return
		}
	}
}
