// SPDX-License-Identifier: Apache-2.0

// Package dataplane is all that the agent knows of a data plane: filtering and
// forwarding. Both are told what is desired, and find out by themselves what is there.
// The kernel's are acl.Table and route.Table. Without a kernel acl.Memory and
// route.Memory do the same, and [Memory] sends packets through the two.
//
// A port to another operating system writes such a pair, and runs package
// dataplane/conform on it.
package dataplane

import (
	"context"
	"net/netip"
	"time"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// Filtering decides which packets of workloads and of this host pass. What it does
// not know passes nothing, and what is in force stays when the agent ends.
type Filtering interface {
	// SetOptions changes what the next Apply or Resync puts in force, also an Apply
	// without another change.
	SetOptions(acl.Options) error
	// Apply puts a change in force as one, or none of it.
	Apply(policy.View, policy.Changes) error
	// Resync compares everything, and writes what differs.
	Resync(policy.View) error
	// Unchanged: another Resync would find nothing.
	Unchanged() bool
	// CommitAfter holds up what lets packets pass until ready is closed; nil for not at all.
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

// Forwarding is the routing table. Routes come from sources, the first of which
// has the say; what nobody wants goes when all are complete.
type Forwarding interface {
	Replace(source string, routes []route.Route) error
	Update(source string, add []route.Route, remove []netip.Prefix) error
	SetComplete(source string) error
	// Apply writes what differs from what is known of the table, Resync reads all of it first.
	Apply() (route.Result, error)
	Resync() (route.Result, error)
	// Watch calls notify when somebody else has changed something, until ctx ends.
	Watch(ctx context.Context, notify func()) error

	// Of next hops: which to follow, what may lead to them, on which link they are, and how they are reached.
	Track(add, remove []netip.Addr)
	ThroughDefault(may bool) (changed bool)
	Near(behind map[netip.Addr]string) (changed bool)
	Link(a netip.Addr, before string) (device string, carries bool)
	Reached() (changes []route.Reach, again time.Duration)

	List() []route.Status
	Problems() []route.Problem
	Count() route.Count
	Close() error
}

// Those without a kernel are such, too.
var (
	_ Filtering  = (*acl.Memory)(nil)
	_ Forwarding = (*route.Memory)(nil)
)
