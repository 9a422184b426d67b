// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"maps"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/bfd"
	"github.com/muslin-net/muslin/internal/bfdd"
)

// bfdProcess is the name of the command that is the process.
const bfdProcess = "bfd-process"

// bfdCommand is the command line of the process for an agent. It is the
// binary that runs now, also when the file has been replaced since.
func bfdCommand(runDir string, log logConfig) []string {
	if abs, err := filepath.Abs(runDir); err == nil {
		runDir = abs // it starts in the root directory
	}
	return []string{"/proc/self/exe", bfdProcess, "--run-dir", runDir, "--log", log.to, "--log-level", log.level}
}

// bfdProcessCommand is for the agent to start.
func (a *app) bfdProcessCommand() *cobra.Command {
	var log logConfig
	cmd := &cobra.Command{
		Use:    bfdProcess,
		Short:  "Run BFD for the agent of this server, which starts this by itself",
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := log.check(); err != nil {
				return usage(err)
			}
			logger, err := openLog(log, a.Err)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return bfdd.Run(ctx, bfdd.Config{RunDir: a.runDir, Release: a.version}, logger)
		},
	}
	f := cmd.Flags()
	f.StringVar(&log.to, "log", "stderr", "where logs go: stderr or syslog")
	f.StringVar(&log.level, "log-level", "info", "least `level` that is logged: debug, info, warn, error")
	return cmd
}

func (a *app) bfdCommand() *cobra.Command {
	return groupCommand("bfd", "Show how paths are watched", a.bfdSessionsCommand())
}

func (a *app) bfdSessionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "Show the BFD sessions of this server",
		Long: `Shows the BFD sessions of this server, as the process has them that runs BFD. That one
outlives the agent: the answer does not need it.`,
		Args: args(cobra.NoArgs),
	}
	form := cmd.Flags().StringP("output", "o", formTable, "`form`: table, wide, json, yaml")
	forms := []string{formTable, formWide, formJSON, formYAML}
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkForm(*form, forms); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), daemonTime)
		defer cancel()
		r, err := bfdd.Ask(ctx, a.runDir)
		if bfdd.NotRunning(err) {
			return fmt.Errorf("no BFD process answers in %s: nothing on this server asks for BFD, or there never was an agent", a.runDir)
		}
		if err != nil {
			return err
		}
		if *form == formJSON || *form == formYAML {
			return writeValue(a.Out, *form, r)
		}
		return a.showBFD(r, *form == formWide)
	}
	return cmd
}

func (a *app) showBFD(r bfdd.Report, wide bool) error {
	head := []string{"PEER", "ADDRESS", "HOPS", "STATE", "FOR", "SENDS", "DETECTS", "FAILURES", "DIAGNOSTIC"}
	if wide {
		head = append(head, "REMOTE", "INDEPENDENT", "AUTH", "IN", "OUT", "DISCARDED", "LAST DISCARD")
	}
	var rows [][]string
	for _, s := range r.Sessions {
		hops := "one"
		if s.Multihop {
			hops = "several"
		}
		detects := absent
		if s.Detect > 0 {
			detects = s.Detect.String()
		}
		row := []string{dash(s.Name), s.Peer.String(), hops, s.State, span(time.Since(s.Since)),
			s.Transmit.String() + " × " + strconv.Itoa(int(s.Multiplier)), detects, strconv.FormatUint(s.Failures, 10), dash(s.Diag)}
		if wide {
			remote := s.RemoteState
			if s.RemoteDiag != "" {
				remote += " (" + s.RemoteDiag + ")"
			}
			independent := "no"
			if s.Independent {
				independent = "yes"
			}
			row = append(row, remote, independent, s.Auth, strconv.FormatUint(s.PacketsIn, 10), strconv.FormatUint(s.PacketsOut, 10),
				strconv.FormatUint(s.Discarded, 10), dash(s.LastDiscard))
		}
		rows = append(rows, row)
	}
	if err := writeTable(a.Out, head, rows); err != nil {
		return err
	}
	for _, p := range r.Problems {
		fmt.Fprintln(a.Out, "problem:", p)
	}
	if !r.EndsAt.IsZero() {
		fmt.Fprintf(a.Out, "no agent is connected; sessions end in %s unless one comes back\n", span(time.Until(r.EndsAt)))
	}
	if wide {
		fmt.Fprintf(a.Out, "process %d, release %s, for %s: %s\n", r.PID, r.Release, span(time.Since(r.Started)), r.Rights)
		var strays []string
		for _, why := range slices.Sorted(maps.Keys(r.Strays)) {
			strays = append(strays, fmt.Sprintf("%d %s", r.Strays[why], why))
		}
		if len(strays) > 0 {
			fmt.Fprintln(a.Out, "packets of no session:", strings.Join(strays, ", "))
		}
	}
	return nil
}

// pathState is a session's state in a column of others'.
func pathState(s *bfd.Status) string {
	switch {
	case s == nil:
		return absent
	case s.State == bfd.Up.String() || s.Diag == "":
		return s.State
	}
	return s.State + " (" + s.Diag + ")"
}
