// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// objects is what the resource commands need of the datastore.
type objects interface {
	// Create, Apply and Replace write one object and return it as stored.
	Create(ctx context.Context, r v3.Resource) (v3.Resource, error)
	Apply(ctx context.Context, r v3.Resource) (v3.Resource, error)
	Replace(ctx context.Context, r v3.Resource) (v3.Resource, error)
	// Same tells whether Apply and Replace would change nothing.
	Same(ctx context.Context, r v3.Resource) (bool, error)
	// Remove deletes an object, of that resourceVersion if it is not empty.
	Remove(ctx context.Context, kind, namespace, name, resourceVersion string) error
	// Read returns one object.
	Read(ctx context.Context, kind, namespace, name string) (v3.Resource, error)
	// ReadAll returns all objects of a kind in a namespace ("": every one) and
	// the revision they were read at. With store.ErrUnreadable what could be
	// read is returned all the same.
	ReadAll(ctx context.Context, kind, namespace string) ([]v3.Resource, int64, error)
	// InUse is how many addresses of a pool are assigned.
	InUse(ctx context.Context, pool string) (int, error)
	Close() error
}
