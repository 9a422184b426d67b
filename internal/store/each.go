// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// EachResource reads every stored resource of the kinds that api/v3 knows, all
// at one revision, which it returns, and hands them to f one by one in key
// order, as Watch would. What cannot be read comes too, with its Err set; keys
// of kinds nobody knows do not. f is called from this goroutine, and not at
// all unless everything could be listed: an error means that f saw nothing.
func (c *Client) EachResource(ctx context.Context, f func(Change)) (int64, error) {
	var items []item
	for try := 0; ; try++ {
		items = items[:0]
		h, err := c.pages(ctx, resourcePrefix, 0, func(kvs []*mvccpb.KeyValue) error {
			for _, kv := range kvs {
				items = append(items, item{key: string(kv.Key), raw: kv.Value, rev: kv.ModRevision})
			}
			return nil
		})
		if errors.Is(err, rpctypes.ErrCompacted) && try < maxTries {
			continue // under the listing; a newer revision will do
		}
		if err != nil {
			return 0, err
		}
		for i := range items {
			if ch, ok := items[i].change(); ok {
				f(ch)
			}
		}
		return h.Revision, nil
	}
}
