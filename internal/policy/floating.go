// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// Floating is a floating IP of an endpoint: what is sent to External goes to
// Internal, one of its own addresses.
type Floating struct{ External, Internal netip.Addr }

// openStack is the orchestrator whose endpoints have floating IPs whatever the node
// says.
const openStack = "openstack"

// floatingIPs reads the floating IPs of an endpoint. A bad one is left out, and is
// worth reporting.
func floatingIPs(s *v3.WorkloadEndpointSpec, own []netip.Prefix) (list []Floating, odd []error) {
	for i, n := range s.IPNATs {
		field := fmt.Sprintf("spec.ipNATs[%d]", i)
		in, err1 := netip.ParseAddr(n.InternalIP)
		out, err2 := netip.ParseAddr(n.ExternalIP)
		in, out = plain(in), plain(out)
		switch {
		case err1 != nil || !holds(own, in):
			odd = append(odd, fieldErrf(field+".internalIP", "%q is ignored: want an address of spec.ipNetworks", n.InternalIP))
		case err2 != nil || in.Is4() != out.Is4() || !out.IsGlobalUnicast():
			odd = append(odd, fieldErrf(field+".externalIP", "%q is ignored: want a unicast address of the family of %s", n.ExternalIP, in))
		case slices.ContainsFunc(list, func(f Floating) bool { return f.External == out }):
			odd = append(odd, fieldErrf(field+".externalIP", "%s is ignored: it is listed before", out))
		default:
			list = append(list, Floating{out, in})
		}
	}
	return slices.Clip(list), odd
}

// internal is where an endpoint wants what is sent to one of its floating IPs.
func internal(list []Floating, external netip.Addr) netip.Addr {
	for _, f := range list {
		if f.External == external {
			return f.Internal
		}
	}
	return netip.Addr{}
}

// floats are the endpoints that claim a floating IP, of all nodes, in the order in
// which they come to have it on their node: the one with the lowest internal
// address, as text, first.
type floats map[netip.Addr][]*endpoint

func compareFloats(a netip.Addr) func(e, f *endpoint) int {
	return func(e, f *endpoint) int {
		return cmp.Or(cmp.Compare(internal(e.floating, a).String(), internal(f.floating, a).String()), compareEndpoints(e, f))
	}
}

func (x *Index) claimFloating(e *endpoint) {
	for _, f := range e.floating {
		if x.floats == nil {
			x.floats = floats{}
		}
		list := append(x.floats[f.External], e)
		slices.SortFunc(list, compareFloats(f.External))
		x.floats[f.External] = list
		x.touchFloating(f.External)
	}
}

func (x *Index) unclaimFloating(e *endpoint) {
	for _, f := range e.floating {
		x.touchFloating(f.External)
		x.floats[f.External] = slices.DeleteFunc(x.floats[f.External], func(o *endpoint) bool { return o == e })
		if len(x.floats[f.External]) == 0 {
			delete(x.floats, f.External)
		}
	}
}

// touchFloating notes that who has a floating IP may differ.
func (x *Index) touchFloating(a netip.Addr) {
	list := x.floats[a]
	for _, e := range list {
		x.touch(e)
	}
	if len(list) > 0 {
		x.rebound[a] = struct{}{}
	}
}

// touchFloatingAt does that for the floating IPs of all that claim the interfaces of
// some endpoints: one that is closed there has none.
func (x *Index) touchFloatingAt(list ...*endpoint) {
	for _, e := range list {
		if len(x.floats) == 0 || e == nil || e.local == nil {
			continue
		}
		for _, rival := range x.ifaces[e.local.iface] {
			for _, f := range rival.floating {
				x.touchFloating(f.External)
			}
		}
	}
}

// floatingOf returns the floating IPs that a local endpoint has: none that is an
// endpoint's own address, reserved, or on an interface of this host: it would take
// their traffic.
func (x *Index) floatingOf(e *endpoint) (out []Floating) {
	for _, f := range e.floating {
		_, reserved := x.reserved[f.External]
		if reserved || x.hosts.held[f.External] != "" || x.owner(f.External) != nil || x.owner(f.Internal) != e || !e.member.has(f.Internal) {
			continue
		}
		local := slices.IndexFunc(x.floats[f.External], func(o *endpoint) bool { return o.local != nil && o.local.class != nil })
		if local >= 0 && x.floats[f.External][local] == e {
			out = append(out, f)
		}
	}
	return out
}

// floatingProblems are the floating IPs that endpoints of this node do not have.
func (x *Index) floatingProblems() (all []Problem) {
	for a, list := range x.floats {
		for _, e := range list {
			if e.local == nil || slices.ContainsFunc(x.floatingOf(e), func(f Floating) bool { return f.External == a }) {
				continue
			}
			all = append(all, Problem{e.id.key(), "spec.ipNATs", fmt.Errorf("%s belongs to %s; give the endpoint another floating IP", a, x.holder(a))})
		}
	}
	return all
}

// holder is who has an address that an endpoint does not have as its floating IP.
func (x *Index) holder(a netip.Addr) string {
	switch owner, iface := x.reserved[a], x.hosts.held[a]; {
	case owner != "":
		return owner
	case iface != "":
		return "this server, on " + iface
	}
	return "another endpoint"
}

// FloatingIPs returns the floating IPs in force of an endpoint; enabled is
// floatingIPs of the node.
func (e *Endpoint) FloatingIPs(enabled bool) []Floating {
	if enabled || e.OpenStack {
		return e.Floating
	}
	return nil
}

// Floating returns the endpoint that a floating IP leads to, and the address that it
// becomes there; of several the one with the lowest internal address, as text.
func (w *World) Floating(external netip.Addr) (to EndpointID, in netip.Addr, ok bool) {
	if _, owned := w.Owner(external); owned || w.isReserved(external) || w.isHeld(external) {
		return to, in, false
	}
	for id, e := range w.Endpoints {
		if !w.FloatingIPs && e.Spec.Orchestrator != openStack || isProcess(e) || w.closed(id) {
			continue
		}
		nets, _ := w.openEndpoint(e)
		list, _ := floatingIPs(&e.Spec, nets)
		a := internal(list, external)
		if owner, _ := w.Owner(a); !a.IsValid() || owner != id {
			continue
		}
		if c := cmp.Compare(a.String(), in.String()); !ok || c < 0 || c == 0 && id.lower(to) {
			to, in, ok = id, a, true
		}
	}
	return to, in, ok
}

// Translated is the packet of a flow as the sender's policy sees it, and as its
// receiver gets it: the server of the receiver translates a floating IP, before all
// policy.
func (w *World) Translated(f Flow) (sent, received Packet) {
	sent, received = f.Packet, f.Packet
	to, in, ok := w.Floating(f.Dst)
	if !ok || to != f.To {
		return sent, received
	}
	received.Dst = in
	if e := w.Endpoints[f.From]; e == nil || e.Spec.Node == w.Endpoints[to].Spec.Node {
		sent = received
	}
	return sent, received
}
