// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/node/api"
)

func (a *app) routeCommand() *cobra.Command {
	return groupCommand("route", "Show the kernel routes of this server", a.routeListCommand())
}

func (a *app) routeListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the kernel routes that are ours, and how each stands",
		Args:    args(cobra.NoArgs),
	}
	form := answerForm(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		ctx, cancel := ask(cmd)
		defer cancel()
		list := []api.Route{}
		if err := a.daemon().Get(ctx, "/v1/routes", nil, &list); err != nil {
			return err
		}
		return a.show(*form, list, func() error {
			var rows [][]string
			for _, r := range list {
				state := r.State
				if r.Text != "" {
					state += ": " + r.Text
				}
				rows = append(rows, []string{r.Prefix, r.Kind, dash(strings.Join(r.NextHops, ",")), dash(r.Device), strconv.Itoa(r.Metric), state})
			}
			return writeTable(a.Out, []string{"PREFIX", "KIND", "NEXTHOPS", "DEVICE", "METRIC", "STATE"}, rows)
		})
	}
	return cmd
}
