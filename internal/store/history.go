// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrCompacted means that etcd does not have that revision any more.
var ErrCompacted = errors.New("is older than what etcd has kept")

// Before returns the version that a key had before a revision. ErrNotFound if there
// was none, ErrCompacted or ErrUnavailable if etcd does not say.
func (c *Client) Before(ctx context.Context, key string, rev int64) (KV, error) {
	if rev <= 1 {
		return KV{}, c.wrap("get", key, ErrNotFound)
	}
	resp, err := c.page(ctx, key, []clientv3.OpOption{clientv3.WithRev(rev - 1)})
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return KV{}, c.wrap("get", key, ErrCompacted)
	case err != nil:
		return KV{}, c.wrap("get", key, err)
	case len(resp.Kvs) == 0:
		return KV{}, c.wrap("get", key, ErrNotFound)
	}
	return kvOf(resp.Kvs[0]), nil
}

// ChangeOf reads a value as a Watch does, and returns false for a key that a Watch
// does not deliver. The value is the Change's from then on.
func ChangeOf(kv KV) (Change, bool) {
	return (&item{key: kv.Key, raw: kv.Value, rev: kv.Revision}).change()
}
