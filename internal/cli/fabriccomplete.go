// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Completion of the commands about fabrics: FILE is a file, and what is named in it
// is read out of it.

func modelNames() (names []string) {
	for _, m := range fabric.Models {
		names = append(names, string(m))
	}
	return names
}

// completeInit completes the model, and a file after it.
func completeInit(_ *cobra.Command, words []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(words) == 0 {
		return modelNames(), cobra.ShellCompDirectiveDefault
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// completeFlag completes a flag from a few words.
func completeFlag(cmd *cobra.Command, flag string, words ...string) {
	complete := cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // the flag is not there, or was completed before
	}
}

// completeFabric completes what commands about a FILE have in common: devices in flags and
// after it, and families.
func (a *app) completeFabric(cmd *cobra.Command) {
	devices := func(_ *cobra.Command, words []string, partial string) ([]string, cobra.ShellCompDirective) {
		if len(words) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.devicesIn(words[0], partial), cobra.ShellCompDirectiveNoFileComp
	}
	for _, flag := range []string{"device", "at", "fail"} {
		if cmd.Flags().Lookup(flag) != nil {
			if err := cmd.RegisterFlagCompletionFunc(flag, devices); err != nil {
				panic(err)
			}
		}
	}
	if cmd.Flags().Lookup("family") != nil {
		completeFlag(cmd, "family", string(fabric.IPv4), string(fabric.IPv6))
	}
	if words := strings.Fields(cmd.Use); cmd.ValidArgsFunction == nil && slices.Contains(words, "FILE") {
		cmd.ValidArgsFunction = func(_ *cobra.Command, given []string, partial string) ([]string, cobra.ShellCompDirective) {
			want := slices.DeleteFunc(slices.Clone(words[1:]), func(w string) bool { return strings.HasPrefix(w, "[") })
			switch {
			case len(given) >= len(want):
				return nil, cobra.ShellCompDirectiveNoFileComp
			case strings.HasSuffix(want[len(given)], "FILE"):
				return []string{"yaml", "yml", "json"}, cobra.ShellCompDirectiveFilterFileExt
			}
			return a.devicesIn(given[0], partial), cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// devicesIn are the devices of a file, if it can be read.
func (a *app) devicesIn(file, partial string) (names []string) {
	g, _, err := a.readFabric(file)
	if err != nil {
		return nil
	}
	for i := range g.Devices {
		if strings.HasPrefix(g.Devices[i].Name, partial) {
			names = append(names, g.Devices[i].Name)
		}
	}
	return names
}
