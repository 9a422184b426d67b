// SPDX-License-Identifier: Apache-2.0

package policy

import "net/netip"

// An endpoint may be allowed to send from networks besides its own addresses, if
// the node allows that at all. If it does not, such an endpoint is closed: whoever
// wrote it relies on more than a packet filter could give.

// sourced is an endpoint with such networks, as it was read, so that it can be put
// in force anew when the node comes to allow them, or ceases to.
type sourced struct {
	p   *parsedEndpoint
	odd []error
	err error
}

func (x *Index) noteSources(p *parsedEndpoint, odd []error, err error) {
	if len(p.sources) == 0 {
		delete(x.sourced, p.id)
		return
	}
	if x.sourced == nil {
		x.sourced = map[EndpointID]sourced{}
	}
	x.sourced[p.id] = sourced{p, odd, err}
}

// AllowSources says whether endpoints may send from the networks in their
// allowSpoofedSourcePrefixes; without it those that have any are closed. It follows
// workloadSourceSpoofing of the node. The View changes with the next Flush.
func (x *Index) AllowSources(allowed bool) {
	if x.anySource == allowed {
		return
	}
	x.anySource = allowed
	for id, s := range x.sourced {
		delete(x.odd, id.key())
		if odd := x.setEndpoint(s.p, s.odd, s.err); len(odd) > 0 {
			x.odd[id.key()] = odd
		}
	}
}

// MaySend tells whether a source is one that an endpoint may send from besides its
// own addresses.
func (w *World) MaySend(id EndpointID, src netip.Addr) bool {
	e := w.Endpoints[id]
	if e == nil || w.closed(id) {
		return false
	}
	nets, err := parseNets("", e.Spec.AllowSpoofedSourcePrefixes)
	return err == nil && holds(nets, src)
}
