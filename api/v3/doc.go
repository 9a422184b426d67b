// SPDX-License-Identifier: Apache-2.0

// Package v3 is the vocabulary of the system: the resources of the data model
// that users write and that etcd holds, in Calico's form.
//
// The walk of a resource. A user's YAML or JSON goes through Decode, which is
// strict (an unknown member is an error that names it), Default, which fills
// in what is stored explicitly, and Validate, which checks every member; Key
// says where it lives in etcd and EncodeMerged what is written there, keeping
// members that this version does not know. The way back is DecodeKV, which is
// tolerant: other programs write to the same datastore.
//
// Struct tags carry the schema: json is the wire name; required, oneof (values
// of an enumeration; fold ignores case) and check (see the list in check.go)
// are what Validate enforces.
//
// The package is pure and holds no state. Functions may be called concurrently
// on different objects.
package v3
