// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net/netip"
	"time"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// This page is all that the agent knows of a data plane: filtering and forwarding.
// Both are told what is desired, and find out by themselves what is there. The
// kernel's are acl.Table and route.Table; acl.Memory and route.Memory do without one. A port to another operating system
// writes such a pair, what package endpoint does to interfaces, and its
// dataplane_*.go beside this page.

// filtering decides which packets of workloads and of this host pass. What it does
// not know passes nothing, and what is in force stays when the agent ends.
type filtering interface {
	// SetOptions changes what the next Apply or Resync puts in force.
	SetOptions(acl.Options) error
	// Apply puts a change in force as one, or none of it.
	Apply(policy.View, policy.Changes) error
	// Resync compares everything, and writes what differs.
	Resync(policy.View) error
	// Unchanged: another Resync would find nothing.
	Unchanged() bool
	// CommitAfter holds commits up until ready is closed; nil for not at all.
	CommitAfter(ready <-chan struct{})
	// Watch calls notify when somebody else has changed something, until ctx ends.
	Watch(ctx context.Context, notify func()) error
	// Problems are the objects that are closed because they cannot be in force.
	Problems() []acl.Problem
	Stats() acl.Stats
	// Guard closes all workloads, unless something is in force already.
	Guard() (made bool, err error)
	// Teardown removes everything: all is open afterwards.
	Teardown() error
	Close() error
}

// forwarding is the routing table. Routes come from sources, the first of which
// has the say; what nobody wants goes when all are complete.
type forwarding interface {
	Replace(source string, routes []route.Route) error
	Update(source string, add []route.Route, remove []netip.Prefix) error
	SetComplete(source string) error
	// Apply writes what differs from what is known of the table, Resync reads all of it first.
	Apply() (route.Result, error)
	Resync() (route.Result, error)
	// Watch calls notify when somebody else has changed something, until ctx ends.
	Watch(ctx context.Context, notify func()) error

	// Of next hops: which to follow, what may lead to them, and how they are reached.
	Track(add, remove []netip.Addr)
	ThroughDefault(may bool) (changed bool)
	Near(behind map[netip.Addr]string) (changed bool)
	Reached() (changes []route.Reach, again time.Duration)

	List() []route.Status
	Problems() []route.Problem
	Count() route.Count
	Close() error
}

// What a data plane shows beside, if it can.
type (
	// flowTable is the flows that it has accepted.
	flowTable interface {
		Review(judge func([]acl.Flow) error) (acl.Reviewed, error)
		Close() error
	}
	// deniedLog is a sample of the packets that it has denied.
	deniedLog interface {
		Read(ctx context.Context, f func([]acl.Denied)) error
		Close() error
	}
	// ledger is what its rules have counted, and the way of one packet through them.
	ledger interface {
		Read() ([]acl.Counted, error)
		Trace(q acl.Probe, send func() error) (*acl.Traced, error)
	}
)

// Those without a kernel are such, too.
var (
	_ filtering  = (*acl.Memory)(nil)
	_ forwarding = (*route.Memory)(nil)
)
