// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// story is a fixed sequence of calls that takes every path with writes. It
// returns the first error.
func story(a *Allocator, clk *clock, cidr string, block int, num func(*Request, int)) error {
	ctx := context.Background()
	pools := []*v3.IPPool{pool("p", cidr, block)}
	auto := func(node, handle string, n int) (Assigned, error) {
		r := Request{Handle: handle, Node: node, Pools: pools, Use: UseWorkload}
		num(&r, n)
		return a.AutoAssign(ctx, r)
	}
	got, err := auto("n0", "h0", 6)
	if err != nil {
		return err
	}
	first := append(got.IPv4, got.IPv6...)
	if _, err := auto("n1", "h1", 2); err != nil {
		return err
	}
	if _, err := a.AssignIP(ctx, AssignRequest{Addr: lastAddr(cidr), Handle: "h2", Node: "n2", Pools: pools}); err != nil && !errors.Is(err, ErrAssigned) {
		return err
	}
	if _, err := a.ReleaseIPs(ctx, []Release{{Addr: first[0].Addr(), Handle: "h0"}, {Addr: first[5].Addr()}}); err != nil {
		return err
	}
	if err := a.ReleaseHostAffinities(ctx, "n1", false); err != nil {
		return err
	}
	if _, err := a.ReleaseByHandle(ctx, "h1"); err != nil {
		return err
	}
	if _, err := a.ReleaseByHandle(ctx, "h0"); err != nil {
		return err
	}
	clk.t = clk.t.Add(time.Hour)
	// n3 has to take blocks that n0 holds without using them.
	if _, err := auto("n3", "h3", 12); err != nil {
		return err
	}
	return a.RemoveHost(ctx, "n2")
}

func lastAddr(cidr string) netip.Addr {
	p := netip.MustParsePrefix(cidr)
	a := p.Addr()
	for p.Contains(a.Next()) {
		a = a.Next()
	}
	return a
}

// TestI02_ConflictAtEveryWrite lets another writer get in before the k-th
// write, for every k: the result is as if it had not happened.
func TestI02_ConflictAtEveryWrite(t *testing.T) {
	eachFamily(t, func(t *testing.T, cidr string, block int, num func(*Request, int), _ func(Assigned) []string) {
		for k, total := 1, 1; k <= total; k++ {
			kv := newKV()
			a, clk := newAllocator(kv)
			kv.hook = func(n int, _, _ string) outcome {
				if n == k {
					return conflict
				}
				return proceed
			}
			if err := story(a, clk, cidr, block, num); err != nil {
				t.Fatalf("conflict at write %d: %v", k, err)
			}
			total = kv.writes
			load(t, kv).check(t, true)
			if k == total {
				t.Logf("%d writes", total)
			}
		}
	})
}

// TestI02_DeathAtEveryWrite lets the process die at the k-th write, before or
// after it took place. Nothing is doubled or lost, and releasing by handle,
// followed by the same work again, ends in an exact state.
func TestI02_DeathAtEveryWrite(t *testing.T) {
	eachFamily(t, func(t *testing.T, cidr string, block int, num func(*Request, int), _ func(Assigned) []string) {
		for _, how := range []outcome{dieBefore, dieAfter} {
			for k := 1; ; k++ {
				kv := newKV()
				a, clk := newAllocator(kv)
				kv.hook = func(n int, _, _ string) outcome {
					switch {
					case n == k:
						return how
					case n > k:
						return dieBefore
					}
					return proceed
				}
				err := story(a, clk, cidr, block, num)
				if kv.writes < k {
					if err != nil {
						t.Fatal(err)
					}
					break
				}
				kv.hook = nil
				load(t, kv).check(t, false)
				for _, h := range []string{"h0", "h1", "h2", "h3"} {
					if _, err := a.ReleaseByHandle(context.Background(), h); err != nil {
						t.Fatalf("death at write %d: %v", k, err)
					}
				}
				s := load(t, kv)
				s.check(t, false)
				for _, b := range s.blocks {
					if !b.Empty() {
						t.Fatalf("death at write %d: block %s keeps %v", k, b.CIDR, b.All())
					}
				}
				if len(s.handles) != 0 {
					t.Fatalf("death at write %d: handles left: %v", k, s.handles)
				}
				clk.t = clk.t.Add(time.Hour)
				if err := story(a, clk, cidr, block, num); err != nil {
					t.Fatalf("death at write %d, then again: %v", k, err)
				}
				for _, n := range []string{"n0", "n1", "n2", "n3"} {
					if err := a.RemoveHost(context.Background(), n); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := a.ReleaseByHandle(context.Background(), "h2"); err != nil {
					t.Fatal(err)
				}
				if _, err := a.ReleaseByHandle(context.Background(), "h3"); err != nil {
					t.Fatal(err)
				}
				s = load(t, kv)
				if len(s.handles)+len(s.affinities) != 0 {
					t.Fatalf("death at write %d: left at the end: %v %v", k, s.handles, s.affinities)
				}
			}
		}
	})
}

func TestI02_ContentionIsBounded(t *testing.T) {
	kv := newKV()
	kv.hook = func(int, string, string) outcome { return conflict }
	a, _ := newAllocator(kv)
	_, err := a.AutoAssign(context.Background(), Request{Num4: 1, Node: "n", Handle: "h", Use: UseWorkload, Pools: []*v3.IPPool{pool("p", "10.0.0.0/24", 26)}})
	if !errors.Is(err, ErrContention) {
		t.Fatal(err)
	}
	if kv.writes > maxTries {
		t.Errorf("%d writes", kv.writes)
	}
}
