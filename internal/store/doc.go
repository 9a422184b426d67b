// SPDX-License-Identifier: Apache-2.0

// Package store is the only package that knows etcd.
//
// The walk of its datum: Watch lists the part of the datastore that matters at
// one revision R and follows it from R+1. The bytes of one etcd transaction
// wait, coalesced by key and within a bound, until the consumer is free; then
// they are decoded and handed over in one Update with the revision they bring
// the consumer to. What is lost on the way (a compaction, a dropped event, a
// member that was restored) is found by listing again and handed over as a
// difference, never as a restart.
//
// Towards etcd the package offers compare-and-swap on raw keys, several keys
// in one transaction, and typed operations with the semantics of calicoctl
// (names, stored defaults, merging with what other tools stored).
//
// StartProcess runs a one-member etcd in a process of its own, which calls Serve;
// StartEmbedded runs one inside the process that calls it.
package store
