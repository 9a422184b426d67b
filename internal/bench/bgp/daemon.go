// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"net/netip"
)

// job is what a daemon is configured for.
type job struct {
	peers   int            // iBGP neighbours, who connect
	reflect bool           // they are clients of a route reflector
	program bool           // routes go into the kernel
	own     []netip.Prefix // what the router announces itself
	silent  int            // more neighbours behind them in number, whom the router is to connect to
}

// daemon is a BGP speaker to measure.
type daemon interface {
	name() string
	// configure writes what start needs.
	configure(ctx context.Context, w *world, j job) error
	// start starts the process; again says that an earlier one was killed and
	// that its routes are to be kept. It does not wait.
	start(again bool) error
	kill()
	pid() int
	// received is the number of routes in the table from all neighbours.
	received(ctx context.Context) (int, error)
	// programmed is the number of routes that it says it put into the kernel.
	programmed(ctx context.Context) (int, error)
	// log is the end of what it wrote, for an error message.
	log() string
}

// newDaemon makes one by its name.
func newDaemon(name string) daemon {
	switch name {
	case "muslin":
		return &muslin{}
	case "bird":
		return &bird{}
	}
	return nil
}
