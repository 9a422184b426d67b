// SPDX-License-Identifier: Apache-2.0

// Package check says what is wrong with a design of a fabric.
//
// Rules is the catalogue: each rule has an id, a severity, the reason for it
// and a function that looks at a design and reports. A Finding says in one line
// with numbers what is wrong and where, why that matters, which lines mend it,
// and what shows it. Findings of one rule that differ in their device only are
// one Finding: ten thousand servers without BFD are one mistake.
//
// Rules look at what a design says (sessions, profiles, addresses), at what its
// devices have to hold, and at what package sim makes of it, healthy and with
// each thing down that can fail.
package check
