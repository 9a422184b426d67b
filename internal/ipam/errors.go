// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// The classes of what can go wrong, for errors.Is. See also ErrAssigned and
// ErrGuard.
var (
	ErrNoQualifiedPool = errors.New("no IPPool qualifies")
	ErrPoolExhausted   = errors.New("the qualified IPPools have no free address")
	ErrBlockLimit      = errors.New("the node may not claim more blocks")
	// ErrClaimConflict: the block belongs to somebody else.
	ErrClaimConflict = errors.New("block is claimed by another owner")
	// ErrBlockNotEmpty: the block has addresses in use.
	ErrBlockNotEmpty = errors.New("block has addresses in use")
	// ErrContention: other writers won every time.
	ErrContention = errors.New("gave up, other writers kept changing the key")
)

// NoPoolError tells why no pool qualified. It is ErrNoQualifiedPool.
type NoPoolError struct {
	Family  Family
	Node    string
	Reasons []string // one for each pool that was considered
}

func (e *NoPoolError) Error() string {
	why := "there is none; create an IPPool of this family"
	if len(e.Reasons) > 0 {
		why = strings.Join(e.Reasons, "; ")
	}
	return fmt.Sprintf("no IPPool qualifies for %s on node %s: %s", e.Family, e.Node, why)
}

// Is makes errors.Is(err, ErrNoQualifiedPool) true.
func (e *NoPoolError) Is(target error) bool { return target == ErrNoQualifiedPool }

// ExhaustedError tells that the addresses asked for are not to be had. It is
// ErrBlockLimit when a limit stood in the way, else ErrPoolExhausted.
type ExhaustedError struct {
	Family      Family
	Node        string
	Pools       []string
	Wanted, Got int
	// Limit is the number of blocks the node may have in this family, if that
	// is what stood in the way, else 0.
	Limit int
	// NoClaims is true when the configuration forbids to claim blocks.
	NoClaims bool
	// Skipped are blocks that could not be used, with the reason.
	Skipped []error
}

func (e *ExhaustedError) Error() string {
	why := "every block is full or belongs to another node"
	switch {
	case e.Limit > 0:
		why = fmt.Sprintf("node has its %d blocks and they are full; raise maxBlocksPerHost", e.Limit)
	case e.NoClaims:
		why = "the node's blocks are full and auto_allocate_blocks is false in " + ConfigKey
	}
	s := fmt.Sprintf("%s on node %s: got %d of %d from IPPool %s: %s", e.Family, e.Node, e.Got, e.Wanted, strings.Join(e.Pools, ", "), why)
	for _, err := range e.Skipped {
		s += "; " + err.Error()
	}
	return s
}

// Is tells the class.
func (e *ExhaustedError) Is(target error) bool {
	if e.Limit > 0 {
		return target == ErrBlockLimit
	}
	return target == ErrPoolExhausted
}

// Unwrap returns what kept single blocks from being used.
func (e *ExhaustedError) Unwrap() []error { return e.Skipped }

// ClaimError tells who has a block that could not be claimed. It is
// ErrClaimConflict.
type ClaimError struct {
	Block  netip.Prefix
	Holder Owner // empty if the block has addresses in use but no owner
}

func (e *ClaimError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("block %s has no owner but addresses in use", e.Block)
	}
	return fmt.Sprintf("block %s belongs to %s", e.Block, e.Holder)
}

// Is makes errors.Is(err, ErrClaimConflict) true.
func (e *ClaimError) Is(target error) bool { return target == ErrClaimConflict }
