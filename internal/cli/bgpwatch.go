// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/node/api"
)

func (a *app) bgpWatchCommand() *cobra.Command {
	var received bool
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show BGP sessions and routes as they change",
		Long: `Shows sessions that come up and go down, and best routes as they change, until it is
interrupted. With --received, what peers send instead, with why it is not used. What changes
twice in a moment may be shown once. -o json gives an object a line.`,
		Example: `  muslin bgp watch
  muslin bgp watch --prefix 10.65.0.0/16
  muslin bgp watch --received --peer host2 -o json`,
		Args: args(cobra.NoArgs),
	}
	forms := []string{formTable, formJSON}
	form := formFlag(cmd, forms)
	query := a.routeQuery(cmd)
	prefix := cmd.Flags().String("prefix", "", "only this `prefix` and what is within it")
	_ = cmd.RegisterFlagCompletionFunc("prefix", a.completePrefixes)
	cmd.Flags().BoolVar(&received, "received", false, "what peers send, before selection")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkForm(*form, forms); err != nil {
			return err
		}
		view := "best"
		if received {
			view = "received"
		}
		q, err := query(view, *prefix)
		if err != nil {
			return err
		}
		return a.daemon().Stream(cmd.Context(), "/v1/bgp/watch", q, func(line json.RawMessage) error {
			if *form == formJSON {
				_, err := fmt.Fprintf(a.Out, "%s\n", line)
				return err
			}
			var e api.BGPEvent
			if err := json.Unmarshal(line, &e); err != nil {
				return err
			}
			_, err := fmt.Fprintln(a.Out, oneLine(eventText(e)))
			return err
		})
	}
	return cmd
}

// eventText is an event as one line.
func eventText(e api.BGPEvent) string {
	words := []string{e.Time.Format("15:04:05.000"), e.Event}
	if e.Prefix != "" {
		words = append(words, e.Prefix)
	}
	if e.Route != nil && e.Route.NextHop != "" {
		words = append(words, "via", e.Route.NextHop)
	}
	if e.Peer != "" {
		words = append(words, "from", e.Peer)
	}
	if e.Text != "" {
		words = append(words, "("+e.Text+")")
	}
	return strings.Join(words, " ")
}
