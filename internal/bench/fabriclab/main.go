// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command fabriclab measures how fast flows recover in fabrics that are booted as labs, with FRR on
// switches and muslin run on servers: the median of several failures of each kind, beside its limit.
//
// The walk: a lab is booted for each fabric; each thing fails and is mended again and again, while a
// flow of 50 packets a second runs between any two servers; of each time the longest gap counts of
// those flows that have a way.
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
	f     fabriclab.Failed
	limit time.Duration
}

const size = "racks: {count: 3}, servers: {perRack: 2}, endpoints: {perServer: 2}, families: [ipv4, ipv6]"

var rows = []row{
	{"AS per rack: a routed link, by carrier", "model: as-per-rack", fabriclab.Failed{What: "spine0-r0-t0", How: fabriclab.ByCarrier}, 150 * time.Millisecond},
	{"AS per server: a routed link, by carrier", "model: as-per-server", fabriclab.Failed{What: "spine0-r0-t0", How: fabriclab.ByCarrier}, 150 * time.Millisecond},
	{"Downward Default: a routed link, by carrier", "model: downward-default", fabriclab.Failed{What: "spine0-r0-t0", How: fabriclab.ByCarrier}, 150 * time.Millisecond},
	{"AS per rack: a silent link, BFD 100 ms × 3", "model: as-per-rack, bgp: {bfd: {links: 100ms}}", fabriclab.Failed{What: "spine0-r0-t0", How: fabriclab.Silent}, 450 * time.Millisecond},
	{"Ethernet: a silent port on a plane, BFD 100 ms × 3", "model: ethernet", fabriclab.Failed{What: "r0-s0-plane0", How: fabriclab.Silent}, 450 * time.Millisecond},
	{"AS per rack: an agent is killed", "model: as-per-rack", fabriclab.Failed{What: "r0-s0", How: fabriclab.ByDaemon}, 0},
}

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

// measure boots the fabric of a row, has the thing fail so often, and writes a line.
func measure(ctx context.Context, w *tabwriter.Writer, r row, binary string, times int) (err error) {
	name := fmt.Sprintf("bench-%d", os.Getpid())
	doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: " + name + "}\nspec: {" + r.spec + ", " + size + "}"))
	if err != nil {
		return err
	}
	l, err := fabriclab.Up(ctx, doc.Fabric.Design(), fabriclab.Options{Binary: binary, Say: func(string, ...any) {}})
	if err != nil {
		return err
	}
	defer func() {
		l.Close()
		_, more := fabriclab.Down(name)
		err = errors.Join(err, more)
	}()
	if _, err := l.Settle(ctx, time.Minute); err != nil {
		return err
	}
	var gaps []time.Duration
	hit, differs := 0, 0
	for range times {
		e, err := l.Watch(ctx, r.name, func() error { return l.Fail(r.f) })
		if err != nil {
			return err
		}
		differs += len(e.Differences)
		longest := time.Duration(0)
		if list := e.Affected(); len(list) > 0 {
			longest, hit = list[0].Gap, hit+len(list)
		}
		gaps = append(gaps, longest)
		if err := l.Heal(ctx, r.f.What); err != nil {
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
