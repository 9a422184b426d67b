// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

type waiting struct {
	prefix netip.Prefix
	since  tick
}

// TestPrefixQueue holds the queue against a slice.
func TestPrefixQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q prefixQueue
		var twin []waiting
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				for i := range rapid.IntRange(1, 3*queuePage).Draw(t, "add") {
					n := byte(rapid.IntRange(0, 255).Draw(t, "seed")) + byte(i%7)
					p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, n, byte(i >> 8), byte(i)}), 32)
					if n%3 == 0 {
						p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 15: n}), 128)
					}
					if n%5 == 0 {
						p = netip.PrefixFrom(p.Addr(), 8).Masked()
					}
					q.add(p, tick(len(twin)+1))
					twin = append(twin, waiting{p, tick(len(twin) + 1)})
					if i > 100 && i%500 > 20 { // drawing is slow
						q.add(p, tick(len(twin)+1))
						twin = append(twin, waiting{p, tick(len(twin) + 1)})
					}
				}
			case 1:
				for range rapid.IntRange(1, 2*queuePage).Draw(t, "take") {
					if len(twin) == 0 {
						break
					}
					if p, since := q.take(); (waiting{p, since}) != twin[0] {
						t.Fatalf("took %v since %v, want %v", p, since, twin[0])
					}
					twin = twin[1:]
				}
			case 2:
				q.thin()
				var once []waiting
				seen := map[netip.Prefix]bool{}
				for _, w := range twin {
					if !seen[w.prefix] {
						once = append(once, w)
					}
					seen[w.prefix] = true
				}
				twin = once
			}
			if q.len() != len(twin) {
				t.Fatalf("%d in the queue, want %d", q.len(), len(twin))
			}
		}
		var rest []waiting
		for q.len() > 0 {
			p, since := q.take()
			rest = append(rest, waiting{p, since})
		}
		if !slices.Equal(rest, twin) {
			t.Fatal("the rest differs")
		}
	})
}

// A tick is good for half a day, wherever in time that begins.
func TestTick(t *testing.T) {
	if size := unsafe.Sizeof(packedPrefix{}); size != 24 {
		t.Errorf("a packed prefix takes %d octets", size)
	}
	for _, start := range []time.Duration{0, time.Microsecond, time.Hour, 11 * time.Hour, 12 * time.Hour, 1000 * time.Hour, math.MaxUint32 * tickTime} {
		for _, d := range []time.Duration{0, 50 * time.Microsecond, time.Second, 11 * time.Hour} {
			from := tickAt(start)
			if got := from.until(tickAt(start + d)); from == 0 || got < d-tickTime || got > d+tickTime {
				t.Errorf("%v after %v: %v", d, start, got)
			}
		}
	}
}

// What NextBest names was received so long ago, unless no message led to it.
func TestWaited(t *testing.T) {
	a, b := pair(t, 64512, 64512, nil)
	b.waitUp(a.cfg.RouterID)
	waited := func(prefix string) (list []time.Duration, known bool) {
		b.mu.Lock()
		best, known := b.fib[netip.MustParsePrefix(prefix)]
		b.mu.Unlock()
		b.Waited([]Best{best}, func(d time.Duration) { list = append(list, d) })
		return list, known
	}
	for _, prefix := range []string{"10.1.0.0/24", "fd00:1::/64"} {
		before := time.Now()
		a.originate(prefix)
		eventually(t, prefix, func() bool { _, known := waited(prefix); return known })
		if d, _ := waited(prefix); len(d) != 1 || d[0] < 0 || d[0] > time.Since(before)+tickTime {
			t.Errorf("%s: received %v ago, announced %v ago", prefix, d, time.Since(before))
		}
	}
	b.Repeat()
	eventually(t, "it is said again, with no message", func() bool {
		four, _ := waited("10.1.0.0/24")
		six, _ := waited("fd00:1::/64")
		return len(four)+len(six) == 0
	})
}
