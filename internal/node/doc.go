// SPDX-License-Identifier: Apache-2.0

// Package node is the daemon: it wires the store to policy, policy to the
// reconcilers, and both to BGP.
//
// The walk of a datum: the store hands an Update (what one or more etcd
// transactions changed, with their revision) to the loop. The loop feeds
// policy objects to the policy index and keeps the few others (nodes, pools,
// configuration, this node's block affinities) itself. Then it converges:
// interfaces are prepared, the policy difference becomes one nftables commit,
// routes go in, and what this node originates is handed to BGP, in that order,
// so that nothing can be reached, or is announced, that policy does not guard. When
// every reconciler has reported success the revision is live, and those who
// wait for it (`muslin status --wait`, endpoint attach) are woken.
//
// One goroutine, the loop, owns all of that. Kernel notifications, timers and
// best paths from BGP only wake it; they never carry truth. Everybody else
// reads the status it publishes, or hands it a function to run.
package node
