// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// maxOps is etcd's default limit of operations in one transaction.
const maxOps = 128

type verb uint8

const (
	create verb = iota
	update
	put
	remove
)

func (v verb) String() string { return [...]string{"create", "update", "put", "delete"}[v] }

// Op is one write of a transaction; make it with OpCreate, OpUpdate, OpPut or
// OpDelete.
type Op struct {
	Key   string
	Value []byte
	Rev   int64
	verb  verb
}

// OpCreate writes a key that must not exist.
func OpCreate(key string, value []byte) Op { return Op{Key: key, Value: value, verb: create} }

// OpUpdate writes a key that must still be at revision rev.
func OpUpdate(key string, value []byte, rev int64) Op {
	return Op{Key: key, Value: value, Rev: rev, verb: update}
}

// OpPut writes a key whatever is there.
func OpPut(key string, value []byte) Op { return Op{Key: key, Value: value, verb: put} }

// OpDelete deletes a key, which must exist, at revision rev unless rev is 0.
func OpDelete(key string, rev int64) Op { return Op{Key: key, Rev: rev, verb: remove} }

// Commit does all of ops, in one transaction, or none of them. Every watcher
// sees them as one change. It returns the revision of the transaction. The
// error of the first operation whose condition did not hold names its key:
// ErrExists, ErrNotFound, ErrConflict. At most 128 operations, on distinct
// keys.
func (c *Client) Commit(ctx context.Context, ops []Op) (int64, error) {
	if len(ops) == 0 {
		return 0, nil
	}
	if len(ops) > maxOps {
		return 0, c.wrap("commit", fmt.Sprintf("%d keys", len(ops)), fmt.Errorf("at most %d keys fit one etcd transaction", maxOps))
	}
	rev, err := c.commit(ctx, ops)
	return rev, c.wrap("commit", fmt.Sprintf("%d keys", len(ops)), err)
}

func (c *Client) commit(ctx context.Context, ops []Op) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var (
		conds []clientv3.Cmp
		then  []clientv3.Op
		look  []clientv3.Op
	)
	for _, op := range ops {
		switch op.verb {
		case create:
			conds = append(conds, clientv3.Compare(clientv3.Version(op.Key), "=", 0))
		case update:
			conds = append(conds, clientv3.Compare(clientv3.ModRevision(op.Key), "=", op.Rev))
		case remove:
			if op.Rev != 0 {
				conds = append(conds, clientv3.Compare(clientv3.ModRevision(op.Key), "=", op.Rev))
			} else {
				conds = append(conds, clientv3.Compare(clientv3.Version(op.Key), ">", 0))
			}
		}
		if op.verb == remove {
			then = append(then, clientv3.OpDelete(op.Key))
		} else {
			then = append(then, clientv3.OpPut(op.Key, string(op.Value)))
		}
		look = append(look, clientv3.OpGet(op.Key, clientv3.WithKeysOnly()))
	}
	etcd, err := c.client(ctx)
	if err != nil {
		return 0, err
	}
	resp, err := etcd.Txn(ctx).If(conds...).Then(then...).Else(look...).Commit()
	if err != nil {
		return 0, err
	}
	if resp.Succeeded {
		return resp.Header.Revision, nil
	}
	for i, op := range ops {
		kvs := resp.Responses[i].GetResponseRange().GetKvs()
		var why error
		switch {
		case op.verb == put:
		case op.verb == create && len(kvs) > 0:
			why = ErrExists
		case op.verb == create:
		case len(kvs) == 0:
			why = ErrNotFound
		case op.Rev != 0 && kvs[0].ModRevision != op.Rev:
			why = ErrConflict
		}
		if why != nil {
			return 0, &Error{Op: op.verb.String(), Object: op.Key, Err: why}
		}
	}
	return 0, ErrConflict
}
