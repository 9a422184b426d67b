// SPDX-License-Identifier: Apache-2.0

// Package advise says which model fits a data centre, and how far one grows.
//
// Both take what a file says of racks, servers, endpoints and switches, design it
// otherwise than it stands there, and hold what devices then have against what they
// can hold: Cost with other numbers of racks, Models with every model. Nothing is
// estimated: the sizes are those of the designs, and errors those of the rules.
package advise
