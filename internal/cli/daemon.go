// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/node/api"
)

// daemonTime bounds a question to the daemon that does not wait for anything.
const daemonTime = 15 * time.Second

// statusTime bounds a status that waits for nothing: who asks for it wants to know
// whether the daemon is well.
const statusTime = 4 * time.Second

// serverCommands are the commands about this server.
func (a *app) serverCommands() []*cobra.Command {
	return []*cobra.Command{
		a.runCommand(),
		a.aclCommand(),
		a.statusCommand(),
		a.endpointCommand(),
		a.policyCommand(),
		a.bgpCommand(),
		a.bfdCommand(),
		a.routeCommand(),
		a.explainCommand(),
	}
}

// daemon is the local daemon. Nothing is dialled before the first question.
func (a *app) daemon() *api.Client { return api.NewClient(a.runDir) }

// ask returns a context for one question to the daemon.
func ask(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	return context.WithTimeout(cmd.Context(), daemonTime)
}

// answerForm adds -o to a command that shows what the daemon answered.
func answerForm(cmd *cobra.Command) *string { return formFlag(cmd, answerForms) }

func formFlag(cmd *cobra.Command, forms []string) *string {
	form := cmd.Flags().StringP("output", "o", formTable, "`form`: "+strings.Join(forms, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	return form
}

// show renders an answer: as it came, or with the function given.
func (a *app) show(form string, answer any, table func() error) error {
	if form == formTable || form == formWide {
		return table()
	}
	return writeValue(a.Out, form, answer)
}

// dash stands for what is empty.
func dash(s string) string {
	if s == "" {
		return absent
	}
	return s
}

// groupCommand holds other commands.
func groupCommand(use, short string, cmds ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: group}
	c.AddCommand(cmds...)
	return c
}
