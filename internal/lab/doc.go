// SPDX-License-Identifier: Apache-2.0

// Package lab makes a fabric out of one machine: every host is a network
// namespace, every cable a veth pair, every Ethernet segment a bridge in a
// namespace of its own. It needs root and the kernel, and no other program.
//
// The walk of its datum: a [Lab] hands out [Namespace]s and remembers them;
// links and addresses turn them into a [Fabric] with [Host]s; a [Process] runs
// the real daemon inside one; a [Probe], [Flow] or [Capture] then sends and
// counts real packets. What is reported is always what a receiver saw, never
// what a rule set says. Close undoes everything that was made, in reverse, and
// touches nothing else.
//
// Network namespaces belong to threads in Linux, and goroutines move between
// threads. Everything here that needs to be inside a namespace therefore runs
// on a locked thread that is thrown away afterwards (see [Namespace.Do]).
// Sockets stay in the namespace that they were made in, so what is returned
// may be used from any goroutine.
package lab
