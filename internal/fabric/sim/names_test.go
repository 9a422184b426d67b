// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// TestNamesOfTwo: what is called as a device is that device, and a cable whose ends together are called so has another
// name: no two things that can fail have one.
func TestNamesOfTwo(t *testing.T) {
	doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {model: as-per-rack, racks: [{name: a}, {name: spine0-a}], servers: {perRack: 1}, endpoints: {perServer: 1}}"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(doc.Fabric.Design(), fabric.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	for name, device := range map[string]bool{"spine0-a-t0": true, "spine0--a-t0": false, "spine0-spine0-a-t0": false} {
		f, err := s.Failure(name)
		if err != nil {
			t.Fatal(err)
		}
		if s.Name(f) != name || (f.list()[0].device >= 0) != device {
			t.Errorf("%s is %s, %+v", name, s.Name(f), f)
		}
	}
	for _, name := range []string{"", "-", "spine0-", "-spine0"} { // a link has no switch, and "" is not the name of one
		if f, err := s.Failure(name); err == nil {
			t.Errorf("%q is %s", name, s.Name(f))
		}
	}
}

// TestOutside: packets to what no pool has leave by the border that announces a default route, and are not lost; those to
// what no endpoint has are.
func TestOutside(t *testing.T) {
	s, err := New(designed(t, "model: as-per-rack, border: [{name: b1, as: 64999, default: true}]", 2, 2), fabric.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	for to, lost := range map[string]float64{"198.51.100.1": 0, "10.64.63.1": 1} {
		p, err := s.Path("r0-s0", netip.MustParseAddr(to), Failure{})
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.Explain("r0-s0", netip.MustParseAddr(to), Failure{})
		if err != nil {
			t.Fatal(err)
		}
		if p.Lost != lost || e.Reached != (lost == 0) || e.By.String() != "0.0.0.0/0" {
			t.Errorf("%s: %.1f lost, %+v", to, p.Lost, e)
		}
	}
}
