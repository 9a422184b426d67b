// SPDX-License-Identifier: Apache-2.0

// Package ipam hands out endpoint addresses from pools, in Calico's layout of
// the datastore, so that Calico's own tools and plugins may work on the same
// blocks at the same time.
//
// A pool is cut into blocks of equal size (a /26 or a /122 unless it says
// otherwise). A block is one key: which of its addresses are taken, and by
// whom. A node claims blocks for itself, its affinities, and takes addresses
// from those, so that nodes rarely write the same key and a block can be
// routed as one prefix. A handle is the reverse index: from an owner to the
// blocks that hold its addresses.
//
// The walk of an address: the pools that qualify for the request → the blocks
// of this node in them, else a newly claimed one → the head of the block's
// queue of free ordinals → the handle's counter, raised first → the block,
// written only if nobody changed it since it was read. A lost race starts over
// from reading. What a crash can leave behind is a handle counter that is too
// high or an affinity that is still pending; both are put right by the next
// call that meets them, and neither can give one address to two owners.
//
// Blocks, affinities, handles, pools and keys are plain values without I/O or
// clock (block*.go, affinity.go, handle.go, config.go, pool.go, keys.go). The
// compare-and-swap loops over a small key-value interface are the methods of
// Allocator (allocator.go, assign.go, claim.go, release.go, usage.go).
//
// Addresses are not yet borrowed from another node's blocks on their own
// account, released addresses do not cool down, and reservations are not
// consulted; the members that others store for these are kept.
package ipam
