// SPDX-License-Identifier: Apache-2.0

// Package rules holds the repository's rules as tests: which package may
// import what, and why; what every file carries; that links in the
// documentation lead somewhere. It has no code of its own.
//
// A test here reads every source file once with the standard parser (no build,
// no go list), and names the file, the rule and the reason when one is broken.
package rules
