// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line: it parses, asks, and renders.
//
// The walk of its datum, for what concerns the cluster: files are decoded and
// validated as a whole, then written object by object through the store; what
// is read back becomes a table, YAML, JSON or names. For what concerns this
// server, a question goes to the daemon over its socket, and the answer is
// rendered the same way.
//
// Exit codes are part of the interface: 0 is success, 1 a failure, 2 a command
// that was not understood. Errors go to stderr, one a line, after "muslin: ".
// With -o json the answer of a daemon command is the local API's, unchanged.
package cli
