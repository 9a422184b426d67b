// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/node/api"
)

func (a *app) statusCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how this server stands, or wait until it is live",
		Long: `Shows how this server stands: the datastore, the revision that is in the kernel, and
every object in error.

With --wait it reads the datastore's current revision and returns as soon as everything
up to there is in the kernel; if that takes longer it fails and names what is missing.
Objects in error and endpoints without an interface are shown, and not waited for.`,
		Example: `  muslin status
  muslin status --wait 10s
  muslin status -o json`,
		Args: args(cobra.NoArgs),
	}
	form := answerForm(cmd)
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait this `duration` for this server to be live at the datastore's revision")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		if wait < 0 {
			return usagef("--wait %s: want a duration above 0, such as 10s", wait)
		}
		s, err := a.status(cmd.Context(), wait)
		if err != nil {
			return err
		}
		if err := a.show(*form, s, func() error { return a.showStatus(s) }); err != nil {
			return err
		}
		if wait > 0 && !s.Live {
			missing := s.Missing
			if len(missing) == 0 {
				missing = []string{"no reason was given"}
			}
			return fmt.Errorf("node %s is not live at revision %d after %s: %s", s.Node, s.Target, wait, strings.Join(missing, "; "))
		}
		return nil
	}
	return cmd
}

// status asks the daemon. With a wait, a daemon that does not listen yet is
// asked again until the wait is over.
func (a *app) status(ctx context.Context, wait time.Duration) (*api.Status, error) {
	start := time.Now()
	for {
		left := max(0, wait-time.Since(start))
		s, err := a.askStatus(ctx, left)
		var refused *api.Error
		if err == nil || left == 0 || errors.As(err, &refused) || ctx.Err() != nil {
			return s, err
		}
		select {
		case <-time.After(min(left, 100*time.Millisecond)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (a *app) askStatus(ctx context.Context, wait time.Duration) (*api.Status, error) {
	limit := wait + daemonTime
	if wait == 0 {
		limit = statusTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return a.daemon().Status(ctx, wait)
}

func (a *app) showStatus(s *api.Status) error {
	w := tabwriter.NewWriter(a.Out, 0, 8, 2, ' ', 0)
	line := func(head, format string, v ...any) { fmt.Fprintf(w, "%s\t%s\n", head, fmt.Sprintf(format, v...)) }
	line("Node", "%s (pid %d, %s, up %s)", s.Node, s.PID, dash(s.Version), age(s.Started))
	if s.Live {
		line("Live", "yes, at revision %d", s.LiveRevision)
	} else {
		line("Live", "no: revision %d is read, %d is in the kernel", s.SeenRevision, s.LiveRevision)
	}
	for _, m := range s.Missing {
		line("", "missing: %s", m)
	}
	store := s.Datastore
	if slices.ContainsFunc(s.Missing, func(m string) bool { return strings.Contains(m, store.Error) }) {
		store.Error = "" // that was said
	}
	line("Datastore", "%s", datastoreText(store))
	line("Addresses", "%s", dash(strings.Join(s.Addresses, ", ")))
	if s.ASN > 0 {
		line("AS number", "%d", s.ASN)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Counts)) {
		line(strings.ToUpper(k[:min(1, len(k))])+k[min(1, len(k)):], "%d", s.Counts[k])
	}
	if s.TablesOwned {
		line("Tables", "owned: no other program can change them")
	}
	for _, k := range slices.Sorted(maps.Keys(s.Repairs)) {
		line("Repaired", "%s: %d", k, s.Repairs[k])
	}
	for _, p := range s.Pending {
		line("Pending", "%s", p)
	}
	for _, p := range s.Problems {
		object := p.Object
		if p.Field != "" {
			object += " " + p.Field
		}
		line("Problem", "%s: %s", object, p.Text)
	}
	return w.Flush()
}

func datastoreText(d api.Datastore) string {
	var words []string
	if d.Embedded {
		words = append(words, "embedded")
	}
	if len(d.Endpoints) > 0 {
		words = append(words, strings.Join(d.Endpoints, ","))
	}
	for _, state := range []struct {
		is      bool
		yes, no string
	}{
		{d.Connected, "connected", "not connected"},
		{d.InSync, "in sync", "not in sync"},
		{d.Ready, "ready", "not ready (ClusterInformation default, datastoreReady)"},
	} {
		if state.is {
			words = append(words, state.yes)
		} else {
			words = append(words, state.no)
		}
	}
	if d.Error != "" {
		words = append(words, d.Error)
	}
	if d.SavedAt != nil {
		words = append(words, "what it held on "+d.SavedAt.Format(time.RFC3339)+" is in force")
	}
	if d.Held != "" {
		words = append(words, "what it lists is held: "+d.Held)
	}
	return strings.Join(words, ", ")
}

// age is the time since t in two units at most.
func age(t time.Time) string {
	if t.IsZero() {
		return absent
	}
	return span(time.Since(t))
}

func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}
