// SPDX-License-Identifier: Apache-2.0

package fabric

import "net/netip"

// The words of the file. Each type lists its own for the decoder, which suggests the
// one that a mistyped word is nearest to.

// texts are the constants of a type as words.
func texts[T ~string](list ...T) (words []string) {
	for _, w := range list {
		words = append(words, string(w))
	}
	return words
}

// Model is one of the ways to lay AS numbers over a data centre.
type Model string

// The models.
const (
	ASPerRack       Model = "as-per-rack"
	ASPerServer     Model = "as-per-server"
	DownwardDefault Model = "downward-default"
	Ethernet        Model = "ethernet"
)

// Models lists them.
var Models = []Model{ASPerRack, ASPerServer, DownwardDefault, Ethernet}

func (Model) words() []string { return texts(Models...) }

// Family is an address family.
type Family string

// The families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

func (Family) words() []string { return texts(IPv4, IPv6) }

// Default is the default route of a family.
func (f Family) Default() netip.Prefix {
	if f == IPv4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// SpineKind tells routers from Ethernet switches.
type SpineKind string

// The kinds of spine.
const (
	L2 SpineKind = "l2"
	L3 SpineKind = "l3"
)

func (SpineKind) words() []string { return texts(L2, L3) }

// Share tells whether devices have one AS number together or one each.
type Share string

// The ways to have AS numbers.
const (
	Shared Share = "shared"
	Unique Share = "unique"
)

func (Share) words() []string { return texts(Shared, Unique) }

// Uplink is how servers are attached to their ToR.
type Uplink string

// The ways to attach servers.
const (
	OnSegment  Uplink = "segment"    // one subnet for the rack
	Routed     Uplink = "routed"     // a subnet for each port
	Unnumbered Uplink = "unnumbered" // link-local addresses only (RFC 8950)
)

func (Uplink) words() []string { return texts(OnSegment, Routed, Unnumbered) }

// Attach is how a machine is attached.
type Attach string

// The ways to attach a machine.
const (
	ToSegment Attach = "segment" // of its rack
	ToPort    Attach = "port"    // of its own, of each ToR
)

func (Attach) words() []string { return texts(ToSegment, ToPort) }

// Routing is how the fabric knows the addresses of a machine.
type Routing string

// The ways to know them.
const (
	ByBGP    Routing = "bgp"
	ByStatic Routing = "static" // by routes of its ToRs
)

func (Routing) words() []string { return texts(ByBGP, ByStatic) }

// Announce is how endpoints become routes.
type Announce string

// The ways to announce endpoints.
const (
	OneByOne    Announce = "one-by-one"
	ServerBlock Announce = "server-block" // each server announces its block
	RackBlock   Announce = "rack-block"   // and each ToR that of its rack
)

func (Announce) words() []string { return texts(OneByOne, ServerBlock, RackBlock) }

// External is what happens to a pool's addresses at the border.
type External string

// The ways out.
const (
	NAT       External = "nat"
	Advertise External = "advertise"
)

func (External) words() []string { return texts(NAT, Advertise) }

// ASStyle is the length of AS numbers.
type ASStyle string

// The private ranges of RFC 6996.
const (
	TwoByte  ASStyle = "2byte"
	FourByte ASStyle = "4byte"
)

func (ASStyle) words() []string { return texts(TwoByte, FourByte) }

// Switch is a setting that can be left to the design.
type Switch string

// The settings of a Switch.
const (
	Auto Switch = "auto"
	On   Switch = "on"
	Off  Switch = "off"
)

func (Switch) words() []string { return texts(Auto, On, Off) }

// Authentication of sessions.
type Authentication string

// The ways to authenticate: not at all, RFC 2385, RFC 5925.
const (
	NoAuthentication Authentication = "none"
	MD5              Authentication = "md5"
	TCPAO            Authentication = "tcp-ao"
)

func (Authentication) words() []string { return texts(NoAuthentication, MD5, TCPAO) }

// On tells whether there is any.
func (a Authentication) On() bool { return a == MD5 || a == TCPAO }

// MaxPrefixAction is what happens at a session's limit of prefixes.
type MaxPrefixAction string

// What can happen.
const (
	MaxPrefixWarning MaxPrefixAction = "warning"
	MaxPrefixRestart MaxPrefixAction = "restart"
	MaxPrefixOff     MaxPrefixAction = "off"
)

func (MaxPrefixAction) words() []string {
	return texts(MaxPrefixWarning, MaxPrefixRestart, MaxPrefixOff)
}

// InRackSessions is who peers with whom inside a rack that is one AS.
type InRackSessions string

// The ways to peer inside a rack.
const (
	RackReflector InRackSessions = "reflector"
	RackMesh      InRackSessions = "mesh"
)

func (InRackSessions) words() []string { return texts(RackReflector, RackMesh) }

// ReflectorPlace is what reflects inside a rack.
type ReflectorPlace string

// The places of a rack's reflector.
const (
	OnToR      ReflectorPlace = "tor"
	OnServer   ReflectorPlace = "server"
	Standalone ReflectorPlace = "standalone"
)

func (ReflectorPlace) words() []string { return texts(OnToR, OnServer, Standalone) }

// Placement is which planes a reflector of an Ethernet fabric serves.
type Placement string

// The placements; NoReflectors is a full mesh.
const (
	PerPlane     Placement = "per-plane"
	AllPlanes    Placement = "all-planes"
	NoReflectors Placement = "none"
)

func (Placement) words() []string { return texts(PerPlane, AllPlanes, NoReflectors) }

// Hosts is what reflectors of an Ethernet fabric run on.
type Hosts string

// The hosts of reflectors.
const (
	Dedicated Hosts = "dedicated"
	OnServers Hosts = "servers"
)

func (Hosts) words() []string { return texts(Dedicated, OnServers) }

// DefaultFrom is who makes the default route of Downward Default.
type DefaultFrom string

// The origins of the default route.
const (
	FromSpine  DefaultFrom = "spine"
	FromToR    DefaultFrom = "tor"
	FromBorder DefaultFrom = "border"
)

func (DefaultFrom) words() []string { return texts(FromSpine, FromToR, FromBorder) }

// Fallback is the way for packets that reach a spine which has lost its link
// to their rack.
type Fallback string

// The fallbacks.
const (
	NoFallback  Fallback = "none"
	InterSpine  Fallback = "inter-spine"
	BorderRoute Fallback = "border"
	DualToR     Fallback = "dual-tor"
)

func (Fallback) words() []string { return texts(NoFallback, InterSpine, BorderRoute, DualToR) }

// Software is what speaks BGP on a device.
type Software string

// The programs.
const (
	Muslin Software = "muslin"
	FRR    Software = "frr"
	BIRD   Software = "bird"
	GoBGP  Software = "gobgp"
)

func (Software) words() []string { return texts(Muslin, FRR, BIRD, GoBGP) }

// Table is a table of switching silicon.
type Table string

// The tables: exact match of whole addresses, and longest prefix match.
const (
	HostTable Table = "host"
	LPMTable  Table = "lpm"
)

func (Table) words() []string { return texts(HostTable, LPMTable) }
