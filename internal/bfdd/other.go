// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package bfdd

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
)

// Run refuses: the sockets of BFD are written for Linux.
func Run(context.Context, Config, *slog.Logger) error {
	return fmt.Errorf("BFD does not run on %s", runtime.GOOS)
}
