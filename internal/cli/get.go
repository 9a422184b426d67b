// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/store"
	"github.com/muslin-net/muslin/selector"
)

type getFlags struct {
	files     []string
	namespace string
	all       bool
	form      string
	labels    string
	export    bool
}

func (a *app) getCommand() *cobra.Command {
	var g getFlags
	cmd := &cobra.Command{
		Use:   "get KIND[,KIND…] [NAME…] | get -f FILE",
		Short: "Show objects",
		Long: `Shows the objects of a kind, those named, or those of the files.

With -o yaml or json, one object asked for by name is shown as it is, several as a
list; apply reads back either.`,
		Example: `  muslin get nodes -o wide
  muslin get networkpolicy -A
  muslin get wep -n shop -l 'app == "web"' -o yaml
  muslin get tier,gnp -o name`,
		ValidArgsFunction: a.completeObjects,
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.get(cmd.Context(), g, words)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&g.files, "filename", "f", nil, "`file` or folder of objects to show as they are stored; may be repeated")
	f.StringVarP(&g.namespace, "namespace", "n", "default", "`namespace` to look in")
	f.BoolVarP(&g.all, "all-namespaces", "A", false, "look in every namespace")
	f.StringVarP(&g.form, "output", "o", formTable, "`form`: table, wide, yaml, json, name")
	f.StringVarP(&g.labels, "selector", "l", "", "show only objects whose labels match this `selector`")
	f.BoolVar(&g.export, "export", false, "leave out what belongs to this datastore: uid, resourceVersion, creationTimestamp")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(getForms, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("namespace", cobra.NoFileCompletions)
	_ = cmd.RegisterFlagCompletionFunc("selector", cobra.NoFileCompletions)
	return cmd
}

func (a *app) get(ctx context.Context, g getFlags, words []string) error {
	if err := checkForm(g.form, getForms); err != nil {
		return err
	}
	sel, err := selector.Parse(g.labels)
	if err != nil {
		return usagef("-l: %w", err)
	}
	targets, err := a.targets(g.files, g.namespace, words)
	if err != nil {
		return err
	}
	for i := range targets {
		if g.all && targets[i].name != "" && len(g.files) == 0 {
			return usagef("-A shows every namespace; to show one object give its namespace with -n")
		}
		if g.labels != "" && targets[i].name != "" {
			return usagef("-l selects among all objects of a kind; leave the names out")
		}
		if g.all && targets[i].name == "" {
			targets[i].namespace = ""
		}
	}
	o, err := a.objects(ctx)
	if err != nil {
		return err
	}
	defer o.Close()

	out := found{single: len(targets) == 1 && targets[0].name != "", namespaces: g.all || len(g.files) > 0}
	var errs []error
	for _, t := range targets {
		var got []v3.Resource
		if t.name != "" {
			r, err := o.Read(ctx, t.kind.Kind, t.namespace, t.name)
			if err != nil {
				errs = append(errs, err)
				if hopeless(err) {
					break
				}
				continue
			}
			got = []v3.Resource{r}
		} else {
			got, out.revision, err = o.ReadAll(ctx, t.kind.Kind, t.namespace)
			if errors.Is(err, store.ErrUnreadable) {
				errs = append(errs, err)
			} else if err != nil {
				return err
			}
			got = slices.DeleteFunc(got, func(r v3.Resource) bool { return !sel.Match(selector.Map(r.Meta().Labels)) })
		}
		for _, r := range got {
			if m := r.Meta(); g.export {
				m.UID, m.ResourceVersion, m.CreationTimestamp, m.Generation = "", "", nil, 0
			}
		}
		out.add(t.kind, got...)
	}
	if g.export {
		out.revision = 0
	}
	if len(out.kinds) > 0 {
		if err := out.write(a.Out, g.form); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}
