// SPDX-License-Identifier: Apache-2.0

// Command fabric measures how long it takes to work out and simulate a fabric, and
// how much memory, against its size.
//
// The walk: for each model and each size a file is written, parsed and designed;
// the design is held against every rule, which takes all single failures; it is prepared for
// simulation; the tables of all devices and all pairs of servers are simulated healthy; and
// once more with a link down. Up to 10,000 servers there are limits, and what is missed says so.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/check"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

const file = `apiVersion: fabric/v1
kind: Fabric
metadata: {name: bench}
spec:
  model: %s
  spine: {kind: %s, count: 4}
  racks: {count: %d}
  servers: {perRack: 40}
  endpoints: {perServer: %d}
%s`

// pools are for more racks than those hold that a file has without naming any; that they are no private addresses does not matter here.
const pools = "  pools: {endpoints: [{cidr: 32.0.0.0/3}], loopbacks: [10.0.0.0/8], links: [16.0.0.0/4]}\n"

// shapes are models and spines, and what else their files say.
var shapes = []struct{ model, spine, more string }{
	{"as-per-rack", "l3", ""},
	{"as-per-rack", "l2", ""},
	{"as-per-server", "l3", ""},
	{"downward-default", "l3", ""},
	{"ethernet", "l2", ""},
	{"ethernet", "l2", "  routeReflectors: {placement: none}\n"},
}

// Limits of a fabric of up to 10,000 servers: all but the failure together, the failure, and memory.
const (
	limitServers = 10_000
	limitAll     = 10 * time.Second
	limitFailure = time.Second
	limitMemory  = 2 << 30
)

func main() {
	racks := flag.String("racks", "25,50,100,250", "`counts` of racks of 40 servers, 10,000 at most")
	endpoints := flag.Int("endpoints", 200, "endpoints on each server")
	only := flag.String("model", "", "only this `model`")
	flag.Parse()
	if err := run(strings.Split(*racks, ","), *endpoints, *only); err != nil {
		fmt.Fprintln(os.Stderr, "fabric:", err)
		os.Exit(1)
	}
}

func run(racks []string, endpoints int, only string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "model\tservers\tendpoints\tdesign\tvalidate\tprepare\ttables\tpairs\ttogether\tone failure\tmemory\tclasses\tof\tlimits\t")
	for _, shape := range shapes {
		if only != "" && shape.model != only {
			continue
		}
		for _, n := range racks {
			count, err := strconv.Atoi(n)
			if err != nil {
				return err
			}
			text := fmt.Sprintf(file, shape.model, shape.spine, count, endpoints, shape.more)
			if count > 250 {
				text += pools
			}
			row, err := measure(text, 40*count <= limitServers)
			if err != nil {
				return fmt.Errorf("%s, %d racks: %w", shape.model, count, err)
			}
			name := shape.model + " " + shape.spine
			if shape.more != "" {
				name += " mesh"
			}
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t\n", name, 40*count, 40*count*endpoints, row)
			w.Flush()
		}
	}
	return nil
}

// measure is a row of the table; limited is whether there are limits at this size.
func measure(text string, limited bool) (string, error) {
	runtime.GC()
	clock := time.Now()
	lap := func() time.Duration {
		d := time.Since(clock)
		clock = time.Now()
		return d.Round(time.Millisecond)
	}
	doc, err := fabric.Parse([]byte(text))
	if err != nil {
		return "", err
	}
	d := doc.Fabric.Design()
	design := lap()
	for _, f := range check.Design(d) {
		// Nobody should have a mesh of thousands; here it is what costs most.
		if f.ID != "FAB-SES-002" && (f.Severity == check.Error || f.Severity == check.Advanced) {
			return "", fmt.Errorf("%s %s", f.ID, f.Message)
		}
	}
	validate := lap()
	s, err := sim.New(d, fabric.IPv4)
	if err != nil {
		return "", err
	}
	prepare := lap()
	tables, err := s.Tables(sim.Failure{})
	if err != nil {
		return "", err
	}
	healthy := lap()
	reach, err := s.Reach(sim.Failure{})
	if err != nil {
		return "", err
	}
	if !reach.Whole() {
		return "", fmt.Errorf("a healthy fabric loses traffic: %+v", *reach)
	}
	pairs := lap()
	down, err := s.Failure(link(d))
	if err != nil {
		return "", err
	}
	if _, err := s.Tables(down); err != nil {
		return "", err
	}
	if _, err := s.Reach(down); err != nil {
		return "", err
	}
	failed := lap()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	together, memory, verdict := design+validate+prepare+healthy+pairs, m.Sys-m.HeapReleased, "-"
	switch {
	case !limited:
	case together > limitAll || failed > limitFailure || memory > limitMemory:
		verdict = "missed"
	default:
		verdict = "met"
	}
	return fmt.Sprintf("%v\t%v\t%v\t%v\t%v\t%v\t%v\t%d MB\t%d\t%d\t%s", design, validate, prepare, healthy, pairs, together, failed,
		memory>>20, tables.Simulated, tables.Classes, verdict), nil
}

// link is one of the links, or ports, of a design.
func link(d *fabric.Design) string {
	for i := range d.Devices {
		x := &d.Devices[i]
		for _, f := range x.Interfaces {
			if f.Segment != "" && x.Role != fabric.RoleSpine && x.Rack != "" {
				return x.Name + "-" + other(d, x.Name, f.Segment)
			}
		}
	}
	return ""
}

// other is what a device is connected with by a segment.
func other(d *fabric.Design, name, seg string) string {
	for i := range d.Devices {
		for _, f := range d.Devices[i].Interfaces {
			if f.Segment == seg && d.Devices[i].Name != name {
				for _, s := range d.Segments {
					if s.Name == seg && s.Kind != fabric.Link {
						return seg
					}
				}
				return d.Devices[i].Name
			}
		}
	}
	return seg
}
