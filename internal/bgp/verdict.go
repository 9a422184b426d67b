// SPDX-License-Identifier: Apache-2.0

package bgp

import "slices"

// Refusal is the kind of reason for which a route is not used or not sent.
type Refusal uint8

// The kinds of refusal; the zero value is none.
const (
	Accepted        Refusal = iota
	RefusedPrefix           // a prefix that can be nobody's route
	RefusedNextHop          // a next hop that cannot be used
	RefusedPath             // an AS path that the peer cannot have sent (RFC 4271 section 6.3)
	RefusedLoop             // it has been here: AS_PATH, ORIGINATOR_ID, CLUSTER_LIST
	RefusedFilter           // by a filter of the session
	RefusedNoPolicy         // nothing says what the session may carry (RFC 8212)
	RefusedServer           // by the origin guard: the address of a server
	RefusedLocal            // by the origin guard: served by this node
	RefusedUnbound          // by the origin guard: not bound to the node that announces it
	RefusedUnknown          // by the origin guard: from a node, and nobody knows of which
	RefusedLeak             // by its role the peer may not send it (RFC 9234)
	numRefusals
)

var refusalNames = [numRefusals]string{"", "prefix", "next-hop", "as-path", "loop", "filter", "no-policy",
	"origin-server", "origin-local", "origin-unbound", "origin-unknown", "leak"}

// String is the name by which refusals are counted.
func (r Refusal) String() string { return refusalNames[min(r, numRefusals-1)] }

// Verdict is what a policy says of a route: accepted as it is or with an edit,
// or refused. The zero value accepts.
type Verdict struct {
	Refused Refusal
	Detail  string // what decided, in words
	Edit    *Edit  // nil: as it is
}

// Edit is what a policy changes about the attributes of a route that it
// accepts. Policies make their edits once: equal pointers are equal edits, so
// that one changed set serves all routes that had the same attributes before.
// An Edit never changes.
type Edit struct {
	Communities  []uint32 // added, as the lists below
	Extended     [][8]byte
	Large        [][3]uint32
	Prepend      []uint32 // in front of the AS path, leftmost first
	SetLocalPref bool
	LocalPref    uint32
}

// apply returns an edited copy of a, not interned; a itself for a nil edit.
func (e *Edit) apply(a *attrs) *attrs {
	if e == nil {
		return a
	}
	c := a.clone()
	c.comms = union(a.comms, e.Communities)
	c.ext = union(a.ext, e.Extended)
	c.large = union(a.large, e.Large)
	for _, as := range slices.Backward(e.Prepend) {
		c.path = c.prepended(as)
	}
	if e.SetLocalPref {
		c.localPref, c.hasLocalPref = e.LocalPref, true
	}
	return c
}

// union is list with what it lacks of add; list itself if that is nothing.
func union[T comparable](list, add []T) []T {
	out := list
	for _, x := range add {
		if !slices.Contains(out, x) {
			out = append(out[:len(out):len(out)], x)
		}
	}
	return out
}
