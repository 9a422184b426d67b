// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"strings"
	"testing"
)

// TestRates: rates are on the segments that they are said of and on servers, and a design that is printed is read back.
// What nothing is asked of, or what is no rate, is refused.
func TestRates(t *testing.T) {
	parse := func(spec string) (Document, error) {
		return Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {racks: {count: 2, tors: 2}, servers: {perRack: 2}, endpoints: {perServer: 2}, " + spec + "}"))
	}
	for spec, want := range map[string]map[string]Rate{
		"model: as-per-server":                    {"r0-t0--r0-s0": 25e9, "spine0--r0-t0": 400e9},
		"model: as-per-rack, tors: {isl: true}":   {"r0-t0--rack": 25e9, "spine1--r1-t1": 400e9, "r0-t0--r0-t1": 0},
		"model: downward-default":                 {"spine0--spine1": 0, "spine0--r0-t0": 400e9},
		"model: as-per-server, spine: {kind: l2}": {"plane1": 400e9},
	} {
		doc, err := parse(spec + ", rates: {server: 25G, uplink: 0.4T, load: 1.5G}")
		if err != nil {
			t.Fatal(err)
		}
		x := doc.Fabric.Design().Index()
		for name, rate := range want {
			if got := x.Segment(name); got == nil || got.Rate != rate {
				t.Errorf("%s: %s: %+v", spec, name, got)
			}
		}
		if server, tor := x.Device("r1-s1").Load, x.Device("r1-t0").Load; server != 15e8 || tor != 0 {
			t.Errorf("%s: loads of %s and %s", spec, server, tor)
		}
	}
	for spec, want := range map[string]string{
		"model: as-per-rack, rates: {uplink: 25G}":       "spec.rates: rates of ports without a load",
		"model: as-per-rack, rates: {load: 25G}":         "spec.rates: a load of 25G, and nothing that carries it",
		"model: as-per-rack, rates: {load: 25 Gbit}":     `spec.rates.load: "25 Gbit": want bits in a second such as 25G or 400M`,
		"model: as-per-rack, rates: {load: -1G}":         "want bits in a second",
		"model: ethernet, rates: {uplink: 1G, load: 1G}": "spec.rates.uplink",
	} {
		if _, err := parse(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", spec, err, want)
		}
	}
	for r, want := range map[Rate]string{25e9: "25G", 15e8: "1.5G", 4e8: "400M", 1e12: "1T", 1e9 + 1: "1.001G", 0: "0M"} {
		if r.String() != want {
			t.Errorf("%d is %s, want %s", int64(r), r, want)
		}
		var back Rate
		if r%1e6 == 0 && r > 0 && (back.UnmarshalText([]byte(want)) != nil || back != r) {
			t.Errorf("%s is read as %s", want, back)
		}
	}
}
