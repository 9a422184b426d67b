// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/node"
)

func (a *app) teardownCommand() *cobra.Command {
	cfg := node.Config{}
	cmd := &cobra.Command{
		Use:   "teardown",
		Short: "Take what a stopped agent left in the kernel out of it",
		Long: `Removes the routes, the addresses on workload interfaces and the nftables table that an
agent put into the kernel and left there when it ended. The agent must not be running.

Workloads that are still attached are named: they lose their routes, and are not filtered
any more. Detach them first, while the agent runs. Their interfaces, kernel settings such as
net.ipv4.ip_forward, the state directory and the datastore stay.`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			logger, err := openLog(logConfig{to: "stderr", level: "warn"}, a.Err)
			if err != nil {
				return err
			}
			cfg.RunDir = a.runDir
			removed, left, err := node.Teardown(cfg, logger)
			for _, line := range removed {
				fmt.Fprintln(a.Out, "removed", line)
			}
			if err == nil && len(removed) == 0 {
				fmt.Fprintln(a.Out, "there was nothing to remove")
			}
			if len(left) > 0 {
				fmt.Fprintf(a.Err, "muslin: warning: still attached: %s. Their interfaces are up, without routes, and NOT FILTERED any more: "+
					"end them, or remove the interfaces with `ip link delete NAME`. Their objects and addresses stay in the datastore\n", strings.Join(left, ", "))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.StateDir, "state-dir", "/var/lib/muslin", "`directory` of what outlives a restart")
	f.StringVar(&cfg.InterfacePrefix, "interface-prefix", "", "name `prefix` of workload interfaces, several with commas (default: what the state directory remembers, else cali)")
	return cmd
}

func (a *app) aclCommand() *cobra.Command {
	show := &cobra.Command{
		Use:   "show",
		Short: "Print the ruleset that this server wants in the kernel",
		Long: `Prints the whole desired nftables table in a canonical text form. It is what the agent
compares the kernel with; it is for reading, and is not read back.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := ask(cmd)
			defer cancel()
			var answer map[string]string
			if err := a.daemon().Get(ctx, "/v1/acl", nil, &answer); err != nil {
				return err
			}
			_, err := fmt.Fprint(a.Out, answer["text"])
			return err
		},
	}
	return groupCommand("acl", "Show the packet filter of this server", show)
}
