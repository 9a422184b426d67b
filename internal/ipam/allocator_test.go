// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"pgregory.net/rapid"
)

// TestModel runs random calls from several nodes against an obviously correct
// twin: a map from address to owner.
func TestModel(t *testing.T) {
	for _, tt := range bothFamilies {
		t.Run(tt.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				ctx := context.Background()
				kv := newKV()
				a, clk := newAllocator(kv)
				pools := []*v3.IPPool{pool("p", tt.cidr, tt.block)}
				twin := map[netip.Addr]string{}
				handles := []string{"h0", "h1", "h2", ""}
				all := netip.MustParsePrefix(tt.cidr)
				addr := rapid.Custom(func(t *rapid.T) netip.Addr {
					x := all.Addr()
					for range rapid.IntRange(0, 15).Draw(t, "ordinal") {
						x = x.Next()
					}
					return x
				})
				node := rapid.SampledFrom([]string{"n0", "n1", "n2"})
				handle := rapid.SampledFrom(handles)
				add := func(x netip.Addr, h string) {
					if old, ok := twin[x]; ok {
						t.Fatalf("%s given to %q while %q has it", x, h, old)
					}
					twin[x] = h
				}
				t.Repeat(map[string]func(*rapid.T){
					"auto": func(t *rapid.T) {
						h := handle.Draw(t, "handle")
						r := Request{Handle: h, Node: node.Draw(t, "node"), Pools: pools, Use: UseWorkload}
						n := rapid.IntRange(1, 5).Draw(t, "n")
						if tt.family == IPv4 {
							r.Num4 = n
						} else {
							r.Num6 = n
						}
						got, err := a.AutoAssign(ctx, r)
						list := append(got.IPv4, got.IPv6...)
						if err != nil && (!errors.Is(err, ErrPoolExhausted) || len(list) != 0) {
							t.Fatalf("%v, %v", list, err)
						}
						if err == nil && len(list) != n {
							t.Fatalf("%v of %d", list, n)
						}
						for _, p := range list {
							if p.Bits() != tt.block || !all.Contains(p.Addr()) {
								t.Fatalf("%s", p)
							}
							add(p.Addr(), h)
						}
					},
					"one": func(t *rapid.T) {
						x, h := addr.Draw(t, "addr"), handle.Draw(t, "handle")
						_, err := a.AssignIP(ctx, AssignRequest{Addr: x, Handle: h, Node: node.Draw(t, "node"), Pools: pools})
						var taken *AssignedError
						if owner, ok := twin[x]; ok {
							if !errors.As(err, &taken) || taken.Handle != owner {
								t.Fatalf("%s of %q: %v", x, owner, err)
							}
							return
						}
						if err != nil {
							t.Fatal(err)
						}
						add(x, h)
					},
					"handOver": func(t *rapid.T) {
						named := handle.Filter(func(s string) bool { return s != "" })
						x, from, to := addr.Draw(t, "addr"), named.Draw(t, "from"), named.Draw(t, "to")
						err := a.HandOver(ctx, x, from, to, map[string]string{"node": node.Draw(t, "node")})
						owner, ok := twin[x]
						switch {
						case ok && owner != from && owner != to:
							if !errors.Is(err, ErrAssigned) {
								t.Fatalf("%s of %q from %q: %v", x, owner, from, err)
							}
						case errors.Is(err, ErrNotFound) && !ok: // no block has it
						case err != nil:
							t.Fatal(err)
						default:
							twin[x] = to
						}
					},
					"release": func(t *rapid.T) {
						x := addr.Draw(t, "addr")
						none, err := a.ReleaseIPs(ctx, []Release{{Addr: x}})
						if _, ok := twin[x]; err != nil || ok == (len(none) == 1) {
							t.Fatalf("%v, %v", none, err)
						}
						delete(twin, x)
					},
					"releaseGuarded": func(t *rapid.T) {
						x, h := addr.Draw(t, "addr"), handle.Filter(func(s string) bool { return s != "" }).Draw(t, "handle")
						_, err := a.ReleaseIPs(ctx, []Release{{Addr: x, Handle: h}})
						owner, ok := twin[x]
						if (ok && owner != h) != errors.Is(err, ErrGuard) {
							t.Fatalf("%s of %q as %q: %v", x, owner, h, err)
						}
						if err == nil {
							delete(twin, x)
						}
					},
					"releaseHandle": func(t *rapid.T) {
						h := handle.Filter(func(s string) bool { return s != "" }).Draw(t, "handle")
						got, err := a.ReleaseByHandle(ctx, h)
						if err != nil {
							t.Fatal(err)
						}
						for _, x := range got {
							if twin[x] != h {
								t.Fatalf("%s is of %q", x, twin[x])
							}
							delete(twin, x)
						}
						for x, owner := range twin {
							if owner == h {
								t.Fatalf("%s is still of %q", x, h)
							}
						}
					},
					"claim": func(t *rapid.T) {
						cidr := netip.PrefixFrom(addr.Draw(t, "addr"), tt.block).Masked()
						if err := a.ClaimAffinity(ctx, HostOwner(node.Draw(t, "node")), cidr); err != nil && !errors.Is(err, ErrClaimConflict) {
							t.Fatal(err)
						}
					},
					"releaseAffinity": func(t *rapid.T) {
						cidr := netip.PrefixFrom(addr.Draw(t, "addr"), tt.block).Masked()
						err := a.ReleaseAffinity(ctx, HostOwner(node.Draw(t, "node")), cidr, rapid.Bool().Draw(t, "empty"))
						if err != nil && !errors.Is(err, ErrBlockNotEmpty) {
							t.Fatal(err)
						}
					},
					"removeHost": func(t *rapid.T) {
						if err := a.RemoveHost(ctx, node.Draw(t, "node")); err != nil {
							t.Fatal(err)
						}
					},
					"time": func(t *rapid.T) { clk.t = clk.t.Add(50 * time.Second) },
					"": func(t *rapid.T) {
						s := load(t, kv)
						s.check(t, true)
						have := map[netip.Addr]string{}
						for _, b := range s.blocks {
							for _, o := range b.All() {
								have[o.Addr] = o.Handle
							}
						}
						if !maps.Equal(have, twin) {
							t.Fatalf("store has %v, want %v", have, twin)
						}
						for _, h := range handles[:3] {
							list, err := a.IPsByHandle(ctx, h)
							if err != nil {
								t.Fatal(err)
							}
							n := 0
							for _, owner := range twin {
								if owner == h {
									n++
								}
							}
							if n != len(list) {
								t.Fatalf("handle %q has %v, want %d", h, list, n)
							}
						}
					},
				})
			})
		})
	}
}

// TestI01_ConcurrentAllocators has eight nodes allocate and release at once
// from a pool that is just large enough.
func TestI01_ConcurrentAllocators(t *testing.T) {
	kv := newKV()
	a, _ := newAllocator(kv)
	pools := []*v3.IPPool{pool("p4", "10.65.0.0/24", 28), pool("p6", "fd00:65::/120", 124)}
	var mu sync.Mutex
	owner := map[netip.Addr]string{}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			ctx := context.Background()
			rnd := rand.New(rand.NewPCG(1, uint64(w)))
			node := fmt.Sprintf("n%d", w/2) // two on each node
			var held []string
			for i := range 150 {
				if len(held) > 8 || len(held) > 0 && rnd.IntN(3) == 0 {
					h := held[0]
					held = held[1:]
					// The twin forgets first: another may have it right after.
					mu.Lock()
					maps.DeleteFunc(owner, func(_ netip.Addr, o string) bool { return o == h })
					mu.Unlock()
					if got, err := a.ReleaseByHandle(ctx, h); err != nil || len(got) != 2 {
						t.Errorf("%s: %v, %v", h, got, err)
					}
					continue
				}
				h := fmt.Sprintf("w%d.%d", w, i)
				got, err := a.AutoAssign(ctx, Request{Num4: 1, Num6: 1, Handle: h, Node: node, Pools: pools, Use: UseWorkload})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, p := range append(got.IPv4, got.IPv6...) {
					if o, ok := owner[p.Addr()]; ok {
						t.Errorf("%s given to %s while %s has it", p.Addr(), h, o)
					}
					owner[p.Addr()] = h
				}
				mu.Unlock()
				held = append(held, h)
			}
		})
	}
	wg.Wait()
	s := load(t, kv)
	s.check(t, true)
	n := 0
	for _, b := range s.blocks {
		for _, o := range b.All() {
			if n++; owner[o.Addr] != o.Handle {
				t.Errorf("%s is of %q in the store, of %q in truth", o.Addr, o.Handle, owner[o.Addr])
			}
		}
	}
	if n != len(owner) {
		t.Errorf("store has %d addresses, want %d", n, len(owner))
	}
}

// TestI09_HalfFailure: when one family cannot be had, the other is given back.
func TestI09_HalfFailure(t *testing.T) {
	p4, p6 := pool("p4", "10.0.0.0/30", 30), pool("p6", "fd00::/126", 126)
	for name, r := range map[string]Request{
		"no IPv6 left": {Num4: 2, Num6: 5},
		"no IPv4 left": {Num4: 5, Num6: 2},
		"no IPv6 pool": {Num4: 2, Num6: 1, From: []string{"p4"}},
		"no IPv4 pool": {Num4: 2, Num6: 1, From: []string{"fd00::/126"}},
	} {
		t.Run(name, func(t *testing.T) {
			kv := newKV()
			a, _ := newAllocator(kv)
			r.Handle, r.Node, r.Use, r.Pools = "h", "n", UseWorkload, []*v3.IPPool{p4, p6}
			got, err := a.AutoAssign(context.Background(), r)
			if len(got.IPv4)+len(got.IPv6) != 0 || !errors.Is(err, ErrPoolExhausted) && !errors.Is(err, ErrNoQualifiedPool) {
				t.Fatalf("%v, %v", got, err)
			}
			s := load(t, kv)
			s.check(t, true)
			for _, b := range s.blocks {
				if !b.Empty() {
					t.Errorf("block %s keeps %v", b.CIDR, b.All())
				}
			}
			if len(s.handles) != 0 {
				t.Errorf("handles left: %v", s.handles)
			}
		})
	}
}

func TestI10_PoolsThatGiveNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		pools []*v3.IPPool
		r     Request
		cfg   string
		is    error
		text  string
	}{
		"none at all":      {nil, Request{}, "", ErrNoQualifiedPool, "there is none"},
		"disabled":         {[]*v3.IPPool{pool("p", "10.0.0.0/24", 26, func(p *v3.IPPool) { p.Spec.Disabled = true })}, Request{}, "", ErrNoQualifiedPool, "disabled"},
		"being deleted":    {[]*v3.IPPool{pool("p", "10.0.0.0/24", 26, func(p *v3.IPPool) { s := "now"; p.Metadata.DeletionTimestamp = &s })}, Request{}, "", ErrNoQualifiedPool, "deleted"},
		"not allocatable":  {[]*v3.IPPool{pool("p", "10.0.0.0/24", 26, func(p *v3.IPPool) { p.Status = []byte(`{"conditions":[{"type":"Allocatable","status":"False"}]}`) })}, Request{}, "", ErrNoQualifiedPool, "Allocatable"},
		"manual":           {[]*v3.IPPool{pool("p", "10.0.0.0/24", 26, func(p *v3.IPPool) { p.Spec.AssignmentMode = "Manual" })}, Request{}, "", ErrNoQualifiedPool, "Manual"},
		"other use":        {[]*v3.IPPool{pool("p", "10.0.0.0/24", 26, func(p *v3.IPPool) { p.Spec.AllowedUses = []string{"Tunnel"} })}, Request{}, "", ErrNoQualifiedPool, "allowedUses"},
		"other node":       {[]*v3.IPPool{pool("p", "10.0.0.0/24", 26, func(p *v3.IPPool) { p.Spec.NodeSelector = "rack == 'r2'" })}, Request{NodeLabels: map[string]string{"rack": "r1"}}, "", ErrNoQualifiedPool, "nodeSelector"},
		"other namespace":  {[]*v3.IPPool{pool("p", "10.0.0.0/24", 26, func(p *v3.IPPool) { p.Spec.NamespaceSelector = "has(x)" })}, Request{NamespaceLabels: map[string]string{}}, "", ErrNoQualifiedPool, "namespaceSelector"},
		"namespace ?":      {[]*v3.IPPool{pool("p", "10.0.0.0/24", 26, func(p *v3.IPPool) { p.Spec.NamespaceSelector = "all()" })}, Request{}, "", ErrNoQualifiedPool, "not known"},
		"bad selector":     {[]*v3.IPPool{pool("p", "10.0.0.0/24", 26, func(p *v3.IPPool) { p.Spec.NodeSelector = "((" })}, Request{}, "", ErrNoQualifiedPool, "spec.nodeSelector"},
		"bad cidr":         {[]*v3.IPPool{pool("p", "ten", 26)}, Request{}, "", ErrNoQualifiedPool, "spec.cidr"},
		"bad block size":   {[]*v3.IPPool{pool("p", "10.0.0.0/24", 33)}, Request{}, "", ErrNoQualifiedPool, "spec.blockSize"},
		"small pool":       {[]*v3.IPPool{pool("p", "10.0.0.0/28", 26)}, Request{}, "", ErrNoQualifiedPool, "spec.blockSize"},
		"unknown name":     {[]*v3.IPPool{pool("p", "10.0.0.0/24", 26)}, Request{From: []string{"q"}}, "", ErrNoQualifiedPool, `"q"`},
		"exhausted":        {[]*v3.IPPool{pool("p", "10.0.0.0/31", 32)}, Request{Num4: 3}, "", ErrPoolExhausted, "got 2 of 3 from IPPool p"},
		"default limit":    {[]*v3.IPPool{pool("p", "10.0.0.0/24", 32)}, Request{Num4: 21}, "", ErrBlockLimit, "20 blocks"},
		"asked limit":      {[]*v3.IPPool{pool("p", "10.0.0.0/24", 32)}, Request{Num4: 3, MaxBlocks: 2}, "", ErrBlockLimit, "2 blocks"},
		"configured limit": {[]*v3.IPPool{pool("p", "10.0.0.0/24", 32)}, Request{Num4: 2, MaxBlocks: 9}, `{"auto_allocate_blocks":true,"strict_affinity":true,"maxBlocksPerHost":1}`, ErrBlockLimit, "its 1 blocks"},
		"no claims":        {[]*v3.IPPool{pool("p", "10.0.0.0/24", 26)}, Request{}, `{"strict_affinity":true}`, ErrPoolExhausted, "auto_allocate_blocks"},
	} {
		t.Run(name, func(t *testing.T) {
			kv := newKV()
			a, _ := newAllocator(kv)
			if tt.cfg != "" {
				kv.put(ConfigKey, tt.cfg)
			}
			tt.r.Handle, tt.r.Node, tt.r.Use, tt.r.Pools = "h", "n", UseWorkload, tt.pools
			tt.r.Num4 = max(tt.r.Num4, 1)
			got, err := a.AutoAssign(context.Background(), tt.r)
			if !errors.Is(err, tt.is) || !strings.Contains(fmt.Sprint(err), tt.text) || len(got.IPv4) != 0 {
				t.Fatalf("%v, %v", got, err)
			}
			s := load(t, kv)
			s.check(t, true)
			if len(s.handles) != 0 {
				t.Errorf("handles left: %v", s.handles)
			}
		})
	}
}

func TestI10_ExistingAddressesOutliveTheirPool(t *testing.T) {
	ctx := context.Background()
	kv := newKV()
	a, _ := newAllocator(kv)
	p := pool("p", "10.0.0.0/24", 26)
	got, err := a.AutoAssign(ctx, Request{Num4: 2, Handle: "h", Node: "n", Pools: []*v3.IPPool{p}, Use: UseWorkload})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.ReleasePoolAffinities(ctx, p); err != nil {
		t.Fatal(err)
	}
	s := load(t, kv)
	s.check(t, true)
	if len(s.affinities) != 0 || len(s.blocks) != 1 {
		t.Fatalf("%v %v", s.affinities, s.blocks)
	}
	list, err := a.IPsByHandle(ctx, "h")
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	if none, err := a.ReleaseIPs(ctx, []Release{{Addr: got.IPv4[0].Addr()}, {Addr: got.IPv4[1].Addr()}, {Addr: netip.MustParseAddr("10.0.1.1")}}); err != nil || len(none) != 1 {
		t.Fatal(none, err)
	}
	if len(kv.data) != 0 {
		t.Errorf("left: %v", slices.Collect(maps.Keys(kv.data)))
	}
}

func TestOwnBlocksFirstThenNewOnes(t *testing.T) {
	eachFamily(t, func(t *testing.T, cidr string, block int, num func(*Request, int), got func(Assigned) []string) {
		ctx := context.Background()
		kv := newKV()
		a, _ := newAllocator(kv)
		r := Request{Handle: "h", Node: "n", Pools: []*v3.IPPool{pool("p", cidr, block)}, Use: UseWorkload}
		num(&r, 1)
		seen := map[string]bool{}
		for i := range 8 {
			as, err := a.AutoAssign(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range got(as) {
				if seen[x] {
					t.Fatalf("%s twice", x)
				}
				seen[x] = true
			}
			if n := len(load(t, kv).blocks); n != i/4+1 {
				t.Fatalf("%d blocks after %d addresses", n, i+1)
			}
		}
		// The longest unused address is next.
		b := load(t, kv).blocks
		var first netip.Addr
		for _, x := range b {
			first = x.Addr(2)
		}
		if _, err := a.ReleaseIPs(ctx, []Release{{Addr: first}}); err != nil {
			t.Fatal(err)
		}
		as, err := a.AutoAssign(ctx, r)
		if err != nil || got(as)[0] != first.String() {
			t.Fatal(as, err)
		}
		for _, x := range load(t, kv).blocks {
			for _, o := range x.All() {
				if o.Secondary["node"] != "n" {
					t.Errorf("%s: attributes %v do not name the node", o.Addr, o.Secondary)
				}
			}
		}
	})
}

func TestRecovery(t *testing.T) {
	ctx := context.Background()
	p := []*v3.IPPool{pool("p", "10.0.0.0/29", 30)}
	b0 := netip.MustParsePrefix("10.0.0.0/30")
	r := Request{Num4: 1, Handle: "h", Node: "n", Pools: p, Use: UseWorkload}
	key, _ := AffinityKey("host:n", b0)
	block := func(o Owner) string {
		v, _ := NewBlock(b0, o, time.Unix(1, 0)).Encode()
		return string(v)
	}
	for name, prepare := range map[string]func(kv *memKV){
		"affinity without block":       func(kv *memKV) { kv.put(key, `{"state":"confirmed"}`) },
		"empty value without block":    func(kv *memKV) { kv.put(key, ``) },
		"pending without block":        func(kv *memKV) { kv.put(key, `{"state":"pending"}`) },
		"pending with our block":       func(kv *memKV) { kv.put(key, `{"state":"pending"}`); kv.put(BlockKey(b0), block("host:n")) },
		"pending with another's block": func(kv *memKV) { kv.put(key, `{"state":"pending"}`); kv.put(BlockKey(b0), block("host:m")) },
		"confirmed, another's block":   func(kv *memKV) { kv.put(key, `{"state":"confirmed"}`); kv.put(BlockKey(b0), block("host:m")) },
		"unreadable affinity":          func(kv *memKV) { kv.put(key, `]`) },
		"deletion under way":           func(kv *memKV) { kv.put(key, `{"state":"pendingDeletion"}`); kv.put(BlockKey(b0), block("host:n")) },
		"our block without affinity":   func(kv *memKV) { kv.put(BlockKey(b0), block("host:n")) },
		"block marked deleted": func(kv *memKV) {
			kv.put(key, ``)
			kv.put(BlockKey(b0), strings.Replace(block("host:n"), `"deleted":false`, `"deleted":true`, 1))
		},
		"unreadable block": func(kv *memKV) { kv.put(key, ``); kv.put(BlockKey(b0), `{`) },
		"block that tells another CIDR": func(kv *memKV) {
			kv.put(BlockKey(b0), strings.Replace(block("host:n"), "10.0.0.0/30", "10.0.0.4/30", 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			kv := newKV()
			prepare(kv)
			a, clk := newAllocator(kv)
			clk.t = time.Unix(30, 0) // too early to take m's block
			// Four addresses are to be had whatever happened to the other block.
			for i := range 4 {
				if _, err := a.AutoAssign(ctx, r); err != nil {
					t.Fatalf("%d: %v", i, err)
				}
			}
			_, err := a.AutoAssign(ctx, r)
			broken := strings.HasPrefix(name, "unreadable block") || strings.HasPrefix(name, "block that") || strings.Contains(name, "another's")
			if broken != errors.Is(err, ErrPoolExhausted) {
				t.Fatal(err)
			}
			if strings.HasPrefix(name, "unreadable block") && !strings.Contains(err.Error(), "10.0.0.0-30") {
				t.Errorf("the error does not name the bad block: %v", err)
			}
			if a, ok := kv.data[key]; ok && strings.Contains(name, "another's") {
				t.Errorf("affinity stays: %s", a.Value)
			}
		})
	}
}

// TestFreshBlockIsNotTaken lets a node run out of blocks while another holds an
// empty one: it is taken when it has been held without use for long enough, and
// not from a node that has just claimed it and is about to use it.
func TestFreshBlockIsNotTaken(t *testing.T) {
	ctx := context.Background()
	kv := newKV()
	a, clk := newAllocator(kv)
	cidr := netip.MustParsePrefix("10.0.0.0/30")
	if err := a.ClaimAffinity(ctx, "host:m", cidr); err != nil {
		t.Fatal(err)
	}
	r := Request{Num4: 1, Handle: "h", Node: "n", Pools: []*v3.IPPool{pool("p", "10.0.0.0/30", 30)}, Use: UseWorkload}
	for _, age := range []time.Duration{0, reclaimAge} {
		clk.t = clk.t.Add(age)
		if got, err := a.AutoAssign(ctx, r); !errors.Is(err, ErrPoolExhausted) {
			t.Fatalf("held for %v: %v %v", age, got, err)
		}
		if by := load(t, kv).blocks[cidr.String()].Affinity; by != "host:m" {
			t.Fatalf("held for %v: the block went to %s", age, by)
		}
	}
	clk.t = clk.t.Add(time.Second)
	if got, err := a.AutoAssign(ctx, r); err != nil || len(got.IPv4) != 1 {
		t.Fatal(got, err)
	}
	load(t, kv).check(t, true)
}

// TestClaimDefeatsRelease has a block claimed again between the look of a
// release, which found it empty, and its deletion: the deletion fails.
func TestClaimDefeatsRelease(t *testing.T) {
	ctx := context.Background()
	kv := newKV()
	a, _ := newAllocator(kv)
	cidr := netip.MustParsePrefix("10.0.0.0/30")
	key, _ := AffinityKey("host:n", cidr)
	if err := a.ClaimAffinity(ctx, "host:n", cidr); err != nil {
		t.Fatal(err)
	}
	kv.put(key, `{"state":"pendingDeletion"}`)
	seen := kv.data[BlockKey(cidr)].Revision
	if err := a.ClaimAffinity(ctx, "host:n", cidr); err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(ctx, BlockKey(cidr), seen); !errors.Is(err, ErrConflict) {
		t.Errorf("a confirmed affinity lost its block: %v", err)
	}
	load(t, kv).check(t, true)
}

func TestUnknownMembersSurviveEveryCall(t *testing.T) {
	ctx := context.Background()
	kv := newKV()
	a, _ := newAllocator(kv)
	cidr := netip.MustParsePrefix("10.65.0.0/29")
	key, _ := AffinityKey("host:node1", cidr)
	kv.put(BlockKey(cidr), goldenBlock)
	kv.put(key, `{"state":"pending","x":1}`)
	kv.put(HandlePrefix+"k8s-pod-network.abc", `{"block":{"10.65.0.0/29":2},"deleted":false,"x":2}`)
	kv.put(ConfigKey, `{"auto_allocate_blocks":true,"x":3}`)
	pools := []*v3.IPPool{pool("p", "10.65.0.0/29", 29)}
	if _, err := a.AutoAssign(ctx, Request{Num4: 1, Handle: "k8s-pod-network.abc", Node: "node1", Pools: pools, Use: UseWorkload}); err != nil {
		t.Fatal(err)
	}
	if err := a.SetConfig(ctx, Config{StrictAffinity: true, AutoAllocateBlocks: true}); err != nil {
		t.Fatal(err)
	}
	rev := kv.rev
	if err := a.SetConfig(ctx, Config{StrictAffinity: true, AutoAllocateBlocks: true}); err != nil || kv.rev != rev {
		t.Errorf("an equal configuration is written again: %v", err)
	}
	for k, want := range map[string][]string{
		key:                                  {`"x":1`, `"confirmed"`},
		HandlePrefix + "k8s-pod-network.abc": {`"x":2`, `:3}`},
		ConfigKey:                            {`"x":3`, `"strict_affinity":true`},
		BlockKey(cidr):                       {`"future":{"a":[1,null]}`, `"future":{"b":12345678901234567890}`, `"alternateOwnerAttrs":{"node":"node2"}`, `"releasedAt":"2026-08-22T10:05:00Z"`},
	} {
		for _, w := range want {
			if got := string(kv.data[k].Value); !strings.Contains(got, w) {
				t.Errorf("%s: %s is not in %s", k, w, got)
			}
		}
	}
	if err := a.SetConfig(ctx, Config{}); err == nil {
		t.Error("a configuration that can never allocate is accepted")
	}
}

func TestAssignIP(t *testing.T) {
	ctx := context.Background()
	kv := newKV()
	a, _ := newAllocator(kv)
	pools := []*v3.IPPool{pool("p", "10.0.0.0/24", 26), pool("off", "10.1.0.0/24", 26, func(p *v3.IPPool) { p.Spec.Disabled = true })}
	ask := func(node, addr string) error {
		_, err := a.AssignIP(ctx, AssignRequest{Addr: netip.MustParseAddr(addr), Handle: "h-" + node, Node: node, Pools: pools})
		return err
	}
	if err := ask("n", "10.0.0.7"); err != nil {
		t.Fatal(err)
	}
	if err := ask("m", "10.0.0.7"); !errors.Is(err, ErrAssigned) || !strings.Contains(err.Error(), `"h-n"`) {
		t.Error(err)
	}
	for _, x := range []string{"10.1.0.1", "10.2.0.1", "fd00::1"} {
		if err := ask("n", x); !errors.Is(err, ErrNoQualifiedPool) {
			t.Error(x, err)
		}
	}
	if err := ask("m", "10.0.0.8"); err != nil {
		t.Errorf("without strict affinity: %v", err)
	}
	kv.put(ConfigKey, `{"strict_affinity":true,"auto_allocate_blocks":true}`)
	if err := ask("m", "10.0.0.9"); !errors.Is(err, ErrClaimConflict) || !strings.Contains(err.Error(), "host:n") {
		t.Errorf("with strict affinity: %v", err)
	}
	if err := ask("m", "10.0.0.70"); err != nil {
		t.Error(err)
	}
	use, err := a.Utilisation(ctx, pools)
	if err != nil || len(use) != 2 || len(use[0].Blocks) != 2 || use[0].Blocks[0].InUse != 2 || use[0].Blocks[0].Free != 62 || use[0].Blocks[1].Owner != "host:m" {
		t.Errorf("%+v, %v", use, err)
	}
	load(t, kv).check(t, true)
}

func TestReleaseGuards(t *testing.T) {
	ctx := context.Background()
	kv := newKV()
	a, _ := newAllocator(kv)
	pools := []*v3.IPPool{pool("p", "10.0.0.0/24", 26)}
	got, err := a.AutoAssign(ctx, Request{Num4: 2, Handle: "h", Node: "n", Pools: pools, Use: UseWorkload})
	if err != nil {
		t.Fatal(err)
	}
	x, y := got.IPv4[0].Addr(), got.IPv4[1].Addr()
	o, _ := load(t, kv).blocks[got.IPv4[0].Masked().String()].Owned(x)
	stale := o.Sequence - 1
	for _, bad := range []Release{{Addr: x, Handle: "g"}, {Addr: x, Sequence: &stale}} {
		if _, err := a.ReleaseIPs(ctx, []Release{{Addr: y}, bad}); !errors.Is(err, ErrGuard) {
			t.Error(err)
		}
	}
	if list, _ := a.IPsByHandle(ctx, "h"); len(list) != 2 {
		t.Errorf("left: %v; a failed guard must keep the whole block as it is", list)
	}
	if none, err := a.ReleaseIPs(ctx, []Release{{Addr: x, Handle: "h", Sequence: &o.Sequence}, {Addr: x}}); err != nil || len(none) != 0 {
		t.Error(none, err)
	}
	load(t, kv).check(t, true)
}

func TestUnselectedBlockIsGivenUp(t *testing.T) {
	ctx := context.Background()
	kv := newKV()
	a, _ := newAllocator(kv)
	p := pool("p", "10.0.0.0/24", 26, func(p *v3.IPPool) { p.Spec.NodeSelector = "rack == 'r1'" })
	q := pool("q", "10.1.0.0/24", 26)
	r := Request{Num4: 1, Handle: "h", Node: "n", NodeLabels: map[string]string{"rack": "r1"}, Pools: []*v3.IPPool{p, q}, Use: UseWorkload}
	if _, err := a.AutoAssign(ctx, r); err != nil {
		t.Fatal(err)
	}
	r.NodeLabels = nil
	for i := range 2 {
		got, err := a.AutoAssign(ctx, r)
		if err != nil || !netip.MustParsePrefix("10.1.0.0/24").Contains(got.IPv4[0].Addr()) {
			t.Fatal(got, err)
		}
		if n := len(load(t, kv).blocks); n != 2-i {
			t.Errorf("round %d: %d blocks", i, n)
		}
		if i == 0 { // the block in the first pool is in use at first
			list, _ := a.IPsByHandle(ctx, "h")
			if _, err := a.ReleaseIPs(ctx, []Release{{Addr: list[0]}}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestPoolBlocksVisitsEachOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom([]string{"10.65.128.0", "fd00:65::1:8000", "255.255.255.0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00"}).Draw(t, "base")
		width := netip.MustParseAddr(f).BitLen()
		block := rapid.IntRange(width-12, width).Draw(t, "block")
		cidr := netip.PrefixFrom(netip.MustParseAddr(f), rapid.IntRange(max(block-8, width-15), block).Draw(t, "pool")).Masked()
		p := Pool{CIDR: cidr, BlockBits: block}
		seen := map[netip.Prefix]bool{}
		for b := range p.Blocks(rapid.String().Draw(t, "node")) {
			if seen[b] || !p.has(b) || b != b.Masked() {
				t.Fatalf("%s in %s", b, cidr)
			}
			seen[b] = true
		}
		if len(seen) != 1<<(block-cidr.Bits()) {
			t.Fatalf("%d blocks of /%d in %s", len(seen), block, cidr)
		}
	})
	// A pool of 2^74 blocks costs no more than what is looked at.
	p, err := ParsePool(pool("p", "fd00::/48", 0))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for range p.Blocks("n") {
		if n++; n == 1000 {
			break
		}
	}
}

func BenchmarkAutoAssignRelease(b *testing.B) {
	ctx := context.Background()
	a, _ := newAllocator(newKV())
	r := Request{Num4: 1, Num6: 1, Node: "n", Use: UseWorkload, Pools: []*v3.IPPool{pool("p4", "10.0.0.0/16", 26), pool("p6", "fd00::/64", 122)}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Handle = fmt.Sprint("h", i)
		if _, err := a.AutoAssign(ctx, r); err != nil {
			b.Fatal(err)
		}
		if _, err := a.ReleaseByHandle(ctx, r.Handle); err != nil {
			b.Fatal(err)
		}
	}
}

// TestAvoidedBlocks: neither own blocks nor new ones nor those of others are taken from where the caller says so.
func TestAvoidedBlocks(t *testing.T) {
	ctx := context.Background()
	for _, tt := range bothFamilies {
		t.Run(tt.name, func(t *testing.T) {
			a, clk := newAllocator(newKV())
			p := pool("p", tt.cidr, tt.block)
			whole, _ := ParsePool(p)
			blocks := slices.Collect(whole.Blocks("n1"))
			avoid := func(b netip.Prefix) string {
				if b == blocks[len(blocks)-1] {
					return ""
				}
				return b.Addr().String() + ", a server"
			}
			for i, owner := range []string{"n1", "n2"} {
				if err := a.ClaimAffinity(ctx, HostOwner(owner), blocks[i]); err != nil {
					t.Fatal(err)
				}
			}
			clk.t = clk.t.Add(2 * reclaimAge)
			r := Request{Handle: "h", Node: "n1", Pools: []*v3.IPPool{p}, Use: UseWorkload, Avoid: avoid, Num4: 1}
			if tt.family == IPv6 {
				r.Num4, r.Num6 = 0, 1
			}
			got, err := a.AutoAssign(ctx, r)
			if list := append(got.IPv4, got.IPv6...); err != nil || len(list) != 1 || list[0].Masked() != blocks[len(blocks)-1] {
				t.Errorf("AutoAssign: %v, %v; want one of %s", list, err, blocks[len(blocks)-1])
			}
			r.Avoid = func(b netip.Prefix) string { return b.Addr().String() + ", a server" }
			if _, err := a.AutoAssign(ctx, r); !errors.Is(err, ErrPoolExhausted) || !strings.Contains(err.Error(), "a server, in it") {
				t.Errorf("AutoAssign where every block is avoided: %v", err)
			}
			if _, err := a.AssignIP(ctx, AssignRequest{Addr: blocks[0].Addr(), Handle: "h", Node: "n1", Pools: r.Pools, Avoid: avoid}); err == nil || !strings.Contains(err.Error(), "a server, in it") {
				t.Errorf("AssignIP of %s: %v", blocks[0].Addr(), err)
			}
		})
	}
}
