// SPDX-License-Identifier: Apache-2.0

// Package api is the daemon's local API: the types that cross the unix socket
// in the run directory, and a client for them. The wire is HTTP with JSON
// bodies; an error is a status of 400 or above with an Error body.
//
// The socket is reachable by root alone. Everything here is a question to, or
// a request of, the one daemon of this server; what concerns the cluster goes
// through the datastore.
package api

import (
	"time"

	"github.com/muslin-net/muslin/internal/bfd"
	"github.com/muslin-net/muslin/internal/bgp"
)

// SocketName is the file name of the socket in the run directory.
const SocketName = "muslin.sock"

// LockName is the file name in the run directory that has the daemon's process id.
const LockName = "muslin.lock"

// Upgrade is the protocol named in the Upgrade header of POST /v1/etcd; after
// the 101 answer the connection carries raw bytes to and from the datastore.
const Upgrade = "muslin-etcd"

// Error is the body of every failed request.
type Error struct {
	Message string `json:"error"`
	// Holder is the process that stands in the way, if there is one.
	Holder int `json:"holderPID,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Status is the answer of GET /v1/status. With ?wait=DURATION the daemon first
// reads the datastore's current revision and answers when it is live at that
// revision or later, or when the time is over.
type Status struct {
	Node    string    `json:"node"`
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// Live is true when everything up to LiveRevision is in the kernel and the
	// kernel is equal to it.
	Live bool `json:"live"`
	// Target is the revision that was waited for; 0 without a wait.
	Target int64 `json:"targetRevision,omitempty"`
	// SeenRevision is the newest datastore revision the daemon has read.
	SeenRevision int64 `json:"seenRevision"`
	// LiveRevision is the newest revision that the kernel is equal to.
	LiveRevision int64 `json:"liveRevision"`
	// Missing names what keeps the node from being live; empty when Live.
	Missing   []string  `json:"missing,omitempty"`
	Datastore Datastore `json:"datastore"`
	Addresses []string  `json:"addresses"` // of this node, with prefix length
	ASN       uint32    `json:"asNumber"`
	// Pending lists endpoints whose interface does not exist or is down; they
	// do not keep the node from being live.
	Pending  []string       `json:"pending,omitempty"`
	Problems []Problem      `json:"problems,omitempty"`
	Counts   map[string]int `json:"counts"`
	// TablesOwned: no other program can change the packet filter (--own-tables).
	TablesOwned bool `json:"tablesOwned"`
	// Repairs counts what was changed by others and put back, by kind.
	Repairs map[string]int `json:"repairs,omitempty"`
}

// Datastore says how the daemon stands with etcd.
type Datastore struct {
	Endpoints []string `json:"endpoints"`
	Embedded  bool     `json:"embedded"`
	Connected bool     `json:"connected"`
	InSync    bool     `json:"inSync"`
	Ready     bool     `json:"ready"` // ClusterInformation.spec.datastoreReady
	Error     string   `json:"error,omitempty"`
	// Held tells why deletions of a re-list are not acted on yet.
	Held string `json:"held,omitempty"`
	// SavedAt is when the datastore held what is in force, if it has not answered since
	// the daemon started.
	SavedAt *time.Time `json:"savedAt,omitempty"`
}

// Problem is an object in error and what it means.
type Problem struct {
	Object string `json:"object"` // Kind namespace/name, or a kernel object
	Field  string `json:"field,omitempty"`
	Text   string `json:"text"`
}

// Endpoint is a local workload endpoint as GET /v1/endpoints lists them.
type Endpoint struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`     // of the WorkloadEndpoint
	Workload  string   `json:"workload"` // NAME given to attach, or the orchestrator's
	Interface string   `json:"interface"`
	Addresses []string `json:"addresses"`
	MAC       string   `json:"mac,omitempty"`
	Profiles  []string `json:"profiles,omitempty"`
	Policies  []string `json:"policies,omitempty"` // those that select it, in order
	State     string   `json:"state"`              // live, no interface, down, closed
	Text      string   `json:"text,omitempty"`
	Spoofed   uint64   `json:"spoofed,omitempty"` // packets it sent as another, of the last day in which there were any
	// SpoofedUnknown is why nobody knows Spoofed.
	SpoofedUnknown string `json:"spoofedUnknown,omitempty"`
}

// Attach is the body of POST /v1/endpoints.
type Attach struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"` // default: default
	NetNS     string `json:"netns,omitempty"`     // path of the namespace file
	// HostProcess: a process of the server itself, with the addresses on lo, instead of a
	// namespace.
	HostProcess bool              `json:"hostProcess,omitempty"`
	Interface   string            `json:"interface,omitempty"` // inside; default eth0
	Labels      map[string]string `json:"labels,omitempty"`
	Profiles    []string          `json:"profiles,omitempty"`
	IPs         []string          `json:"ips,omitempty"`     // addresses wanted; else one per family with a pool
	Anycast     bool              `json:"anycast,omitempty"` // IPs that are in no pool may be those of endpoints on other servers
	// From is the server that has the endpoint now, with these IPs: both have it until it is detached there.
	From    string `json:"from,omitempty"`
	MTU     int    `json:"mtu,omitempty"`
	Timeout string `json:"timeout,omitempty"` // default 10s
}

// Attached is the answer to Attach.
type Attached struct {
	Endpoint
	Revision int64 `json:"revision"` // at which it became live
}

// Peers is the answer of GET /v1/bgp/peers.
type Peers struct {
	Node  string `json:"node"`
	ASN   uint32 `json:"asNumber"`
	Peers []Peer `json:"peers"`
}

// Peer is a session, and what BFD says of its path; nil if it does not watch it.
// On an Interface there may be none yet: then it has no address.
type Peer struct {
	bgp.PeerStatus
	Interface string      `json:"interface,omitempty"`
	BFD       *bfd.Status `json:"bfd,omitempty"`
}

// Answers tells whether a peer is meant by a word: its name, its address, its
// interface, or the BGPPeer that has it on several.
func (p *Peer) Answers(word string) bool {
	return p.Name == word || p.Addr.IsValid() && p.Addr.Addr().String() == word ||
		p.Interface != "" && (p.Interface == word || p.Name == word+"/"+p.Interface)
}

// Route is one kernel route of ours: GET /v1/routes.
type Route struct {
	Prefix   string   `json:"prefix"`
	Kind     string   `json:"kind"` // endpoint, blackhole, bgp
	NextHops []string `json:"nextHops,omitempty"`
	Device   string   `json:"device,omitempty"`
	Metric   int      `json:"metric"`
	State    string   `json:"state"` // installed, pending, conflict, failed
	Text     string   `json:"text,omitempty"`
}

// BGPRoute is one path: GET /v1/bgp/routes?peer=&view=received|accepted|best|advertised|rejected&prefix=&limit=.
// What is inside of the prefix is included, unless there is &exact=1.
type BGPRoute struct {
	Prefix      string   `json:"prefix"`
	NextHop     string   `json:"nextHop"`
	Peer        string   `json:"peer,omitempty"` // empty: originated here
	Origin      string   `json:"origin"`
	ASPath      []uint32 `json:"asPath,omitempty"`
	LocalPref   uint32   `json:"localPref,omitempty"`
	MED         uint32   `json:"med,omitempty"`
	Communities []string `json:"communities,omitempty"`
	OTC         *uint32  `json:"onlyToCustomer,omitempty"` // RFC 9234
	Best        bool     `json:"best"`
	Equal       bool     `json:"equal,omitempty"` // used beside the best
	Stale       bool     `json:"stale,omitempty"`
	Refused     string   `json:"refused,omitempty"` // kind of reason, see bgp.Refusal; empty: not refused
	Reason      string   `json:"reason,omitempty"`  // of the refusal, in words
}

// BGPRoutes is the answer of GET /v1/bgp/routes; with ?count=1 Routes is empty.
type BGPRoutes struct {
	Count  int            `json:"count"`
	Counts map[string]int `json:"counts"` // by family: ipv4, ipv6
	Routes []BGPRoute     `json:"routes,omitempty"`
}

// BGPReset asks for a reset of the sessions with a neighbour: POST /v1/bgp/reset.
type BGPReset struct {
	Peer    string `json:"peer"`              // name or address
	Soft    string `json:"soft,omitempty"`    // in or out; empty: the session ends and comes back
	Message string `json:"message,omitempty"` // for the other end (RFC 9003)
}

// BGPResetDone is the answer: how many sessions that were.
type BGPResetDone struct {
	Sessions int `json:"sessions"`
}

// BGPWhy is the answer of GET /v1/bgp/why?prefix=: the longest prefix that
// matches, and shorter ones until one has a best path.
type BGPWhy struct {
	Asked   string         `json:"asked"`
	Answers []BGPWhyPrefix `json:"answers"`
}

// BGPWhyPrefix is all that is known of one prefix.
type BGPWhyPrefix struct {
	Prefix string       `json:"prefix"`
	Paths  []BGPWhyPath `json:"paths"`
	// Origin is the object that this node announces it from, or why not;
	// empty when it is nothing of this node.
	Origin string        `json:"origin,omitempty"`
	Kernel string        `json:"kernel"` // installed, or what became of it
	Peers  []bgp.WhyPeer `json:"peers"`
}

// BGPWhyPath is one path and how it fared.
type BGPWhyPath struct {
	BGPRoute
	Lost        *bgp.Lost `json:"lost,omitempty"`
	NoCandidate string    `json:"noCandidate,omitempty"` // why it took no part
}

// BGPEvent is one line of GET /v1/bgp/watch?view=best|received&peer=&prefix=.
type BGPEvent struct {
	Time    time.Time `json:"time"`
	Event   string    `json:"event"` // up, down, route, gone, end
	Peer    string    `json:"peer,omitempty"`
	Address string    `json:"address,omitempty"` // of the peer
	Prefix  string    `json:"prefix,omitempty"`
	Route   *BGPRoute `json:"route,omitempty"`
	Text    string    `json:"text,omitempty"`
}

// Explain is the answer of GET /v1/explain?src=&dst=&proto=&port=.
type Explain struct {
	Source      string        `json:"source"`
	Destination string        `json:"destination"`
	Protocol    string        `json:"protocol"`
	Port        uint16        `json:"port,omitempty"`
	Families    []ExplainPath `json:"families"`
	// Notes say where what is enforced may differ from the objects as they are
	// in the datastore: one that cannot be read has its last good version.
	Notes []string `json:"notes,omitempty"`
	// OtherState: the kernel is known to hold the state of other objects than those
	// that the answer is about; Notes say why.
	OtherState bool `json:"otherState,omitempty"`
}

// ExplainPath is the walk of one packet, one per family both ends share.
type ExplainPath struct {
	Family  string        `json:"family"` // ipv4, ipv6
	From    string        `json:"from"`
	To      string        `json:"to"`
	Allowed bool          `json:"allowed"`
	Steps   []ExplainStep `json:"steps"`
	// Unroutable says why no route leads there, whatever policy says.
	Unroutable string `json:"unroutable,omitempty"`
	// Blocked says what is wrong with an end, so that nothing passes whatever policy
	// says.
	Blocked string `json:"blocked,omitempty"`
	// Passes: it is allowed, and as far as this server knows there is a way.
	Passes bool `json:"passes"`
	// Live is what became of a real packet; nil if none was sent.
	Live *ExplainLive `json:"live,omitempty"`
}

// ExplainLive is what became of a packet that was sent as the question says.
type ExplainLive struct {
	Verdict string        `json:"verdict"`          // passed, dropped, lost
	Device  string        `json:"device,omitempty"` // that it left by; empty: it came to this host
	Steps   []ExplainStep `json:"steps"`
	// Differs says how that is not what the model says; empty if they agree.
	Differs string `json:"differs,omitempty"`
}

// ExplainStep is one decision on the way.
type ExplainStep struct {
	Where   string `json:"where"`   // anti-spoof, floating-ip, egress, route, bgp, ingress, to-host; at a host endpoint host-ingress, host-egress
	Verdict string `json:"verdict"` // allow, deny
	Object  string `json:"object"`  // GlobalNetworkPolicy web, tier default, profile x
	Rule    int    `json:"rule"`    // index in its list, -1 if no rule decided
	// Rules of what was seen live are the places of rules that the kernel has as one.
	Rules string `json:"rules,omitempty"`
	Text  string `json:"text"`
}
