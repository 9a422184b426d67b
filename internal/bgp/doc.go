// SPDX-License-Identifier: Apache-2.0

// Package bgp is the BGP engine of a server that routes for its own
// endpoints. It knows sockets, messages and routes; it imports no netlink, no
// etcd and no files, so that it can run in a process without privileges and
// inside the fabric simulator.
//
// # The walk of a route
//
// A reader goroutine (reader.go) takes one message off a connection, checks its frame
// (RFC 4271 section 6.1) and decodes it under the error table of RFC 7606
// (update.go, attrtable.go). The loop, the one owner of all state, interns the
// attributes (attrs.go), judges and filters the route (policy.go) and puts one
// path per (prefix, peer) into the table (rib.go, table.go), which selects the best path
// and its equals (decision.go). A changed prefix is remembered twice: for
// NextBest, which hands next hops to the daemon, and for every export group
// (export.go), which decides what its peers are told (outgoing.go), encodes one
// UPDATE for all of them (encode.go) and shares the bytes among their queues. A
// writer goroutine per connection (writer.go) sends them and the KEEPALIVEs.
//
// What the node itself originates is a path of the pseudo-peer number 0 in the
// same table, and always wins.
//
// # Who owns what
//
// Everything in Speaker that is not said to be otherwise belongs to the loop
// started by Run. Readers and writers are thin and talk to it through
// channels; the exported methods post a function to the loop and wait for
// its answer, so that what they return is a snapshot. The finite state machine
// (fsm.go) and the decision process are pure.
//
// # Restart
//
// Ending Run closes the connections without a NOTIFICATION: peers that speak
// graceful restart (RFC 4724) keep our routes. Removing a peer from the
// configuration sends Cease. See gr.go for both roles.
package bgp
