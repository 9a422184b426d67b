// SPDX-License-Identifier: Apache-2.0

package policy

import "github.com/muslin-net/muslin/selector"

// Selects tells whether a selector selects an endpoint, by its own labels and by those
// that its profiles give. It needs no Flush.
func (x *Index) Selects(s *selector.Selector, id EndpointID) bool {
	e := x.endpoints[id]
	return e != nil && e.member != nil && s.Match(e.member.class)
}
