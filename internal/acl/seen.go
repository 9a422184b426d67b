// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"github.com/muslin-net/muslin/internal/policy"
)

// Stats counts what was written since Open.
type Stats struct {
	Commits  int // transactions committed
	Messages int // netlink messages in them
	Bytes    int
	Failed   int // transactions the kernel refused
}

// Problem is an object that is not in force as written, and is closed instead.
type Problem struct {
	Object string // kind and name
	Err    error
}

// Fate is what becomes of a flow.
type Fate uint8

// The fates. A flow that is cut passes no packet in either direction, and keeps
// its entry, so that none is mistaken for the begin of another; if policy comes
// to allow it, it goes on. A flow that ends leaves no entry behind.
const (
	Leave Fate = iota
	Keep
	Cut
	End
)

// Reviewed counts what a Review did.
type Reviewed struct {
	Seen     int
	Cut      int // which policy had allowed
	Restored int // which had been cut
	Ended    int
}

// Denied is a packet that policy has denied. In and Out are the interfaces by which it
// came and was to leave, empty if it did not, or if that was not known yet.
type Denied struct {
	policy.Packet
	Direction policy.Direction // in which workloads are asked there
	In, Out   string
}

// ChainDenied is where packets go that policy denies while they are logged: as
// many as the rate allows are copied to the log group, and all are dropped. It
// is the kernel that bounds the rate: a flood costs it a look at a bucket.
const ChainDenied = "denied"

// Hits is how often something decided, and of how many bytes in all.
type Hits struct{ Packets, Bytes uint64 }

// Counted is what rules of a policy have decided, or what ends a tier or all
// policy; Policy is nil then. Rules are their places in the list of the direction:
// several, such as 0-2,7, if the kernel counts them together.
type Counted struct {
	Policy    *policy.Policy
	Direction policy.Direction
	Rules     string // empty without a policy
	End       string // what it is, without one
	Hits
}

// NoProfile is the end of all policy.
const NoProfile = "no profile allows"

// Probe is a packet whose way through the packet filter is to be seen.
type Probe struct {
	policy.Packet
	In string // the interface that it comes in on; empty if this host sends it
	ID uint16 // of an ICMP message
}

// Seen is a rule that the packet matched, or the end of a base chain.
type Seen struct {
	Table, Chain string // a table of ours has its own name, others theirs
	Verdict      string // accept, drop, continue, …
	Comment      string
	// What the rule stands for, if it stands for something; see Counted.
	Policy    *policy.Policy
	Direction policy.Direction
	Rules     string
	End       string
}

// Traced is what became of a probe.
type Traced struct {
	Steps []Seen // in order
	// Passed: it left the packet filter, to be sent or to this host.
	Passed bool
	Out    int // number of the interface that it left by, 0 for this host
	// Dropped is the step that dropped it. Without it and without Passed it was
	// lost before the next hook, for want of a route, say.
	Dropped *Seen
}

// Flow is a connection that the kernel tracks. Its packet is the first one as
// policy saw it: after a translation of the destination and before one of the
// source.
type Flow struct {
	policy.Packet
	Before  policy.Packet // the same as it came, before any translation
	Related bool          // to another one, by which it was allowed
	Fate    Fate          // what is to become of it; Leave unless somebody sets it

	family byte
	cut    bool
	// accepted: policy has, in whichever epoch.
	accepted bool
	// Of its first direction, and its number, as the kernel wrote them. They last
	// until the next piece is read.
	tuple, id, zone []byte
}

// The chains that end a walk through policy, by direction.
const (
	chainAcceptOut = "accept-out"
	chainAcceptIn  = "accept-in"
)

// Acceptor is the chain that ends a walk through a direction of policy.
func Acceptor(d policy.Direction) string {
	if d == policy.Ingress {
		return chainAcceptIn
	}
	return chainAcceptOut
}
