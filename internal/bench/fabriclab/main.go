// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command fabriclab measures how fast flows recover in fabrics that are booted as labs, with FRR on
// switches and muslin run on servers: the median of several failures of each kind, beside its limit.
//
// The walk: a lab of 80 servers is booted, and how long that takes is a line. A lab is booted for each fabric; each
// thing fails and is mended again and again, while a flow of 50 packets a second runs between any two servers; of each
// time the longest gap counts of those flows that have a way.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab/fabriclab"
)

// row is an event and what it may cost.
type row struct {
	name  string
	spec  string
	how   fabriclab.How
	what  []string // all of them at once
	limit time.Duration
}

// size is what a row does not say itself.
var size = []string{"racks: {count: 3}", "servers: {perRack: 2}", "endpoints: {perServer: 2}", "families: [ipv4, ipv6]"}

var rows = []row{
	{"AS per rack: a routed link, by carrier", "model: as-per-rack", fabriclab.ByCarrier, []string{"spine0-r0-t0"}, 150 * time.Millisecond},
	{"AS per server: a routed link, by carrier", "model: as-per-server", fabriclab.ByCarrier, []string{"spine0-r0-t0"}, 150 * time.Millisecond},
	{"Downward Default: a routed link, by carrier", "model: downward-default", fabriclab.ByCarrier, []string{"spine0-r0-t0"}, 150 * time.Millisecond},
	{"AS per rack: a silent link, BFD 100 ms × 3", "model: as-per-rack, bgp: {bfd: {links: 100ms}}", fabriclab.Silent, []string{"spine0-r0-t0"}, 450 * time.Millisecond},
	{"AS per rack: a silent spine, BFD 100 ms × 3", "model: as-per-rack, bgp: {bfd: {links: 100ms}}", fabriclab.Silent, []string{"spine0"}, 450 * time.Millisecond},
	{"AS per rack on planes: a silent port of a ToR, BFD 100 ms × 3", "model: as-per-rack, spine: {kind: l2}", fabriclab.Silent, []string{"r0-t0-plane0"}, 450 * time.Millisecond},
	{"AS per rack, two ToRs: a silent port of a server, BFD 100 ms × 3", "model: as-per-rack, racks: {count: 3, tors: 2}", fabriclab.Silent, []string{"r0-t0-r0-s0"}, 450 * time.Millisecond},
	{"Ethernet: a silent port on a plane, BFD 100 ms × 3", "model: ethernet", fabriclab.Silent, []string{"r0-s0-plane0"}, 450 * time.Millisecond},
	{"AS per rack: an agent is killed", "model: as-per-rack", fabriclab.ByDaemon, []string{"r0-s0"}, 0},
	{"AS per rack: the daemon of a spine is killed", "model: as-per-rack", fabriclab.ByDaemon, []string{"spine0"}, 0},
	{"Ethernet: all reflectors are killed", "model: ethernet", fabriclab.ByDaemon, []string{"plane0-rr0", "plane0-rr1", "plane1-rr0", "plane1-rr1"}, 0},
}

// large is a fabric whose boot is measured, until all that it has is as simulated.
const (
	large     = "model: as-per-rack, racks: {count: 8}, servers: {perRack: 10}, endpoints: {perServer: 2}, families: [ipv4, ipv6]"
	largeName = "AS per rack: 8 racks of 10 servers are up"
	largeTime = time.Minute
)

func main() {
	binary := flag.String("binary", "bin/muslin", "the `file` that runs on servers")
	times := flag.Int("times", 10, "how `often` each thing fails")
	only := flag.String("only", "", "rows with this `text` in their names")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, *binary, *times, *only); err != nil {
		fmt.Fprintln(os.Stderr, "fabriclab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary string, times int, only string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	if strings.Contains(largeName, only) {
		if err := boot(ctx, binary); err != nil {
			return fmt.Errorf("%s: %w", largeName, err)
		}
	}
	fmt.Fprintln(w, "what fails\tmedian of the longest gaps\tleast\tmost\tflows hit\tlimit\tdiffers")
	for _, r := range rows {
		if !strings.Contains(r.name, only) {
			continue
		}
		if err := measure(ctx, w, r, binary, times); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		w.Flush()
	}
	return nil
}

// up boots a fabric, and waits until all that it has is as simulated; down removes it.
func up(ctx context.Context, spec, binary string) (l *fabriclab.Lab, down func() error, err error) {
	name := fmt.Sprintf("bench-%d", os.Getpid())
	doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: " + name + "}\nspec: {" + spec + "}"))
	if err != nil {
		return nil, nil, err
	}
	l, err = fabriclab.Up(ctx, doc.Fabric.Design(), fabriclab.Options{Binary: binary, Say: func(string, ...any) {}})
	if err != nil {
		return nil, nil, err
	}
	down = func() error {
		l.Close()
		_, err := fabriclab.Down(name)
		return err
	}
	c, err := l.Settle(ctx, 2*time.Minute)
	if err == nil && len(c.Differences) > 0 {
		err = fmt.Errorf("not as simulated: %s, such as %v", c.Summary(), c.Differences[0])
	}
	if err != nil {
		return nil, nil, errors.Join(err, down())
	}
	return l, down, nil
}

// boot says how long a large fabric takes to be up.
func boot(ctx context.Context, binary string) error {
	start := time.Now()
	_, down, err := up(ctx, large, binary)
	if err != nil {
		return err
	}
	took, verdict := time.Since(start), ""
	if took > largeTime {
		verdict = ", missed"
	}
	fmt.Printf("%s after %v; limit %v%s\n\n", largeName, took.Round(100*time.Millisecond), largeTime, verdict)
	return down()
}

// measure boots the fabric of a row, has the thing fail so often, and writes a line.
func measure(ctx context.Context, w *tabwriter.Writer, r row, binary string, times int) (err error) {
	spec := r.spec
	for _, field := range size {
		if name, _, _ := strings.Cut(field, ":"); !strings.Contains(spec, name+": {") {
			spec += ", " + field
		}
	}
	l, down, err := up(ctx, spec, binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, down()) }()
	var gaps []time.Duration
	hit, differs := 0, 0
	for range times {
		e, err := l.Watch(ctx, r.name, func() error {
			return each(r.what, func(what string) error { return l.Fail(fabriclab.Failed{What: what, How: r.how}) })
		})
		if err != nil {
			return err
		}
		differs += len(e.Differences)
		longest := time.Duration(0)
		if list := e.Affected(); len(list) > 0 {
			longest, hit = list[0].Gap, hit+len(list)
		}
		gaps = append(gaps, longest)
		if err := each(r.what, func(what string) error { return l.Heal(ctx, what) }); err != nil {
			return err
		}
		if _, err := l.Settle(ctx, 30*time.Second); err != nil {
			return err
		}
	}
	slices.Sort(gaps)
	ms := func(d time.Duration) string { return d.Round(time.Millisecond).String() }
	limit := "0 lost"
	if r.limit > 0 {
		limit = ms(r.limit)
	}
	median := (gaps[(len(gaps)-1)/2] + gaps[len(gaps)/2]) / 2
	verdict := ""
	if median > r.limit {
		verdict = ", missed"
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s%s\t%d\n", r.name, ms(median), ms(gaps[0]), ms(gaps[len(gaps)-1]), hit, limit, verdict, differs)
	return nil
}

// each does something with every thing, and ends at the first error.
func each(list []string, do func(what string) error) error {
	for _, what := range list {
		if err := do(what); err != nil {
			return err
		}
	}
	return nil
}
