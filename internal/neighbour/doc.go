// SPDX-License-Identifier: Apache-2.0

// Package neighbour finds the router at the other end of a link by its router
// advertisements (RFC 4861), and sends our own so that it finds us. That is
// what lets two routers peer over an interface without an address of its own.
//
// # The walk of an advertisement
//
// A socket receives router solicitations and advertisements of all interfaces
// (socket_linux.go). What RFC 4861 section 6.1 demands is checked (packet.go): above all the
// hop limit of 255, which nobody has who is not on the link. The state of the link
// takes it in (link.go), and whoever uses the package is told when the
// neighbour is another one than before (finder.go).
//
// # What an advertisement says, and what not
//
// It says where a router is, not that it lives: BGP and BFD find that out. So a
// neighbour is kept until the link goes, or until another router is heard and
// this one does not answer a solicitation any more. Its router lifetime does not
// count: it is about default routes, and routers that want to be none's
// default router send 0 in each advertisement, as we do.
//
// The package does not look at the kernel's interfaces. Set hands over, whole and
// again whenever anything changes, what they are.
package neighbour
