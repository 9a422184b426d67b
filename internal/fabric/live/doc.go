// SPDX-License-Identifier: Apache-2.0

// Package live holds a design against a fabric that runs.
//
// # The walk of a comparison
//
// What a vRouter sees is what its own local API answers: sessions, paths and
// routes (seen.go). A design says of each device with whom it has sessions, and the simulation
// what it then has for each prefix. Addresses become the names of devices (names.go), and both
// sides a Table: the RIB and the FIB for each prefix (table.go), which a lab of real
// daemons is compared by, too. Check names what differs, with what probably
// made it so, and puts together what is alike (check.go, cause.go).
//
// A design plans room for endpoints; which ones there are, the datastore says.
// They take the place of those planned before anything is simulated
// (endpoints.go): how they travel is the design's.
//
// The package is pure: it asks nobody.
package live
