// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"time"

	"github.com/muslin-net/muslin/internal/secret"
)

// The defaults of a session inside a fabric.
const (
	DefaultPort        = 179
	DefaultHoldTime    = 9 * time.Second
	DefaultKeepalive   = 3 * time.Second
	DefaultRestartTime = 120 * time.Second

	// TimerOff, as a time, is a timer that never expires, where 0 stands for the default.
	TimerOff = time.Duration(-1)
)

// Config is everything the speaker is told from outside. It is handed over
// whole; the speaker computes the difference and touches only what changed.
type Config struct {
	ASN      uint32
	RouterID netip.Addr // IPv4
	// Listen holds the addresses to accept connections on; empty means none.
	Listen []netip.AddrPort
	// RestartTime is what we announce for graceful restart (RFC 4724); 0
	// means DefaultRestartTime. With TimerOff it is not offered, and no routes of a peer outlive its connection.
	RestartTime time.Duration
	// NextHop4 and NextHop6 are this node's own addresses, used as next hop
	// for what it originates and for next-hop-self. An invalid one means that
	// the family is not offered.
	NextHop4, NextHop6 netip.Addr
	// Own are further addresses of this node: none is the next hop of what others say.
	Own []netip.Addr
	// ClusterID makes this speaker a route reflector (RFC 4456) for the peers
	// that are clients; IPv4, invalid for none.
	ClusterID netip.Addr
	Peers     []PeerConfig
	// PeersUnknown says that there are more peers, whose addresses are not known yet:
	// they are waited for as those are that have not sent their tables.
	PeersUnknown bool
	Ranges       []RangeConfig
	// ControlPlaneOnly says that this node forwards nothing by what it learns:
	// NextBest names nothing.
	ControlPlaneOnly bool
}

// PeerConfig is one neighbour. Addr and LocalAddr are of one family; the
// session carries every family that both ends offer. If Addr is link-local,
// LocalAddr is ours on the same interface, both with it as their zone, and our next hop.
type PeerConfig struct {
	Name      string // for people: mesh node name or BGPPeer name
	Addr      netip.AddrPort
	LocalAddr netip.Addr // source address; invalid means the kernel's choice
	ASN       uint32
	ASNs      [][2]uint32 // others that it may have, first and last of each row: its OPEN says which
	LocalASN  uint32      // 0 means Config.ASN
	Passive   bool        // never connect, only accept
	// HoldTime is what we offer, 3 s at least or TimerOff; 0 means
	// DefaultHoldTime. The smaller offer of the two ends holds.
	HoldTime  time.Duration
	Keepalive time.Duration // 0 means DefaultKeepalive, or a third of a shorter HoldTime
	// SendHold is after how long of not reading what we send a peer is given up
	// (RFC 9687), or TimerOff. One that is not longer than the hold time, as
	// 0, means twice that.
	SendHold time.Duration
	// RestartTime is what we announce to this peer for graceful restart, and the upper
	// bound for keeping its stale routes; 0 means Config.RestartTime, and what it announces; or TimerOff.
	RestartTime time.Duration
	// TTLSecurity is how many hops away the peer is at most, 1 for one on the
	// same link: packets from further away are dropped (RFC 5082). 0 is off.
	TTLSecurity uint8
	// Password signs the segments of the session (RFC 2385), at most 80 octets.
	Password secret.Text
	// MaxPrefixes bounds the paths that are taken from the peer, of IPv4 and of
	// IPv6; 0 is no bound. OverLimit says what is done about more.
	MaxPrefixes [2]int
	OverLimit   LimitAction
	// Shutdown keeps the session down; the text is told to the peer (RFC 9003).
	Shutdown     bool
	ShutdownText string
	NextHopMode  NextHopMode
	// SessionNextHop: where this node is the next hop, that is its end of the
	// session rather than NextHop4 or NextHop6, for routes of the session's family.
	SessionNextHop bool
	// Client makes an iBGP peer a client of this route reflector: what comes
	// from it goes to all iBGP peers, and what comes from any goes to it. It
	// is without effect when Config.ClusterID is not set.
	Client bool
	// AddPathReceive offers to take several paths per prefix (RFC 7911), and
	// AddPathSend, when not 0, to send so many of the best.
	AddPathReceive bool
	AddPathSend    int
	// PassUnknown takes optional transitive attributes of unknown type over and
	// passes them on with the routes (RFC 4271 section 9); otherwise they are
	// discarded.
	PassUnknown bool
	// Role is what we are to an eBGP peer, and RoleStrict has the peer say what it
	// is (RFC 9234).
	Role       Role
	RoleStrict bool
	// AllowLocalAS is how often our own AS number may be in a received path.
	AllowLocalAS uint8
	Rewrite      Rewrite
	// ExtendedNextHop offers IPv4 routes with IPv6 next hops (RFC 8950). Where the
	// peer takes them, ours is announced that way on a session over IPv6, and where
	// NextHop4 is not set.
	ExtendedNextHop bool
	// Import and Export are applied to each route before it enters Adj-RIB-In's
	// accepted set, and before it enters Adj-RIB-Out. Peers with an equal
	// ExportID, local AS, Rewrite and session type share an export group. A nil
	// policy accepts. Policies are called by the loop alone.
	Import, Export     Policy
	ImportID, ExportID string
}

// Rewrite is what a session has done to everything that is sent on it, beside
// its policy. It is comparable: peers with an equal one can share a group.
type Rewrite struct {
	// ASOverride puts our AS number in the place of the peer's in the path,
	// so that sites with one AS number reach each other through us. eBGP only.
	ASOverride bool
	// RemovePrivateAS takes the AS numbers of RFC 6996 out of the path, except
	// the peer's own, by which it knows its routes. eBGP only.
	RemovePrivateAS bool
	// Prepend repeats our AS number so many times more. eBGP only.
	Prepend uint8
	// DefaultRoute sends a default route of each family to this node.
	DefaultRoute bool
	// GracefulShutdown is RFC 8326: the community to eBGP peers, LOCAL_PREF 0 to iBGP
	// peers, so that they use other paths before the session ends.
	GracefulShutdown bool
	// Shared4 and Shared6 are the subnets that we have in common with the
	// peer, for NextHopThirdParty.
	Shared4, Shared6 netip.Prefix
}

// NextHopMode says what next hop is advertised.
type NextHopMode uint8

const (
	// NextHopAuto is self for what we originate and towards eBGP peers, self for
	// eBGP-learned routes towards iBGP peers, unchanged otherwise.
	NextHopAuto NextHopMode = iota
	// NextHopSelf always sets our own address.
	NextHopSelf
	// NextHopKeep never changes a learned next hop.
	NextHopKeep
	// NextHopThirdParty is NextHopAuto, but keeps a learned next hop in a subnet
	// that we share with an eBGP peer (RFC 4271 section 5.1.3): the peer then
	// sends straight to it.
	NextHopThirdParty
)

// Route is one path to a prefix as policies and outsiders see it. Slices are
// shared: never change them in place.
type Route struct {
	Prefix       netip.Prefix
	NextHop      netip.Addr
	LocalPref    uint32
	HasLocalPref bool
	MED          uint32
	HasMED       bool
	Origin       uint8
	ASPath       []uint32 // flat, leftmost first; the members of an AS_SET stand where the set does
	Communities  []uint32
	Extended     [][8]byte
	Large        [][3]uint32
	HasOTC       bool // ONLY_TO_CUSTOMER (RFC 9234)
	OTC          uint32
	Peer         netip.Addr // learned from; invalid when originated here
	EBGP         bool       // learned over an eBGP session
	Stale        bool
	Local        bool       // originated here
	Interface    string     // through which it is reached, empty if unknown: on import, no next hop is resolved yet
	Originator   netip.Addr // ORIGINATOR_ID; invalid if there is none
}

// Policy judges a route. It must not change it, nor keep it.
type Policy func(*Route) Verdict

// Origination is a prefix that this node announces. Next hop is the node itself.
type Origination struct {
	Prefix    netip.Prefix
	LocalPref uint32
	Interface string // through which it is reached, for policies; empty if it is not one
	// NoExport: peers are told it with the community NO_EXPORT (RFC 1997), so that it goes no further than their AS.
	NoExport bool
}

// Best is the outcome of path selection for a prefix: the equal-cost next hops
// of learned paths, in address order. No hops means that the prefix is gone or is our
// own (what a node originates always wins over what it learns).
type Best struct {
	Prefix    netip.Prefix
	NextHops  []netip.Addr
	LocalPref uint32
	since     tick // see Waited
}

// State is an FSM state of RFC 4271 section 8.2.2.
type State uint8

// The FSM states.
const (
	Idle State = iota
	Connect
	Active
	OpenSent
	OpenConfirm
	Established
)

// PeerStatus is what is known of a session.
type PeerStatus struct {
	Name            string         `json:"name"`
	Addr            netip.AddrPort `json:"address"`
	ASN             uint32         `json:"asNumber"` // 0: the peer has not said which of several
	LocalASN        uint32         `json:"localASNumber"`
	State           string         `json:"state"`
	Since           time.Time      `json:"since"`
	Uptime          float64        `json:"uptimeSeconds,omitempty"`
	LastError       string         `json:"lastError,omitempty"`
	RouterID        string         `json:"routerID,omitempty"`
	Families        []string       `json:"families,omitempty"`
	HoldTime        float64        `json:"holdTimeSeconds,omitempty"`
	GracefulRestart bool           `json:"gracefulRestart"`
	PeerRestarting  bool           `json:"peerRestarting,omitempty"`
	Received        int            `json:"received"` // Adj-RIB-In
	Accepted        int            `json:"accepted"`
	Advertised      int            `json:"advertised"` // Adj-RIB-Out
	Stale           int            `json:"stale,omitempty"`
	OverLimit       []string       `json:"overLimit,omitempty"` // families with more prefixes than are taken
	Discarded       uint64         `json:"discarded,omitempty"` // announcements that were turned away for that
	Rejected        map[string]int `json:"rejected,omitempty"`  // how many of Received are refused, by Refusal
	EndOfRIB        []string       `json:"endOfRIB,omitempty"`  // families for which it was received
	MessagesIn      uint64         `json:"messagesIn"`
	MessagesOut     uint64         `json:"messagesOut"`
	Established     uint64         `json:"establishedTransitions"` // how often it came up
	PeerDetail
}
