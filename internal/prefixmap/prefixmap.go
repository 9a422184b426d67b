// SPDX-License-Identifier: Apache-2.0

// Package prefixmap maps IP prefixes to small values, half a million of them
// in a few megabytes and in order. What a route costs beside its value is a few
// bits: a server's routes come in blocks of neighbours, and neighbours share all
// but the bits that tell them apart.
//
// It is a radix tree over the octets of an address, with path compression, one
// tree for each family. A node holds the prefixes that end within one octet:
// which ones there are is a bitmap of 511 bits, their values stand in one array
// in order of these bits. The bits are numbered as a walk visits the binary
// tree of these prefixes, parents first, so that their order is that of the
// prefixes: by address, the shorter of two first.
//
// The array is also what keeps the garbage collector away: it looks at one
// object for up to 511 routes, and into it only if values have pointers.
package prefixmap

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"net/netip"
	"slices"
)

// Map is a map from prefixes to values. The zero value is empty and ready. It
// is not safe for concurrent use, and must not change while it is walked.
// Prefixes are valid and masked; an IPv4-mapped one is an IPv6 prefix.
type Map[V any] struct {
	v4, v6 tree[V]
}

// tree is one family's.
type tree[V any] struct {
	root node[V] // of depth 0; there also when empty
	last *node[V]
	size int
}

// key is an address, left-aligned: IPv4 has four octets of it. Two words, because that
// is what addresses are compared by, millions of times a second.
type key struct{ hi, lo uint64 }

// octet is number i of the sixteen.
func (k *key) octet(i int) byte {
	if i < 8 {
		return byte(k.hi >> (56 - 8*i))
	}
	return byte(k.lo >> (120 - 8*i))
}

// first is the key with only its first n octets, the rest zero.
func (k *key) first(n int) key {
	if n <= 8 {
		return key{hi: k.hi &^ (1<<(64-8*n) - 1)}
	}
	return key{k.hi, k.lo &^ (1<<(128-8*n) - 1)}
}

// with is the key with a value for octet i, which is zero.
func (k *key) with(i int, octet byte) key {
	if i < 8 {
		return key{k.hi | uint64(octet)<<(56-8*i), k.lo}
	}
	return key{k.hi, k.lo | uint64(octet)<<(120-8*i)}
}

// node has the prefixes whose length is from 8·depth+1 to 8·depth+8 and which
// begin with its octets; the root has the default route as well.
type node[V any] struct {
	octets key // the first depth of them; the rest are zero
	depth  uint8
	has    bitmap
	vals   []V
	below  *children[V] // nil: none
}

// children are the nodes below a node, by the octet that leads to them.
type children[V any] struct {
	has   [4]uint64
	nodes []*node[V]
}

func (m *Map[V]) tree(a netip.Addr) (*tree[V], key) {
	if a.Is4() {
		b := a.As4()
		return &m.v4, key{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := a.As16()
	return &m.v6, key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// place is where a prefix is: the depth of its node and its bit there.
func place(k *key, length int) (depth, bit int) {
	if length == 0 {
		return 0, 0
	}
	depth = (length - 1) / 8
	return depth, number(k.octet(depth), length-8*depth)
}

// number is the position, in a walk with parents first, of the prefix of the
// given length, 0 to 8, of an octet whose other bits are zero. On the way down
// each bit is a step, and a one skips the left half with its own root.
func number(octet byte, length int) int {
	return length + 2*int(octet) - bits.OnesCount8(octet)
}

// Len returns the number of prefixes.
func (m *Map[V]) Len() int { return m.v4.size + m.v6.size }

// Len4 and Len6 return the number of each family.
func (m *Map[V]) Len4() int { return m.v4.size }
func (m *Map[V]) Len6() int { return m.v6.size }

// Ref returns where the value of a prefix is, or nil if it is not there. The
// pointer is good until the map changes.
func (m *Map[V]) Ref(p netip.Prefix) *V {
	t, k := m.tree(p.Addr())
	depth, bit := place(&k, p.Bits())
	n := t.find(&k, depth)
	if n == nil || !n.has.get(bit) {
		return nil
	}
	return &n.vals[n.has.rank(bit)]
}

// Get returns the value of a prefix.
func (m *Map[V]) Get(p netip.Prefix) (v V, ok bool) {
	if r := m.Ref(p); r != nil {
		return *r, true
	}
	return v, false
}

// Slot returns where the value of a prefix is, and whether it was there; if
// not, it is the zero value now. The pointer is good until the map changes.
func (m *Map[V]) Slot(p netip.Prefix) (v *V, had bool) {
	t, k := m.tree(p.Addr())
	depth, bit := place(&k, p.Bits())
	n := t.grow(&k, depth)
	i := n.has.rank(bit)
	if n.has.get(bit) {
		return &n.vals[i], true
	}
	n.has.set(bit)
	n.insert(i)
	t.size++
	return &n.vals[i], false
}

// Put sets the value of a prefix.
func (m *Map[V]) Put(p netip.Prefix, v V) {
	slot, _ := m.Slot(p)
	*slot = v
}

// Delete removes a prefix and tells whether it was there.
func (m *Map[V]) Delete(p netip.Prefix) bool {
	t, k := m.tree(p.Addr())
	depth, bit := place(&k, p.Bits())
	n := t.find(&k, depth)
	if n == nil || !n.has.get(bit) {
		return false
	}
	i := n.has.rank(bit)
	n.has.clear(bit)
	n.vals = slices.Delete(n.vals, i, i+1)
	t.size--
	if c := cap(n.vals); c > 8 && len(n.vals) <= c/4 {
		n.vals = append(make([]V, 0, c/2), n.vals...)
	}
	if len(n.vals) == 0 {
		t.prune(&k, n)
	}
	return true
}

// insert makes room for a value. Capacities are powers of two: a block of
// routes is one, and then nothing is left over.
func (n *node[V]) insert(i int) {
	l := len(n.vals)
	if l == cap(n.vals) {
		grown := make([]V, l, max(1, 2*l))
		copy(grown, n.vals)
		n.vals = grown
	}
	n.vals = n.vals[:l+1]
	copy(n.vals[i+1:], n.vals[i:])
	var zero V
	n.vals[i] = zero
}

// at tells whether the node is the one of that depth on the way to k.
func (n *node[V]) at(k *key, depth int) bool {
	return int(n.depth) == depth && n.leads(k)
}

// leads tells whether k begins with the node's octets.
func (n *node[V]) leads(k *key) bool {
	return n.octets == k.first(int(n.depth))
}

// find returns the node of that depth for k, nil if there is none. Prefixes
// come in runs, so the last one found is looked at first.
func (t *tree[V]) find(k *key, depth int) *node[V] {
	if t.last != nil && t.last.at(k, depth) {
		return t.last
	}
	n := &t.root
	for int(n.depth) < depth {
		if n = n.child(k.octet(int(n.depth))); n == nil || int(n.depth) > depth || !n.leads(k) {
			return nil
		}
	}
	t.last = n
	return n
}

func (n *node[V]) child(octet byte) *node[V] {
	if n.below == nil {
		return nil
	}
	i, ok := n.below.index(octet)
	if !ok {
		return nil
	}
	return n.below.nodes[i]
}

func (c *children[V]) index(octet byte) (i int, ok bool) {
	w := octet >> 6
	for _, x := range c.has[:w] {
		i += bits.OnesCount64(x)
	}
	mask := uint64(1) << (octet & 63)
	return i + bits.OnesCount64(c.has[w]&(mask-1)), c.has[w]&mask != 0
}

// adopt puts a child where its octet says, over the one that is there.
func (n *node[V]) adopt(c *node[V]) {
	octet := c.octets.octet(int(n.depth))
	if n.below == nil {
		n.below = &children[V]{}
	}
	i, ok := n.below.index(octet)
	if ok {
		n.below.nodes[i] = c
		return
	}
	n.below.has[octet>>6] |= 1 << (octet & 63)
	n.below.nodes = slices.Insert(n.below.nodes, i, c)
}

// grow returns the node of that depth for k, made if need be.
func (t *tree[V]) grow(k *key, depth int) *node[V] {
	if n := t.find(k, depth); n != nil {
		return n
	}
	n := &t.root
	for int(n.depth) < depth {
		c := n.child(k.octet(int(n.depth)))
		switch {
		case c == nil:
			c = newNode[V](k, depth)
			n.adopt(c)
		case int(c.depth) > depth || !c.leads(k):
			// They part somewhere between n and c.
			common := int(n.depth) + 1
			for common < min(depth, int(c.depth)) && c.octets.octet(common) == k.octet(common) {
				common++
			}
			between := newNode[V](k, common)
			between.adopt(c)
			n.adopt(between)
			c = between
		}
		n = c
	}
	t.last = n
	return n
}

func newNode[V any](k *key, depth int) *node[V] {
	return &node[V]{depth: uint8(depth), octets: k.first(depth)}
}

// prune takes out nodes on the way to n that have become useless: without
// values, and with no child or with one that can take their place.
func (t *tree[V]) prune(k *key, n *node[V]) {
	var way [17]*node[V]
	l := 0
	for p := &t.root; p != n; p = p.child(k.octet(int(p.depth))) {
		way[l] = p
		l++
	}
	for t.last = nil; l > 0 && len(n.vals) == 0; l-- {
		parent := way[l-1]
		switch {
		case n.below == nil:
			octet := n.octets.octet(int(parent.depth))
			i, _ := parent.below.index(octet)
			parent.below.nodes = slices.Delete(parent.below.nodes, i, i+1)
			parent.below.has[octet>>6] &^= 1 << (octet & 63)
			if len(parent.below.nodes) == 0 {
				parent.below = nil
			}
		case len(n.below.nodes) == 1:
			parent.adopt(n.below.nodes[0])
		default:
			return
		}
		n = parent
	}
}

// All walks everything: IPv4 before IPv6, by address, the shorter of two
// prefixes first.
func (m *Map[V]) All() iter.Seq2[netip.Prefix, V] {
	return func(yield func(netip.Prefix, V) bool) {
		_ = m.v4.root.walk(true, yield) && m.v6.root.walk(false, yield)
	}
}

// All4 walks IPv4 prefixes in order.
func (m *Map[V]) All4() iter.Seq2[netip.Prefix, V] {
	return func(yield func(netip.Prefix, V) bool) { m.v4.root.walk(true, yield) }
}

// All6 walks IPv6 prefixes in order.
func (m *Map[V]) All6() iter.Seq2[netip.Prefix, V] {
	return func(yield func(netip.Prefix, V) bool) { m.v6.root.walk(false, yield) }
}

// Within walks p, if it is there, and all prefixes inside of it, in order.
func (m *Map[V]) Within(p netip.Prefix) iter.Seq2[netip.Prefix, V] {
	return func(yield func(netip.Prefix, V) bool) {
		t, k := m.tree(p.Addr())
		if p.Bits() == 0 {
			t.root.walk(p.Addr().Is4(), yield)
			return
		}
		depth, _ := place(&k, p.Bits())
		n := &t.root
		for n != nil && int(n.depth) < depth {
			n = n.child(k.octet(int(n.depth)))
		}
		if n == nil || n.octets.first(depth) != k.first(depth) {
			return
		}
		length := p.Bits() - 8*depth
		low := k.octet(depth)
		high := low | byte(0xff>>length)
		if int(n.depth) > depth { // compressed: all of it is inside, or nothing
			if at := n.octets.octet(depth); low <= at && at <= high {
				n.walk(p.Addr().Is4(), yield)
			}
			return
		}
		first := number(low, length)
		n.part(first, first+1<<(9-length)-1, int(low), int(high)+1, p.Addr().Is4(), yield)
	}
}

// walk visits a node and what is below it.
func (n *node[V]) walk(is4 bool, yield func(netip.Prefix, V) bool) bool {
	return n.part(0, 511, 0, 256, is4, yield)
}

// part visits the values with bits from first to before end, and the children
// with octets from low to before high, in order: a child comes behind the
// prefix that ends with its octet.
func (n *node[V]) part(first, end, low, high int, is4 bool, yield func(netip.Prefix, V) bool) bool {
	var nodes []*node[V]
	if n.below != nil {
		nodes = n.below.nodes
		for len(nodes) > 0 && int(nodes[0].octets.octet(int(n.depth))) < low {
			nodes = nodes[1:]
		}
		for len(nodes) > 0 && int(nodes[len(nodes)-1].octets.octet(int(n.depth))) >= high {
			nodes = nodes[:len(nodes)-1]
		}
	}
	down := func(before int) bool {
		for len(nodes) > 0 && number(nodes[0].octets.octet(int(n.depth)), 8) < before {
			if !nodes[0].walk(is4, yield) {
				return false
			}
			nodes = nodes[1:]
		}
		return true
	}
	i := n.has.rank(first)
	for bit := n.has.next(first); bit < end; bit = n.has.next(bit + 1) {
		if !down(bit) || !yield(n.prefix(bit, is4), n.vals[i]) {
			return false
		}
		i++
	}
	return down(1 << 16)
}

// prefix is the one that a bit of the node stands for.
func (n *node[V]) prefix(bit int, is4 bool) netip.Prefix {
	octet, length := unnumber(bit)
	k := n.octets.with(int(n.depth), octet)
	length += 8 * int(n.depth)
	if is4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(k.hi>>32))
		return netip.PrefixFrom(netip.AddrFrom4(b), length)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
	return netip.PrefixFrom(netip.AddrFrom16(b), length)
}

// unnumber is the inverse of number: down the tree, to the left or to the
// right, until no step is left.
func unnumber(bit int) (octet byte, length int) {
	for size := 511; bit > 0; length++ {
		size /= 2 // of each half
		bit--
		if bit >= size {
			bit -= size
			octet |= 0x80 >> length
		}
	}
	return octet, length
}

// bitmap is a set of numbers below 512.
type bitmap [8]uint64

func (b *bitmap) get(i int) bool { return b[i>>6]&(1<<(i&63)) != 0 }
func (b *bitmap) set(i int)      { b[i>>6] |= 1 << (i & 63) }
func (b *bitmap) clear(i int)    { b[i>>6] &^= 1 << (i & 63) }

// rank is how many members are below i.
func (b *bitmap) rank(i int) (n int) {
	for _, w := range b[:i>>6] {
		n += bits.OnesCount64(w)
	}
	return n + bits.OnesCount64(b[i>>6]&(1<<(i&63)-1))
}

// next is the first member from i on, 512 if there is none.
func (b *bitmap) next(i int) int {
	if i >= 512 {
		return 512
	}
	w := b[i>>6] >> (i & 63) << (i & 63)
	for at := i >> 6; ; {
		if w != 0 {
			return at<<6 + bits.TrailingZeros64(w)
		}
		if at++; at == len(b) {
			return 512
		}
		w = b[at]
	}
}
