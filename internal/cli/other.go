// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// demoCommand and fabricLabCommand say why they are not: what they bring up are
// network namespaces.
func (a *app) demoCommand() *cobra.Command {
	return a.onLinux("demo", "Show the system on this machine")
}

func (a *app) fabricLabCommand() *cobra.Command {
	return a.onLinux("lab", "Boot a designed fabric on this machine")
}

func (a *app) onLinux(name, short string) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: short + " (on Linux only)",
		Args:  args(cobra.ArbitraryArgs),
		RunE: func(*cobra.Command, []string) error {
			return fmt.Errorf("%s is made of network namespaces, which %s has not", name, runtime.GOOS)
		},
	}
}
