// SPDX-License-Identifier: Apache-2.0

package fabric

import "net/netip"

// What a file says it is.
const (
	APIVersion = "fabric/v1"
	KindFabric = "Fabric"
	KindDesign = "FabricDesign"
)

// Fabric is the short description of a data centre. Parse fills every field
// that the file leaves out and that the model has.
type Fabric struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`

	given Spec    // what the file says, without defaults
	lines lines   // where in the file the fields are
	whole *Fabric // of which it is a smaller copy; nil if it is none
}

// Metadata names a Fabric or a Design.
type Metadata struct {
	Name string `json:"name"`
}

// Spec is what a Fabric consists of.
type Spec struct {
	Model      Model       `json:"model"`
	Families   []Family    `json:"families,omitempty"`
	Spine      SpineSpec   `json:"spine,omitzero"`
	Racks      Racks       `json:"racks"`
	ToRs       ToRSpec     `json:"tors,omitzero"`
	Servers    ServerSpec  `json:"servers"`
	Endpoints  Endpoints   `json:"endpoints"`
	Anycast    []Anycast   `json:"anycast,omitempty"`
	Pools      Pools       `json:"pools,omitzero"`
	BGP        BGPSpec     `json:"bgp,omitzero"`
	InRack     InRack      `json:"inRack,omitzero"`
	Reflectors Reflectors  `json:"routeReflectors,omitzero"`
	Downward   Downward    `json:"downwardDefault,omitzero"`
	Machines   []Machine   `json:"machines,omitempty"`
	Borders    []Border    `json:"border,omitempty"`
	Switches   SwitchSpecs `json:"switches,omitzero"`
	Rates      Rates       `json:"rates,omitzero"`
	Plan       Plan        `json:"plan,omitzero"`
	Overrides  Overrides   `json:"overrides,omitzero"`
}

// SpineSpec is the top of the fabric: routers, or isolated Ethernet planes.
type SpineSpec struct {
	Kind  SpineKind `json:"kind,omitempty"`
	Count int       `json:"count,omitempty"` // of spine switches, each of which is a plane if Kind is l2
	AS    Share     `json:"as,omitempty"`    // of routers
}

// Racks is a count of equal racks, or a list of racks that differ.
type Racks struct {
	Count int
	ToRs  int // in each rack, where the list does not say
	List  []Rack
}

// Rack is one rack of a list. What it leaves out is as everywhere.
type Rack struct {
	Name    string `json:"name"`
	Servers int    `json:"servers,omitempty"`
	ToRs    int    `json:"tors,omitempty"`
	// ToR names the entry of the catalogue that its ToRs are, where they are others than Switches.ToR says.
	ToR string `json:"tor,omitempty"`
}

// ToRSpec is what holds for all top-of-rack switches.
type ToRSpec struct {
	AS  Share `json:"as,omitempty"`  // with AS per server: of each ToR, or one transit AS for all
	ISL bool  `json:"isl,omitempty"` // a link between the two ToRs of a rack
}

// ServerSpec is what holds for all servers.
type ServerSpec struct {
	PerRack int    `json:"perRack"`
	Uplinks Uplink `json:"uplinks,omitempty"`
}

// Endpoints is what each server has.
type Endpoints struct {
	PerServer int      `json:"perServer"`
	Announce  Announce `json:"announce,omitempty"`
	// Strays is how many endpoints may be outside of their blocks, in all of the fabric: each is a route of its own.
	Strays int    `json:"strays,omitempty"`
	Growth Growth `json:"growth,omitzero"`
}

// Growth is how many more endpoints there will be.
type Growth struct {
	PercentPerYear int `json:"percentPerYear,omitempty"`
	Years          int `json:"years,omitempty"`
}

// Anycast is one address that several servers have.
type Anycast struct {
	IP      netip.Addr `json:"ip"`
	Servers []string   `json:"servers"`
}

// Pools is where addresses and AS numbers are taken from.
type Pools struct {
	Endpoints []EndpointPool `json:"endpoints,omitempty"`
	Loopbacks []netip.Prefix `json:"loopbacks,omitempty"`
	Links     []netip.Prefix `json:"links,omitempty"`
	AS        ASPool         `json:"as,omitzero"`
}

// EndpointPool is a range of endpoint addresses.
type EndpointPool struct {
	CIDR     netip.Prefix `json:"cidr"`
	External External     `json:"external,omitempty"`
}

// ASPool is where AS numbers begin, and of which length they are.
type ASPool struct {
	Start uint32  `json:"start,omitempty"`
	Style ASStyle `json:"style,omitempty"`
}

// BGPSpec is what holds for all sessions.
type BGPSpec struct {
	Timers          Timers          `json:"timers,omitzero"`
	BFD             BFD             `json:"bfd,omitzero"`
	GracefulRestart GracefulRestart `json:"gracefulRestart,omitzero"`
	Roles           Switch          `json:"roles,omitempty"` // RFC 9234
	Authentication  Authentication  `json:"authentication,omitempty"`
	MaxPrefix       MaxPrefixAction `json:"maxPrefix,omitempty"`
	Advanced        []Advanced      `json:"advanced,omitempty"`
}

// Timers of RFC 4271 section 10.
type Timers struct {
	Hold Duration `json:"hold,omitempty"`
}

// BFD is the interval of control packets on each kind of session, three of
// which may be lost; off where failures are seen by the carrier.
type BFD struct {
	Segment Duration `json:"segment,omitempty"`
	Planes  Duration `json:"planes,omitempty"`
	Links   Duration `json:"links,omitempty"`
}

// GracefulRestart is for how long forwarding is kept (RFC 4724).
type GracefulRestart struct {
	VRouter Duration `json:"vrouter,omitempty"`
	RR      Duration `json:"rr,omitempty"`
}

// Advanced is the acknowledgement of a setting outside of the usual.
type Advanced struct {
	Name   string `json:"name"` // allowas-in, as-override or remove-private-as
	Reason string `json:"reason"`
}

// InRack is iBGP inside a rack, with AS per rack.
type InRack struct {
	Sessions  InRackSessions `json:"sessions,omitempty"`
	Reflector ReflectorPlace `json:"reflector,omitempty"`
}

// Reflectors is iBGP on an Ethernet fabric.
type Reflectors struct {
	Placement Placement `json:"placement,omitempty"`
	PerPlane  int       `json:"perPlane,omitempty"` // or in all, if they serve all planes
	Hosts     Hosts     `json:"hosts,omitempty"`
	AddPath   bool      `json:"addPath,omitempty"` // RFC 7911
}

// Downward is what is peculiar to Downward Default.
type Downward struct {
	Origin     DefaultFrom `json:"origin,omitempty"`
	Fallback   Fallback    `json:"fallback,omitempty"`
	ASOverride bool        `json:"asOverride,omitempty"` // at both tiers, so that more than the default may travel down
	// Exceptions is how many endpoints that left the block of their server or rack a ToR has a route to: a
	// budget. Without one there are no such routes.
	Exceptions int `json:"exceptions,omitempty"`
}

// Machine is bare metal or an appliance in a rack: no vRouter, and addresses that are its
// own. In the plan of its rack it has the place of a server, counted from the end.
type Machine struct {
	Name string `json:"name"`
	Rack string `json:"rack"`
	// Attach is to the segment of its rack, or to a port of its own of each ToR.
	Attach  Attach   `json:"attach,omitempty"`
	Routing Routing  `json:"routing,omitempty"`
	AS      uint32   `json:"as,omitempty"` // with BGP; that of a server in its place without it
	Runs    Software `json:"software,omitempty"`
	// Addresses is how many it has, from the endpoint pools. Prefixes are others.
	Addresses int            `json:"addresses,omitempty"`
	Prefixes  []netip.Prefix `json:"prefixes,omitempty"`
}

// Border is a router that leads out of the fabric.
type Border struct {
	Name    string `json:"name"`
	AS      uint32 `json:"as"`
	Default bool   `json:"default,omitempty"` // it announces the default route inwards
}

// SwitchSpecs is what the switches can hold.
type SwitchSpecs struct {
	ToR   SwitchSpec `json:"tor,omitzero"`
	Spine SwitchSpec `json:"spine,omitzero"`
}

// SwitchSpec names an entry of the catalogue, or says itself what a switch
// holds; what it says itself goes before the catalogue.
type SwitchSpec struct {
	Catalog      string   `json:"catalog,omitempty"`
	Software     Software `json:"software,omitempty"`
	RAM          Bytes    `json:"ram,omitempty"`
	HostTable    Count    `json:"hostTable,omitempty"`
	LPMTable     Count    `json:"lpmTable,omitempty"`
	HostRoutesIn Table    `json:"hostRoutesIn,omitempty"`
	Peers        Count    `json:"peers,omitempty"`
	ECMP         Count    `json:"ecmp,omitempty"`
}

// Plan is what addresses and AS numbers are reserved for. A fabric that grows
// within its plan keeps all that it has.
type Plan struct {
	ServersPerRack     int `json:"serversPerRack,omitempty"`
	EndpointsPerServer int `json:"endpointsPerServer,omitempty"`
}
