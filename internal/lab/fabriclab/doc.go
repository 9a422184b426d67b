// SPDX-License-Identifier: Apache-2.0

// Package fabriclab boots a designed fabric on one machine, with the daemons
// that it is designed for, and holds them against the simulation.
//
// # The walk of a design
//
// Up (up.go) gives every device a network namespace, every cable a veth pair and
// every Ethernet segment a bridge (wire.go); starts FRR or BIRD on switches and
// borders with the very files that package emit writes, and `muslin run` on
// every server against one etcd on a management network, with the resources
// that emit writes applied (daemons.go); and attaches the endpoints of each
// server as namespaces (endpoints.go; byhand.go for a server that runs BIRD). A
// host behind the borders is the world outside (outside.go). What is up outlives
// the program: a file in the lab's directory says what it is (lab.go), and
// everything else follows from names. Down therefore needs neither that file nor
// a clean end.
//
// # The comparison
//
// The simulation says what every device holds, path by path and route by route;
// so does each daemon (frr.go, bird.go, muslin.go), and for its routes the kernel
// (kernel.go, tables.go). Compare names each difference by device and prefix
// (compare.go). That is the reason to trust either of them. What happens to the
// lab meanwhile, failures (fail.go) and moves of endpoints (move.go,
// and exceptions.go for how many may), is measured
// by flows of real packets (gaps.go).
package fabriclab
