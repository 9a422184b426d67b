// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/node/api"
)

func (a *app) policyCommand() *cobra.Command {
	return groupCommand("policy", "Show what policy does on this server", a.policyStatsCommand())
}

// statsForms are the forms of policy stats.
var statsForms = []string{formTable, formWide, formJSON, formYAML}

func (a *app) policyStatsCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "stats [NAME…]",
		Short: "Count the packets and bytes that each rule has decided",
		Long: `Counts for each rule of the policies in force on this server the packets and bytes that it
has decided, and those that were denied where no rule decided. Of an accepted flow that is
the first packets only: the others are known by connection tracking, and asked nobody.

Rules of one policy that the kernel has as one are counted together, and listed as 0-2,7.
A rule counts anew when its policy is changed. Rules that have decided nothing are left
out, unless they are asked for by the NAME of their policy or by --all.`,
		Example: `  muslin policy stats
  muslin policy stats shop/db web -o wide`,
	}
	form := cmd.Flags().StringP("output", "o", formTable, "`form`: table, wide, json, yaml")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also rules that have decided nothing")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(statsForms, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if err := checkForm(*form, statsForms); err != nil {
			return err
		}
		ctx, cancel := ask(cmd)
		defer cancel()
		var stats api.PolicyStats
		if err := a.daemon().Get(ctx, "/v1/policy/stats", nil, &stats); err != nil {
			return err
		}
		stats.Rules = slices.DeleteFunc(stats.Rules, func(r api.RuleStats) bool {
			if len(names) > 0 {
				return !slices.Contains(names, r.Name) && !slices.Contains(names, r.Namespace+"/"+r.Name)
			}
			return !all && r.Packets == 0
		})
		stats.Ends = slices.DeleteFunc(stats.Ends, func(e api.EndStats) bool {
			return len(names) > 0 || !all && e.Packets == 0
		})
		if *form != formTable && *form != formWide {
			return writeValue(a.Out, *form, stats)
		}
		return a.showPolicyStats(stats, *form == formWide)
	}
	return cmd
}

func (a *app) showPolicyStats(stats api.PolicyStats, wide bool) error {
	heads := []string{"POLICY", "RULE", "ACTION", "PACKETS", "BYTES"}
	if wide {
		heads = append([]string{"TIER", "KIND"}, heads...)
	}
	var rows [][]string
	add := func(tier, kind, name, rule, action string, packets, bytes uint64) {
		row := []string{name, rule, action, strconv.FormatUint(packets, 10), strconv.FormatUint(bytes, 10)}
		if wide {
			row = append([]string{dash(tier), dash(kind)}, row...)
		}
		rows = append(rows, row)
	}
	for _, r := range stats.Rules {
		name := r.Name
		if r.Namespace != "" {
			name = r.Namespace + "/" + name
		}
		add(r.Tier, r.Kind, name, r.Direction+" "+r.Rule, r.Action, r.Packets, r.Bytes)
	}
	for _, e := range stats.Ends {
		add("", "", e.End, e.Direction, "Deny", e.Packets, e.Bytes)
	}
	return writeTable(a.Out, heads, rows)
}
