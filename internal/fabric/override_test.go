// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"reflect"
	"strings"
	"testing"
)

const smallPod = "apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec:\n  model: MODEL\n  racks: {count: 2}\n  servers: {perRack: 2}\n  endpoints: {perServer: 2}\n  overrides: {OVERRIDES}\n"

func overridden(model, overrides string) (Document, error) {
	return Parse([]byte(strings.NewReplacer("MODEL", model, "OVERRIDES", overrides).Replace(smallPod)))
}

// TestOverrides: an edit changes what it says and nothing else, whatever of it a smaller copy still has; edits that change
// tables say so, since the formulas of the model do not hold for them.
func TestOverrides(t *testing.T) {
	plain, err := overridden("as-per-rack", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		edit   string
		change func(g *Design) // what it does to the design without it
	}{
		{"devices: [{name: spine1, software: bird, catalog: jericho/flexroute}]", func(g *Design) {
			d := g.Index().Device("spine1")
			d.Software, d.Platform = BIRD, "jericho/flexroute"
			g.Platforms = append(g.Platforms, Platform{Name: "jericho/flexroute", LPMTable: 1_000_000, HostRoutesIn: LPMTable, Source: "Arista, FlexRoute: more than a million"})
		}},
		{"devices: [{name: r0-t0, as: 65001, multipath: 8}]", func(g *Design) {
			g.Edited = true
			for i := range g.Devices {
				if g.Devices[i].Name == "r0-t0" {
					g.Devices[i].AS, g.Devices[i].Multipath = 65001, 8
				}
				for j := range g.Devices[i].Sessions {
					if s := &g.Devices[i].Sessions[j]; s.Peer == "r0-t0" {
						s.PeerAS = 65001
					}
				}
			}
		}},
		{"sessions: [{on: r0-t0, with: spine0, set: {bfd: 300ms, hold: 30s}}]", func(g *Design) { mine(g).BFD, mine(g).Hold = 300e6, 30e9 }},
		{"sessions: [{on: r0-t0, with: spine0, set: {localPref: 200, nextHopSelf: all}}]", func(g *Design) {
			g.Edited = true
			mine(g).LocalPref, mine(g).NextHopSelf = 200, NextHopSelfAll
		}},
	} {
		doc, err := overridden("as-per-rack", c.edit)
		if err != nil {
			t.Errorf("%s: %v", c.edit, err)
			continue
		}
		want := plain.Fabric.Design()
		c.change(want)
		if got := doc.Fabric.Design(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v\nwant\n%+v", c.edit, got, want)
		}
	}
	doc, err := overridden("as-per-rack", "devices: [{name: r1-t0, software: bird}], sessions: [{on: spine0, with: r1-t0, set: {bfd: 300ms}}]")
	if err != nil {
		t.Fatal(err)
	}
	one, small := *plain.Fabric, doc.Fabric.Scale(1, 0, 0)
	if got, want := small.Design(), one.Scale(1, 0, 0).Design(); !reflect.DeepEqual(got, want) {
		t.Errorf("without the rack:\n%+v\nwant\n%+v", got, want)
	}
}

// mine is the profile that r0-t0 has towards spine0 alone, which is made if it has none.
func mine(g *Design) *Profile {
	x := g.Index()
	for i := range x.Device("r0-t0").Sessions {
		s := &x.Device("r0-t0").Sessions[i]
		if s.Peer == "spine0" && s.Profile == "tor-spine" {
			p := *x.Profile("tor-spine")
			p.Name = "tor-spine.r0-t0.spine0"
			s.Profile, g.Profiles = p.Name, append(g.Profiles, p)
		}
	}
	return &g.Profiles[len(g.Profiles)-1]
}

// TestOverrideFaults: an edit of what is not there, or of nothing, says where and what would be right.
func TestOverrideFaults(t *testing.T) {
	for _, c := range []struct{ model, edit, want string }{
		{"as-per-rack", "devices: [{name: spine7, as: 1}]", `line 9: spec.overrides.devices[0].name: "spine7" is no device: did you mean "spine0"?`},
		{"as-per-rack", "devices: [{name: r0/t0, as: 1}]", `did you mean "r0-t0"?`},
		{"as-per-rack", "devices: [{name: r0-t0}]", "spec.overrides.devices[0]: nothing of r0-t0: say what of it is otherwise"},
		{"as-per-rack", "devices: [{name: r0-t0, as: 1}, {name: r0-t0, multipath: 2}]", "spec.overrides.devices[1].name: r0-t0 is there already"},
		{"as-per-rack", "devices: [{name: r0-t0, software: muslin}]", "spec.overrides.devices[0].software: muslin: want frr, bird or gobgp"},
		{"as-per-rack", "devices: [{name: r0-s0, software: frr}]", "spec.overrides.devices[0].software: frr: want muslin or bird on a server"},
		{"as-per-rack", "devices: [{name: r0-s0, catalog: jericho/flexroute}]", "spec.overrides.devices[0].catalog: r0-s0 is a server: leave it out"},
		{"as-per-rack", "devices: [{name: r0-t0, catalog: jericho/flexrout}]", `"jericho/flexrout" is not in the catalogue: did you mean`},
		{"as-per-rack", "devices: [{name: r0-t0, routerId: 'fd00::1'}]", "spec.overrides.devices[0]: fd00::1"},
		{"as-per-rack", "devices: [{name: r0-t0, asn: 1}]", `spec.overrides.devices[0].asn: unknown field: did you mean "as"?`},
		{"as-per-rack", "sessions: [{on: r0-t0, with: r1-t0, set: {localPref: 1}}]", "spec.overrides.sessions[0]: r0-t0 has no session with r1-t0: name two that have one"},
		{"ethernet\n  routeReflectors: {placement: none}", "sessions: [{on: r0-s0, with: r1-s0, set: {localPref: 1}}]", "spec.overrides.sessions[0]: r0-s0 and r1-s0 meet in a mesh: change it"},
		{"as-per-rack", "sessions: [{on: r0-t0, with: spine0}]", "spec.overrides.sessions[0].set: nothing: say what is otherwise"},
		{"as-per-rack", "sessions: [{on: r0-t0, with: spine0, set: {name: x, localPref: 1}}]", "spec.overrides.sessions[0].set.name: x: leave it out"},
		{"as-per-rack", "sessions: [{on: r0-t0, with: spine0, set: {export: endpoint}}]", `spec.overrides.sessions[0].set.export: no filter "endpoint": did you mean endpoints?`},
		{"as-per-rack", "sessions: [{on: r0-t0, with: spine0, set: {bfd: soon}}]", "spec.overrides.sessions[0].set.bfd: "},
		{"as-per-rack", "sessions: [{on: r0-t0, with: spine0, set: {localPref: 1}}, {on: r0-t0, with: spine0, set: {bfd: 1s}}]", "spec.overrides.sessions[1]: r0-t0 with spine0 is there already"},
	} {
		if _, err := overridden(c.model, c.edit); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\n got %v\nwant %s", c.edit, err, c.want)
		}
	}
}
