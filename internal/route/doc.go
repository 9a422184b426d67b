// SPDX-License-Identifier: Apache-2.0

// Package route keeps the kernel's main routing table equal to what this node
// wants there, for the routes that carry our protocol number and for no others.
//
// The walk of its datum: named sources ("local" for endpoints and block
// blackholes, "bgp" for what is learned) hand in [Route]s with [Table.Replace]
// and [Table.Update]; where two want one prefix the source of higher rank wins.
// Next hops and devices are resolved to gateways and interface numbers, with the
// interfaces and the routes of other daemons (topology.go); next hops that may
// change under a wish go into next-hop objects (objects.go). [Table.Apply]
// writes what differs from the kernel: additions before deletions, changes in
// place, many messages in one system call. [Table.Watch] tells when links,
// addresses, objects or routes changed behind our back; the next Apply follows.
// [Table.Reached] tells how the next hops named to [Table.Track] are reached.
// [Table.Resync] reads the whole table and compares every attribute, and writes
// nothing when nothing differs.
//
// What is ours in the kernel is recognised by protocol number alone, so a
// freshly started process needs no memory. Routes of ours that it finds and that
// nobody wants yet are kept until every source has declared itself complete
// once; a restart therefore loses no packet.
//
// Foreign routes are never changed. One that hides ours, or sits at the
// same prefix and metric, is reported as a conflict. The exception is a
// route of ours that somebody replaced in place while we watched: it is taken
// back, a bounded number of times.
package route
