// SPDX-License-Identifier: Apache-2.0

package bgp

import "github.com/muslin-net/muslin/internal/prefixmap"

// owed is what a peer that is behind has not been told yet, by name only: the
// whole table for each of a thousand slow clients must fit into memory. The
// zero value owes nothing.
type owed struct {
	prefixes prefixmap.Map[struct{}] // paths with identifier 0
	paths    map[pathRef]struct{}    // the others
}

func (o *owed) add(ref pathRef) {
	if ref.id == 0 {
		o.prefixes.Slot(ref.prefix)
		return
	}
	if o.paths == nil {
		o.paths = make(map[pathRef]struct{})
	}
	o.paths[ref] = struct{}{}
}

func (o *owed) len() int { return o.prefixes.Len() + len(o.paths) }

// take removes and returns at most n of them.
func (o *owed) take(n int) (refs []pathRef) {
	refs = make([]pathRef, 0, min(n, o.len()))
	for prefix := range o.prefixes.All() {
		if len(refs) == n {
			break
		}
		refs = append(refs, pathRef{prefix: prefix})
	}
	for _, ref := range refs {
		o.prefixes.Delete(ref.prefix)
	}
	for ref := range o.paths {
		if len(refs) == n {
			break
		}
		refs = append(refs, ref)
		delete(o.paths, ref)
	}
	if len(o.paths) == 0 {
		o.paths = nil // a map never shrinks
	}
	return refs
}
