// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// TestExplain holds explanations against the tables: every path and every peer is in
// them once, whatever is not the best has its reason, and what is said to arrive does.
func TestExplain(t *testing.T) {
	for name, spec := range map[string]string{
		"rack":     "model: as-per-rack, spine: {as: unique}, bgp: {roles: off}",
		"server":   "model: as-per-server, anycast: [{ip: 192.168.99.1, servers: [r0/s0, r1/s1]}]",
		"default":  "model: downward-default, downwardDefault: {fallback: none}",
		"ethernet": "model: ethernet",
	} {
		g := designed(t, spec, 3, 2)
		s, err := New(g, fabric.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		to, _ := s.Endpoint("r1-s0")
		failures := []string{"", "r1-t0"}
		if name == "default" {
			failures = append(failures, "spine0-r1-t0")
		}
		if name == "ethernet" {
			failures[1] = "r1-s0-plane0"
		}
		for _, down := range failures {
			f := Failure{}
			if down != "" {
				if f, err = s.Failure(down); err != nil {
					t.Fatal(err)
				}
			}
			for _, device := range []string{"spine0", "r0-t0", "r0-s0", "r1-s1", "r1-s0"} {
				if _, there := s.g.deviceOf[device]; !there {
					continue
				}
				e, err := s.Explain(device, to, f)
				if err != nil {
					t.Fatal(err)
				}
				p, err := s.Path(device, to, f)
				if err != nil {
					t.Fatal(err)
				}
				if e.Reached != (p.Lost < 1e-9) {
					t.Errorf("%s, %s down: %s reaches it: %v; path loses %v", name, down, device, e.Reached, p.Lost)
				}
				routes, err := s.Routes(device, f)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range e.Routes {
					at := slices.IndexFunc(routes, func(x Route) bool { return x.Prefix == r.Prefix })
					known := Route{}
					if at >= 0 {
						known = routes[at]
					}
					if len(r.Paths) != len(known.Paths) || len(r.Via) != len(known.Via) || r.Local != known.Local {
						t.Errorf("%s, %s down: %s explains %+v, and has %+v", name, down, device, r, known)
					}
					best := 0
					for _, x := range r.Paths {
						if x.Best {
							best++
						}
						if why := x.Best || x.Refused != "" || x.Beaten != ""; !why {
							t.Errorf("%s, %s down: %s does not say why not %+v", name, down, device, x)
						}
					}
					if has := len(r.Via) > 0; has != (best == 1) || !has && !r.Local && len(r.Origins) > 0 && f.up(s.g, s.g.deviceOf[device]) && len(r.Ends)+len(r.Paths)+len(r.Silent)+len(e.Without) == 0 {
						t.Errorf("%s, %s down: %s says nothing of why it has none: %+v", name, down, device, r)
					}
					for _, x := range r.Silent {
						if x.Why == "" {
							t.Errorf("%s, %s down: %s does not say why %s is silent", name, down, device, x.Peer)
						}
					}
				}
			}
		}
	}
}

// A route ends at the session of the only link that is down, seen from either side of it, and with whoever announces it and is down.
func TestExplain_WhereItEnds(t *testing.T) {
	for name, spec := range map[string]string{
		"rack":    "model: as-per-rack",
		"server":  "model: as-per-server",
		"default": "model: downward-default, downwardDefault: {fallback: none}",
	} {
		s, err := New(designed(t, spec, 3, 2), fabric.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			at, of, down string
			want         End
		}{
			{"r0-s0", "r1-s0", "r1-t0-r1-s0", End{"r1-s0", "r1-t0", 1, "the session is down"}},
			{"r1-t0", "r1-s0", "r1-t0-r1-s0", End{"r1-s0", "r1-t0", 1, "the session is down"}},
			{"r0-s0", "r1-s0", "r0-t0-r0-s0", End{"r0-t0", "r0-s0", 1, "the session is down"}},
			{"r0-s0", "r1-s0", "r1-s0", End{From: "r1-s0", Why: "is down"}},
		} {
			f, err := s.Failure(c.down)
			if err != nil {
				t.Fatal(err)
			}
			to, _ := s.Endpoint(c.of)
			e, err := s.Explain(c.at, to, f)
			if err != nil {
				t.Fatal(err)
			}
			if name == "default" && c.down == "r0-t0-r0-s0" {
				c.want = End{"r0-t0", "r0-s0", 1, "the session is down"} // of the default, the last of the routes
				e.Routes = e.Routes[len(e.Routes)-1:]
			}
			if len(e.Routes) == 0 || !slices.Contains(e.Routes[0].Ends, c.want) {
				t.Errorf("%s: %s of %s, %s down: %+v, want %v", name, c.at, c.of, c.down, e.Routes, c.want)
			}
		}
	}
}
