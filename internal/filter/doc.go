// SPDX-License-Identifier: Apache-2.0

// Package filter decides what is taken from a BGP session and what is sent on
// it: BGPFilters, and what happens to a route that none of their rules matches.
//
// The walk of its datum: the objects of the model become a Fabric, which is what
// holds for every session of the node, and a Session, which is what one peer
// adds to it. Session.Import and Session.Export compile that into a bgp.Policy
// and an identity. Sessions with equal identities have equal policies, so that
// the engine encodes what it sends once for all of them.
//
// A policy takes the rules of the session's filters in order. The first that
// matches decides. Where none matches, everything is accepted on the way in, and
// on the way out what lies in an IP pool, is bound to a node or is an address of
// a service; the route to the server's own network and the default route stay
// here unless a rule accepts them.
//
// The package is pure: no clock, no goroutines, nothing outside its arguments.
package filter
