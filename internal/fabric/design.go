// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
)

// Design is a fabric worked out: each device with its interfaces, addresses,
// sessions and originations. It refers by name, never by pointer, so that a
// person can write one.
type Design struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   Metadata       `json:"metadata"`
	Model      Model          `json:"model,omitempty"`  // empty: written by hand, after no model
	Edited     bool           `json:"edited,omitempty"` // by hand, so that the formulas of the model do not hold
	Families   []Family       `json:"families"`
	Pools      []EndpointPool `json:"pools,omitempty"`
	Growth     Growth         `json:"growth,omitzero"`
	Strays     int            `json:"strays,omitempty"`   // endpoints that may be outside of their blocks, for the capacity of switches
	Advanced   []Advanced     `json:"advanced,omitempty"` // acknowledged settings
	Platforms  []Platform     `json:"platforms,omitempty"`
	Filters    []Filter       `json:"filters,omitempty"`
	Profiles   []Profile      `json:"profiles"`
	Segments   []Segment      `json:"segments"`
	Meshes     []Mesh         `json:"meshes,omitempty"`
	Devices    []Device       `json:"devices"`

	lines lines // where in the file the fields are; empty unless it was parsed
}

// Role is what a device is for.
type Role string

// The roles.
const (
	RoleServer    Role = "server"
	RoleToR       Role = "tor"
	RoleSpine     Role = "spine"
	RoleReflector Role = "reflector"
	RoleBorder    Role = "border"
	RoleMachine   Role = "machine" // bare metal or an appliance
)

func (Role) words() []string {
	return texts(RoleServer, RoleToR, RoleSpine, RoleReflector, RoleBorder, RoleMachine)
}

// Device is a router. Ethernet switches that do not route are not devices but
// part of a Segment.
type Device struct {
	Name     string     `json:"name"`
	Role     Role       `json:"role"`
	Rack     string     `json:"rack,omitempty"`
	Software Software   `json:"software"`
	Platform string     `json:"platform,omitempty"` // name of a Platform
	AS       uint32     `json:"as"`
	RouterID netip.Addr `json:"routerId"`
	// ClusterID of a reflector (RFC 4456); the router's ID if it is not given.
	ClusterID netip.Addr `json:"clusterId,omitzero"`
	// Host is the device that it runs on, if it has no interface of its own
	// and is reached by way of that one.
	Host string `json:"host,omitempty"`
	// Traditional: FRR's profile of that name, in which eBGP needs a policy for
	// every direction (RFC 8212).
	Traditional bool `json:"traditional,omitempty"`
	// Multipath is how many equal paths are used at once; 0 and 1 are one.
	Multipath int `json:"multipath,omitempty"`
	// MultipathRelax: paths are equal if only the AS numbers in them differ.
	MultipathRelax bool        `json:"multipathRelax,omitempty"`
	Interfaces     []Interface `json:"interfaces,omitempty"`
	Sessions       []Session   `json:"sessions,omitempty"`
	Originate      []Origin    `json:"originate,omitempty"`
	// Discard are routes whose packets are dropped where nothing more
	// specific is known.
	Discard []netip.Prefix `json:"discard,omitempty"`
	// Static are routes to machines that speak no BGP. The device announces
	// them as origins of the kind static.
	Static  []StaticRoute `json:"static,omitempty"`
	VRouter *VRouter      `json:"vrouter,omitempty"`
	// Load is what a server sends out of its rack at most; 0 if it is not known.
	Load Rate `json:"load,omitempty"`
}

// Originates tells whether a device announces something of a kind.
func (d *Device) Originates(kind OriginKind) bool {
	return slices.ContainsFunc(d.Originate, func(o Origin) bool { return o.Kind == kind })
}

// Cluster is the cluster ID of a device that reflects.
func (d *Device) Cluster() netip.Addr {
	if d.ClusterID.IsValid() {
		return d.ClusterID
	}
	return d.RouterID
}

// StaticRoute leads to Count consecutive prefixes of a machine, by its address on a
// segment of the device.
type StaticRoute struct {
	Prefix  netip.Prefix `json:"prefix"`
	Count   int          `json:"count"`
	Via     netip.Addr   `json:"via"`
	Machine string       `json:"machine"`
}

// VRouter is how a server treats its endpoints.
type VRouter struct {
	// PreferLocal: an endpoint here goes before a route to it learned by BGP.
	PreferLocal bool `json:"preferLocal"`
	// LocalGateway: 169.254.1.1 is an address of the endpoints' interfaces,
	// rather than one that proxy ARP answers for.
	LocalGateway bool `json:"localGateway"`
	// IgnoreLinkDown: the kernel uses no route of a port without carrier.
	IgnoreLinkDown bool `json:"ignoreLinkDown"`
}

// Interface attaches a device to a Segment. The loopback, lo, is on none, and
// has the addresses that the device is known by.
type Interface struct {
	Name      string         `json:"name"`
	Segment   string         `json:"segment,omitempty"`
	Addresses []netip.Prefix `json:"addresses,omitempty"` // with the subnet's length; none if unnumbered
}

// SegmentKind is what kind of Ethernet a Segment is.
type SegmentKind string

// The kinds of Segment.
const (
	Link        SegmentKind = "link"  // a cable with two ends: carrier tells of a failure
	RackSegment SegmentKind = "rack"  // a bridge in the ToR, and the cables to the servers
	Plane       SegmentKind = "plane" // an isolated Ethernet fabric
)

func (SegmentKind) words() []string { return texts(Link, RackSegment, Plane) }

// Segment is one Ethernet, and one subnet of each family unless it is
// unnumbered.
type Segment struct {
	Name    string         `json:"name"`
	Kind    SegmentKind    `json:"kind"`
	Subnets []netip.Prefix `json:"subnets,omitempty"`
	// Switch is the device or switch that carries it and fails with it: the
	// ToR of a rack's segment, the spine switch of a plane. None for a cable.
	Switch string `json:"switch,omitempty"`
	MTU    int    `json:"mtu,omitempty"`
	Rate   Rate   `json:"rate,omitempty"` // of each port; 0 if it is not known
}

// Session is one end of a BGP adjacency. With addresses of both families it
// is one TCP connection for each, which carries the routes of its family;
// without an address, one over link-local addresses that carries both (RFC
// 8950).
type Session struct {
	Peer    string       `json:"peer"`
	Segment string       `json:"segment,omitempty"` // empty: between loopbacks
	PeerAS  uint32       `json:"peerAS"`
	Address []netip.Addr `json:"address,omitempty"` // of the peer
	Profile string       `json:"profile"`
}

// Mismatch is why two ends of a session do not come to terms in a family, though each is there: empty if they do. peer is
// the device that s is with, and back its end. Whether they agree on AS numbers is not asked.
func Mismatch(d, peer *Device, s, back *Session, mine, other *Profile, family Family) string {
	to, own := s.address(family), d.Interface(s.Segment)
	key := func(p *Profile) Authentication { return cmp.Or(p.Authentication, NoAuthentication) }
	switch {
	case len(s.Address) == 0 != (len(back.Address) == 0):
		return "one end has addresses, and the other those of its port"
	case to.IsValid() != back.address(family).IsValid():
		return fmt.Sprintf("one end has an address of %s, and the other has none", family)
	case peer.Host != "" && peer.Interface(s.Segment) == nil: // it is behind its host, which has rules of its own
	case to.IsValid() && !peer.has(s.Segment, to):
		return fmt.Sprintf("%s looks for %s at %s, which it does not have there", d.Name, peer.Name, to)
	case to.IsValid() && own != nil && !slices.ContainsFunc(own.Addresses, func(p netip.Prefix) bool { return p.Masked().Contains(to) }):
		return fmt.Sprintf("%s is in no subnet of %s of %s", to, own.Name, d.Name)
	case key(mine) != key(other):
		return fmt.Sprintf("one end authenticates by %s, the other by %s", min(key(mine), key(other)), max(key(mine), key(other)))
	case mine.Role != "" && other.Role != "" && mine.Role != counterpart[other.Role]:
		return fmt.Sprintf("one end is %s, the other %s (RFC 9234 section 4.2)", min(mine.Role, other.Role), max(mine.Role, other.Role))
	}
	return ""
}

// counterpart is the role that the peer of one must have.
var counterpart = map[PeerRole]PeerRole{Provider: Customer, Customer: Provider, PeerPeer: PeerPeer}

// address is that of the peer in a family; invalid if the session has none.
func (s *Session) address(family Family) netip.Addr {
	for _, a := range s.Address {
		if FamilyOf(a) == family {
			return a
		}
	}
	return netip.Addr{}
}

// has tells whether a device has an address at its port on a segment; without such a port, or for a session between
// loopbacks, any is meant.
func (d *Device) has(segment string, a netip.Addr) bool {
	at := d.Interface(segment)
	for i := range d.Interfaces {
		x := &d.Interfaces[i]
		if (at == nil || x == at) && slices.ContainsFunc(x.Addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return true
		}
	}
	return false
}

// Mesh is sessions over one Segment between any two of its members that Kind
// means. Each member expects the other's own AS number.
type Mesh struct {
	Name    string   `json:"name"`
	Kind    MeshKind `json:"kind"`
	Segment string   `json:"segment"`
	Profile string   `json:"profile"`
	Members []string `json:"members"`
}

// Joins tells whether two members have a session.
func (m *Mesh) Joins(x, y *Device) bool {
	return x.Name != y.Name && (x.AS == y.AS) == (m.Kind == MeshIBGP)
}

// MeshKind is which pairs of a Mesh's members have a session.
type MeshKind string

// The kinds of Mesh.
const (
	MeshIBGP MeshKind = "ibgp" // those with the same AS number
	MeshEBGP MeshKind = "ebgp" // those with different ones
)

func (MeshKind) words() []string { return texts(MeshIBGP, MeshEBGP) }

// Profile is the settings of one end of a session.
type Profile struct {
	Name string `json:"name"`
	// Role by RFC 9234 of this end.
	Role PeerRole `json:"role,omitempty"`
	// ReflectorClient: the peer is a client of this reflector (RFC 4456).
	ReflectorClient bool        `json:"reflectorClient,omitempty"`
	NextHopSelf     NextHopSelf `json:"nextHopSelf,omitempty"`
	// LocalPref of what is received, unless 0.
	LocalPref       uint32          `json:"localPref,omitempty"`
	AllowOwnAS      int             `json:"allowOwnAS,omitempty"` // allowas-in
	ASOverride      bool            `json:"asOverride,omitempty"`
	RemovePrivateAS bool            `json:"removePrivateAS,omitempty"`
	Default         DefaultRoute    `json:"default,omitempty"`
	Import          string          `json:"import,omitempty"` // name of a Filter; empty: everything
	Export          string          `json:"export,omitempty"`
	OwnOnly         bool            `json:"ownOnly,omitempty"` // the peer is told nothing that was learned
	AddPath         AddPath         `json:"addPath,omitempty"`
	BFD             Duration        `json:"bfd,omitempty"` // between packets; three may be lost
	Hold            Duration        `json:"hold,omitempty"`
	GracefulRestart Duration        `json:"gracefulRestart,omitempty"`
	MaxPrefix       int             `json:"maxPrefix,omitempty"`
	MaxPrefixAction MaxPrefixAction `json:"maxPrefixAction,omitempty"`
	Authentication  Authentication  `json:"authentication,omitempty"`
}

// PeerRole is a role of RFC 9234 section 3.
type PeerRole string

// The roles that fabrics use.
const (
	Provider PeerRole = "provider"
	Customer PeerRole = "customer"
	PeerPeer PeerRole = "peer"
)

func (PeerRole) words() []string { return texts(Provider, Customer, PeerPeer) }

// NextHopSelf is for which routes the next hop is set on an iBGP session. On
// an eBGP session it is set anyway, unless it lies in the subnet of the session
// (RFC 4271 section 5.1.3), in which case NextHopSelfAll sets it still.
type NextHopSelf string

// The settings of next-hop-self.
const (
	NextHopSelfNone NextHopSelf = ""
	NextHopSelfEBGP NextHopSelf = "ebgp" // for routes that came by eBGP
	NextHopSelfAll  NextHopSelf = "all"
)

func (NextHopSelf) words() []string { return texts(NextHopSelfEBGP, NextHopSelfAll) }

// DefaultRoute is whether a default route is made for the peer.
type DefaultRoute string

// The ways to make a default route.
const (
	NoDefault     DefaultRoute = ""
	AlwaysDefault DefaultRoute = "always" // whether this device has one or not
)

func (DefaultRoute) words() []string { return texts(AlwaysDefault) }

// AddPath is whether several paths of a prefix are exchanged (RFC 7911).
type AddPath string

// The directions of ADD-PATH.
const (
	AddPathNone    AddPath = ""
	AddPathSend    AddPath = "send"
	AddPathReceive AddPath = "receive"
	AddPathBoth    AddPath = "both"
)

func (AddPath) words() []string { return texts(AddPathSend, AddPathReceive, AddPathBoth) }

// Sends and Receives tell whether this end does.
func (a AddPath) Sends() bool    { return a == AddPathSend || a == AddPathBoth }
func (a AddPath) Receives() bool { return a == AddPathReceive || a == AddPathBoth }

// Filter decides which prefixes pass. The first rule that matches counts;
// what none matches is denied.
type Filter struct {
	Name  string       `json:"name"`
	Rules []FilterRule `json:"rules"`
}

// FilterRule matches the prefixes inside Within whose length is between Min and
// Max. Without Max, any length from Min on; without both, Within itself.
type FilterRule struct {
	Permit bool         `json:"permit"`
	Within netip.Prefix `json:"within"`
	Min    int          `json:"min,omitempty"`
	Max    int          `json:"max,omitempty"`
}

// OriginKind is why a prefix is announced.
type OriginKind string

// The kinds of Origin.
const (
	OriginEndpoints OriginKind = "endpoints"
	OriginBlock     OriginKind = "block"     // one prefix for all endpoints of a server
	OriginRack      OriginKind = "rack"      // one for all endpoints of a rack, made by the ToR while it has one of them, instead of them
	OriginAnycast   OriginKind = "anycast"   // one that other devices announce too
	OriginLoopback  OriginKind = "loopback"  // the device itself
	OriginSubnet    OriginKind = "subnet"    // a rack's segment
	OriginDefault   OriginKind = "default"   // the default route, of a border
	OriginMoved     OriginKind = "exception" // an endpoint outside of its block or rack
	OriginStatic    OriginKind = "static"    // addresses of a machine that speaks no BGP
)

func (OriginKind) words() []string {
	return texts(OriginEndpoints, OriginBlock, OriginRack, OriginAnycast, OriginLoopback, OriginSubnet, OriginDefault, OriginMoved, OriginStatic)
}

// Origin is Count consecutive prefixes of one length, of which Prefix is the
// first. Whatever happens to one of them in BGP happens to all.
type Origin struct {
	Kind   OriginKind   `json:"kind"`
	Prefix netip.Prefix `json:"prefix"`
	Count  int          `json:"count"`
	// Endpoints that a block stands for.
	Endpoints int `json:"endpoints,omitempty"`
}

// Each lists the prefixes of an origin.
func (o Origin) Each() iter.Seq[netip.Prefix] {
	return Consecutive(o.Prefix, o.Count)
}

// Last is the last address of the last prefix.
func (o Origin) Last() netip.Addr {
	a, _ := last(o.Prefix, o.Count)
	return a
}

// Each lists the prefixes that a static route leads to.
func (r StaticRoute) Each() iter.Seq[netip.Prefix] {
	return Consecutive(r.Prefix, r.Count)
}

// Platform is what a switch can hold, each table by itself. What is 0 is not
// known, and not checked.
type Platform struct {
	Name         string `json:"name"`
	RAM          Bytes  `json:"ram,omitempty"`
	MAC          Count  `json:"mac,omitempty"`
	HostTable    Count  `json:"hostTable,omitempty"`
	LPMTable     Count  `json:"lpmTable,omitempty"`
	HostRoutesIn Table  `json:"hostRoutesIn,omitempty"` // where routes to single addresses are
	Peers        Count  `json:"peers,omitempty"`
	ECMP         Count  `json:"ecmp,omitempty"` // next hops of a group
	URPF         bool   `json:"urpf,omitempty"` // strict, in hardware
	Hash         string `json:"hash,omitempty"` // what chooses among equal paths, inputs and seed, in any words; those with the same choose alike
	Source       string `json:"source,omitempty"`
}
