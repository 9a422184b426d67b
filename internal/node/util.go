// SPDX-License-Identifier: Apache-2.0

package node

import (
	"hash/fnv"
	"iter"
	"maps"
	"slices"
)

// problem is an object in error: what the status shows.
type problem struct{ object, field, text string }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func mapKeys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

func fnv32(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return h.Sum32()
}
