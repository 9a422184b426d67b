// SPDX-License-Identifier: Apache-2.0

// Package acl turns effective policy into the objects of nftables tables named
// muslin, over netlink. It touches no other table and runs no program. While one of these
// belongs to another process, there is one named muslin-shut besides (shut.go).
//
// The walk of its datum: the loop that owns the policy index hands Apply a
// view and a hint of what changed. A stage renders the objects the hint points
// to (a policy's chain, an effective policy's chains, an endpoint's elements,
// a set's members) and compares them with what it rendered before; the
// difference goes to the kernel as one transaction. Resync takes the same path
// with everything as the hint and the kernel's own table, read back and
// normalised, as what it compares with: start, restart, tampering, error and
// timer are all this. Watch tells when somebody else touched a table. What
// differs in several tables is one transaction. Tables that are not there are made
// in several, closed first and led into last.
//
// The shape of inet muslin: four base chains that are always there, each of which
// singles out workload interfaces by their prefix and accepts the rest; a map from
// interface to effective policy, and verdict maps from that to its chains; one chain
// for each effective policy and direction, shared by all endpoints that have
// it, which jumps to one chain for each policy and direction. So an endpoint
// is a few elements, a policy one chain, a member one element. What policy has
// accepted has the present epoch in its connection's mark, and is not asked about
// again (accepted.go).
//
// A process of this host is found by its address instead of an interface, in base chains
// that are there for as long as there is one.
//
// Beside it, arp muslin checks who speaks in ARP, and netdev muslin drops what
// is neither IP nor ARP, and answers the ARP of guests; an endpoint is a few
// elements and a base chain there.
//
// What must hold: an interface with a workload prefix and no elements passes
// nothing, not even an established flow: what it sends is dropped before connection
// tracking, and a mark counts for nothing towards it. Sources are checked there,
// twice: against the endpoint's own addresses (and MAC address), and against
// the routes. What is to be dropped meets an explicit drop, never a chain
// policy. Base chains are never deleted and made again in normal operation.
// Names in the kernel are hashes; names from the datastore appear only in
// comments, made harmless.
package acl
