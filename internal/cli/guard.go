// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/node"
)

func (a *app) guardCommand() *cobra.Command {
	cfg := node.Config{}
	cmd := &cobra.Command{
		Use:   "guard",
		Short: "Keep every workload closed until the agent knows its policy; for the boot",
		Long: `Puts a packet filter into the kernel in which no packet passes from or to an interface of a
workload, and ends. The agent takes it over when it has read the policy, in one transaction.
Where a packet filter of an agent is there already, nothing is changed: it is safe to run
at any time, and belongs before the network comes up: packaging/muslin-guard.service.`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := checkPrefixes(cfg.InterfacePrefix); err != nil {
				return usage(err)
			}
			logger, err := openLog(logConfig{to: "stderr", level: "warn"}, a.Err)
			if err != nil {
				return err
			}
			cfg.RunDir = a.runDir
			prefixes, made, err := node.Guard(cfg, logger)
			if err != nil {
				return err
			}
			if made {
				fmt.Fprintf(a.Out, "nothing passes from or to %s… until the agent has read the policy\n", strings.Join(prefixes, "…, "))
			} else {
				fmt.Fprintln(a.Out, "nothing to do: a packet filter is in force, or an agent runs and makes one")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.StateDir, "state-dir", "/var/lib/muslin", "`directory` of what outlives a restart")
	f.StringVar(&cfg.InterfacePrefix, "interface-prefix", "", "name `prefix` of workload interfaces, several with commas (default: what the state directory remembers, else cali)")
	return cmd
}
