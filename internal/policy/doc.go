// SPDX-License-Identifier: Apache-2.0

// Package policy decides who may talk to whom.
//
// The walk of its datum: an object of the model goes into Index.Set, which
// parses it once (Reader) and keeps only what enforcement needs. A policy becomes a
// Policy whose selectors are names of sets; an endpoint or a network set
// becomes labels, addresses and ports. A label index finds which policies
// select which local endpoints, and which endpoints of all nodes are members of
// which sets. Index.Flush turns what changed since the last call into Changes,
// and the Index as a whole is a View, from which the data plane can be rebuilt
// without memory of what it did before.
//
// What it promises:
//
//   - Order of arrival does not matter: the same objects give the same View. The
//     one exception is a bad object, whose last good version stays in force.
//   - Work follows the change. Endpoints with equal labels and profiles form a
//     class, and selectors are matched with classes; selectors are filed under
//     the label that restricts them most, so that a change meets few of them.
//   - A bad object affects only itself. Its last good version stays in force;
//     without one an endpoint or profile is closed, a policy whose selector can
//     be read denies what it selects, and anything else counts as absent. All of
//     it is in Problems.
//
// Beside the Index stands Evaluate: the same semantics read plainly from the
// objects, without an index, for explaining a verdict and for testing the Index.
// Index.Judge is a third reader, of the compiled rules, for the many flows that a
// change of policy may have to cut.
//
// The package is pure: no netlink, no etcd, no clock, no goroutines. Nothing in
// it is safe for concurrent use, except that Policy, Effective and Endpoint
// values never change once handed out.
package policy
