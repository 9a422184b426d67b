// SPDX-License-Identifier: Apache-2.0

// Package sim says what becomes of a designed fabric once it runs: what every
// device holds, whether every server reaches every other and by which ways, and
// all of that with anything that may fail down. It is exact, and it expands
// nothing that is equal.
//
// # The walk of a question
//
// New reads a design for one address family into numbers (graph.go), gathers
// what has one fate into classes (classes.go), and finds which racks and which
// servers look the same to all others (racks.go). A question is asked of a scene
// (scene.go): the part of the design in which each kind is there a few times, and one
// stands for all that are left. A class spreads over it (spread.go), by
// the decisions of the product's own speaker, which package bgp lends out as
// Rules; where other programs decide otherwise, that is one named behaviour
// (behaviour.go). Then packets follow the routes (forward.go). What is
// asked for are tables (tables.go), pairs of servers, healthy and under every
// failure (reach.go, failure.go), or one device and one way (path.go).
//
// # What holds
//
// The result for a scene is that for the whole design: a scene in which an election
// is won by one of many is made again, with that one by itself. A slow twin in
// the tests, which expands every device, session and prefix, holds it to that.
//
// Where two paths are equal in all that a program compares before it looks at
// their age, the lower identifier wins here. FRR keeps the older of two eBGP
// paths, unless told otherwise: with AS numbers of their own for spines, which of them
// carries the paths that others left out may then differ, but not their sum.
//
// # What is not simulated
//
// Timing, but for how long it takes until a failure is noticed. A next hop that is
// on no segment of the device: FRR resolves it by another BGP route, BIRD and
// this product do not, and here it counts as unusable for all.
package sim
