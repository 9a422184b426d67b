// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"unique"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/store"
)

// model is what the daemon knows of the datastore: the policy index, and the
// few kinds that are not policy. It belongs to the loop.
type model struct {
	self  string
	index *policy.Index

	nodes   map[string]*v3.Node
	bgp     map[string]*v3.BGPConfiguration
	peers   map[string]*v3.BGPPeer
	filters map[string]*v3.BGPFilter
	pools   map[string]*v3.IPPool
	felix   map[string]*v3.FelixConfiguration
	cluster *v3.ClusterInformation
	blocks  map[netip.Prefix]bool // confirmed affinities of this node

	affinities map[netip.Prefix][]string // confirmed ones of all nodes; more than one node by mistake only

	// bad holds what could not be read, by etcd key; see invariant I9: for the
	// kinds kept here the last good version stays.
	bad map[string]problem

	// What the last changes touched, for the loop to act on and clear.
	touchedPeering, touchedOrigin, touchedSettings bool
	touchedBlocks                                  map[netip.Prefix]struct{} // other affinities than before
	touchedWorkloads                               bool                      // or their profiles: labels may have changed
	lostSelf                                       bool                      // somebody deleted this node's Node
}

func newModel(self string, index *policy.Index) *model {
	return &model{
		self: self, index: index,
		nodes: map[string]*v3.Node{}, bgp: map[string]*v3.BGPConfiguration{}, peers: map[string]*v3.BGPPeer{},
		pools: map[string]*v3.IPPool{}, felix: map[string]*v3.FelixConfiguration{},
		filters: map[string]*v3.BGPFilter{}, blocks: map[netip.Prefix]bool{},
		affinities: map[netip.Prefix][]string{}, touchedBlocks: map[netip.Prefix]struct{}{}, bad: map[string]problem{},
		touchedPeering: true, touchedOrigin: true, touchedSettings: true,
	}
}

// change is a change of the datastore. An object of policy has been read into
// what the index takes.
type change struct {
	store.Change
	policy policy.Object
	last   *change // the last good version of a value that cannot be read; see lastGood
}

// update is what arrived together.
type update struct {
	store.Update
	changes []change
}

// read reads the objects of policy in an update. It needs no model, so it does
// not hold the loop up; a first listing, which has one for each workload of the
// cluster, is read on all processors.
func read(u store.Update) update {
	out := update{u, make([]change, len(u.Changes))}
	out.Update.Changes = nil
	const share = 64 // not worth another goroutine below that
	parts := min(runtime.GOMAXPROCS(0), 1+len(u.Changes)/share)
	var readers sync.WaitGroup
	for part := range parts {
		readers.Go(func() {
			var reader policy.Reader
			for i := part * len(u.Changes) / parts; i < (part+1)*len(u.Changes)/parts; i++ {
				c := &u.Changes[i]
				out.changes[i].Change = *c
				if policy.Takes(c.Kind) {
					key := policy.Key{Kind: c.Kind, Namespace: c.Namespace, Name: c.Name}
					out.changes[i].policy, out.changes[i].Object = reader.Read(key, c.Object, c.Err), nil
				}
			}
		})
	}
	readers.Wait()
	return out
}

// apply takes one change in. A value that could not be read leaves the last
// good version in force.
func (m *model) apply(c change) {
	if c.Kind == "" {
		return
	}
	if c.last != nil {
		m.apply(*c.last)
	}
	if policy.Takes(c.Kind) {
		m.index.Put(c.policy)
		m.touchedWorkloads = m.touchedWorkloads || c.Kind == "WorkloadEndpoint" || c.Kind == "Profile"
		return
	}
	if c.Err != nil {
		m.bad[c.Key] = problemOf(objectName(c), "", c.Err)
		return
	}
	delete(m.bad, c.Key)
	switch c.Kind {
	case "Node":
		keep(m.nodes, c)
		m.touchedPeering = true
		m.touchedSettings = m.touchedSettings || c.Name == m.self
		m.touchedOrigin = m.touchedOrigin || c.Name == m.self
		m.lostSelf = m.lostSelf || c.Name == m.self && c.Deleted
	case "BGPConfiguration":
		keep(m.bgp, c)
		m.touchedPeering, m.touchedOrigin = true, true
	case "BGPPeer":
		keep(m.peers, c)
		m.touchedPeering, m.touchedOrigin = true, true
	case "BGPFilter":
		keep(m.filters, c)
		m.touchedPeering = true
	case "IPPool":
		keep(m.pools, c)
		m.touchedPeering, m.touchedOrigin = true, true
	case "FelixConfiguration":
		keep(m.felix, c)
		m.touchedSettings = true
	case "ClusterInformation":
		if c.Name == "default" {
			m.cluster, _ = c.Object.(*v3.ClusterInformation)
			m.touchedSettings = true
		}
	case store.KindBlockAffinity:
		if c.Name != "" { // else it is the mark that a node uses IPAM
			m.affinity(c)
		}
	}
}

// hasNode tells whether there is a Node of a name, whatever is in it.
func (m *model) hasNode(name string) bool {
	_, bad := m.bad[v3.Key("Node", "", name)]
	return bad || m.nodes[name] != nil
}

// affinity takes in a node's claim to a block. What other nodes have wrong is
// their problem; their last good version stays, too. What can be no block is nobody's.
func (m *model) affinity(c change) {
	node, block, err := affinityOf(c)
	if err != nil {
		if node == m.self && !c.Deleted {
			m.bad[c.Key] = problemOf(objectName(c), "", err)
		}
		return
	}
	owner := ipam.HostOwner(node)
	_, confirmed := ipam.ConfirmedBlock(owner, c.Key, c.Raw)
	confirmed = confirmed && !c.Deleted
	m.claim(block, node, confirmed)
	if node != m.self {
		return
	}
	m.touchedOrigin = true
	if confirmed {
		m.blocks[block] = true
	} else {
		delete(m.blocks, block)
	}
}

// affinityOf reads whose affinity a change is, and to which block.
func affinityOf(c change) (node string, block netip.Prefix, err error) {
	_, block, ok := ipam.ParseAffinityKey(c.Key)
	if !ok {
		return c.Namespace, block, fmt.Errorf("%s: want a prefix without host bits, as it is usually written", c.Name)
	}
	if err := ipam.CheckBlock(block); err != nil || c.Deleted {
		return c.Namespace, block, err
	}
	_, err = ipam.DecodeAffinity(c.Raw)
	return c.Namespace, block, err
}

// claim notes whether a block is a node's.
func (m *model) claim(block netip.Prefix, node string, has bool) {
	list := m.affinities[block]
	i, had := slices.BinarySearch(list, node)
	switch {
	case has == had:
		return
	case has:
		list = slices.Insert(list, i, unique.Make(node).Value())
	default:
		list = slices.Delete(list, i, i+1)
	}
	m.touchedBlocks[block] = struct{}{}
	if len(list) == 0 {
		delete(m.affinities, block)
		return
	}
	m.affinities[block] = list
}

// touchAround has the blocks looked at again that have a prefix in them.
func (m *model) touchAround(p netip.Prefix) {
	for bits := p.Bits(); bits >= 0; bits-- {
		b := netip.PrefixFrom(p.Addr(), bits).Masked()
		if _, is := m.affinities[b]; is {
			m.touchedBlocks[b] = struct{}{}
		}
	}
}

// keep stores or forgets an object by its key's name.
func keep[T v3.Resource](into map[string]T, c change) {
	r, ok := c.Object.(T)
	if c.Deleted || !ok {
		delete(into, c.Name)
		return
	}
	into[c.Name] = r
}

// ready tells whether the datastore may be acted on; before the first
// ClusterInformation was seen it may not.
func (m *model) ready() bool {
	return m.cluster != nil && m.cluster.Spec.DatastoreReady != nil && *m.cluster.Spec.DatastoreReady
}

func objectName(c change) string {
	name := c.Name
	if c.Namespace != "" {
		name = c.Namespace + "/" + name
	}
	if name == "" {
		name = c.Key
	}
	return c.Kind + " " + name
}
