// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Streams are where a command reads and writes.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// app is what the commands of one invocation share.
type app struct {
	Streams
	version string
	etcd    string // --etcd
	runDir  string // --run-dir
}

// Main runs one command line (without the program's name) and returns the exit
// code. SIGINT and SIGTERM cancel the command's context; a second one ends the
// process.
func Main(version string, args []string, s Streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := New(version, s)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return report(s.Err, cmd, err)
}

// New returns the root command.
func New(version string, s Streams) *cobra.Command {
	a := &app{Streams: s, version: version}
	root := &cobra.Command{
		Use:   "muslin",
		Short: "An IP fabric in which every server is a router and every endpoint is a route",
		Long: `Muslin is an IP fabric for containers, virtual machines and bare metal in which
every compute server is a router and every endpoint is a route.

Commands about resources use the datastore named by --etcd or ETCD_ENDPOINTS,
and without either that of the local daemon. Commands about this server ask the
local daemon, found by --run-dir.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          group,
		Version:       version,
	}
	root.SetVersionTemplate("muslin {{.Version}}\n")
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if f := cmd.Flags().Lookup("etcd"); f != nil && f.Changed && !usesDatastore(cmd) {
			return usagef("--etcd: %s uses no datastore, but asks the local daemon, which --run-dir finds", cmd.CommandPath())
		}
		return nil
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(flagError(err)) })
	flags := root.PersistentFlags()
	flags.StringVar(&a.etcd, "etcd", "", "datastore `URL`s, comma separated (default: ETCD_ENDPOINTS, else the local daemon's)")
	flags.StringVar(&a.runDir, "run-dir", "/run/muslin", "`directory` of the local daemon's socket")

	root.AddGroup(
		&cobra.Group{ID: resources, Title: "Resources of the data model:"},
		&cobra.Group{ID: server, Title: "This server:"},
		&cobra.Group{ID: other, Title: "Other:"},
	)
	add := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	add(resources, a.applyCommand(), a.createCommand(), a.replaceCommand(), a.deleteCommand(), a.getCommand())
	add(server, a.serverCommands()...)
	add(other, a.fabricCommand(), a.demoCommand(), a.guardCommand(), a.teardownCommand(), a.versionCommand())
	root.AddCommand(a.bfdProcessCommand(), a.etcdProcessCommand(), a.keeperProcessCommand())
	root.SetHelpCommandGroupID(other)
	root.SetCompletionCommandGroupID(other)
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Args, c.RunE = cobra.ArbitraryArgs, group // a shell that is not known is a mistake
	}
	return root
}

// The groups of commands.
const resources, server, other = "resources", "server", "other"

// usesDatastore tells whether --etcd means something to a command.
func usesDatastore(cmd *cobra.Command) bool {
	return cmd.GroupID == resources || cmd.Name() == "run" || strings.HasPrefix(cmd.Name(), "__") // completion
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.Out, "muslin", a.version)
			return err
		},
	}
}

// usageError marks a command that was not understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usage makes err a usage error.
func usage(err error) error { return usageError{err} }

// usagef is Errorf for usage errors.
func usagef(format string, v ...any) error { return usage(fmt.Errorf(format, v...)) }

// args makes the errors of an argument check usage errors that say what is
// wanted, as the command's help does.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if check(cmd, a) == nil {
			return nil
		}
		_, want, _ := strings.Cut(cmd.Use, " ")
		given := "nothing is given"
		if len(a) > 0 {
			given = fmt.Sprintf("%q is given", strings.Join(a, " "))
		}
		if want == "" {
			return usagef("%s takes nothing but flags, and %s", cmd.CommandPath(), given)
		}
		return usagef("%s: want %s, and %s", cmd.CommandPath(), want, given)
	}
}

// flagError says in plain words what a flag's value should be: the library
// shows what the function that parsed it answered.
func flagError(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	want := ""
	switch bad.GetFlag().Value.Type() {
	case "duration":
		want = "a duration such as 10s or 2m"
	case "int":
		want = "a whole number"
	case "bool":
		want = "true or false"
	default:
		return err
	}
	return fmt.Errorf("--%s %s: want %s", bad.GetFlag().Name, bad.GetValue(), want)
}

// group is the RunE of a command that only holds others.
func group(cmd *cobra.Command, a []string) error {
	if len(a) == 0 {
		return cmd.Help()
	}
	cmd.SuggestionsMinimumDistance = 2
	err := fmt.Errorf("unknown command %q for %q", a[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(a[0]); len(near) > 0 {
		err = fmt.Errorf("%w: did you mean %s?", err, strings.Join(near, " or "))
	} else if cmd.HasParent() {
		var names []string
		for _, c := range cmd.Commands() {
			names = append(names, c.Name())
		}
		err = fmt.Errorf("%w: want %s", err, strings.Join(names, ", "))
	}
	return usage(err)
}

// report prints an error line by line and returns the exit code for it.
func report(w io.Writer, cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	for line := range strings.SplitSeq(strings.TrimRight(err.Error(), "\n"), "\n") {
		fmt.Fprintln(w, "muslin:", line)
	}
	var bad inputError
	if errors.As(err, &bad) {
		return exitUsage
	}
	var u usageError
	if errors.As(err, &u) {
		if cmd != nil {
			fmt.Fprintf(w, "See `%s --help`.\n", cmd.CommandPath())
		}
		return exitUsage
	}
	return exitFailure
}
