// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/keeper"
)

const keeperProcess = "keeper-process"

// keeperCommand is the command line of the keeper of an agent's tables. It is the
// binary that runs now, also when the file has been replaced since.
func keeperCommand(runDir string) []string {
	if abs, err := filepath.Abs(runDir); err == nil {
		runDir = abs // it starts in the root directory
	}
	return []string{"/proc/self/exe", keeperProcess, "--run-dir", runDir}
}

// keeperProcessCommand is for the agent to start.
func (a *app) keeperProcessCommand() *cobra.Command {
	return &cobra.Command{
		Use:    keeperProcess,
		Short:  "Keep the tables of the agent of this server, which starts this by itself",
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE:   func(*cobra.Command, []string) error { return keeper.Run(a.runDir, keeper.Descriptor) },
	}
}
