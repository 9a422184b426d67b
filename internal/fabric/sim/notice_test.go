// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
)

// TestNotice: behind a switch the last neighbour knows when the slower end of a session does; of a device that is down only
// its peers have to know, and what hangs on another segment knows nothing of it. A cable has a carrier.
func TestNotice(t *testing.T) {
	const fast, slow = 100 * time.Millisecond, 9 * time.Second
	bfd := func(p *fabric.Profile) { p.BFD, p.Hold = fabric.Duration(fast), fabric.Duration(slow) }
	hold := func(p *fabric.Profile) { p.BFD, p.Hold = fabric.Duration(-1), fabric.Duration(slow) }
	bare := func(p *fabric.Profile) { p.BFD, p.Hold = fabric.Duration(-1), 0 }
	all := map[string]func(*fabric.Profile){"": bfd}
	const reflectors, mesh = "model: ethernet, routeReflectors: {perPlane: 1}", "model: ethernet, routeReflectors: {placement: none}"
	for _, c := range []struct {
		spec     string
		profiles map[string]func(*fabric.Profile) // by name; those of "" for all others
		plane1   func(*fabric.Profile)            // of all sessions there
		down     string
		want     time.Duration
	}{
		{"model: as-per-rack", all, nil, "spine0", 0},
		{"model: as-per-rack", all, nil, "spine0-r0-t0", 0},
		{"model: as-per-rack", all, nil, "r0-s0-r0-t0--rack", 3 * fast},
		{"model: as-per-rack", map[string]func(*fabric.Profile){"tor-server": hold, "": bfd}, nil, "r0-s0-r0-t0--rack", slow},
		{"model: as-per-rack", map[string]func(*fabric.Profile){"tor-server": hold, "": bfd}, nil, "r0-s0", slow},
		{"model: as-per-rack", map[string]func(*fabric.Profile){"server-tor": hold, "": bfd}, nil, "r0-s0-r0-t0--rack", slow},
		{"model: as-per-rack", map[string]func(*fabric.Profile){"server-tor": hold, "": bfd}, nil, "r0-s0", 3 * fast},
		{"model: as-per-rack", map[string]func(*fabric.Profile){"": bare}, nil, "r0-s0", 90 * time.Second},
		{reflectors, all, hold, "r0-s0-plane0", 3 * fast},
		{reflectors, all, hold, "r0-s0-plane1", slow},
		{reflectors, all, hold, "r0-s0", slow},
		{reflectors, all, hold, "plane0", 3 * fast},
		{mesh, all, hold, "r0-s0-plane0", 3 * fast},
		{mesh, all, hold, "r0-s0-plane1", slow},
		{mesh, all, hold, "r0-s0", slow},
	} {
		d := designed(t, c.spec, 2, 2)
		for i := range d.Profiles {
			p := &d.Profiles[i]
			if set := c.profiles[p.Name]; set != nil {
				set(p)
			} else {
				c.profiles[""](p)
			}
		}
		if c.plane1 != nil {
			onPlane1(d, c.plane1)
		}
		s, err := New(d, fabric.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.Failure(c.down)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Notice(f); got != c.want {
			t.Errorf("%s, %s down: known after %v, want %v", c.spec, c.down, got, c.want)
		}
	}
}

// onPlane1 gives sessions on plane1 profiles of their own.
func onPlane1(d *fabric.Design, set func(*fabric.Profile)) {
	for _, p := range d.Profiles {
		p.Name += "-1"
		set(&p)
		d.Profiles = append(d.Profiles, p)
	}
	for i := range d.Devices {
		for j := range d.Devices[i].Sessions {
			if x := &d.Devices[i].Sessions[j]; x.Segment == "plane1" {
				x.Profile += "-1"
			}
		}
	}
	for i := range d.Meshes {
		if m := &d.Meshes[i]; m.Segment == "plane1" {
			m.Profile += "-1"
		}
	}
}
