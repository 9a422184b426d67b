// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
)

func TestEachResource(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	fill(t, c, 0, 2*pageSize)
	var rev int64
	for key, value := range map[string]string{
		setKey(3):                         "not json",
		resources + "networksets/shop/a":  `{}`,
		resources + "nosuchkinds/x":       `{}`,
		"/calico/ipam/v2/config":          `{}`,
		"/calico/felix/v2/host/a/status":  `{}`,
		resources + "nodes/n1":            `{"spec":{"bgp":{"ipv4Address":"10.0.0.1/24"}}}`,
		resources + "clusterinformations": `{}`,
	} {
		rev = must[int64](t)(c.Put(ctx, key, []byte(value)))
	}
	seen := map[string]Change{}
	var keys []string
	got, err := c.EachResource(ctx, func(ch Change) {
		seen[ch.Key] = ch
		keys = append(keys, ch.Key)
	})
	if err != nil || got != rev {
		t.Fatalf("at revision %d, want %d: %v", got, rev, err)
	}
	if len(seen) != 2*pageSize+2 || len(keys) != len(seen) || !slices.IsSorted(keys) {
		t.Errorf("%d calls for %d keys, in order: %v; want %d", len(keys), len(seen), slices.IsSorted(keys), 2*pageSize+2)
	}
	for key, ch := range seen {
		if bad := key == setKey(3); bad != (ch.Err != nil) || bad == (ch.Object != nil) || ch.Deleted || ch.Raw == nil || ch.Revision == 0 {
			t.Errorf("%s: %+v", key, ch)
		}
	}
	if err := seen[setKey(3)].Err; err == nil || !strings.Contains(err.Error(), setKey(3)) {
		t.Errorf("the error does not name the key: %v", err)
	}
	if ch := seen[resources+"networksets/shop/a"]; ch.Kind != "NetworkSet" || ch.Namespace != "shop" || ch.Name != "a" {
		t.Errorf("got %+v", ch)
	}
	if n, ok := seen[resources+"nodes/n1"].Object.(*v3.Node); !ok || n.Spec.BGP == nil || n.Spec.BGP.IPv4Address != "10.0.0.1/24" {
		t.Errorf("got %+v", seen[resources+"nodes/n1"])
	}

	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.EachResource(ended, func(Change) { t.Error("called although the listing failed") }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
