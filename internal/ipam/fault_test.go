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

// TestReleaseAffinityOfAnothersBlock: an affinity that the block contradicts goes, and the block stays whose it is.
func TestReleaseAffinityOfAnothersBlock(t *testing.T) {
	ctx := context.Background()
	for _, used := range []bool{false, true} {
		kv := newKV()
		a, _ := newAllocator(kv)
		cidr := netip.MustParsePrefix("10.65.0.0/26")
		if err := a.ClaimAffinity(ctx, HostOwner("n1"), cidr); err != nil {
			t.Fatal(err)
		}
		if used {
			r := AssignRequest{Addr: cidr.Addr(), Handle: "h", Node: "n1", Pools: []*v3.IPPool{pool("p", "10.65.0.0/24", 26)}}
			if _, err := a.AssignIP(ctx, r); err != nil {
				t.Fatal(err)
			}
		}
		key, _ := AffinityKey(HostOwner("n2"), cidr)
		kv.put(key, `{"state":"confirmed"}`)
		if err := a.ReleaseAffinity(ctx, HostOwner("n2"), cidr, false); err != nil {
			t.Error(err)
		}
		if _, err := kv.Get(ctx, key); !errors.Is(err, ErrNotFound) {
			t.Errorf("the affinity is still there: %v", err)
		}
		if b, _, err := a.block(ctx, cidr); err != nil || b.Affinity != HostOwner("n1") {
			t.Errorf("used %v: the block is %+v, %v; want n1's", used, b, err)
		}
	}
}

// TestReleaseOfBlockThatComesIntoUse: what a release has marked to go, and cannot take away any more, is the owner's
// again; what somebody else has marked stays as it is.
func TestReleaseOfBlockThatComesIntoUse(t *testing.T) {
	ctx := context.Background()
	cidr := netip.MustParsePrefix("10.65.0.0/26")
	owner := HostOwner("n1")
	key, _ := AffinityKey(owner, cidr)
	for _, others := range []bool{false, true} {
		kv := newKV()
		a, _ := newAllocator(kv)
		if err := a.ClaimAffinity(ctx, owner, cidr); err != nil {
			t.Fatal(err)
		}
		use := func() {
			r := AssignRequest{Addr: cidr.Addr(), Handle: "h", Node: "n1", Pools: []*v3.IPPool{pool("p", "10.65.0.0/24", 26)}}
			if _, err := a.AssignIP(ctx, r); err != nil {
				t.Error(err)
			}
		}
		want := Confirmed
		if others {
			use()
			kv.put(key, `{"state":"pendingDeletion"}`)
			want = PendingDeletion
		} else {
			kv.hook = func(_ int, op, at string) outcome {
				if op == "delete" && at == BlockKey(cidr) {
					kv.hook = nil
					use()
				}
				return proceed
			}
		}
		if err := a.ReleaseAffinity(ctx, owner, cidr, true); !errors.Is(err, ErrBlockNotEmpty) {
			t.Errorf("others' mark %v: %v, want that the block is in use", others, err)
		}
		e, err := kv.Get(ctx, key)
		if af, _ := DecodeAffinity(e.Value); err != nil || af.State != want {
			t.Errorf("others' mark %v: the affinity is %q (%v), want %q", others, af.State, err, want)
		}
	}
}

// TestReleaseByHandleOfBlockThatGoes: nothing is said to be released of a block that somebody else took away meanwhile.
func TestReleaseByHandleOfBlockThatGoes(t *testing.T) {
	ctx := context.Background()
	kv := newKV()
	a, _ := newAllocator(kv)
	if _, err := a.AutoAssign(ctx, Request{Num4: 1, Handle: "h", Node: "n1", Pools: []*v3.IPPool{pool("p", "10.65.0.0/26", 26)}, Use: UseWorkload}); err != nil {
		t.Fatal(err)
	}
	kv.hook = func(_ int, _, key string) outcome {
		if key == BlockKey(netip.MustParsePrefix("10.65.0.0/26")) {
			kv.hook = nil
			delete(kv.data, key)
		}
		return proceed
	}
	if got, err := a.ReleaseByHandle(ctx, "h"); err != nil || len(got) > 0 {
		t.Errorf("released %v, %v", got, err)
	}
}
