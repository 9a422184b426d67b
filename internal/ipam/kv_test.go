// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// memKV is a datastore in memory. hook, if set, is called before every write
// with its number from 1, outside the lock; what it returns is the outcome.
type memKV struct {
	mu     sync.Mutex
	rev    int64
	data   map[string]Entry
	writes int
	hook   func(n int, op, key string) outcome
}

// outcome is what happens to a write.
type outcome int

const (
	proceed  outcome = iota
	conflict         // another writer touched the key just before
	dieBefore
	dieAfter // the write takes place and the answer is lost
)

var errDied = errors.New("the writer died")

func newKV() *memKV { return &memKV{data: map[string]Entry{}} }

func (m *memKV) Get(_ context.Context, key string) (Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.data[key]
	if !ok {
		return Entry{}, ErrNotFound
	}
	return e, nil
}

func (m *memKV) List(_ context.Context, prefix string) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Entry
	for _, k := range slices.Sorted(maps.Keys(m.data)) {
		if strings.HasPrefix(k, prefix) {
			out = append(out, m.data[k])
		}
	}
	return out, nil
}

// write runs one conditional write; value nil deletes, rev 0 creates.
func (m *memKV) write(op, key string, value []byte, rev int64) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	act := proceed
	if m.hook != nil {
		n := m.writes
		m.mu.Unlock()
		act = m.hook(n, op, key)
		m.mu.Lock()
	}
	old, have := m.data[key]
	switch act {
	case dieBefore:
		return 0, errDied
	case conflict:
		if op == "create" {
			return 0, ErrExists // it was there, and is gone again at the next look
		}
		m.rev++
		old.Revision = m.rev
		if have {
			m.data[key] = old
		}
	}
	switch {
	case op == "create" && have:
		return 0, ErrExists
	case op != "create" && !have:
		return 0, ErrNotFound
	case op != "create" && old.Revision != rev:
		return 0, ErrConflict
	}
	m.rev++
	if op == "delete" {
		delete(m.data, key)
	} else {
		m.data[key] = Entry{key, slices.Clone(value), m.rev}
	}
	if act == dieAfter {
		return 0, errDied
	}
	return m.rev, nil
}

func (m *memKV) Create(_ context.Context, key string, v []byte) (int64, error) {
	return m.write("create", key, v, 0)
}

func (m *memKV) Update(_ context.Context, key string, v []byte, rev int64) (int64, error) {
	return m.write("update", key, v, rev)
}

func (m *memKV) Delete(_ context.Context, key string, rev int64) error {
	_, err := m.write("delete", key, nil, rev)
	return err
}

func (m *memKV) put(key, value string) {
	m.rev++
	m.data[key] = Entry{key, []byte(value), m.rev}
}

// clock is a time that a test moves by hand.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newAllocator(kv KV) (*Allocator, *clock) {
	c := &clock{time.Date(2026, 8, 22, 10, 0, 0, 0, time.UTC)}
	return New(kv, c.now, slog.New(slog.DiscardHandler)), c
}

func pool(name, cidr string, blockSize int, change ...func(*v3.IPPool)) *v3.IPPool {
	p := &v3.IPPool{}
	p.Metadata.Name = name
	p.Spec.CIDR, p.Spec.BlockSize = cidr, blockSize
	for _, f := range change {
		f(p)
	}
	return p
}

// state is everything in the datastore, decoded.
type state struct {
	blocks     map[string]*Block
	handles    map[string]Handle
	affinities map[string]Affinity
}

func load(t interface{ Fatalf(string, ...any) }, m *memKV) state {
	s := state{map[string]*Block{}, map[string]Handle{}, map[string]Affinity{}}
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, e := range m.data {
		if _, ok := ParseBlockKey(key); ok {
			b, err := DecodeBlock(e.Value)
			if err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			s.blocks[b.CIDR.String()] = b
		} else if id, ok := ParseHandleKey(key); ok {
			h, err := DecodeHandle(e.Value)
			if err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			s.handles[id] = h
		} else if _, _, ok := ParseAffinityKey(key); ok {
			a, err := DecodeAffinity(e.Value)
			if err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			s.affinities[key] = a
		}
	}
	return s
}

// check verifies what must hold between calls. exact is false where a writer
// may have died: handle counts may then be too high, never too low.
func (s state) check(t interface{ Fatalf(string, ...any) }, exact bool) {
	for _, b := range s.blocks {
		if n := len(b.Unallocated) + len(b.All()); n != len(b.Allocations) {
			t.Fatalf("block %s: %d of %d addresses accounted for", b.CIDR, n, len(b.Allocations))
		}
		for _, o := range b.All() {
			if o.Handle != "" && s.handles[o.Handle].Blocks[b.CIDR] < len(b.ByHandle(o.Handle)) {
				t.Fatalf("handle %q misses addresses of block %s", o.Handle, b.CIDR)
			}
		}
		if b.Affinity == "" && b.Empty() {
			t.Fatalf("block %s is empty and nobody's", b.CIDR)
		}
		if exact && b.Affinity != "" {
			key, _ := AffinityKey(b.Affinity, b.CIDR)
			if s.affinities[key].State != Confirmed {
				t.Fatalf("block %s is of %s but its affinity is %q", b.CIDR, b.Affinity, s.affinities[key].State)
			}
		}
	}
	for key, a := range s.affinities {
		o, cidr, _ := ParseAffinityKey(key)
		b := s.blocks[cidr.String()]
		if a.State == Confirmed && b != nil && b.Affinity != o {
			t.Fatalf("%s is confirmed but the block is of %q", key, b.Affinity)
		}
		if exact && (a.State != Confirmed || b == nil) {
			t.Fatalf("%s: state %q, block %v", key, a.State, b != nil)
		}
	}
	if !exact {
		return
	}
	for id, h := range s.handles {
		for cidr, n := range h.Blocks {
			if b := s.blocks[cidr.String()]; b == nil || len(b.ByHandle(id)) != n {
				t.Fatalf("handle %q counts %d in %s, which differs from the block", id, n, cidr)
			}
		}
	}
}

var bothFamilies = []struct {
	name         string
	family       Family
	cidr         string
	block, small int // block sizes: of four addresses, of one
}{
	{"IPv4", IPv4, "10.65.0.0/28", 30, 32},
	{"IPv6", IPv6, "fd00:65::/124", 126, 128},
}

func eachFamily(t *testing.T, f func(t *testing.T, cidr string, block int, num func(r *Request, n int), got func(Assigned) []string)) {
	for _, tt := range bothFamilies {
		t.Run(tt.name, func(t *testing.T) {
			num := func(r *Request, n int) {
				if tt.family == IPv4 {
					r.Num4 = n
				} else {
					r.Num6 = n
				}
			}
			got := func(a Assigned) (out []string) {
				for _, p := range append(a.IPv4, a.IPv6...) {
					out = append(out, p.Addr().String())
				}
				return out
			}
			f(t, tt.cidr, tt.block, num, got)
		})
	}
}
