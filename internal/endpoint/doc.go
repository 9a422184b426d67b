// SPDX-License-Identifier: Apache-2.0

// Package endpoint makes the interfaces of local workloads fit to be routed
// to. It has two halves that share nothing but the names of interfaces.
//
// [Links] configures the host side of every live endpoint, whoever made the
// interface and whether it appears before or after the endpoint: the gateway
// addresses that the workload resolves, kernel settings, and a fixed neighbour
// entry where the workload's MAC is known. The interface's name and MAC are
// left alone. The walk of its datum: [Links.Set] states what an interface
// should have → [Links.Sync] reads what the kernel has and writes what differs,
// which after a restart is nothing → [Status] says how far it came.
// [Links.Watch] tells which interfaces the kernel reports as changed, by
// whomever; the answer is the same Sync.
//
// The gateway is 169.254.1.1 and fe80::ecee:eeff:feee:eeee on every one of
// these interfaces. The kernel answers ARP and neighbour solicitations for
// them because they are its own addresses there; nothing depends on proxy ARP,
// which would answer only if the host had a default route.
//
// [Attach] and [Detach] are for workloads without an orchestrator: a process
// in a network namespace. Attach makes the pair of interfaces, gives the inner
// one its addresses and routes, and leaves nothing behind when it fails.
//
// What this package adds to the kernel carries address or neighbour protocol
// 177, so that a freshly started process knows it as its own.
package endpoint
