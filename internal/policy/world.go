// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/kubepolicy"
	"github.com/muslin-net/muslin/selector"
)

// World is the objects that verdicts depend on, as they are in the datastore.
// The zero value is an empty one; Put fills it. It is for Evaluate: nobody needs
// to keep one.
type World struct {
	Endpoints         map[EndpointID]*v3.WorkloadEndpoint
	HostEndpoints     map[string]*v3.HostEndpoint
	Policies          map[Key]*v3.NetworkPolicy
	GlobalPolicies    map[Key]*v3.GlobalNetworkPolicy
	Staged            map[Key]*v3.StagedNetworkPolicy
	StagedGlobal      map[Key]*v3.StagedGlobalNetworkPolicy
	Profiles          map[string]*v3.Profile
	Tiers             map[string]*v3.Tier
	NetworkSets       map[Key]*v3.NetworkSet
	GlobalNetworkSets map[Key]*v3.GlobalNetworkSet
	Bad               map[Key]error // policies of which only the selector can be trusted

	// Node is the server that flows are asked about: of those that share an address its
	// own endpoints have it. Put leaves it alone, and the following.
	Node string
	// Reserved is what Index.Reserve is told, and Interfaces what
	// Index.HostInterfaces is, of the server that flows are asked about, whose
	// failsafes, by direction, are Failsafes. Put leaves them alone.
	// AnySource is what Index.AllowSources is told, and FloatingIPs says whether
	// endpoints have theirs that are not OpenStack's.
	Reserved   map[netip.Addr]string
	Interfaces map[string][]netip.Addr
	Failsafes  [2][]Failsafe
	AnySource  bool

	FloatingIPs bool
}

// Clone copies a world, whose objects are replaced and never changed.
func (w *World) Clone() World {
	c := *w
	c.Endpoints, c.HostEndpoints = maps.Clone(w.Endpoints), maps.Clone(w.HostEndpoints)
	c.Policies, c.GlobalPolicies = maps.Clone(w.Policies), maps.Clone(w.GlobalPolicies)
	c.Staged, c.StagedGlobal = maps.Clone(w.Staged), maps.Clone(w.StagedGlobal)
	c.Profiles, c.Tiers, c.Bad = maps.Clone(w.Profiles), maps.Clone(w.Tiers), maps.Clone(w.Bad)
	c.NetworkSets, c.GlobalNetworkSets = maps.Clone(w.NetworkSets), maps.Clone(w.GlobalNetworkSets)
	c.Reserved, c.Interfaces = maps.Clone(w.Reserved), maps.Clone(w.Interfaces)
	return c
}

// Put takes an object as Index.Set does, except that a World knows no last
// good version. Kinds that do not matter are ignored.
func (w *World) Put(k Key, r v3.Resource, err error) {
	id := EndpointID{k.Namespace, k.Name}
	delete(w.Bad, k)
	switch k.Kind {
	case kindEndpoint:
		put(&w.Endpoints, id, r, err)
	case kindHostEndpoint:
		put(&w.HostEndpoints, k.Name, r, err)
	case kindPolicy:
		if put(&w.Policies, k, r, nil) && err != nil {
			set(&w.Bad, k, err)
		}
	case kindGlobalPolicy:
		if put(&w.GlobalPolicies, k, r, nil) && err != nil {
			set(&w.Bad, k, err)
		}
	case kindStaged:
		put(&w.Staged, k, r, err)
	case kindStagedKube:
		if o, ok := r.(*v3.StagedKubernetesNetworkPolicy); ok && err == nil {
			p, err := kubepolicy.Staged(o)
			put(&w.Staged, k, v3.Resource(p), err)
			return
		}
		delete(w.Staged, k)
	case kindStagedGlobal:
		put(&w.StagedGlobal, k, r, err)
	case kindProfile:
		put(&w.Profiles, k.Name, r, err)
	case kindTier:
		put(&w.Tiers, k.Name, r, err)
	case kindNetworkSet:
		put(&w.NetworkSets, k, r, err)
	case kindGlobalNetwSet:
		put(&w.GlobalNetworkSets, k, r, err)
	}
}

// put stores r if it is a readable T, and otherwise forgets what was there.
func put[K comparable, T v3.Resource](m *map[K]T, k K, r v3.Resource, err error) bool {
	o, ok := r.(T)
	if !ok || err != nil {
		delete(*m, k)
		return false
	}
	set(m, k, o)
	return true
}

func set[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

// Owner returns the endpoint that has an address: of several, one that does not share it
// (muslin/anycast), then one of the server that is asked about, then the one created first,
// and of equals the lowest namespace and name. A reserved address is no endpoint's.
func (w *World) Owner(a netip.Addr) (id EndpointID, ok bool) {
	var at int64
	var first claimRank
	for other, e := range w.Endpoints {
		if !w.has(e, a) {
			continue
		}
		t := created(e)
		set, _ := e.Settings()
		r := rank(set.Anycast, e.Spec.Node == w.Node)
		if !ok || r < first || r == first && (t < at || t == at && other.lower(id)) {
			id, at, first, ok = other, t, r, true
		}
	}
	return id, ok
}

func created(e *v3.WorkloadEndpoint) int64 {
	if s := e.Metadata.CreationTimestamp; s != nil {
		if t, err := time.Parse(time.RFC3339, *s); err == nil {
			return t.UnixNano()
		}
	}
	return math.MaxInt64
}

// openEndpoint returns the addresses of an endpoint, and false if it is closed.
func (w *World) openEndpoint(e *v3.WorkloadEndpoint) ([]netip.Prefix, bool) {
	nets, err := endpointNets(e.Spec.IPNetworks)
	if err != nil || len(nets) == 0 || e.Spec.InterfaceName == "" {
		return nil, false
	}
	if sources, err := parseNets("", e.Spec.AllowSpoofedSourcePrefixes); err != nil || len(sources) > 0 && !w.AnySource {
		return nil, false
	}
	if e.Spec.MAC != "" {
		if mac, err := net.ParseMAC(e.Spec.MAC); err != nil || len(mac) != 6 {
			return nil, false
		}
	}
	return nets, true
}

// closed tells whether nothing passes to or from an endpoint: it is bad, or
// another one of its node with a lower name has its interface.
func (w *World) closed(id EndpointID) bool {
	e := w.Endpoints[id]
	if e == nil {
		return true
	}
	if _, open := w.openEndpoint(e); !open {
		return true
	}
	for other, o := range w.Endpoints {
		if o.Spec.Node == e.Spec.Node && o.Spec.InterfaceName == e.Spec.InterfaceName && other.lower(id) {
			if _, open := w.openEndpoint(o); open {
				return true
			}
		}
	}
	return false
}

// IsProcess tells whether an endpoint is of a process of its server.
func (w *World) IsProcess(id EndpointID) bool { return isProcess(w.Endpoints[id]) }

func holds(nets []netip.Prefix, a netip.Addr) bool {
	for _, p := range nets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// has tells whether an endpoint is open and an address is among its own.
func (w *World) has(e *v3.WorkloadEndpoint, a netip.Addr) bool {
	nets, open := w.openEndpoint(e)
	return open && holds(nets, a) && !w.isReserved(a)
}

func (w *World) isReserved(a netip.Addr) bool {
	for r := range w.Reserved {
		if plain(r) == a {
			return true
		}
	}
	return false
}

// entity is an endpoint or network set that holds one of the packet's
// addresses.
type entity struct {
	labels selector.Map
	ports  []v3.EndpointPort
}

// entities returns all that hold an address.
func (w *World) entities(a netip.Addr) []entity {
	var all []entity
	for id, e := range w.Endpoints {
		if w.has(e, a) {
			all = append(all, entity{w.endpointLabels(id), e.Spec.Ports})
		}
	}
	for _, h := range w.HostEndpoints {
		if w.acts(h) && holds(expectedAddrs(h), a) {
			all = append(all, entity{w.hostLabels(h), hostPorts(h)})
		}
	}
	for k, s := range w.NetworkSets {
		if nets, err := parseNets("", s.Spec.Nets); err == nil && holds(nets, a) {
			labels := trusted(s.Metadata.Labels)
			labels[labelNamespace] = k.Namespace
			w.inherit(labels, "kns."+k.Namespace)
			all = append(all, entity{labels, nil})
		}
	}
	for _, s := range w.GlobalNetworkSets {
		if nets, err := parseNets("", s.Spec.Nets); err == nil && holds(nets, a) {
			labels := selector.Map{}
			for k, v := range s.Metadata.Labels {
				if k != labelNamespace {
					labels[k] = v
				}
			}
			all = append(all, entity{labels, nil})
		}
	}
	return all
}

// trusted copies labels without those that an object cannot give itself.
func trusted(labels map[string]string) selector.Map {
	own := selector.Map{}
	for k, v := range labels {
		if !strings.HasPrefix(k, prefixNamespace) && !strings.HasPrefix(k, prefixAccount) && k != labelServiceAccount {
			own[k] = v
		}
	}
	return own
}

// endpointLabels are those that selectors see.
func (w *World) endpointLabels(id EndpointID) selector.Map {
	e := w.Endpoints[id]
	labels := trusted(e.Metadata.Labels)
	if _, ok := labels[labelNamespace]; ok {
		labels[labelNamespace] = id.Namespace
	}
	if e.Spec.ServiceAccountName != "" {
		labels[labelServiceAccount] = e.Spec.ServiceAccountName
	}
	for _, name := range e.Spec.Profiles {
		w.inherit(labels, name)
	}
	return labels
}

func (w *World) inherit(labels selector.Map, profile string) {
	p := w.Profiles[profile]
	if p == nil || profile == defaultAllow || badRules(p.Spec.Ingress) || badRules(p.Spec.Egress) {
		return
	}
	for k, v := range p.Spec.LabelsToApply {
		if _, ok := labels[k]; !ok {
			labels[k] = v
		}
	}
}

// isHeld tells whether an interface of the server has an address.
func (w *World) isHeld(a netip.Addr) bool {
	for _, addrs := range w.Interfaces {
		if slices.ContainsFunc(addrs, func(h netip.Addr) bool { return plain(h) == a }) {
			return true
		}
	}
	return false
}
