// SPDX-License-Identifier: Apache-2.0

package prefixmap

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
)

// twin is the obvious map: everything is looked at each time.
type twin map[netip.Prefix]int

func (t twin) within(p netip.Prefix) (list []netip.Prefix) {
	for q := range t {
		if q.Addr().Is4() == p.Addr().Is4() && q.Bits() >= p.Bits() && p.Contains(q.Addr()) {
			list = append(list, q)
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return list
}

var everything = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// check compares the whole map with its twin, and the tree's own rules.
func check(t *testing.T, m *Map[int], w twin) {
	t.Helper()
	var got, want []netip.Prefix
	for p, v := range m.All() {
		got = append(got, p)
		if x, ok := w[p]; !ok || x != v {
			t.Fatalf("%s has %d, want %d (there: %v)", p, v, x, ok)
		}
	}
	for _, all := range everything {
		want = append(want, w.within(all)...)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("walked %v, want %v", got, want)
	}
	if m.Len() != len(w) {
		t.Fatalf("Len is %d, want %d", m.Len(), len(w))
	}
	m.v4.root.sound(t, true)
	m.v6.root.sound(t, true)
}

// sound checks that a node is needed and holds what its bitmaps say.
func (n *node[V]) sound(t *testing.T, root bool) {
	t.Helper()
	if n.has.rank(511) != len(n.vals) {
		t.Fatalf("node %x/%d: %d bits, %d values", n.octets, n.depth, n.has.rank(511), len(n.vals))
	}
	kids := 0
	if n.below != nil {
		kids = len(n.below.nodes)
		if kids == 0 {
			t.Fatalf("node %x/%d has an empty list of children", n.octets, n.depth)
		}
		for _, c := range n.below.nodes {
			if i, ok := n.below.index(c.octets.octet(int(n.depth))); !ok || n.below.nodes[i] != c || c.depth <= n.depth || !n.leads(&c.octets) {
				t.Fatalf("node %x/%d has child %x/%d in the wrong place", n.octets, n.depth, c.octets, c.depth)
			}
			c.sound(t, false)
		}
	}
	if !root && len(n.vals) == 0 && kids < 2 {
		t.Fatalf("node %x/%d is useless", n.octets, n.depth)
	}
}

// draw makes prefixes that share nodes, part in the middle and lie apart.
func draw(r *rand.Rand) netip.Prefix {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], r.Uint64())
	binary.BigEndian.PutUint64(b[8:], r.Uint64())
	for i := range b {
		if r.IntN(8) > 0 {
			b[i] &= 0x81 // few values: many neighbours
		}
	}
	if r.IntN(2) == 0 {
		a := netip.AddrFrom4([4]byte(b[:4]))
		return netip.PrefixFrom(a, r.IntN(33)).Masked()
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), r.IntN(129)).Masked()
}

func TestRandom(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		m, w := &Map[int]{}, twin{}
		var pool []netip.Prefix
		for range 1 + r.IntN(300) {
			pool = append(pool, draw(r))
		}
		for i := range 2000 {
			p := pool[r.IntN(len(pool))]
			// Phases of growth and of decline, down to nothing.
			if r.IntN(10) < 3+4*(i/500%2) {
				_, had := w[p]
				delete(w, p)
				if m.Delete(p) != had {
					t.Fatalf("seed %d: Delete(%s) was %v", seed, p, !had)
				}
			} else {
				slot, had := m.Slot(p)
				if x, ok := w[p]; ok != had || *slot != x {
					t.Fatalf("seed %d: Slot(%s) is %d, %v; want %d, %v", seed, p, *slot, had, x, ok)
				}
				*slot, w[p] = i, i
			}
			q := draw(r)
			got, ok := m.Get(q)
			if x, there := w[q]; ok != there || got != x {
				t.Fatalf("seed %d: Get(%s) is %d, %v; want %d, %v", seed, q, got, ok, x, there)
			}
			if i%50 == 0 {
				check(t, m, w)
				for _, q := range []netip.Prefix{q, p, netip.PrefixFrom(p.Addr(), p.Bits()/2).Masked()} {
					var inside []netip.Prefix
					for x := range m.Within(q) {
						inside = append(inside, x)
					}
					if want := w.within(q); !slices.Equal(inside, want) {
						t.Fatalf("seed %d: within %s are %v, want %v", seed, q, inside, want)
					}
				}
			}
		}
		for p := range w {
			m.Delete(p)
		}
		check(t, m, twin{})
		if m.v4.root.below != nil || m.v6.root.below != nil {
			t.Fatalf("seed %d: an empty map has nodes", seed)
		}
	}
}

// TestNumber: the bits of a node are its prefixes in order, each once.
func TestNumber(t *testing.T) {
	type one struct {
		octet  byte
		length int
	}
	var all []one
	for length := range 9 {
		for v := range 1 << length {
			all = append(all, one{byte(v << (8 - length)), length})
		}
	}
	slices.SortFunc(all, func(a, b one) int {
		if a.octet != b.octet {
			return int(a.octet) - int(b.octet)
		}
		return a.length - b.length
	})
	for i, x := range all {
		if got := number(x.octet, x.length); got != i {
			t.Errorf("%08b/%d has number %d, want %d", x.octet, x.length, got, i)
		}
		if octet, length := unnumber(i); octet != x.octet || length != x.length {
			t.Errorf("number %d is %08b/%d, want %08b/%d", i, octet, length, x.octet, x.length)
		}
	}
}

// TestStop: a walk ends where it is told to.
func TestStop(t *testing.T) {
	m := &Map[int]{}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		m.Put(draw(r), 1)
	}
	for stop := 1; stop <= m.Len(); stop++ {
		n := 0
		for range m.All() {
			if n++; n == stop {
				break
			}
		}
		if n != stop {
			t.Fatalf("walked %d, want %d", n, stop)
		}
	}
}

func FuzzMap(f *testing.F) {
	f.Add([]byte{0, 32, 10, 0, 0, 1, 1, 24, 10, 0, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		m, w := &Map[int]{}, twin{}
		for i := 0; len(ops) >= 6; i++ {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte(ops[2:6])), int(ops[1])%33).Masked()
			if ops[0]&2 != 0 {
				a := netip.AddrFrom16([16]byte{0: ops[2], 5: ops[3], 11: ops[4], 15: ops[5]})
				p = netip.PrefixFrom(a, int(ops[1])%129).Masked()
			}
			if ops[0]&1 != 0 {
				m.Delete(p)
				delete(w, p)
			} else {
				m.Put(p, i)
				w[p] = i
			}
			ops = ops[6:]
		}
		check(t, m, w)
	})
}

// BenchmarkFill is half a million host routes: time and memory of each.
func BenchmarkFill(b *testing.B) {
	const n = 500_000
	for _, c := range []struct {
		name string
		at   func(i uint32) uint32
	}{
		{"dense", func(i uint32) uint32 { return 20<<24 + i }},
		{"blocks_of_64", func(i uint32) uint32 { return 16<<24 + i/64*2654435761%(1<<22)*64 + i%64 }},
		{"single", func(i uint32) uint32 { return i * 2654435761 }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				m := &Map[uint64]{}
				before := heap()
				for i := range uint32(n) {
					var a [4]byte
					binary.BigEndian.PutUint32(a[:], c.at(i))
					m.Put(netip.PrefixFrom(netip.AddrFrom4(a), 32), uint64(i))
				}
				b.StopTimer()
				b.ReportMetric(float64(heap()-before)/n, "B/route")
				runtime.KeepAlive(m)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/route")
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
