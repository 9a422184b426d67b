// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"iter"
	"maps"
	"math"
	"net/netip"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// everyInterface is the interfaceName of a host endpoint for all interfaces that
// have none of their own.
const everyInterface = "*"

// hosts is the host endpoints, of which there are few on a node. Their policies
// are found as those of workload endpoints are, by an index of its own, which is
// there only while it is needed.
type hosts struct {
	all    map[string]*hostEndpoint // of all nodes
	addrs  map[string][]netip.Addr  // of the interfaces of this host
	held   map[netip.Addr]string    // the same: the interface that has an address
	active map[string]*hostEndpoint // by interface, or everyInterface
	index  *localIndex              // of those that are active; nil while none is
	public map[string]*HostEndpoint // as published
	dirty  bool
}

// hostEndpoint is what is kept of a host endpoint.
type hostEndpoint struct {
	name     string
	node     word
	iface    string
	expected []netip.Prefix // single addresses
	member   *member        // of sets: its expected addresses
	here     *endpoint      // on this node, what the index of classes holds of it
}

func newHosts() *hosts {
	return &hosts{all: map[string]*hostEndpoint{}, active: map[string]*hostEndpoint{}, public: map[string]*HostEndpoint{}}
}

func (h *hosts) setParent(name string, labels labelSet) {
	if h.index != nil {
		h.index.setParent(name, labels)
	}
}

// parsedHost is a host endpoint as read from its object.
type parsedHost struct {
	node     word
	iface    string
	expected []netip.Prefix
	ports    []namedPort
	labels   labelSet
	profiles []word
}

// hostEndpoint reads a host endpoint. What is bad in it is left out and reported,
// and the rest is in force: to close all of it would cut its operator off. One
// that names no interface in either way is none.
func (rd *Reader) hostEndpoint(k Key, o *v3.HostEndpoint) (*parsedHost, []error, []error) {
	s := &o.Spec
	p := &parsedHost{node: rd.word(s.Node), iface: s.InterfaceName, labels: rd.labels(o.Metadata.Labels)}
	var odd []error
	for i, text := range s.ExpectedIPs {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			odd = append(odd, fieldErrf(fmt.Sprintf("spec.expectedIPs[%d]", i), "%q is ignored: want an address such as 192.0.2.1", text))
			continue
		}
		a = a.Unmap()
		p.expected = append(p.expected, netip.PrefixFrom(a, a.BitLen()))
	}
	p.expected = mergeNets(p.expected)
	ports, bad := rd.namedPorts(hostPorts(o))
	p.ports, p.profiles, odd = ports, rd.profiles(s.Profiles), append(odd, bad...)
	if p.iface == "" && len(p.expected) == 0 {
		return nil, odd, []error{fieldErrf("spec.interfaceName", "the host endpoint is ignored: it has neither interfaceName nor expectedIPs; set one")}
	}
	return p, odd, nil
}

// setHost puts a version of a host endpoint in force; nil removes it.
func (x *Index) setHost(k Key, p *parsedHost) {
	old := x.hosts.all[k.Name]
	if old == nil && p == nil {
		return
	}
	var now *hostEndpoint
	var labels labelSet
	var parents []word
	if p != nil {
		now = &hostEndpoint{name: k.Name, node: p.node, iface: p.iface, expected: p.expected, member: &member{nets: p.expected, ports: p.ports, isSet: true}}
		labels, parents = p.labels, p.profiles
		if p.node.Value() == x.node {
			now.here = &endpoint{id: EndpointID{Name: k.Name}, created: math.MaxInt64, local: &local{labels: labels, parents: parents}}
		}
	}
	var was, is *member
	if old != nil {
		was = old.member
		x.onNode(old.node, -1)
		x.hosts.dirty = x.hosts.dirty || old.here != nil
	}
	delete(x.hosts.all, k.Name)
	if now != nil {
		is = now.member
		x.onNode(now.node, 1)
		x.hosts.all[k.Name] = now
		x.hosts.dirty = x.hosts.dirty || now.here != nil
	}
	x.sets.replace(was, is, labels, parents)
}

// HostInterfaces says which addresses the interfaces of this host have, all of
// them: by these a host endpoint finds its interface that names none, and none of
// them is a floating IP. The Index keeps the map. The View changes with the next
// Flush.
func (x *Index) HostInterfaces(addrs map[string][]netip.Addr) {
	if maps.EqualFunc(x.hosts.addrs, addrs, slices.Equal[[]netip.Addr]) {
		return
	}
	x.hosts.addrs, x.hosts.dirty = addrs, true
	was := x.hosts.held
	x.hosts.held = map[netip.Addr]string{}
	for iface, list := range addrs {
		for _, a := range list {
			if p := plain(a); x.hosts.held[p] == "" || iface < x.hosts.held[p] {
				x.hosts.held[p] = iface
			}
		}
	}
	for _, m := range []map[netip.Addr]string{was, x.hosts.held} {
		for a := range m {
			if (was[a] == "") != (x.hosts.held[a] == "") {
				x.touchFloating(a)
			}
		}
	}
}

// NeedsHostInterfaces tells whether anything depends on the addresses of
// interfaces. It needs no Flush.
func (x *Index) NeedsHostInterfaces() bool {
	return len(x.floats) > 0 || slices.ContainsFunc(x.hosts.local(), func(e *hostEndpoint) bool { return e.iface == "" })
}

// local returns the host endpoints of this node, the lowest name first.
func (h *hosts) local() (list []*hostEndpoint) {
	for _, name := range slices.Sorted(maps.Keys(h.all)) {
		if h.all[name].here != nil {
			list = append(list, h.all[name])
		}
	}
	return list
}

// wants returns the interfaces that a host endpoint is for: the one that it
// names, or those that have one of the addresses it expects.
func (h *hosts) wants(e *hostEndpoint) (list []string) {
	if e.iface != "" {
		return []string{e.iface}
	}
	for iface, addrs := range h.addrs {
		if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return holds(e.expected, plain(a)) }) {
			list = append(list, iface)
		}
	}
	return list
}

// assignHosts decides which host endpoint has an interface: of several, the one
// with the lowest name.
func (x *Index) assignHosts() {
	h := x.hosts
	if !h.dirty {
		return
	}
	old := h.active
	h.active = map[string]*hostEndpoint{}
	is := map[*hostEndpoint]bool{}
	for _, e := range h.local() {
		for _, iface := range h.wants(e) {
			if h.active[iface] == nil {
				h.active[iface], is[e] = e, true
			}
		}
	}
	if len(is) > 0 && h.index == nil {
		h.index = x.newLocalIndex()
		for _, p := range x.local.parents {
			h.index.setParent(p.name.Value(), p.labels)
		}
		for _, r := range x.recs {
			if r.tier != nil {
				r.hostQuery = x.ask(h.index, r, nil, r.compiled, true)
			}
		}
	}
	for e := range is {
		if l := e.here.local; l.class == nil {
			l.class = h.index.join(e.here, l.labels, l.parents)
			l.class.val.host = true
			x.dirtyClasses[l.class] = struct{}{}
		}
	}
	for _, e := range old {
		if l := e.here.local; l.class != nil && !is[e] {
			x.dirtyClasses[l.class] = struct{}{}
			h.index.leave(e.here, l.class)
			l.class = nil
		}
	}
	if len(is) == 0 && h.index != nil {
		for _, r := range x.recs {
			r.hostQuery = nil
		}
		h.index = nil
	}
}

// flushHosts makes the host endpoints anew that may differ. One whose policies
// differ in their rules only is not told.
func (x *Index) flushHosts(out map[string]*HostEndpoint) {
	h := x.hosts
	if !h.dirty {
		return
	}
	h.dirty = false
	now := map[string]*HostEndpoint{}
	for _, iface := range slices.Sorted(maps.Keys(h.active)) {
		e := h.active[iface]
		p := now[e.name]
		if p == nil {
			p = &HostEndpoint{Name: e.name, Stages: e.here.local.class.val.group.effs}
			now[e.name] = p
		}
		if iface == everyInterface {
			p.Rest = true
			// What is not tracked is judged packet by packet, both ways: not for all
			// interfaces at once.
			p.Stages = slices.DeleteFunc(slices.Clone(p.Stages), func(e *Effective) bool { return e.Stage == StageUntracked })
		} else {
			p.Interfaces = append(p.Interfaces, iface)
		}
	}
	for name, p := range now {
		if old := h.public[name]; old == nil || !old.sameBut(p) {
			out[name] = p
		}
	}
	for name := range h.public {
		if now[name] == nil {
			out[name] = nil
		}
	}
	h.public = now
}

func (h *HostEndpoint) sameBut(o *HostEndpoint) bool {
	sameID := func(a, b *Effective) bool { return a.ID == b.ID }
	return h.Rest == o.Rest && slices.Equal(h.Interfaces, o.Interfaces) && slices.EqualFunc(h.Stages, o.Stages, sameID)
}

func (e *hostEndpoint) key() Key { return Key{Kind: kindHostEndpoint, Name: e.name} }

// problems are those of the host endpoints of this node.
func (h *hosts) problems() (all []Problem) {
	for _, e := range h.local() {
		wants := h.wants(e)
		if len(wants) == 0 {
			all = append(all, Problem{e.key(), "spec.expectedIPs", fmt.Errorf("no interface has one of them: the host endpoint acts on none")})
		}
		for _, iface := range wants {
			if other := h.active[iface]; other != nil && other != e {
				all = append(all, Problem{e.key(), "spec.interfaceName", fmt.Errorf("%s belongs to host endpoint %s, whose name is lower", iface, other.name)})
			}
		}
		c := e.here.local.class
		if e.iface != everyInterface || c == nil || c.val.group == nil {
			continue
		}
		for _, r := range c.val.group.policies {
			if r.policy.Stage == StageUntracked {
				all = append(all, Problem{e.key(), "spec.interfaceName", fmt.Errorf("%s %s is not applied: doNotTrack is for host endpoints of named interfaces", r.key.Kind, r.policy.Name)})
			}
		}
	}
	return all
}

// Hosts implements View.
func (x *Index) Hosts() iter.Seq[*HostEndpoint] { return maps.Values(x.hosts.public) }
