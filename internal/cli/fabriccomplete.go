// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
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
	for _, sub := range cmd.Commands() { // of lab
		a.completeFabric(sub)
	}
	devices := func(_ *cobra.Command, words []string, partial string) ([]string, cobra.ShellCompDirective) {
		if len(words) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.devicesIn(words[0], partial), cobra.ShellCompDirectiveNoFileComp
	}
	for _, flag := range []string{"device", "at"} {
		if cmd.Flags().Lookup(flag) != nil {
			if err := cmd.RegisterFlagCompletionFunc(flag, devices); err != nil {
				panic(err)
			}
		}
	}
	if cmd.Flags().Lookup("fail") != nil {
		err := cmd.RegisterFlagCompletionFunc("fail", func(_ *cobra.Command, words []string, partial string) ([]string, cobra.ShellCompDirective) {
			if len(words) == 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			before := partial[:strings.LastIndexByte(partial, ',')+1] // names that are complete
			names := a.failingIn(words[0], partial[len(before):])
			for i := range names {
				names[i] = before + names[i]
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		})
		if err != nil {
			panic(err)
		}
	}
	if cmd.Flags().Lookup("family") != nil {
		completeFlag(cmd, "family", string(fabric.IPv4), string(fabric.IPv6))
	}
	if words := strings.Fields(cmd.Use); cmd.ValidArgsFunction == nil && slices.Contains(words, "FILE") {
		cmd.ValidArgsFunction = func(_ *cobra.Command, given []string, partial string) ([]string, cobra.ShellCompDirective) {
			want := make([]string, len(words)-1)
			for i, w := range words[1:] {
				want[i] = strings.Trim(w, "[]")
			}
			switch {
			case len(given) >= len(want):
				return nil, cobra.ShellCompDirectiveNoFileComp
			case strings.HasSuffix(want[len(given)], "FILE"):
				return []string{"yaml", "yml", "json"}, cobra.ShellCompDirectiveFilterFileExt
			}
			if want[len(given)] == "NAME" {
				return a.failingIn(given[0], partial), cobra.ShellCompDirectiveNoFileComp
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
		if name := spelled(&g.Devices[i], partial); strings.HasPrefix(name, partial) {
			names = append(names, name)
		}
	}
	return names
}

// spelled is the name of a device: as designs have it, or as files do if a word has begun so, r0/s0.
func spelled(d *fabric.Device, partial string) string {
	if rest, in := strings.CutPrefix(d.Name, d.Rack+"-"); in && d.Rack != "" && strings.Contains(partial, "/") {
		return d.Rack + "/" + rest
	}
	return d.Name
}

// failingIn is what can fail of a file's fabric: devices, planes, and links by their two ends.
func (a *app) failingIn(file, partial string) (names []string) {
	g, _, err := a.readFabric(file)
	if err != nil {
		return nil
	}
	for i := range g.Devices {
		names = append(names, spelled(&g.Devices[i], partial))
	}
	x := g.Index()
	for i := range g.Segments {
		s := &g.Segments[i]
		switch on := x.On(s.Name); {
		case s.Kind == fabric.Link && len(on) == 2:
			names = append(names, spelled(on[0].Device, partial)+"-"+spelled(on[1].Device, partial))
		case s.Kind != fabric.Link:
			names = append(names, s.Name)
			other := cmp.Or(s.Switch, s.Name)
			if d := x.Device(other); d != nil {
				other = spelled(d, partial)
			}
			for _, at := range on { // the port of each
				if at.Device.Name != s.Switch {
					names = append(names, spelled(at.Device, partial)+"-"+other)
				}
			}
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, partial) })
}
