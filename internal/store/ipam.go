// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/muslin-net/muslin/internal/ipam"
)

// IPAM returns the datastore as the address allocator wants it.
func (c *Client) IPAM() ipam.KV { return ipamKV{c} }

// Allocator returns an address allocator on this datastore.
func (c *Client) Allocator() *ipam.Allocator { return ipam.New(c.IPAM(), time.Now, c.log) }

type ipamKV struct{ c *Client }

func (k ipamKV) Get(ctx context.Context, key string) (ipam.Entry, error) {
	kv, err := k.c.Get(ctx, key)
	return ipam.Entry(kv), ipamError(err)
}

func (k ipamKV) List(ctx context.Context, prefix string) ([]ipam.Entry, error) {
	kvs, _, err := k.c.List(ctx, prefix)
	out := make([]ipam.Entry, len(kvs))
	for i, kv := range kvs {
		out[i] = ipam.Entry(kv)
	}
	return out, ipamError(err)
}

func (k ipamKV) Create(ctx context.Context, key string, value []byte) (int64, error) {
	rev, err := k.c.Create(ctx, key, value)
	return rev, ipamError(err)
}

func (k ipamKV) Update(ctx context.Context, key string, value []byte, revision int64) (int64, error) {
	rev, err := k.c.Update(ctx, key, value, revision)
	return rev, ipamError(err)
}

func (k ipamKV) Delete(ctx context.Context, key string, revision int64) error {
	return ipamError(k.c.Delete(ctx, key, revision))
}

// ipamError adds the allocator's own word for what happened.
func ipamError(err error) error {
	for _, p := range [...][2]error{{ErrNotFound, ipam.ErrNotFound}, {ErrExists, ipam.ErrExists}, {ErrConflict, ipam.ErrConflict}} {
		if errors.Is(err, p[0]) {
			return fmt.Errorf("%w (%w)", err, p[1])
		}
	}
	return err
}
