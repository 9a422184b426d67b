// SPDX-License-Identifier: Apache-2.0

// Package v3 is the vocabulary of the system: the resources of the data model
// that users write and that etcd holds.
package v3
