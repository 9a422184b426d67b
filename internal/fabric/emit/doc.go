// SPDX-License-Identifier: Apache-2.0

// Package emit writes a design out as the configuration of routers: of FRR, BIRD 2
// and GoBGP, whose own parsers read it in the tests; of the vRouters, whose
// configuration is the resources of the data model; and of EOS, Junos, NX-OS and
// SONiC, which nothing has read: their headers say so (vendor.go).
//
// What is written is routing and addresses, and nothing else of a switch: no
// ports, no queues, no access lists. A setting of the design that a program does
// not have is an error, rather than a configuration that lacks it. Secrets are
// not in a design: where a session is authenticated, a comment says where the
// key goes.
package emit
