// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"iter"
	"net/netip"
)

// Direction is as the endpoint sees it: ingress is towards the endpoint.
type Direction uint8

// The two directions.
const (
	Ingress Direction = iota
	Egress
)

// Action is what a rule does with a packet that matches it.
type Action uint8

// The actions of the model. An unknown action compiles to Deny. Pass in a
// policy leaves the tier for the next one; in a profile it leaves the profile
// for the next one. Log does not decide.
const (
	Deny Action = iota
	Allow
	Pass
	Log
)

// String is the action as the model has it.
func (a Action) String() string {
	switch a {
	case Allow:
		return "Allow"
	case Pass:
		return "Pass"
	case Log:
		return "Log"
	}
	return "Deny"
}

// Stage is where on a packet's way an effective policy is asked. Those of a host
// endpoint are one for each of the stages after the first.
type Stage uint8

// The stages. StageHost is what the host itself receives and sends through an
// interface, StageForward what it forwards in and out there. StageUntracked comes
// before connection tracking, StagePreDNAT before the destination is translated:
// what these two allow is not asked about again as it comes in, or is sent.
const (
	StageWorkload Stage = iota
	StageHost
	StageForward
	StageUntracked
	StagePreDNAT
)

// Key identifies an object by its place in the datastore. Name is the key's
// name, not the displayed one. Namespace is empty for cluster-scoped kinds. Of a
// Policy, Kind is NetworkPolicy, GlobalNetworkPolicy or Profile.
type Key struct {
	Kind, Namespace, Name string
}

// EndpointID identifies a workload endpoint by its namespace and name.
type EndpointID struct {
	Namespace, Name string
}

// SetID names a set of addresses; it is a hash of what selects the members, so
// equal selectors share one set. It is short enough for a kernel name: 24
// characters of [a-z0-9].
type SetID string

// SetKind says what the members of a set are.
type SetKind uint8

const (
	// SetNets has networks as members; they never overlap or repeat.
	SetNets SetKind = iota
	// SetPorts has (address, protocol, port) as members: a named port.
	SetPorts
)

// Member is one element of a set. Proto and Port are 0 in a SetNets.
type Member struct {
	Net   netip.Prefix
	Proto uint8
	Port  uint16
}

// PortRange is inclusive at both ends.
type PortRange struct{ Min, Max uint16 }

// ICMPMatch matches a type, a code, or both. A negative value is absent. It
// matches ICMP in IPv4 (protocol 1) and ICMPv6 in IPv6 (protocol 58), and
// nothing else, whether or not the rule names a protocol.
type ICMPMatch struct{ Type, Code int16 }

// Match is one end of a packet: all that is present must hold. Within Nets,
// and within the union of Ports and PortSets, any one suffices. A Not list
// holds when none of its entries matches, and NotNets only for packets of a
// family that it has an entry of. A rule with any port criterion at either end,
// negated ones included, matches TCP, UDP and SCTP only. Nets are masked, sorted
// and do not overlap; Ports are sorted and do not touch.
type Match struct {
	Nets, NotNets         []netip.Prefix
	Sets                  []SetID // address must be in every one (at most one is usual)
	NotSets               []SetID // address must be in none
	Ports, NotPorts       []PortRange
	PortSets, NotPortSets []SetID // (address, protocol, port) sets
}

// Rule is a rule of the model with selectors resolved to sets and names to
// numbers. It is not tied to a family.
type Rule struct {
	Action    Action
	IPVersion uint8 // 4, 6, or 0 for both
	// Proto and NotProto are IP protocol numbers. HasProto tells presence;
	// Never marks a rule that nothing can match (an unknown protocol name).
	Proto, NotProto       uint8
	HasProto, HasNotProto bool
	Never                 bool
	// KeepFlows spares established flows that the rule would deny.
	KeepFlows     bool
	ICMP, NotICMP *ICMPMatch
	Src, Dst      Match
	// Index is the rule's place in its list, from 0, for explain and counters.
	// The one rule of a policy that stands in for a bad or missing one has 0.
	Index int
}

// Policy is a policy or profile ready for the data plane. It is immutable.
// Name is the displayed name.
type Policy struct {
	Key             Key
	Name            string
	Tier            string // empty for a profile
	Ingress, Egress []Rule
	// Stage is StageUntracked or StagePreDNAT if the policy is asked there alone,
	// and concerns host endpoints only. Forward: it is asked in StageForward, too.
	Stage   Stage
	Forward bool
	// HasPass tells whether any rule of the direction passes to the next tier.
	HasPass [2]bool
	// Staged: it is asked and counted, and decides nothing.
	Staged bool
}

// TierPolicies is one tier as one endpoint sees it in one direction. A tier
// with no policy for the endpoint in that direction is left out. Where all are
// staged, unmatched packets go to the next tier.
type TierPolicies struct {
	Name        string
	DefaultPass bool // unmatched packets go to the next tier, not to drop
	Policies    []*Policy
}

// Effective is the ordered policy of an endpoint. Endpoints with the same
// effective policy share one *Effective (pointer equality), hence one set of
// chains. ID is a hash of the identity of its parts: the tiers with their
// default actions and the keys of policies and profiles in order, not of the
// rules, so that a policy that changes keeps the chains that jump to it. It is
// immutable: if only rules differ, Flush makes a new Effective with the old ID.
// Pointers are equal within one View; compare IDs across a Flush.
type Effective struct {
	ID       string            // 16 characters of [a-z0-9]
	Stage    Stage             // decides what is asked besides, and what becomes of a packet that no rule matches
	Tiers    [2][]TierPolicies // by Direction
	Profiles []*Policy         // a missing profile is present as one that denies
}

// Endpoint is a local workload endpoint ready for the data plane; immutable. An
// endpoint that is closed because its object is bad, or because another one has
// its interface, is not there at all. One whose addresses all belong to older
// endpoints, or are reserved, is there without Addrs.
type Endpoint struct {
	ID        EndpointID
	Interface string
	MAC       [6]byte // valid if HasMAC
	HasMAC    bool
	MACs      [][6]byte      // which its interface may have, too
	Guest     bool           // it has a gateway of its own, and with it a subnet on its link
	Process   bool           // of the server itself, with the addresses on its loopback: it has no interface, only the name of one
	Addrs     []netip.Addr   // its own addresses, v4 and v6
	Sources   []netip.Prefix // which it may send from besides
	Floating  []Floating     // see FloatingIPs
	OpenStack bool           // its orchestrator is OpenStack
	Effective *Effective
}

// AllMACs are the MAC addresses that it may send from, none if any is.
func (e *Endpoint) AllMACs() [][6]byte {
	if !e.HasMAC {
		return nil
	}
	return append([][6]byte{e.MAC}, e.MACs...)
}

// HostEndpoint is a host endpoint of this node that has an interface; immutable.
// Interfaces are those it has, sorted. One that is Rest has, instead, all that no
// other host endpoint has. Stages are its effective policies: that of StageHost
// first, and of the others those that have any policy.
type HostEndpoint struct {
	Name       string
	Interfaces []string
	Rest       bool
	Stages     []*Effective
}

// At returns the effective policy of a stage, nil if it has none there.
func (h *HostEndpoint) At(s Stage) *Effective {
	for _, e := range h.Stages {
		if e.Stage == s {
			return e
		}
	}
	return nil
}

// Failsafe is a port of host endpoints that is open whatever policy says: as a
// destination, of what comes in or of what goes out. Net, if it is valid, limits
// who is at the other end.
type Failsafe struct {
	Proto uint8
	Port  uint16
	Net   netip.Prefix
}

// SetChange is how a set differs since the last Flush. New means that the set
// came into use (all its members are in Added); Gone that it left use (all it had
// are in Removed).
type SetChange struct {
	Kind           SetKind
	New, Gone      bool
	Added, Removed []Member
}

// Changes names what differs since the last Flush; the values are read from
// the View. It is a hint about where to look, never the truth: a reconciler
// that has lost track ignores it and compares the whole View with the kernel.
type Changes struct {
	Endpoints  map[EndpointID]*Endpoint // nil when it left
	Hosts      map[string]*HostEndpoint // by name; nil when it left
	Effectives map[string]*Effective    // by Effective.ID; nil when it left use
	Policies   map[Key]*Policy          // policies and profiles in use; nil when it left use
	Sets       map[SetID]*SetChange
}

// Empty tells whether nothing changed.
func (c *Changes) Empty() bool {
	return len(c.Endpoints)+len(c.Hosts)+len(c.Effectives)+len(c.Policies)+len(c.Sets) == 0
}

// View is the whole desired policy of this node. It is only valid in the loop
// that owns the Index, between two updates.
type View interface {
	Endpoints() iter.Seq[*Endpoint]   // local endpoints that are not closed
	Hosts() iter.Seq[*HostEndpoint]   // host endpoints of this node that have an interface
	Effectives() iter.Seq[*Effective] // in use by some local endpoint or host endpoint
	Policies() iter.Seq[*Policy]      // policies and profiles in use, once each
	Sets() iter.Seq2[SetID, SetKind]  // in use by some policy in use
	Members(SetID) iter.Seq[Member]   // of a set in use, merged, in any order
}
