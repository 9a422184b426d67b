// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"

	"github.com/muslin-net/muslin/internal/acl"
)

// The data plane is what package dataplane says; dataplane_linux.go and
// dataplane_other.go beside this page open it.

// What a data plane shows beside, if it can.
type (
	// flowTable is the flows that it has accepted.
	flowTable interface {
		Review(judge func([]acl.Flow) error, zones bool) (acl.Reviewed, error)
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
	// rereader is a routing table that is followed by what it says, and read where that
	// does not suffice.
	rereader interface{ Reads() int }
)
