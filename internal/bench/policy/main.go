// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command policy measures what policy costs: packets through our complete
// table, as shipped, through rule chains as Felix renders them and through the least
// that does the same, both written by hand for nft(8), through connection tracking alone, and through nothing; and how
// long a change takes at scale. It needs root, makes network namespaces of its
// own, and removes them.
//
// The walk: a stage (stage.go) is two workloads and the host that forwards
// between them. Each contestant (contestant.go) filters there, with each number of
// rules, of which the last one allows what is sent. Senders (send.go) measure
// one after the other, round by round, and before and after each the stage without a filter,
// by the processor time that they take: what else this machine does, and where its memory
// is, falls on both. Changes (change.go) go through the index and the
// table, as in the agent, into a kernel that has everything in force.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muslin-net/muslin/internal/bench/proc"
)

// options are the flags.
type options struct {
	rows    string
	rules   string
	counts  []int
	family  int
	rounds  int
	span    time.Duration
	format  string
	load    load
	changes int
}

var rowNames = []string{"packets", "connects", "changes"}

func (o *options) flags(f *flag.FlagSet) {
	f.StringVar(&o.rows, "rows", strings.Join(rowNames, ","), "`rows` to measure")
	f.StringVar(&o.rules, "rules", "1,100,1000,10000", "`numbers` of rules")
	f.IntVar(&o.family, "family", 4, "IP `version` of what is sent, 4 or 6")
	f.IntVar(&o.rounds, "rounds", 5, "rounds of the rows packets and connects")
	f.DurationVar(&o.span, "span", 300*time.Millisecond, "`time` of each measurement")
	f.StringVar(&o.format, "o", "table", "output `format`: table or json")
	f.IntVar(&o.load.Local, "local", 1000, "local endpoints while policy changes")
	f.IntVar(&o.load.Policies, "policies", 1000, "policies while policy changes")
	f.IntVar(&o.load.Rules, "policy-rules", 10, "rules of each")
	f.IntVar(&o.load.Members, "members", 100_000, "members of a set that all of them use")
	f.IntVar(&o.changes, "changes", 300, "changes of each kind")
}

func (o *options) measures(row string) bool { return slices.Contains(split(o.rows), row) }

func split(list string) []string {
	return slices.DeleteFunc(strings.Split(list, ","), func(s string) bool { return s == "" })
}

func (o *options) check() error {
	for _, r := range split(o.rows) {
		if !slices.Contains(rowNames, r) {
			return fmt.Errorf("-rows %s: want some of %s", r, strings.Join(rowNames, ","))
		}
	}
	for _, s := range split(o.rules) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 60_000 {
			return fmt.Errorf("-rules %s: want numbers from 1 to 60000", s)
		}
		o.counts = append(o.counts, n)
	}
	switch {
	case o.family != 4 && o.family != 6:
		return fmt.Errorf("-family %d: want 4 or 6", o.family)
	case o.rounds < 1 || o.span < time.Millisecond || o.changes < 1:
		return errors.New("-rounds, -span and -changes: too small")
	case o.load.Local < 1 || o.load.Local > 30_000 || o.load.Policies < 1 || o.load.Rules < 2 || o.load.Members < 1 || o.load.Members > 1<<20:
		return errors.New("-local, -policies, -policy-rules and -members: want 1–30000, at least 1, at least 2 and 1–1048576")
	case o.format != "table" && o.format != "json":
		return fmt.Errorf("-o %s: want table or json", o.format)
	case os.Geteuid() != 0:
		return errors.New("network namespaces are needed: run this as root")
	}
	_, err := exec.LookPath(nft)
	return err
}

func main() { proc.Main("bench-policy", run) }

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	var o options
	fs := flag.NewFlagSet("bench-policy", flag.ContinueOnError)
	fs.SetOutput(progress)
	o.flags(fs)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(progress, "%5.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	rep := &report{Hardware: proc.Hardware(), Family: o.family, Load: o.load}
	if o.measures("packets") || o.measures("connects") {
		if err := rates(ctx, o, rep, say); err != nil {
			return err
		}
	}
	if o.measures("changes") {
		if err := changes(ctx, o, rep, say); err != nil {
			return err
		}
	}
	say("done")
	if o.format == "json" {
		return rep.json(out)
	}
	return rep.table(out)
}
