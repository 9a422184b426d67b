// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/demo"
)

func (a *app) demoCommand() *cobra.Command {
	var exit bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the system on this machine: three servers, six workloads",
		Long: `Brings up three compute servers as network namespaces on an Ethernet fabric, each running
the real daemon, attaches six workloads with policies, and prints which pair may talk on
which port: what was expected, what packets did, which policy decided. It then stays up
until Ctrl-C. Nothing outside its own namespaces is touched.`,
		Example: `  muslin demo
  muslin demo --exit
  muslin demo probe web-1 api tcp 8080`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			return demo.Run(cmd.Context(), demo.Options{Binary: binary, Exit: exit, Out: a.Out})
		},
	}
	cmd.Flags().BoolVar(&exit, "exit", false, "tear down at once, and fail if any cell is not as expected")
	cmd.AddCommand(a.demoProbeCommand())
	return cmd
}

func (a *app) demoProbeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "probe FROM TO PROTO [PORT]",
		Short: "Send one packet between two workloads of the running demo",
		Long: `Sends one packet for each address family, from the one workload to the other. The exit
code is 1 if any did not get there and back.`,
		Args: args(cobra.RangeArgs(3, 4)),
		RunE: func(cmd *cobra.Command, words []string) error {
			var port uint64
			if len(words) == 4 {
				var err error
				if port, err = strconv.ParseUint(words[3], 10, 16); err != nil || port == 0 {
					return usagef("port %q: want 1–65535", words[3])
				}
			}
			ported, err := hasPorts(words[2])
			if err != nil {
				return err
			}
			if ported != (len(words) == 4) {
				return usagef("demo probe: tcp and udp want a port, icmp has none")
			}
			return demo.Probe(cmd.Context(), words[0], words[1], words[2], uint16(port), a.Out)
		},
	}
}
