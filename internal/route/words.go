// SPDX-License-Identifier: Apache-2.0

package route

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
)

// Options configure a Table.
type Options struct {
	// Log is told what was written; nil is silence.
	Log *slog.Logger
	// Sources names who may want routes, most important first: of two that
	// want one prefix the first named gets it. Nil is "local", "bgp".
	Sources []string
	// Protocol is what marks our routes in the kernel; 0 is Protocol.
	Protocol uint8
	// Inside, if set, runs its argument on a thread that is in the network
	// namespace to manage; nil is the namespace of the caller.
	Inside func(func() error) error
	// Workload tells by its name whether a device is a workload's: no next hop
	// is reached through one. Nil is none.
	Workload func(device string) bool
	// Inline keeps next hops inside the routes, for every other route as well
	// as for those to a single next hop on a connected subnet. It is what a
	// kernel without next-hop objects gets in any case.
	Inline bool
}

func (o *Options) setDefaults() {
	if o.Sources == nil {
		o.Sources = []string{"local", "bgp"}
	}
	if o.Protocol == 0 {
		o.Protocol = Protocol
	}
}

// errClosed is what Apply returns after Close.
var errClosed = errors.New("route table is closed")

func unknownSource(source string, known []string) error {
	return fmt.Errorf("unknown route source %q: want one of %q", source, known)
}

// Reach is how a next hop is reached.
type Reach struct {
	Addr   netip.Addr
	Usable bool
	Cost   uint32 // the kernel's metric of the route to it; 0 on a connected subnet
	Why    string // unless Usable
	Device string // the interface towards it, the first of several
}

// Result counts what an Apply wrote. All zero means that the kernel was, and
// was left, as wanted.
type Result struct {
	Added, Changed, Deleted int
	// Failed counts writes that the kernel refused; see Table.Problems.
	Failed int
	// Repaired counts those of the writes that undid what somebody else did.
	Repaired int
	// Objects counts next-hop objects that were made, changed or removed.
	Objects int
}

// Writes returns the number of routes written.
func (r Result) Writes() int { return r.Added + r.Changed + r.Deleted }

func (r *Result) add(o Result) {
	r.Added += o.Added
	r.Changed += o.Changed
	r.Deleted += o.Deleted
	r.Failed += o.Failed
	r.Repaired += o.Repaired
	r.Objects += o.Objects
}

// State says where a route stands.
type State string

// The states of a route.
const (
	// Installed: the kernel has it exactly as wanted.
	Installed State = "installed"
	// Pending: its device is missing or down, or no next hop can be resolved.
	Pending State = "pending"
	// Conflicted: a foreign route takes its place or hides it.
	Conflicted State = "conflict"
	// Failed: the kernel refused it.
	Failed State = "failed"
	// Waiting: the next Apply looks at it.
	Waiting State = "waiting"
	// Kept: found in the kernel at the start, wanted by nobody so far, and not
	// every source is complete.
	Kept State = "kept"
)

// Status is a route with where it stands, for people.
type Status struct {
	Route
	Source string // empty when Kept
	State  State
	Detail string // why, unless Installed
}

// Problem is a route that is not in force as wanted, or may not be.
type Problem struct {
	Prefix netip.Prefix
	State  State // Pending, Conflicted or Failed
	Detail string
}

// Count summarises the table.
type Count struct {
	Wanted    int // prefixes that some source wants
	Installed int
	Pending   int
	Other     int // conflicts without the kernel's route, failures, waiting
	Kept      int
}

// Query asks which way the kernel sends a packet.
type Query struct {
	Src, Dst netip.Addr // Src may be invalid
	In       string     // the interface that it comes in on; empty if this host sends it
}

// Way is the kernel's answer. Of a route of IPv6 to a next-hop object Linux may name
// the prefix of another one that has this object: it remembers ways with the object.
type Way struct {
	Prefix   netip.Prefix // of the route; of an address of this host, a single one
	Protocol uint8        // of the route: who made it
	Local    bool         // to this host
	OnLink   bool         // Local, as one of all on the link that it came in by, or of a group
	// Refused says why it goes nowhere: blackhole, unreachable, prohibit, that there
	// is no route, or nobody here of its group. Empty if it goes somewhere.
	Refused string
	Via     netip.Addr // invalid on a connected link
	Device  string
}

// String is the answer in words.
func (w Way) String() string {
	switch {
	case w.Refused != "" && w.Prefix.IsValid():
		return w.Refused + ": " + w.Prefix.String()
	case w.Refused != "":
		return w.Refused
	case w.OnLink:
		return "to this server itself, and no further: broadcast and multicast are not forwarded"
	case w.Local:
		return "to this server itself"
	case w.Via.IsValid():
		return fmt.Sprintf("%s via %s on %s", w.Prefix, w.Via, w.Device)
	}
	return fmt.Sprintf("%s on %s", w.Prefix, w.Device)
}
