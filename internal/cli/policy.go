// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/node/api"
)

func (a *app) policyCommand() *cobra.Command {
	return groupCommand("policy", "Show what policy does on this server", a.policyStatsCommand(), a.policyDeniedCommand())
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
out, unless they are asked for by the NAME of their policy or by --all. What a rule of a staged
policy would have decided is counted, too, and marked as staged.`,
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
		stats, err := chosenStats(stats, names, all)
		if err != nil {
			return err
		}
		if *form != formTable && *form != formWide {
			return writeValue(a.Out, *form, stats)
		}
		return a.showPolicyStats(stats, *form == formWide)
	}
	return cmd
}

// chosenStats are the counters of the policies that are named; without names those that have counted, or all.
func chosenStats(stats api.PolicyStats, names []string, all bool) (api.PolicyStats, error) {
	out := api.PolicyStats{Rules: []api.RuleStats{}, Ends: []api.EndStats{}}
	for _, name := range names {
		if !slices.ContainsFunc(stats.Rules, func(r api.RuleStats) bool { return isPolicy(r, name) }) {
			return out, fmt.Errorf("no rule of a policy %q is in force on this server: `muslin policy stats --all` lists those that are", name)
		}
	}
	for _, r := range stats.Rules {
		if slices.ContainsFunc(names, func(name string) bool { return isPolicy(r, name) }) || len(names) == 0 && (all || r.Packets > 0) {
			out.Rules = append(out.Rules, r)
		}
	}
	for _, e := range stats.Ends {
		if len(names) == 0 && (all || e.Packets > 0) {
			out.Ends = append(out.Ends, e)
		}
	}
	return out, nil
}

// isPolicy tells whether a rule is one of the policy that a person calls so, with or without its namespace.
func isPolicy(r api.RuleStats, name string) bool {
	return name == r.Name || name == r.Namespace+"/"+r.Name
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
		action := r.Action
		if strings.HasPrefix(r.Kind, "Staged") {
			action += " (staged)"
		}
		add(r.Tier, r.Kind, name, r.Direction+" "+r.Rule, action, r.Packets, r.Bytes)
	}
	for _, e := range stats.Ends {
		add("", "", e.End, e.Direction, "Deny", e.Packets, e.Bytes)
	}
	return writeTable(a.Out, heads, rows)
}

func (a *app) policyDeniedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "denied",
		Short: "List the packets that policy denied of late, and which rule did",
		Long: `Lists what policy denied of late, the last first, with the endpoints at both ends and the
rule that denied it. These are samples: as many packets as the annotation
muslin/denied-log of the FelixConfiguration allows, such as 10/second. Without it
nothing is sampled.`,
		Args: args(cobra.NoArgs),
	}
	form := answerForm(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		ctx, cancel := ask(cmd)
		defer cancel()
		var list api.DeniedList
		if err := a.daemon().Get(ctx, "/v1/policy/denied", nil, &list); err != nil {
			return err
		}
		return a.show(*form, list, func() error {
			var rows [][]string
			for _, d := range list.Flows {
				rows = append(rows, []string{d.Last.Format(time.TimeOnly), named(d.From, d.Source), named(d.To, d.Destination), service(d), strconv.Itoa(d.Packets), d.Direction + ": " + d.By})
			}
			if err := writeTable(a.Out, []string{"LAST", "FROM", "TO", "SERVICE", "PACKETS", "DENIED BY"}, rows); err != nil || list.Logged {
				return err
			}
			_, err := fmt.Fprintln(a.Out, "denied packets are not logged: annotate a FelixConfiguration with muslin/denied-log, such as 10/second")
			return err
		})
	}
	return cmd
}

// named is an end by the name of its endpoint and its address.
func named(name, address string) string {
	if name == "" {
		return address
	}
	return name + " (" + address + ")"
}

// service is what a denied packet was for.
func service(d api.Denied) string {
	switch name := map[int]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}[d.Protocol]; {
	case name == "":
		return strconv.Itoa(d.Protocol)
	case d.Port > 0:
		return name + "/" + strconv.Itoa(int(d.Port))
	case d.Protocol == 1 || d.Protocol == 58:
		return fmt.Sprintf("%s type %d", name, d.ICMPType)
	default:
		return name
	}
}
