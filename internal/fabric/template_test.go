// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// TestTemplate: the file to start from is one, and what it says in comments is
// what holds without them, or at least another file that can be read.
func TestTemplate(t *testing.T) {
	for _, model := range Model("").words() {
		text := Template("pod-a", Model(model), 3, 2, 4)
		if large := Template("pod-a", Model(model), 3, 80, 200); !strings.Contains(large, "{serversPerRack: 128, endpointsPerServer: 256}") {
			t.Errorf("%s: another plan than what holds without it: %s", model, large)
		}
		doc, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", model, err)
		}
		plain, _ := json.Marshal(doc.Fabric.Design())
		fields := 0
		for _, c := range regexp.MustCompile(`(?m)^  # ([a-zA-Z]+: \{.*\}|[a-zA-Z]+: \[.*\])`).FindAllStringSubmatch(text, -1) {
			fields++
			field := c[1]
			doc, err := Parse([]byte(strings.Replace(text, "  # "+field, "  "+field, 1)))
			if err != nil {
				t.Errorf("%s: %s: %v", model, field, err)
				continue
			}
			with, _ := json.Marshal(doc.Fabric.Design())
			example := strings.HasPrefix(field, "anycast") || strings.HasPrefix(field, "border") || strings.HasPrefix(field, "machines") || strings.HasPrefix(field, "rates") || strings.HasPrefix(field, "overrides")
			if same := string(with) == string(plain); same == example {
				t.Errorf("%s: %s changes the design: %v", model, field, !same)
			}
		}
		// Fields of several lines, all of them at once.
		lines := regexp.MustCompile(`(?m)^  # ((?:pools|bgp|switches):.*|  [a-oq-zA-Z][a-zA-Z]*: .*)$`).ReplaceAllString(text, "  $1")
		if doc, err := Parse([]byte(lines)); err != nil || doc.Fabric.given.Pools.Links == nil || doc.Fabric.given.BGP.Roles != Auto {
			t.Errorf("%s: %v\n%s", model, err, lines)
		}
		if fields < 4 {
			t.Errorf("%s: only %d fields", model, fields)
		}
	}
}

// TestDefaultPools: they are the same for all fabrics that fit into them, and larger for those that
// do not; what does not fit into those either is refused.
func TestDefaultPools(t *testing.T) {
	for _, c := range []struct {
		spec                        string
		endpoints, loopbacks, links string
	}{
		{"model: as-per-rack, racks: {count: 1}", "10.64.0.0/10", "172.31.0.0/16", "172.20.0.0/14"},
		{"model: as-per-rack, racks: {count: 256}", "10.64.0.0/10", "172.31.0.0/16", "172.20.0.0/14"},
		{"model: as-per-rack, racks: {count: 257}", "10.64.0.0/10", "172.31.0.0/16", "10.0.0.0/10"},
		{"model: ethernet, racks: {count: 255}", "10.64.0.0/10", "172.31.0.0/16", "172.20.0.0/14"}, // a plane keeps 64 addresses
		{"model: ethernet, racks: {count: 256}", "10.64.0.0/10", "172.31.0.0/16", "10.0.0.0/10"},
		{"model: as-per-server, racks: {count: 1000}, spine: {kind: l2}", "10.128.0.0/9", "172.24.0.0/13", "10.0.0.0/10"},
		{"model: downward-default, racks: {count: 1000}, pools: {links: [172.16.0.0/12], loopbacks: [10.0.0.0/15]}", "10.128.0.0/9", "10.0.0.0/15", "172.16.0.0/12"},
		{"model: downward-default, racks: {count: 2000}", "", "", ""},
	} {
		doc, err := Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {servers: {perRack: 20}, endpoints: {perServer: 100}, " + c.spec + "}"))
		if c.links == "" {
			if err == nil || !strings.Contains(err.Error(), "FAB-ADR-003: 10.128.0.0/9, the pool where the file names none, holds 8,388,608 endpoint addresses in whole racks, the plan needs 16,384,000: want a /8 or more, in one pool or several, or a smaller spec.plan: it keeps 64 servers × 128 endpoints for a rack") {
				t.Errorf("%s: %v", c.spec, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
			continue
		}
		p := doc.Fabric.Spec.Pools
		if e, o, l := p.Endpoints[0].CIDR.String(), p.Loopbacks[0].String(), p.Links[0].String(); e != c.endpoints || o != c.loopbacks || l != c.links {
			t.Errorf("%s: endpoints %s, loopbacks %s, links %s", c.spec, e, o, l)
		}
		text := Template("a", doc.Fabric.Spec.Model, doc.Fabric.Spec.Racks.Count, 20, 100)
		if given := strings.Contains(c.spec, "pools") || strings.Contains(c.spec, "spine"); !given && !strings.Contains(text, "links: ["+c.links+"]") {
			t.Errorf("%s: the file to start from says other links", c.spec)
		}
	}
}
