// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/prefixmap"
)

// Index calculates the policy of one node from the objects of the whole
// cluster. It is not safe for concurrent use. Make one with NewIndex.
type Index struct {
	node   string
	reader Reader
	odd    map[Key][]error // what is wrong with an object as such

	sets    *sets
	members map[Key]*member // of network sets

	endpoints map[EndpointID]*endpoint // of all nodes, closed ones left out
	onNodes   map[word]int             // how many of these and of host endpoints are on a node
	*claims
	reserved map[netip.Addr]string  // what no endpoint can have, and whose it is
	sourced  map[EndpointID]sourced // endpoints with source networks of their own, closed ones included
	ifaces   map[string][]*endpoint // local ones, lowest ID first
	floats   floats
	rebound  map[netip.Addr]struct{} // claimed or given up since Rebound was last asked

	anySource bool // these may be sent from

	*applied
}

// claims says which endpoints claim an address.
type claims struct {
	owners prefixmap.Map[*endpoint]   // the one endpoint that has an address, as a prefix of one
	rivals map[netip.Addr][]*endpoint // of an address that several claim, all of them, the oldest first
}

// some tells whether f holds for an endpoint that claims an address.
func (c *claims) some(a netip.Addr, f func(*endpoint) bool) bool {
	if list := c.rivals[a]; list != nil {
		return slices.ContainsFunc(list, f)
	}
	e := c.owner(a)
	return e != nil && f(e)
}

// owner returns the endpoint that has an address, nil if none does.
func (c *claims) owner(a netip.Addr) *endpoint {
	e, _ := c.owners.Get(netip.PrefixFrom(a, a.BitLen()))
	return e
}

// endpoint is what is kept of a workload endpoint of any node.
type endpoint struct {
	id      EndpointID
	node    word
	created int64
	rank    claimRank
	claims  []netip.Prefix // its addresses, reserved ones included
	member  *member        // without these
	local   *local         // nil on other nodes

	floating []Floating
}

// local is what is kept of an endpoint of this node beside that.
type local struct {
	iface   string
	mac     [6]byte
	hasMAC  bool
	macs    [][6]byte
	guest   bool
	process bool
	stack   bool
	sources []netip.Prefix
	labels  labelSet
	parents []word      // its profiles
	class   *localClass // nil while another endpoint has the interface
}

// NewIndex returns an empty Index for a node, named as in spec.node of its
// endpoints.
func NewIndex(node string) *Index {
	x := &Index{
		node:      node,
		odd:       map[Key][]error{},
		members:   map[Key]*member{},
		endpoints: map[EndpointID]*endpoint{},
		onNodes:   map[word]int{},
		claims:    &claims{rivals: map[netip.Addr][]*endpoint{}},
		ifaces:    map[string][]*endpoint{},
		rebound:   map[netip.Addr]struct{}{},
		applied:   newApplied(),
	}
	x.sets = newSets(x.claims)
	return x
}

// Takes tells whether objects of a kind matter to the Index. Set ignores the
// others.
func Takes(kind string) bool {
	switch kind {
	case kindEndpoint, kindHostEndpoint, kindPolicy, kindGlobalPolicy, kindStaged, kindStagedGlobal, kindStagedKube, kindTier, kindProfile, kindNetworkSet, kindGlobalNetwSet:
		return true
	}
	return false
}

// Set says what is stored under a key. Key.Kind is the kind of the object, of
// those that the package Takes, and Key.Name the name in the datastore. A nil
// object with a nil error says that there is none. An error says that there is
// one which cannot be read; r may then hold what could be read of it, from
// which the selector of a policy is taken. The Index keeps no reference to r.
// The View changes with the next Flush.
func (x *Index) Set(k Key, r v3.Resource, err error) {
	if Takes(k.Kind) {
		x.Put(x.reader.Read(k, r, err))
	}
}

// Put is Set for an object that a Reader has read.
func (x *Index) Put(o Object) {
	if !Takes(o.key.Kind) {
		return
	}
	delete(x.odd, o.key)
	if o.put == nil {
		x.remove(o.key)
		return
	}
	if odd := o.put(x); len(odd) > 0 {
		x.odd[o.key] = odd
	}
}

func (x *Index) remove(k Key) {
	switch k.Kind {
	case kindEndpoint:
		delete(x.sourced, EndpointID{k.Namespace, k.Name})
		x.removeEndpoint(EndpointID{k.Namespace, k.Name})
	case kindHostEndpoint:
		x.setHost(k, nil)
	case kindPolicy, kindGlobalPolicy, kindStaged, kindStagedGlobal, kindStagedKube:
		x.setPolicy(k, nil)
	case kindProfile:
		x.setProfile(k, nil, nil)
	case kindTier:
		x.setTier(k.Name, nil)
	case kindNetworkSet, kindGlobalNetwSet:
		if old := x.members[k]; old != nil {
			delete(x.members, k)
			x.sets.replace(old, nil, nil, nil)
		}
	}
}

func (x *Index) removeEndpoint(id EndpointID) {
	old := x.endpoints[id]
	if old == nil {
		return
	}
	delete(x.endpoints, id)
	x.onNode(old.node, -1)
	x.unclaim(old)
	x.unclaimFloating(old)
	x.sets.replace(old.member, nil, nil, nil)
	x.moveLocal(old, nil)
}

// onNode counts endpoints of a node.
func (x *Index) onNode(node word, by int) {
	if x.onNodes[node] += by; x.onNodes[node] == 0 {
		delete(x.onNodes, node)
	}
}

// moveLocal puts new in the place of old among the local endpoints; either may
// be nil, or of another node. Activation goes first, so that a class does not
// empty for a moment.
func (x *Index) moveLocal(old, new *endpoint) {
	defer x.touchFloatingAt(old, new)
	if new != nil && new.local != nil {
		x.dirtyEndpoints[new.id] = struct{}{}
		list := x.ifaces[new.local.iface]
		i, _ := slices.BinarySearchFunc(list, new, compareEndpoints)
		if old != nil && old.local != nil && old.local.iface == new.local.iface {
			list[i] = new
		} else {
			list = slices.Insert(list, i, new)
			x.ifaces[new.local.iface] = list
			if i == 0 && len(list) > 1 {
				x.deactivate(list[1])
			}
		}
		if i == 0 {
			x.activate(new)
		}
	}
	if old == nil || old.local == nil {
		return
	}
	x.dirtyEndpoints[old.id] = struct{}{}
	x.deactivate(old)
	if new != nil && new.local != nil && new.local.iface == old.local.iface {
		return
	}
	list := x.ifaces[old.local.iface]
	i, _ := slices.BinarySearchFunc(list, old, compareEndpoints)
	list = slices.Delete(list, i, i+1)
	if len(list) == 0 {
		delete(x.ifaces, old.local.iface)
		return
	}
	x.ifaces[old.local.iface] = list
	x.activate(list[0])
}

func compareEndpoints(a, b *endpoint) int {
	switch {
	case a.id == b.id:
		return 0
	case a.id.lower(b.id):
		return -1
	}
	return 1
}

// claimRank says whose claim goes before that of an older one: who shares an address gives
// way to who does not, and of those who share it this node's own is what it sends to.
type claimRank uint8

const (
	rankAlone claimRank = iota
	rankSharedHere
	rankShared
)

func rank(anycast, here bool) claimRank {
	switch {
	case !anycast:
		return rankAlone
	case here:
		return rankSharedHere
	}
	return rankShared
}

// older tells whether a's claim to an address goes before b's: the endpoint
// created first has it, and of equals the lowest namespace and name. One that
// does not say when it was created comes last.
func older(a, b *endpoint) int {
	if a.rank != b.rank {
		return int(a.rank) - int(b.rank)
	}
	if a.created != b.created {
		if a.created < b.created {
			return -1
		}
		return 1
	}
	return compareEndpoints(a, b)
}

// claim claims the addresses of an endpoint for it.
func (x *Index) claim(e *endpoint) {
	for _, p := range e.claims {
		a := p.Addr()
		x.rebound[a] = struct{}{}
		x.touchFloating(a)
		slot, claimed := x.owners.Slot(p)
		owner := *slot
		if !claimed {
			*slot = e
			continue
		}
		list := x.rivals[a]
		if list == nil {
			list = []*endpoint{owner}
		}
		i, _ := slices.BinarySearchFunc(list, e, older)
		x.rivals[a] = slices.Insert(list, i, e)
		if i == 0 {
			*slot = e
			x.touch(owner)
		}
	}
}

func (x *Index) unclaim(e *endpoint) {
	for _, p := range e.claims {
		a := p.Addr()
		x.rebound[a] = struct{}{}
		x.touchFloating(a)
		list := x.rivals[a]
		if list == nil {
			x.owners.Delete(p)
			continue
		}
		i, _ := slices.BinarySearchFunc(list, e, older)
		list = slices.Delete(list, i, i+1)
		if i == 0 {
			x.owners.Put(p, list[0])
			x.touch(list[0])
		}
		if len(list) == 1 {
			delete(x.rivals, a)
		} else {
			x.rivals[a] = list
		}
	}
}

// touch notes that what an endpoint is to the data plane may differ.
func (x *Index) touch(e *endpoint) {
	if e.local != nil {
		x.dirtyEndpoints[e.id] = struct{}{}
	}
}
