// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"hash/fnv"
	"iter"
	"maps"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/store"
)

// problem is an object in error: what the status shows.
type problem struct{ object, field, text string }

// problemOf makes a problem of an error about an object, which is named once.
func problemOf(object, field string, err error) problem {
	var read *store.Error
	if errors.As(err, &read) {
		err = read.Err
	}
	if f, ok := err.(*v3.FieldError); ok {
		if field == "" {
			field = f.Path
		}
		return problem{object, field, f.Problem}
	}
	return problem{object, field, err.Error()}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func mapKeys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

func fnv32(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return h.Sum32()
}
