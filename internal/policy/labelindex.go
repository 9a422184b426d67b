// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"hash/maphash"
	"slices"
	"unique"

	"github.com/muslin-net/muslin/selector"
)

// labelIndex keeps up to date which queries (selectors) match which items.
//
// Items with equal labels and equal parents form a class, and it is classes
// that are matched. I is the item; C and Q are what the user keeps with a class
// and with a query. started and stopped are called when a query starts or stops
// matching a class; a class is empty when it starts to match because it is new,
// and when it stops to match because its last item left.
type labelIndex[I comparable, C, Q any] struct {
	started, stopped func(*class[I, C, Q], *query[I, C, Q])

	seed    maphash.Seed
	classes map[uint64]*class[I, C, Q] // by hash; those with equal ones are chained
	size    int                        // number of classes
	parents map[word]*parent[I, C, Q]
	queries map[string]*query[I, C, Q]

	// Classes by label, for a query that is new. Only names that some query
	// restricts are here: most labels of most endpoints are in no selector.
	names map[word]*nameIndex[I, C, Q]

	// Queries by the label that a match must have, for a class that is new. A
	// query is filed under one name only; one that can match nothing nowhere.
	free    bag[*query[I, C, Q]]
	ofLabel map[label]bag[*query[I, C, Q]]
	ofName  map[word]bag[*query[I, C, Q]]
}

// class is all items with equal labels and parents. There may be one for each
// endpoint of the cluster, so it holds nothing that can be worked out.
type class[I comparable, C, Q any] struct {
	own     labelSet
	parents []*parent[I, C, Q] // in order: of two that give a label, the first one counts
	hash    uint64
	next    *class[I, C, Q]
	items   bag[I]
	queries bag[*query[I, C, Q]]
	val     C
}

// Get implements selector.Labels.
func (c *class[I, C, Q]) Get(name string) (string, bool) {
	value, ok := c.own.Get(name)
	for i := 0; !ok && i < len(c.parents); i++ {
		value, ok = c.parents[i].labels.Get(name)
	}
	return value, ok
}

// labels is an iterator over its labels, those inherited included.
func (c *class[I, C, Q]) labels(yield func(label) bool) {
	for _, l := range c.own {
		if !yield(l) {
			return
		}
	}
	for i, p := range c.parents {
		for _, l := range p.labels {
			if !c.gives(i, l.name.Value()) && !yield(l) {
				return
			}
		}
	}
}

// gives tells whether a label is its own or that of one of its first n parents.
func (c *class[I, C, Q]) gives(n int, name string) bool {
	_, ok := c.own.Get(name)
	for i := 0; !ok && i < n; i++ {
		_, ok = c.parents[i].labels.Get(name)
	}
	return ok
}

// parentNames returns the names of its parents in order.
func (c *class[I, C, Q]) parentNames() []word {
	names := make([]word, len(c.parents))
	for i, p := range c.parents {
		names[i] = p.name
	}
	return names
}

// nameIndex is the classes that have a label of one name, by its value.
type nameIndex[I comparable, C, Q any] struct {
	refs   int // queries that restrict the name
	size   int // number of classes
	values map[word]bag[*class[I, C, Q]]
}

// parent gives labels to the classes that name it.
type parent[I comparable, C, Q any] struct {
	name    word
	labels  labelSet
	classes bag[*class[I, C, Q]]
}

// query is a selector in use.
type query[I comparable, C, Q any] struct {
	sel     *selector.Selector
	key     string
	refs    int
	classes bag[*class[I, C, Q]]
	val     Q

	// Where it is filed: under labels, under name, or among the free.
	labels []label
	name   word
	place  place
}

type place uint8

const (
	placeFree place = iota
	placeLabels
	placeName
	placeNowhere
)

func newLabelIndex[I comparable, C, Q any](started, stopped func(*class[I, C, Q], *query[I, C, Q])) *labelIndex[I, C, Q] {
	return &labelIndex[I, C, Q]{
		started: started, stopped: stopped,
		seed:    maphash.MakeSeed(),
		classes: map[uint64]*class[I, C, Q]{},
		parents: map[word]*parent[I, C, Q]{},
		queries: map[string]*query[I, C, Q]{},
		names:   map[word]*nameIndex[I, C, Q]{},
		ofLabel: map[label]bag[*query[I, C, Q]]{},
		ofName:  map[word]bag[*query[I, C, Q]]{},
	}
}

// join puts an item into the class of its labels.
func (x *labelIndex[I, C, Q]) join(item I, own labelSet, parents []word) *class[I, C, Q] {
	c := x.classOf(own, parents)
	c.items.add(item)
	return c
}

// leave takes an item out of its class. Join the new class first.
func (x *labelIndex[I, C, Q]) leave(item I, c *class[I, C, Q]) {
	c.items.remove(item)
	if c.items.len() > 0 {
		return
	}
	for c.queries.len() > 0 {
		for q := range c.queries.each {
			x.unmatch(c, q)
			break
		}
	}
	x.unindex(c)
	for _, p := range c.parents {
		p.classes.remove(c)
		x.dropParent(p)
	}
	x.size--
	if x.classes[c.hash] == c {
		if x.classes[c.hash] = c.next; c.next == nil {
			delete(x.classes, c.hash)
		}
		return
	}
	for d := x.classes[c.hash]; d != nil; d = d.next {
		if d.next == c {
			d.next = c.next
			return
		}
	}
}

func (x *labelIndex[I, C, Q]) classOf(own labelSet, parents []word) *class[I, C, Q] {
	var h maphash.Hash
	h.SetSeed(x.seed)
	for _, l := range own {
		maphash.WriteComparable(&h, l)
	}
	h.WriteByte(0)
	for _, p := range parents {
		maphash.WriteComparable(&h, p)
	}
	sum := h.Sum64()
	for c := x.classes[sum]; c != nil; c = c.next {
		sameParent := func(p *parent[I, C, Q], name word) bool { return p.name == name }
		if slices.Equal(c.own, own) && slices.EqualFunc(c.parents, parents, sameParent) {
			return c
		}
	}
	c := &class[I, C, Q]{own: own, parents: make([]*parent[I, C, Q], len(parents)), hash: sum, next: x.classes[sum]}
	x.classes[sum] = c
	x.size++
	for i, name := range parents {
		c.parents[i] = x.parent(name)
		c.parents[i].classes.add(c)
	}
	x.index(c)
	x.rematch(c)
	return c
}

// parent returns the parent of a name, made if there is none.
func (x *labelIndex[I, C, Q]) parent(name word) *parent[I, C, Q] {
	p := x.parents[name]
	if p == nil {
		p = &parent[I, C, Q]{name: name}
		x.parents[name] = p
	}
	return p
}

// setParent says which labels a parent gives, nil for none.
func (x *labelIndex[I, C, Q]) setParent(name string, labels labelSet) {
	p := x.parent(unique.Make(name))
	if !slices.Equal(p.labels, labels) {
		for c := range p.classes.each {
			x.unindex(c)
		}
		p.labels = labels
		for c := range p.classes.each {
			x.index(c)
			x.rematch(c)
		}
	}
	x.dropParent(p)
}

func (x *labelIndex[I, C, Q]) dropParent(p *parent[I, C, Q]) {
	if p.classes.len() == 0 && len(p.labels) == 0 {
		delete(x.parents, p.name)
	}
}

func (x *labelIndex[I, C, Q]) index(c *class[I, C, Q]) {
	for l := range c.labels {
		if n := x.names[l.name]; n != nil {
			n.add(l.value, c)
		}
	}
}

func (n *nameIndex[I, C, Q]) add(value word, c *class[I, C, Q]) {
	file(n.values, value, c)
	n.size++
}

func (x *labelIndex[I, C, Q]) unindex(c *class[I, C, Q]) {
	for l := range c.labels {
		if n := x.names[l.name]; n != nil {
			unfile(n.values, l.value, c)
			n.size--
		}
	}
}

// useNames indexes classes by the names that a query restricts. The first
// query of a name costs one look at every class.
func (x *labelIndex[I, C, Q]) useNames(limits map[string]selector.Restriction) {
	for name := range limits {
		w := unique.Make(name)
		if n := x.names[w]; n != nil {
			n.refs++
			continue
		}
		n := &nameIndex[I, C, Q]{refs: 1, values: map[word]bag[*class[I, C, Q]]{}}
		x.names[w] = n
		for c := range x.eachClass {
			if v, ok := c.Get(name); ok {
				n.add(unique.Make(v), c)
			}
		}
	}
}

func (x *labelIndex[I, C, Q]) unuseNames(limits map[string]selector.Restriction) {
	for name := range limits {
		w := unique.Make(name)
		if n := x.names[w]; n != nil {
			if n.refs--; n.refs == 0 {
				delete(x.names, w)
			}
		}
	}
}

func (x *labelIndex[I, C, Q]) eachClass(yield func(*class[I, C, Q]) bool) {
	for _, c := range x.classes {
		for ; c != nil; c = c.next {
			if !yield(c) {
				return
			}
		}
	}
}

// rematch finds the queries that match a class whose labels are new.
func (x *labelIndex[I, C, Q]) rematch(c *class[I, C, Q]) {
	var lost []*query[I, C, Q]
	for q := range c.queries.each {
		if !q.sel.Match(c) {
			lost = append(lost, q)
		}
	}
	for _, q := range lost {
		x.unmatch(c, q)
	}
	try := func(q *query[I, C, Q]) bool {
		if !c.queries.has(q) && q.sel.Match(c) {
			x.match(c, q)
		}
		return true
	}
	x.free.each(try)
	for l := range c.labels {
		ofLabel, ofName := x.ofLabel[l], x.ofName[l.name]
		ofLabel.each(try)
		ofName.each(try)
	}
}

func (x *labelIndex[I, C, Q]) match(c *class[I, C, Q], q *query[I, C, Q]) {
	c.queries.add(q)
	q.classes.add(c)
	x.started(c, q)
}

func (x *labelIndex[I, C, Q]) unmatch(c *class[I, C, Q], q *query[I, C, Q]) {
	c.queries.remove(q)
	q.classes.remove(c)
	x.stopped(c, q)
}

// acquire returns the query of a selector; equal selectors share one.
func (x *labelIndex[I, C, Q]) acquire(sel *selector.Selector) *query[I, C, Q] {
	key := sel.String()
	if q := x.queries[key]; q != nil {
		q.refs++
		return q
	}
	q := &query[I, C, Q]{sel: sel, key: key, refs: 1}
	x.queries[key] = q
	limits := sel.Restrictions()
	x.useNames(limits)
	x.fileQuery(q, limits)
	x.candidates(limits, func(c *class[I, C, Q]) bool {
		if sel.Match(c) {
			x.match(c, q)
		}
		return true
	})
	return q
}

// release undoes one acquire.
func (x *labelIndex[I, C, Q]) release(q *query[I, C, Q]) {
	if q.refs--; q.refs > 0 {
		return
	}
	for q.classes.len() > 0 {
		for c := range q.classes.each {
			x.unmatch(c, q)
			break
		}
	}
	delete(x.queries, q.key)
	x.unuseNames(q.sel.Restrictions())
	switch q.place {
	case placeFree:
		x.free.remove(q)
	case placeLabels:
		for _, l := range q.labels {
			unfile(x.ofLabel, l, q)
		}
	case placeName:
		unfile(x.ofName, q.name, q)
	}
}

// fileQuery files a query where fewest others are, so that no one label of
// all endpoints, such as that of the namespace, gathers all queries.
func (x *labelIndex[I, C, Q]) fileQuery(q *query[I, C, Q], limits map[string]selector.Restriction) {
	best := 0
	for name, r := range limits {
		w := unique.Make(name)
		if r.Values == nil {
			// Never better than a value: nearly every class may have the name.
			n := sizeOf(x.ofName, w) + x.names[w].size
			if q.place == placeFree || q.place == placeName && n < best {
				best, q.place, q.name = n, placeName, w
			}
			continue
		}
		if len(r.Values) == 0 {
			q.place, q.labels = placeNowhere, nil
			return
		}
		n := 0
		labels := make([]label, len(r.Values))
		for i, v := range r.Values {
			labels[i] = label{w, unique.Make(v)}
			n += 1 + sizeOf(x.ofLabel, labels[i])
		}
		if q.place != placeLabels || n < best {
			best, q.place, q.labels = n, placeLabels, labels
		}
	}
	switch q.place {
	case placeFree:
		x.free.add(q)
	case placeLabels:
		for _, l := range q.labels {
			file(x.ofLabel, l, q)
		}
	case placeName:
		file(x.ofName, q.name, q)
	}
}

// candidates calls f with the classes that may meet the restrictions.
func (x *labelIndex[I, C, Q]) candidates(limits map[string]selector.Restriction, f func(*class[I, C, Q]) bool) {
	best, found := x.size, false
	var where []bag[*class[I, C, Q]]
	for name, r := range limits {
		n := x.names[unique.Make(name)]
		var in []bag[*class[I, C, Q]]
		size := 0
		if r.Values == nil {
			size = n.size
		}
		for _, v := range r.Values {
			if b, ok := n.values[unique.Make(v)]; ok {
				size, in = size+b.len(), append(in, b)
			}
		}
		if size >= best {
			continue
		}
		if r.Values == nil {
			for _, b := range n.values {
				in = append(in, b)
			}
		}
		best, where, found = size, in, true
	}
	if !found {
		x.eachClass(f)
	}
	for _, b := range where {
		b.each(f)
	}
}

func file[K, V comparable](m map[K]bag[V], k K, v V) {
	b := m[k]
	if b.add(v) {
		m[k] = b
	}
}

func unfile[K, V comparable](m map[K]bag[V], k K, v V) {
	b := m[k]
	b.remove(v)
	if b.len() == 0 {
		delete(m, k)
	} else {
		m[k] = b
	}
}

func sizeOf[K, V comparable](m map[K]bag[V], k K) int {
	b := m[k]
	return b.len()
}
