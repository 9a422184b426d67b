// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
)

// KV is what the allocator needs of a datastore. Every write is conditional.
// Errors are recognised with errors.Is: ErrNotFound, ErrExists, ErrConflict.
// Any other error means that it is not known whether the write took place.
// Implementations are safe for concurrent use.
type KV interface {
	// Get returns one key, or ErrNotFound.
	Get(ctx context.Context, key string) (Entry, error)
	// List returns all keys with a prefix, in key order.
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Create writes a key that is not there, or returns ErrExists.
	Create(ctx context.Context, key string, value []byte) (revision int64, err error)
	// Update writes a key that has not changed since revision. It returns
	// ErrConflict if it has, ErrNotFound if it is gone.
	Update(ctx context.Context, key string, value []byte, revision int64) (newRevision int64, err error)
	// Delete removes a key that has not changed since revision. It returns
	// ErrConflict if it has, ErrNotFound if it is gone.
	Delete(ctx context.Context, key string, revision int64) error
}

// Entry is a key with its value. Revision is that of its last change (etcd's
// ModRevision).
type Entry struct {
	Key      string
	Value    []byte
	Revision int64
}

// What a KV answers when the condition of a write does not hold.
var (
	ErrNotFound = errors.New("key not found")
	ErrExists   = errors.New("key exists already")
	ErrConflict = errors.New("key was changed by another writer")
)
