// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/node/api"
)

func (a *app) bgpResetCommand() *cobra.Command {
	var what api.BGPReset
	cmd := &cobra.Command{
		Use:   "reset NAME",
		Short: "Reset the BGP session with a neighbour",
		Long: `Ends the session with a neighbour, by name or address, and lets it come back: routes are
lost on the way, at both ends. With --soft the session stays: --soft in judges again what the neighbour
has sent and asks for it anew, --soft out sends again what it has been told.`,
		Example: `  muslin bgp reset tor --message "new optics"
  muslin bgp reset 10.0.0.254 --soft in`,
		Args: args(cobra.ExactArgs(1)),
	}
	f := cmd.Flags()
	f.StringVar(&what.Soft, "soft", "", "keep the session: `in` or out")
	f.StringVar(&what.Message, "message", "", "`text` for the operator of the other end")
	_ = cmd.RegisterFlagCompletionFunc("soft", cobra.FixedCompletions([]string{"in", "out"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.ValidArgsFunction = a.completePeers
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		switch {
		case what.Soft != "" && what.Soft != "in" && what.Soft != "out":
			return usagef("--soft %s: want in or out", what.Soft)
		case what.Soft != "" && what.Message != "":
			return usagef("--message is told when the session ends, which it does not with --soft")
		}
		what.Peer = words[0]
		ctx, cancel := ask(cmd)
		defer cancel()
		var done api.BGPResetDone
		if err := a.daemon().Post(ctx, "/v1/bgp/reset", what, &done); err != nil {
			return err
		}
		_, err := fmt.Fprintf(a.Out, "%d reset\n", done.Sessions)
		return err
	}
	return cmd
}
