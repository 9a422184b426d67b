// SPDX-License-Identifier: Apache-2.0

// Package bmp exports what the BGP engine hears, accepts and selects to a
// monitoring station: the BGP Monitoring Protocol, RFC 7854, with the Loc-RIB
// of RFC 9069.
//
// # The walk of a route
//
// The engine keeps, for each station, a list of the names of what changed
// (bgp.Watch). Export takes a page of it, by then with the present state of
// each, already encoded as UPDATE messages, puts them into Route Monitoring
// messages (encode.go) and writes those to the station's connection. The engine
// waits for nobody: a station that does not read loses its connection, when
// the list is full or a write has taken too long, and gets everything anew with
// the next one.
//
// What is a message is pure and in encode.go; what is a connection, in
// export.go.
package bmp
