// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/store"
)

// TestI01_RealEtcd has eight allocators on four nodes work on a real datastore
// at once; the in-memory one of the other tests must not be too kind.
func TestI01_RealEtcd(t *testing.T) {
	ctx := t.Context()
	srv, err := store.StartEmbedded(ctx, store.EmbeddedConfig{Dir: t.TempDir(), ListenClient: []string{"http://127.0.0.1:0"}, UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	client, err := store.Open(ctx, store.Config{Endpoints: srv.URLs()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	var pools []*v3.IPPool
	for name, cidr := range map[string]string{"p4": "10.65.0.0/24", "p6": "fd00:65::/118"} {
		p := &v3.IPPool{}
		p.Metadata.Name, p.Spec.CIDR = name, cidr
		pools = append(pools, p)
	}
	a := client.Allocator()

	var mu sync.Mutex
	owner := map[netip.Addr]string{}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 12 {
				h := fmt.Sprintf("w%d.%d", w, i)
				got, err := a.AutoAssign(context.Background(), ipam.Request{Num4: 1, Num6: 1, Handle: h, Node: fmt.Sprint("n", w/2), Pools: pools, Use: ipam.UseWorkload})
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
			}
		})
	}
	wg.Wait()
	use, err := a.Utilisation(ctx, pools)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range use {
		n := 0
		for _, b := range p.Blocks {
			n += b.InUse
		}
		if n != 96 || len(p.Blocks) != 4 {
			t.Errorf("%s: %d addresses in use in %d blocks; want 96 in 4", p.Name, n, len(p.Blocks))
		}
	}
	for w := range 8 {
		for i := range 12 {
			h := fmt.Sprintf("w%d.%d", w, i)
			list, err := a.ReleaseByHandle(ctx, h)
			if err != nil || len(list) != 2 || owner[list[0]] != h || owner[list[1]] != h {
				t.Errorf("%s: %v, %v", h, list, err)
			}
		}
	}
	for n := range 4 {
		if err := a.RemoveHost(ctx, fmt.Sprint("n", n)); err != nil {
			t.Error(err)
		}
	}
	if left, err := client.IPAM().List(ctx, ipam.Prefix); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
