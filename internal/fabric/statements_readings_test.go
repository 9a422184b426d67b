// SPDX-License-Identifier: Apache-2.0

package fabric_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/check"
)

// readings says, of each statement that is wrong, dated or can be read in more than one
// way, which reading was built. docs/fabric.md has the same table.
var readings = map[string]string{
	"FAB-S-11": "four models: the two methods of the text, Downward Default, and Ethernet",
	"FAB-S-22": "the effect is the same everywhere; who sees to it is the program's: FRR refuses on receipt, GoBGP does not send; both are simulated",
	"FAB-S-25": "nothing sets it on iBGP: a ToR's sessions to its servers have next-hop-self for what came by eBGP",
	"FAB-S-36": "ToRs are reflectors inside their rack only; above them every route travels by eBGP",
	"FAB-S-42": "a ToR peers with every other ToR once for each plane",
	"FAB-S-49": "the ToR is the next hop of routes of other racks, servers are that of routes internal to the rack",
	"FAB-S-51": "both: an AS for each ToR, or with `tors: {as: shared}` one transit AS, on planes",
	"FAB-S-53": "1,023 numbers of two octets and 94,967,295 of four (RFC 6996)",
	"FAB-S-56": "by way of the ToR on ports of their own; on a segment the next hop of a third party leads past it",
	"FAB-S-60": "no specific route travels down, so that nothing is stripped; AS override at both tiers is there for anycast and moved endpoints",
	"FAB-S-65": "neighbours and loopbacks count too: 16,000 endpoint routes are 16,163 entries with two spines (16,165 with four), a warning up to 16,384 and an error beyond",
	"FAB-S-67": "to the spine and no further; with a border's default route to the border, which discards the endpoint pools",
	"FAB-S-75": "vRouters check sources at the endpoint; no switch is told to, and one that does has half of its LPM table (FAB-CAP-006)",
}

// read are the statements of the readings that need a test of their own.
var read = map[string]func(t *testing.T){
	"FAB-S-53": func(t *testing.T) {
		parse := func(rest string) error {
			_, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {endpoints: {perServer: 2}, " + rest + "}"))
			return err
		}
		const two = "model: as-per-server, pools: {as: {style: 2byte}}, "
		for rest, want := range map[string]string{
			// 73 × (13 servers and a ToR) and the spines.
			two + "racks: {count: 73}, servers: {perRack: 13}":                                                             "",
			two + "racks: {count: 73}, servers: {perRack: 13}, spine: {as: unique}":                                        "needs 1,024 AS numbers, 64512 to 65534 are 1,023: want style: 4byte, which has 94,967,295",
			"model: ethernet, racks: {count: 2}, servers: {perRack: 2}, pools: {as: {style: 4byte, start: 4294967294}}":    "",
			"model: ethernet, racks: {count: 2}, servers: {perRack: 2}, pools: {as: {style: 4byte, start: 4294967295}}":    "4200000000 to 4294967294",
			"model: as-per-rack, racks: {count: 2}, servers: {perRack: 2}, pools: {as: {style: 4byte, start: 4294967294}}": "4294967294 to 4294967294 are 1:",
		} {
			if err := parse(rest); want == "" && err != nil || want != "" && !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%s: %v, want %q", rest, err, want)
			}
		}
	},
	"FAB-S-65": func(t *testing.T) {
		tor := func(endpoints int) map[string]*check.Finding {
			w := worldOf(t, fmt.Sprintf("%s, racks: {count: 8}, servers: {perRack: 80}, endpoints: {perServer: %d}, families: [ipv4], switches: {tor: {hostTable: 16k, hostRoutesIn: host}}",
				all["default l3"], endpoints))
			by := map[string]*check.Finding{}
			for _, f := range check.Design(w.Design) {
				by[f.ID] = f
			}
			return by
		}
		f := tor(200)
		if x := f["FAB-CAP-004"]; x == nil || x.Severity != check.Warning || !strings.Contains(x.Message, "16,000 endpoint routes, 16,163 of 16,384 entries with loopbacks and neighbours, 221 are left") {
			t.Errorf("%+v", x)
		}
		if x := f["FAB-CAP-003"]; x != nil {
			t.Errorf("%+v", x)
		}
		// 80 × 203 are 16,240, which would fit by themselves.
		if x := tor(203)["FAB-CAP-003"]; x == nil || x.Severity != check.Error || !strings.Contains(x.Message, "16,384") {
			t.Errorf("%+v", x)
		}
	},
	"FAB-S-75": func(t *testing.T) {
		for name, spec := range all {
			eachConfig(t, worldOf(t, spec), func(device, text string) {
				for _, word := range []string{"rpf", "verify unicast", "rp_filter"} {
					if strings.Contains(strings.ToLower(text), word) {
						t.Errorf("%s: %s has %q", name, device, word)
					}
				}
			})
		}
		w := worldOf(t, all["rack l3"]+", switches: {tor: {lpmTable: 128k}}")
		if f := found(w.Design, "FAB-CAP-006"); f != nil {
			t.Errorf("%+v", f)
		}
		w.Platforms[0].URPF = true
		if f := found(w.Design, "FAB-CAP-006"); f == nil || !strings.Contains(f.Message, "65,536 of 131,072 LPM entries are left") || !strings.Contains(f.Fix[0], "on the servers") {
			t.Errorf("%+v", f)
		}
	},
}

// TestReadings: each reading is of a statement that has a test, and is what the
// documentation says.
func TestReadings(t *testing.T) {
	docs, err := os.ReadFile("../../docs/fabric.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, reading := range readings {
		if statements[name] == nil && scope[name] == nil && read[name] == nil {
			t.Errorf("%s has no test", name)
		}
		if line := "| " + reading + " |\n"; !strings.Contains(string(docs), line) {
			t.Errorf("docs/fabric.md lacks what was read into %s: %s", name, line)
		}
	}
	if n := strings.Count(string(docs), "\n| FAB-S-"); n != len(readings) {
		t.Errorf("docs/fabric.md has %d readings, there are %d", n, len(readings))
	}
}

// TestEveryStatement: there is a test for each, here or with the rule that holds
// designs to it.
func TestEveryStatement(t *testing.T) {
	rules, err := os.ReadFile("check/check_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int{{1, 17}, {20, 36}, {40, 49}, {50, 57}, {60, 69}, {70, 77}} {
		for n := r[0]; n <= r[1]; n++ {
			name := fmt.Sprintf("FAB-S-%02d", n)
			if statements[name] == nil && scope[name] == nil && read[name] == nil && !strings.Contains(string(rules), `"`+name+`"`) {
				t.Errorf("%s has no test", name)
			}
		}
	}
}
