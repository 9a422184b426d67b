// SPDX-License-Identifier: Apache-2.0

package fabriclab

import (
	"testing"
	"time"
)

// TestFlaps: a port that loses its carrier for less than sessions notice leaves every table as the simulation says, and so are
// routes that come after it. FRR 8.4 told peers whose sessions bear it ::ffff:IPV4 as the next hop of IPv6 routes from then on.
func TestFlaps(t *testing.T) {
	for _, c := range []struct {
		spec, down string // what goes down afterwards, so that routes take what flapped
		things     []string
	}{
		{"model: downward-default", "spine1-r0-t0", []string{"spine0-spine1"}},
		{"model: downward-default, spine: {kind: l2}", "", []string{"r1-t0-r1-s0", "r0-t0-plane0"}},
	} {
		t.Run(c.spec, func(t *testing.T) {
			l := boot(t, design(t, c.spec))
			settled(t, l)
			for _, what := range c.things {
				if err := l.Fail(Failed{what, ByCarrier}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(100 * time.Millisecond) // it is how long the flap takes
				if err := l.Heal(t.Context(), what); err != nil {
					t.Fatal(err)
				}
			}
			if c.down != "" {
				if err := l.Fail(Failed{c.down, ByCarrier}); err != nil {
					t.Fatal(err)
				}
			}
			moved := l.Endpoints()[0] // on r0-s0
			for _, server := range []string{"", moved.Server} {
				if err := l.Move(t.Context(), moved.Name, server); err != nil {
					t.Fatal(err)
				}
				settled(t, l)
			}
		})
	}
}
