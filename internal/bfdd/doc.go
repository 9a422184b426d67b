// SPDX-License-Identifier: Apache-2.0

// Package bfdd is the process that runs BFD, and the agent's side of it. It is
// a process of its own so that it outlives the agent: while an agent is
// killed, stopped or replaced, its neighbours still hear that the path is there, and
// keep the routes (RFC 5882 section 4.3.1). That is what the C bit in its packets says.
//
// # The walk of a session
//
// The agent hands the whole set of sessions that it wants to a Client
// (client.go), which finds the process of this run directory, or starts one,
// and passes the set on over a unix socket (wire.go). The process takes it
// into its engine (package bfd), opens the sockets it needs (socket.go) and,
// in one loop on a thread of its own (loop.go), receives, sends and expires.
// When a session changes its state, whoever is connected gets a Report of all
// of them. An agent that starts again hands over the same set, and no packet is sent differently.
//
// # Its life
//
// There is one for each network namespace and run directory. It starts as
// root, takes what only root can have (its place in the run directory,
// real-time scheduling), and goes on as a user without any rights
// (rights.go). When the agent's connection is gone it keeps the sessions
// for the time that it was told, which is how long neighbours keep routes, and
// then says AdminDown and ends, as it does on SIGTERM, when asked to, and when no
// session is wanted any more. Logs go through a queue that drops (log.go): a
// reader that does not read must not end sessions.
package bfdd
