// SPDX-License-Identifier: Apache-2.0

// Package fabric designs data centres in which every server is a router: a short
// file becomes every device, address, AS number and session.
//
// # The walk of a design
//
// A Fabric is what a person writes: a short file that names a model, counts
// and pools (file.go). Parse reads it strictly; what is wrong in it is told
// with its line, its field and what would be right (decode.go, check.go).
// Fabric.Design turns it into a Design (design.go): every device, interface,
// address, AS number and BGP session, by one function for each model. A Design
// can also be written by hand, as a document of the kind FabricDesign; whatever
// reads a Design does not know which of the two it was. Its Index (index.go) finds
// what it names, and says what each device has to hold (sizes.go).
//
// What is wrong with a design, what it comes to once it runs, and how it is
// configured or drawn, packages below this one say: check, sim, emit, picture.
//
// # What stays unexpanded
//
// Endpoints are never listed one by one: the endpoints of a server are one
// Origin with a first prefix and a count. The members of a full mesh are
// listed once, in a Mesh, and not in pairs. Both keep a design of a million
// endpoints a few megabytes, and are what a simulation has to go by: all
// prefixes of an Origin have the same fate.
//
// # What holds
//
// The same file gives the same design, octet for octet. A file that grows,
// by racks, by servers within the plan or by spines, keeps every name, address
// and AS number it had.
//
// The package is pure: no clock, no files, no goroutines, nothing outside its
// arguments.
package fabric
