// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"flag"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

var families = []fabric.Family{fabric.IPv4, fabric.IPv6}

// variant is a model in one of its forms.
type variant struct {
	name string
	set  func(p *plan)
}

var variants = []variant{
	{"rack-l3-unique", func(p *plan) { p.model, p.segment = "rack", true }},
	{"rack-l3-roles", func(p *plan) { p.model, p.segment, p.roles = "rack", true, true }},
	{"rack-l3-shared", func(p *plan) { p.model, p.segment, p.sharedSpine = "rack", true, true }},
	{"rack-l3-keep-next-hop", func(p *plan) { p.model, p.segment, p.sharedSpine, p.keepNextHop = "rack", true, true, true }},
	{"rack-l3-no-relax", func(p *plan) { p.model, p.segment, p.noRelax = "rack", true, true }},
	{"rack-l2-transit", func(p *plan) { p.model, p.segment, p.l2 = "rack", true, true }},
	{"rack-l2-valley-free", func(p *plan) { p.model, p.segment, p.l2, p.roles = "rack", true, true, true }},
	{"server-l3", func(p *plan) { p.model = "server" }},
	{"server-l3-segment", func(p *plan) { p.model, p.segment = "server", true }},
	{"server-l2", func(p *plan) { p.model, p.l2 = "server", true }},
	{"down-l3", func(p *plan) { p.model, p.sharedSpine = "down", true }},
	{"down-l3-inter-spine", func(p *plan) { p.model, p.sharedSpine, p.interSpine = "down", true, true }},
	{"down-l3-border", func(p *plan) { p.model, p.sharedSpine, p.borderDefault = "down", true, true }},
	{"down-l3-override", func(p *plan) { p.model, p.sharedSpine, p.override = "down", true, true }},
	{"down-l2", func(p *plan) { p.model, p.l2 = "down", true }},
	{"ether-1rr", func(p *plan) { p.model, p.l2, p.reflectors = "ether", true, 1 }},
	{"ether-2rr", func(p *plan) { p.model, p.l2, p.reflectors = "ether", true, 2 }},
	{"ether-2rr-all-planes", func(p *plan) { p.model, p.l2, p.reflectors, p.allPlanes = "ether", true, 2, true }},
	{"ether-2rr-add-path", func(p *plan) { p.model, p.l2, p.reflectors, p.allPlanes, p.addPath = "ether", true, 2, true, true }},
	{"ether-mesh", func(p *plan) { p.model, p.l2 = "ether", true }},
	{"rack-l3-2tor", func(p *plan) { p.model, p.segment, p.tors = "rack", true, 2 }},
	{"rack-l3-2tor-isl-force", func(p *plan) { p.model, p.segment, p.tors, p.isl = "rack", true, 2, "force" }},
	{"rack-l3-2tor-isl-lp90", func(p *plan) { p.model, p.segment, p.tors, p.isl = "rack", true, 2, "lp90" }},
	{"down-l3-2tor", func(p *plan) { p.model, p.sharedSpine, p.tors = "down", true, 2 }},
	{"down-l3-2tor-originates", func(p *plan) { p.model, p.sharedSpine, p.tors, p.torDefault = "down", true, 2, true }},
	{"down-l3-2tor-inter-spine", func(p *plan) { p.model, p.sharedSpine, p.tors, p.interSpine = "down", true, 2, true }},
}

// size makes a variant of a size.
func (v variant) size(racks, hosts, each, spines int) plan {
	p := plan{racks: racks, hosts: hosts, each: each, spines: spines, tors: 1}
	v.set(&p)
	return p
}

// full takes the time to try everything in both families; otherwise they take turns.
var full = flag.Bool("fabric.full", false, "every variant in both families, with every failure of the matrix")

// turn are the families that the n-th test is run for.
func turn(n int) []fabric.Family {
	if *full {
		return families
	}
	return families[n%2:][:1]
}

// The scene of a fabric shows what the whole of it would: with more racks and servers than
// a scene has, healthy and with failures, against the twin that expands everything.
func TestScenesAgainstTwin(t *testing.T) {
	for i, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			p := v.size(6, 5, 2, 2)
			if *full {
				p = v.size(9, 7, 3, 3)
			}
			fails := failuresOf(p)
			for _, family := range turn(i) {
				if *full {
					compare(t, p.design(), family, nil)
				} else {
					fails = fails[i%len(fails):][:1]
				}
				for _, f := range fails {
					compare(t, p.design(), family, f.names, f.down...)
				}
			}
		})
	}
}

type twinFailure struct {
	names, down []string
}

// failuresOf are failures as both simulators name them.
func failuresOf(p plan) []twinFailure {
	port := twinFailure{[]string{"t3.0-s3.2"}, []string{"s3.2~t3.0"}}
	if p.segment {
		port.down = []string{"s3.2@rack3.0"}
	}
	link := twinFailure{[]string{"spine0-t5.0"}, []string{"t5.0~spine0"}}
	switch {
	case p.model == "ether":
		port = twinFailure{[]string{"s3.2-plane1"}, []string{"s3.2@plane1"}}
		link = twinFailure{[]string{"plane0"}, []string{"plane0"}}
	case p.l2:
		link = twinFailure{[]string{"t5.0-plane0"}, []string{"t5.0@plane0"}}
	}
	both := twinFailure{append(link.names[:1:1], port.names...), append(link.down[:1:1], port.down...)}
	return []twinFailure{port, link, both}
}
