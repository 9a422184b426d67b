// SPDX-License-Identifier: Apache-2.0

// Command muslin is the whole system in one binary: the agent of a server, and
// the command line for the data model and for the agent. See package cli.
package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"github.com/muslin-net/muslin/internal/cli"
)

// version is set by the linker: see the Makefile.
var version string

// The first thread is main's alone: a goroutine that goes into a workload's network
// namespace ends its thread with it, and that one cannot be ended. /proc/PID/ns/net
// would be the workload's from then on.
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(cli.Main(versionText(), os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// versionText falls back to what the go command recorded.
func versionText() string {
	if version != "" {
		return version
	}
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "unknown"
}
