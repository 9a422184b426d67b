// SPDX-License-Identifier: Apache-2.0

// Package bfd is Bidirectional Forwarding Detection (RFC 5880) in its
// asynchronous mode, over one hop (RFC 5881) and over several (RFC 5883). It
// is the protocol alone: packets and the time are handed in, packets are handed
// out, and nothing in here knows sockets, so that the process of package bfdd,
// the fabric's simulator and the tests run the same code. Demand mode and the
// echo function are not used; a neighbour's demand mode is honoured.
//
// # The walk of a packet
//
// Receive decodes it (packet.go, with all that RFC 5880 section 6.8.6 checks
// before there is a session), finds the session by Your Discriminator or by
// addresses (engine.go), checks where it came from and its authentication
// (auth.go), and gives it to the session (session.go), which takes over what the
// neighbour says, moves the state machine, and answers a poll. Each session has one
// place in a heap (heap.go), at the earlier of its next transmission and the end
// of its detection time; Tick runs those that are due. A packet that arrives
// only puts the end of the detection time off: the heap learns of it when
// the old end comes, so that the usual packet costs no work there.
//
// # What the users of a session learn
//
// Status, whole, of every session: state and not events. Failures counts how
// often the path was lost, which is not the same as how often the session left
// Up: a neighbour that says AdminDown has not failed (RFC 5882 section 3.2).
// Independent tells what a failure means while a control protocol restarts
// gracefully (RFC 5882 section 4.3).
package bfd
