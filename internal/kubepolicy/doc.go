// SPDX-License-Identifier: Apache-2.0

// Package kubepolicy says in the words of the data model what Kubernetes says in
// its own: a NetworkPolicy (networking.k8s.io/v1) becomes a NetworkPolicy of tier
// default, a namespace and a service account become profiles that give their
// labels to pods.
//
// The walk of its datum: JSON or a value of the types here goes in, an object as
// the data model's other tools would have written it comes out. The package is
// pure and brings no Kubernetes library along: whoever watches a cluster fills in
// these few types.
//
// What it promises: pods, as endpoints with the profiles of their namespace and
// their service account, may talk exactly to whom Kubernetes lets them. A pod that
// no policy selects in a direction has the namespace's profile decide, which
// allows; one that a policy selects is denied at the end of the tier what no rule
// allows.
package kubepolicy
