// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command agent measures the agent as it ships: the real binary on a server of
// a lab, with an etcd in a process of its own and BGP sessions to every remote
// node, under the load that the budgets are written for. It needs root, makes
// network namespaces of its own, and removes them.
//
// The walk: a scene is written to etcd and its cables are laid (rig); the agent
// is started again and again (cold start); then one flow is opened and closed
// by a policy, and endpoints are added and removed, while a sender that never
// stops shows by its packets when each change has reached the data plane. The
// clock starts just before the write is issued and stops when the kernel takes
// the first packet off the workload's own interface. The same is repeated with
// more remote endpoints and with more policies, to see what grows with what.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/muslin-net/muslin/internal/bench/datastore"
	"github.com/muslin-net/muslin/internal/bench/proc"
)

// options are the flags.
type options struct {
	scene
	binary   string
	etcd     string
	rows     string
	rounds   int
	starts   int
	grow     bool
	format   string
	interval time.Duration
	rest     time.Duration
	idle     time.Duration
}

func (o *options) flags(f *flag.FlagSet) {
	f.StringVar(&o.binary, "binary", "bin/muslin", "the muslin `program` to measure")
	f.StringVar(&o.etcd, "etcd", "", "the etcd `program`; \""+datastore.Own+"\" is the one inside muslin, in a process of its own (default: an installed etcd, else "+datastore.Own+")")
	f.IntVar(&o.Local, "local", 200, "local endpoints, at most 250")
	f.IntVar(&o.Remote, "remote", 10000, "remote endpoints, 200 on each node")
	f.IntVar(&o.Policies, "policies", 500, "policies")
	f.IntVar(&o.Rules, "rules", 10, "rules of each policy")
	f.StringVar(&o.rows, "rows", strings.Join(rowNames, ","), "`rows` to measure")
	f.IntVar(&o.rounds, "rounds", 200, "changes of each kind")
	f.IntVar(&o.starts, "starts", 3, "starts of each kind")
	f.BoolVar(&o.grow, "grow", true, "measure with twice the remote endpoints, and then twice the policies, too, in a quarter of the rounds and one start")
	f.StringVar(&o.format, "o", "table", "output `format`: table or json")
	f.DurationVar(&o.interval, "interval", 100*time.Microsecond, "`time` between two packets of a family")
	f.DurationVar(&o.rest, "rest", 5*time.Second, "`time` to wait before memory is read")
	f.DurationVar(&o.idle, "idle", 25*time.Second, "`time` to wait before the memory of an idle agent is read; 0 leaves that out")
}

// rowNames are the parts of the report: starts, changes of a policy, new
// endpoints.
var rowNames = []string{"start", "policy", "endpoint"}

// measures tells whether a part of the report is asked for.
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
	switch {
	case o.Local < 1 || o.Local > 250:
		return fmt.Errorf("-local %d: want 1–250", o.Local)
	case o.Remote < 1 || o.Remote > 100000:
		return fmt.Errorf("-remote %d: want 1–100000", o.Remote)
	case o.Policies < 1 || o.Rules < 1 || o.rounds < 1 || o.starts < 1:
		return errors.New("-policies, -rules, -rounds and -starts: want at least 1")
	case o.Policies <= localApps:
		return fmt.Errorf("-policies %d: want more than %d, so that there are some that no local endpoint uses", o.Policies, localApps)
	case o.format != "table" && o.format != "json":
		return fmt.Errorf("-o %s: want table or json", o.format)
	case os.Geteuid() != 0:
		return errors.New("network namespaces are needed: run this as root")
	}
	if _, err := os.Stat(o.binary); err != nil {
		return fmt.Errorf("-binary: %w (make build makes it)", err)
	}
	path, err := filepath.Abs(o.binary)
	o.binary = path
	return err
}

func main() { proc.Main("bench-agent", run) }

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	if yes, err := datastore.Serving(ctx, args); yes {
		return err
	}
	var o options
	fs := flag.NewFlagSet("bench-agent", flag.ContinueOnError)
	fs.SetOutput(progress)
	o.flags(fs)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	rep, err := bench(ctx, o, progress)
	if err != nil {
		return err
	}
	if o.format == "json" {
		return rep.json(out)
	}
	return rep.table(out, o)
}

// bench builds the rig and measures every scene.
func bench(ctx context.Context, o options, progress io.Writer) (rep report, err error) {
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(progress, "%5.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	r, err := newRig(ctx, o)
	if err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	rep = report{Hardware: proc.Hardware(), Etcd: r.client.Name}

	scenes := []scene{o.scene}
	if o.grow {
		more := o.scene
		more.Remote *= 2
		scenes = append(scenes, more)
		more.Policies *= 2
		scenes = append(scenes, more)
	}
	if n := listening(); n > 0 {
		say("somebody listens to nftables in %d network namespaces of this machine: starts with an empty kernel take 0.1 to 0.2 s longer", n)
	}
	say("laying %d cables; datastore: %s", o.Local, r.client.Name)
	if err := r.build(o.scene); err != nil {
		return rep, err
	}
	var have scene
	for i, s := range scenes {
		say("writing %d local and %d remote endpoints, %d policies", s.Local, s.Remote, s.Policies)
		ops := s.more(have)
		if i == 0 {
			ops = append(s.basics(), ops...)
		}
		if err := write(ctx, r.client.Client, ops); err != nil {
			return rep, err
		}
		if err := r.speak(have.nodes()+1, s.nodes()); err != nil {
			return rep, err
		}
		have = s
		less := o
		if i > 0 {
			less.rounds, less.starts = max(o.rounds/4, 1), 1
		}
		if !o.measures("start") {
			less.starts = 1 // for what follows
		}
		say("measuring %d rounds", less.rounds)
		res, err := r.measure(ctx, less, s, less.rounds)
		if err != nil {
			return rep, fmt.Errorf("%w\nend of the agent's log:\n%s", err, r.agent.Log())
		}
		rep.Results = append(rep.Results, res)
	}
	say("done")
	return rep, nil
}
