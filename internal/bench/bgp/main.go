// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command bgp measures the BGP speaker as it ships, beside those that our users
// run today, on the same work from the same feeder: `muslin run`, with an etcd
// in another process, and BIRD 2, each alone in a network namespace that is made
// for one measurement. It needs root.
//
// The walk: a work (rows.go, churn.go, restart.go) is encoded into UPDATEs
// before the clock starts. A world is made (world.go), the daemon is configured
// and started (daemon.go, muslin.go, bird.go), neighbours connect (session.go),
// and the table is written to the socket as fast as it takes it. What a daemon
// has received it says itself, on its own socket; what its neighbours were sent
// they count; what is in the kernel the kernel says (kernel.go). Daemons take
// turns, so that what else this machine does falls on all of them. Each work is
// done at a second size as well, to see what grows with what.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/muslin-net/muslin/internal/bench/datastore"
	"github.com/muslin-net/muslin/internal/bench/proc"
)

// options are the flags.
type options struct {
	binary  string
	etcd    string
	against string
	rows    string
	format  string

	routes, sets       int
	reflected, clients int
	base, rate         int
	neighbours         int
	churn              time.Duration
	rounds             int
	grow               bool
	rest, limit        time.Duration
}

var rowNames = []string{"learn", "reflect", "kernel", "churn", "restart"}

func (o *options) flags(f *flag.FlagSet) {
	f.StringVar(&o.binary, "binary", "bin/muslin", "the muslin `program` to measure")
	f.StringVar(&o.etcd, "etcd", "", "the etcd `program`; \""+datastore.Own+"\" is the one inside muslin, in a process of its own (default: an installed etcd, else "+datastore.Own+")")
	f.StringVar(&o.against, "against", "bird", "`daemons` to compare with, separated by commas; empty for none")
	f.StringVar(&o.rows, "rows", strings.Join(rowNames, ","), "`rows` to measure")
	f.StringVar(&o.format, "o", "table", "output `format`: table or json")
	f.IntVar(&o.routes, "routes", 500_000, "routes of one session")
	f.IntVar(&o.sets, "sets", 50_000, "attribute sets of the second table")
	f.IntVar(&o.reflected, "reflected", 100_000, "routes that are reflected")
	f.IntVar(&o.clients, "clients", 100, "clients of the reflector")
	f.IntVar(&o.base, "base", 25_000, "routes below the changes")
	f.IntVar(&o.rate, "rate", 200, "changes per second")
	f.DurationVar(&o.churn, "churn", time.Minute, "`time` of changes")
	f.IntVar(&o.neighbours, "neighbours", 50, "neighbours of the router that starts again")
	f.IntVar(&o.rounds, "rounds", 3, "rounds of the rows learn, reflect and kernel")
	f.BoolVar(&o.grow, "grow", true, "measure a second size of each work, in one round")
	f.DurationVar(&o.rest, "rest", 5*time.Second, "`time` to wait before memory is read")
	f.DurationVar(&o.limit, "limit", 20*time.Second, "`time` to wait for anything at most")
}

func (o *options) check() error {
	for name, n := range map[string]int{
		"-routes": o.routes, "-sets": o.sets, "-reflected": o.reflected, "-clients": o.clients, "-base": o.base, "-neighbours": o.neighbours - 1, "-rounds": o.rounds,
	} {
		if n < 1 {
			return fmt.Errorf("%s: too small", name)
		}
	}
	switch {
	case o.sets > o.routes:
		return fmt.Errorf("-sets %d: want at most one for each of %d routes", o.sets, o.routes)
	case o.rate < 4 || o.churn < time.Second:
		return errors.New("-rate and -churn: want at least 4 a second for a second")
	case o.neighbours > 200:
		return fmt.Errorf("-neighbours %d: want at most 200", o.neighbours)
	case o.format != "table" && o.format != "json":
		return fmt.Errorf("-o %s: want table or json", o.format)
	case os.Geteuid() != 0:
		return errors.New("network namespaces are needed: run this as root")
	}
	for _, r := range split(o.rows) {
		if !slices.Contains(rowNames, r) {
			return fmt.Errorf("-rows %s: want some of %s", r, strings.Join(rowNames, ","))
		}
	}
	for _, d := range split(o.against) {
		if newDaemon(d) == nil || d == "muslin" {
			return fmt.Errorf("-against %s: want bird", d)
		}
		if _, err := exec.LookPath(d); err != nil {
			return fmt.Errorf("-against %s: %w; install it, or leave it out", d, err)
		}
	}
	if _, err := os.Stat(o.binary); err != nil {
		return fmt.Errorf("-binary: %w (make build makes it)", err)
	}
	path, err := filepath.Abs(o.binary)
	o.binary = path
	return err
}

func split(list string) []string {
	return slices.DeleteFunc(strings.Split(list, ","), func(s string) bool { return s == "" })
}

func main() { proc.Main("bench-bgp", run) }

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	if yes, err := datastore.Serving(ctx, args); yes {
		return err
	}
	var o options
	fs := flag.NewFlagSet("bench-bgp", flag.ContinueOnError)
	fs.SetOutput(progress)
	o.flags(fs)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	began := time.Now()
	b := &bench{o: o, rep: &report{Hardware: proc.Hardware(), Daemons: append([]string{"muslin"}, split(o.against)...)}}
	b.say = func(format string, args ...any) {
		fmt.Fprintf(progress, "%5.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	for _, row := range split(o.rows) {
		for _, k := range works(o, row) {
			if err := b.measure(ctx, k.work, k.rounds); err != nil {
				return err
			}
		}
	}
	b.say("done")
	if o.format == "json" {
		return b.rep.json(out)
	}
	return b.rep.table(out)
}

// planned is a work and how often it is done.
type planned struct {
	*work
	rounds int
}

// works are those of a row: the one that budgets are for, and then, once each,
// others that differ in one thing.
func works(o options, row string) (list []planned) {
	t := table{layout: layout{First: netip.MustParseAddr("20.0.0.0")}, Routes: o.routes, Sets: 1}
	add := func(rounds int, k *work) { list = append(list, planned{k, rounds}) }
	grown := func(k *work) {
		if o.grow {
			add(1, k)
		}
	}
	switch row {
	case "learn":
		add(o.rounds, learn(o, t))
		many := t
		many.Sets = o.sets
		add(o.rounds, learn(o, many))
		half := t
		half.Routes /= 2
		grown(learn(o, half))
		spread := t
		spread.Spread = true
		grown(learn(o, spread))
	case "reflect":
		t.Routes = o.reflected
		add(o.rounds, reflect(o, t, o.clients))
		many := t
		many.Sets = max(o.reflected/10, 1)
		grown(reflect(o, many, o.clients))
		grown(reflect(o, t, max(o.clients/2, 1)))
		half := t
		half.Routes = max(half.Routes/2, 1)
		grown(reflect(o, half, o.clients))
	case "kernel":
		add(o.rounds, program(o, t))
		half := t
		half.Routes = max(half.Routes/2, 1)
		grown(program(o, half))
	case "churn":
		add(1, churn(o, o.base))
		o.churn = max(o.churn/4, time.Second)
		grown(churn(o, 4*o.base))
	case "restart":
		for _, how := range deaths {
			add(1, restart(o, o.neighbours, how))
		}
		grown(restart(o, max(o.neighbours/5, 2), deaths[1]))
	}
	return list
}
