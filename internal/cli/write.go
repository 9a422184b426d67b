// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/store"
)

// writeFlags are those of the commands that change the datastore.
type writeFlags struct {
	files     []string
	namespace string
	skip      bool // what already is as wanted: exists, or does not
}

func (w *writeFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&w.files, "filename", "f", nil, "`file` or folder of objects, YAML or JSON; - is standard input; may be repeated")
	cmd.Flags().StringVarP(&w.namespace, "namespace", "n", "default", "`namespace` of objects that name none")
	_ = cmd.RegisterFlagCompletionFunc("namespace", cobra.NoFileCompletions)
}

// created is what create has done, which is never asked whether it changes anything.
const created = "created"

// action is one way of writing an object.
type action struct {
	done  string // "applied"
	write func(context.Context, objects, v3.Resource) (v3.Resource, error)
}

func (a *app) applyCommand() *cobra.Command {
	return a.writeCommand("apply", "Create or change objects",
		`Creates the objects of the files, or changes those that exist.

All objects are checked first: if one is not valid, none is written.`,
		action{"applied", func(ctx context.Context, o objects, r v3.Resource) (v3.Resource, error) { return o.Apply(ctx, r) }})
}

func (a *app) createCommand() *cobra.Command {
	return a.writeCommand("create", "Create objects",
		`Creates the objects of the files; one that exists is an error, unless --skip-exists is given.

All objects are checked first: if one is not valid, none is written.`,
		action{created, func(ctx context.Context, o objects, r v3.Resource) (v3.Resource, error) { return o.Create(ctx, r) }})
}

func (a *app) replaceCommand() *cobra.Command {
	return a.writeCommand("replace", "Replace objects that exist",
		`Replaces the objects of the files; one that does not exist is an error.

All objects are checked first: if one is not valid, none is written.`,
		action{"replaced", func(ctx context.Context, o objects, r v3.Resource) (v3.Resource, error) { return o.Replace(ctx, r) }})
}

func (a *app) writeCommand(verb, short, long string, act action) *cobra.Command {
	var w writeFlags
	cmd := &cobra.Command{
		Use:   verb + " -f FILE",
		Short: short,
		Long:  long,
		Example: fmt.Sprintf(`  muslin %[1]s -f policy.yaml
  muslin %[1]s -f tiers/ -f policies/
  muslin get np -o yaml | muslin %[1]s -f -`, verb),
		RunE: func(cmd *cobra.Command, words []string) error {
			if len(words) > 0 {
				return usagef("%s reads files given with -f: muslin %[1]s -f %s", verb, strings.Join(words, " -f "))
			}
			if len(w.files) == 0 {
				return usagef("%s: name a file with -f", verb)
			}
			return a.write(cmd.Context(), w, act)
		},
	}
	w.register(cmd)
	if verb == "create" {
		cmd.Flags().BoolVar(&w.skip, "skip-exists", false, "pass over objects that exist")
	}
	return cmd
}

func (a *app) write(ctx context.Context, w writeFlags, act action) error {
	docs, err := a.documents(w.files, w.namespace)
	var errs []error
	for _, d := range docs {
		if d.form == nil && builtIn(d.obj) {
			continue
		}
		if err := d.check(); err != nil {
			errs = append(errs, err)
		}
	}
	switch n := len(errs); {
	case n > 0:
		return errors.Join(append(append([]error{err}, errs...), fmt.Errorf("nothing was written: %d of %d objects are not valid", n, len(docs)))...)
	case err != nil:
		return errors.Join(err, errors.New("nothing was written"))
	}
	slices.SortStableFunc(docs, func(x, y document) int { return order(x.ref) - order(y.ref) })

	o, err := a.objects(ctx)
	if err != nil {
		return err
	}
	defer o.Close()
	for _, d := range docs {
		if builtIn(d.obj) {
			fmt.Fprintln(a.Out, "unchanged", d.ref)
			continue
		}
		var same bool
		var err error
		if act.done != created {
			same, err = o.Same(ctx, d.obj)
		}
		stored, done := d.obj, "unchanged"
		if err == nil && !same {
			stored, err = act.write(ctx, o, d.obj)
			done = act.done
		}
		switch {
		case err == nil:
			fmt.Fprintln(a.Out, done, showResource(stored))
			for _, key := range v3.Ignored(d.obj) {
				fmt.Fprintf(a.Err, "muslin: warning: %s: annotation %s is kept, and without effect on a %s\n", d.ref, key, d.ref.kind.Kind)
			}
		case w.skip && errors.Is(err, store.ErrExists):
			fmt.Fprintln(a.Out, "exists", d.ref)
		default:
			errs = append(errs, err)
			if hopeless(err) {
				return errors.Join(errs...)
			}
		}
	}
	return tally(errs, len(docs))
}

// builtIn tells whether the object is the profile that every datastore has
// without storing it, as get prints it.
func builtIn(r v3.Resource) bool {
	p, ok := r.(*v3.Profile)
	always := v3.DefaultAllowProfile()
	return ok && p.Metadata.Name == always.Metadata.Name && reflect.DeepEqual(p.Spec, always.Spec)
}

// tally adds a line that counts the failures, when there are several objects.
func tally(errs []error, of int) error {
	if len(errs) > 0 && of > 1 {
		errs = append(errs, fmt.Errorf("%d of %d objects failed", len(errs), of))
	}
	return errors.Join(errs...)
}

// hopeless tells whether the next object would fail the same way.
func hopeless(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.Canceled)
}

// order puts what others refer to before what refers to it.
func order(r ref) int {
	return slices.IndexFunc(v3.Kinds(), func(k v3.KindInfo) bool { return k.Kind == r.kind.Kind })
}

func (a *app) deleteCommand() *cobra.Command {
	var w writeFlags
	cmd := &cobra.Command{
		Use:   "delete KIND NAME… | delete -f FILE",
		Short: "Delete objects",
		Long: `Deletes the objects named, or those of the files: of a file only kind, namespace and
name count.`,
		Example: `  muslin delete networkpolicy web db -n shop
  muslin delete -f policy.yaml
  muslin delete $(muslin get np -A -o name)`,
		ValidArgsFunction: a.completeObjects,
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.remove(cmd.Context(), w, words)
		},
	}
	w.register(cmd)
	cmd.Flags().BoolVar(&w.skip, "skip-not-exists", false, "pass over objects that do not exist")
	return cmd
}

func (a *app) remove(ctx context.Context, w writeFlags, words []string) error {
	targets, err := a.targets(w.files, w.namespace, words)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if t.name == "" {
			return usagef("delete: name the %s to delete", t.kind.Kind)
		}
	}
	slices.SortStableFunc(targets, func(x, y ref) int { return order(y) - order(x) })
	o, err := a.objects(ctx)
	if err != nil {
		return err
	}
	defer o.Close()
	var errs []error
	for _, t := range targets {
		warning := a.consequence(ctx, o, t)
		err := o.Remove(ctx, t.kind.Kind, t.namespace, t.name, "")
		switch {
		case err == nil:
			fmt.Fprintln(a.Out, "deleted", t)
			if warning != "" {
				fmt.Fprintln(a.Err, "muslin: warning:", warning)
			}
		case w.skip && errors.Is(err, store.ErrNotFound):
			fmt.Fprintln(a.Out, "does not exist", t)
		default:
			errs = append(errs, err)
			if hopeless(err) {
				return errors.Join(errs...)
			}
		}
	}
	return tally(errs, len(targets))
}

// consequence is what a deletion entails for workloads, to be said when it is done;
// empty if nothing, or if it cannot be told: then Remove says what is wrong.
func (a *app) consequence(ctx context.Context, o objects, t ref) string {
	switch t.kind.Kind {
	case "IPPool":
		if n, _ := o.InUse(ctx, t.name); n > 0 {
			return fmt.Sprintf("%s had addresses in use, %d of them. They stay with their endpoints, each announced on its own; no address is assigned from there any more", t, n)
		}
	case "Profile":
		if n := a.withProfile(ctx, o, t.name); n > 0 {
			return fmt.Sprintf("%s was named by endpoints, %d of them. A profile that is missing denies: nothing passes to and from them that no policy allows", t, n)
		}
	case "BGPFilter":
		if n := withFilter(ctx, o, t.name); n > 0 {
			return fmt.Sprintf("%s was named by BGPPeers, %d of them. A filter that is missing rejects: they exchange no routes until it is there again or its name is taken away", t, n)
		}
	case "Node":
		all, _, _ := o.ReadAll(ctx, "WorkloadEndpoint", "")
		n := 0
		for _, r := range all {
			if w, ok := r.(*v3.WorkloadEndpoint); ok && w.Spec.Node == t.name {
				n++
			}
		}
		if n > 0 {
			return fmt.Sprintf("with %s went its workload endpoints, %d of them, and their addresses. A daemon that still runs there registers again, without them", t, n)
		}
	}
	return ""
}

// withProfile counts the endpoints, of workloads and of hosts, that name a profile.
func (a *app) withProfile(ctx context.Context, o objects, name string) (n int) {
	for _, kind := range []string{"WorkloadEndpoint", "HostEndpoint"} {
		all, _, _ := o.ReadAll(ctx, kind, "")
		for _, r := range all {
			var profiles []string
			switch e := r.(type) {
			case *v3.WorkloadEndpoint:
				profiles = e.Spec.Profiles
			case *v3.HostEndpoint:
				profiles = e.Spec.Profiles
			}
			if slices.Contains(profiles, name) {
				n++
			}
		}
	}
	return n
}

// withFilter counts the BGPPeers that name a filter.
func withFilter(ctx context.Context, o objects, name string) (n int) {
	all, _, _ := o.ReadAll(ctx, "BGPPeer", "")
	for _, r := range all {
		if p, ok := r.(*v3.BGPPeer); ok && slices.Contains(p.Spec.Filters, name) {
			n++
		}
	}
	return n
}

// targets are the objects that the files describe, or else those the words
// name.
func (a *app) targets(files []string, namespace string, words []string) ([]ref, error) {
	if len(files) == 0 {
		return refs(words, namespace)
	}
	if len(words) > 0 {
		return nil, usagef("give names or -f, not both")
	}
	docs, err := a.documents(files, namespace)
	errs := []error{err}
	var out []ref
	for _, d := range docs {
		if d.form == nil && d.ref.name == "" {
			d.form = fmt.Errorf("a %s has no metadata.name", d.ref.kind.Kind)
		}
		errs = append(errs, d.named(d.form))
		out = append(out, d.ref)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}
