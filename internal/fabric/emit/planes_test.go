// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// TestPlaneCarrier: where a port's carrier says nothing to the other end, on planes with BFD, no session ends by
// it; on cables each does.
func TestPlaneCarrier(t *testing.T) {
	for spec, want := range map[string]bool{
		"model: as-per-rack, spine: {kind: l2}, border: [{name: b1, as: 64999, default: true}]": true,
		"model: downward-default, spine: {kind: l2}":                                            true,
		"model: as-per-rack, spine: {kind: l2}, bgp: {bfd: {planes: off}}":                      false,
		"model: as-per-rack":      false,
		"model: downward-default": false,
	} {
		g := design(t, spec, "ipv4, ipv6")
		e, err := New(g)
		if err != nil {
			t.Fatal(err)
		}
		for i := range g.Devices {
			d := &g.Devices[i]
			if d.Role != fabric.RoleToR && d.Role != fabric.RoleBorder {
				continue
			}
			planes, ports := 0, map[string]bool{} // sessions on them, of one family each
			for _, p := range e.peers(d) {
				if strings.HasPrefix(p.Port.Name, "plane") {
					planes, ports[p.Port.Name] = planes+len(p.Address), true
				}
			}
			for target, line := range map[Target]string{FRR: "\n no link-detect\n", BIRD: "\tcheck link no;\n"} {
				text, err := e.Device(d, target)
				if err != nil {
					t.Fatal(err)
				}
				count := 0
				switch {
				case want && target == FRR:
					count = len(ports)
				case want:
					count = planes
				}
				if n := strings.Count(text, line); n != count || want && planes < 2 {
					t.Errorf("%s, %s, %s: %q %d times, want %d of %d sessions on planes", spec, d.Name, target, line, n, count, planes)
				}
			}
		}
	}
}

// TestCarrierEndsInternal: an iBGP session of IPv6 over a cable ends with it, where both ends send with a TTL of 255.
func TestCarrierEndsInternal(t *testing.T) {
	for spec, want := range map[string]int{
		"model: as-per-rack":                                                2, // its two servers
		"model: as-per-rack, spine: {kind: l2}":                             2,
		"model: as-per-rack, racks: {count: 2, tors: 2}, tors: {isl: true}": 3, // and the other ToR
		"model: as-per-server":                                              0,
		"model: downward-default, spine: {kind: l2}":                        0,
	} {
		g := design(t, spec, "ipv4, ipv6")
		e, err := New(g)
		if err != nil {
			t.Fatal(err)
		}
		text, err := e.Device(g.Index().Device("r0-t0"), FRR)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(text, " ttl-security hops 1\n"); n != want {
			t.Errorf("%s: %d sessions, want %d\n%s", spec, n, want, text)
		}
	}
}
